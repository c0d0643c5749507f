"""Symbol binding: equal to `ldd -u` and `ldd -r` on the machine's files, and correct on built ones."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.binary.live import LOADERS, Workshop, elf_files, usable
from tests.conftest import unmet
from torchlink.binary.bindings import Scope
from torchlink.binary.loader import OpenFiles, resolve

if TYPE_CHECKING:
    from torchlink.binary.closure import Closure

SAMPLE = 120
UNDEFINED = re.compile(r"undefined symbol: ([^\t ,]+)(?:, version (\S+))?\s+\((.+)\)")


def ask(file: Path, machine: str, **environment: str) -> str:
    """What the live loader says of a file's relocations."""
    done = subprocess.run(
        [LOADERS[machine], str(file)],
        env={"LD_TRACE_LOADED_OBJECTS": "1", "LD_BIND_NOW": "1", **environment},
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
        timeout=60,
    )
    return done.stdout + done.stderr


def undefined(closure: Closure) -> set[tuple[str, str | None, str]]:
    scope = Scope(closure)
    return {
        (each.symbol, each.version, Path(each.object).name)
        for loaded in closure.objects
        for each in scope.undefined_symbols(loaded.path)
    }


@pytest.fixture(scope="module")
def closures() -> list[Closure]:
    """Closures of a sample of the system's files, with nothing missing."""
    files = list(elf_files("/usr/bin", "/usr/lib"))
    opened = OpenFiles()
    sample = [resolve(file, secure=False, files=opened) for file in files[:: max(1, len(files) // SAMPLE)]]
    usable_ones = [
        closure
        for closure in sample
        if closure.subject.elf.dynamic.needed
        and not closure.missing
        and Path(LOADERS.get(closure.subject.elf.machine, "/nowhere")).exists()
    ]
    return usable_ones or unmet("programs of glibc on x86_64")


def test_unused_libraries_are_those_of_ldd_u(closures: list[Closure]) -> None:
    different: list[object] = []
    for closure in closures:
        subject = closure.subject
        text = ask(subject.file, subject.elf.machine, LD_DEBUG="unused")
        live = {line.strip() for line in text.splitlines() if line.startswith("\t/") and "=>" not in line}
        live = {line for line in live if "(0x" not in line}
        mine = {edge.path for edge in Scope(closure).unused_needed(subject.path)}
        if mine != live:
            different.append((subject.path, live, mine))
    assert different == []


def test_undefined_symbols_are_those_of_ldd_r(closures: list[Closure]) -> None:
    different: list[object] = []
    for closure in closures:
        text = ask(closure.subject.file, closure.subject.elf.machine, LD_WARN="1")
        found = (UNDEFINED.search(line) for line in text.splitlines())
        live = {(match[1], match[2], Path(match[3]).name) for match in found if match}
        mine = undefined(closure)
        if mine != live:
            different.append((closure.subject.path, live ^ mine))
    assert different == []


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    if not usable("gcc"):
        unmet("gcc")
    return Workshop(tmp_path)


def test_a_copied_variable_makes_its_library_used(workshop: Workshop) -> None:
    library = workshop.library("libdata.so", source="int shared_number = 7;\n")
    idle = workshop.library("libidle.so", source="int idle_number = 7;\n")
    source = "extern int shared_number; int main(void) { return shared_number; }\n"
    flags = ["-no-pie", "-fno-pic"]
    app = workshop.program("app", library, idle, source=source, runpath="$ORIGIN", flags=flags)
    closure = resolve(app)
    assert [edge.name for edge in Scope(closure).unused_needed(closure.subject.path)] == ["libidle.so"]


def test_the_first_definition_in_load_order_is_the_used_one(workshop: Workshop) -> None:
    first = workshop.library("libfirst.so", source="int number(void) { return 1; }\n")
    second = workshop.library("libsecond.so", source="int number(void) { return 2; }\n")
    source = "int number(void); int main(void) { return number(); }\n"
    closure = resolve(workshop.program("app", first, second, source=source, runpath="$ORIGIN"))
    assert [edge.name for edge in Scope(closure).unused_needed(closure.subject.path)] == ["libsecond.so"]


def test_a_library_loaded_only_through_another_is_used_but_not_needed(workshop: Workshop) -> None:
    outer_function = "int outer(void) { return 2; }\n"
    outer = workshop.library("libouter.so", source="int inner(void) { return 1; }\n" + outer_function)
    source = "int inner(void); int outer(void); int main(void) { return inner() + outer(); }\n"
    app = workshop.program("app", outer, source=source, rpath="$ORIGIN")
    inner = workshop.library("libinner.so", source="int inner(void) { return 1; }\n")
    workshop.library("libouter.so", inner, source=outer_function)
    closure = resolve(app)
    assert Scope(closure).used_but_not_needed(closure.subject.path) == {str(inner): ("inner",)}


def test_a_removed_symbol_is_undefined_unless_weak(workshop: Workshop) -> None:
    kept = "int kept(void) { return 1; }\n"
    library = workshop.library("liba.so", source=kept + "int gone(void) { return 2; }\n")
    source = """
    int kept(void); int gone(void); __attribute__((weak)) int maybe(void);
    int main(void) { return kept() + gone() + (maybe ? maybe() : 0); }
    """
    app = workshop.program("app", library, source=source, runpath="$ORIGIN")
    assert not undefined(resolve(app))
    workshop.library("liba.so", source=kept)
    assert undefined(resolve(app)) == {("gone", None, "app")}


def versioned(workshop: Workshop, *versions: str) -> Path:
    """A library that defines `number` in one symbol version."""
    script = workshop.directory / "versions.map"
    script.write_text("".join(f"{name} {{ global: number; local: *; }};\n" for name in versions))
    return workshop.library(
        "libv.so", source="int number(void) { return 1; }\n", flags=[f"-Wl,--version-script,{script}"]
    )


def test_a_version_removed_from_a_library_is_reported(workshop: Workshop) -> None:
    source = "int number(void); int main(void) { return number(); }\n"
    app = workshop.program("app", versioned(workshop, "OLD_1"), source=source, runpath="$ORIGIN")
    assert Scope(resolve(app)).missing_versions() == ()
    versioned(workshop, "NEW_1")
    closure = resolve(app)
    (lost,) = Scope(closure).missing_versions()
    assert (lost.object, lost.library, lost.version, lost.weak) == (str(app), "libv.so", "OLD_1", False)
    assert undefined(closure) == {("number", "OLD_1", "app")}


def test_a_versioned_reference_binds_to_a_library_without_versions(workshop: Workshop) -> None:
    source = "int number(void); int main(void) { return number(); }\n"
    app = workshop.program("app", versioned(workshop, "OLD_1"), source=source, runpath="$ORIGIN")
    workshop.library("libv.so", source="int number(void) { return 1; }\n")
    closure = resolve(app)
    assert Scope(closure).missing_versions() == ()
    assert not undefined(closure)
