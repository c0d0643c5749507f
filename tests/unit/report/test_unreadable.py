"""A file that could not be checked is not shown as clean in any format."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from tests.unit.report.test_machine_formats import check_sarif  # noqa: F401 - a fixture
from torchlink.lint.finding import UNREADABLE, FileReport, LintReport
from torchlink.lint.policy import allow
from torchlink.lint.policy.baseline import BaselineEntry
from torchlink.lint.policy.config import AllowEntry
from torchlink.report import github, junit, lint_html, lint_json, lint_text, lint_tree, sarif

if TYPE_CHECKING:
    from collections.abc import Callable

WHY = "Cannot read lib/cut.so: it ends within its header."
LOST = FileReport("lib/cut.so", UNREADABLE, (), (), not_checked=(WHY,))
SOUND = FileReport("app", "executable", (), ())
REPORT = LintReport((LOST, SOUND))


def test_totals_count_it_apart() -> None:
    for text in (lint_text.render(REPORT), lint_tree.render(REPORT)):
        assert text.endswith("no findings in 1 file; 1 could not be checked.\n")
        assert f"could not be checked: {WHY}" in text
    assert "cut.so (unreadable): clean" not in lint_text.render(REPORT)
    assert "app (executable): clean" in lint_text.render(REPORT)
    assert json.loads(lint_json.render(REPORT))["summary"]["unreadable"] == 1


def test_github_annotates_it_and_the_summary_does_not_call_it_clean() -> None:
    text = github.render(REPORT, cwd="/work", root="/work")
    assert text.startswith(f"::error file=lib/cut.so,title=torchlink lint could not check it::{WHY}\n")
    summary = github.render_summary(REPORT)
    assert "Clean: <code>app</code>\n" in summary
    assert "**could not be checked**: <code>lib/cut.so</code>" in summary
    many = github.render(LintReport((LOST,) * 12), cwd="/work", root="/work")
    assert many.count("::error ") == 10
    assert many.count(f"lib/cut.so: could not be checked: {WHY}") == 2


def test_junit_has_an_error_and_no_passed_rules_for_it() -> None:
    document = ET.fromstring(junit.render(REPORT, rules=["one", "two"]))
    assert (document.get("tests"), document.get("failures"), document.get("errors")) == ("3", "0", "1")
    lost, sound = document.findall("testsuite")
    assert lost.get("errors") == "1"
    (error,) = lost.findall("testcase/error")
    assert error.get("message") == WHY
    assert [case.get("name") for case in sound.findall("testcase")] == ["one", "two"]


def test_sarif_says_that_the_run_failed(check_sarif: Callable[[str], None]) -> None:  # noqa: F811
    text = sarif.render(REPORT, cwd="/work", root="/work")
    check_sarif(text)
    (run,) = json.loads(text)["runs"]
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is False
    (notice,) = invocation["toolExecutionNotifications"]
    assert notice["level"] == "error"
    assert WHY in notice["message"]["text"]
    assert notice["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "lib/cut.so"
    (run,) = json.loads(sarif.render(LintReport((SOUND,)), cwd="/work", root="/work"))["runs"]
    assert run["invocations"][0]["executionSuccessful"] is True


def test_the_page_marks_it() -> None:
    page = lint_html.render(REPORT)
    assert "</span> could not be checked</span>" in page
    assert page.count("no findings</span>") == 1


def test_its_allow_and_baseline_entries_are_not_stale() -> None:
    entry = AllowEntry("library-not-found", "libx.so", "known")
    known = BaselineEntry(file="cut.so", rule="rpath-relative", subject="$ORIGIN", fingerprint="0" * 32)
    assert not allow.apply(REPORT, allow=[entry], baseline=[known]).stale
    assert len(allow.apply(LintReport((SOUND,)), allow=[entry]).stale) == 1
