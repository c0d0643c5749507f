"""Problems on a machine and the commands that fix them: one function per check.

`fit` checks a libtorch with a compiler by making its plan; nothing is compiled.
"""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING

from torchlink.doctor.environment import HEADERS, LOADED, SEARCHED
from torchlink.doctor.report import Fit, Problem
from torchlink.errors import ResourcesError, TorchlinkError
from torchlink.libtorch.choose import failure
from torchlink.libtorch.floor import shortfall
from torchlink.libtorch.places import NAMED, VARIABLES
from torchlink.paths import cache_dir, remedy, unused
from torchlink.plan import DEFAULTS, make_plan
from torchlink.remedies.cuda_headers import headers_remedy
from torchlink.remedies.remedy import remedy_for
from torchlink.toolchain.directories import linked
from torchlink.toolchain.fit import check_compiler, cxx_standard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torchlink.doctor.environment import Installer
    from torchlink.doctor.report import DoctorReport, FoundCompiler
    from torchlink.libtorch.facts import Libtorch
    from torchlink.libtorch.floor import Shortfall
    from torchlink.toolchain.types import Compiler


# What a CPU program loads: a library that these lack keeps it from starting.
CPU_HALF = ("libtorch_cpu.", "libc10.", "libtorch.")
SEVERITIES = ("error", "warning", "note")
# The oldest versions that the projects of torchlink work with.
OLDEST = {"cmake": (3, 18), "nim": (1, 6)}
PURPOSES = {
    "cmake": "torchlink cmake and verify --via cmake",
    "ninja": "faster CMake builds",
    "nim": "torchlink nim and verify --via nim",
    "pkg-config": "builds that use torchlink flags --pkg-config",
    "ccache": "faster rebuilds: a file that includes torch/script.h takes about eight seconds",
}


def missing_for_cpu(libtorch: Libtorch) -> tuple[str, ...]:
    """Return the missing libraries without which not even a CPU program starts."""
    return tuple(
        missing.name for missing in libtorch.missing_libraries if missing.needed_by.startswith(CPU_HALF)
    )


def fit(libtorch: Libtorch, found: FoundCompiler, short: Shortfall | None = None) -> Fit:
    """Check one pair; `short` is how this system falls short of the libtorch's needs."""
    compiler, missing = found.compiler, missing_for_cpu(libtorch)
    if compiler is None:
        return Fit(libtorch, found, abi=False, cxx_standard=None, error=found.error, missing=missing)

    def standard(target: Compiler = compiler) -> int:
        return cxx_standard(libtorch, target)

    abi = _error(lambda: check_compiler(libtorch, compiler))
    wrong_standard = _error(standard)
    plan = _error(lambda: make_plan(libtorch, DEFAULTS, compiler))
    short = short or (None if abi else shortfall(libtorch, linked(compiler)))
    return Fit(
        libtorch,
        found,
        abi=abi is None,
        cxx_standard=None if wrong_standard else standard(),
        error=abi or wrong_standard or plan or (short.error if short else None),
        missing=missing,
    )


def _error(check: Callable[[], object]) -> TorchlinkError | None:
    try:
        check()
    except ResourcesError:
        raise
    except TorchlinkError as error:
        return error
    return None


def find_problems(report: DoctorReport) -> tuple[Problem, ...]:
    """Return the problems in a report, the most severe first."""
    found = [
        *no_libtorch(report),
        *no_compiler(report),
        *no_linker(report),
        *misfit(report),
        *not_emulated(report),
        *incomplete(report),
        *contradictions(report),
        *broken_choices(report),
        *idle_gpu(report),
        *no_cuda_headers(report),
        *old_tools(report),
        *from_the_environment(report),
        *no_cache(),
        *missing_tools(report),
    ]
    return tuple(sorted(found, key=lambda problem: SEVERITIES.index(problem.severity)))


def no_libtorch(report: DoctorReport) -> Iterator[Problem]:
    """No libtorch works."""
    if report.search.chosen is not None:
        return
    named = {each.found_by for each in report.search.candidates} & {*NAMED} & {*VARIABLES}
    if named:
        error = failure(report.search)
        yield Problem("error", error.message, error.hint, tuple(f"unset {variable}" for variable in named))
    else:
        yield Problem(
            "error",
            "No working libtorch was found.",
            "Install one, or name one with --libtorch or TORCHLINK_LIBTORCH.",
            install_torch(),
        )


