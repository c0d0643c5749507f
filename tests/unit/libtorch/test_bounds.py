"""Numbers, JSON and TOML of any size in files give a value or an error, never a traceback."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from torchlink.bounds import LARGEST, holds, load_json, read_whole, whole_number
from torchlink.errors import FileError, TorchlinkError, UsageError, WouldOverwriteError
from torchlink.libtorch.environment import environment_at
from torchlink.libtorch.packages import torch_in
from torchlink.libtorch.places import of_environment
from torchlink.libtorch.version import release
from torchlink.lint.policy import baseline, config
from torchlink.lint.targets import parse_target
from torchlink.projects.writing import write_project
from torchlink.toolchain.arguments import expand
from torchlink.verify.schema_types import OTHER, parse_type

DIGITS = "9" * 6000


def test_a_number_of_any_length_has_a_value() -> None:
    assert whole_number("12") == 12
    assert whole_number(DIGITS) == LARGEST
    assert whole_number("²") == 0
    assert release(f"2.{DIGITS}") == (2, LARGEST, 0)


@pytest.mark.parametrize("target", [f"glibc=2.{DIGITS}", f"manylinux_2_{DIGITS}_x86_64", f"debian:{DIGITS}"])
def test_a_target_of_any_number_is_a_value_or_an_error(target: str) -> None:
    with contextlib.suppress(TorchlinkError):
        parse_target(target)


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000, DIGITS, " " * (9 << 20)])
def test_hostile_json_is_a_value_error(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each has its own sentence
        load_json(text)
    with pytest.raises(TorchlinkError):
        baseline.parse(text, "baseline.json")
    info = tmp_path / "torch-2.0.dist-info"
    info.mkdir()
    (info / "direct_url.json").write_text(text)
    assert list(torch_in(tmp_path)) == []


def test_the_record_of_an_editable_install_that_is_too_large_is_the_reason_for_finding_nothing(
    tmp_path: Path,
) -> None:
    site = tmp_path / "venv/lib/python3.11/site-packages"
    (site / "torch-2.0.dist-info").mkdir(parents=True)
    (tmp_path / "venv/pyvenv.cfg").touch()
    (site / "torch-2.0.dist-info/direct_url.json").write_text(" " * (9 << 20))
    (place,) = of_environment(environment_at(tmp_path / "venv"), "--python", "python")
    assert place.absent is not None
    assert place.absent.endswith("direct_url.json is larger than 8 MB and is not read")


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 5_000 + "]" * 5_000,
        "a = " + "{a=" * 5_000 + "1" + "}" * 5_000,
        "a." * 200_000 + "a = 1",
        '"a" . ' * 100_000 + "a = 1",
        "[" + "a." * 200_000 + "a]",
        "a = {" + "a." * 200_000 + "a = 1}",
        f"a = {DIGITS}",
        "a = '" + "b" * (2 << 20) + "'",
    ],
)
def test_hostile_toml_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        config.parse(text, Path("torchlink.toml"))


def test_a_deep_type_is_one_that_no_input_can_be_written_for() -> None:
    assert parse_type("List[" * 900 + "int" + "]" * 900) == OTHER
    assert parse_type("Tuple[" + "int, " * 500_000 + "int]") == OTHER


def test_what_is_read_as_a_whole_is_a_regular_file_of_a_bounded_size(tmp_path: Path) -> None:
    file, large, fifo = tmp_path / "file", tmp_path / "large", tmp_path / "fifo"
    file.write_bytes(b"text")
    with large.open("wb") as stream:
        stream.truncate(1 << 40)
    os.mkfifo(fifo)
    assert read_whole(file) == b"text"
    assert holds(file, b"text")
    assert not any(holds(path, b"\0\0") for path in (file, large, fifo))
    with pytest.raises(FileError, match="large: larger than 2 MB"):
        read_whole(large, 2 << 20)
    for path, kind in (
        (fifo, "a FIFO"),
        (tmp_path, "a directory"),
        (Path("/dev/zero"), "a character device"),
    ):
        with pytest.raises(FileError, match=rf"not a regular file \(it is {kind}\)"):
            read_whole(path)


def test_a_comparison_reads_no_more_than_its_own_text(tmp_path: Path) -> None:
    (tmp_path / "main.cpp").touch()
    os.truncate(tmp_path / "main.cpp", 1 << 40)
    with pytest.raises(WouldOverwriteError):
        write_project({"main.cpp": "int main() {}\n"}, tmp_path)


@pytest.mark.parametrize("name", ["torchlink.toml", "pyproject.toml"])
def test_a_settings_file_that_is_too_large_is_one_error(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    os.truncate(tmp_path / name, 1 << 40)
    with pytest.raises(FileError, match="larger than 1 MB"):
        config.load(tmp_path)


def test_pythons_messages_stay_out_of_errors(tmp_path: Path) -> None:
    (tmp_path / "torchlink.toml").write_text(f"a = {DIGITS}\n")
    with pytest.raises(UsageError, match=r"a number in it is too long\.$"):
        config.load(tmp_path)
    with pytest.raises(ValueError, match="too long"):
        load_json(DIGITS)


def test_a_baseline_is_a_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", Path("/dev/zero")):
        with pytest.raises(FileError, match="not a regular file"):
            baseline.read(path)
    with pytest.raises(FileError, match="not a regular file"):
        baseline.write(tmp_path / "fifo", ())
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 1 << 40)
    with pytest.raises(WouldOverwriteError, match="is not a baseline"):
        baseline.write(tmp_path / "large", ())


def test_response_files_are_read_up_to_a_size(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 1 << 40)
    (tmp_path / "many").write_text(f"@{tmp_path}/some " * 20)
    (tmp_path / "some").write_text("-c " * (1 << 18))
    for name in ("fifo", "large"):
        assert list(expand([f"@{tmp_path}/{name}", "-c"])) == [f"@{tmp_path}/{name}", "-c"]
    assert f"@{tmp_path}/some" in list(expand([f"@{tmp_path}/many"]))
    for number in range(200):
        (tmp_path / str(number)).write_text(f"@{tmp_path}/{number + 1}")
    assert list(expand([f"@{tmp_path}/0"])) == [f"@{tmp_path}/100"]
