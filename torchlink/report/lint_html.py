"""A lint report as one self-contained HTML page: findings that can be filtered, and each closure as a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torchlink.lint.finding import Severity
from torchlink.paths import data_dir
from torchlink.report.finding_nodes import Nodes
from torchlink.report.graph_layout import NAME_CHARS, edges, layout, shorten
from torchlink.report.plain import brief, lines, plural, totals, visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torchlink.lint.finding import FileReport, Finding, LintReport, RuleDoc

GRAPHS = 20  # files whose closure is drawn; for a thousand programs the page would have 50 MB
HOW_ADVANCE = 5.9  # width in px of a character in a node's second line
SIGNS = {Severity.ERROR: "✗", Severity.WARNING: "▲", Severity.NOTE: "●"}


def render(report: LintReport, *, rules: Sequence[RuleDoc] = (), version: str = "") -> str:
    """Return the page, which contains its style and script and makes no network requests.

    Args:
        report: what to show.
        rules: all rules of lint; a finding shows the title of its rule and links to the rule's page.
        version: torchlink's version; "": the running one.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from torchlink import __version__

    environment = Environment(
        loader=FileSystemLoader(data_dir("templates") / "lint"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    drawn = 0
    files = []
    for number, file in enumerate(report.files):
        draw = bool(file.closure) and drawn < GRAPHS
        drawn += draw
        files.append(_file(file, number, draw=draw))
    page: str = environment.get_template("report.html.j2").render(
        files=files,
        totals=totals(report),
        counts=[(severity.value, SIGNS[severity], report.count(severity)) for severity in reversed(Severity)],
        rules=sorted({visible(f.rule) for file in report.files for f in file.findings}),
        docs={rule.id: rule for rule in rules},
        stale=[visible(sentence) for sentence in report.stale],
        version=version or __version__,
    )
    return page


def _file(file: FileReport, number: int, *, draw: bool) -> dict[str, object]:
    keys = {entry.key: index for index, entry in enumerate(file.closure)}
    nodes = Nodes(file)
    findings = [_finding(finding, [keys[key] for key in nodes.of(finding)]) for finding in file.findings]
    return {
        "id": f"f{number}",
        "path": visible(file.path),
        "kind": visible(file.kind),
        "unreadable": file.unreadable,
        "objects": plural(len(file.closure), "object") if file.closure else "",
        "findings": findings,
        "counts": [
            (severity.value, SIGNS[severity], plural(count, severity.value))
            for severity in reversed(Severity)
            if (count := sum(finding.severity is severity for finding in file.findings))
        ],
        "allowed": [
            {
                "rule": visible(a.finding.rule),
                "subject": visible(a.finding.subject),
                "reason": visible(a.reason),
            }
            for a in file.allowed
        ],
        "assumed": [visible(sentence) for sentence in file.assumed],
        "not_checked": [visible(sentence) for sentence in file.not_checked],
        "closure": [
            {
                "name": visible(entry.name),
                "path": None if entry.path is None else visible(entry.path),
                "how": visible(entry.found_via),
                "needed_by": visible(entry.needed_by or ""),
            }
            for entry in file.closure
        ],
        "graph": _graph(file, findings, keys) if draw else None,
    }


def _finding(finding: Finding, nodes: Sequence[int]) -> dict[str, Any]:
    return {
        "rule": visible(finding.rule),
        "severity": finding.severity.value,
        "sign": SIGNS[finding.severity],
        "subject": visible(finding.subject),
        "message": "\n".join(lines(finding.message)),
        "fix": "\n".join(lines(finding.fix)) if finding.fix else "",
        "evidence": [visible(evidence) for evidence in finding.shown],
        "nodes": nodes,
    }


def _second_line(about: str, found_via: str, chars: int) -> str:
    """Return the findings about a node, and how the object was found if there is room for that."""
    both = f"{about} · {found_via}" if about else found_via
    if len(both) <= chars:
        return both
    return (about or found_via)[: chars - 1] + ("…" if len(about or found_via) >= chars else "")


def _graph(
    file: FileReport, findings: Sequence[Mapping[str, Any]], keys: Mapping[str, int]
) -> dict[str, object]:
    """Return the drawing, and the details that the script shows for the selected node."""
    graph = edges(file.closure)
    drawing = layout(graph)
    nodes = []
    facts: list[dict[str, object]] = [{} for _ in file.closure]
    for key, box in drawing.boxes.items():
        entry = graph.entries[key]
        own = [finding for finding in findings if keys[key] in finding["nodes"]]
        state = "missing" if entry.path is None else "root" if key in graph.roots else "found"
        about = " ".join(
            f"{sign} {plural(count, severity.value)}"
            for severity, sign in SIGNS.items()
            if (count := sum(finding["severity"] == severity.value for finding in own))
        )
        found_via = visible(entry.found_via)
        name = visible(entry.name)
        nodes.append(
            {
                "index": keys[key],
                "x": round(box.x, 1),
                "y": round(box.y, 1),
                "width": round(box.width, 1),
                "state": state,
                "worst": own[0]["severity"] if own else "",
                "label": shorten(name.rpartition("/")[2] or name, NAME_CHARS),
                "second": _second_line(about, brief(found_via), int((box.width - 16) / HOW_ADVANCE)),
                "title": f"{name}, {found_via}" + (f", {visible(entry.path)}" if entry.path else ""),
            }
        )
        facts[keys[key]] = {
            "name": name,
            "path": None if entry.path is None else visible(entry.path),
            "how": found_via,
            "column": box.column,
            "searched": [visible(place) for place in entry.searched],
            "findings": [
                f"{finding['severity']}: {finding['rule']}: {finding['message']}" for finding in own
            ],
        }
    repeats = sum(not line.loads for line in drawing.lines)
    return {
        "width": round(drawing.width, 1),
        "height": round(drawing.height, 1),
        "nodes": nodes,
        "lines": [
            {
                "path": line.path,
                "kind": ("loads" if line.loads else "repeat") + (" cycle" if line.cycle else ""),
            }
            for line in drawing.lines
        ],
        "repeats": repeats,
        "cycles": any(line.cycle for line in drawing.lines),
        "missing": any(entry.path is None for entry in file.closure),
        "facts": {
            "nodes": facts,
            "edges": [
                [keys[line.source], keys[line.target], int(line.loads), int(line.cycle)]
                for line in drawing.lines
            ],
        },
    }
