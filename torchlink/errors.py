"""The error classes: each determines the exit code and the `code` in `--json`.

Exit codes: 1 = the check ran and something is wrong; 2 = it could not run. Every error says what is wrong and where
(`message`) and what to do next (`hint`); only `cli.main` prints it.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pathlib import Path

# Errors of the system rather than of a file or program: none of them means that something does not exist.
RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO})
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})  # likewise, where something is written


class Stopped(KeyboardInterrupt):
    """This process was told to stop by a signal such as SIGTERM; cleanup is the same as on Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class TorchlinkError(Exception):
    """The base class of all errors that a user may see.

    Args:
        message: one or two sentences: what is wrong, and where.
        hint: what to do next, as an imperative sentence or a command.
        details: further lines worth showing below the message (places searched, lines of a compiler's output).
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 2

    def __init__(self, message: str, hint: str = "", details: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details
        self.cause = ""  # id of a cause that `torchlink explain` knows; only `cli/` looks for it

    def to_json(self) -> dict[str, object]:
        """Return the `error` object of the JSON output: `{code, message, hint}`.

        `details` are added where there are any, and `cause`, the name of a page of `torchlink docs`, if it is known.
        """
        error: dict[str, object] = {"code": self.code, "message": self.message, "hint": self.hint}
        if self.details:
            error["details"] = list(self.details)
        if self.cause:
            error["cause"] = self.cause
        return error


class UsageError(TorchlinkError):
    """The command line's arguments are invalid or conflict."""

    code = "usage"


class FileError(TorchlinkError):
    """A file or directory cannot be read or written, or is not of the expected kind."""

    code = "file"


class ResourcesError(TorchlinkError):
    """The system cannot open or read files at the moment (no descriptors, no memory, a failing disk).

    Not a `FileError`: it says nothing about the file, so code that skips unreadable files must not skip it.
    """

    code = "resources"
    no_space = False  # it is a disk that is full


def out_of_resources(subject: str, error: BaseException) -> ResourcesError:
    """Return the error for a lack of resources; `subject` is for example `Cannot read /a/b`."""
    number = error.errno if isinstance(error, OSError) else None
    reason = (isinstance(error, OSError) and error.strerror) or str(error) or "out of memory"
    hint = "Run it again when the system has memory and its disks can be read."
    if number in (errno.EMFILE, errno.ENFILE) or os.strerror(errno.EMFILE) in reason:
        hint = "Raise the limit of open files, for example with `ulimit -n 1024`."
    if number in FULL:
        hint = "Free space on the disk (for temporary files: that of TMPDIR), or raise the limit."
    if number == errno.EAGAIN:
        hint = "Raise the limit of processes, for example with `ulimit -u`, or end some of them."
    found = ResourcesError(f"{subject}: {reason}.", hint=hint)
    found.no_space = number in NO_SPACE
    return found


def lacks_space(error: BaseException) -> bool:
    """Return whether an error, or the one that it was made from, is that of a full disk or an exhausted quota."""
    cause = error.__cause__
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        return True
    if isinstance(error, ResourcesError) and error.no_space:
        return True
    return cause is not None and lacks_space(cause)


class WouldOverwriteError(FileError):
    """A file of the user's would be overwritten."""

    code = "would-overwrite"


class MalformedFileError(FileError):
    """A file violates its format (a truncated ELF file, a zip without a directory)."""

    code = "malformed-file"


class LibtorchNotFoundError(TorchlinkError):
    """No working libtorch was found; `details` lists the places that were searched."""

    code = "libtorch-not-found"


class LibtorchUnusableError(TorchlinkError):
    """A libtorch was named or found, but is not usable (incomplete install, another platform)."""

    code = "libtorch-unusable"


class ToolMissingError(TorchlinkError):
    """A compiler, CMake, Nim or another program is not installed."""

    code = "tool-missing"


class ToolUnfitError(TorchlinkError):
    """A program lacks what is needed (a compiler too old for the C++ standard)."""

    code = "tool-unfit"


class ModelError(TorchlinkError):
    """A file is not a model that the loader can load; the message says what it is instead."""

    code = "not-a-model"


class BuildFailedError(TorchlinkError):
    """A compile, link or configure step failed; `details`: the command, lines of its output, the log's path."""

    code = "build-failed"
    exit_code = 1
    log: Path | None = None  # everything that it printed


class RunFailedError(TorchlinkError):
    """A built program could not start or crashed; the message names the library or the signal."""

    code = "run-failed"
    exit_code = 1


class TimedOutError(RunFailedError):
    """A built program exceeded its timeout and was stopped."""

    code = "timed-out"


class MemoryLimitError(RunFailedError):
    """A program that was built needs more memory than it was given."""

    code = "memory-limit"


class InexpressibleError(TorchlinkError):
    """A path or flag cannot be written in the syntax of the requested target."""

    code = "inexpressible"


class ForwardFailedError(TorchlinkError):
    """A model could not be loaded, or its forward raised; the message contains the C++ exception's."""

    code = "forward-failed"
    exit_code = 1


class NoInputFitsError(ForwardFailedError):
    """A model was loaded, but forward failed with all inputs that torchlink inferred."""

    code = "no-input-fits"


class MismatchError(TorchlinkError):
    """A model ran, but its outputs differ from the expected ones."""

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
    """This libtorch does not support the requested device."""

    code = "device-unusable"


class DeviceFailedError(DeviceError):
    """This libtorch supports the requested device, but it is not available: no driver, no GPU."""

    exit_code = 1


class BundleFailedError(TorchlinkError):
    """A binary cannot be bundled as it is: a library of its closure is missing, or a changed copy is broken."""

    code = "bundle-failed"
    exit_code = 1


class CompiledForOtherError(TorchlinkError):
    """A model was compiled by AOTInductor for another device, machine, processor or libtorch than is here."""

    code = "compiled-for-other"
    exit_code = 1


class ExecutorError(TorchlinkError):
    """An executor cannot be used, or one of its workers has failed."""

    code = "executor"


class LibtorchDiffersError(TorchlinkError):
    """A worker of an executor has another libtorch, or none."""

    code = "libtorch-differs"
