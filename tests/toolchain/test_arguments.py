"""A compiler's command line is read as the compiler itself reads it."""

from __future__ import annotations

import shlex
import subprocess
from typing import TYPE_CHECKING

import pytest

from torchlink.toolchain.arguments import expand, read_arguments

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("line", "compiles", "links"),
    [
        ("main.cpp", True, True),
        ("main.cpp -o app", True, True),
        ("-O2 -o app main.cpp util.o -lfoo", True, True),
        ("main.o util.a libx.so -o app", False, True),
        ("-shared -o libx.so x.cpp", True, True),
        ("-shared -o libx.so x.o", False, True),
        ("-o app -lfoo", False, True),
        ("-c main.cpp", True, False),
        ("-c main.cpp -o main.o -MD -MF main.d", True, False),
        ("-MD main.cpp -o app", True, True),
        ("-S main.cpp", True, False),
        ("-E main.cpp", True, False),
        ("-E -dM -x c++ /dev/null", True, False),
        ("-M main.cpp", True, False),
        ("-fsyntax-only main.cpp", True, False),
        ("-r a.o b.o -o c.o", False, False),
        ("main.hpp", True, False),
        ("-x c++-header main.txt -o main.gch", True, False),
        ("-xc++ main.txt -o app", True, True),
        ("-x c++ - -o app", True, True),
        ("-x c++ main.txt -x none util.o", True, True),
        ("-x assembler start.s main.o", False, True),
        ("--version", False, False),
        ("-v", False, False),
        ("-print-search-dirs", False, False),
        ("-dumpmachine", False, False),
        ("", False, False),
        ("-o main.cpp", False, False),
        ("-I main.cpp -isystem x.o -include config.h -D x.cpp -MF y.cpp", False, False),
        ("-Xlinker main.cpp -Xclang x.cpp -arch arm64", False, False),
        ("@no-such-file.cpp", True, True),
    ],
)
def test_what_a_command_line_does(line: str, compiles: bool, links: bool) -> None:
    step = read_arguments(shlex.split(line))
    assert (step.compiles, step.links) == (compiles, links)


@pytest.mark.parametrize(
    ("line", "standard"),
    [
        ("main.cpp", None),
        ("-std=c++20 main.cpp", 20),
        ("-std=gnu++2a main.cpp", 20),
        ("-std=c++1z -std=c++2b main.cpp", 23),
        ("-std=c++0x main.cpp", 11),
        ("-std=c++98 main.cpp", 3),
        ("--std=c++17 main.cpp", 17),
        ("-std=c11 main.c", None),
    ],
)
def test_the_last_standard_counts(line: str, standard: int | None) -> None:
    assert read_arguments(shlex.split(line)).standard == standard


def test_options_that_choose_another_target_are_found() -> None:
    step = read_arguments(["-stdlib=libc++", "-O2", "-m32", "-target", "aarch64-linux-gnu", "main.cpp"])
    assert step.target_options == ("-stdlib=libc++", "-m32", "-target", "aarch64-linux-gnu")


def test_response_files_are_read_through_to_the_last(tmp_path: Path) -> None:
    (tmp_path / "inner.rsp").write_text("-c")
    (tmp_path / "outer.rsp").write_text(f"'with space.cpp' \"other.o\"\n-std=c++17 @{tmp_path}/inner.rsp")
    step = read_arguments([f"@{tmp_path}/outer.rsp"])
    assert (step.compiles, step.links, step.standard) == (True, False, 17)


def test_response_files_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "loop.rsp").write_text(f"main.cpp @{tmp_path}/loop.rsp @{tmp_path}/loop.rsp")
    assert read_arguments([f"@{tmp_path}/loop.rsp"]).compiles


@pytest.mark.compile
@pytest.mark.parametrize(
    "text",
    ["a\\ b", "'a b'", '"a b"', "a' 'b", 'a"\\"b"', "'a\\'b'", "a\\\\b", "'x=\"y z\"' ", "a''b", '"\\a"'],
)
def test_response_files_are_split_as_the_compiler_splits_them(tmp_path: Path, text: str) -> None:
    (tmp_path / "w.rsp").write_text(f"-DWORD={text}")
    command = ["c++", "-dM", "-E", "-x", "c++", "/dev/null", f"@{tmp_path}/w.rsp"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    theirs = next(line for line in done.stdout.splitlines() if line.startswith("#define WORD "))
    assert list(expand([f"@{tmp_path}/w.rsp"])) == [f"-DWORD={theirs.removeprefix('#define WORD ')}"]
