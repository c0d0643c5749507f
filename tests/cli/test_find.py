"""`torchlink find` on the command line."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.libtorch.trees import Fake, make
from torchlink.shown import visible

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result

pytestmark = pytest.mark.compile
CONTRACT = {
    "root",
    "version",
    "cxx11_abi",
    "cxx_standard",
    "cxx_standard_required",
    "platform",
    "arch",
    "accelerator",
    "accelerator_version",
    "include_dirs",
    "library_dir",
    "libraries",
    "companion_dirs",
    "found_by",
}


def test_json_keeps_its_contract(torchlink: Callable[..., Result], tmp_path: Path) -> None:
    root = make(tmp_path / "torch")
    done = torchlink("find", "--libtorch", root, "--json")
    assert (done.code, done.err) == (0, "")
    report = json.loads(done.out)
    assert report["schema"] == 1
    assert set(report["libtorch"]) >= CONTRACT
    assert report["libtorch"]["root"] == str(root)
    assert report["libtorch"]["cxx11_abi"] == 1
    assert report["libtorch"]["companion_dirs"] == []
    assert report["libtorch"]["layout_intact"] is True
    candidate = report["candidates"][0]
    assert (candidate["path"], candidate["found_by"], candidate["rejected"]) == (
        str(root),
        "--libtorch",
        None,
    )


def test_text_has_every_fact(torchlink: Callable[..., Result], tmp_path: Path) -> None:
    fake = replace(Fake(), version="2.12.0", needed=(("torch_cpu", ("libcudnn_nowhere.so.9",)),))
    done = torchlink("find", "--libtorch", make(tmp_path / "torch", fake))
    assert done.code == 0
    lines = {line[:15].strip(): line[16:] for line in done.out.splitlines()}
    assert lines["found by"] == "--libtorch"
    assert lines["C++ ABI"] == "1  (libc10.so)"
    assert lines["C++ standard"].startswith("needs C++17, prefers C++20  (the check in ATen/ATen.h;")
    assert lines["accelerator"] == "CPU only"
    assert lines["search path"] == "RUNPATH $ORIGIN"
    assert lines["missing"] == "libcudnn_nowhere.so.9, needed by libtorch_cpu.so"
    assert "to install what is missing: pip cannot fix" in done.out
    assert lines["contradictions"].startswith("version.py says version 2.12.0")


@pytest.mark.parametrize("option", ["-v", "--verbose"])
def test_verbose_names_the_symbol(torchlink: Callable[..., Result], tmp_path: Path, option: str) -> None:
    done = torchlink("find", option, "--libtorch", make(tmp_path / "torch"))
    assert "1  (libc10.so defines _ZN3c10" in done.out


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", "2.13.0+cpu\n"),
        ("cxx11_abi", "1\n"),
        ("layout_intact", "true\n"),
        ("accelerator_version", "\n"),
        ("missing_libraries", ""),
        ("companion_dirs", ""),
        ("libraries", "libc10.so\nlibshm.so\nlibtorch.so\nlibtorch_cpu.so\nlibtorch_python.so\n"),
    ],
)
def test_print_gives_one_value(
    torchlink: Callable[..., Result], tmp_path: Path, field: str, value: str
) -> None:
    done = torchlink("find", "--libtorch", make(tmp_path / "torch"), "--print", field)
    assert (done.code, done.out, done.err) == (0, value, "")


def test_an_unknown_field_lists_the_known_ones(torchlink: Callable[..., Result], tmp_path: Path) -> None:
    done = torchlink("find", "--libtorch", make(tmp_path / "torch"), "--print", "abi")
    assert (done.code, done.out) == (2, "")
    assert "cxx11_abi" in done.err


def test_all_lists_the_rejected_ones_with_their_reason(
    torchlink: Callable[..., Result], tmp_path: Path
) -> None:
    root = make(tmp_path / "torch")
    done = torchlink("find", "--all", "--libtorch", tmp_path / "gone", "--libtorch", root)
    assert done.code == 0
    assert f"1. {tmp_path / 'gone'}  (--libtorch)\n     rejected: no such file or directory" in done.out
    assert f"2. {root}  (--libtorch)\n     used: 2.13.0+cpu" in done.out


def test_many_at_once_as_json(torchlink: Callable[..., Result], tmp_path: Path) -> None:
    one, two = make(tmp_path / "one"), make(tmp_path / "two", replace(Fake(), abi=0))
    done = torchlink("find", "--all", "--libtorch", one, "--libtorch", two, "--json")
    report = json.loads(done.out)
    assert [each["libtorch"]["cxx11_abi"] for each in report["candidates"]] == [1, 0]
    assert report["libtorch"]["root"] == str(one)


def test_nothing_usable_is_an_error(torchlink: Callable[..., Result], tmp_path: Path) -> None:
    done = torchlink("find", "--libtorch", tmp_path / "gone")
    assert (done.code, done.out) == (2, "")
    assert "no such file or directory" in done.err
    done = torchlink("find", "--libtorch", tmp_path / "gone", "--json")
    error = json.loads(done.out)["error"]
    assert (done.code, error["code"]) == (2, "libtorch-unusable")
    done = torchlink("find", "--all", "--libtorch", tmp_path / "gone", "--json")
    report = json.loads(done.out)
    assert (done.code, report["libtorch"], report["error"]["code"]) == (2, None, "libtorch-unusable")
    assert report["candidates"][0]["rejected"] == "no such file or directory"


@pytest.mark.parametrize(
    "words",
    [
        ("--json", "--print", "root"),
        ("--libtorch", "a", "--libtorch", "b"),
        ("--libtorch", "a", "--python", "python3"),
    ],
)
def test_options_that_exclude_one_another_are_refused(
    torchlink: Callable[..., Result], words: tuple[str, ...]
) -> None:
    assert torchlink("find", *words).code == 2


def on_terminal(*arguments: str | Path) -> bytes:
    """Return what a command writes to a terminal."""
    leader, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "torchlink", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=subprocess.DEVNULL,
    )
    os.close(terminal)
    written = b""
    with contextlib.suppress(OSError):  # how a terminal ends whose other side is closed
        while piece := os.read(leader, 1 << 16):
            written += piece
    os.close(leader)
    assert process.wait(120) == 0
    return written


def test_a_value_is_bytes_for_programs_and_one_escaped_line_on_a_terminal(tmp_path: Path) -> None:
    root = make(tmp_path / "a\x1b]0;pwned\x07\n::error::b")
    words = ("find", "--libtorch", root, "--print", "root")
    piped = subprocess.run(
        [sys.executable, "-m", "torchlink", *map(str, words)], capture_output=True, check=True, timeout=120
    )
    assert piped.stdout == os.fsencode(root) + b"\n"
    shown = on_terminal(*words)
    assert shown == os.fsencode(visible(str(root))) + b"\r\n"
    root = make(tmp_path / "a\x1b]0;pwned\x07b")
    for command in (("flags",), ("flags", "--json"), ("find", "--json")):
        shown = on_terminal(*command, "--libtorch", root)
        assert not {b"\x1b", b"\x07"} & {shown[number : number + 1] for number in range(len(shown))}
