"""What `ldd`, `lddtree` and `readelf -d` printed (recorded in `texts/`) tells, and what is left open."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.binary.live import elf_files
from tests.conftest import unmet
from tests.lint.bench import Bench, calls, has
from torchlink.errors import MalformedFileError
from torchlink.lint.case import Wanted
from torchlink.lint.finding import Severity
from torchlink.lint.judge import judge
from torchlink.lint.targets import parse_target
from torchlink.lint.text_formats.detect import decode, listings
from torchlink.lint.texts import judge_text

if TYPE_CHECKING:
    from torchlink.lint.finding import FileReport
    from torchlink.lint.text_formats.listing import Listing

TEXTS = Path(__file__).parent / "texts"
SAMPLE = 40  # programs of /usr/bin


def recorded(name: str) -> str:
    return (TEXTS / f"{name}.txt").read_text(encoding="utf-8")


def shape(listing: Listing) -> tuple[str | None, list[str], list[str], list[str], list[str]]:
    """Subject, names found, names missing, undefined symbols, versions that are not there."""
    return (
        listing.subject,
        [each.name for each in listing.libraries if each.path],
        [each.name for each in listing.libraries if not each.path],
        [each.symbol for each in listing.undefined],
        [each.version for each in listing.versions if not each.found],
    )


AB = ["liba.so", "libc.so.6", "libb.so"]
TREE = ["liba.so", "libb.so", "libc.so.6"]
MUSL = ["liba.so", "libc.so", "libb.so"]
READ = [
    ("ldd-sound", [(None, AB, [], [], [])]),
    ("ldd-missing", [(None, AB, ["libgone.so"], [], [])]),
    (
        "ldd-r-undefined",
        [("./undefined", ["liba.so", "libgone.so", "libc.so.6", "libb.so"], [], ["gone"], [])],
    ),
    ("ldd-r-versioned", [("./versioned", ["libv.so", "libc.so.6"], [], ["w"], ["V_2"])]),
    ("ldd-v", [("./good", AB, [], [], [])]),
    ("ldd-v-versioned", [("./versioned", ["libv.so", "libc.so.6"], [], [], ["V_2", "V_2"])]),
    (
        "ldd-several",
        [
            ("./good", AB, [], [], []),
            ("./missing", AB, ["libgone.so"], [], []),
            ("./static", [], [], [], []),
        ],
    ),
    ("ldd-static", [(None, [], [], [], [])]),
    ("musl-ldd-sound", [(None, MUSL, [], [], [])]),
    ("musl-ldd-missing", [("m/missing", MUSL, ["libgone.so"], ["gone"], [])]),
    (
        "musl-ldd-undefined",
        [("m/undefined", ["liba.so", "libgone.so", "libc.so", "libb.so"], [], ["gone"], [])],
    ),
    ("lddtree", [("./good", TREE, [], [], []), ("./missing", TREE, ["libgone.so"], [], [])]),
    ("lddtree-a", [("./good", [*TREE, "ld-linux-x86-64.so.2"], [], [], [])]),
    ("lddtree-l", [("./good", TREE, [], [], []), ("./missing", TREE, ["libgone.so"], [], [])]),
    ("readelf-d", [(None, ["liba.so", "libc.so.6"], [], [], [])]),
    (
        "readelf-d-several",
        [
            ("./good", ["liba.so", "libc.so.6"], [], [], []),
            ("./static", [], [], [], []),
            ("lib/liba.so", ["libb.so"], [], [], []),
        ],
    ),
    (
        "readelf-d-french",
        [("./good", ["liba.so", "libc.so.6"], [], [], []), ("./static", [], [], [], [])],
    ),
    (
        "readelf-d-chinese",
        [("./good", ["liba.so", "libc.so.6"], [], [], []), ("lib/liba.so", ["libb.so"], [], [], [])],
    ),
    ("readelf-d-static", [(None, [], [], [], [])]),
    ("llvm-readelf-d", [("good", ["liba.so", "libc.so.6"], [], [], []), ("static", [], [], [], [])]),
    ("loader-missing", [("./missing", [], ["libgone.so"], [], [])]),
    ("loader-undefined", [("./undefined", [], [], ["gone"], [])]),
    ("loader-version", [("./versioned", [], [], [], ["V_2"])]),
]


@pytest.mark.parametrize(("name", "expected"), READ, ids=[name for name, _ in READ])
def test_what_a_tool_printed_is_read(name: str, expected: list[object]) -> None:
    assert [shape(listing) for listing in listings(recorded(name), name)] == expected


def test_every_recorded_text_is_tried() -> None:
    assert {path.stem for path in TEXTS.iterdir()} == {name for name, _ in READ} | {"ldd-absent", "ldd-u"}


@pytest.mark.parametrize("name", ["ldd-missing", "lddtree", "readelf-d-several", "musl-ldd-missing"])
def test_the_way_a_text_was_saved_does_not_matter(name: str) -> None:
    text = recorded(name)
    plain = [shape(listing) for listing in listings(text, name)]
    windows = text.replace("\n", "\r\n")
    for data in (windows.encode("utf-8-sig"), windows.encode("utf-16"), text.encode("utf-16")):
        assert [shape(listing) for listing in listings(decode(data, name), name)] == plain


def test_a_text_copied_from_a_page_may_have_lost_its_tabs() -> None:
    for indent in ("    ", ""):
        text = recorded("ldd-missing").replace("\t", indent)
        assert [shape(each) for each in listings(text, "x")] == [(None, AB, ["libgone.so"], [], [])]


def test_the_loader_of_any_language_and_system_is_no_library() -> None:
    for loader in ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux.so.2", "/lib/ld.so.1", "/lib64/ld64.so.2"):
        (listing,) = listings(f"\tlibm.so.6 => /lib/libm.so.6 (0x00007f00)\n\t{loader} (0x00007f10)\n", "x")
        assert listing.interpreter == loader
        assert [each.name for each in listing.libraries] == ["libm.so.6"]
    (listing,) = listings("\tlinux-gate.so.1 =>  (0xffffe000)\n\tlibm.so.6 => not found\n", "x")
    assert [each.name for each in listing.libraries] == ["libm.so.6"]


def test_a_program_that_is_not_dynamic_is_known_in_any_language() -> None:
    for sentence in (
        "not a dynamic executable",
        "das Programm ist nicht dynamisch gelinkt",
        "statically linked",
    ):
        for text in (f"\t{sentence}\n", f"./app:\n\t{sentence}\n"):
            (listing,) = listings(text, "x")
            assert listing.static


@pytest.mark.parametrize("text", ["", "\n\n", "hello\n", "error: no such file\n", "numpy\ntorch\n"])
def test_what_no_tool_printed_is_refused(text: str) -> None:
    with pytest.raises(MalformedFileError) as refused:
        listings(text, "-")
    assert refused.value.hint
    assert "Standard input" in refused.value.message


@pytest.mark.parametrize("name", ["ldd-absent", "ldd-u"])
def test_a_text_that_tells_of_no_binary_is_refused(name: str) -> None:
    with pytest.raises(MalformedFileError):
        list(judge_text(recorded(name), name))


LINES = st.sampled_from(
    [line for path in sorted(TEXTS.iterdir()) for line in recorded(path.stem).split("\n")]
)


@given(st.lists(st.one_of(LINES, st.text()), max_size=12))
def test_no_text_breaks_the_parsers(lines: list[str]) -> None:
    try:
        assert listings("\n".join(lines), "x")
    except MalformedFileError:
        return


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A current directory without the files that the recorded texts name."""
    monkeypatch.chdir(tmp_path)


