"""Write README's table of languages from the kinds of `torchlink new`: python tools/languages_table.py [--check]."""

from __future__ import annotations

import sys
from pathlib import Path

from torchlink.projects.kinds import kinds

PAGE = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- languages: tools/languages_table.py -->\n", "<!-- end of languages -->\n"


def table() -> str:
    """Return the table: one row a kind, by language."""
    rows = sorted((kind.language.lower(), kind.name, kind) for kind in kinds())
    lines = "".join(
        f"| {kind.language} | `torchlink new {name} DIR` | {kind.summary} |\n" for _, name, kind in rows
    )
    return f"| language | type | you get |\n|---|---|---|\n{lines}"


def page(text: str) -> str:
    """Return the page with the table renewed."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + table() + END + rest.partition(END)[2]


if __name__ == "__main__":
    before = PAGE.read_text(encoding="utf-8")
    after = page(before)
    if "--check" in sys.argv[1:]:
        sys.exit(None if before == after else "README.md is out of date: run tools/languages_table.py")
    PAGE.write_text(after, encoding="utf-8")
