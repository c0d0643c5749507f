"""Names and contents of untrusted files reach terminals and logs only as text."""

from __future__ import annotations

import json
import os
import re
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import torchlink as package
from tests.fake_libtorch import fake_libtorch
from tests.libtorch.trees import Fake, make
from torchlink.cli.output import safe
from torchlink.errors import ModelError
from torchlink.extract.extraction import CompanionLibraries, ExtractReport
from torchlink.matrix.cells import Cell, Column, MatrixReport, Row
from torchlink.report import extract as extract_report
from torchlink.report import matrix as matrix_report
from torchlink.report import verify as verify_report
from torchlink.report.plain import RED, paint
from torchlink.shown import quoted, visible
from torchlink.verify.outputs import Output
from torchlink.verify.result import ModelResult, TakenInput, VerifyReport

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Result

# A title for the terminal, a bell, a colour, C1's CSI, a right-to-left override, a line separator, a byte that is not
# UTF-8, and commands of GitHub's and Azure's logs on lines of their own.
HOSTILE = "x\x1b]0;T\x07\x1b[8m\x9b31m\u202e\u2028\r\n::error::pwned\n  ::add-mask::x\n##[error]pwned\n##vso[x]y\udcff"
NAME = HOSTILE.replace("/", "_")


def harmless(text: str) -> None:
    """Assert that there are only printable characters, and no line that a CI log takes for a command."""
    assert all(char.isprintable() or char == "\n" for char in text), repr(text)
    for line in text.split("\n"):
        assert not line.lstrip().startswith("::"), line
        assert "##[" not in line, line
        assert "##vso" not in line, line


def looked(result: Result) -> None:
    """Assert that the command printed something, and nothing dangerous."""
    assert result.out + result.err
    assert "Traceback" not in result.err
    assert "bug in torchlink" not in result.err
    harmless(result.out)
    harmless(result.err)


