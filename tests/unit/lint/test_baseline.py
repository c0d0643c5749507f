"""The baseline file: what identifies a finding, and what a file may hold."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchlink.errors import FileError, MalformedFileError, WouldOverwriteError
from torchlink.lint.finding import FileReport, Finding, LintReport, Severity
from torchlink.lint.policy import allow, baseline
from torchlink.lint.policy.baseline import BaselineEntry, bare, fingerprint

if TYPE_CHECKING:
    from pathlib import Path

ENTRIES = '{"schema": 1, "tool": "torchlink lint baseline", "findings": '

FINDING = Finding(
    "rpath-absolute",
    Severity.WARNING,
    "/home/someone/project/build/lib",
    "An absolute rpath.",
    "Use $ORIGIN.",
    ("DT_RUNPATH: /home/someone/project/build/lib",),
)
REPORT = LintReport(
    (
        FileReport("/home/someone/project/build/app", "executable", (FINDING, FINDING), ()),
        FileReport("b", "executable", (FINDING._replace(rule="exec-stack", subject="b.o"),), ()),
    )
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/someone/lib/libx.so.1", "libx.so.1"),
        ("/home/someone/lib/", "lib"),
        ("libx.so", "libx.so"),
        ("$ORIGIN/../lib", "lib"),
        ("./app", "app"),
        ("/", ""),
        ("", ""),
        ("/a/libx.so, /b/liby.so", "libx.so, liby.so"),
        ("libx.so (from /a/b/liby.so)", "libx.so (from liby.so)"),
        ("C:\\build\\app.exe", "app.exe"),
        ("c10::Error::Error(std::string)", "c10::Error::Error(std::string)"),
    ],
)
def test_directories_are_removed_from_paths_only(text: str, expected: str) -> None:
    assert bare(text) == expected


def test_a_fingerprint_does_not_depend_on_directory_message_and_evidence() -> None:
    elsewhere = FINDING._replace(
        subject="/ci/job/build/lib",
        message="Said better.",
        fix="",
        severity=Severity.ERROR,
        evidence=("other", "lines"),
    )
    here = fingerprint("/home/someone/project/build/app", FINDING)
    assert here == fingerprint("/ci/job/build/app", elsewhere)
    assert len(here) == 32


def test_a_search_path_entry_is_its_directory() -> None:
    unsafe = FINDING._replace(rule="rpath-world-writable", subject="/tmp/x/opt")
    other = unsafe._replace(subject="/var/tmp/evil/opt")
    assert fingerprint("/tmp/x/app", unsafe) != fingerprint("/tmp/x/app", other)
    library = FINDING._replace(rule="duplicate-libtorch", subject="/opt/a/libtorch.so")
    assert fingerprint("app", library) == fingerprint("app", library._replace(subject="/opt/b/libtorch.so"))


def test_a_known_finding_with_new_parts_is_a_new_one() -> None:
    def report(*symbols: str) -> LintReport:
        finding = FINDING._replace(rule="undefined-symbol", subject="libu.so", parts=symbols)
        return LintReport((FileReport("libu.so", "shared library", (finding,), ()),))

    known = baseline.parse(baseline.dump(baseline.of(report("nowhere", "other"))), "baseline")
    for symbols in (("nowhere", "other"), ("other",)):
        assert not allow.apply(report(*symbols), baseline=known).files[0].findings
    grown = allow.apply(report("nowhere", "other", "nowhere2"), baseline=known)
    assert [finding.rule for finding in grown.files[0].findings] == ["undefined-symbol"]
    assert not grown.stale


@pytest.mark.parametrize(
    ("file", "finding"),
    [
        ("other", FINDING),
        ("app", FINDING._replace(rule="rpath-home")),
        ("app", FINDING._replace(subject="/home/someone/project/build/lib64")),
    ],
)
def test_a_fingerprint_changes_with_rule_file_name_and_subject(file: str, finding: Finding) -> None:
    assert fingerprint(file, finding) != fingerprint("app", FINDING)


@given(st.text(), st.text(), st.text())
def test_any_text_has_a_fingerprint(file: str, rule: str, subject: str) -> None:
    assert fingerprint(file, FINDING._replace(rule=rule, subject=subject))


def test_names_of_bytes_that_are_not_utf8_have_a_fingerprint() -> None:
    assert fingerprint("app\udcff", FINDING) != fingerprint("app", FINDING)


def test_a_baseline_is_read_as_it_was_written_in_a_stable_order() -> None:
    entries = baseline.of(REPORT)
    assert [(entry.file, entry.rule, entry.count) for entry in entries] == [
        ("app", "rpath-absolute", 2),
        ("b", "exec-stack", 1),
    ]
    text = baseline.dump(entries)
    assert baseline.parse(text, "baseline.json") == entries
    assert baseline.dump(tuple(reversed(entries))) == text
    assert json.loads(text)["schema"] == 1
    assert baseline.of(LintReport(tuple(reversed(REPORT.files)))) == entries


def test_an_empty_baseline_is_a_baseline() -> None:
    assert baseline.parse(baseline.dump(()), "b") == ()


def test_allowed_findings_are_not_written() -> None:
    assert baseline.of(LintReport((FileReport("app", "executable", (), ()),))) == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[" * 100_000,
        "[]",
        "null",
        "{}",
        '{"schema": 1}',
        '{"schema": 2, "tool": "torchlink lint baseline", "findings": []}',
        '{"schema": 1, "tool": "torchlink lint baseline"}',
        ENTRIES + "{}}",
        ENTRIES + "[1]}",
        ENTRIES + '[{"rule": "r"}]}',
        ENTRIES + '[{"rule": "r", "file": "f", "subject": "s", "fingerprint": "0", "count": 0}]}',
        ENTRIES + '[{"rule": "r", "file": "f", "subject": "s", "fingerprint": "0", "count": true}]}',
    ],
)
def test_a_file_that_is_not_a_baseline_gives_one_sentence(text: str) -> None:
    with pytest.raises(MalformedFileError) as caught:
        baseline.parse(text, "some/baseline.json")
    assert "some/baseline.json" in caught.value.message


def test_a_baseline_is_replaced_but_no_other_file_is(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    baseline.write(path, baseline.of(REPORT))
    baseline.write(path, ())
    assert baseline.read(path) == ()
    path.write_text("[1, 2, 3]")
    with pytest.raises(WouldOverwriteError, match="is not a baseline"):
        baseline.write(path, ())
    assert path.read_text() == "[1, 2, 3]"
    baseline.write(path, (), force=True)
    assert baseline.read(path) == ()
    assert [file.name for file in tmp_path.iterdir()] == ["baseline.json"]


def test_paths_that_cannot_be_read_or_written_are_errors(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="Cannot read the baseline"):
        baseline.read(tmp_path / "absent.json")
    with pytest.raises(FileError, match=r"not a regular file \(it is a directory\)"):
        baseline.read(tmp_path)
    with pytest.raises(FileError, match="Cannot write the baseline"):
        baseline.write(tmp_path / "absent" / "baseline.json", ())
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(MalformedFileError):
        baseline.read(binary)


def test_an_entry_without_a_count_has_count_one() -> None:
    entry = BaselineEntry("app", "r", "s", "0" * 32)
    text = baseline.dump([entry]).replace(', "count": 1', "")
    assert baseline.parse(text, "b") == (entry,)
