"""`torchlink docs`: a page in the browser or as Markdown, the list of pages, and names that are nearly right."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result

    Torchlink = Callable[..., Result]


def test_a_page_of_docs_is_printed_unchanged(torchlink: Torchlink) -> None:
    page = (REPOSITORY / "docs" / "rules" / "abi-mismatch.md").read_text(encoding="utf-8")
    for name in ("rules/abi-mismatch", "abi-mismatch", "rules/abi-mismatch.md", "/rules/abi-mismatch/"):
        for option in ((), ("--markdown",), ("--print",)):
            done = torchlink("docs", name, *option)
            assert (done.code, done.out, done.err) == (0, page, "")


def test_pages_from_data_are_printed(torchlink: Torchlink) -> None:
    assert torchlink("docs", "languages/rust").out.startswith("# Rust\n")
    assert torchlink("docs", "commands/c++").out.startswith("# torchlink c++\n")
    assert torchlink("docs", "causes/std-too-low").out.startswith("# The C++ standard")
    assert "(std-too-low.md)" in torchlink("docs", "causes").out


def test_without_a_page_the_pages_are_listed(torchlink: Torchlink) -> None:
    lines = torchlink("docs").out.splitlines()
    assert "rules/abi-mismatch" in [line.split()[0] for line in lines]
    assert next(line for line in lines if line.startswith("languages/rust ")).endswith(
        "Rust: torchlink new rust"
    )
    listed = json.loads(torchlink("docs", "--json").out)
    assert listed["schema"] == 1
    assert [page["name"] for page in listed["pages"]] == [line.split()[0] for line in lines]
    assert {"name": "lint", "title": "Linting binaries", "page": "torchlink docs lint"} in listed["pages"]


def test_a_page_as_json(torchlink: Torchlink) -> None:
    (page,) = json.loads(torchlink("docs", "lint", "--json").out)["pages"]
    assert page["markdown"] == (REPOSITORY / "docs" / "lint.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("rules/abi-mismach", "rules/abi-mismatch"),
        ("abi_mismatch", "rules/abi-mismatch"),
        ("openmp", "rules/duplicate-openmp"),
        ("comands/verfy", "commands/verify"),
        ("languages/Rust", "languages/rust"),
    ],
)
def test_a_page_that_does_not_exist_suggests_near_ones(torchlink: Torchlink, wrong: str, near: str) -> None:
    done = torchlink("docs", wrong)
    assert done.code == 2
    assert done.out == ""
    assert f"There is no page '{wrong}'." in done.err
    assert near in done.err


@pytest.mark.parametrize("wrong", ["", "zzzz", "../../etc/passwd", "rules/../security"])
def test_what_is_nothing_like_a_page_is_one_error(torchlink: Torchlink, wrong: str) -> None:
    done = torchlink("docs", wrong)
    assert done.code == 2
    assert "`torchlink docs` lists the pages" in done.err


def on_a_terminal(place: Path, page: str, **variables: str) -> str:
    """Return what `torchlink docs PAGE` prints on a terminal."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", **variables}
    environment.pop("DISPLAY", None)
    command = [sys.executable, "-m", "torchlink", "docs", page]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=place
    ) as running:
        os.close(theirs)
        printed = b""
        try:
            while chunk := os.read(ours, 1 << 16):
                printed += chunk
        except OSError:  # how Linux reports that nothing has the terminal open any more
            pass
    os.close(ours)
    assert running.returncode == 0
    return printed.decode().replace("\r\n", "\n")


def test_on_a_terminal_the_page_is_opened_at_its_address(tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    browser.chmod(0o755)
    printed = on_a_terminal(
        tmp_path, "lint", TORCHLINK_DOCS_URL="https://docs.example/x", BROWSER=f"{browser} %s"
    )
    assert printed == "torchlink: opening https://docs.example/x/lint/\n"
    assert (tmp_path / "opened").read_text() == "https://docs.example/x/lint/\n"


def test_on_a_terminal_without_an_address_or_a_browser_the_page_is_printed(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "pytest.md").read_text(encoding="utf-8")
    assert on_a_terminal(tmp_path, "pytest", TORCHLINK_DOCS_URL="", BROWSER="") == page
    printed = on_a_terminal(
        tmp_path, "pytest", TORCHLINK_DOCS_URL="https://docs.example", BROWSER=f"{tmp_path}/none %s"
    )
    assert "https://docs.example/pytest/" in printed
    assert printed.endswith(page)


@pytest.mark.parametrize("wrong", ["docs.example", "https://", "https://a b", "https://a\nb"])
def test_an_address_that_is_none_is_an_error(
    torchlink: Torchlink, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    monkeypatch.setenv("TORCHLINK_DOCS_URL", wrong)
    done = torchlink("docs", "--json")
    assert done.code == 2
    assert "TORCHLINK_DOCS_URL: not an address" in done.out


def test_reports_name_the_page_of_a_finding_by_its_address_if_there_is_one(
    torchlink: Torchlink, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = tmp_path / "ldd.txt"
    text.write_text(
        "\tlinux-vdso.so.1 (0x1)\n\tlibtorch_cpu.so => not found\n\tlibc.so.6 => /lib/libc.so.6 (0x2)\n"
    )
    assert "page: torchlink docs rules/library-not-found\n" in torchlink("lint", text).out
    monkeypatch.setenv("TORCHLINK_DOCS_URL", "https://docs.example/")
    address = "https://docs.example/rules/library-not-found/"
    assert f"page: {address} (torchlink docs rules/library-not-found)\n" in torchlink("lint", text).out
    (file,) = json.loads(torchlink("lint", text, "--json").out)["files"]
    assert file["findings"][0]["page"] == address
    sarif = json.loads(torchlink("lint", text, "--format", "sarif").out)
    rules = sarif["runs"][0]["tool"]["driver"]["rules"]
    assert address in [rule.get("helpUri") for rule in rules]