@pytest.mark.parametrize(
    "command",
    [
        ("lint", NAME),
        ("lint", "--tree", NAME),
        ("verify", NAME),
        ("verify", "--input", HOSTILE),
        ("verify", "--expect", NAME),
        ("verify", "--via", HOSTILE),
        ("find", "--libtorch", NAME),
        ("find", "--libtorch", NAME, "--all"),
        ("find", "--python", NAME),
        ("find", "--print", HOSTILE),
        ("flags", "--libtorch", NAME),
        ("flags", HOSTILE),
        ("extract", NAME, NAME),
        ("bundle", NAME, NAME),
        ("matrix", "--libtorch", NAME),
        ("matrix", "--libtorch", NAME, "--github"),
        ("run", "--libtorch", NAME, "true"),
        ("cmake", "prefix", "-o", NAME, "--libtorch", NAME),
        ("cmake", HOSTILE),
        ("nim", "init", NAME, "--libtorch", NAME),
        ("c++", "--libtorch", NAME, "x.cpp"),
        (HOSTILE,),
        (f"--{HOSTILE}",),
    ],
)
def test_what_is_missing_is_named_safely(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    torchlink: Callable[..., Result],
    command: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    done = torchlink(*command)
    assert done.code == 2
    looked(done)


@pytest.mark.parametrize("command", ["lint", "verify", "find", "extract"])
def test_names_and_contents_of_files_are_printed_safely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torchlink: Callable[..., Result], command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    file = Path(NAME.replace("\udcff", ""))
    with zipfile.ZipFile(file, "w") as archive:
        for member in ("constants.pkl", "data.pkl", "code/x.py", "version"):
            archive.writestr(f"{file.name}/{member}", HOSTILE.encode("utf-8", "surrogateescape"))
    words = {
        "lint": (file,),
        "verify": (file,),
        "find": ("--all", "--libtorch", file),
        "extract": (file, "out"),
    }
    looked(torchlink(command, *words[command]))


@pytest.mark.compile
def test_texts_of_a_libtorch_are_printed_safely(tmp_path: Path, torchlink: Callable[..., Result]) -> None:
    inner = HOSTILE.replace("\udcff", "").replace("\n", "")
    fake = replace(Fake(), search_path=f"$ORIGIN/{inner}", needed=(("torch_cpu", (f"lib{inner}.so.1",)),))
    root = make(tmp_path / "a\x1b[31m\n::error::x", fake)
    (root / "build-version").write_text("2.13.0" + HOSTILE.replace("\udcff", ""))
    (root / "version.py").write_text("__version__ = '2.13.0\x1b[31m\x07'\ncuda = '13\x1b]0;x\x07'\n")
    commands: tuple[tuple[str, ...], ...] = (
        ("find",),
        ("find", "--all"),
        ("doctor",),
        ("doctor", "--script"),
        ("cmake", "dir"),
        ("matrix", "--github"),
    )
    for command in commands:
        words = () if command[0] == "doctor" else ("--libtorch", root)
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("TORCHLINK_LIBTORCH", str(root)) if command[0] == "doctor" else None
            looked(torchlink(*command, *words))
    for target in ("--cxx", "--nim", "--pkg-config", "--json"):
        harmless(torchlink("flags", target, "--libtorch", root).err)


def test_reports_keep_what_is_outside_on_its_line(tmp_path: Path) -> None:
    libtorch = fake_libtorch(
        tmp_path,
        version=HOSTILE,
        found_by=HOSTILE,
        conflicts=(HOSTILE,),
        cxx11_abi_from=HOSTILE,
        arch=HOSTILE,
    )
    result = ModelResult(
        path=HOSTILE,
        kind="torchscript",
        device=HOSTILE,
        error=ModelError(HOSTILE, HOSTILE, (HOSTILE,)),
        inputs=(TakenInput(HOSTILE, HOSTILE, HOSTILE),),
        outputs=(
            Output(HOSTILE, (), "tensor", dtype=HOSTILE, shape=(1,), device=HOSTILE, note=HOSTILE),
            Output(HOSTILE, (), HOSTILE, HOSTILE),
        ),
        load_ms=1.0,
        printed=HOSTILE,
    )
    verified = VerifyReport(libtorch, None, "cxx", (result,))
    harmless(safe(verify_report.to_text(verified)))
    row, column = Row(HOSTILE, libtorch, None), Column(HOSTILE, "cxx", HOSTILE)
    matrix = MatrixReport(
        HOSTILE, "cpu", (row,), (column,), (Cell(row, column, result.error, verified, 1.0),)
    )
    harmless(safe(matrix_report.to_text(matrix)))
    harmless(safe(matrix_report.to_markdown(matrix)))
    wheel = Path(NAME)
    taken = (CompanionLibraries(wheel, (HOSTILE,)),)
    report = ExtractReport(libtorch, wheel, 1, 1, (HOSTILE,), taken, (wheel,), (HOSTILE,))
    harmless(safe(extract_report.to_text(report)))
    tame = fake_libtorch(tmp_path, conflicts=("x",))
    calm = replace(
        report, libtorch=tame, wheel=Path("x"), companions=(CompanionLibraries(Path("x"), ("x",)),)
    )
    lines = extract_report.to_text(report).splitlines()
    assert len(lines) == len(extract_report.to_text(calm).splitlines())


def test_what_is_printed_passes_one_place() -> None:
    rooms = Path(package.__file__).parent
    printing = re.compile(r"(?<![\w.])print\(|typer\.s?echo\(|std(?:out|err)\.(?:buffer\.)?write\(")
    allowed = {
        "output.py",
        "interpreter.py",
        "paths.py",
    }  # a child's program; paths: one note, escaped
    programs = {"toolchain/python.py", "toolchain/embedding.py"}  # the text of a child's, too
    found = [
        str(file.relative_to(rooms))
        for file in rooms.rglob("*.py")
        if file.name not in allowed and "_data" not in file.parts and printing.search(file.read_text("utf-8"))
    ]
    assert set(found) == programs


def test_the_last_place_escapes_what_a_report_forgot_and_lets_our_colours_through() -> None:
    harmless(safe(HOSTILE))
    assert safe("Grüße → 日本語\n  a\tb") == "Grüße → 日本語\n  a\tb"
    assert safe("at::Tensor, c10::Error") == "at::Tensor, c10::Error"
    assert safe(paint("no", RED, color=True)) == r"\x1b[31mno\x1b[0m"
    assert safe(paint("no", RED, color=True), color=True) == "\x1b[31mno\x1b[0m"
    assert safe("\x1b[8mhidden", color=True) == r"\x1b[8mhidden"


@pytest.mark.parametrize(
    "command", [("find", "--json"), ("flags", "--json"), ("lint", "--json", "--libtorch")]
)
def test_json_in_a_log_contains_no_command_and_means_the_same(
    tmp_path: Path, torchlink: Callable[..., Result], command: tuple[str, ...]
) -> None:
    root = make(tmp_path / "##[add-mask]x ##vso[task]y")
    words = (*command, root, root / "lib") if command[0] == "lint" else (*command, "--libtorch", root)
    done = torchlink(*words)
    assert not re.search(r"##(\[|vso)", done.out)
    assert str(root) in str(json.loads(done.out))


def test_the_files_of_a_new_project_are_listed_safely(
    tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    root = make(tmp_path / "torch")
    harmless(torchlink("nim", "init", tmp_path / NAME, "--libtorch", root).out)


@pytest.mark.parametrize("name", ["d\udcff", "a'\\\u202eb c", "d\n", "plain", "two words", "é"])
def test_a_word_quoted_for_people_is_the_same_word_for_bash(name: str) -> None:
    shown = visible(quoted(name))
    assert shown.isprintable()
    done = subprocess.run(["bash", "-c", f"printf %s {shown}"], capture_output=True, check=True, timeout=60)
    assert done.stdout == os.fsencode(name)


def test_the_next_command_names_a_directory_whose_name_is_not_text(
    torchlink: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torch_root: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = torchlink("nim", "init", "d\udcff", "--libtorch", torch_root)
    assert (shown.code, "cd $'d\\xff' &&" in shown.err) == (0, True)
