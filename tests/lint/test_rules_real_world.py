"""The rules on files that work: torch's own libraries, the system's programs, and programs built against a torch."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.binary.live import LOADERS, elf_files, trace
from tests.conftest import run_clean, unmet
from tests.lint.builder import Builder, functions, rules, said
from torchlink.binary.elf import ElfFile
from torchlink.binary.loader import OpenFiles
from torchlink.errors import TorchlinkError
from torchlink.libtorch.abi import c10_abi
from torchlink.lint.checking import check_binary
from torchlink.lint.finding import Finding, Severity

if TYPE_CHECKING:
    from pathlib import Path

SAMPLE = 150


def errors(path: Path, files: OpenFiles) -> list[Finding]:
    """The errors for a file; none for one that cannot be checked."""
    try:
        found = check_binary(path, files=files).findings
    except TorchlinkError:
        return []
    return [finding for finding in found if finding.severity is Severity.ERROR]


def test_torchs_own_libraries_have_no_error(torch_root: Path) -> None:
    files = OpenFiles()
    libraries = sorted(elf_files(str(torch_root / "lib"))) + sorted(torch_root.glob("_C.*.so"))
    assert len(libraries) > 5
    assert {path.name: found for path in libraries if (found := errors(path, files))} == {}


def test_the_systems_files_have_no_error_that_the_live_loader_does_not_have() -> None:
    """What the loader misses it says too; all other errors would be false."""
    files = OpenFiles()
    found = sorted(elf_files("/usr/bin", "/usr/lib"))
    wrong: list[object] = []
    for path in found[:: max(1, len(found) // SAMPLE)]:
        for finding in errors(path, files):
            machine = files.open(path)[0].machine
            missing = trace(path, machine).missing if machine in LOADERS else [finding.subject]
            names = finding.subject.split(" + ")
            if finding.rule not in {"library-not-found", "wrong-architecture"} or not set(names) <= set(
                missing
            ):
                wrong.append((path, finding))
    assert wrong == []


SHOW = """
    #include <cstdio>
    #include <string>
    namespace at { std::string show_config(); }
    {declared}
    int main() { std::puts(at::show_config().c_str()); {called} return 0; }
"""


def against(
    builder: Builder, torch_root: Path, *words: str, called: str = "", abi: int | None = None
) -> Path:
    """A C++ program linked against a real libtorch, without its headers: it compiles in a third of a second."""
    lib = torch_root / "lib"
    if abi is None:
        with ElfFile.open(lib / "libc10.so") as c10:
            abi = c10_abi(c10)[0]
    declared = f"void {called}();" if called else ""
    source = SHOW.replace("{declared}", declared).replace("{called}", f"{called}();" if called else "")
    flags = (
        f"-D_GLIBCXX_USE_CXX11_ABI={abi}",
        f"-L{lib}",
        *words,
        "-ltorch_cpu",
        "-lc10",
        f"-Wl,-rpath,{lib}",
    )
    return builder.build("app", source, *flags, language="c++", compiler="g++")


@pytest.mark.compile
def test_a_program_built_against_a_real_torch_is_clean_and_runs(builder: Builder, torch_root: Path) -> None:
    app = against(builder, torch_root, "-Wl,--as-needed")
    assert rules(app) <= {"rpath-build-tree"}  # where the tests' torch is in a home directory
    done = run_clean(app)
    assert done.returncode == 0
    assert "PyTorch built with" in done.stdout


@pytest.mark.compile
def test_the_other_abi_is_reported_as_the_loader_reports_it(builder: Builder, torch_root: Path) -> None:
    with ElfFile.open(torch_root / "lib/libc10.so") as c10:
        abi = c10_abi(c10)[0]
    other = 1 - (abi or 0)
    # A libtorch of the other ABI to link with, as on the machine where the program was built.
    stand_in = builder.torch("other", abi=other)
    source = SHOW.replace("{declared}", "").replace("{called}", "")
    words = (
        f"-D_GLIBCXX_USE_CXX11_ABI={other}",
        stand_in / "libtorch_cpu.so",
        f"-Wl,-rpath,{torch_root / 'lib'}",
    )
    app = builder.program("app", source, *words, language="c++", compiler="g++")
    (finding,) = said(app, "abi-mismatch")
    symbol = finding.evidence[0]
    done = run_clean("/bin/sh", "-c", f"LD_BIND_NOW=1 exec {app}")
    assert done.returncode != 0
    assert f"undefined symbol: {symbol}" in done.stderr
    assert "undefined-symbol" not in rules(app)


@pytest.mark.compile
def test_the_libc10_of_another_build_with_a_real_libtorch_cpu(builder: Builder, torch_root: Path) -> None:
    other = builder.torch("other") / "libc10.so"
    other.with_name("libtorch_cpu.so").unlink()
    words = ("-Wl,--no-as-needed,--allow-shlib-undefined", str(other), "-Wl,-rpath,$ORIGIN/other")
    app = against(builder, torch_root, *words)
    (finding,) = said(app, "mixed-libtorch")
    assert (finding.subject, finding.severity) == ("libtorch_cpu.so", Severity.ERROR)
    done = run_clean(app)
    assert done.returncode != 0
    assert "libtorch_cpu.so: undefined symbol: " in done.stderr
    assert not {"header-library-mismatch", "abi-mismatch", "undefined-symbol"} & rules(app)


@pytest.mark.compile
def test_a_real_torchs_libraries_that_are_linked_but_unused(builder: Builder, torch_root: Path) -> None:
    if not (torch_root / "lib/libshm.so").exists():
        unmet("a torch with libshm")
    app = against(builder, torch_root, "-Wl,--no-as-needed", "-lshm")
    found = {finding.subject: finding.severity for finding in said(app, "unused-library")}
    assert found == {
        "libshm.so": Severity.WARNING,
        "libc10.so": Severity.NOTE,
    }  # libtorch_cpu needs c10 itself
    assert not said(against(builder, torch_root, "-Wl,--as-needed", "-lshm"), "unused-library")


@pytest.mark.compile
def test_a_second_openmp_with_a_real_torch(builder: Builder, torch_root: Path) -> None:
    if not any("libgomp" in path.name for path in (torch_root / "lib").iterdir()):
        unmet("a torch that brings libgomp")
    other = builder.library("other/libomp.so.5", functions("__kmpc_fork_call omp_get_max_threads"))
    app = against(builder, torch_root, "-Wl,--no-as-needed", str(other), "-Wl,-rpath,$ORIGIN/other")
    (finding,) = said(app, "duplicate-openmp")
    assert finding.severity is Severity.ERROR
    assert re.search(r"libgomp\S* \+ libomp\.so\.5", finding.subject)
