"""`torchlink capi --aoti-only`: built and used where there is no C++ compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

from tests.capi.test_capi import HERE, MAIN, ROOT, exported_and_declared, flags, models
from tests.conftest import needed, program, run_clean

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result

needed("torch")
from tests.verify.compiled_models import (  # noqa: E402 - needs torch
    changed,
    entry,
    with_library,
    with_metadata,
)

__all__ = ["models"]  # a fixture
pytestmark = pytest.mark.compile
CHECKS = (
    "values",
    "dtypes",
    "strides",
    "borrowed",
    "shapes",
    "null",
    "nested",
    "messages",
    "packages",
    "packages_only",
    "flipped",
)


@pytest.fixture(scope="session")
def path_without_cxx(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH with a C compiler and nothing else that compiles."""
    directory = tmp_path_factory.mktemp("bin")
    for tool in ("cc", "as", "ld", "ar", "sh", "pkg-config"):
        (directory / tool).symlink_to(program(tool))
    return str(directory)


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory, path_without_cxx: str) -> Path:
    """The wrapper of the kind `python`, over the library in C."""
    directory = tmp_path_factory.mktemp("in C")
    shutil.copy(ROOT / "examples" / "python" / "torchmodel.py", directory)
    command = [
        sys.executable,
        "-m",
        "torchlink",
        "capi",
        str(directory / ".torchlink" / "capi"),
        "--aoti-only",
    ]
    environment = {**os.environ, "PATH": path_without_cxx, "TORCHLINK_CACHE_DIR": str(directory / "cache")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "compiling" in done.stderr
    return directory


def check(project: Path, models: Path, name: str, temporary: Path) -> None:
    command = [
        sys.executable,
        str(HERE / "through_ctypes.py"),
        str(project / "torchmodel.py"),
        str(models),
        name,
    ]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=280)
    assert (done.returncode, done.stdout) == (0, "checked\n"), done.stderr
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("name", CHECKS)
def test_through_ctypes(project: Path, models: Path, tmp_path: Path, name: str) -> None:
    check(project, models, name, tmp_path)


def test_a_program_is_built_and_runs_without_a_cxx_compiler(
    project: Path, models: Path, tmp_path: Path, path_without_cxx: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", path_without_cxx)
    assert shutil.which("c++") is shutil.which("g++") is shutil.which("clang++") is None
    capi = project / ".torchlink" / "capi"
    (tmp_path / "main.c").write_text(MAIN)
    command = ["cc", str(tmp_path / "main.c"), "-o", str(tmp_path / "program"), *flags(capi)]
    subprocess.run(command, check=True, timeout=120)
    done = run_clean(tmp_path / "program", models / "layer.pt2")
    assert (done.returncode, done.stdout[:2]) == (0, "2 "), done.stderr
    failed = run_clean(tmp_path / "program", ROOT / "templates" / "loader" / "tiny.pt")
    assert (failed.returncode, "TorchScript" in failed.stderr) == (1, True), failed.stderr


def test_the_same_functions_are_exported(project: Path) -> None:
    exported, declared = exported_and_declared(project / ".torchlink" / "capi")
    assert exported == declared


def test_the_source_compiles_without_warnings(project: Path, tmp_path: Path, torch_root: Path) -> None:
    """For those who compile it themselves."""
    source = project / ".torchlink" / "capi" / "torchmodel.c"
    warnings = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror")
    command = [program("cc"), *warnings, "-c", str(source), "-o", str(tmp_path / "object.o")]
    subprocess.run(command, check=True, timeout=120)


def test_packages_that_were_changed(project: Path, models: Path, tmp_path: Path) -> None:
    """What does not fit is an error before the library is opened; damaged and hostile archives are refused."""
    layer, made = models / "layer.pt2", tmp_path / "models" / "changed"
    made.mkdir(parents=True)
    (tmp_path / "temporary").mkdir()
    changed(layer, made / "6-riscv64.pt2", with_metadata(AOTI_MACHINE="riscv64"))
    changed(layer, made / "6-for the device cuda.pt2", with_metadata(AOTI_DEVICE_KEY="cuda"))
    other = "SVE" if os.uname().machine == "x86_64" else "AVX2"
    changed(layer, made / f"6-a processor with {other}.pt2", with_metadata(AOTI_CPU_ISA=f"NONE {other}"))
    changed(layer, made / "2-no ELF file.pt2", with_library(b"nothing"))

    def renamed(entries: dict[str, bytes]) -> None:
        name = entry(entries, ".wrapper.so")
        entries[name] = entries[name].replace(
            b"\0aoti_torch_empty_strided\0", b"\0aoti_torch_empty_stridez\0"
        )

    changed(layer, made / "6-it needs aoti_torch_empty_stridez.pt2", renamed)

    def climbing(entries: dict[str, bytes]) -> None:
        entries["data/aotinductor/model/../../../climbed.so"] = b"x"

    changed(layer, made / "2-a name in it is not valid.pt2", climbing)
    for path, name, method in (
        (layer, "0-deflated", zipfile.ZIP_DEFLATED),
        (layer, "0-stored", zipfile.ZIP_STORED),
    ):
        with zipfile.ZipFile(path) as archive, zipfile.ZipFile(made / f"{name}.pt2", "w", method) as target:
            for info in archive.infolist():
                target.writestr(info.filename, archive.read(info))
    whole = layer.read_bytes()
    (made / "2-not a zip archive.pt2").write_bytes(whole[:-100])
    middle = whole.index(b"\x7fELF") + 5000
    (made / "2-the checksum of an entry is wrong.pt2").write_bytes(
        whole[:middle] + b"?!" + whole[middle + 2 :]
    )

    def bomb(entries: dict[str, bytes]) -> None:
        entries["data/aotinductor/model/zeros.so"] = bytes(200 << 20)

    changed(layer, made / "2-it unpacks to too much.pt2", bomb)
    check(project, tmp_path / "models", "changed", tmp_path / "temporary")
    assert not list(tmp_path.rglob("climbed.so"))


def test_what_it_cannot_do_is_said(torchlink: Callable[..., Result], tmp_path: Path) -> None:
    refused = torchlink("capi", tmp_path / "out", "--aoti-only", "--rpath", "origin=.")
    assert (refused.code, "--aoti-only" in refused.err) == (2, True), refused.err
    missing = torchlink("capi", tmp_path / "out", "--aoti-only", "--compiler", "no-such-cc")
    assert (missing.code, "no-such-cc" in missing.err) == (2, True), missing.err
    assert not (tmp_path / "out").exists()


def test_static(torchlink: Callable[..., Result], models: Path, tmp_path: Path) -> None:
    made = torchlink("capi", tmp_path / "static", "--aoti-only", "--static")
    assert made.code == 0, made.err
    (tmp_path / "main.c").write_text(MAIN)
    command = [program("cc"), str(tmp_path / "main.c"), "-o", str(tmp_path / "program")]
    subprocess.run([*command, *flags(tmp_path / "static")], check=True, timeout=120)
    done = run_clean(tmp_path / "program", models / "layer.pt2")
    assert (done.returncode, done.stdout[:2]) == (0, "2 "), done.stderr
