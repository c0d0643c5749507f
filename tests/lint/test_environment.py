"""What LD_LIBRARY_PATH and LD_PRELOAD change: said of a shell's own, checked and cured where `--env` names them."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.lint.builder import MAIN, NEW_STRING, Builder, calls, findings, functions
from torchlink.lint.checking import check_binary
from torchlink.lint.context import LintOptions
from torchlink.lint.finding import Severity
from torchlink.lint.text.tool_output import check_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result

pytestmark = pytest.mark.compile
OLD = "_ZN2at13globalContextEv"
CHECK = (
    f"_ZN3c106detail14torchCheckFailEPKcS2_jRK{NEW_STRING}"  # of libc10, with the ABI of one libtorch alone
)


def loaded(app: Path, **environment: str) -> dict[str, str]:
    """What the live loader takes for a program: name → path."""
    done = subprocess.run(
        [str(app)],
        env={"LD_TRACE_LOADED_OBJECTS": "1", **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    lines = (line.split() for line in done.stdout.splitlines())
    return {words[0]: words[2] for words in lines if words[1:2] == ["=>"] and words[2] != "not"}


def two(builder: Builder) -> tuple[Path, Path, Path]:
    """A program that finds its own libtorch by its RUNPATH, that libtorch, and another that does not suit it."""
    own, other = builder.torch("own/lib"), builder.torch("other/lib", abi=0)
    libraries = (own / "libtorch_cpu.so", own / "libc10.so")
    runpath = ("-Wl,--enable-new-dtags", "-Wl,-rpath,$ORIGIN/own/lib")
    return builder.program("app", calls(OLD, CHECK), *libraries, *runpath), own, other


def test_the_effect_of_a_shell_variable_is_reported(builder: Builder) -> None:
    app, own, other = two(builder)
    assert loaded(app, LD_LIBRARY_PATH=str(other))["libc10.so"] == f"{other}/libc10.so"
    report = check_binary(app, LintOptions(shell={"LD_LIBRARY_PATH": str(other)}))
    assert not report.findings  # checked without it
    (sentence,) = report.assumed
    assert "without the LD_LIBRARY_PATH" in sentence
    assert f"libtorch_cpu.so, libc10.so from {other} instead of {own}" in sentence
    assert '--env LD_LIBRARY_PATH="$LD_LIBRARY_PATH"' in sentence


@pytest.mark.parametrize("words", [("-Wl,--disable-new-dtags",), ("-static",)])
def test_a_variable_without_effect_is_not_reported(builder: Builder, words: tuple[str, ...]) -> None:
    own, other = builder.torch("own/lib"), builder.torch("other/lib", abi=0)
    if words == ("-static",):
        app = builder.build("app", MAIN, *words)
    else:  # an RPATH goes before the variable
        libraries = (own / "libtorch_cpu.so", own / "libc10.so")
        app = builder.program("app", calls(OLD), *libraries, "-Wl,-rpath,$ORIGIN/own/lib", *words)
        assert loaded(app, LD_LIBRARY_PATH=str(other))["libtorch_cpu.so"] == f"{own}/libtorch_cpu.so"
    nowhere = str(builder.directory / "nowhere")
    for value in (str(other), nowhere, str(own)):
        assert not check_binary(app, LintOptions(shell={"LD_LIBRARY_PATH": value})).assumed
    set_uid = two(builder)[0]
    set_uid.chmod(0o4755)
    assert not check_binary(set_uid, LintOptions(shell={"LD_LIBRARY_PATH": str(other)})).assumed


def test_libraries_found_or_lost_through_the_variable_are_reported(builder: Builder) -> None:
    library = builder.library("lib/libinner.so", functions("inner"))
    app = builder.program("app", calls("inner"), library)
    shell = {"LD_LIBRARY_PATH": str(library.parent)}
    report = check_binary(app, LintOptions(shell=shell))
    assert [finding.rule for finding in report.findings] == ["library-not-found"]
    assert f"finds libinner.so in {library.parent}, and not at all without it" in report.assumed[0]
    assert not check_binary(app, LintOptions(environment=shell, shell=shell)).assumed  # it is checked with it
    found = builder.program("app", calls("inner"), library, "-Wl,--enable-new-dtags,-rpath,$ORIGIN/lib")
    builder.path("broken/libinner.so").write_text("no library\n")
    broken = str(builder.directory / "broken")
    (sentence,) = check_binary(found, LintOptions(shell={"LD_LIBRARY_PATH": broken})).assumed
    assert f"does not find libinner.so, because {broken}/libinner.so" in sentence


def test_a_library_that_the_shell_preloads_is_reported(builder: Builder) -> None:
    app, _, other = two(builder)
    preload = str(other / "libc10.so")
    assert loaded(app, LD_PRELOAD=preload)
    (sentence,) = check_binary(app, LintOptions(shell={"LD_PRELOAD": preload})).assumed
    assert "without the LD_PRELOAD" in sentence
    assert str(other) in sentence


def test_the_command_line_reads_the_variable_of_its_shell(
    builder: Builder, torchlink: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    app, _, other = two(builder)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(other))
    done = torchlink("lint", app)
    assert done.code == 0
    assert "LD_LIBRARY_PATH" in done.out
    assert "clean" in done.out
    done = torchlink("lint", "--env", f"LD_LIBRARY_PATH={other}", app)
    assert done.code == 1
    assert "Unset LD_LIBRARY_PATH" in done.out


def test_a_foreign_libtorch_of_the_variable_is_to_be_unset(builder: Builder) -> None:
    app, _, other = two(builder)
    environment = {"LD_LIBRARY_PATH": str(other)}
    found = findings(app, environment=environment)
    assert max(finding.severity for finding in found) is Severity.ERROR
    assert "found-through-environment" in {finding.rule for finding in found}
    for finding in found:
        assert finding.fix.startswith("Unset LD_LIBRARY_PATH"), finding
        assert "-rpath" not in finding.fix
    assert not findings(app)  # what the fix says


def test_a_program_that_resolves_only_with_a_foreign_libtorch(builder: Builder) -> None:
    own, other = builder.torch("far/away/from/own/lib"), builder.torch("other/lib", abi=0)
    app = builder.program("a/b/c/d/app", calls(OLD, CHECK), own / "libtorch_cpu.so", own / "libc10.so")
    (finding,) = (
        each
        for each in findings(app, environment={"LD_LIBRARY_PATH": str(other)})
        if each.rule == "found-through-environment"
    )
    assert f"-rpath,{other}" not in finding.fix
    assert "is not the one that app was built with" in finding.fix
    assert "torchlink flags --link" in finding.fix
    (finding,) = findings(app, environment={"LD_LIBRARY_PATH": str(own)})
    assert f"-Wl,-rpath,{own}" in finding.fix  # this one suits it


def test_a_preloaded_library_that_breaks_the_program_is_to_be_unset(builder: Builder) -> None:
    app, _, other = two(builder)
    found = findings(app, environment={"LD_PRELOAD": str(other / "libc10.so")})
    errors = [finding for finding in found if finding.severity is Severity.ERROR]
    assert errors
    assert all(finding.fix.startswith("Unset LD_PRELOAD") for finding in errors)


def test_a_program_that_suits_the_libtorch_of_the_variable_alone(builder: Builder) -> None:
    app, own, other = two(builder)
    (builder.directory / "swap").mkdir()
    right = own.rename(builder.directory / "swap" / "lib")  # its search path now leads to the wrong one
    other.rename(own)
    (finding,) = (
        each
        for each in findings(app, environment={"LD_LIBRARY_PATH": str(right)})
        if each.rule == "found-through-environment"
    )
    assert f"-rpath,{right}" in finding.fix


def test_a_text_with_libraries_in_the_shells_directories(builder: Builder) -> None:
    app, _, other = two(builder)
    text = f"\tlibc10.so => {other}/libc10.so (0x00007f0000000000)\n"
    shell = {"LD_LIBRARY_PATH": f"/nowhere:{other}/"}
    (report,) = check_text(text, str(app), LintOptions(shell=shell))
    assert "names the directory of libc10.so" in report.assumed[0]
    (report,) = check_text(text, str(app), LintOptions(shell={"LD_LIBRARY_PATH": "/nowhere"}))
    assert not report.assumed
