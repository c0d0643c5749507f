"""What a recorded text tells is checked, and what it leaves open is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from torchlink.lint.context import LintOptions
from torchlink.lint.finding import Severity
from torchlink.lint.importing import Torches
from torchlink.lint.targets import parse_target
from torchlink.lint.text.tool_output import check_text

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.lint.finding import FileReport
from tests.lint.recorded import recorded


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A current directory without the files that the recorded texts name."""
    monkeypatch.chdir(tmp_path)


def said(name: str, wanted: LintOptions | None = None) -> list[FileReport]:
    return list(check_text(recorded(name), "-", wanted))


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("ldd-sound", set()),
        ("ldd-missing", {"library-not-found"}),
        ("ldd-r-undefined", {"undefined-symbol"}),
        ("ldd-r-versioned", {"symbol-version-missing"}),
        ("ldd-v-versioned", {"symbol-version-missing"}),
        ("musl-ldd-missing", {"library-not-found", "undefined-symbol"}),
        ("musl-ldd-undefined", {"undefined-symbol"}),
        ("lddtree-a", set()),
        ("readelf-d", set()),
        ("loader-missing", {"library-not-found"}),
        ("loader-undefined", {"undefined-symbol"}),
        ("loader-version", {"symbol-version-missing"}),
    ],
)
def test_a_text_gives_findings(name: str, rules: set[str]) -> None:
    (report,) = said(name)
    assert {finding.rule for finding in report.findings} == rules
    # What a missing library may define is no error of its own.
    expected = [Severity.ERROR, Severity.NOTE] if len(rules) > 1 else [Severity.ERROR] * len(rules)
    assert [finding.severity for finding in report.findings] == expected
    assert report.not_checked


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    ("line", "path", "subject", "fix"),
    [
        (
            "./app: /lib/x86_64-linux-gnu/libm.so.6: version `GLIBC_9.9' not found (required by ./app)",
            "./app",
            "/lib/x86_64-linux-gnu/libm.so.6",
            "a newer libm.so.6 next to the binary does not work",
        ),
        (
            "./app: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_PRIVATE' not found (required by /o/lib/librt.so.1)",
            "./app",
            "/lib/x86_64-linux-gnu/libc.so.6",
            "rm /o/lib/librt.so.1",
        ),
        (
            "ImportError: /lib/x86_64-linux-gnu/libstdc++.so.6: version `GLIBCXX_9.9' not found "
            "(required by /v/ext.cpython-311-x86_64-linux-gnu.so)",
            "/v/ext.cpython-311-x86_64-linux-gnu.so",
            "/lib/x86_64-linux-gnu/libstdc++.so.6",
            "Build on a system whose libstdc++.so.6",
        ),
    ],
)
def test_a_lone_version_error_of_the_loader_names_the_library(
    line: str, path: str, subject: str, fix: str
) -> None:
    (report,) = check_text(f"{line}\n", "-")
    assert report.path == path
    (finding,) = report.findings
    assert (finding.rule, finding.subject) == ("symbol-version-missing", subject)
    assert fix in finding.fix


LISTED = "\tlibgone.so => /opt/lib/libgone.so (0x00007f00)\n"


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("listed", ["", LISTED])
@pytest.mark.parametrize(
    ("line", "rule"),
    [
        (
            "./app: relocation error: /x/liba.so: symbol gone version GLIBC_2.34 not defined in file libc.so.6 "
            "with link time reference",  # before glibc 2.31 without a comma
            "undefined-symbol",
        ),
        ("OSError: /x/libtorch_cpu.so: cannot allocate memory in static TLS block", "library-not-found"),
        ("ImportError: /x/ext.so: invalid ELF header", "library-not-found"),
        ("\tlibmissing.so =>  not found", "library-not-found"),
        ("\tlibmissing.so => nicht gefunden", "library-not-found"),
        ("Fatal glibc error: CPU does not support x86-64-v2", "loader-error"),
        ("dyld[12]: Library not loaded: @rpath/libc10.dylib", "loader-error"),
        (
            "qemu-aarch64: Could not open '/lib/ld-linux-aarch64.so.1': No such file or directory",
            "loader-error",
        ),
        ("./app: cannot execute binary file: Exec format error", "loader-error"),
    ],
)
def test_no_line_with_an_error_is_ignored(line: str, rule: str, listed: str) -> None:
    (report,) = check_text(f"{listed}{line}\n", "-")
    assert [(each.rule, each.severity) for each in report.findings] == [(rule, Severity.ERROR)]


