"""What `torchlink lint` takes, and what it says of a file that it cannot check."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lint.builder import Builder

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Result

    Torchlink = Callable[..., Result]

pytestmark = pytest.mark.compile


def test_several_files_are_all_judged_though_one_cannot_be(torchlink: Torchlink, shop: Path) -> None:
    shown = torchlink("lint", "--json", shop / "lost", shop / "absent", shop / "sound")
    assert shown.code == 2
    files = json.loads(shown.out)["files"]
    assert [Path(file["path"]).name for file in files] == ["lost", "absent", "sound"]
    assert "No such file" in files[1]["not_checked"][0]


def test_a_directory_stands_for_all_programs_and_libraries_in_it(torchlink: Torchlink, shop: Path) -> None:
    shown = torchlink("lint", "--json", shop)
    names = [Path(file["path"]).name for file in json.loads(shown.out)["files"]]
    assert names == ["idle", "lost", "sound", "libidle.so", "libused.so"]


def test_debug_information_in_files_of_its_own_is_no_program(
    torchlink: Torchlink, shop: Path, tmp_path: Path
) -> None:
    shutil.copytree(shop, tmp_path / "dist")
    debug = tmp_path / "dist/sound.debug"
    subprocess.run(["objcopy", "--only-keep-debug", tmp_path / "dist/sound", debug], check=True, timeout=300)
    assert torchlink("lint", debug).code == 2
    shown = torchlink("lint", "--json", tmp_path / "dist")
    assert shown.code == 1
    assert "sound.debug" not in shown.out


def test_a_wheel_is_judged_under_its_own_name(torchlink: Torchlink, shop: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "mine-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(shop / "lost", "mine/bin/lost")
        archive.write(shop / "lib/libused.so", "mine/bin/lib/libused.so")
        archive.writestr("mine/__init__.py", "")
    shown = torchlink("lint", "--json", wheel)
    files = json.loads(shown.out)["files"]
    assert [file["path"] for file in files] == [f"{wheel}/mine/bin/lost", f"{wheel}/mine/bin/lib/libused.so"]
    assert shown.code == 1
    assert files[0]["closure"][1]["path"] == f"{wheel}/mine/bin/lib/libused.so"
    assert "torchlink-lint-" not in shown.out


def test_text_of_ldd_comes_through_a_pipe_or_a_file(shop: Path, tmp_path: Path, torchlink: Torchlink) -> None:
    for name, code in (("sound", 0), ("lost", 1)):
        text = subprocess.run(
            ["ldd", str(shop / name)], capture_output=True, text=True, check=True, timeout=300
        ).stdout
        piped = subprocess.run(
            [sys.executable, "-m", "torchlink", "lint", "-"],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert piped.returncode == code, piped.stdout + piped.stderr
        assert ("libgone.so" in piped.stdout) == bool(code)
        (tmp_path / "ldd.txt").write_text(text)
        assert torchlink("lint", "ldd.txt").code == code
    empty = subprocess.run(
        [sys.executable, "-m", "torchlink", "lint", "-"],
        input="",
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert empty.returncode == 2
    assert "2>&1 | torchlink lint -" in empty.stderr


def damaged(source: Path, target: Path, kind: str) -> Path:
    """A copy of a program with something wrong."""
    blob = bytearray(source.read_bytes())
    if kind == "empty":
        blob.clear()
    elif kind == "cut":
        del blob[200:]
    elif kind == "half":
        del blob[len(blob) // 2 :]
    elif kind == "many segments":
        blob[56:58] = b"\xfe\xff"
    elif kind == "text":
        blob[:] = b"#!/bin/sh\necho hello\n"
    target.write_bytes(blob)
    return target


@pytest.mark.parametrize("kind", ["empty", "cut", "half", "many segments", "text"])
def test_a_damaged_file_is_one_sentence(torchlink: Torchlink, shop: Path, tmp_path: Path, kind: str) -> None:
    shown = torchlink("lint", damaged(shop / "sound", tmp_path / "app", kind))
    assert (shown.code, shown.out) == (2, "")
    assert shown.err.startswith("torchlink: ")
    assert "bug in torchlink" not in shown.err
    assert len(shown.err.splitlines()) <= 2


def test_flipped_bits_never_end_in_a_fault(torchlink: Torchlink, shop: Path, tmp_path: Path) -> None:
    original = (shop / "sound").read_bytes()
    dice = random.Random(7)
    for _ in range(150):
        blob = bytearray(original)
        for _ in range(dice.choice((1, 4, 32))):
            place = dice.choice((dice.randrange(1024), dice.randrange(len(blob))))
            blob[place] ^= 1 << dice.randrange(8)
        (tmp_path / "app").write_bytes(blob)
        shown = torchlink("lint", tmp_path / "app")
        assert shown.code in {0, 1, 2}
        assert "bug in torchlink" not in shown.err, shown.err


@pytest.mark.parametrize("suffix", ["", ".whl", ".txt"])
def test_what_is_no_file_is_refused_without_waiting(
    torchlink: Torchlink, tmp_path: Path, suffix: str
) -> None:
    fifo = tmp_path / f"fifo{suffix}"
    os.mkfifo(fifo)
    shown = torchlink("lint", fifo)
    assert shown.code == 2
    assert "FIFO" in shown.err
    ring = tmp_path / f"ring{suffix}"
    ring.symlink_to(ring.name)
    assert torchlink("lint", ring).code == 2
    assert torchlink("lint", tmp_path / f"absent{suffix}").code == 2
    (tmp_path / "empty").mkdir()
    shown = torchlink("lint", tmp_path / "empty")
    assert shown.code == 2
    assert "holds no ELF" in shown.err
    (tmp_path / "bad.whl").write_bytes(b"PK\x03\x04 not really")
    assert "not a readable wheel" in torchlink("lint", tmp_path / "bad.whl").err


def test_an_object_file_is_refused_and_a_static_program_explained(
    torchlink: Torchlink, tmp_path: Path
) -> None:
    builder = Builder(tmp_path)
    shown = torchlink("lint", builder.build("a.o", "int a;", "-c"))
    assert shown.code == 2
    assert "object file" in shown.err
    shown = torchlink("lint", builder.build("static", "int main(void) { return 0; }", "-static"))
    assert shown.code == 0
    assert "statically linked" in shown.out


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_said(torchlink: Torchlink, shop: Path, tmp_path: Path) -> None:
    shutil.copy(shop / "sound", tmp_path / "app")
    (tmp_path / "app").chmod(0)
    shown = torchlink("lint", tmp_path / "app")
    assert shown.code == 2
    assert "Permission denied" in shown.err
