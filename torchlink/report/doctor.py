"""The report of `torchlink doctor`, as text."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from torchlink.doctor.environment import HEADERS, LOADED
from torchlink.report.find import ACCELERATORS, MARGIN
from torchlink.report.plain import BOLD, DIM, GREEN, RED, paint, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from torchlink.doctor.report import DoctorReport, Driver, Fit, FoundCompiler, Problem, Variable
    from torchlink.libtorch.facts import Libtorch
    from torchlink.toolchain.types import Tool

YELLOW, CYAN = "33", "36"
SEVERITY_COLORS = {"error": RED, "warning": YELLOW, "note": CYAN}
DEFAULT, OTHER = "* ", "  "  # marks of lines; DEFAULT is what is used without options
VERDICT = {True: "runs here", False: "does not run here", None: "unknown"}
NOT_NEEDED = "  (needed only for your own .cu files)"


def to_text(report: DoctorReport, *, color: bool = False) -> str:
    """Return the page.

    Args:
        report: what to show.
        color: write ANSI colours; only for a terminal.
    """
    rows: list[tuple[str, list[str]]] = [
        ("machine", [visible(f"{report.system}, {report.machine}")]),
        ("libtorch", list(_libtorchs(report, color=color))),
        ("compilers", [_compiler(each, report) for each in report.compilers] or ["none"]),
        ("tools", [_tools(report.tools)]),
        ("linkers", [_tools(report.linkers)]),
        ("GPU", list(_gpus(report.driver))),
        ("CUDA", list(_toolkit(report))),
        ("compatible", list(_fits(report, color=color))),
    ]
    if report.emulator:
        command = f"{shlex.join(report.emulator.command)}  (for programs of {report.emulator.machine})"
        rows.append(("emulator", [visible(command)]))
    rows += [("accelerators", list(_accelerators(report)))] if report.accelerators else []
    rows += [("environment", list(_variables(report.variables)))]
    blocks = ["\n".join(visible_lines(label, lines)) for label, lines in rows if lines]
    blocks.append("\n".join(_problems(report.problems, color=color)))
    return "\n".join(blocks[:-1]) + "\n\n" + blocks[-1] + "\n"


def visible_lines(label: str, lines: Iterable[str]) -> Iterator[str]:
    """Put a label before the first line. Text from outside in them is escaped already; colours must stay."""
    return (f"{label if number == 0 else '':<{MARGIN}} {line}" for number, line in enumerate(lines))


def short(libtorch: Libtorch) -> str:
    """Describe a libtorch in a few words: `2.13.0+cpu, CPU only, ABI 1`."""
    accelerator = " ".join(filter(None, (ACCELERATORS[libtorch.accelerator], libtorch.accelerator_version)))
    abi = None if libtorch.cxx11_abi is None else f"ABI {libtorch.cxx11_abi}"
    return visible(", ".join(filter(None, (libtorch.version or "unknown version", accelerator, abi))))


def _libtorchs(report: DoctorReport, *, color: bool) -> Iterator[str]:
    for candidate in report.search.candidates:
        found = candidate.libtorch
        if found is not None:
            mark = DEFAULT if found is report.search.chosen else OTHER
            yield f"{mark}{paint(short(found), BOLD, color=color)}: {visible(f'{found.root}  ({found.found_by})')}"
    for candidate in report.search.candidates:
        if candidate.rejected:
            line = f"{OTHER}not {candidate.path}  ({candidate.found_by}): {candidate.rejected}"
            yield paint(visible(line), DIM, color=color)
    if report.search.chosen is None:
        usable = any(candidate.libtorch for candidate in report.search.candidates)
        yield "  none is used by default" if usable else "  none that can be used"


def _compiler(found: FoundCompiler, report: DoctorReport) -> str:
    mark = DEFAULT if found is report.default_compiler else OTHER
    if found.compiler is None:
        return (
            f"{mark}{visible(' '.join(found.names))}: {visible(found.error.message if found.error else '')}"
        )
    compiler = found.compiler
    version = ".".join(map(str, compiler.version))
    best = max(compiler.standards, default=0)
    library = "" if compiler.standard_library == "libstdc++" else f", {compiler.standard_library}"
    names = visible(", ".join(found.names))
    return f"{mark}{compiler.kind} {version}: {names}  ({visible(compiler.target)}, full C++{best}{library})"


def _tools(tools: Mapping[str, Tool | None]) -> str:
    there = [f"{name} {'.'.join(map(str, tool.version))}".strip() for name, tool in tools.items() if tool]
    missing = [name for name, tool in tools.items() if tool is None]
    return ", ".join(there or ["none"]) + (f"; missing: {', '.join(missing)}" if missing else "")


def _gpus(driver: Driver) -> Iterator[str]:
    for gpu in driver.gpus:
        capability = f"compute capability {gpu.capability[0]}.{gpu.capability[1]}" if gpu.capability else None
        memory = f"{gpu.memory / 1024:.0f} GiB" if gpu.memory else None
        details = ", ".join(filter(None, (capability, memory)))
        yield visible(gpu.name) + (f"  ({details})" if details else "")
    if driver.version or driver.cuda:
        cuda = f"supports up to CUDA {driver.cuda[0]}.{driver.cuda[1]}" if driver.cuda else None
        yield (
            visible(
                ", ".join(filter(None, (f"driver {driver.version or ''}".strip(), cuda)))
                + f"  ({driver.source})"
            )
        )
    if driver.problem:
        yield visible(driver.problem)


def _toolkit(report: DoctorReport) -> Iterator[str]:
    """Return the CUDA toolkit and `nvcc`, with a remark that torchlink's flags need neither."""
    toolkit, nvcc = report.toolkit, report.nvcc
    if toolkit:
        version = ".".join(map(str, toolkit.version)) or "of unknown version"
        other = ", another major version than libtorch's" if report.toolkit_matches is False else ""
        yield visible(f"toolkit {version} in {toolkit.root}{other}") + NOT_NEEDED
    else:
        yield "no toolkit" + NOT_NEEDED
    if nvcc:
        version = ".".join(map(str, nvcc.version)) or "without a version"
        yield visible(f"nvcc {version}: {nvcc.path}") + ("" if toolkit else "  (a wrapper without a toolkit)")


