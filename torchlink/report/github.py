"""Reports for GitHub Actions: lint's annotations and step summary, and the jobs of a matrix of verifications.

The runner's limits: ten annotations of each level per step, 4096 characters each; 1 MiB of summary per step.
Escapes: <https://docs.github.com/actions/reference/workflow-commands-for-github-actions>, `@actions/core`.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, NamedTuple

from torchlink.lint.finding import Severity
from torchlink.report.matrix import title
from torchlink.report.plain import STREAM, lines, located, plural, totals, visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torchlink.libtorch.facts import Libtorch
    from torchlink.lint.finding import FileReport, Finding, LintReport
    from torchlink.matrix.cells import Column, Row


PER_LEVEL = 10
MESSAGE_LIMIT = 4096  # characters, before escaping
SUMMARY_LIMIT = 1_000_000  # bytes, below 1 MiB
LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "notice"}
_MARKDOWN = re.compile(r"[\\`*_{}\[\]<>()#|~&@:$!]")
# GitHub's own runners by the platform and architecture of a libtorch (GitHub's documentation, 2026).
RUNNERS = {
    ("linux", "x86_64"): "ubuntu-24.04",
    ("linux", "aarch64"): "ubuntu-24.04-arm",
    ("macos", "arm64"): "macos-14",
    ("macos", "x86_64"): "macos-15-intel",
}
UNPACKED = "libtorch-unpacked"  # the directory into which a job extracts a wheel


def render(report: LintReport, *, cwd: str, root: str) -> str:
    """Return workflow commands for the first ten findings of each level, a log group with the rest, and the totals.

    Args:
        report: what to show.
        cwd: the absolute directory that relative paths of the report start from.
        root: the absolute directory of the checkout (`GITHUB_WORKSPACE`); files below it get its paths.
    """
    commands: list[str] = []
    rest: list[str] = []
    left = dict.fromkeys(Severity, PER_LEVEL)
    for file in report.unreadable:
        if left[Severity.ERROR]:
            left[Severity.ERROR] -= 1
            commands.append(_unreadable(file, cwd, root))
        else:
            rest.append(harmless(f"{visible(file.path)}: could not be checked: {_why(file)}"))
    for severity in reversed(Severity):
        for file in report.files:
            for finding in (finding for finding in file.findings if finding.severity is severity):
                if left[severity]:
                    left[severity] -= 1
                    commands.append(_command(file, finding, cwd, root))
                else:
                    rest.append(_log_line(file, finding))
    if rest:
        commands += [f"::group::{plural(len(rest), 'further finding')}", *rest, "::endgroup::"]
    commands += [
        harmless(f"{visible(file.path)}: assumed: {visible(sentence)}")
        for file in report.files
        for sentence in file.assumed
    ]
    commands += [harmless(f"stale: {visible(sentence)}") for sentence in report.stale]
    return "\n".join([*commands, totals(report)]) + "\n"


def render_summary(report: LintReport) -> str:
    """Return the report as Markdown for `$GITHUB_STEP_SUMMARY`, truncated (with a remark) to GitHub's size limit."""
    head = f"### torchlink lint: {markdown(totals(report))}\n\n"
    size = len(head)
    parts = [head]
    for part in _sections(report):
        size += len(part.encode("utf-8", "backslashreplace"))
        if size > SUMMARY_LIMIT:
            parts.append("\n\n*The rest is too long for a summary; `torchlink lint` prints it.*\n")
            break
        parts.append(part)
    return "".join(parts)


def _unreadable(file: FileReport, cwd: str, root: str) -> str:
    """Return the annotation for a file that could not be checked."""
    return f"::error {_place(file, cwd, root)}title=torchlink lint could not check it::{data(_why(file))}"


def _why(file: FileReport) -> str:
    return " ".join(map(visible, file.not_checked))


def _place(file: FileReport, cwd: str, root: str) -> str:
    return "" if file.path == STREAM else f"file={property_value(located(file.path, cwd, root))},"


def _command(file: FileReport, finding: Finding, cwd: str, root: str) -> str:
    place = _place(file, cwd, root)
    text = [*lines(finding.message)]
    if finding.fix:
        text += ["", *lines(f"Fix: {finding.fix}")]
    text += map(visible, finding.shown)
    message = "\n".join(text)
    if len(message) > MESSAGE_LIMIT:
        message = message[: MESSAGE_LIMIT - 1] + "…"
    title = property_value(f"{finding.rule}: {finding.subject}")
    return f"::{LEVELS[finding.severity]} {place}title={title}::{data(message)}"


def _log_line(file: FileReport, finding: Finding) -> str:
    path, subject = visible(file.path), visible(finding.subject)
    return harmless(f"{path}: {finding.severity.value}: {visible(finding.rule)}: {subject}")


def harmless(line: str) -> str:
    """Change a log line that the runner would take for a command: `::…` at its start, `##[…]` anywhere."""
    line = line.replace("##[", "## [")
    return f"- {line}" if line.lstrip().startswith("::") else line


