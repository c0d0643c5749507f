"""What of a process's settings concerns its speed, and which of them explain slow calls."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from torchlink.verify.benching.figures import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torchlink.verify.benching.figures import Bench

BACKEND = re.compile(r"^ATen parallel backend: *(.+)$", re.MULTILINE)
CAPABILITY = re.compile(r"^ *- CPU capability usage: *(.+)$", re.MULTILINE)
BUILT = re.compile(r"^ *- Build settings: *(.+)$", re.MULTILINE)
KEPT = ("BLAS_INFO", "LAPACK_INFO", "BUILD_TYPE", "USE_MKL", "USE_MKLDNN", "USE_OPENMP")
OPTIMISED = ("release", "relwithdebinfo", "minsizerel")
OFF = ("0", "OFF", "FALSE", "NO")
SLOWEST = ("DEFAULT", "NO AVX", "NO VSX", "Z VECTOR DISABLED")
MUCH = 1.15  # times as long as the other run, from which on a difference is worth looking for
ENOUGH = 100  # calls, of which the 99th percentile is not the longest
# Variables that change how libtorch computes, where they are set.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_THREAD_LIMIT", "OMP_DYNAMIC")
VARIABLES = (
    *(
        "OMP_PROC_BIND",
        "OMP_PLACES",
        "OMP_WAIT_POLICY",
        "OMP_SCHEDULE",
        "GOMP_CPU_AFFINITY",
        "GOMP_SPINCOUNT",
    ),
    *("KMP_AFFINITY", "KMP_BLOCKTIME", "KMP_SETTINGS", "MKL_DYNAMIC", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR"),
    *("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "CUDA_LAUNCH_BLOCKING"),
    *("MKL_VERBOSE", "ONEDNN_VERBOSE", "DNNL_VERBOSE"),
)


def settings_of(event: Mapping[str, Any]) -> Settings:
    """The loader's `settings`, or those of Python."""
    parallel, config = str(event.get("parallel") or ""), str(event.get("config") or "")
    interop = event.get("interop_threads")
    built = dict(
        part.partition("=")[::2] for part in _found(BUILT, config).split(", ") if part.partition("=")[1]
    )
    return Settings(
        int(event["threads"]),
        interop if isinstance(interop, int) else None,
        _found(BACKEND, parallel),
        _found(CAPABILITY, config),
        tuple(str(path) for path in event.get("openmp") or ()),
        {name: built[name].strip(" ,") for name in KEPT if name in built},
        "Math Kernel Library" in config if config else None,
    )


