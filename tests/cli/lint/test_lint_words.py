"""The words of `torchlink lint` mean the same with typer, without it, and from Python."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from torchlink.cli.lint import Format, Threshold
from torchlink.cli.lint_run import FORMATS, OPTIONS, SEVERITIES, Wishes, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Result

    Torchlink = Callable[..., Result]

pytestmark = pytest.mark.compile


PLAIN = [
    ["app"],
    ["--json", "app", "other"],
    ["app", "--select", "a,b", "--select=c", "--fail-on", "note"],
    ["-v", "--tree", "--", "-odd-name"],
    ["--root=/image", "--env", "A=B", "--env", "C=D=E", "--html", "r.html", "-"],
    ["--target", "debian:12", "--allowed-rpath", "$ORIGIN", "--format", "sarif", "app"],
    ["--config", "c.toml", "--baseline", "b", "--write-baseline", "w", "--ignore", "x", "--verbose", "app"],
]


@pytest.mark.parametrize("words", PLAIN, ids=" ".join)
def test_plain_words_are_read_as_typer_reads_them(words: list[str]) -> None:
    import typer

    from torchlink.cli.lint import app

    context = typer.main.get_command(app).make_context("lint", list(words))
    quick = plain(words)
    assert quick is not None
    told = dict.fromkeys(Wishes._fields) | context.params
    assert {name: bare(value) for name, value in quick._asdict().items()} == {
        name: bare(value) for name, value in told.items()
    }


def bare(value: object) -> object:
    """An option's value without the types that differ between the two ways."""
    if isinstance(value, (list, tuple)):
        return [str(each) for each in value] or None
    value = getattr(value, "value", value)
    return str(value) if isinstance(value, Path) else value


@pytest.mark.parametrize(
    "words",
    [[], ["--help"], ["-h"], ["--frmat", "x", "a"], ["a", "--root"], ["--fail-on", "x", "a"], ["-vv", "a"]],
)
def test_what_is_not_plain_is_left_to_typer(words: list[str]) -> None:
    assert plain(words) is None


def test_both_ways_know_the_same_options() -> None:
    import typer

    from torchlink.cli.lint import app

    known = {
        name
        for parameter in typer.main.get_command(app).params
        for name in (*parameter.opts, *parameter.secondary_opts)
        if name.startswith("-")
    }
    assert known - {"--help", "-h"} == set(OPTIONS)
    assert tuple(each.value for each in Format) == FORMATS
    assert tuple(each.value for each in Threshold) == SEVERITIES


def test_linting_does_not_import_typer(shop: Path) -> None:
    script = (
        "import sys\nfrom torchlink.cli.main import main\n"
        "main(sys.argv[1:])\nprint([name for name in ('typer', 'dataclasses', 'tomllib') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "lint", str(shop / "sound")],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert done.stdout.endswith("[]\n")


def test_python_gets_the_same_report(shop: Path) -> None:
    import torchlink
    from torchlink.errors import FileError, UsageError
    from torchlink.lint.finding import Severity

    report = torchlink.lint([shop / "lost", str(shop / "idle")])
    assert report.fails(Severity.ERROR)
    assert [file.kind for file in report.files] == ["executable", "executable"]
    assert not torchlink.lint(shop / "lost", ignore=["library-*"]).fails(Severity.NOTE)
    assert torchlink.lint(str(shop / "sound"), target="glibc=2.2").fails(Severity.ERROR)
    with pytest.raises(UsageError):
        torchlink.lint(shop / "lost", select=["no-such-rule"])
    with pytest.raises(FileError):
        torchlink.lint(shop / "absent")
