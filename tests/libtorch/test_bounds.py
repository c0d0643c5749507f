"""Numbers, JSON and TOML of any size in files end in a value or an error, never in a traceback."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from torchlink.bounds import LARGEST, load_json, whole_number
from torchlink.errors import TorchlinkError, UsageError
from torchlink.libtorch.environment import environment_at
from torchlink.libtorch.places import of_environment
from torchlink.libtorch.torch_in import torch_in
from torchlink.libtorch.version import release
from torchlink.lint import baseline, config
from torchlink.lint.targets import parse_target
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
