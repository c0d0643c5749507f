"""Libraries of two builds of libtorch in one process: told by the functions that one lacks of the other."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.conftest import run_clean
from tests.lint.builder import Builder, calls, findings, functions, rules
from torchlink.lint.finding import Severity
from torchlink.lint.text.tool_output import check_text

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.lint.finding import Finding

pytestmark = pytest.mark.compile

CONTEXT = "_ZN2at13globalContextEv"
ALLOC = "_ZN3c109alloc_cpuEm"
STATE = "_ZN3c1013GeneratorImpl12philox_stateEv"
BY_RUNPATH = "-Wl,--enable-new-dtags,-rpath"  # LD_LIBRARY_PATH goes before it


def libtorch(builder: Builder, directory: str, c10: str, *needed: str) -> Path:
    """A libtorch whose libc10 has some functions, of which its libtorch_cpu needs others."""
    lib = builder.torch(directory)
    library = builder.library(f"{directory}/libc10.so", functions(c10))
    words = (library, f"{BY_RUNPATH},$ORIGIN")
    builder.library(f"{directory}/libtorch_cpu.so", functions(CONTEXT) + calls(*needed, main=False), *words)
    return lib


def two(builder: Builder) -> tuple[Path, Path]:
    """An older libtorch, and a newer one whose libtorch_cpu needs what only its own libc10 has."""
    return libtorch(builder, "old/lib", ALLOC, ALLOC), libtorch(
        builder, "new/lib", f"{ALLOC} {STATE}", ALLOC, STATE
    )


def program(builder: Builder, own: Path, shims: Path) -> Path:
    """A program that links one libc10, and a shim that links the libtorch_cpu of (perhaps) another libtorch."""
    shim = builder.library(
        "libshim.so",
        calls(CONTEXT, main=False),
        shims / "libtorch_cpu.so",
        f"{BY_RUNPATH},$ORIGIN/{shims.relative_to(builder.directory)}",
    )
    search = f"{BY_RUNPATH},$ORIGIN:$ORIGIN/{own.relative_to(builder.directory)}"
    return builder.program("app", calls("use_all", ALLOC), own / "libc10.so", shim, search)


def refused(app: Path, variables: str = "") -> str:
    """What the loader says when it binds all symbols at once."""
    done = run_clean("/bin/sh", "-c", f"{variables} LD_BIND_NOW=1 exec {app}")
    assert done.returncode != 0
    return done.stderr


def is_a_mix(finding: Finding) -> bool:
    return (
        (finding.rule, finding.subject) == ("mixed-libtorch", "libtorch_cpu.so")
        and finding.severity is Severity.ERROR
        and finding.evidence[0] == STATE
    )


def test_a_program_and_its_shim_that_link_two_libtorchs(builder: Builder) -> None:
    old, new = two(builder)
    app = program(builder, old, new)
    assert f"undefined symbol: {STATE}" in refused(app)
    (finding,) = findings(app)
    assert is_a_mix(finding)
    assert str(old) in finding.message
    assert str(new) in finding.message
    assert not findings(program(builder, new, new))


def test_a_libc10_found_only_through_the_environment(builder: Builder) -> None:
    old, new = two(builder)
    app = program(builder, new, new)
    only = builder.path("only/libc10.so").parent
    shutil.copy(old / "libc10.so", only)
    for directory in (only, old):
        environment = {"LD_LIBRARY_PATH": str(directory)}
        found = findings(app, environment=environment)
        if directory == only:
            assert STATE in refused(app, f"LD_LIBRARY_PATH={only}")
            assert [is_a_mix(finding) for finding in found] == [True]
        else:  # the whole of the other libtorch is taken
            assert [finding.rule for finding in found] == ["found-through-environment"]
    assert not findings(app)


@pytest.mark.parametrize("layout", ["plain", "linked"])
def test_libraries_of_one_build_in_several_directories_are_not_mixed(builder: Builder, layout: str) -> None:
    _, new = two(builder)
    split = builder.path("split/lib/libc10.so")
    if layout == "linked":
        split.symlink_to(new / "libc10.so")
    else:
        shutil.move(new / "libc10.so", split)
    app = program(builder, split.parent, new)
    assert run_clean(app).returncode == 0
    assert not rules(app)


def test_a_shim_for_the_other_libtorch_is_not_called_built_with_other_headers_too(builder: Builder) -> None:
    old, new = two(builder)
    shim = builder.library(
        "libshim.so",
        calls(CONTEXT, STATE, main=False),
        new / "libtorch_cpu.so",
        f"{BY_RUNPATH},$ORIGIN/new/lib",
    )
    words = (old / "libc10.so", shim, f"{BY_RUNPATH},$ORIGIN:$ORIGIN/old/lib")
    app = builder.program("app", calls("use_all", ALLOC), *words)
    (finding,) = findings(app)
    assert is_a_mix(finding)


def ldd(app: Path, *options: str) -> str:
    done = subprocess.run(
        ["ldd", *options, str(app)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.stdout


@pytest.mark.parametrize("options", [(), ("-r",)], ids=["ldd", "ldd -r"])
def test_a_mix_in_a_text_of_ldd(builder: Builder, options: tuple[str, ...]) -> None:
    old, new = two(builder)
    app = program(builder, old, new)
    (report,) = check_text(ldd(app, *options), "-")
    (finding,) = report.findings
    assert is_a_mix(finding)
    (report,) = check_text(ldd(program(builder, new, new), *options), "-")
    assert not report.findings


def test_a_mix_in_a_text_from_another_machine(builder: Builder) -> None:
    old, new = two(builder)
    text = ldd(program(builder, old, new), "-r").replace(str(builder.directory), "/there/is/none")
    (report,) = check_text(text, "-")
    (finding,) = report.findings
    assert is_a_mix(finding)


def test_a_text_shows_a_mix_in_one_directory(builder: Builder) -> None:
    old, new = two(builder)
    shutil.copy(old / "libc10.so", new)
    (report,) = check_text(ldd(program(builder, new, new), "-r"), "-")
    (finding,) = report.findings
    assert is_a_mix(finding)


def test_a_mix_in_the_loaders_own_message(builder: Builder) -> None:
    old, new = two(builder)
    (report,) = check_text(refused(program(builder, old, new)), "-")
    (finding,) = report.findings
    assert is_a_mix(finding)
    assert f"libtorch_cpu.so from {new} is loaded with libraries from another build" in finding.message


def test_python_serves_libtorch_python_whatever_a_text_is_about(builder: Builder) -> None:
    lib = builder.torch()
    source = calls(CONTEXT, "PyErr_Clear", main=False)
    python = builder.library(
        "torch/lib/libtorch_python.so", source, lib / "libtorch_cpu.so", "-Wl,-rpath,$ORIGIN"
    )
    extension = builder.library("mine.so", functions("PyInit_mine"), python, "-Wl,-rpath,$ORIGIN/torch/lib")
    text = ldd(extension, "-r")
    assert "undefined symbol: PyErr_Clear" in text
    (report,) = check_text(text, "-")
    assert not report.findings


def test_other_symbols_of_libtorchs_own_libraries_in_a_text_are_checked_too(builder: Builder) -> None:
    _, new = two(builder)
    text = f"{ldd(program(builder, new, new))}undefined symbol: cudaMalloc\t({new / 'libtorch_cpu.so'})\n"
    (report,) = check_text(text, "-")
    (finding,) = report.findings
    assert (finding.rule, finding.subject) == ("undefined-symbol", "libtorch_cpu.so")
    assert finding.severity is Severity.ERROR
