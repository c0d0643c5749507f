"""The times of a model's calls as text, and as the `bench` of a model in JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.report.plain import plural, visible
from torchlink.verify.benching.settings import brief_name, ratio

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlink.verify.benching.figures import Bench, Figures, Settings

WIDTH = 9  # columns of a time
SECOND = 1000.0  # milliseconds
DIGITS = 6  # behind the point of a time in JSON: nanoseconds


def bench_to_json(bench: Bench) -> dict[str, object]:
    """The figures of the first case, then all of them; times are milliseconds."""
    return {
        **_figures_to_json(bench.cases[0].here),
        "batch": bench.batch or None,
        "against": bench.other or None,
        "against_load_ms": bench.other_load_ms,
        "cases": [
            {
                "size": case.size,
                **_figures_to_json(case.here),
                "times_ms": [round(each, DIGITS) for each in case.here.times_ms],
                "against": None
                if case.other is None
                else {
                    **_figures_to_json(case.other),
                    "times_ms": [round(each, DIGITS) for each in case.other.times_ms],
                },
            }
            for case in bench.cases
        ],
        "processors": bench.processors,
        "settings": _settings_to_json(bench.settings),
        "against_settings": _settings_to_json(bench.other_settings) if bench.other_settings else None,
        "notes": list(bench.notes),
    }


def _figures_to_json(figures: Figures) -> dict[str, object]:
    return {
        "first_ms": figures.first_ms,
        "p50_ms": figures.percentile(0.5),
        "p90_ms": figures.percentile(0.9),
        "p99_ms": figures.percentile(0.99),
        "mean_ms": figures.mean_ms,
        "throughput": figures.throughput,
        "runs": len(figures.times_ms),
        "warmup": figures.warmup,
        "peak_rss_mb": figures.peak_rss_mb,
    }


def _settings_to_json(settings: Settings) -> dict[str, object]:
    return {**settings._asdict(), "openmp": list(settings.openmp), "build": dict(settings.build)}


def bench_lines(bench: Bench) -> Iterator[str]:
    """A table of the figures, then what may explain them."""
    calls = bench.cases[0].here
    unit = "samples/s" if bench.batch else "calls/s"
    if bench.other_load_ms is not None:
        yield f"loaded by {visible(brief_name(bench.other))} in {duration(bench.other_load_ms)}"
    yield (
        f"{plural(len(calls.times_ms), 'call')} after {calls.warmup}, {plural(bench.settings.threads, 'thread')} of "
        f"libtorch on {plural(bench.processors, 'processor')}"
    )
    sizes = [f"{bench.batch}={case.size}" if case.size else "" for case in bench.cases]
    # Where there is nothing to tell apart the rows need no name.
    width = max((len(visible(each)) for each in sizes), default=0)
    names = (here_beside(bench.other), visible(brief_name(bench.other))) if bench.other else ("",)
    second = max(map(len, names))
    titles = [*(f"{each:>{WIDTH}}" for each in ("first", "p50", "p90", "p99")), f"{unit:>11}", f"{'peak':>9}"]
    left = width + (2 if width else 0) + second + (2 if second else 0)
    yield f"{'':<{left}}{''.join(titles)}"
    for label, case in zip(sizes, bench.cases, strict=True):
        for name, figures in zip(names, (case.here, case.other), strict=False):
            if figures is not None:
                cells = f"{visible(label) if name == names[0] else '':<{width}}{'  ' if width else ''}"
                yield f"{cells}{name:<{second}}{'  ' if second else ''}{_row(figures)}"
    found = ratio(bench)
    if found is not None:
        yield _compared(found, brief_name(bench.other))
    for note in bench.notes:
        yield f"note: {note}"


def _compared(found: float, other: str) -> str:
    """How the medians compare, at the size where C++ is worst."""
    if found >= 1:
        return f"a call takes {found:.2f} times as long as in {other} (median)"
    return f"a call takes {found:.2f} of the time that it takes in {other} (median)"


def here_beside(other: str) -> str:
    """What the run here is called beside another."""
    return "this libtorch" if other.startswith("libtorch ") else "C++"


def _row(figures: Figures) -> str:
    times = [figures.first_ms, *(figures.percentile(share) for share in (0.5, 0.9, 0.99))]
    peak = "" if figures.peak_rss_mb is None else f"{figures.peak_rss_mb:.0f} MiB"
    cells = [*(f"{duration(each):>{WIDTH}}" for each in times), f"{rate(figures.throughput):>11}"]
    return f"{''.join(cells)}{peak:>9}"


def duration(milliseconds: float) -> str:
    """`12.3 µs`, `12.3 ms`, `1.23 s`: three digits."""
    if milliseconds < 1:
        return f"{milliseconds * SECOND:.3g} µs"
    if milliseconds >= SECOND:
        return (
            f"{milliseconds / SECOND:.3g} s"
            if milliseconds < 100 * SECOND
            else f"{milliseconds / SECOND:.0f} s"
        )
    return f"{milliseconds:.3g} ms" if milliseconds < 100 else f"{milliseconds:.0f} ms"


def rate(throughput: float) -> str:
    """Per second, three digits."""
    return f"{throughput:.3g}" if throughput < 100 else f"{throughput:,.0f}"