def said(name: str, wanted: Wanted | None = None) -> list[FileReport]:
    return list(judge_text(recorded(name), "-", wanted))


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("ldd-sound", set()),
        ("ldd-missing", {"library-not-found"}),
        ("ldd-r-undefined", {"undefined-symbol"}),
        ("ldd-r-versioned", {"symbol-version-missing"}),
        ("ldd-v-versioned", {"symbol-version-missing"}),
        ("musl-ldd-missing", {"library-not-found"}),
        ("musl-ldd-undefined", {"undefined-symbol"}),
        ("lddtree-a", set()),
        ("readelf-d", set()),
        ("loader-missing", {"library-not-found"}),
        ("loader-undefined", {"undefined-symbol"}),
        ("loader-version", {"symbol-version-missing"}),
    ],
)
def test_what_a_text_tells_is_judged(name: str, rules: set[str]) -> None:
    (report,) = said(name)
    assert {finding.rule for finding in report.findings} == rules
    assert all(finding.severity is Severity.ERROR for finding in report.findings)
    assert report.not_judged


@pytest.mark.usefixtures("elsewhere")
def test_several_binaries_are_several_reports() -> None:
    reports = said("ldd-several")
    assert [(report.path, len(report.findings)) for report in reports] == [
        ("./good", 0),
        ("./missing", 1),
        ("./static", 0),
    ]
    assert "statically linked" in reports[2].not_judged[0]


@pytest.mark.usefixtures("elsewhere")
def test_symbol_versions_of_a_verbose_text_meet_the_target() -> None:
    wanted = Wanted(floors=parse_target("glibc=2.30"), target="glibc=2.30")
    (report,) = said("ldd-v", wanted)
    assert [(finding.rule, finding.subject) for finding in report.findings] == [
        ("floor-above-target", "GLIBC_2.34")
    ]
    (report,) = said("ldd-v", Wanted(floors=parse_target("glibc=2.36"), target="glibc=2.36"))
    assert not report.findings


