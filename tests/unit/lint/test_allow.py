"""Select, ignore, allow entries and a baseline over a report."""

from __future__ import annotations

import pytest

from torchlink.lint.finding import Allowed, FileReport, Finding, LintReport, Severity
from torchlink.lint.policy import baseline
from torchlink.lint.policy.allow import apply, selected
from torchlink.lint.policy.config import AllowEntry


def finding(rule: str, subject: str, severity: Severity = Severity.WARNING) -> Finding:
    return Finding(rule, severity, subject, f"{subject} is wrong", "fix it")


RPATH = finding("rpath-absolute", "/opt/torch/lib")
HOME = finding("rpath-absolute", "/home/someone/build")
MISSING = finding("library-not-found", "libcudart.so.12", Severity.ERROR)


def report(*findings: Finding, path: str = "./app") -> LintReport:
    return LintReport((FileReport(path, "executable", findings, ()),))


def test_an_empty_policy_changes_nothing() -> None:
    assert apply(report(RPATH, MISSING)) == report(RPATH, MISSING)


@pytest.mark.parametrize(
    ("select", "ignore", "kept"),
    [
        (("rpath-absolute",), (), (RPATH, HOME)),
        (("rpath-*",), (), (RPATH, HOME)),
        ((), ("rpath-*",), (MISSING,)),
        (("*",), ("library-not-found",), (RPATH, HOME)),
        (("library-not-found",), ("library-not-found",), ()),
    ],
)
def test_rules_are_selected_and_ignored_by_id_or_glob(
    select: tuple[str, ...], ignore: tuple[str, ...], kept: tuple[Finding, ...]
) -> None:
    done = apply(report(RPATH, HOME, MISSING), select=select, ignore=ignore)
    assert done.files[0].findings == kept
    assert not done.stale
    assert selected("rpath-absolute", select, ignore) == (RPATH in kept)


def test_an_allow_entry_moves_findings_with_its_reason() -> None:
    done = apply(report(RPATH, HOME, MISSING), allow=[AllowEntry("rpath-*", "/opt/*", "fixed in the image")])
    assert done.files[0].findings == (HOME, MISSING)
    assert done.files[0].allowed == (Allowed(RPATH, "fixed in the image"),)
    assert not done.stale


@pytest.mark.parametrize(
    ("pattern", "subject", "covered"),
    [
        ("libcudart.so.*", "libcudart.so.12", True),
        ("libcudart.so.*", "/usr/local/cuda/lib64/libcudart.so.12", True),
        ("/usr/*", "/usr/local/cuda/lib64/libcudart.so.12", True),
        ("lib64", "/usr/local/cuda/lib64/", True),
        ("/lib64", "/usr/local/cuda/lib64", False),
        ("LIBCUDART*", "libcudart.so.12", False),
        ("*", "any\nthing", True),
    ],
)
def test_a_subject_is_a_glob_over_the_whole_or_the_last_component(
    pattern: str, subject: str, covered: bool
) -> None:
    done = apply(report(finding("r", subject)), allow=[AllowEntry("r", pattern, "why")])
    assert bool(done.files[0].allowed) is covered
    assert bool(done.stale) is not covered


def test_an_entry_that_covers_nothing_is_reported() -> None:
    entry = AllowEntry("exec-stack", "*", "old assembler", "torchlink.toml")
    done = apply(report(RPATH), allow=[entry])
    assert done.stale == (
        "torchlink.toml: no finding matches the allow entry for exec-stack on '*' (old assembler).",
    )


def test_an_entry_whose_rule_was_not_selected_is_not_stale() -> None:
    entry = AllowEntry("exec-stack", "*", "old assembler")
    glob = AllowEntry("exec-*", "*", "old assembler")
    assert not apply(report(RPATH), select=["rpath-*"], allow=[entry, glob]).stale
    assert not apply(report(RPATH), ignore=["exec-stack"], allow=[entry, glob]).stale
    assert len(apply(report(RPATH), ignore=["rpath-*"], allow=[entry]).stale) == 1


def test_two_entries_for_one_finding_are_both_in_use() -> None:
    entries = [AllowEntry("rpath-*", "*", "first"), AllowEntry("rpath-absolute", "*", "second")]
    done = apply(report(RPATH), allow=entries)
    assert [allowed.reason for allowed in done.files[0].allowed] == ["first"]
    assert not done.stale


def test_a_baseline_covers_only_its_own_findings() -> None:
    known = baseline.of(report(RPATH))
    done = apply(report(RPATH, MISSING), baseline=known)
    assert done.files[0].findings == (MISSING,)
    assert done.files[0].allowed == (Allowed(RPATH, "in the baseline"),)


def test_a_second_finding_of_the_same_identity_is_new() -> None:
    one, elsewhere = (
        finding("duplicate-libtorch", "/opt/libc10.so"),
        finding("duplicate-libtorch", "/srv/libc10.so"),
    )
    done = apply(report(one, elsewhere), baseline=baseline.of(report(one)))
    assert done.files[0].findings == (elsewhere,)
    done = apply(report(one, elsewhere), baseline=baseline.of(report(one, elsewhere)))
    assert done.files[0].findings == ()


def test_a_baseline_entry_that_is_no_longer_found_is_reported_with_its_count() -> None:
    twice = (finding("duplicate-libtorch", "/opt/libc10.so"), finding("duplicate-libtorch", "/srv/libc10.so"))
    known = baseline.of(report(*twice, RPATH, MISSING))
    assert apply(report(twice[0]), baseline=known).stale == (
        "baseline: duplicate-libtorch on 'libc10.so' in app is no longer found in 1 of 2 places.",
        "baseline: library-not-found on 'libcudart.so.12' in app is no longer found.",
        "baseline: rpath-absolute on '/opt/torch/lib' in app is no longer found.",
    )


def test_a_baseline_entry_of_a_file_or_rule_that_was_not_checked_is_not_stale() -> None:
    known = baseline.of(report(MISSING))
    assert not apply(report(path="other"), baseline=known).stale
    assert not apply(report(), baseline=known, select=["rpath-*"]).stale


def test_a_finding_that_an_allow_entry_covers_keeps_its_baseline_entry_in_use() -> None:
    done = apply(
        report(RPATH), allow=[AllowEntry("rpath-*", "*", "why")], baseline=baseline.of(report(RPATH))
    )
    assert [allowed.reason for allowed in done.files[0].allowed] == ["why"]
    assert not done.stale


def test_what_a_report_allowed_before_stays_allowed() -> None:
    once = apply(report(RPATH, MISSING), allow=[AllowEntry("rpath-*", "*", "first")])
    twice = apply(once, allow=[AllowEntry("library-*", "*", "second")])
    assert [allowed.reason for allowed in twice.files[0].allowed] == ["first", "second"]


def test_ten_thousand_findings_are_matched() -> None:
    many = tuple(finding("r", f"/lib{number}.so") for number in range(10_000))
    done = apply(
        report(*many), allow=[AllowEntry("r", "*7.so", "sevens")], baseline=baseline.of(report(*many))
    )
    assert len(done.files[0].allowed) == 10_000
    assert not done.stale