def data(text: str) -> str:
    """Return text as the message of a command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def property_value(text: str) -> str:
    """Return text as the value of a command's property."""
    return data(visible(text)).replace(":", "%3A").replace(",", "%2C")


def _sections(report: LintReport) -> Iterator[str]:
    for file in report.unreadable:
        yield f"- **could not be checked**: {code(file.path)}: {markdown(_why(file))}\n"
    if report.unreadable:
        yield "\n"
    for file in report.files:
        if not file.findings:
            continue
        yield f"#### {code(file.path)}\n\n| | rule | what | message and fix |\n|---|---|---|---|\n"
        for finding in file.findings:
            message = "<br>".join(markdown(line) for line in lines(finding.message))
            fix = "<br>".join(_fix(line) for line in lines(finding.fix))
            fix = f"<br><b>Fix:</b> {fix}" if finding.fix else ""
            yield (
                f"| {finding.severity.value} | {code(finding.rule)} | {code(finding.subject)} |"
                f" {message}{fix} |\n"
            )
        yield "\n"
    clean = [file for file in report.files if not file.findings and not file.unreadable]
    if clean:
        yield f"Clean: {', '.join(code(file.path) for file in clean)}\n\n"
    for file in report.files:
        for sentence in file.assumed:
            yield f"- assumed of {code(file.path)}: {markdown(sentence)}\n"
    for sentence in report.stale:
        yield f"- stale: {markdown(sentence)}\n"


def markdown(text: str) -> str:
    """Escape all Markdown, HTML, table, formula and mention characters as character references."""
    return _MARKDOWN.sub(lambda match: f"&#{ord(match[0])};", visible(text))


def _fix(line: str) -> str:
    """Format a line of a fix; an indented line is a command."""
    return code(line.strip()) if line.startswith(" ") else markdown(line)


def code(text: str) -> str:
    """Return text as code in Markdown."""
    return f"<code>{markdown(text)}</code>" if text.strip() else ""


class GithubMatrix(NamedTuple):
    """The result of `torchlink matrix --github`."""

    jobs: tuple[dict[str, object], ...]
    left_out: tuple[str, ...]  # a sentence for each libtorch without jobs


def github_matrix(
    rows: Sequence[Row], columns: Sequence[Column], model: str | None, options: Sequence[str] = ()
) -> GithubMatrix:
    """Return the jobs of GitHub's `strategy.matrix`: `{"include": [{…}]}`.

    `name` is for the job, `runner` for `runs-on`, `run` is the command that verifies, `torch` the release to
    install on a runner without torch; unknown values are omitted.

    Args:
        rows: usable libtorchs.
        columns: compilers and ways of building.
        model: a file; None: the bundled test model.
        options: further options of `torchlink verify`.
    """
    reasons = {row.path: reason for row in rows if row.libtorch and (reason := unverifiable(row.libtorch))}
    file = f"./{model}" if model and model.startswith("-") else model  # otherwise it would be an option
    arguments = [*([file] if file else []), *options]
    return GithubMatrix(
        tuple(_job(row, column, arguments) for row in rows if row.path not in reasons for column in columns),
        tuple(f"{path} is left out: {reason}." for path, reason in reasons.items()),
    )


def unverifiable(libtorch: Libtorch) -> str | None:
    """Return the reason why no job could verify a libtorch, or None."""
    if libtorch.platform == "windows":
        return "verify does not build with MSVC, which a libtorch for Windows needs"
    if (libtorch.platform, libtorch.arch) not in RUNNERS:
        return f"GitHub has no runner for {libtorch.platform} {libtorch.arch}"
    if libtorch.packed and libtorch.accelerator != "cpu":
        return (
            "it is not extracted, and needs libraries of other wheels as well; extract it with them "
            "(torchlink extract TORCH.whl COMPANION.whl... DIR) and use that directory"
        )
    return None


def _job(row: Row, column: Column, arguments: Sequence[str]) -> dict[str, object]:
    libtorch = row.libtorch
    packed = libtorch is not None and libtorch.packed
    command = ["torchlink", "verify", *arguments, "--libtorch", UNPACKED if packed else row.path]
    command += ["--compiler", column.compiler] if column.compiler else []
    command += ["--via", column.via]
    unpack = shlex.join(["torchlink", "extract", row.path, UNPACKED]) + " && " if packed else ""
    job: dict[str, object | None] = {
        "name": f"libtorch {row.version}, {title(column)}",
        "runner": RUNNERS.get((libtorch.platform, libtorch.arch)) if libtorch else None,
        "libtorch": row.path,
        "version": libtorch.version if libtorch else None,
        "torch": libtorch.version.partition("+")[0] if libtorch and libtorch.version else None,
        "platform": libtorch.platform if libtorch else None,
        "arch": libtorch.arch if libtorch else None,
        "cxx11_abi": libtorch.cxx11_abi if libtorch else None,
        "cxx_standard": libtorch.cxx_standard if libtorch else None,
        "accelerator": libtorch.accelerator if libtorch else None,
        "cxx": column.compiler,
        "via": column.via,
        "run": unpack + shlex.join(command),
    }
    return {name: value for name, value in job.items() if value is not None}