@pytest.mark.compile
@pytest.mark.usefixtures("elsewhere")
def test_missing_symbols_of_libtorch_are_looked_up_in_the_installed_one(torch_root: Path) -> None:
    text = "./app: symbol lookup error: ./app: undefined symbol: _ZN3c105ErrorC1ENS_14SourceLocationESs\n"
    (report,) = check_text(text, "-", torches=Torches(torch_root, None))
    assert [each.rule for each in report.findings] == ["abi-mismatch"]
    assert "does not say which libtorch app had loaded" in report.assumed[0]


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    "line",
    [
        "./app: /x/liba.so: no version information available (required by ./app)",
        "./app: weak version `OMP_4.5' not found (required by ./app)",
        "+ docker run image ldd ./app",
    ],
)
def test_a_line_that_is_not_recognised_is_shown(line: str) -> None:
    (report,) = check_text(f"{LISTED}{line}\n", "-")
    assert not report.findings
    assert any(line in sentence for sentence in report.not_checked)


@pytest.mark.usefixtures("elsewhere")
def test_several_binaries_are_several_reports() -> None:
    reports = said("ldd-several")
    assert [(report.path, len(report.findings)) for report in reports] == [
        ("./good", 0),
        ("./missing", 1),
        ("./static", 0),
    ]
    assert "statically linked" in reports[2].not_checked[0]


@pytest.mark.usefixtures("elsewhere")
def test_symbol_versions_of_a_verbose_text_meet_the_target() -> None:
    wanted = LintOptions(floors=parse_target("glibc=2.30"), target="glibc=2.30")
    (report,) = said("ldd-v", wanted)
    assert [(finding.rule, finding.subject) for finding in report.findings] == [
        ("floor-above-target", "GLIBC_2.34")
    ]
    (report,) = said("ldd-v", LintOptions(floors=parse_target("glibc=2.36"), target="glibc=2.36"))
    assert not report.findings


@pytest.mark.parametrize(
    ("entry", "rule"),
    [
        ("/home/me/project/build/lib", "rpath-build-tree"),
        ("../lib", "rpath-relative"),
        ("/opt/there/is/none/lib", "rpath-absolute"),
    ],
)
def test_a_search_path_in_readelf_is_checked(entry: str, rule: str) -> None:
    (report,) = check_text(recorded("readelf-d").replace("$ORIGIN/lib", entry), "-")
    assert [(finding.rule, finding.subject) for finding in report.findings] == [(rule, entry)]


def test_an_allowed_prefix_applies_to_readelf_too() -> None:
    wanted = LintOptions(allowed_rpath=("$ORIGIN",))
    assert not next(check_text(recorded("readelf-d"), "-", wanted)).findings
    other = LintOptions(allowed_rpath=("/opt",))
    (report,) = check_text(recorded("readelf-d"), "-", other)
    assert [finding.rule for finding in report.findings] == ["rpath-not-allowed"]


@pytest.mark.usefixtures("elsewhere")
def test_what_was_not_checked_is_reported() -> None:
    (sound,) = said("ldd-sound")
    text = " ".join(sound.not_checked)
    assert "does not name the binary" in text
    assert "/opt/app/lib/liba.so" in text
    assert "ldd -r" in text
    assert sound.of_every_text == sound.not_checked
    (one,) = check_text("app:\n\tlibc10.so => /nowhere/libc10.so (0x1)\n\tlibgone.so => not found\n", "-")
    assert any(each.startswith("1 of the libraries is not on this machine") for each in one.not_checked)
    (musl,) = said("musl-ldd-sound")
    assert any("2>&1" in sentence for sentence in {*musl.not_checked} - {*musl.of_every_text})
    (musl,) = said("musl-ldd-missing")
    assert not any("2>&1" in sentence for sentence in musl.not_checked)
    (read,) = said("readelf-d")
    assert "were not checked" in read.not_checked[0]


