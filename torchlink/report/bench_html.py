"""The times of `verify --bench` as one self-contained HTML page: figures, and how the calls are distributed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from torchlink.paths import data_dir
from torchlink.report.plain import plural, visible
from torchlink.report.verify_bench import duration, here_beside, rate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BINS = 72
TICKS = 4  # at most so many steps of the axis
TAIL = 1.08  # of the largest 99th percentile is drawn; longer calls are counted beside it
HEIGHT = 64.0  # of a drawing; its width is 100
PERCENTILES = ("p50", "p90", "p99")


def render(entries: Sequence[Mapping[str, Any]], libtorch: Mapping[str, Any], *, version: str = "") -> str:
    """Return the page, which contains its style, has no script and makes no network requests.

    Args:
        entries: of `models` in the JSON of `verify`.
        libtorch: that of the JSON.
        version: torchlink's version; "": the running one.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from torchlink import __version__

    environment = Environment(
        loader=FileSystemLoader(data_dir("templates") / "verify"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    failed = sum(entry.get("error") is not None for entry in entries)
    page: str = environment.get_template("bench.html.j2").render(
        models=[_model(entry, number) for number, entry in enumerate(entries)],
        totals=plural(len(entries), "model") + (f", {failed} failed" if failed else ""),
        libtorch=visible(f"{libtorch.get('version')} in {libtorch.get('root')}"),
        version=version or __version__,
    )
    return page


def _model(entry: Mapping[str, Any], number: int) -> dict[str, Any]:
    bench, error = entry.get("bench"), entry.get("error")
    facts = [f"on {entry['device']}"] if entry.get("device") else []
    gpu = entry.get("gpu")
    if gpu and gpu.get("name"):
        facts.append(str(gpu["name"]))
    if entry.get("load_ms") is not None:
        facts.append(f"loaded in {duration(entry['load_ms'])}")
    model: dict[str, Any] = {
        "id": f"m{number}",
        "path": visible(str(entry.get("path"))),
        "error": None if error is None else visible(str(error.get("message"))),
        "skipped": visible(str(entry.get("skipped") or "")),
        "inputs": [visible(f"{each['name']} = {each['input']}") for each in entry.get("inputs") or ()],
        "cases": [],
        "rows": [],
        "notes": [],
        "settings": [],
        "batch": "",
    }
    if bench:
        other = visible(str(bench["against"])) if bench["against"] else ""
        if bench.get("against_load_ms") is not None:
            facts[-1] += f" ({other.partition(' (')[0]}: {duration(bench['against_load_ms'])})"
        threads, processors = bench["settings"]["threads"], bench["processors"]
        facts.append(f"{plural(threads, 'thread')} of libtorch on {plural(processors, 'processor')}")
        model |= {
            "batch": visible(bench["batch"] or ""),
            "unit": "samples/s" if bench["batch"] else "calls/s",
            "cases": [_case(case, bench, other) for case in bench["cases"]],
            "rows": _rows(bench, other),
            "notes": [visible(note) for note in bench["notes"]],
            "settings": _settings(bench, other),
            "other": other,
        }
    model["facts"] = ", ".join(map(visible, facts))
    return model


def _sides(case: Mapping[str, Any], other: str) -> list[tuple[str, str, Mapping[str, Any]]]:
    """What was timed: its class in the style, its name, its figures."""
    sides = [("here", here_beside(other), case)]
    return sides + ([("other", other, case["against"])] if case["against"] else [])


def _rows(bench: Mapping[str, Any], other: str) -> list[dict[str, Any]]:
    """The table: one row for each side of each case."""
    greatest = max(side["throughput"] for case in bench["cases"] for _, _, side in _sides(case, other))
    return [
        {
            "size": case["size"],
            "span": len(_sides(case, other)) if number == 0 else 0,
            "kind": kind,
            "name": name,
            "cells": [duration(side[key]) for key in ("first_ms", "p50_ms", "p90_ms", "p99_ms", "mean_ms")],
            "calls": side["runs"],
            "throughput": rate(side["throughput"]),
            "share": round(100 * side["throughput"] / greatest, 1) if greatest else 0,
            "peak": "" if side["peak_rss_mb"] is None else f"{side['peak_rss_mb']:.0f} MiB",
        }
        for case in bench["cases"]
        for number, (kind, name, side) in enumerate(_sides(case, other))
    ]


def _case(case: Mapping[str, Any], bench: Mapping[str, Any], other: str) -> dict[str, Any]:
    """The distributions of one size, on one scale."""
    sides = _sides(case, other)
    low = min(min(side["times_ms"]) for _, _, side in sides)
    most = max(max(side["times_ms"]) for _, _, side in sides)
    high = min(most, max(side["p99_ms"] for _, _, side in sides) * TAIL)
    margin = (high - low) * 0.02 or high * 0.1 or 1e-6
    scale = _Scale(max(0.0, low - margin), high + margin)
    label = f"{bench['batch']} = {case['size']}" if case["size"] else "Distribution of the calls"
    return {
        "label": visible(label),
        "lanes": [_lane(kind, name, side, scale) for kind, name, side in sides],
        "ticks": [
            {"at": round(scale.at(value), 2), "text": duration(value) if value else "0"}
            for value in scale.ticks()
        ],
    }


class _Scale:
    """Milliseconds as a share of the width, in per cent."""

    def __init__(self, low: float, high: float) -> None:
        self.low = low
        self.high = high

    def at(self, value: float) -> float:
        return 100 * (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round values, inside."""
        rough = (self.high - self.low) / TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * each for each in (1, 2, 5, 10) if power * each >= rough)
        first = math.ceil(self.low / step)
        count = int(self.high / step) - first + 1
        return [(first + number) * step for number in range(count)]


def _lane(kind: str, name: str, side: Mapping[str, Any], scale: _Scale) -> dict[str, Any]:
    """One histogram, with a sentence for those who do not see it."""
    times = side["times_ms"]
    counts = [0] * BINS
    for time in times:
        place = int(scale.at(time) / 100 * BINS)
        if place < BINS:
            counts[place] += 1
    top = max(counts) or 1
    longer = [time for time in times if time > scale.high]
    beyond = (
        f"{plural(len(longer), 'call')} took longer than is drawn, at most {duration(max(longer))}"
        if longer
        else ""
    )
    least, most = duration(min(times)), duration(max(times))
    half, nine, all_but_one = (duration(side[f"{each}_ms"]) for each in PERCENTILES)
    figures = f"p50 {half}, p90 {nine}, p99 {all_but_one}"
    return {
        "kind": kind,
        "name": name,
        "summary": figures,
        "beyond": beyond,
        "text": f"{name}: {plural(len(times), 'call')}, from {least} to {most}; half took at most {half}, 90 % at most "
        f"{nine}, 99 % at most {all_but_one}.",
        "bars": [
            {
                "x": round(100 * number / BINS, 3),
                "y": round(HEIGHT - (HEIGHT - 4) * count / top, 2),
                "height": round((HEIGHT - 4) * count / top, 2),
            }
            for number, count in enumerate(counts)
            if count
        ],
        "width": round(100 / BINS * 0.88, 3),
        "marks": [
            {"name": name, "x": round(min(100.0, scale.at(side[f"{name}_ms"])), 2)} for name in PERCENTILES
        ],
    }


def _settings(bench: Mapping[str, Any], other: str) -> list[tuple[str, str, str]]:
    """What of the settings was read: a name, here, there."""
    here, there = bench["settings"], bench["against_settings"] or {}
    rows = [
        ("threads", "threads"),
        ("interop threads", "interop_threads"),
        ("thread pool", "backend"),
        ("CPU capability", "cpu_capability"),
        ("OpenMP runtimes", "openmp"),
    ]
    found = [(title, _text(here.get(key)), _text(there.get(key))) for title, key in rows]
    built, built_there = here.get("build") or {}, there.get("build") or {}
    found += [
        (key, _text(built.get(key)), _text(built_there.get(key))) for key in sorted({*built, *built_there})
    ]
    return [(title, one, two if other else "") for title, one, two in found if one or two]


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(visible(str(each)) for each in value)
    return "" if value is None else visible(str(value))
