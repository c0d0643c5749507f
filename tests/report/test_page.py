"""The HTML page: complete, safe, laid out without overlaps, and working in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import combinations
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchlink.lint.finding import ClosureEntry, FileReport, LintReport, RuleDoc
from torchlink.report import lint_html
from torchlink.report.graph_layout import (
    CHAR,
    HEIGHT,
    NAME_CHARS,
    PADDING,
    Drawing,
    Edges,
    edges,
    layout,
    shorten,
)

if TYPE_CHECKING:
    from pathlib import Path

VOID = {"meta", "link", "input", "br"}


class Page(HTMLParser):
    """Reads a page and checks that its elements are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[tuple[str, str]] = []
        self.facts: list[dict[str, list[object]]] = []
        self.text = ""
        self.in_facts = False
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        found = dict(attrs)
        if found.get("id"):
            self.ids.append(str(found["id"]))
        self.links += [
            (tag, str(found[name])) for name in ("src", "href", "action", "data") if found.get(name)
        ]
        self.in_facts = found.get("type") == "application/json"
        if tag == "script":
            assert not found.get("src")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.in_facts:
            self.facts.append(json.loads(data))
            self.in_facts = False
        else:
            self.text += data


def test_page_shows_findings_and_graph(torch_report: LintReport, rules: tuple[RuleDoc, ...]) -> None:
    page = Page(lint_html.render(torch_report, rules=rules))
    for words in (
        "1 error, 1 warning, 1 note in 2 files; 1 allowed.",
        "libtorch_cuda.so needs libcudart.so.12",
        "A library that the loader will not find.",
        "g++ … -Wl,-rpath,/opt/cuda/lib64",
        "/place/7: no such file",
        "Not checked:",
        "an old assembler wrote it",
        "✗ not found",
        "Stale:",
        "6 further NEEDED edges lead",
        "no findings",
    ):
        assert words in page.text, words
    assert ("a", "https://example.org/rules#library-not-found") in page.links
    assert len(page.facts) == 2
    assert [len(facts["nodes"]) for facts in page.facts] == [6, 2]


def test_page_asks_the_network_for_nothing(torch_report: LintReport, nasty_report: LintReport) -> None:
    for report in (torch_report, nasty_report):
        text = lint_html.render(report)
        assert "default-src 'none'" in text
        targets = {target for _, target in Page(text).links}
        assert all(target == "data:," or target.startswith("#") for target in targets)
        assert "@import" not in text
        assert "url(http" not in text


def test_page_of_anything_is_well_formed_and_runs_nothing_of_it(nasty_report: LintReport) -> None:
    text = lint_html.render(nasty_report)
    page = Page(text)
    assert "<script>alert" not in text
    assert len(page.ids) == len(set(page.ids))
    assert text.encode()
    assert "\x1b" not in text
    assert "{{ 7 * 7 }}" in page.text


def test_page_draws_the_first_twenty_closures_only() -> None:
    file = FileReport("app", "executable", (), (ClosureEntry("app", "app", "the file itself", None),))
    page = Page(lint_html.render(LintReport((file,) * 25)))
    assert len(page.facts) == lint_html.GRAPHS == 20


def test_ten_thousand_findings_and_three_thousand_libraries_make_a_page(
    huge_report: LintReport, chain_report: LintReport
) -> None:
    assert lint_html.render(huge_report).count("<article") == 10_000
    assert Page(lint_html.render(chain_report)).facts


def check(graph: Edges, drawing: Drawing) -> None:
    """Assert that every node is drawn once and overlaps no other, and that loading edges do not share lanes."""
    assert set(drawing.boxes) == set(graph.entries)
    for one, other in combinations(drawing.boxes.values(), 2):
        apart = abs(one.y - other.y) >= HEIGHT
        beside = one.x + one.width <= other.x or other.x + other.width <= one.x
        assert apart or beside
    for box in drawing.boxes.values():
        assert 0 < box.x <= drawing.width - box.width
        assert 0 < box.y <= drawing.height - HEIGHT
    loads = [line for line in drawing.lines if line.loads]
    assert len(loads) == len(graph.parents)
    lanes: dict[float, dict[str, tuple[float, float]]] = {}
    for line in loads:
        source, target = drawing.boxes[line.source], drawing.boxes[line.target]
        assert target.column == source.column + 1
        assert target.y >= source.y
        turn = re.search(r"Q([\d.]+) ", line.path)
        if turn:
            spans = lanes.setdefault(float(turn[1]), {})
            low, high = spans.get(line.source, (source.y, target.y))
            spans[line.source] = (min(low, source.y), max(high, target.y))
    for spans in lanes.values():
        for one_span, other_span in combinations(spans.values(), 2):
            assert one_span[1] < other_span[0] or other_span[1] < one_span[0]