def _variables(variables: Iterable[Variable]) -> Iterator[str]:
    """Return a line for each variable that is set, and one below it for each remarkable entry."""
    for variable in variables:
        yield visible(f"{variable.name}={variable.value}")
        for named in variable.entries:
            where = visible(named.entry or "(empty: the current directory)")
            if not named.exists:
                yield f"  {where}: {'no such file' if variable.name in LOADED else 'no such directory'}"
            elif named.instead:
                kind = "headers" if variable.name in HEADERS else "libraries"
                yield f"  {where}: has {kind} that come before libtorch's: {visible(', '.join(named.instead))}"
            elif named.libtorch:
                yield f"  {where}: belongs to a libtorch"


def _fits(report: DoctorReport, *, color: bool) -> Iterator[str]:
    """Return a line for each libtorch with a cell for each compiler, then the reasons."""
    reasons: list[str] = []
    for candidate in report.search.candidates:
        if candidate.libtorch is None:
            continue
        cells = [
            _cell(fit, reasons, color=color) for fit in report.fits if fit.libtorch is candidate.libtorch
        ]
        mark = DEFAULT if candidate.libtorch is report.search.chosen else OTHER
        name = visible(candidate.libtorch.version or str(candidate.libtorch.root))
        yield f"{mark}{name}: {', '.join(cells) or 'no compiler'}"
    for number, reason in enumerate(reasons, start=1):
        yield f"  [{number}] {visible(reason)}"


def _cell(fit: Fit, reasons: list[str], *, color: bool) -> str:
    name = visible(fit.compiler.names[0])
    if fit.ok:
        return f"{name} {paint('ok', GREEN, color=color)} (C++{fit.cxx_standard})"
    reason = fit.error.message if fit.error else f"programs do not start: missing {', '.join(fit.missing)}"
    if reason not in reasons:
        reasons.append(reason)
    return f"{name} {paint('no', RED, color=color)} [{reasons.index(reason) + 1}]"


def _accelerators(report: DoctorReport) -> Iterator[str]:
    for each in report.accelerators:
        mark = DEFAULT if each.libtorch is report.search.chosen else OTHER
        yield f"{mark}{short(each.libtorch)}: {VERDICT[each.runs]}: {visible(each.why)}"


def _problems(problems: Iterable[Problem], *, color: bool) -> Iterator[str]:
    nothing = True
    for problem in problems:
        nothing = False
        yield f"{paint(problem.severity, SEVERITY_COLORS[problem.severity], color=color)}: {visible(problem.what)}"
        if problem.remedy:
            yield f"  -> {visible(problem.remedy)}"
        yield from (f"     {visible(command)}" for command in problem.commands)
    if nothing:
        yield paint("Nothing is missing.", GREEN, color=color)
