"""A libtorch that needs a newer glibc or libstdc++ than this system has is reported before anything is compiled."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.libtorch.trees import SHOW_CONFIG, Library, build, make
from torchlink.libtorch.choose import choose
from torchlink.libtorch.floor import FAMILIES, newest_fitting, numbers, shortfall, wheels

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Result

pytestmark = [
    pytest.mark.compile,
    pytest.mark.skipif(
        sys.platform != "linux" or platform.machine() not in {"x86_64", "aarch64"}, reason="glibc's wheels"
    ),
]
NEEDS = {"libc.so.6": "GLIBC_2.99", "libstdc++.so.6": "GLIBCXX_3.4.99"}
DISTRIBUTIONS = Path(__file__).parent.parent / "data" / "distributions.json"


def link(out: Path, source: str, *options: str | Path) -> None:
    command = ["c++", "-shared", "-nostdlib", f"-Wl,-soname,{out.name}", "-x", "assembler", "-", "-x", "none"]
    subprocess.run([*command, *options, "-o", out], input=source, text=True, check=True, capture_output=True)


def newer(root: Path, provider: str, workshop: Path) -> Path:
    """A libtorch whose libtorch_cpu was linked against a C or C++ library of the future; returns its root."""
    make(root)
    workshop.mkdir(exist_ok=True)
    script = workshop / "versions.map"
    script.write_text(f"{NEEDS[provider]} {{ global: of_the_future; }};\n")
    link(
        workshop / provider,
        ".globl of_the_future\nof_the_future: .byte 0\n",
        f"-Wl,--version-script={script}",
    )
    source = f".globl {SHOW_CONFIG[1]}\n{SHOW_CONFIG[1]}: .quad of_the_future\n"
    link(root / "lib/libtorch_cpu.so", f".data\n{source}", workshop / provider)
    return root


@pytest.fixture(params=NEEDS)
def future(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """Such a libtorch, and the version that is not here."""
    return newer(tmp_path / "torch", request.param, tmp_path / "workshop"), NEEDS[request.param]


def test_the_shortfall_names_library_version_and_provider(future: tuple[Path, str]) -> None:
    root, version = future
    for thorough in (False, True):
        short = shortfall(choose(root), thorough=thorough)
        assert short is not None
        (excess,) = short.excesses
        assert (excess.library, excess.version) == (str(root / "lib/libtorch_cpu.so"), version)
        family, _, here = excess.has.partition("_")
        assert version.startswith(f"{family}_")
        assert numbers(here) < numbers(version.partition("_")[2])
        assert Path(excess.provider).is_file()


def test_a_libtorch_that_this_system_can_run(tmp_path: Path, torch_root: Path) -> None:
    assert shortfall(choose(make(tmp_path / "torch")), thorough=True) is None
    assert shortfall(choose(torch_root)) is None
    assert shortfall(choose(torch_root), thorough=True) is None


def test_a_newer_libstdcxx_next_to_libtorch_suffices(tmp_path: Path) -> None:
    root = newer(tmp_path / "torch", "libstdc++.so.6", tmp_path / "workshop")
    source = f".data\n.globl {SHOW_CONFIG[1]}\n{SHOW_CONFIG[1]}: .quad of_the_future\n"
    link(root / "lib/libtorch_cpu.so", source, tmp_path / "workshop/libstdc++.so.6", "-Wl,-rpath,$ORIGIN")
    (tmp_path / "workshop/libstdc++.so.6").rename(root / "lib/libstdc++.so.6")
    assert shortfall(choose(root)) is None
    (root / "lib/libstdc++.so.6").unlink()
    assert shortfall(choose(root)) is not None


def test_find_and_flags_warn_and_answer_all_the_same(
    future: tuple[Path, str], torchlink: Callable[..., Result], tmp_path: Path
) -> None:
    root, version = future
    for command in (
        ("find", "--libtorch", root),
        ("find", "--libtorch", root, "--print", "root"),
        ("flags", "--libtorch", root),
        ("cmake", "prefix", "--libtorch", root, "--output", tmp_path / "prefix"),
    ):
        done = torchlink(*command)
        assert done.code == 0, done.err
        assert done.out.strip()
        assert done.err.count("torchlink: warning: ") == 1
        assert f"{root}/lib/libtorch_cpu.so needs {version}, and " in done.err
        assert "the newest torch that fits this one: torch 2." in done.err
    said = json.loads(torchlink("find", "--json", "--libtorch", root).out)
    assert version in said["libtorch"]["needs_newer_system"]


def test_verify_refuses_before_it_compiles(
    future: tuple[Path, str], torchlink: Callable[..., Result]
) -> None:
    root, version = future
    done = torchlink("verify", "--libtorch", root)
    assert done.code == 2
    assert f"libtorch_cpu.so needs {version}, and " in done.err
    assert "building" not in done.err


def test_doctor_calls_no_compiler_fit(future: tuple[Path, str], torchlink: Callable[..., Result]) -> None:
    root, version = future
    done = torchlink("doctor", "--json", "--libtorch", root)
    said = json.loads(done.out)
    assert (done.code, said["ok"]) == (1, False)
    assert not any(fit["ok"] for fit in said["fits"])
    (problem,) = [each for each in said["problems"] if each["severity"] == "error"]
    assert f"libtorch_cpu.so needs {version}, and " in problem["what"]
    assert "torch 2." in problem["remedy"]


@pytest.fixture
def old_sysroot(tmp_path: Path) -> tuple[Path, str]:
    """A libtorch that runs on this system, and a compiler that links with an older C library than it needs."""
    return with_sysroot(tmp_path, "GLIBC_2.17")


def with_sysroot(tmp_path: Path, has: str) -> tuple[Path, str]:
    """A libtorch that needs GLIBC_2.28, and a compiler whose C library has only another version."""
    root = make(tmp_path / "torch")
    for directory, version in (("new", "GLIBC_2.28"), ("old", has)):
        (tmp_path / directory).mkdir()
        script = tmp_path / directory / "versions.map"
        script.write_text(f"{version} {{ global: needed; }};\n")
        source = ".globl needed\nneeded: .byte 0\n"
        link(tmp_path / directory / "libc.so.6", source, f"-Wl,--version-script={script}")
    source = f".data\n.globl {SHOW_CONFIG[1]}\n{SHOW_CONFIG[1]}: .quad needed\n"
    link(root / "lib/libtorch_cpu.so", source, tmp_path / "new/libc.so.6")
    return root, f"c++ -B{tmp_path / 'old'}"


def test_a_version_that_is_absent_from_a_newer_library_is_called_absent(
    tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    root, compiler = with_sysroot(tmp_path, "GLIBC_2.36")
    said = torchlink("flags", "--libtorch", root, "--compiler", compiler).err
    library = f"{compiler[6:]}/libc.so.6"
    assert f"warning: The libtorch in {root} is for another system: " in said
    assert f"libtorch_cpu.so needs GLIBC_2.28, and {library} has no GLIBC_2.28. " in said
    assert "has at most" not in said


def test_a_library_of_another_machine_is_not_compared(
    tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    root, compiler = with_sysroot(tmp_path, "GLIBC_2.17")
    with (tmp_path / "old/libc.so.6").open("r+b") as file:
        file.seek(18)
        file.write((22).to_bytes(2, "little"))  # e_machine: s390x
    assert "GLIBC" not in torchlink("flags", "--libtorch", root, "--compiler", compiler).err


def test_a_compilers_own_older_libraries_count(
    old_sysroot: tuple[Path, str], torchlink: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, compiler = old_sysroot
    assert shortfall(choose(root), thorough=True) is None
    assert "warning" not in torchlink("flags", "--libtorch", root).err
    fact = (
        f"{root}/lib/libtorch_cpu.so needs GLIBC_2.28, and {compiler[6:]}/libc.so.6 has at most GLIBC_2.17."
    )
    done = torchlink("flags", "--libtorch", root, "--compiler", compiler)
    assert done.code == 0
    assert f"{fact} Nothing that c++ " in done.err
    assert "Name a compiler with a newer C library and libstdc++" in done.err
    refused = torchlink("verify", "--libtorch", root, "--compiler", compiler)
    assert refused.code == 2
    assert fact in refused.err
    monkeypatch.setenv("CXX", compiler)
    said = json.loads(torchlink("doctor", "--json", "--libtorch", root).out)
    fits = {fit["compiler"]: fit["ok"] for fit in said["fits"]}
    assert not fits.pop(compiler)
    assert all(fits.values())
    (problem,) = [each for each in said["problems"] if each["severity"] == "error"]
    assert fact in problem["what"]


def test_a_newer_library_next_to_libtorch_is_used_by_the_linker_too(
    tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    root = newer(tmp_path / "torch", "libstdc++.so.6", tmp_path / "workshop")
    source = f".data\n.globl {SHOW_CONFIG[1]}\n{SHOW_CONFIG[1]}: .quad of_the_future\n"
    link(root / "lib/libtorch_cpu.so", source, tmp_path / "workshop/libstdc++.so.6", "-Wl,-rpath,$ORIGIN")
    shutil.copy(tmp_path / "workshop/libstdc++.so.6", root / "lib")
    (tmp_path / "old").mkdir()
    build(tmp_path / "old/libstdc++.so.6", Library())
    done = torchlink("flags", "--libtorch", root, "--compiler", f"c++ -B{tmp_path}/old")
    assert "warning" not in done.err


def test_the_newest_torch_that_fits() -> None:
    def fitting(arch: str, **have: str) -> str | None:
        found = newest_fitting(arch, {family: numbers(version) for family, version in have.items()})
        return found and found.last

    assert fitting("x86_64", GLIBC="2.27", GLIBCXX="3.4.25", CXXABI="1.3.11") == "2.6.0"
    assert fitting("aarch64", GLIBC="2.27") == "2.5.1"
    assert fitting("x86_64", GLIBC="2.36") == "2.15.0"
    assert fitting("x86_64", GLIBC="2.28", GLIBCXX="3.4.21") == "2.6.0"
    assert fitting("x86_64", GLIBC="2.12") is None
    assert fitting("riscv64", GLIBC="2.36") is None


def test_the_table_agrees_with_what_was_read_from_the_wheels() -> None:
    read = json.loads(DISTRIBUTIONS.read_text())["distributions"]
    rows = list(wheels())
    checked = 0
    for name, facts in read.items():
        if not name.startswith("torch-") or facts["platform"] != "linux":
            continue
        release = numbers(facts["version"].partition("+")[0])
        row = next(row for row in rows if row.arch == facts["arch"] and release <= numbers(row.last))
        for library in ("libtorch_cpu", "libtorch_cuda"):
            for family in FAMILIES:
                version = facts.get(library, {}).get("verneed_max", {}).get(family)
                if version:
                    assert numbers(version.partition("_")[2]) <= row.needs[family], name
                    checked += 1
    assert checked > 40


def test_a_libtorch_that_cannot_be_read_is_reported_elsewhere(tmp_path: Path) -> None:
    root = make(tmp_path / "torch")
    libtorch = choose(root)
    (root / "lib/libtorch_cpu.so").write_bytes(b"no library")
    assert shortfall(libtorch) is None
    build(root / "lib/libtorch_cpu.so", Library())
    assert shortfall(libtorch, thorough=True) is None
