"""The report of `torchlink matrix`: as a text table, as Markdown or as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.matrix.cells import CANNOT, FAILED, OK
from torchlink.report.find import libtorch_to_json
from torchlink.report.plain import GREEN, RED, paint, plural, visible
from torchlink.report.verify import model_to_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torchlink.matrix.cells import Cell, Column, MatrixReport

YELLOW = "33"
COLORS = {OK: GREEN, FAILED: RED, CANNOT: YELLOW}
WORDS = {OK: "ok", FAILED: "FAILED", CANNOT: "not run"}
WAYS = {"cxx": "", "cmake": " by CMake", "nim": " by Nim"}
GAP = "   "


def to_json(report: MatrixReport) -> dict[str, object]:
    """Return the object of `torchlink matrix --json`; `row` and `column` of a cell are indices."""
    return {
        "schema": 1,
        "ok": report.exit_code == 0,
        "model": report.model,
        "device": report.device,
        "rows": [
            {
                "path": row.path,
                "libtorch": libtorch_to_json(row.libtorch) if row.libtorch else None,
                "error": row.error.to_json() if row.error else None,
            }
            for row in report.rows
        ],
        "columns": [
            {"cxx": column.compiler, "via": column.via, "name": column.name} for column in report.columns
        ],
        "cells": [
            {
                "row": report.rows.index(cell.row),
                "column": report.columns.index(cell.column),
                "status": cell.status,
                "error": cell.error.to_json() if cell.error else None,
                "seconds": round(cell.seconds, 3),
                "cached": cell.report.loader.cached if cell.report and cell.report.loader else None,
                "compiler": cell.report.compiler if cell.report else None,
                "emulator": cell.report.emulator.to_json() if cell.report and cell.report.emulator else None,
                "model": model_to_json(cell.model) if cell.model else None,
            }
            for cell in report.cells
        ],
    }


def to_text(report: MatrixReport, *, color: bool = False) -> str:
    """Return the table, then the reasons for the cells that are not ok.

    Args:
        report: what to show.
        color: write ANSI colours; only for a terminal.
    """
    reasons = _reasons(report)
    head = ["libtorch", *(title(column) for column in report.columns), "in"]
    body = [
        [row.version, *(_word(cell, reasons) for cell in report.cells_of(row)), row.path]
        for row in report.rows
    ]
    widths = [max(len(visible(line[number])) for line in (head, *body)) for number in range(len(head) - 1)]
    lines = [_line(head, widths)]
    for row, words in zip(report.rows, body, strict=True):
        colors = ["", *(COLORS[cell.status] for cell in report.cells_of(row)), ""]
        lines.append(_line(words, widths, colors if color else ()))
    return "\n".join((*lines, "", *_explanations(reasons), _sum(report))) + "\n"


def to_markdown(report: MatrixReport) -> str:
    """Return the same for a job's summary or a pull request."""
    reasons = _reasons(report)
    head = ["libtorch", *(title(column) for column in report.columns), "in"]
    lines = [_cells(head), "|" + " --- |" * len(head)]
    for row in report.rows:
        words = [_word(cell, reasons) for cell in report.cells_of(row)]
        lines.append(_cells([row.version, *words, f"`{row.path}`"]))
    explained = [f"{visible(line)}  " for line in _explanations(reasons)]
    return "\n".join((*lines, "", *explained, _sum(report))) + "\n"


def title(column: Column) -> str:
    """Return the heading of a column: `g++ 12.2.0 by CMake`."""
    return visible(column.name) + WAYS[column.via]


def _reasons(report: MatrixReport) -> list[Cell]:
    """Return one cell for each distinct reason why cells are not ok; their positions, from 1, number the reasons."""
    found: dict[str, Cell] = {}
    for cell in report.cells:
        if cell.error:
            found.setdefault(cell.error.message, cell)
    return list(found.values())


def _word(cell: Cell, reasons: list[Cell]) -> str:
    if cell.error is None:
        emulated = cell.report is not None and cell.report.emulator is not None
        return f"{WORDS[OK]} ({cell.report.compiler}, emulated)" if emulated and cell.report else WORDS[OK]
    number = next(
        number
        for number, each in enumerate(reasons, 1)
        if each.error and each.error.message == cell.error.message
    )
    return f"{WORDS[cell.status]} [{number}]"


def _line(words: Sequence[str], widths: Sequence[int], colors: Sequence[str] = ()) -> str:
    padded = [f"{visible(word):<{width}}" for word, width in zip(words, widths, strict=False)]
    painted = [
        paint(word, colors[number], color=True) if colors and colors[number] else word
        for number, word in enumerate(padded)
    ]
    return GAP.join((*painted, visible(words[-1])))


def _cells(words: Sequence[str]) -> str:
    return "| " + " | ".join(visible(word).replace("|", r"\|") for word in words) + " |"


def _explanations(reasons: list[Cell]) -> Iterator[str]:
    for number, cell in enumerate(reasons, 1):
        if cell.error is None:
            continue
        yield f"[{number}] {visible(cell.error.message)}"
        yield from (f"    {visible(line)}" for line in cell.error.details[:5])
        if cell.error.hint:
            yield f"    -> {visible(cell.error.hint)}"
    if reasons:
        yield ""


def _sum(report: MatrixReport) -> str:
    counts = [
        (sum(cell.status == status for cell in report.cells), status) for status in (OK, FAILED, CANNOT)
    ]
    words = {OK: "ok", FAILED: "failed", CANNOT: "could not be run"}
    listed = ", ".join(f"{count} {words[status]}" for count, status in counts if count)
    return f"{plural(len(report.cells), 'verification')}: {listed}."