def _found(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found[1].strip() if found else ""


def notes_on(
    bench: Bench, environment: Mapping[str, str], device: str, emulated: str, flags: frozenset[str]
) -> Iterator[str]:
    """What may explain that calls are slow, a sentence for each fact.

    Args:
        bench: without notes.
        environment: of the loader.
        device: where it ran.
        emulated: the command that ran it, where one did.
        flags: of the processor, as the system lists them.
    """
    settings = bench.settings
    if emulated:
        yield f"the loader ran under {emulated}: these are the times of the emulator."
    yield from _threads(bench, environment)
    for name in VARIABLES:
        if name in environment:
            yield f"{name}={environment[name]} is set."
    yield from _openmp(settings.openmp)
    yield from _build(settings, flags)
    load = _load()
    if load - bench.processors > max(1.0, bench.processors / 2):
        yield f"other processes were running: the load average is {load:.1f} on {bench.processors} processors."
    if device != "cpu":
        yield "each call waits until the device is done and copies one number back."
    if bench.other_settings is not None:
        yield from _apart(settings, bench.other_settings, brief_name(bench.other))
    fewest = min(len(case.here.times_ms) for case in bench.cases)
    if fewest < ENOUGH:
        yield f"the 99th percentile of {fewest} calls is the longest of them: --bench-runs 1000 tells more."


def brief_name(other: str) -> str:
    """What the other run is, without its place."""
    return other.partition(" (")[0].partition(" of ")[0]


def ratio(bench: Bench) -> float | None:
    """The greatest of how many times as long the median of calls takes as in the other run; None without one."""
    found = [
        case.here.percentile(0.5) / max(case.other.percentile(0.5), 1e-9)
        for case in bench.cases
        if case.other is not None
    ]
    return max(found, default=None)


def _threads(bench: Bench, environment: Mapping[str, str]) -> Iterator[str]:
    threads, processors = bench.settings.threads, bench.processors
    causes = [f"{name}={environment[name]}" for name in THREADS if name in environment]
    because = f" ({', '.join(causes)} is set)" if causes else ""
    if threads < processors:
        used = "one thread" if threads == 1 else f"{threads} threads"
        yield f"libtorch uses {used} of {processors} processors{because}: --bench-threads {processors} uses all."
    elif threads > processors:
        yield (
            f"libtorch uses {threads} threads, and the process may use {processors} processors{because}: "
            f"they wait for one another; try --bench-threads {processors}."
        )
    elif causes:
        yield f"{', '.join(causes)} is set."
    quota = cpu_quota()
    if quota is not None and quota < min(threads, processors):
        yield (
            f"the container may use {quota:g} processors' time, and libtorch uses {threads} threads: it is stopped in "
            f"between; try --bench-threads {max(1, int(quota))}."
        )
    backend = bench.settings.backend
    if backend and backend != "OpenMP":
        yield f"libtorch's threads are those of {backend}, not of OpenMP."


def _openmp(runtimes: Sequence[str]) -> Iterator[str]:
    real = sorted({os.path.realpath(path) for path in runtimes})
    if len(real) > 1:
        yield (
            f"{len(real)} OpenMP runtimes are in the process, each with threads of its own: {', '.join(real)}: link "
            "one (`torchlink lint` on the program: duplicate-openmp)."
        )


def _build(settings: Settings, flags: frozenset[str]) -> Iterator[str]:
    kind = settings.build.get("BUILD_TYPE", "")
    if kind and kind.lower() not in OPTIMISED:
        yield f"this libtorch is a {kind} build: take one with BUILD_TYPE=Release."
    for name, what in (
        ("USE_OPENMP", "OpenMP: operators run on one thread"),
        ("USE_MKLDNN", "oneDNN: convolutions and bfloat16 are slow"),
    ):
        if settings.build.get(name, "").upper() in OFF:
            yield f"this libtorch was built without {what}."
    blas = settings.build.get("BLAS_INFO", "")
    if blas in ("generic", "eigen") or ((settings.build.get("USE_MKL", "").upper() in OFF) and not blas):
        yield f"this libtorch was built without MKL or OpenBLAS (BLAS: {blas or 'none'}): matrix products are slow."
    if settings.cpu_capability.upper() in SLOWEST and "avx2" in flags:
        yield f"libtorch uses no vector instructions ({settings.cpu_capability}), and this processor has AVX2."


def _apart(here: Settings, other: Settings, name: str) -> Iterator[str]:
    """In which settings two runs differ."""
    for what, one, two in (
        ("threads", here.threads, other.threads),
        ("interop threads", here.interop_threads, other.interop_threads),
        ("the CPU capability", here.cpu_capability, other.cpu_capability),
        ("the thread pool", here.backend, other.backend),
        ("the OpenMP runtime", _names(here.openmp), _names(other.openmp)),
        *((key, here.build.get(key, ""), other.build.get(key, "")) for key in KEPT),
    ):
        if one and two and one != two:
            yield f"{name} differs in {what}: {two} there, {one} here."


def _names(paths: Sequence[str]) -> str:
    return ", ".join(sorted({os.path.realpath(path) for path in paths}))


def cpu_quota(text: str | None = None) -> float | None:
    """How many processors' time this process's control group may use; None where nothing limits it.

    Args:
        text: of cpu.max; None: read it.
    """
    if text is None:
        from torchlink.bounds import first_bytes
        from torchlink.errors import TorchlinkError

        try:
            text = first_bytes("/sys/fs/cgroup/cpu.max", 64).decode("ascii", "replace")
        except (OSError, TorchlinkError):
            return None
    quota, _, period = text.strip().partition(" ")
    if not (quota.isdigit() and period.isdigit() and len(quota) < 16 and 0 < int(period) < 10**9):
        return None
    return int(quota) / int(period)


def _load() -> float:
    try:
        return os.getloadavg()[0]
    except OSError:
        return 0.0
