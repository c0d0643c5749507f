"""What can go wrong, as a tree: a class fixes the exit code and the code that `--json` carries.

Exit codes: 1 = torchlink looked and something is wrong; 2 = it could not look. Every error says what is
wrong and where (`message`) and what to do next (`hint`); `cli.main` is the one place that renders it.
"""

from __future__ import annotations

import errno
import os
from typing import ClassVar

# Errors about the system, not about a file or program: none of them means that something is absent.
RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO})
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})  # likewise, where something is written


class Stopped(KeyboardInterrupt):
    """This process was told to stop by a signal, such as SIGTERM; whoever tidies up on Ctrl-C tidies up on it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class TorchlinkError(Exception):
    """Base of all errors that a user may see.

    Args:
        message: one or two sentences: what is wrong, and where.
        hint: what to do next, as an imperative sentence or a command.
        details: further lines worth showing below the message (places searched, a compiler's decisive lines).
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 2

    def __init__(self, message: str, hint: str = "", details: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details

    def to_json(self) -> dict[str, object]:
        """The JSON contract's `error` object: `{code, message, hint}`, and `details` where there are any."""
        error: dict[str, object] = {"code": self.code, "message": self.message, "hint": self.hint}
        if self.details:
            error["details"] = list(self.details)
        return error


class UsageError(TorchlinkError):
    """The arguments of the command line do not fit together."""

    code = "usage"


class FileError(TorchlinkError):
    """A file or directory cannot be read or written, or is not of the kind that was asked for."""

    code = "file"


class ResourcesError(TorchlinkError):
    """The system cannot open or read anything just now (no descriptors, no memory, a failing disk).

    Not a `FileError`: it says nothing about the file, so nothing that passes files over may pass over it.
    """

    code = "resources"


def out_of_resources(subject: str, error: BaseException) -> ResourcesError:
    """The error for what the system cannot do just now; `subject` is such as `Cannot read /a/b`."""
    number = error.errno if isinstance(error, OSError) else None
    reason = (isinstance(error, OSError) and error.strerror) or str(error) or "out of memory"
    hint = "Run it again when the system has memory and its disks can be read."
    if number in (errno.EMFILE, errno.ENFILE) or os.strerror(errno.EMFILE) in reason:
        hint = "Raise the limit of open files, for example with `ulimit -n 1024`."
    if number in FULL:
        hint = "Make room on the disk (for temporary files: that of TMPDIR), or raise its limit."
    if number == errno.EAGAIN:
        hint = "Raise the limit of processes, for example with `ulimit -u`, or end some."
    return ResourcesError(f"{subject}: {reason}.", hint=hint)


class WouldOverwriteError(FileError):
    """The user's own file stands where something would be written."""

    code = "would-overwrite"


class MalformedFileError(FileError):
    """A file contradicts its own format (a truncated ELF file, a zip without a directory)."""

    code = "malformed-file"


class LibtorchNotFoundError(TorchlinkError):
    """No working libtorch in the places that were searched; `details` lists them."""

    code = "libtorch-not-found"


class LibtorchUnusableError(TorchlinkError):
    """A libtorch was named or found, but it cannot serve (incomplete install, another platform)."""

    code = "libtorch-unusable"


class ToolMissingError(TorchlinkError):
    """A compiler, CMake, Nim or another program is not installed."""

    code = "tool-missing"


class ToolUnfitError(TorchlinkError):
    """A program is there but cannot do what is needed (a compiler too old for the C++ standard)."""

    code = "tool-unfit"


class ModelError(TorchlinkError):
    """A file is not a model that the loader can load; the message says what it is instead."""

    code = "not-a-model"


class BuildFailedError(TorchlinkError):
    """A compile, link or configure step failed; `details`: the command, decisive lines, the log's path."""

    code = "build-failed"
    exit_code = 1


class RunFailedError(TorchlinkError):
    """A program that was built could not start or died; the message names the library or the signal."""

    code = "run-failed"
    exit_code = 1


class TimedOutError(RunFailedError):
    """A program that was built ran longer than it was given, and was stopped."""

    code = "timed-out"


class MemoryLimitError(RunFailedError):
    """A program that was built needs more memory than it was given."""

    code = "memory-limit"


class InexpressibleError(TorchlinkError):
    """A path or word cannot be written in the syntax of the target that was asked for."""

    code = "inexpressible"


class ForwardFailedError(TorchlinkError):
    """A model could not be loaded, or its forward raised; the message holds the C++ exception's own sentence."""

    code = "forward-failed"
    exit_code = 1


class NoInputFitsError(ForwardFailedError):
    """A model was loaded, but none of the inputs that torchlink worked out could be run."""

    code = "no-input-fits"


class MismatchError(TorchlinkError):
    """A model ran, but what came out is not what was expected."""

    code = "mismatch"
    exit_code = 1


class NondeterministicError(MismatchError):
    """A model gave other numbers the second time, with the same inputs: there is nothing to compare or record."""

    code = "nondeterministic"


class ReferenceFailedError(TorchlinkError):
    """A model ran, but what it is compared with did not: Python, another libtorch or another device."""

    code = "reference-failed"
    exit_code = 1


class DeviceError(TorchlinkError):
    """The device that was asked for cannot be used with this libtorch at all."""

    code = "device-unusable"


class DeviceFailedError(DeviceError):
    """The program ran and libtorch would use the device, but it is not to be had: no driver, no GPU."""

    exit_code = 1


class BundleFailedError(TorchlinkError):
    """A binary cannot be bundled as it is: a library of its closure is missing, or a changed copy is broken."""

    code = "bundle-failed"
    exit_code = 1


class CompiledForOtherError(TorchlinkError):
    """A model was compiled by AOTInductor for another device, machine, processor or libtorch than is here."""

    code = "compiled-for-other"
    exit_code = 1
