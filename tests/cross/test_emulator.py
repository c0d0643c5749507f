"""Programs for another machine run in QEMU, with the sysroot of their compiler; what is missing is named."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cross.conftest import CROSS, MISSING, OTHER, QEMU, SYSROOT, cross
from torchlink.binary.platforms import PLATFORMS
from torchlink.errors import ToolMissingError
from torchlink.libtorch.choose import choose
from torchlink.toolchain.compiler import find_compiler
from torchlink.toolchain.emulator import emulator_for
from torchlink.verify.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Result

SERVES = """
#include <cstdio>
#include <string>
int c10_value();
int main() {
  char line[64];
  if (std::fgets(line, sizeof line, stdin)) std::printf("{\\"event\\": \\"said\\", \\"value\\": %d}\\n", c10_value());
}
"""


def test_a_program_runs_in_the_emulator(foreign: Path, tmp_path: Path) -> None:
    emulator = emulator_for(choose(foreign), find_compiler(CROSS))
    assert emulator is not None
    assert (emulator.program.name, emulator.machine, emulator.sysroot) == (QEMU, OTHER, SYSROOT)
    program = cross(tmp_path / "loader", SERVES, f"-L{foreign}/lib", "-lc10", f"-Wl,-rpath,{foreign}/lib")
    with Session(program, (), emulator.command) as session:
        assert session.ask("anything") == {"event": "said", "value": 1}
        session.finish()


def test_the_compiler_finds_what_the_sysroot_lacks(lacking: tuple[Path, Path]) -> None:
    root, elsewhere = lacking
    emulator = emulator_for(choose(root), find_compiler(f"{CROSS} -B{elsewhere}"))
    assert emulator is not None
    assert emulator.library_dirs == (str(elsewhere),)
    assert f"LD_LIBRARY_PATH={elsewhere}" in emulator.command


def test_a_system_that_the_user_names(
    lacking: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, elsewhere = lacking
    system = tmp_path / "system"
    system.mkdir()
    for file in (*(SYSROOT / "lib").iterdir(), elsewhere / MISSING):
        (system / "lib").mkdir(exist_ok=True)
        (system / "lib" / file.name).symlink_to(file)
    monkeypatch.setenv("QEMU_LD_PREFIX", str(system))
    emulator = emulator_for(choose(root), find_compiler(CROSS))
    assert emulator is not None
    assert (emulator.sysroot, emulator.library_dirs) == (system, ())


def test_what_is_missing_is_named_before_anything_is_compiled(
    lacking: tuple[Path, Path], torchlink: Callable[..., Result]
) -> None:
    done = torchlink("verify", "--libtorch", lacking[0])
    assert done.code == 2
    assert f"needs {MISSING} for {OTHER}, neither in {SYSROOT}" in done.err
    assert "building" not in done.err
    problem = torchlink("doctor", "--libtorch", lacking[0])
    assert f"warning: The libtorch of {lacking[0]} needs {MISSING}" in problem.out


def test_a_named_system_without_a_loader(
    foreign: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("QEMU_LD_PREFIX", str(tmp_path))
    if any(Path(loader).exists() for loader in PLATFORMS[OTHER].loaders):
        pytest.skip("the other machine's libraries are installed beside this machine's own")
    with pytest.raises(ToolMissingError, match=f"QEMU_LD_PREFIX is {tmp_path}, which does not contain /lib"):
        emulator_for(choose(foreign), find_compiler(CROSS))


def test_without_qemu_one_sentence_says_what_to_install(
    foreign: Path, torchlink: Callable[..., Result], only: Callable[..., None]
) -> None:
    only(CROSS)
    done = torchlink("verify", "--libtorch", foreign)
    assert done.code == 2
    assert (
        f"neither qemu-{OTHER} nor qemu-{OTHER}-static, which would run its programs, is on PATH" in done.err
    )
    assert "apt install qemu-user" in done.err
    assert (
        torchlink("flags", "--libtorch", foreign)
        .err.rstrip()
        .endswith("the program does not run here by itself.")
    )