@pytest.mark.parametrize(
    ("entry", "rule"),
    [
        ("/home/me/project/build/lib", "rpath-build-tree"),
        ("../lib", "rpath-relative"),
        ("/opt/there/is/none/lib", "rpath-absolute"),
    ],
)
def test_a_search_path_is_judged_from_readelf(entry: str, rule: str) -> None:
    (report,) = judge_text(recorded("readelf-d").replace("$ORIGIN/lib", entry), "-")
    assert [(finding.rule, finding.subject) for finding in report.findings] == [(rule, entry)]


def test_an_allowed_prefix_holds_for_readelf_too() -> None:
    wanted = Wanted(allowed_rpath=("$ORIGIN",))
    assert not next(judge_text(recorded("readelf-d"), "-", wanted)).findings
    other = Wanted(allowed_rpath=("/opt",))
    (report,) = judge_text(recorded("readelf-d"), "-", other)
    assert [finding.rule for finding in report.findings] == ["rpath-not-allowed"]


@pytest.mark.usefixtures("elsewhere")
def test_what_is_left_open_is_said() -> None:
    (sound,) = said("ldd-sound")
    text = " ".join(sound.not_judged)
    assert "does not name the binary" in text
    assert "/opt/app/lib/liba.so" in text
    assert "ldd -r" in text
    (musl,) = said("musl-ldd-sound")
    assert any("2>&1" in sentence for sentence in musl.not_judged)
    (musl,) = said("musl-ldd-missing")
    assert not any("2>&1" in sentence for sentence in musl.not_judged)
    (read,) = said("readelf-d")
    assert "left open" in read.not_judged[0]


@pytest.mark.usefixtures("elsewhere")
def test_names_alone_tell_of_two_cudas_and_a_test_library() -> None:
    text = (
        "\tlibcudart.so.12 => /opt/cuda12/lib/libcudart.so.12 (0x00007f00)\n"
        "\tlibcudart.so.13 => /opt/cuda13/lib/libcudart.so.13 (0x00007f10)\n"
    )
    (report,) = judge_text(text, "-")
    assert [finding.rule for finding in report.findings] == ["cuda-major-mix"]
    row = " 0x0000000000000001 (NEEDED)             Shared library: [libtorchbind_test.so]\n"
    (report,) = judge_text(recorded("readelf-d") + row, "-")
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
def test_a_binary_that_is_here_is_judged_like_its_own_file(bench: Bench, way: tuple[str, ...]) -> None:
    library = bench.library("lib/libused.so", "int used(void) { return 1; }")
    idle = bench.library("lib/libidle.so", "int idle(void) { return 1; }")
    words = ("-Wl,--no-as-needed", library, idle, "-Wl,-rpath,$ORIGIN/lib")
    app = bench.build("app", "int used(void);\nint main(void) { return used(); }", *words)
    (report,) = judge_text(ask(*way, app), "-")
    assert report.path == str(app)
    assert rules_of(report) == rules_of(judge(app)) == {"unused-library"}
    assert len(report.not_judged) == 1
    paths = {entry.name: entry.path for entry in report.closure if entry.path != str(app)}
    assert paths == {entry.name: entry.path for entry in judge(app).closure if entry.path != str(app)}


@pytest.mark.compile
def test_the_text_decides_where_a_library_is_found(bench: Bench) -> None:
    here = bench.library("here/libused.so", "int used(void) { return 1; }")
    bench.library("there/libused.so", "int other(void) { return 1; }")
    words = (here, "-Wl,-rpath,$ORIGIN/here")
    app = bench.build("app", "int used(void);\nint main(void) { return used(); }", *words)
    (report,) = judge_text(ask("ldd", "-v", app), "-")
    assert not report.findings
    # As it was under LD_LIBRARY_PATH somewhere: the search here would find another one.
    (report,) = judge_text(ask("ldd", "-v", app).replace("/here/", "/there/"), "-")
    assert rules_of(report) == {"undefined-symbol"}


@pytest.mark.compile
def test_a_file_of_another_build_than_the_text_is_not_read(bench: Bench) -> None:
    library = bench.library("lib/libused.so", "int used(void) { return 1; }")
    words = (library, "-Wl,-rpath,$ORIGIN/lib")
    app = bench.build("app", "int used(void);\nint main(void) { return used(); }", *words)
    text = "".join(line for line in ask("ldd", "-v", app).splitlines(keepends=True) if "libused" not in line)
    (report,) = judge_text(text, "-")
    assert any("another build" in sentence and "libused.so" in sentence for sentence in report.not_judged)
    assert not report.findings


