"""Every report format contains what lint assumed."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

from torchlink.lint.finding import ClosureEntry, FileReport, LintReport
from torchlink.report import github, junit, lint_html, lint_json, lint_text, lint_tree, sarif

SENTENCE = "Python has already imported torch, with the libtorch in /venv/torch."
FILE = FileReport(
    "ext.abi3.so",
    "python extension",
    (),
    (ClosureEntry("ext.abi3.so", "ext.abi3.so", "the file itself", None),),
    assumed=(SENTENCE,),
)
REPORT = LintReport((FILE,))


def test_text_and_tree() -> None:
    glyphs = lint_tree.glyphs_for("utf-8")
    for text in (lint_text.render(REPORT), lint_tree.render(REPORT, glyphs=glyphs)):
        assert f"assumed: {SENTENCE}" in text


def test_json_and_sarif() -> None:
    (file,) = json.loads(lint_json.render(REPORT))["files"]
    assert file["assumed"] == [SENTENCE]
    (run,) = json.loads(sarif.render(REPORT, cwd="/repo", root="/repo"))["runs"]
    (notice,) = run["invocations"][0]["toolExecutionNotifications"]
    assert (notice["level"], notice["message"]["text"]) == ("note", f"ext.abi3.so: assumed: {SENTENCE}")


def test_junit_and_html() -> None:
    properties = ET.fromstring(junit.render(REPORT)).iter("property")
    assert {"name": "torchlink.assumed", "value": SENTENCE} in [each.attrib for each in properties]
    assert f"<strong>Assumed:</strong> {SENTENCE}" in lint_html.render(REPORT)


def test_github_in_the_log_and_in_the_summary() -> None:
    assert f"ext.abi3.so: assumed: {SENTENCE}\n" in github.render(REPORT, cwd="/repo", root="/repo")
    assert "assumed of <code>ext.abi3.so</code>: Python has already imported torch" in github.render_summary(
        REPORT
    )
