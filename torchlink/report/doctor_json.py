"""The report of `torchlink doctor` as JSON, and its remedies as a shell script."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.report.find import search_to_json
from torchlink.report.plain import lines, visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torchlink.doctor.report import DoctorReport, Driver, FoundCompiler, Problem
    from torchlink.toolchain.types import Tool


def to_json(report: DoctorReport) -> dict[str, object]:
    """Return the object of `torchlink doctor --json`; `libtorch` and `candidates` are those of `find --all`."""
    return {
        **search_to_json(report.search),
        "ok": report.exit_code == 0,
        "machine": {
            "platform": report.machine.platform,
            "arch": report.machine.arch,
            "system": report.system,
            "installer": report.installer.program if report.installer else None,
        },
        "compilers": [_compiler(each, taken=each is report.default_compiler) for each in report.compilers],
        "tools": _tools(report.tools),
        "linkers": _tools(report.linkers),
        "driver": _driver(report.driver),
        "cuda_toolkit": _toolkit(report),
        "fits": [
            {
                "libtorch": str(fit.libtorch.root),
                "compiler": fit.compiler.names[0],
                "ok": fit.ok,
                "abi": fit.abi,
                "cxx_standard": fit.cxx_standard,
                "error": fit.error.to_json() if fit.error else None,
                "missing": list(fit.missing),
            }
            for fit in report.fits
        ],
        "accelerators": [
            {
                "libtorch": str(each.libtorch.root),
                "accelerator": each.libtorch.accelerator,
                "accelerator_version": each.libtorch.accelerator_version,
                "runs": each.runs,
                "why": each.why,
            }
            for each in report.accelerators
        ],
        "emulator": report.emulator.to_json() if report.emulator else None,
        "variables": [
            {
                "name": each.name,
                "value": each.value,
                "entries": [
                    {
                        "entry": named.entry,
                        "exists": named.exists,
                        "libtorch": named.libtorch,
                        "instead": list(named.instead),
                    }
                    for named in each.entries
                ],
            }
            for each in report.variables
        ],
        "problems": [
            {
                "severity": problem.severity,
                "what": problem.what,
                "remedy": problem.remedy,
                "commands": list(problem.commands),
            }
            for problem in report.problems
        ],
    }


def _compiler(found: FoundCompiler, *, taken: bool) -> dict[str, object]:
    compiler = found.compiler
    return {
        "names": list(found.names),
        "path": str(found.path),
        "taken": taken,
        "kind": compiler.kind if compiler else None,
        "version": _dotted(compiler.version) if compiler else None,
        "target": compiler.target if compiler else None,
        "standards": list(compiler.standards) if compiler else [],
        "standard_library": compiler.standard_library if compiler else None,
        "default_cxx11_abi": compiler.default_cxx11_abi if compiler else None,
        "error": found.error.to_json() if found.error else None,
    }


def _tools(tools: Mapping[str, Tool | None]) -> dict[str, object]:
    return {
        name: {"path": str(tool.path), "version": _dotted(tool.version)} if tool else None
        for name, tool in tools.items()
    }


def _toolkit(report: DoctorReport) -> dict[str, object]:
    """Return the CUDA toolkit and the `nvcc` on PATH, which may be a wrapper without a toolkit."""
    toolkit = report.toolkit
    return {
        "root": str(toolkit.root) if toolkit else None,
        "version": _dotted(toolkit.version) if toolkit else None,
        "matches": report.toolkit_matches,
        "needed": False,
        **_tools({"nvcc": report.nvcc}),
    }


def _driver(driver: Driver) -> dict[str, object]:
    return {
        "version": driver.version,
        "cuda": _dotted(driver.cuda) if driver.cuda else None,
        "source": driver.source,
        "problem": driver.problem,
        "gpus": [
            {
                "name": gpu.name,
                "capability": _dotted(gpu.capability) if gpu.capability else None,
                "memory_mb": gpu.memory,
            }
            for gpu in driver.gpus
        ],
    }


def _dotted(version: tuple[int, ...]) -> str | None:
    return ".".join(map(str, version)) or None


def to_script(report: DoctorReport) -> str:
    """Return a POSIX shell script: required commands, and optional ones as comments."""
    return "\n".join(_script(report)) + "\n"


def _script(report: DoctorReport) -> Iterator[str]:
    yield "#!/bin/sh"
    yield f"# What `torchlink doctor` suggests for {visible(report.system)}. Nothing has been run."
    yield "# Read it, then run it with `. ./FILE`, so that the variables it exports stay set."
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
        yield from ("", "# Optional: remove the # before the commands that you want.")
    for problem in optional:
        yield from _explained(problem)
        yield from (f"#{line}" for command in problem.commands for line in command.split("\n"))


def _explained(problem: Problem) -> Iterator[str]:
    text = " ".join(filter(None, (problem.what, problem.remedy)))
    yield from (f"# {line}" for line in lines(text))
