"""Every form in which `torchlink lint` tells what it found."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from tests.lint.builder import Builder, calls, functions
from tests.unit.report.test_machine_formats import check_sarif  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result

    Torchlink = Callable[..., Result]

pytestmark = pytest.mark.compile


def test_text_says_what_where_and_how_to_mend(torchlink: Torchlink, shop: Path) -> None:
    shown = torchlink("lint", shop / "lost")
    assert "library-not-found  libgone.so" in shown.out
    assert "fix: " in shown.out
    assert shown.out.endswith("1 error in 1 file.\n")
    assert "searched for" not in shown.out
    assert "searched for libgone.so" in torchlink("lint", "-v", shop / "lost").out


def test_tree_shows_how_each_library_is_found(torchlink: Torchlink, shop: Path) -> None:
    shown = torchlink("lint", "--tree", "-v", shop / "lost")
    assert shown.code == 1
    assert "RUNPATH $ORIGIN/lib of" in shown.out
    assert "NOT FOUND" in shown.out
    assert "library-not-found" in shown.out


def test_json_holds_to_its_schema(torchlink: Torchlink, shop: Path) -> None:
    for words in (("--json",), ("--format", "json")):
        document = json.loads(torchlink("lint", *words, shop / "lost").out)
        assert document["schema"] == 1
        assert document["summary"] == {"error": 1, "warning": 0, "note": 0, "unreadable": 0}
        (file,) = document["files"]
        assert set(file["findings"][0]) == {
            "rule",
            "severity",
            "subject",
            "message",
            "fix",
            "evidence",
            "demangled",
            "page",
        }
        assert {"name", "path", "how", "needed_by"} <= set(file["closure"][0])


def test_people_read_cxx_names_and_json_has_both(torchlink: Torchlink, tmp_path: Path) -> None:
    builder = Builder(tmp_path)
    parts = builder.library("libparts.so", functions("_Z5straySs"))
    builder.build("app", calls("_Z5straySs"), parts, "-Wl,-rpath,$ORIGIN")
    builder.library("libparts.so")
    (finding,) = json.loads(torchlink("lint", "--json", "--select", "undefined-symbol", "app").out)["files"][
        0
    ]["findings"]
    readable = "stray(std::basic_string<char, std::char_traits<char>, std::allocator<char> >)"
    assert (finding["evidence"], finding["demangled"]) == (["_Z5straySs"], [readable])
    for form in ("text", "sarif", "junit", "github"):
        shown = torchlink("lint", "--format", form, "app")
        assert "stray(std::" in shown.out, form
        assert "_Z5stray" not in shown.out, form


def test_an_error_is_json_where_json_was_asked_for(torchlink: Torchlink, shop: Path) -> None:
    shown = torchlink("lint", "--json", shop / "absent")
    assert (shown.code, shown.err) == (2, "")
    assert json.loads(shown.out)["error"]["code"] == "file"


def test_sarif_is_valid(torchlink: Torchlink, shop: Path, check_sarif: Callable[[str], None]) -> None:  # noqa: F811
    shown = torchlink("lint", "--format", "sarif", shop / "lost", shop / "idle", shop / "sound")
    assert shown.code == 1
    check_sarif(shown.out)
    (run,) = json.loads(shown.out)["runs"]
    assert {result["ruleId"] for result in run["results"]} == {"library-not-found", "unused-library"}
    assert all(rule["help"]["markdown"] for rule in run["tool"]["driver"]["rules"])


def test_github_gets_annotations_and_a_summary(
    torchlink: Torchlink, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    monkeypatch.setenv("GITHUB_WORKSPACE", str(shop))
    shown = torchlink("lint", "--format", "github", shop / "lost")
    assert shown.code == 1
    assert "::error file=lost," in shown.out
    assert "library-not-found" in (tmp_path / "summary.md").read_text()


def test_a_summary_that_cannot_be_written_is_a_note(
    torchlink: Torchlink, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "fifo")
    for place in (tmp_path / "absent" / "summary.md", tmp_path, tmp_path / "fifo"):
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(place))
        shown = torchlink("lint", "--format", "github", shop / "lost")
        assert shown.code == 1
        assert shown.err.startswith(f"torchlink: note: the step summary {place} cannot be written: ")


def test_junit_is_xml_with_a_failure(torchlink: Torchlink, shop: Path) -> None:
    shown = torchlink("lint", "--format", "junit", shop / "lost", shop / "sound")
    suites = ET.fromstring(shown.out)
    assert [suite.get("failures") for suite in suites.iter("testsuite")] == ["1", "0"]


def test_the_page_is_written_beside_the_text(torchlink: Torchlink, shop: Path, tmp_path: Path) -> None:
    shown = torchlink("lint", "--html", tmp_path / "r.html", shop / "lost")
    assert shown.code == 1
    assert "library-not-found" in shown.out
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert "libgone.so" in page
    assert torchlink("lint", "--html", tmp_path / "no" / "r.html", shop / "lost").code == 2


def test_two_forms_for_one_output_are_refused(torchlink: Torchlink, shop: Path) -> None:
    shown = torchlink("lint", "--tree", "--format", "sarif", shop / "sound")
    assert shown.code == 2
    assert "cannot be combined" in shown.err


def test_the_only_file_is_in_a_report_for_ci_though_it_cannot_be_judged(
    torchlink: Torchlink, shop: Path
) -> None:
    shown = torchlink("lint", "--format", "github", shop / "absent")
    assert shown.code == 2
    assert shown.out.startswith("::error file=")
    shown = torchlink("lint", "--format", "sarif", shop / "absent")
    assert shown.code == 2
    assert json.loads(shown.out)["runs"][0]["invocations"][0]["executionSuccessful"] is False
    shown = torchlink("lint", "--format", "junit", shop / "absent")
    assert (shown.code, ET.fromstring(shown.out).get("errors")) == (2, "1")
