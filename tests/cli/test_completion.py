"""Shell completion: the script for a given shell, and the values of options."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from torchlink.lint.rules import RULES
from torchlink.lint.targets import parse_target

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result

MARKS = {
    "bash": "complete -o default -F _torchlink_completion torchlink",
    "zsh": "#compdef torchlink",
    "fish": "complete --command torchlink",
    "powershell": "Register-ArgumentCompleter",
}


@pytest.mark.parametrize("shell", MARKS)
def test_the_script_is_of_the_shell_that_was_named(torchlink: Callable[..., Result], shell: str) -> None:
    result = torchlink("--show-completion", shell)
    assert result.code == 0
    assert MARKS[shell] in result.out
    assert [name for name, mark in MARKS.items() if mark in result.out] == [shell]


def test_an_unsupported_shell_is_one_error(torchlink: Callable[..., Result]) -> None:
    result = torchlink("--show-completion", "tcsh")
    assert (result.code, result.out) == (2, "")
    assert "not a supported shell: tcsh" in result.err
    assert "zsh" in result.err


def test_completion_is_installed_for_the_shell_that_was_named(
    torchlink: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    result = torchlink("--install-completion", "zsh")
    assert result.code == 0, result
    assert ".zfunc" in (tmp_path / ".zshrc").read_text(encoding="utf-8")
    assert "#compdef torchlink" in (tmp_path / ".zfunc" / "_torchlink").read_text(encoding="utf-8")


def completed(*words: str, last: str = "", libtorch: Path | None = None) -> list[str]:
    """Return what bash would complete after `torchlink WORDS… LAST`."""
    line = ["torchlink", *words, last]
    environment = {
        **os.environ,
        "_TORCHLINK_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(line),
        "COMP_CWORD": str(len(line) - 1),
    }
    if libtorch:
        environment["TORCHLINK_LIBTORCH"] = str(libtorch)
    script = "import sys; sys.argv[0] = 'torchlink'; from torchlink.cli.main import entry; entry()"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("verify", "--via"), ["cxx", "cmake", "nim"]),
        (("verify", "--device"), ["cpu", "cuda", "cuda:1", "mps", "xpu", "auto"]),
        (("flags", "--rpath"), ["absolute", "origin=", "none"]),
        (("flags", "--headers"), ["system", "after"]),
        (("c++", "--headers"), ["system", "after"]),
        (("c++", "--cpu", "--rpath"), ["absolute", "origin=", "none"]),
        (("cmake", "init", "--headers"), ["system", "after"]),
        (("cache",), ["show", "warm", "clear"]),
        (("matrix", "--via"), ["cxx", "cmake", "nim"]),
        (("matrix", "--device"), ["cpu", "cuda", "cuda:1", "mps", "xpu", "auto"]),
        (("verify", "--std"), ["17", "20", "23", "c++17", "c++20", "c++23"]),
    ],
)
def test_values_are_completed(words: tuple[str, ...], offered: list[str]) -> None:
    assert completed(*words) == offered


def test_only_values_with_the_typed_prefix_are_completed() -> None:
    assert completed("verify", "--via", last="c") == ["cxx", "cmake"]


@pytest.mark.parametrize("option", ["--select", "--ignore", "--explain"])
def test_rules_are_completed(option: str) -> None:
    assert completed("lint", option, last="abi") == ["abi-mismatch"]
    assert len(completed("lint", option)) == len(RULES)


def test_a_list_of_rules_is_continued() -> None:
    assert completed("lint", "--select", last="abi-mismatch,undef") == ["abi-mismatch,undefined-symbol"]


def test_targets_are_offered_and_each_is_one() -> None:
    offered = completed("lint", "--target")
    assert {"debian:12", "ubuntu:22.04", "manylinux_2_28", "manylinux2014"} <= set(offered)
    assert all(parse_target(name) for name in offered)
    assert completed("lint", "--target", last="debian:1") == [n for n in offered if n.startswith("debian:1")]


def test_print_offers_the_fields_of_the_libtorch_that_is_here(torch_root: Path) -> None:
    assert completed("find", "--print", last="cxx", libtorch=torch_root) == [
        "cxx11_abi",
        "cxx11_abi_from",
        "cxx_standard",
        "cxx_standard_required",
        "cxx_standard_from",
    ]


def test_help_offers_commands_and_their_own_commands() -> None:
    assert completed("help", last="cm") == ["cmake"]
    assert completed("help", "cmake", last="") == ["init", "prefix", "dir", "configure"]
    assert completed("help", "find") == []
