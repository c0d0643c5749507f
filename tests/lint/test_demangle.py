"""C++ names in evidence are readable, whatever a file calls its symbols."""

from __future__ import annotations

import pytest

from tests.conftest import program
from torchlink import process
from torchlink.errors import RunFailedError
from torchlink.lint.demangle import demangled
from torchlink.lint.finding import Allowed, FileReport, Finding, LintReport, Severity
from torchlink.toolchain.demangler import LONGEST

NAME = "_ZN2at11show_configB5cxx11Ev"
READABLE = "at::show_config[abi:cxx11]()"


def bomb(doublings: int) -> str:
    """The name of a function whose arguments are pairs of the argument before."""
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return "_Z1fSt4pairIiiE" + "".join(f"S_IS{each}_S{each}_E" for each in digits[:doublings])


def report(*evidence: str) -> LintReport:
    finding = Finding("undefined-symbol", Severity.ERROR, "app", "It is undefined.", "Link it.", evidence)
    file = FileReport("app", "executable", (finding,), (), allowed=(Allowed(finding, "known"),))
    return LintReport((file,))


def shown(*evidence: str) -> tuple[str, ...]:
    return demangled(report(*evidence)).files[0].findings[0].shown


def test_names_are_demangled_wherever_a_line_has_them() -> None:
    program("c++filt")
    assert shown(NAME, f"/opt/libx.so: GLIBCXX_3.4.30 ({NAME}, memcpy)", "cuInit") == (
        READABLE,
        f"/opt/libx.so: GLIBCXX_3.4.30 ({READABLE}, memcpy)",
        "cuInit",
    )


def test_the_mangled_names_are_kept_and_allowed_findings_are_demangled_too() -> None:
    program("c++filt")
    file = demangled(report(NAME)).files[0]
    assert file.findings[0].evidence == (NAME,)
    assert file.findings[0].demangled == (READABLE,)
    assert file.allowed[0].finding.demangled == (READABLE,)


def test_other_names_leave_the_report_unchanged() -> None:
    for line in ("_ZZZ", "memcpy", "", "_Z", "\udcff_Z\udc80", f"_Z{'9' * (LONGEST + 1)}"):
        assert demangled(report(line)) == report(line)


@pytest.mark.parametrize("doublings", [12, 36])
def test_a_name_that_demangles_to_terabytes_stays_mangled(doublings: int) -> None:
    assert shown(bomb(doublings)) == (bomb(doublings),)


def test_no_demangler_leaves_the_names_mangled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert shown(NAME) == (NAME,)


def test_a_filter_that_does_not_end_is_stopped() -> None:
    with pytest.raises(RunFailedError, match="did not finish"):
        process.filtered(["sleep", "60"], "", timeout=0.1, memory=64 << 20)
