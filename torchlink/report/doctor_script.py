"""What the doctor would do, as a shell script to read and run by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.report.plain import lines, visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlink.doctor.facts import DoctorReport, Problem


def to_script(report: DoctorReport) -> str:
    """A POSIX shell script: what is needed as commands, what is optional as comments."""
    return "\n".join(_script(report)) + "\n"


def _script(report: DoctorReport) -> Iterator[str]:
    yield "#!/bin/sh"
    yield f"# What `torchlink doctor` would do on {visible(report.system)}; nothing of it is done."
    yield "# Read it, then run it with `. ./FILE`, so that what it exports stays set."
    needed = [problem for problem in report.problems if problem.severity != "note"]
    optional = [problem for problem in report.problems if problem.severity == "note"]
    commands = [command for problem in needed for command in problem.commands]
    installer = report.installer
    if installer and installer.refresh and any(command.startswith(installer.install) for command in commands):
        yield from ("", installer.refresh)
    for problem in needed:
        yield from ("", *_explained(problem), *problem.commands)
    if not needed:
        yield from ("", "# Nothing is missing.")
    if optional:
        yield from ("", "# Optional: remove the # before what you want.")
    for problem in optional:
        yield from _explained(problem)
        yield from (f"#{line}" for command in problem.commands for line in command.split("\n"))


def _explained(problem: Problem) -> Iterator[str]:
    text = " ".join(filter(None, (problem.what, problem.remedy)))
    yield from (f"# {line}" for line in lines(text))