@pytest.mark.compile
def test_readelf_on_a_binary_that_is_here_leads_to_the_binary(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = bench.library("lib/libused.so", "int used(void) { return 1; }")
    app = bench.build(
        "app", "int used(void);\nint main(void) { return used(); }", library, "-Wl,-rpath,/nowhere"
    )
    monkeypatch.chdir(app.parent)
    first, second = judge_text(ask("readelf", "-d", "app", "lib/libused.so"), "-")
    assert (first.path, first.kind, rules_of(first)) == ("app", "executable", {"library-not-found"})
    assert (second.path, second.kind) == ("lib/libused.so", "shared library")


@pytest.mark.compile
def test_the_wrong_abi_and_two_libtorchs_are_known_from_text(bench: Bench) -> None:
    lib, other = bench.torch(abi=1), bench.torch("other/lib", abi=1)
    words = (lib / "libtorch_cpu.so", lib / "libc10.so", "-Wl,-rpath,$ORIGIN/torch/lib")
    old = bench.library("libold.so", calls("_ZN5torch3jit4loadERKSs", main=False), *words)
    app = bench.program("app", calls("use_all"), old, "-Wl,-rpath,$ORIGIN")
    for text in (ask("ldd", "-r", app), ask("ldd", app)):  # read here, and told by the loader
        (report,) = judge_text(text, "-")
        assert rules_of(report) == {"abi-mismatch"}
    text = ask("ldd", bench.program("sound", calls("_ZN2at13globalContextEv"), *words))
    twice = text + f"\tlibc10-0a1b2c3d.so => {other}/libc10.so (0x00007f0000000000)\n"
    (report,) = judge_text(twice, "-")
    assert "duplicate-libtorch" in rules_of(report)


@pytest.mark.compile
def test_musls_own_words_agree_with_the_file(bench: Bench) -> None:
    if not has("musl-gcc", "musl-ldd"):
        unmet("musl-tools")
    how = {"compiler": "musl-gcc"}
    used = bench.build("lib/libused.so", "int used(void) { return 1; }", "-shared", "-fPIC", **how)
    gone = bench.build("gone/libgone.so", "int gone(void) { return 1; }", "-shared", "-fPIC", **how)
    main = "int used(void);\nint gone(void);\nint main(void) { return used() + gone(); }"
    words = (f"-L{used.parent}", f"-L{gone.parent}", "-lused", "-lgone", "-Wl,-rpath,$ORIGIN/lib")
    app = bench.build("app", main, *words, **how)
    (report,) = judge_text(ask("musl-ldd", app), "-")
    assert rules_of(report) == rules_of(judge(app)) == {"library-not-found"}


def test_a_sample_of_the_systems_programs_reads_the_same_from_text() -> None:
    programs = [file for file in elf_files("/usr/bin") if not file.is_symlink()]
    compared = 0
    for program in programs[:: max(1, len(programs) // SAMPLE)]:
        expected = judge(program, rules=())
        text = ask("ldd", program)
        if expected.not_judged or "not a dynamic" in text:  # static, or for another machine
            continue
        (listing,) = listings(text, str(program))
        found = {each.name: each.path for each in listing.libraries if each.path}
        closure = {each.name: each.path for each in expected.closure[1:] if each.path}
        assert found == {name: path for name, path in closure.items() if path != listing.interpreter}, program
        (report,) = judge_text(text, "-")
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
def test_lddtrees_own_way_of_searching_does_not_count_where_the_file_is_here(bench: Bench) -> None:
    """It lets a RUNPATH be inherited, which the loader does not: such a program exits with 127."""
    deep = bench.library("lib/libdeep.so", "int deep(void) { return 1; }")
    user = bench.library("lib/libuser.so", "int deep(void);\nint used(void) { return deep(); }", deep)
    runpath = ("-Wl,--enable-new-dtags", f"-Wl,-rpath,{deep.parent}", "-Wl,--allow-shlib-undefined")
    app = bench.build("app", "int used(void);\nint main(void) { return used() - 1; }", user, *runpath)
    assert subprocess.run([str(app)], check=False, capture_output=True).returncode == 127
    text = lddtree(app)
    assert f"libdeep.so => {deep}" in text
    (report,) = judge_text(text, "-")
    assert rules_of(report) == rules_of(judge(app))
    assert "runpath-not-inherited" in rules_of(report)
    assert "lddtree finds libdeep.so elsewhere than the loader does" in report.not_judged[0]


@pytest.mark.compile
def test_what_lddtree_found_through_the_environment_is_found(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = bench.library("lib/libused.so", "int used(void) { return 1; }")
    app = bench.build("app", "int used(void);\nint main(void) { return used(); }", library)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library.parent))
    (report,) = judge_text(lddtree(app), "-")
    assert "library-not-found" not in rules_of(report)
    assert "The loader alone would not find libused.so" in report.not_judged[-1]
