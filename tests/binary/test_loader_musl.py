"""musl's rules: the model against the live musl loader, on libraries built by the tests."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.binary.live import Workshop, usable
from tests.conftest import unmet
from torchlink.binary.loader import resolve

if TYPE_CHECKING:
    from torchlink.binary.closure import Closure

LOADER = Path("/lib/ld-musl-x86_64.so.1")
MISSING = re.compile(r"Error loading shared library (\S+): .* \(needed by (.*)\)")


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    if not usable("musl-gcc") or not LOADER.exists():
        unmet("musl-gcc on x86_64")
    return Workshop(tmp_path, compiler="musl-gcc")


def check(file: Path, **environment: str) -> Closure:
    """The model must say what the live loader does; returns the closure for a closer look."""
    closure = resolve(file, environment=environment)
    done = subprocess.run(
        [LOADER, "--list", file], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    paths = [line.rpartition(" (0x")[0].rpartition("=> ")[2].strip() for line in done.stdout.splitlines()]
    missing = [(match[1], match[2]) for match in MISSING.finditer(done.stderr)]
    mine = [each.path for each in closure.objects[1:] if each.found_via.kind != "interpreter"]
    assert [edge.name for edge in closure.missing] == [name for name, _ in missing]
    assert [edge.needed_by for edge in closure.missing] == [needed_by for _, needed_by in missing]
    assert mine == [path for path in dict.fromkeys(paths) if path != str(LOADER)]
    return closure


@pytest.mark.parametrize("kind", ["rpath", "runpath"])
def test_rpath_and_runpath_are_both_inherited(workshop: Workshop, kind: str) -> None:
    deep = workshop.library("far/libdeep.so")
    middle = workshop.library("far/libmiddle.so", deep)
    if kind == "rpath":
        app = workshop.program("app", middle, rpath="$ORIGIN/far")
    else:
        app = workshop.program("app", middle, runpath="$ORIGIN/far")
    closure = check(app)
    assert [each.found_via.owner for each in closure.objects if each.name == "libdeep.so"] == [str(app)]


def test_ld_library_path_comes_before_rpath(workshop: Workshop) -> None:
    library = workshop.library("one/liba.so")
    workshop.library("two/liba.so")
    app = workshop.program("app", library, rpath="$ORIGIN/one")
    closure = check(app, LD_LIBRARY_PATH=f"::{workshop.directory}/two")
    assert closure.objects[1].found_via.kind == "LD_LIBRARY_PATH"


def test_a_missing_library_is_reported_with_the_object_that_needs_it(workshop: Workshop) -> None:
    gone = workshop.library("far/libgone.so")
    middle = workshop.library("far/libmiddle.so", gone)
    app = workshop.program("app", middle, runpath="$ORIGIN/far")
    gone.unlink()
    assert check(app).missing


def test_a_path_with_a_token_other_than_origin_is_ignored_entirely(workshop: Workshop) -> None:
    library = workshop.library("far/liba.so")
    assert check(workshop.program("app", library, runpath="$ORIGIN/$LIB:$ORIGIN/far")).missing


def test_an_object_is_not_found_by_its_soname(workshop: Workshop) -> None:
    library = workshop.library("one/liba.so", soname="libb.so")
    workshop.library("two/libb.so")
    user = workshop.library("one/libuser.so", workshop.directory / "two" / "libb.so")
    library.rename(workshop.directory / "one" / "libfirst.so")
    stub = workshop.library("stub/libfirst.so")
    app = workshop.program("app", stub, user, runpath="$ORIGIN/one:$ORIGIN/two")
    closure = check(app)
    names = [Path(each.path).name for each in closure.objects[1:] if each.found_via.kind != "interpreter"]
    assert names == ["libfirst.so", "libuser.so", "libb.so"]


def test_the_c_librarys_other_names_are_the_loader_itself(workshop: Workshop) -> None:
    for name in ("libpthread.so.0", "libm.so.6", "libc.musl-x86_64.so.1"):
        workshop.library(f"far/{name}")
    names = sorted((workshop.directory / "far").iterdir())
    closure = check(workshop.program("app", *names, runpath="$ORIGIN/far"))
    assert {edge.path for edge in closure.edges} == {str(LOADER)}


def test_the_path_file_lists_the_default_directories(workshop: Workshop) -> None:
    closure = resolve(workshop.program("app", workshop.library("far/liba.so")))
    file = Path("/etc/ld-musl-x86_64.path")
    directories = file.read_text().split() if file.exists() else ["/lib", "/usr/local/lib", "/usr/lib"]
    tried = [each.path for each in closure.missing[0].tried]
    assert tried == directories


def test_a_path_with_a_slash_and_the_same_file_twice(workshop: Workshop) -> None:
    library = workshop.library("far/liba.so", soname=None)
    (workshop.directory / "far" / "libalias.so").symlink_to("liba.so")
    alias = workshop.directory / "stub" / "libalias.so"
    workshop.library("stub/libalias.so")
    closure = check(workshop.program("app", library, alias, runpath="$ORIGIN/far"))
    assert [edge.path for edge in closure.edges[:2]] == [str(library), str(library)]
