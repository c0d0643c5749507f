"""Command lines that are empty, misspelt or ask for help: what a new user types first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from torchlink import __version__
from torchlink.cli.commands import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result


@pytest.mark.parametrize("group", ["cmake", "cache", "nim"])
def test_a_group_without_a_command_prints_its_help(torchlink: Callable[..., Result], group: str) -> None:
    alone = torchlink(group)
    assert (alone.code, alone.err) == (0, "")
    assert alone.out == torchlink(group, "--help").out


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("fnid",), "find"),
        (("ver",), "verify"),
        (("--versoin",), "--version"),
        (("cache", "clera"), "clear"),
        (("find", "--al"), "--all"),
        (("cmake", "init", "--nam", "x"), "--name"),
        (("help", "dotcor"), "doctor"),
    ],
)
def test_what_was_likely_meant_is_in_the_hint(
    torchlink: Callable[..., Result], words: tuple[str, ...], meant: str
) -> None:
    shown = torchlink(*words)
    assert (shown.code, shown.out) == (2, "")
    message, hint = shown.err.splitlines()
    assert "ossible" not in message
    assert f"Did you mean {meant}?" in hint
    assert "--help'" in hint


def test_an_option_before_its_command_is_shown_its_place(torchlink: Callable[..., Result]) -> None:
    shown = torchlink("--libtorch", "x", "flags")
    assert shown.code == 2
    assert "Put it after a command that has it: find, flags," in shown.err


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_the_version_has_a_short_option(torchlink: Callable[..., Result], option: str) -> None:
    assert torchlink(option).out == f"torchlink {__version__}\n"


@pytest.mark.parametrize(
    "words", [(), *((name,) for name in COMMANDS), ("cmake", "init"), ("cache", "clear")]
)
def test_help_as_a_command_prints_what_the_option_prints(
    torchlink: Callable[..., Result], words: tuple[str, ...]
) -> None:
    asked = torchlink("help", *words)
    assert (asked.code, asked.err) == (0, "")
    assert asked.out == torchlink(*words, "--help").out


@pytest.mark.parametrize("words", [("c++", "main.cpp"), ("run", "true"), ("find", "x")])
def test_help_runs_nothing(torchlink: Callable[..., Result], words: tuple[str, ...]) -> None:
    shown = torchlink("help", *words)
    assert (shown.code, shown.out) == (2, "")
    assert f"has no command '{words[1]}'" in shown.err


@pytest.mark.parametrize("command", ["doctor", "lint /bin/sh --tree"])
def test_force_color_reaches_a_pipe(
    torchlink: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, torch_root: Path, command: str
) -> None:
    monkeypatch.setenv("TORCHLINK_LIBTORCH", str(torch_root))
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    assert "\x1b[" not in torchlink(*command.split()).out
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in torchlink(*command.split()).out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in torchlink(*command.split()).out


@pytest.mark.parametrize("words", [(), ("cmake",), ("nim",), ("cache",)])
def test_no_summary_is_cut(
    torchlink: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    listed = torchlink(*words, "--help").out.partition("Commands:\n")[2].partition("\n\n")[0]
    assert listed
    assert "..." not in listed


def test_help_after_a_group_points_to_help(torchlink: Callable[..., Result]) -> None:
    assert "See 'torchlink help cmake'." in torchlink("cmake", "help").err


@pytest.mark.parametrize("option", ["--cxx", "--cxx-compiler"])
def test_other_names_of_the_compiler_option_suggest_the_right_one(
    torchlink: Callable[..., Result], option: str
) -> None:
    assert "Did you mean --compiler?" in torchlink("matrix", option, "g++").err


def test_gnu_extensions_that_are_not_passed_on_are_a_note(
    torchlink: Callable[..., Result], torch_root: Path
) -> None:
    plain, gnu = (torchlink("flags", "--libtorch", torch_root, "--std", std) for std in ("c++20", "gnu++20"))
    assert plain.out == gnu.out
    assert plain.err == ""
    assert "put -std=gnu++20 after" in gnu.err


@pytest.mark.parametrize(
    "words",
    [
        "find --python",
        "find --print",
        "flags --compiler",
        "lint x --python",
        "verify --compiler",
        "c++ --python",
    ],
)
def test_the_empty_word_names_nothing(torchlink: Callable[..., Result], words: str) -> None:
    shown = torchlink(*words.split(), "")
    assert (shown.code, shown.out) == (2, "")
    assert "names nothing." in shown.err
    assert words.rsplit(maxsplit=1)[-1] in shown.err
