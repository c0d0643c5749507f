"""An explanation as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from torchlink.paths import page_address
from torchlink.report.plain import encodable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torchlink.errors import TorchlinkError
    from torchlink.explain.explanation import Explanation, Found
    from torchlink.explain.lines import Line


def render(explanation: Explanation, failed: Sequence[TorchlinkError] = ()) -> str:
    """Return `{"schema": 1, "causes": [...], "recognised": [...]}`, and `errors` if some logs could not be read."""
    value = to_json(explanation)
    if failed:
        value["errors"] = [error.to_json() for error in failed]
    return json.dumps(value, indent=2) + "\n"


def to_json(explanation: Explanation) -> dict[str, object]:
    """Return the object that `render` writes."""
    value: dict[str, object] = {
        "schema": 1,
        "causes": [_cause(found) for found in explanation.causes],
        "recognised": [
            {"what": found.what, "evidence": [_line(found.evidence)], "next": list(found.next)}
            for found in explanation.recognised
        ],
    }
    if explanation.gaps:
        value["not_searched"] = [
            {"file": encodable(gap.file), "first": gap.first, "last": gap.last} for gap in explanation.gaps
        ]
    return value


def _cause(found: Found) -> dict[str, object]:
    value: dict[str, object] = {
        "id": found.cause.id,
        "stage": found.cause.stage,
        "certainty": found.certainty,
        "title": found.cause.title,
        "evidence": [_line(line) for line in found.evidence],
        "fix": [
            {"for": fix.target, "text": encodable(fix.text), "command": encodable(fix.command)}
            for fix in found.fixes
        ],
        "page": page_address(found.page) if found.page is not None else None,
    }
    if found.notes:
        value["notes"] = [encodable(note) for note in found.notes]
    return value


def _line(line: Line) -> dict[str, object]:
    return {"file": encodable(line.file), "line": line.number, "text": encodable(line.text)}