def install_torch() -> tuple[str, ...]:
    """Return commands that install torch in the active environment, else in a new one (PEP 668)."""
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        if os.environ.get(variable):
            return ("python -m pip install torch",)
    return ("python3 -m venv .venv", ". .venv/bin/activate", "python -m pip install torch")


def no_compiler(report: DoctorReport) -> Iterator[Problem]:
    """No compiler works, or the default one does not."""
    taken = report.default_compiler
    if taken is None or not any(each.compiler for each in report.compilers):
        errors = [each.error.message for each in report.compilers if each.error]
        why = errors[0] if errors else "none is on PATH."
        commands = _install(report, "c++")
        yield Problem("error", f"No C++ compiler works: {why}", "Install g++ or clang++.", commands)
    elif taken.error:
        others = [each.names[0] for each in report.compilers if each.compiler]
        yield Problem(
            "error",
            f"{taken.names[0]}, the default compiler, does not work: {taken.error.message}",
            taken.error.hint,
            (f"export CXX={shlex.quote(others[0])}",),
        )


def no_linker(report: DoctorReport) -> Iterator[Problem]:
    """There is a compiler but no linker."""
    if report.machine.platform == "linux" and report.compilers and not any(report.linkers.values()):
        yield Problem("error", "No linker is on PATH.", "", _install(report, "binutils"))


def misfit(report: DoctorReport) -> Iterator[Problem]:
    """The libtorch in use and the default compiler do not match."""
    fits = [fit for fit in report.fits if fit.libtorch is report.search.chosen]
    taken = next((fit for fit in fits if fit.compiler is report.default_compiler), None)
    if taken is None or taken.error is None or taken.compiler.error:
        return
    serving = next((fit for fit in fits if fit.ok), None)
    other = _other_pair(report, taken)
    commands: tuple[str, ...] = ()
    if serving:
        commands = (f"export CXX={shlex.quote(serving.compiler.names[0])}",)
    elif other:
        commands = (f"export TORCHLINK_LIBTORCH={shlex.quote(str(other.libtorch.root))}",)
    yield Problem("error", taken.error.message, taken.error.hint, commands)


def not_emulated(report: DoctorReport) -> Iterator[Problem]:
    """Programs for another machine can be built here, but not run."""
    if report.no_emulator:
        yield Problem("warning", report.no_emulator.message, report.no_emulator.hint)


def _other_pair(report: DoctorReport, taken: Fit) -> Fit | None:
    return next((fit for fit in report.fits if fit.ok and fit.compiler is taken.compiler), None)


def incomplete(report: DoctorReport) -> Iterator[Problem]:
    """The libtorch in use needs libraries that are missing."""
    libtorch = report.search.chosen
    if libtorch is None or not libtorch.missing_libraries:
        return
    for_cpu = missing_for_cpu(libtorch)
    names = ", ".join(missing.name for missing in libtorch.missing_libraries)
    remedy = remedy_for(libtorch, libtorch.missing_libraries)
    without_command = f"{remedy.sentence[:1].upper()}{remedy.sentence[1:]}." if remedy.sentence else ""
    yield Problem(
        "error" if for_cpu else "warning",
        f"The libtorch of {libtorch.root} has missing dependencies: {names}."
        + (" Not even a CPU program can start." if for_cpu else ""),
        without_command if remedy.text else "Install the packages that contain these libraries.",
        (remedy.command,) if remedy.command else (),
    )


def contradictions(report: DoctorReport) -> Iterator[Problem]:
    """The libtorch in use has files of different builds."""
    libtorch = report.search.chosen
    for conflict in libtorch.conflicts if libtorch else ():
        yield Problem(
            "warning", f"{libtorch.root if libtorch else ''}: {conflict.rstrip('.')}.", "Reinstall it."
        )


def broken_choices(report: DoctorReport) -> Iterator[Problem]:
    """Environment variables name an unusable libtorch, or compilers and tools do not run."""
    yield from (Problem("warning", error.message, error.hint) for error in report.broken)
    for candidate in report.search.candidates:
        # A variable in NAMED is reported as an error by `no_libtorch`: no other libtorch is used then.
        if candidate.rejected and candidate.found_by in VARIABLES and candidate.found_by not in NAMED:
            yield Problem(
                "warning",
                f"{candidate.found_by} names {candidate.path}, which is not a usable libtorch: {candidate.rejected}.",
                "",
                (f"unset {candidate.found_by}",),
            )
    for each in report.compilers:
        if each.error and each is not report.default_compiler:
            yield Problem("warning", each.error.message, each.error.hint)


