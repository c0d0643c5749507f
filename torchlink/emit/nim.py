"""Target `nim`: switches for a nim.cfg, which Nim's own lexer reads before a shell reads what they hold."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from torchlink.emit import cxx, quoting

if TYPE_CHECKING:
    from torchlink.plan import LinkPlan

# What a string literal of Nim cannot hold as it is; the surrogates stand for bytes that are not UTF-8.
LITERAL_SPECIAL = re.compile('[\x00-\x1f\x7f"\\\\\udc80-\udcff]')
COMMENT_END_APART = "*''/"


def emit(plan: LinkPlan, phase: str = "both") -> str:
    r"""One line a switch: `--backend:cpp`, `--passC:"…"` for the compiler, `--passL:"…"` for the linker.

    The flags are a string literal with no other escapes than `\\`, `\"` and `\xHH`, which `strutils.unescape` knows
    too, so that a config.nims can hand the lines to `switch`. All words of a step are in one switch, because
    Nim leaves one out that is part of what it already has. `--passC` comes behind the standard that Nim
    itself gives (gnu++14 in 1.6, gnu++17 in 2), so ours counts.
    """
    windows = plan.platform == "windows"
    lines = ["--cc:vcc"] if windows else []  # libtorch for Windows is MSVC's; Nim's default there is MinGW
    if phase != "link":
        lines.append("--backend:cpp")  # so that `nim c`, `nim r` and editors do as `nim cpp` does
        lines.append(f"--passC:{literal(line(plan, 'compile'))}")
    if phase != "compile":
        lines.append(f"--passL:{literal(('/link ' if windows else '') + line(plan, 'link'))}")
    return "\n".join(lines)


def line(plan: LinkPlan, phase: str) -> str:
    """The flags for the shell that Nim starts; no `eval` stands between, so that they may hold any character."""
    words = cxx.words(plan, phase)
    return " ".join(map(quoting.windows, words)) if plan.platform == "windows" else shlex.join(words)


def literal(text: str) -> str:
    """A Nim string literal.

    Nim copies the compile flags into a comment of the C++ that it writes. A path may hold the end of that
    comment, which is therefore taken apart: it stands within quotes, since a shell would expand the asterisk.
    """
    return f'"{LITERAL_SPECIAL.sub(_escaped, text.replace("*/", COMMENT_END_APART))}"'


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    return f"\\{character}" if character in '"\\' else f"\\x{ord(character) & 0xFF:02X}"
