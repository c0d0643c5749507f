"""Checks of a verification's options, made before anything is built."""

from __future__ import annotations

from math import inf
from stat import S_ISREG
from typing import TYPE_CHECKING

from torchlink.errors import DeviceError, FileError, UsageError
from torchlink.status import file_kind, status_of

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.libtorch.facts import Libtorch
    from torchlink.verify.options import VerifyOptions

DEVICES = ("cpu", "cuda", "auto")
LONGEST = 1e6  # seconds: the most that timers take on every system
WAYS = ("cxx", "cmake", "nim")


def check_building(options: VerifyOptions) -> None:
    """Reject an unknown way of building."""
    if options.via not in WAYS:
        raise UsageError(f"--via {options.via} is not known.", hint=f"Use one of {', '.join(WAYS)}.")


def check_options(options: VerifyOptions, libtorch: Libtorch) -> None:
    """Reject invalid options before anything is built."""
    if options.device not in DEVICES:
        raise UsageError(f"--device {options.device} is not known.", hint=f"Use one of {', '.join(DEVICES)}.")
    if options.golden and (options.against or options.record):
        other = "--against" if options.against else "--record"
        raise UsageError(f"--golden and {other} cannot be combined.", hint="Run verify twice.")
    for option in ("device", "against"):
        _check_cuda(option, getattr(options, option), options, libtorch)


def _check_cuda(option: str, named: str | None, options: VerifyOptions, libtorch: Libtorch) -> None:
    """Reject CUDA if libtorch or the program lacks it."""
    if named != "cuda":
        return
    if libtorch.accelerator not in ("cuda", "rocm"):
        raise DeviceError(
            f"--{option} cuda needs a CUDA build, but the libtorch {libtorch.version or ''} in {libtorch.root} "
            f"is a {libtorch.accelerator.upper()} build.",
            hint="Name another libtorch with --libtorch"
            + (", or use --device cpu." if option == "device" else "."),
        )
    if options.plan.cpu_only:
        raise UsageError("--cpu leaves CUDA out of the program.", hint=f"Omit --cpu or --{option} cuda.")


def check_values(options: VerifyOptions) -> None:
    """Reject numbers that are out of range or not finite, and missing operator libraries."""
    for option, tolerance in (("--atol", options.atol), ("--rtol", options.rtol)):
        if tolerance is not None and not 0 <= tolerance < inf:
            raise UsageError(
                f"{option} {tolerance:g} is not a tolerance.", hint="Give 0 or a positive number."
            )
    for library in options.libraries:
        _check_library(library)
    if options.timeout is not None and not 0 < options.timeout <= LONGEST:
        raise UsageError(
            f"--timeout {options.timeout:g}: not a number of seconds above 0 and up to {LONGEST:g}.",
            hint="Give seconds, such as 60 or 0.5.",
        )


def _check_library(library: Path) -> None:
    """Reject what the dynamic loader would block on or reject: a file that is not regular, or is empty."""
    hint = "Give --library a shared library of operators."
    status = status_of(library)
    if status is None:
        raise FileError(f"{library}: no such file.", hint=hint)
    if not S_ISREG(status.st_mode):
        raise FileError(f"{library}: not a regular file (it is {file_kind(status.st_mode)}).", hint=hint)
    if status.st_size == 0:  # such as /proc/kmsg, which is read without an end
        raise FileError(f"{library}: empty.", hint=hint)