def idle_gpu(report: DoctorReport) -> Iterator[Problem]:
    """The libtorch in use cannot use the GPU."""
    libtorch = report.search.chosen
    checked = next((each for each in report.accelerators if each.libtorch is libtorch), None)
    if checked is not None and checked.runs is False:
        fixable = "needs driver" in checked.why or "GPU, but no driver" in checked.why
        yield Problem(
            "warning" if fixable else "note",
            f"The libtorch in use runs on the CPU only: {checked.why}.",
            "Install a newer driver." if fixable else "",
            _install(report, "driver") if fixable else (),
        )
    if libtorch and libtorch.accelerator == "cpu" and report.driver.gpus:
        yield Problem(
            "note",
            f"There is a GPU ({report.driver.gpus[0].name}), but the libtorch in use is a CPU build.",
            "Install a CUDA build to use it, or name one with --libtorch.",
        )


def no_cuda_headers(report: DoctorReport) -> Iterator[Problem]:
    """Headers of CUDA that only some programs include are missing."""
    lacking = headers_remedy(report.search.chosen) if report.search.chosen else None
    if lacking:
        yield Problem(
            "note",
            f"{lacking.message} Nothing else needs {'them' if lacking.names[1:] else 'it'}.",
            f"Install {lacking.toolkit}, or run this." if lacking.command else f"Install {lacking.text}.",
            (lacking.command,) if lacking.command else (),
        )


def old_tools(report: DoctorReport) -> Iterator[Problem]:
    """Tools are too old."""
    for name, oldest in OLDEST.items():
        tool = report.tools.get(name)
        if tool and tool.version and tool.version < oldest:
            yield Problem(
                "warning",
                f"{name} {_dotted(tool.version)} is older than {_dotted(oldest)}, which {PURPOSES[name]} require.",
                "",
                ("python3 -m pip install cmake",) if name == "cmake" else (),
            )


def from_the_environment(report: DoctorReport) -> Iterator[Problem]:
    """Environment variables replace libraries or headers of the libtorch in use."""
    for variable in report.variables:
        unset = (f"unset {variable.name}",)
        for named in variable.entries:
            where = named.entry or "the current directory"
            if variable.name == SEARCHED and named.instead:
                yield Problem(
                    "warning",
                    f"{SEARCHED} contains {where}: programs load {', '.join(named.instead)} from there rather than "
                    "those of the libtorch in use and the system, because the loader searches it before a RUNPATH.",
                    "Unset it, or remove that directory from it.",
                    unset,
                )
            elif variable.name == HEADERS[0] and named.instead:
                yield Problem(
                    "warning",
                    f"{variable.name} contains {where}, whose headers of libtorch ({', '.join(named.instead)}) "
                    "compilers find before those of the libtorch in use, which is passed with -isystem.",
                    "Unset it, or remove that directory from it.",
                    unset,
                )
            elif variable.name in LOADED and named.exists:
                yield Problem(
                    "warning" if named.libtorch else "note",
                    f"{variable.name} loads {where} into every program that is started from this shell; verify "
                    "runs its loader without it.",
                    "Unset it, unless that is intended.",
                    unset,
                )
            elif not named.exists:
                yield Problem(
                    "note", f"{variable.name} contains {where}, which does not exist.", "Remove it."
                )


def no_cache() -> Iterator[Problem]:
    """The cache is not used or cannot be written."""
    directory = cache_dir()
    existing = directory
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    found = unused()
    if found:
        place, reason = found
        yield Problem("warning", f"The cache {place} is not used: it {reason}.", remedy(place, reason))
    if not os.access(existing, os.W_OK | os.X_OK):
        yield Problem(
            "warning",
            f"The cache {directory} cannot be written, so verify cannot build its loader.",
            "Use a writable directory.",
            ("export TORCHLINK_CACHE_DIR=/tmp/torchlink",),
        )


def missing_tools(report: DoctorReport) -> Iterator[Problem]:
    """Optional tools are missing."""
    for name, tool in report.tools.items():
        if tool is None:
            yield Problem(
                "note",
                f"{name} is not installed; it is used for {PURPOSES[name]}.",
                "",
                _install(report, name),
            )


def _install(report: DoctorReport, thing: str) -> tuple[str, ...]:
    installer: Installer | None = report.installer
    if installer is not None and (thing != "driver" or thing in installer.packages):
        return (installer.command(thing),)
    if thing in {"cmake", "ninja"}:
        return (f"{shlex.quote(sys.executable)} -m pip install {thing}",)
    return ()


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
