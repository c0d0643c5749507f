"""Findings are shown at the objects that they are about, in the tree and in the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.lint.finding import ClosureEntry, FileReport, Finding, LintReport, Severity
from torchlink.report import lint_html, lint_tree
from torchlink.report.finding_nodes import Nodes

if TYPE_CHECKING:
    from pathlib import Path


def two_copies(directory: Path) -> FileReport:
    """A program that would load two libc10s, one of them reached through `..`."""
    app, first = f"{directory}/bin/app", f"{directory}/bin/../one/libc10.so"
    second = f"{directory}/two/libc10-1a2b3c.so"
    evidence = (
        f"{directory}/one/libc10.so: RUNPATH of {app}, needed by {app}",
        f"{second}: RUNPATH of {app}, needed by {app}",
    )
    closure = (
        ClosureEntry(app, app, "the file itself", None, needs=(first, second)),
        ClosureEntry("libc10.so", first, f"RUNPATH of {app}", app),
        ClosureEntry("libc10-1a2b3c.so", second, f"RUNPATH of {app}", app),
    )
    finding = Finding("duplicate-libtorch", Severity.ERROR, "libc10", "two copies", "one", evidence)
    return FileReport(app, "executable", (finding,), closure)


def test_a_finding_about_several_objects_leads_to_each(tmp_path: Path) -> None:
    file = two_copies(tmp_path)
    copies = tuple(entry.path for entry in file.closure[1:])
    assert Nodes(file).of(file.findings[0]) == copies
    page = lint_html.render(LintReport((file,)))
    assert 'href="#f0-n1" data-graph="f0" data-node="1">Show it in the graph' in page
    assert page.count('<g class="node found error"') == 2
    tree = lint_tree.render(LintReport((file,)))
    assert tree.count("<error: duplicate-libtorch>") == 2


def test_names_joined_in_a_subject_lead_to_their_objects(tmp_path: Path) -> None:
    file = two_copies(tmp_path)
    joined = Finding("rule", Severity.NOTE, "libc10.so + libc10-1a2b3c.so", "both", "", ())
    assert len(Nodes(file).of(joined)) == 2
    assert Nodes(file).of(joined._replace(subject="$ORIGIN/x", evidence=("/x: no such file",))) == ()
