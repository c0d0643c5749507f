"""What the tools of this machine print agrees with the files that they print it of."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.binary.live import elf_files
from tests.conftest import unmet
from tests.lint.builder import Builder, calls, functions, has
from torchlink.lint.checking import check_binary
from torchlink.lint.finding import Severity
from torchlink.lint.text.tool_output import check_text, listings

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.lint.finding import FileReport


SAMPLE = 40  # programs of /usr/bin


def ask(*words: str | Path, cwd: Path | None = None) -> str:
    """What a tool prints, on both streams."""
    done = subprocess.run(
        [str(word) for word in words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=cwd,
        check=False,
        timeout=60,
    )
    return done.stdout.decode("utf-8", "surrogateescape")


def rules_of(report: FileReport) -> set[str]:
    return {finding.rule for finding in report.findings}


@pytest.mark.compile
@pytest.mark.parametrize("way", [("ldd", "-v"), ("ldd", "-r", "-v")])
def test_a_binary_that_exists_here_gives_the_findings_of_its_file(
    builder: Builder, way: tuple[str, ...]
) -> None:
    library = builder.library("lib/libused.so", "int used(void) { return 1; }")
    idle = builder.library("lib/libidle.so", "int idle(void) { return 1; }")
    words = ("-Wl,--no-as-needed", library, idle, "-Wl,-rpath,$ORIGIN/lib")
    app = builder.build("app", "int used(void);\nint main(void) { return used(); }", *words)
    (report,) = check_text(ask(*way, app), "-")
    assert report.path == str(app)
    assert rules_of(report) == rules_of(check_binary(app)) == {"unused-library"}
    assert len(report.not_checked) == 1
    paths = {entry.name: entry.path for entry in report.closure if entry.path != str(app)}
    assert paths == {entry.name: entry.path for entry in check_binary(app).closure if entry.path != str(app)}


@pytest.mark.compile
@pytest.mark.parametrize("left", ["both files", "the library alone", "no file"])
def test_a_library_that_has_lost_its_versions_is_one_finding(builder: Builder, left: str) -> None:
    script = builder.path("versions.map")
    script.write_text("V_2 { global: number; local: *; };\n")
    library = builder.library("libv.so", "int number(void) { return 1; }", f"-Wl,--version-script,{script}")
    source = "int number(void);\nint main(void) { return number(); }"
    app = builder.program("app", source, library, "-Wl,-rpath,$ORIGIN")
    builder.library("libv.so", "int number(void) { return 1; }")
    text = ask("ldd", "-v", app)
    assert "libv.so (V_2) => not found" in text
    if left != "both files":
        app.rename(app.with_name("gone"))
    if left == "no file":
        library.unlink()
    (report,) = check_text(text, "-")
    (finding,) = report.findings
    assert finding.rule == "symbol-version-missing"
    assert finding.severity is Severity.ERROR
    assert ("has no symbol versions" in finding.message) == (left == "both files")


@pytest.mark.compile
def test_the_text_decides_where_a_library_is_found(builder: Builder) -> None:
    here = builder.library("here/libused.so", "int used(void) { return 1; }")
    builder.library("there/libused.so", "int other(void) { return 1; }")
    words = (here, "-Wl,-rpath,$ORIGIN/here")
    app = builder.build("app", "int used(void);\nint main(void) { return used(); }", *words)
    (report,) = check_text(ask("ldd", "-v", app), "-")
    assert not report.findings
    # As it was under LD_LIBRARY_PATH somewhere: the search here would find another one.
    (report,) = check_text(ask("ldd", "-v", app).replace("/here/", "/there/"), "-")
    assert rules_of(report) == {"undefined-symbol"}


@pytest.mark.compile
def test_a_file_of_another_build_than_the_text_is_not_read(builder: Builder) -> None:
    library = builder.library("lib/libused.so", "int used(void) { return 1; }")
    words = (library, "-Wl,-rpath,$ORIGIN/lib")
    app = builder.build("app", "int used(void);\nint main(void) { return used(); }", *words)
    text = "".join(line for line in ask("ldd", "-v", app).splitlines(keepends=True) if "libused" not in line)
    (report,) = check_text(text, "-")
    assert any("another build" in sentence and "libused.so" in sentence for sentence in report.not_checked)
    assert not report.findings


@pytest.mark.compile
def test_readelf_of_a_binary_that_exists_here_checks_the_binary(
    builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = builder.library("lib/libused.so", "int used(void) { return 1; }")
    app = builder.build(
        "app", "int used(void);\nint main(void) { return used(); }", library, "-Wl,-rpath,/nowhere"
    )
    monkeypatch.chdir(app.parent)
    first, second = check_text(ask("readelf", "-d", "app", "lib/libused.so"), "-")
    assert (first.path, first.kind, rules_of(first)) == ("app", "executable", {"library-not-found"})
    assert (second.path, second.kind) == ("lib/libused.so", "shared library")


@pytest.mark.compile
def test_the_wrong_abi_and_two_libtorchs_are_found_in_a_text(builder: Builder) -> None:
    lib, other = builder.torch(abi=1), builder.torch("other/lib", abi=1)
    words = (lib / "libtorch_cpu.so", lib / "libc10.so", "-Wl,-rpath,$ORIGIN/torch/lib")
    old = builder.library("libold.so", calls("_ZN5torch3jit4loadERKSs", main=False), *words)
    app = builder.program("app", calls("use_all"), old, "-Wl,-rpath,$ORIGIN")
    for text in (ask("ldd", "-r", app), ask("ldd", app)):  # read here, and told by the loader
        (report,) = check_text(text, "-")
        assert rules_of(report) == {"abi-mismatch"}
    text = ask("ldd", builder.program("sound", calls("_ZN2at13globalContextEv"), *words))
    twice = text + f"\tlibc10-0a1b2c3d.so => {other}/libc10.so (0x00007f0000000000)\n"
    (report,) = check_text(twice, "-")
    assert "duplicate-libtorch" in rules_of(report)


@pytest.mark.compile
def test_the_output_of_musls_ldd_agrees_with_the_file(builder: Builder) -> None:
    if not has("musl-gcc", "musl-ldd"):
        unmet("musl-tools")
    found_via = {"compiler": "musl-gcc"}
    used = builder.build("lib/libused.so", "int used(void) { return 1; }", "-shared", "-fPIC", **found_via)
    gone = builder.build("gone/libgone.so", "int gone(void) { return 1; }", "-shared", "-fPIC", **found_via)
    main = "int used(void);\nint gone(void);\nint main(void) { return used() + gone(); }"
    words = (f"-L{used.parent}", f"-L{gone.parent}", "-lused", "-lgone", "-Wl,-rpath,$ORIGIN/lib")
    app = builder.build("app", main, *words, **found_via)
    (report,) = check_text(ask("musl-ldd", app), "-")
    assert rules_of(check_binary(app)) == {"library-not-found"}
    # What the text adds is not lost: the symbols that musl could not relocate.
    assert rules_of(report) == {"library-not-found", "undefined-symbol"}
    (note,) = (finding for finding in report.findings if finding.rule == "undefined-symbol")
    assert (note.severity, note.evidence) == (Severity.NOTE, ("gone",))
    assert "libgone.so, not found, may define it" in note.message


@pytest.mark.compile
def test_a_libtorch_for_glibc_under_musl_is_one_finding_from_the_file_and_from_the_text(
    builder: Builder,
) -> None:
    if not has("musl-gcc", "musl-ldd"):
        unmet("musl-tools")
    lib = builder.torch()
    # As g++ links it: against glibc.
    source = 'int puts(const char *);\nint _ZN2at13globalContextEv(void) { return puts(""); }\n'
    for name in ("libtorch_cpu.so", "libc10.so"):
        (lib / name).unlink()
        chk = (
            f"void __fprintf_chk(void);\n{source}int in_{name[3:6]}(void) {{ __fprintf_chk(); return 0; }}\n"
        )
        builder.build(f"torch/lib/{name}", chk, "-shared", "-fPIC", f"-Wl,-soname,{name}")
    main = "int _ZN2at13globalContextEv(void);\nint main(void) { return _ZN2at13globalContextEv(); }"
    words = (f"-L{lib}", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{lib}", "-Wl,--allow-shlib-undefined")
    app = builder.build("app", main, "-Wl,--no-as-needed", *words, compiler="musl-gcc")
    text = ask("musl-ldd", app)
    elsewhere = text.replace(str(builder.directory), "/nowhere")
    for report in (check_binary(app), *check_text(text, "-"), *check_text(elsewhere, "-")):
        errors = [each for each in report.findings if each.severity is Severity.ERROR]
        assert len(errors) == 1, errors
        finding = errors[0]
        assert (finding.rule, finding.subject) == ("c-library-mismatch", "libtorch")
        assert "This libtorch is built for glibc" in finding.message
        assert "runs on musl" in finding.message
        assert "libtorch_cpu.so" in finding.message
        assert "ld-linux" not in finding.fix
        assert "library-not-found" not in rules_of(report)
    assert "__fprintf_chk" in finding.evidence[-1]


def test_a_sample_of_the_systems_programs_reads_the_same_from_text() -> None:
    programs = [file for file in elf_files("/usr/bin") if not file.is_symlink()]
    compared = 0
    for program in programs[:: max(1, len(programs) // SAMPLE)]:
        expected = check_binary(program, rules=())
        text = ask("ldd", program)
        if expected.not_checked or "not a dynamic" in text:  # static, or for another machine
            continue
        (listing,) = listings(text, str(program))
        found = {each.name: each.path for each in listing.libraries if each.path}
        closure = {each.name: each.path for each in expected.closure[1:] if each.path}
        assert found == {name: path for name, path in closure.items() if path != listing.interpreter}, program
        (report,) = check_text(text, "-")
        assert not [each for each in report.findings if each.severity is Severity.ERROR], program
        compared += 1
    assert compared >= SAMPLE // 2


def lddtree(file: Path) -> str:
    """What pax-utils' lddtree prints, by this Python, which has the pyelftools that it wants."""
    script = shutil.which("lddtree")
    if script is None:
        unmet("lddtree")
    return ask(sys.executable, script, file)


