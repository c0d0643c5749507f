"""The report of `torchlink bundle`, as text or JSON."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from torchlink.bundle.manifest import to_dict
from torchlink.lint.finding import Severity
from torchlink.report.cache import size_text
from torchlink.report.lint_json import finding_to_json
from torchlink.report.plain import encodable, plural, totals, visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlink.bundle.contents import BundleReport, LeftOut, Part
    from torchlink.lint.finding import FileReport

MOST_WARNINGS = 10  # warnings that the text shows; errors are all shown


def to_json(report: BundleReport) -> dict[str, object]:
    """Return the manifest with what it lacks: the bundle's directory, notes, and lint's findings."""
    document = to_dict(report.plan, report.written, report.licences)
    return {
        **document,
        "directory": encodable(str(report.directory)),
        "dry_run": report.dry,
        "size": sum(each.size for each in report.written.values()) or report.plan.size,
        "unlicensed": list(report.unlicensed),
        "notes": list(report.plan.notes),
        "findings": [
            {"path": encodable(inside(report, file)), **finding_to_json(finding)}
            for file in report.lint.files
            for finding in file.findings
        ]
        if report.lint
        else None,
    }


def to_text(report: BundleReport) -> str:
    """Return the files with their origin, the libraries that are left to the system, and lint's findings."""
    return "".join(f"{line}\n" for line in _lines(report))


def _lines(report: BundleReport) -> Iterator[str]:
    plan = report.plan
    count = plural(len(plan.libraries), "library").replace("librarys", "libraries")
    would = "would be " if report.dry else ""
    yield f"{visible(str(report.directory))}: {would}{visible(plan.binary.path)} with {count}, {size_text(plan.size)}"
    if plan.binary.patch:
        yield f"  {visible(plan.binary.path)}  {_change(plan.binary)}"
    yield from _table(
        f"needed, in {visible(plan.library_dir)}:", [part for part in plan.libraries if part.at_start]
    )
    later = [part for part in plan.libraries if not part.at_start]
    yield from _table("opened with dlopen, and their dependencies:", later)
    yield from _left_out(plan.left_out)
    if plan.floors:
        floors = [f"{floor.library} {floor.version} (needed by {floor.by})" for floor in plan.floors]
        yield visible(f"runs on: {plan.machine} Linux with {' and '.join(floors)} or newer")
    if not report.dry:
        texts = sum(map(len, report.licences.values()))
        lacking = f"; none found for {visible(', '.join(report.unlicensed))}" if report.unlicensed else ""
        yield f"licences: {plural(texts, 'text')} of {plural(len(report.licences), 'package')}{lacking}"
    for note in plan.notes:
        yield f"note: {visible(note)}"
    yield from _lint(report)


def _table(title: str, parts: list[Part]) -> Iterator[str]:
    if not parts:
        return
    yield title
    names = [visible(posixpath.basename(part.path)) for part in parts]
    width = max(map(len, names))
    for name, part in zip(names, parts, strict=True):
        owner = f"{part.owner.name} {part.owner.version or ''}".rstrip() if part.owner else "no package"
        why = f"by {part.why.by}" if part.why and part.why.by else "--add"
        change = f"  {_change(part)}" if part.patch else ""
        yield f"  {name:<{width}} {size_text(part.size):>9}  {visible(owner)}, {visible(why)}{change}"


def _change(part: Part) -> str:
    """Describe what was rewritten in a file."""
    assert part.patch is not None  # noqa: S101 - for the type checker; the callers have checked
    changes = []
    if part.patch.search_path is not None:
        path = ":".join(part.patch.search_path)
        changes.append(f"{part.patch.kind.upper()} now {path}" if path else "search path removed")
    changes += [f"NEEDED {old} now {new}" for old, new in part.patch.needed]
    return visible(f"(rewritten: {'; '.join(changes)})")


def _left_out(left_out: tuple[LeftOut, ...]) -> Iterator[str]:
    """Return the libraries that are left to the system, by reason."""
    reasons: dict[str, list[str]] = {}
    for each in left_out:
        reasons.setdefault(each.reason, []).append(visible(each.name))
    if reasons:
        yield "not bundled:"
    for reason, names in reasons.items():
        yield f"  {', '.join(names)}: {visible(reason)}"


def _lint(report: BundleReport) -> Iterator[str]:
    if report.lint is None:
        return
    found = [(file, finding) for file in report.lint.files for finding in file.findings]
    files = plural(len(report.lint.files), "file")
    yield f"lint: {totals(report.lint)}" if found else f"lint: clean ({files})"
    shown = [each for each in found if each[1].severity is Severity.ERROR]
    shown += [each for each in found if each[1].severity is Severity.WARNING][:MOST_WARNINGS]
    for file, finding in shown:
        text = f"{finding.severity.value}  {finding.rule}  {finding.subject}: {finding.message}"
        yield f"  {visible(inside(report, file))}: {visible(text)}"
    if len(shown) < len(found):
        yield f"  `torchlink lint {visible(str(report.directory))}` prints all findings"


def inside(report: BundleReport, file: FileReport) -> str:
    """Return the path of a linted file relative to the bundle's directory."""
    return posixpath.relpath(file.path, report.directory)
