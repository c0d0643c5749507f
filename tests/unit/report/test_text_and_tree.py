"""The formats for people: text and tree."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchlink.lint.finding import ClosureEntry, FileReport, LintReport
from torchlink.report import lint_text, lint_tree
from torchlink.report.graph_layout import edges
from torchlink.report.plain import brief, encodable, located, use_color, visible

if TYPE_CHECKING:
    from collections.abc import Callable

RENDERERS: list[Callable[[LintReport], str]] = [
    lint_text.render,
    lint_tree.render,
    lambda report: lint_text.render(report, verbose=True),
    lambda report: lint_tree.render(report, verbose=True),
]


def test_text_states_what_where_why_and_the_fix(torch_report: LintReport) -> None:
    text = lint_text.render(torch_report)
    assert "./build/app (executable, closure of 6 objects)" in text
    assert "  error    library-not-found  libcudart.so.12\n" in text
    assert "  warning  rpath-absolute     /home/someone/project/build/lib\n" in text
    assert "fix: Link with an rpath to it:\n" in text
    assert "  g++ … -Wl,-rpath,/opt/cuda/lib64\n" in text
    assert "| and 4 more (-v)" in text
    assert "not checked: Libraries that are opened at run time" in text
    assert "allowed: 1 finding (-v shows them)" in text
    assert "/usr/bin/tool (executable, closure of 2 objects): clean" in text
    assert "stale: no finding matches the allow entry for x" in text
    assert text.splitlines()[-1] == "1 error, 1 warning, 1 note in 2 files; 1 allowed."
    assert "\x1b" not in text


def test_what_no_text_can_show_is_one_line_without_v() -> None:
    usual = ("The text does not say a.", "The text does not say b.")
    file = FileReport("-", "ldd text", (), (), not_checked=("Its own point.", *usual), of_every_text=usual)
    text = lint_text.render(LintReport((file,)))
    assert "  not checked: Its own point.\n" in text
    assert "  not checked: 2 points that no such text can show (-v lists them)\n" in text
    assert "does not say" not in text
    verbose = lint_text.render(LintReport((file,)), verbose=True)
    assert [line for line in verbose.splitlines() if "not checked" in line] == [
        f"  not checked: {each}" for each in file.not_checked
    ]


def test_verbose_text_shows_all_evidence_the_allowed_and_the_searched_places(
    torch_report: LintReport,
) -> None:
    text = lint_text.render(torch_report, verbose=True)
    assert "| /place/7: no such file" in text
    assert "more (-v)" not in text
    assert "allowed: exec-stack libold.so (an old assembler wrote it)" in text
    assert "  searched for libcudart.so.12, needed by /venv/lib" in text
    assert "    2. /lib/x86_64-linux-gnu: no such file" in text


def test_a_clean_run_says_so() -> None:
    assert lint_text.render(LintReport(())) == "no findings in 0 files.\n"
    report = LintReport((FileReport("app", "executable", (), ()),))
    assert lint_text.render(report) == "app (executable): clean\n\nno findings in 1 file.\n"


def test_text_is_wrapped_but_paths_are_not_broken(torch_report: LintReport) -> None:
    for width in (1, 40, 60, 200):
        text = lint_text.render(torch_report, width=width, verbose=True)
        assert "/home/someone/project/build/lib" in text
        assert "-Wl,-rpath,/opt/cuda/lib64" in text
    narrow = lint_text.render(torch_report, width=60).splitlines()
    start = next(index for index, line in enumerate(narrow) if "libtorch_cuda.so needs" in line)
    assert [len(line) > 60 for line in narrow[start : start + 3]] == [False] * 3


def test_colour_changes_nothing_but_colour(torch_report: LintReport) -> None:
    for render in (lint_text.render, lint_tree.render):
        painted = render(torch_report, color=True)
        assert "\x1b[1;31m" in painted
        assert re.sub(r"\x1b\[[0-9;]*m", "", painted) == render(torch_report)


@pytest.mark.parametrize("render", RENDERERS)
def test_nothing_in_a_binary_reaches_the_terminal_raw(
    nasty_report: LintReport, render: Callable[[LintReport], str]
) -> None:
    text = render(nasty_report)
    assert all(char == "\n" or char.isprintable() for char in text)
    assert text.encode()


@pytest.mark.parametrize("render", RENDERERS)
def test_ten_thousand_findings_and_three_thousand_libraries_in_a_row_are_shown(
    huge_report: LintReport, chain_report: LintReport, render: Callable[[LintReport], str]
) -> None:
    assert render(huge_report).endswith("3334 errors, 3333 warnings, 3333 notes in 1 file.\n") or render(
        huge_report
    ).endswith("3333 errors, 3333 warnings, 3334 notes in 1 file.\n")
    assert "no findings in 1 file." in render(chain_report)


def test_tree_shows_who_loaded_what_how_and_what_is_missing(torch_report: LintReport) -> None:
    text = lint_tree.render(torch_report)
    assert text.startswith("./build/app (executable)\n")
    torch = "/venv/lib/python3.12/site-packages/torch/lib"
    assert f"├── libtorch_cpu.so → {torch}/libtorch_cpu.so [RUNPATH of app]\n" in text
    assert "│   └── already loaded: libc10.so, libc.so.6\n" in text
    assert "    ├── already loaded: libtorch_cpu.so, libc10.so, libtorch_cuda.so (cycle)\n" in text.replace(
        "│", " "
    )
    assert "└── libcudart.so.12 → NOT FOUND <error: library-not-found>\n" in text
    assert "[RUNPATH of app] <note: needed-but-unused>" in text
    assert "no such file" not in text
    assert "1. " + torch + ": no such file" in lint_tree.render(torch_report, verbose=True)


def test_a_missing_library_that_stops_the_loader_says_why() -> None:
    closure = (
        ClosureEntry("app", "app", "the file itself", None, needs=("libx.so",)),
        ClosureEntry("libx.so", None, "./libx.so is no ELF file", "app"),
    )
    text = lint_tree.render(LintReport((FileReport("app", "executable", (), closure),)))
    assert "└── libx.so → NOT FOUND [./libx.so is no ELF file]\n" in text


def test_every_object_is_in_the_tree_once(
    torch_report: LintReport, ring_report: LintReport, chain_report: LintReport
) -> None:
    for report in (torch_report, ring_report, chain_report):
        for file in report.files:
            graph = edges(file.closure)
            below = [child for children in graph.loads.values() for child in children]
            assert sorted([*graph.roots, *below]) == sorted({entry.key for entry in file.closure})


def test_a_ring_is_marked_and_ends(ring_report: LintReport) -> None:
    text = lint_tree.render(ring_report)
    assert "already loaded: c, a (cycle), b (cycle)" in text
    assert text.count("\n") < 20


def test_a_report_without_a_closure_still_names_its_file() -> None:
    report = LintReport((FileReport("-", "ldd text", (), ()),))
    assert lint_tree.render(report).startswith("- (ldd text)\n")


@pytest.mark.parametrize(
    ("encoding", "glyphs"),
    [
        ("utf-8", lint_tree.BOX),
        ("UTF-16", lint_tree.BOX),
        ("ascii", lint_tree.ASCII),
        ("ANSI_X3.4-1968", lint_tree.ASCII),
        ("latin-1", lint_tree.ASCII),
        ("cp1252", lint_tree.ASCII),
        (None, lint_tree.ASCII),
        ("nonsense", lint_tree.ASCII),
    ],
)
def test_box_characters_only_where_the_output_can_write_them(
    encoding: str | None, glyphs: lint_tree.Glyphs
) -> None:
    assert lint_tree.glyphs_for(encoding) == glyphs


def test_an_ascii_tree_is_ascii(torch_report: LintReport) -> None:
    text = lint_tree.render(torch_report, glyphs=lint_tree.ASCII)
    assert text.isascii()
    assert "|   `-- already loaded: libc10.so, libc.so.6\n" in text


@pytest.mark.parametrize(
    ("found_via", "expected"),
    [
        ("RUNPATH $ORIGIN/../lib of /a/b/app", "RUNPATH $ORIGIN/../lib of app"),
        ("ld.so.cache", "ld.so.cache"),
        ("RPATH /a of b of /c/d e", "RPATH /a of b of d e"),
        ("", ""),
    ],
)
def test_how_an_object_was_found_is_shown_without_directories(found_via: str, expected: str) -> None:
    assert brief(found_via) == expected


def test_colour_is_for_terminals_unless_a_variable_overrides_it() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert use_color(Terminal(), {})
    assert use_color(Terminal(), {"NO_COLOR": ""})
    assert not use_color(Terminal(), {"NO_COLOR": "1"})
    assert not use_color(Terminal(), {"TERM": "dumb"})
    assert not use_color(io.StringIO(), {})
    assert use_color(io.StringIO(), {"FORCE_COLOR": "1"})
    assert use_color(io.StringIO(), {"FORCE_COLOR": "1", "TERM": "dumb"})
    assert not use_color(io.StringIO(), {"FORCE_COLOR": ""})
    assert not use_color(Terminal(), {"FORCE_COLOR": "1", "NO_COLOR": "1"})


@given(st.text())
def test_visible_text_prints_and_text_that_prints_stays(text: str) -> None:
    assert visible(text).isprintable()
    if text.isprintable():
        assert visible(text) == text
    encodable(text).encode()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("app", "sub/app"),
        ("./build/../app", "sub/app"),
        ("/repo/app", "app"),
        ("../app", "app"),
        ("../../app", "/app"),
        ("/workshop/app", "/workshop/app"),
        ("/usr/bin/tool", "/usr/bin/tool"),
    ],
)
def test_a_path_is_relative_to_the_checkout(path: str, expected: str) -> None:
    assert located(path, "/repo/sub", "/repo") == expected
    assert located(path, "/repo/sub", "/repo/") == expected