@pytest.mark.compile
def test_lddtrees_own_search_is_ignored_if_the_file_exists_here(builder: Builder) -> None:
    """It lets a RUNPATH be inherited, which the loader does not: such a program exits with 127."""
    deep = builder.library("lib/libdeep.so", "int deep(void) { return 1; }")
    user = builder.library("lib/libuser.so", "int deep(void);\nint used(void) { return deep(); }", deep)
    runpath = ("-Wl,--enable-new-dtags", f"-Wl,-rpath,{deep.parent}", "-Wl,--allow-shlib-undefined")
    app = builder.build("app", "int used(void);\nint main(void) { return used() - 1; }", user, *runpath)
    assert subprocess.run([str(app)], check=False, capture_output=True).returncode == 127
    text = lddtree(app)
    assert f"libdeep.so => {deep}" in text
    (report,) = check_text(text, "-")
    assert rules_of(report) == rules_of(check_binary(app))
    assert "runpath-not-inherited" in rules_of(report)
    assert "lddtree finds libdeep.so in a different place than the loader" in report.not_checked[0]


@pytest.mark.compile
def test_what_lddtree_found_through_the_environment_is_not_missing(
    builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = builder.library("lib/libused.so", "int used(void) { return 1; }")
    app = builder.build("app", "int used(void);\nint main(void) { return used(); }", library)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library.parent))
    (report,) = check_text(lddtree(app), "-")
    assert "library-not-found" not in rules_of(report)
    assert "The loader alone does not find libused.so" in report.not_checked[-1]


@pytest.mark.compile
def test_nvidias_libraries_in_ldd_of_libtorch_cuda_are_not_the_users(builder: Builder) -> None:
    lib = builder.torch()
    sparse = builder.library("nvidia/libcusparseLt.so.0", functions("cusparseLtInit"), "-Wl,-rpath,lib")
    words = (sparse, lib / "libtorch_cpu.so", lib / "libc10.so", f"-Wl,-rpath,$ORIGIN:{sparse.parent}")
    cuda = builder.library("torch/lib/libtorch_cuda.so", calls("cusparseLtInit", main=False), *words)
    (report,) = check_text(ask("ldd", cuda), "-")
    assert "rpath-relative" not in rules_of(report)
    mine = builder.library("nvidia/libmine.so", functions("cusparseLtInit"), "-Wl,-rpath,lib")
    (report,) = check_text(
        ask(
            "ldd",
            builder.library(
                "libuser.so", calls("cusparseLtInit", main=False), mine, "-Wl,-rpath,$ORIGIN/nvidia"
            ),
        ),
        "-",
    )
    assert "rpath-relative" in rules_of(report)