def test_drawings_have_no_overlaps(torch_report: LintReport, ring_report: LintReport) -> None:
    for report in (torch_report, ring_report):
        for file in report.files:
            graph = edges(file.closure)
            check(graph, layout(graph))


@given(
    st.lists(st.tuples(st.integers(0, 79), st.lists(st.integers(0, 79), max_size=6)), min_size=1, max_size=80)
)
def test_drawings_of_any_closure_have_no_overlaps(shape: list[tuple[int, list[int]]]) -> None:
    closure = tuple(
        ClosureEntry(
            f"lib{number}",
            f"/{number}" if number % 5 else None,
            "RUNPATH",
            f"/{parent % number}" if number else None,
            needs=tuple(f"/{child}" for child in needs),
        )
        for number, (parent, needs) in enumerate(shape)
    )
    graph = edges(closure)
    check(graph, layout(graph))


def test_an_empty_closure_is_an_empty_drawing() -> None:
    drawing = layout(edges(()))
    assert not drawing.boxes
    assert drawing.width > 0


@pytest.mark.parametrize("name", ["", "libx.so", "lib" + "x" * 60 + ".so.1.2.3"])
def test_a_label_fits_into_its_node(name: str) -> None:
    closure = (ClosureEntry(name, "/" + name, "the file itself", None),)
    (box,) = layout(edges(closure)).boxes.values()
    label = shorten(name, NAME_CHARS)
    assert len(label) * CHAR + PADDING <= box.width + CHAR
    assert label == name or (label.startswith("lib") and label.endswith(".so.1.2.3"))


SCRIPT = """<script>
const press = (name) => new KeyboardEvent("keydown", {key: name, bubbles: true});
const key = (name) => document.activeElement.dispatchEvent(press(name));
const name = () => document.activeElement.getAttribute("aria-label").split(",")[0];
const said = [];
const shown = () => document.querySelector(".shown").textContent;
const errors = document.querySelector("[value=error]");
errors.click(); said.push(shown()); errors.click();
const form = document.querySelector(".filter");
form.elements.text.value = "OPT/CUDA"; form.dispatchEvent(new Event("input")); said.push(shown());
form.elements.text.value = ""; form.elements.rule.value = "rpath-absolute";
form.dispatchEvent(new Event("input"));
said.push(shown());
const graph = document.querySelector("#f0-graph");
graph.querySelector(".node[tabindex='0']").focus(); said.push(name());
for (const arrow of ["ArrowRight", "ArrowDown", "ArrowRight"]) { key(arrow); said.push(name()); }
said.push(graph.querySelector(".details h4").textContent, graph.querySelectorAll(".edge.hot").length);
said.push(graph.querySelector(".details").innerText.includes("no such file"));
key("Enter"); said.push(document.activeElement.getAttribute("aria-pressed"));
said.push(graph.querySelectorAll(".node[tabindex='0']").length);
key("Escape"); said.push(graph.querySelector(".details").hidden);
document.querySelector(".to-graph a").click(); said.push(name());
document.title = JSON.stringify(said);
</script></body>"""


def title_of(browser: str, page: Path, profile: Path) -> str:
    """The title of a page after its scripts have run."""
    done = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={profile}",
            "--virtual-time-budget=5000",  # the page's scripts run before the page is printed
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    match = re.search(r"<title>(.*?)</title>", done.stdout)
    assert match, done.stderr
    return match[1].replace("&quot;", '"')


def test_filter_and_graph_work_by_keyboard_in_a_browser(torch_report: LintReport, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium: the page is looked at where there is one")
    page = tmp_path / "page.html"
    page.write_text(lint_html.render(torch_report).replace("</body>", SCRIPT), encoding="utf-8")
    # A busy machine may print the page before its scripts have had the focus; then the title is still the page's.
    titles = (title_of(browser, page, tmp_path / f"profile {attempt}") for attempt in range(5))
    said = next((title for title in titles if title.startswith("[")), "[]")
    assert json.loads(said) == [
        "2 of 3 shown",
        "1 of 3 shown",
        "1 of 3 shown",
        "./build/app",
        "libtorch_cpu.so",
        "libtorch_cuda.so",
        "libcudart.so.12",
        "libcudart.so.12",
        2,
        True,
        "true",
        1,
        True,
        "libcudart.so.12",
    ]
