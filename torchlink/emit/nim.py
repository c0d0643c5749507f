"""Target `nim`: switches for a nim.cfg, read by Nim's lexer first and then by a shell."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from torchlink.emit import cxx, quoting

if TYPE_CHECKING:
    from torchlink.capi_plan import AnyPlan

# Characters that a Nim string literal must escape; the surrogates are bytes that are not UTF-8.
LITERAL_SPECIAL = re.compile('[\x00-\x1f\x7f"\\\\\udc80-\udcff]')
SPLIT_COMMENT_END = "*''/"


def emit(plan: AnyPlan, phase: str = "both") -> str:
    r"""Return one switch per line: `--backend:cpp`, `--passC:"…"` for the compiler, `--passL:"…"` for the linker.

    The string literals use only the escapes `\\`, `\"` and `\xHH`, which `strutils.unescape` knows too, so that a
    config.nims can pass the lines to `switch`. All flags of a step are in one switch, because Nim drops a switch whose
    text is part of an earlier one. `--passC` comes after the standard that Nim itself passes (gnu++14 in 1.6, gnu++17
    in 2), so ours takes effect.
    """
    windows = plan.platform == "windows"
    lines = ["--cc:vcc"] if windows else []  # libtorch for Windows needs MSVC; Nim's default there is MinGW
    if plan.options.python_extension:
        lines.append("--app:lib")
    if plan.options.plugin:
        lines.append("--app:lib")  # so that the C++ has no main
    if phase != "link":
        if not plan.is_c:
            lines.append("--backend:cpp")  # so that `nim c`, `nim r` and editors compile C++ too
        lines.append(f"--passC:{literal(line(plan, 'compile'))}")
    if phase != "compile":
        lines.append(f"--passL:{literal(('/link ' if windows else '') + line(plan, 'link'))}")
    return "\n".join(lines)


def line(plan: AnyPlan, phase: str) -> str:
    """Return the flags for the shell that Nim starts; without an `eval` in between, any character is possible."""
    flags = cxx.flags(plan, phase)
    return " ".join(map(quoting.windows, flags)) if plan.platform == "windows" else shlex.join(flags)


def literal(text: str) -> str:
    """Return a Nim string literal.

    Nim copies the compile flags into a comment of the C++ that it generates. A `*/` in a path, which would end the
    comment, is split by an empty pair of quotes; the shell joins it again.
    """
    return f'"{LITERAL_SPECIAL.sub(_escaped, text.replace("*/", SPLIT_COMMENT_END))}"'


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    return f"\\{character}" if character in '"\\' else f"\\x{ord(character) & 0xFF:02X}"
