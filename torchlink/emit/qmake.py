"""Target `qmake`: a .pri file that a .pro file includes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.emit import cxx, quoting

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torchlink.capi_plan import AnyPlan

STANDARDS = {"11": 11, "14": 14, "1Z": 17, "2A": 20}  # qmake's names of C++ standards
# qmake takes quotes for its own once more where it writes the Makefile.
UNSAFE = r"[\"'\x00-\x1f\x7f]"
WHERE = "in a .pri file: it has a quote or a control character"


def emit(plan: AnyPlan, phase: str = "both") -> str:
    """Return assignments to qmake's variables.

    `QT_NO_KEYWORDS`, because Qt's macros `slots`, `signals` and `emit` break libtorch's headers. qmake appends a
    standard of its own to the flags, so those that are too low are replaced in its variables.

    Raises:
        InexpressibleError: a path cannot be written in a .pri file.
    """
    lines: list[str] = []
    if phase != "link" and plan.is_c:
        flags = _values(cxx.flags(plan, "compile"))
        lines += [f"QMAKE_CFLAGS += {flags}", f"QMAKE_CXXFLAGS += {flags}"]
    elif phase != "link":
        lines += ["DEFINES += QT_NO_KEYWORDS", f"QMAKE_CXXFLAGS += {_values(cxx.flags(plan, 'compile'))}"]
        lines += [
            f"QMAKE_CXXFLAGS_{kind}CXX{name} = -std=c++{plan.cxx_standard}"
            for name, year in STANDARDS.items()
            if plan.cxx_standard and year < plan.cxx_standard
            for kind in ("", "GNU")
        ]
    if phase != "compile":
        link_flags = cxx.by_c_driver(plan)
        libraries = [flag for flag in link_flags if flag.startswith(("-l", "-Wl,--push-state"))]
        paths = [flag for flag in link_flags if flag not in libraries]
        lines += [f"QMAKE_LFLAGS += {_values(paths)}", f"LIBS += {_values(libraries)}"]
    return "\n".join(lines)


def _values(flags: Iterable[str]) -> str:
    return " ".join(map(_value, flags))


def _value(flag: str) -> str:
    """Quote for a shell, for the Makefile and for qmake, which writes a value there as it is."""
    text = quoting.makefile(quoting.expressible(flag, UNSAFE, WHERE))
    text = text.replace("\\", "\\\\").replace("$", "\\$").replace("#", "$${LITERAL_HASH}")
    return f'"{text}"' if text != flag else text
