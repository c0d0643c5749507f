"""Generate the reference in docs/capi.md from torchmodel.h: python tools/capi_reference.py [--check]."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
HEADER = ROOT / "templates" / "capi" / "torchmodel.h"
PAGE = ROOT / "docs" / "capi.md"
MARK = "<!-- The rest is generated from torchmodel.h by tools/capi_reference.py -->\n"
SECTION = re.compile(r"/\* ---- (.+) ---- \*/")
TOKEN = re.compile(
    r"(?P<comment>/\*.*?\*/)|(?P<function>TM_API [^;]+;)|(?P<type>typedef struct \w+ \{.*?\} \w+;)"
    r"|(?P<enum>typedef int32_t \w+;\nenum \{.*?\};)|(?P<constant>#define TM_MOST\w+ \d+)",
    re.DOTALL,
)


def reference(header: str) -> str:
    """Return the reference: types, then each section's functions with their comments."""
    start = header.index("typedef int32_t tm_status")
    parts = ["\n## Reference: types\n"]
    comment = ""
    for found in TOKEN.finditer(header, start):
        text = found[0]
        section = SECTION.fullmatch(text)
        if section:
            parts.append(f"\n## Reference: {section[1][0].lower()}{section[1][1:]}\n")
            comment = ""
        elif found.lastgroup == "comment":
            comment = plain(text)
        else:
            declared = re.sub(r"\s+", " ", text) if found.lastgroup == "function" else text
            parts.append(f"\n```c\n{declared.removeprefix('TM_API ')}\n```\n")
            if comment:
                parts.append(f"{comment}\n")
            comment = ""
    return "".join(parts)


def plain(comment: str) -> str:
    """Return a comment's text; lines that are indented below ` * ` become a list."""
    lines = [re.sub(r"^ ?\* ?", "", line) for line in comment[2:-2].strip("\n").splitlines()]
    out: list[str] = []
    for line in lines:
        argument = re.fullmatch(r"  (\w+)  +(.+)", line)
        if argument:
            out.append(f"\n- `{argument[1]}`: {argument[2]}")
        else:
            out.append(line.strip())
    return "\n".join(each for each in out if each)


def page(text: str, header: str) -> str:
    """Return the page with the reference renewed."""
    return text.partition(MARK)[0] + MARK + reference(header)


if __name__ == "__main__":
    before = PAGE.read_text(encoding="utf-8")
    after = page(before, HEADER.read_text(encoding="utf-8"))
    if "--check" in sys.argv[1:]:
        sys.exit(None if before == after else "docs/capi.md is out of date: run tools/capi_reference.py")
    PAGE.write_text(after, encoding="utf-8")