@pytest.mark.usefixtures("elsewhere")
def test_names_alone_show_two_cudas_and_a_test_library() -> None:
    text = (
        "\tlibcudart.so.12 => /opt/cuda12/lib/libcudart.so.12 (0x00007f00)\n"
        "\tlibcudart.so.13 => /opt/cuda13/lib/libcudart.so.13 (0x00007f10)\n"
    )
    (report,) = check_text(text, "-")
    assert [finding.rule for finding in report.findings] == ["cuda-major-mix"]
    row = " 0x0000000000000001 (NEEDED)             Shared library: [libtorchbind_test.so]\n"
    (report,) = check_text(recorded("readelf-d") + row, "-")
    assert [finding.rule for finding in report.findings] == ["test-library-linked"]


@pytest.mark.usefixtures("elsewhere")
def test_the_tree_of_lddtree_becomes_the_closure() -> None:
    sound, missing = said("lddtree")
    assert [(entry.name, entry.needed_by) for entry in sound.closure[1:4]] == [
        ("liba.so", "./good"),
        ("libb.so", "/opt/app/lib/liba.so"),
        ("libc.so.6", "./good"),
    ]
    assert [(entry.name, entry.path, entry.needed_by) for entry in missing.closure if entry.path is None] == [
        ("libgone.so", None, "./missing")
    ]


@pytest.mark.usefixtures("elsewhere")
def test_two_openmp_runtimes_in_a_text_are_recognised_by_their_names() -> None:
    lines = "\tlibgomp-a34b3233.so.1 => /opt/torch/lib/libgomp-a34b3233.so.1 (0x00007f0000000000)\n"
    (sound,) = check_text(lines, "-")
    assert "duplicate-openmp" not in {finding.rule for finding in sound.findings}
    lines += "\tlibiomp5.so => /opt/intel/lib/libiomp5.so (0x00007f0000100000)\n"
    (report,) = check_text(lines, "-")
    (finding,) = (each for each in report.findings if each.rule == "duplicate-openmp")
    assert finding.subject == "libgomp-a34b3233.so.1 + libiomp5.so"


def test_relocation_errors_of_musl_alone_belong_to_the_objects_that_they_name() -> None:
    text = (
        "Error relocating /gone/lib/libtorch_cpu.so: __vsnprintf_chk: symbol not found\n"
        "Error relocating /gone/lib/libc10.so: __memcpy_chk: symbol not found\n"
        "Error relocating ./gone: missing_function: symbol not found\n"
    )
    (report,) = check_text(text, "-")
    assert report.path == "./gone"
    assert {entry.name for entry in report.closure} >= {"libtorch_cpu.so", "libc10.so"}
    mismatch, undefined = sorted(report.findings, key=lambda finding: finding.rule)
    assert mismatch.rule == "c-library-mismatch"
    assert "libtorch_cpu.so, libc10.so" in mismatch.message
    assert (undefined.rule, undefined.subject, undefined.evidence) == (
        "undefined-symbol",
        "gone",
        ("missing_function",),
    )


@pytest.mark.parametrize("part", ["/gone/lib/libpthread.so.0", "/gone/lib/librt.so.1"])
def test_a_private_symbol_of_glibc_that_is_undefined_leads_to_the_copy(part: str) -> None:
    text = f"./gone: symbol lookup error: {part}: undefined symbol: __libc_vfork, version GLIBC_PRIVATE\n"
    (report,) = check_text(text, "-")
    (finding,) = report.findings
    assert (report.path, finding.severity) == ("./gone", Severity.ERROR)
    assert f"rm {part}" in finding.fix


def test_the_program_of_a_lookup_error_is_the_one_that_fails() -> None:
    (report,) = check_text("/gone/app: symbol lookup error: /gone/libmine.so: undefined symbol: f\n", "-")
    (finding,) = report.findings
    assert (report.path, finding.subject, finding.severity) == ("/gone/app", "libmine.so", Severity.ERROR)
