"""Target `go`: cgo's variables for a shell, and the same as `#cgo` lines for a Go file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torchlink.emit import cxx, quoting
from torchlink.errors import InexpressibleError

if TYPE_CHECKING:
    from torchlink.capi_plan import AnyPlan

DEFAULT = ("-g", "-O2")  # of $CGO_CFLAGS and $CGO_CXXFLAGS; setting them replaces it
WHERE = "in cgo's variables, which have no escapes: it has quotes, a backslash or a line break"
# The characters that `go build` accepts in a #cgo line, and -Wl, options of the linker that it does not.
CGO_SAFE = re.compile(r"[-+.,/0-9=A-Za-z_:$@%! ~^\u0080-\uffff]+")
KEEP = ("-Wl,--push-state,--no-as-needed,", ",--pop-state")
CGO_FLAGS = re.compile(
    r"-[LlDU][^@-].*|-isystem|-I.+|-std=.+|-Wl,-rpath(-link)?,[^,@-][^,]*|-Wl,--disable-new-dtags|-Wl,--(no-)?as-needed"
    r"|[\w/].*\.(a|so|dylib)|/.*"
)


def emit(plan: AnyPlan, phase: str = "both") -> str:
    """Return `export` lines, followed by `#cgo` lines, which a shell reads as comments.

    Where `#cgo` lines cannot express a path or a flag, a comment there says so: go checks them, but not the variables.

    Raises:
        InexpressibleError: a path has a double quote, a backslash, a line break, or a space and a single quote.
    """
    steps: list[tuple[str, tuple[str, ...]]] = []
    if phase != "link":
        steps.append(("CFLAGS" if plan.is_c else "CXXFLAGS", cxx.flags(plan, "compile")))
    if phase != "compile":
        steps.append(("LDFLAGS", cxx.by_c_driver(plan)))
    lines = []
    for name, flags in steps:
        own = DEFAULT if name != "LDFLAGS" else ()
        value = " ".join(_word(flag) for flag in (*own, *flags))
        lines.append(f"export CGO_{name}={quoting.shell(value)}")
    try:
        lines += [f"#cgo {name}: {_cgo(flags)}" for name, flags in steps]
    except InexpressibleError as error:
        lines.append(f"# No #cgo lines: {quoting.comment(error.message)}")
    return "\n".join(lines)


def _word(flag: str) -> str:
    """Quote for cgo's variables: there are no escapes, and a quote counts only at the beginning of a word."""
    quoting.expressible(flag, r'[\n\r"\\]', WHERE)
    if not re.search(r"\s", flag):
        return flag
    quoting.expressible(flag, "'", WHERE)
    return f"'{flag}'"


def _cgo(flags: tuple[str, ...]) -> str:
    """Return the rest of a `#cgo` line."""
    words: list[str] = []
    for flag in flags:
        if flag.startswith(KEEP[0]) and flag.endswith(KEEP[1]):  # --push-state is not on go's list
            words += ["-Wl,--no-as-needed", flag[len(KEEP[0]) : -len(KEEP[1])], "-Wl,--as-needed"]
        else:
            words.append(flag)
    for word in words:
        if not CGO_SAFE.fullmatch(word) or not CGO_FLAGS.fullmatch(word):
            raise InexpressibleError(f"go does not accept {word} there.")
    return " ".join(f'"{word}"' if " " in word else word for word in words)
