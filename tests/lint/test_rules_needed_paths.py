"""Rules about libraries that are needed by a path: every defect is built, found, and fixed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import run_clean
from tests.lint.builder import MAIN, Builder, findings, rules, said
from torchlink.binary.elf import ElfFile
from torchlink.binary.system import system_for
from torchlink.lint.finding import Severity

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.compile

USE = "int inner(void); int main(void) { return inner(); }\n"
INNER = "int inner(void) { return 1; }\n"


def test_a_relative_needed_path_is_an_error(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(builder.directory)
    library = builder.library("lib/libinner.so", INNER, soname=None)
    app = builder.program("app", USE, "lib/libinner.so")
    assert run_clean(app).returncode == 1
    (finding,) = findings(app)
    assert (finding.rule, finding.subject) == ("needed-by-relative-path", "lib/libinner.so")
    assert finding.severity is Severity.ERROR
    monkeypatch.chdir(library.parent)
    assert run_clean(app).returncode == 127
    (finding,) = findings(app)
    assert finding.rule == "needed-by-relative-path"
    assert "-Wl,-soname,libinner.so" in finding.fix
    builder.library("lib/libinner.so", INNER)
    assert not findings(builder.program("app", USE, "lib/libinner.so", "-Wl,-rpath,$ORIGIN/lib"))


def test_the_fix_for_a_missing_absolute_path_is_not_a_search_path(builder: Builder) -> None:
    library = builder.library("lib/libinner.so", INNER, soname=None)
    app = builder.program("app", USE, library)
    assert rules(app) == {"needed-by-absolute-path"}
    library.unlink()
    (finding,) = findings(app)
    assert (finding.rule, finding.subject) == ("library-not-found", str(library))
    assert "-Wl,-soname,libinner.so" in finding.fix


def absolute(builder: Builder, image: Path, directory: str) -> Path:
    """A program in an image that needs a library by an absolute path of that image."""
    library = builder.library(f"image/{directory}/libinner.so", INNER, soname=None)
    app = builder.program("image/opt/app", USE, library, "-nostdlib", "-Wl,--dynamic-linker,/lib/ld.so")
    with ElfFile.open(app) as elf:
        needed = elf.dynamic.needed
    assert needed == (str(library),)
    data = app.read_bytes()
    inside = f"/{directory}/libinner.so".encode()
    old = str(library).encode()
    app.write_bytes(data.replace(old + b"\0", inside + bytes(len(old) - len(inside) + 1)))
    assert image in app.parents
    return app


PLACES = {
    "usr/lib": None,  # the system's own
    "opt/parts/lib": Severity.NOTE,
    "home/eve/parts": Severity.WARNING,
    "opt/parts/_build": Severity.WARNING,
}


@pytest.mark.parametrize("directory", PLACES)
def test_an_absolute_needed_path_into_a_build_tree_is_a_warning(builder: Builder, directory: str) -> None:
    image = builder.directory / "image"
    found = said(absolute(builder, image, directory), "needed-by-absolute-path", root=image)
    severity = PLACES[directory]
    assert [each.severity for each in found] == ([severity] if severity else [])


def test_a_soname_makes_the_loader_search_for_the_library(builder: Builder) -> None:
    library = builder.library("lib/libinner.so", INNER, soname=None)
    app = builder.program("app", USE, library)
    assert run_clean(app).returncode == 1
    (finding,) = findings(app)
    assert (finding.rule, finding.subject) == ("needed-by-absolute-path", str(library))
    assert "-Wl,-soname,libinner.so" in finding.fix
    words = ("-L", library.parent, "-linner", "-Wl,-rpath,$ORIGIN/lib")
    builder.library("lib/libinner.so", INNER)
    app = builder.program("app", USE, *words)
    assert run_clean(app).returncode == 1
    assert not findings(app)


def test_the_loader_as_a_needed_path_is_not_reported(builder: Builder) -> None:
    with ElfFile.open(builder.program("plain", MAIN)) as elf:
        loader = system_for(elf).interpreter
    assert loader is not None
    stub = builder.library("stub.so", INNER, soname=loader)
    assert not said(builder.program("app", MAIN, stub), "needed-by-absolute-path")
