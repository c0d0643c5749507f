"""`verify --bench`: times of calls here and in Python, what explains them, the page with their distributions."""

from __future__ import annotations

import json
import re
import warnings
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import needed

torch = needed("torch")

from torch import Tensor, nn  # noqa: E402 - needs torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result

pytestmark = [
    pytest.mark.compile,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of torch.jit
]


class Talking(nn.Module):
    """Indices into a table: other values than those that are given would not fit."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 3)

    def forward(self, ids: Tensor, parts: list[Tensor], scale: float = 2.0) -> Tensor:
        print("the model speaks")
        return self.table(ids).sum(1) * scale + parts[0] + parts[1]


INPUTS = ("--input", "int64[2,4]=randint:0:5:1", "--input", "[float32[2,3], float32[2,3]=arange]")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "talking.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(Talking().eval()).save(str(path))
    return path


def model_of(result: Result) -> Any:
    (model,) = json.loads(result.out)["models"]
    return model


def check_figures(figures: dict[str, Any], runs: int, warmup: int) -> None:
    times = figures["times_ms"]
    assert (len(times), figures["runs"], figures["warmup"]) == (runs, runs, warmup)
    ordered = sorted(times)
    for share, name in ((0.5, "p50_ms"), (0.9, "p90_ms"), (0.99, "p99_ms")):
        below = sum(time <= figures[name] + 1e-6 for time in ordered)
        assert below >= share * runs
    assert ordered[0] > 0
    assert figures["first_ms"] > 0
    assert 20 < figures["peak_rss_mb"] < 8000


def test_calls_are_timed_and_what_they_print_goes_nowhere(verify: Callable[..., Result], model: Path) -> None:
    result = verify(model, *INPUTS, "--bench", "--bench-runs", "40", "--bench-warmup", "3", "--json")
    assert result.code == 0, result.out
    found = model_of(result)
    bench = found["bench"]
    (case,) = bench["cases"]
    check_figures(case, 40, 3)
    assert case["size"] is None
    assert case["against"] is None
    assert bench["first_ms"] == found["forward_ms"]
    assert {name: bench[name] for name in ("p50_ms", "p90_ms", "p99_ms", "throughput")} == {
        name: case[name] for name in ("p50_ms", "p90_ms", "p99_ms", "throughput")
    }
    assert case["throughput"] == pytest.approx(1000 * 40 / sum(case["times_ms"]), rel=1e-3)
    assert found["printed"].count("the model speaks") == 1


def test_sizes_are_timed_beside_python_with_the_same_threads(
    verify: Callable[..., Result], model: Path, tmp_path: Path
) -> None:
    page = tmp_path / "bench.html"
    arguments = (
        *(model, *INPUTS, "--against", "python", "--bench", "--bench-runs", "20", "--bench-threads", "1"),
        *("--bench-batch", "*:0=1,7", "--html", page),
    )
    result = verify(*arguments, "--json")
    assert result.code == 0, result.out
    bench = model_of(result)["bench"]
    assert [case["size"] for case in bench["cases"]] == [1, 7]
    for case in bench["cases"]:
        check_figures(case, 20, 10)
        check_figures(case["against"], 20, 10)
        assert case["throughput"] == pytest.approx(1000 * case["size"] * 20 / sum(case["times_ms"]), rel=1e-3)
    assert bench["against"].startswith("python (torch ")
    assert bench["settings"]["threads"] == bench["against_settings"]["threads"] == 1
    assert bench["settings"]["cpu_capability"] == bench["against_settings"]["cpu_capability"] != ""
    if bench["processors"] > 1:
        assert any("libtorch uses one thread of" in note for note in bench["notes"])
    check_page(page.read_text(encoding="utf-8"), bench)
    kept = page.read_bytes()
    again = verify(*arguments)
    assert (again.code, page.read_bytes()) == (2, kept)
    assert "--force" in again.err
    forced = verify(*arguments, "--force")
    assert forced.code == 0
    assert page.read_bytes() != kept
    assert re.search(r"\*:0=7 +C\+\+ ", forced.out)


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def check_page(text: str, bench: dict[str, Any]) -> None:
    """One that needs nothing else, well formed, with a sentence for each drawing."""
    page = Page()
    page.feed(text)
    assert page.open == []
    tags = {tag for tag, _ in page.tags}
    assert "script" not in tags
    assert not any(
        value and re.match(r"(?:https?:)?//", value)
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name in ("src", "href")
    )
    drawings = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(drawings) == 2 * len(bench["cases"])
    assert all(
        each["role"] == "img" and "half took at most" in (each["aria-label"] or "") for each in drawings
    )
    rows = sum(tag == "tr" and attributes.get("class") is not None for tag, attributes in page.tags)
    assert rows == 2 * len(bench["cases"])
    assert "prefers-color-scheme: dark" in text
    assert all(note in page.text for note in bench["notes"])


def test_a_variable_that_slows_it_down_is_named(
    verify: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    bench = model_of(verify("--bench", "--bench-runs", "5", "--env", "ATEN_CPU_CAPABILITY", "--json"))[
        "bench"
    ]
    notes = "\n".join(bench["notes"])
    assert bench["settings"]["threads"] == 1
    assert "OMP_NUM_THREADS=1 is set" in notes
    assert "ATEN_CPU_CAPABILITY=default is set" in notes
    assert "the longest of them" in notes


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--bench-runs", "5"), "--bench-runs goes with --bench"),
        (("--bench-batch", "x:0=1"), "--bench-batch goes with --bench"),
        (("--html", "b.html"), "--html goes with --bench"),
        (("--bench", "--bench-warmup", "-1"), "--bench-warmup -1: out of range"),
        (("--bench", "--bench-threads", "0"), "--bench-threads 0: out of range"),
        (("--bench", "--bench-batch", "x=1"), "--bench-batch x=1: not a batch"),
        (("--bench", "--bench-batch", "x:0="), "--bench-batch x:0=: not a batch"),
        (("--bench", "--bench-batch", "x:0=0"), "is out of range"),
        (("--bench", "--bench-batch", "y:0=1"), "no argument y"),
        (("--bench", "--bench-batch", "x:2=1"), "no tensor with a dimension 2"),
        (("--bench", "-j", "2"), "--bench and -j 2 cannot be combined"),
        (("--bench", "--html", "no/b.html"), "Cannot write no: No such file"),
    ],
)
def test_what_makes_no_sense_is_refused(
    verify: Callable[..., Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = verify(*arguments)
    assert result.code == 2
    assert said in result.err + result.out


def test_a_model_that_does_not_take_a_size_fails_with_it(
    verify: Callable[..., Result], tmp_path: Path
) -> None:
    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.view(2, 3) * 2

    torch.jit.script(Fixed()).save(str(tmp_path / "fixed.pt"))
    result = verify(
        *(tmp_path / "fixed.pt", "--input", "float32[2,3]", "--bench", "--bench-runs", "5"),
        *("--bench-batch", "x:0=2,3", "--json"),
    )
    found = model_of(result)
    assert (result.code, found["stage"]) == (1, "bench")
    assert found["error"]["message"].startswith("With --bench-batch x:0=3: ")
    assert [case["size"] for case in found["bench"]["cases"]] == [2]
