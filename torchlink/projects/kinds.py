"""The kinds of projects that `torchlink new` writes: one directory of `examples/` each, described by its kind.toml.

A kind.toml:

    kind = "nim-app"             # default: the directory's name
    language = "Nim"
    summary = "A program in Nim that runs a model"
    commands = ["…", "…", "…"]   # shell lines that build, test and run it, from inside its directory
    serves = false               # true: the last command keeps running
    build = "nim"                # "cmake", "nim", "python": whose files are added; "own": all are in the directory
    capi = false                 # true: it calls libtorch through the C API, which is built into .torchlink/capi
    name = "default:app"         # "fixed:X": always X; "default:X": X without --name; "directory": DIR's without --name
    form = "cmake"               # a valid name: "cmake" (of a target), "identifier" (in C++ and Python), "nim"
    libtorch = "1.10"            # the oldest libtorch that it builds with
    aoti = false                 # true: it loads AOTInductor packages, so that libtorch.so stays linked
    lint = ["build/{name}"]      # the binaries that its CI lints, after a build
    variants = []                # options of `new` that change it; the first is the default
    model = "model.pt"           # where the bundled model goes; "": none
    tools = ["nim"]              # the programs that build and run it, besides a C++ compiler and CMake; "a|b": either
    system = ["nlohmann-json3-dev"]  # Debian packages that the build needs besides a C++ compiler and CMake
    pip = ["ziglang"]            # the same of PyPI

    [shared]                     # files in common with another one: name here = "DIRECTORY/FILE" of examples/
    "src/handler.h" = "server/src/handlers/handler.h"

`{name}` in commands and lint is the project's name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torchlink.errors import UsageError
from torchlink.paths import data_dir
from torchlink.settings import nearest, toml_document

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DESCRIPTION = "kind.toml"
BUILDS = ("cmake", "nim", "python", "own")
FORMS = ("cmake", "identifier", "nim")


class Kind(NamedTuple):
    """What `torchlink new` can start, as its kind.toml describes it."""

    name: str
    language: str
    summary: str
    commands: tuple[str, ...]
    serves: bool
    build: str  # one of BUILDS
    capi: bool
    naming: str  # "fixed:NAME", "default:NAME" or "directory"
    form: str  # one of FORMS
    libtorch: str | None  # the oldest release that it builds with
    aoti: bool
    lint: tuple[str, ...]
    variants: tuple[str, ...]
    tools: tuple[str, ...]
    system: tuple[str, ...]
    pip: tuple[str, ...]
    model: str
    directory: Path  # of its files
    shared: Mapping[str, Path]  # files elsewhere, by what they would be called in that directory

    @property
    def usual_name(self) -> str | None:
        """The name of a project without --name; None: its directory's."""
        return self.naming.partition(":")[2] or None


def kinds() -> tuple[Kind, ...]:
    """Return all kinds, C++ first, then by language and name."""
    found = [_read(file) for file in data_dir("examples").glob(f"*/{DESCRIPTION}")]
    return tuple(sorted(found, key=lambda kind: (kind.language != "C++", kind.language, kind.name)))


def kind_named(name: str) -> Kind:
    """Return the kind of a name.

    Raises:
        UsageError: there is none.
    """
    known = {kind.name: kind for kind in kinds()}
    if name in known:
        return known[name]
    raise UsageError(
        f"{name!r} is not a kind of project.",
        hint=nearest(name, known) or f"Use one of: {', '.join(known)}.",
    )


def _read(file: Path) -> Kind:
    """Read a kind.toml; it is torchlink's own, so that what is wrong with it is a bug."""
    table = toml_document(file.read_text(encoding="utf-8"))
    return Kind(
        name=table.get("kind", file.parent.name),
        language=table["language"],
        summary=table["summary"],
        commands=tuple(table["commands"]),
        serves=table.get("serves", False),
        build=table["build"],
        capi=table.get("capi", False),
        naming=table["name"],
        form=table.get("form", "cmake"),
        libtorch=table.get("libtorch"),
        aoti=table.get("aoti", False),
        lint=tuple(table.get("lint", ())),
        variants=tuple(table.get("variants", ())),
        tools=tuple(table.get("tools", ())),
        system=tuple(table.get("system", ())),
        pip=tuple(table.get("pip", ())),
        model=table.get("model", "model.pt"),
        directory=file.parent,
        shared={name: file.parent.parent / other for name, other in table.get("shared", {}).items()},
    )
