"""Entry points of the command line: dispatch to a command, signal handling, and the one place that prints errors.

SIGTERM and SIGHUP end a command as Ctrl-C does: it unwinds and removes its temporary files.
"""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
from typing import TYPE_CHECKING

from torchlink import signals
from torchlink.cli import plain
from torchlink.cli.commands import command_for
from torchlink.cli.output import answer, say
from torchlink.errors import FULL, RESOURCES, ResourcesError, Stopped, TorchlinkError, out_of_resources
from torchlink.shown import shortened, visible
from torchlink.signals import deliver

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType
    from typing import TextIO
# Not all platforms have SIGHUP.
STOPPING = tuple(
    number for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None
)
# Commands that create no files, so that a signal may end them at once; installing handlers would cost start-up time.
NOTHING_TO_CLEAN_UP = (["find"], ["flags"])
LONGEST_ARGUMENT, LONGEST_PATH = 256, 4096  # characters of an argument that an error repeats
NO_THREAD = "can't start new thread"  # Python's message for too little memory or too many threads
RESOURCE_MESSAGES = tuple(map(os.strerror, sorted(RESOURCES)))
# The errors of a write to an output that cannot take more.
NOT_WRITTEN = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EBADF}


def unwind_when_stopped() -> None:
    """Raise `Stopped` on SIGTERM and SIGHUP; a signal that the caller has ignored (nohup) stays ignored.

    While a program is being started, SIGINT is deferred, too, until its process id is known.
    """
    for number in STOPPING:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _unwind)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def _unwind(number: int, frame: FrameType | None) -> None:
    # `timeout` and closing terminals send a second one, which must not interrupt the clean-up.
    for each in STOPPING:
        signal.signal(each, signal.SIG_IGN)
    deliver(Stopped(number), frame)


def _interrupt(_: int, frame: FrameType | None) -> None:
    deliver(KeyboardInterrupt(), frame)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line.

    Returns its exit code: 0 success, 1 the check found a problem, 2 it could not be carried out, 130 interrupted, 129
    and 143 stopped by SIGHUP and SIGTERM.
    """
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if sys.stdout is None:  # closed by the caller (`>&-`)
        sys.stdout = unwritable_stdout()
    signals.forget()
    try:
        code = dispatch_checking_signals(arguments)
        sys.stdout.flush()  # so that a closed pipe is noticed here, not at exit
    except ResourcesError as error:
        return report_fault(error, arguments)
    except TorchlinkError as error:
        return report_error(error, arguments)
    except KeyboardInterrupt as interrupt:
        asked = signals.received()  # click turns any KeyboardInterrupt into Abort, which loses the signal
        number = asked.number if isinstance(asked, Stopped) else getattr(interrupt, "number", signal.SIGINT)
        say(f"torchlink: {'interrupted' if number == signal.SIGINT else 'stopped'}", err=True)
        # CPython notes that a KeyboardInterrupt left a text that was being executed, as those of dataclasses are, and
        # then ends `python -m` by SIGINT whatever the exit code. Executing another text clears the note.
        eval("0")  # noqa: S307 - a constant
        return 128 + int(number)
    except BrokenPipeError:
        discard_stdout()  # the reader has closed the pipe (`torchlink flags | head -0`)
        return 141
    except OSError as error:
        if error.filename is not None or error.errno not in NOT_WRITTEN:
            return report_fault(error, arguments)
        discard_stdout()
        say(f"torchlink: The output cannot be written: {error.strerror}.", err=True)
        return 2
    except Exception as error:  # noqa: BLE001 - no traceback reaches a user; `report_fault` writes it to a file
        return report_fault(error, arguments)
    return code


def dispatch_checking_signals(arguments: Sequence[str]) -> int:
    """Call `dispatch`, and honour a signal even if Python has dropped or wrapped what its handler raised.

    Raises:
        KeyboardInterrupt: a signal was received.
        Exception: what the command raised.
    """
    try:
        code = dispatch(arguments)
    except Exception:
        signals.check()
        raise
    signals.check()
    return code


def unwritable_stdout() -> TextIO:
    """Return a stand-in for a closed stdout, on which every write fails.

    It occupies descriptor 1. Otherwise the next file that torchlink opens would get that number, and the output of the
    programs that it starts would be written into it.
    """
    held = os.open(os.devnull, os.O_RDONLY)
    if held != 1:
        os.dup2(held, 1)
    os.set_inheritable(1, True)
    return open(1, "w", encoding="utf-8", closefd=False)


def discard_stdout() -> None:
    """Send what is still buffered for stdout to /dev/null, so that the flush at exit does not fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def report_error(error: TorchlinkError, arguments: Sequence[str]) -> int:
    """Print an error, and the cause of what a tool has printed; return the exit code."""
    shorten(error, arguments)
    as_json = "--json" in arguments
    found = None
    if error.exit_code == 1:
        from torchlink.cli.causes import explain_error, print_cause

        found = explain_error(error, ("torchlink", *arguments))
    render_error(error, as_json=as_json)
    if found is not None and not as_json:
        print_cause(found)
    return error.exit_code


def report_fault(error: Exception, arguments: Sequence[str]) -> int:
    """Print an unexpected exception, either as a lack of resources or as a bug in torchlink; return the exit code.

    Raises:
        Exception: `error` itself, if it is a bug and TORCHLINK_DEBUG is set.
    """
    shortage = resource_shortage(error)
    if shortage is None and os.environ.get("TORCHLINK_DEBUG"):
        raise error
    close_inspected_files()
    try:
        render_error(shortage or internal_error(error), as_json="--json" in arguments)
    except (OSError, ImportError, MemoryError):  # there are too few resources even for that
        say(f"torchlink: {visible(str(shortage or error))}", err=True)
    return 2


def resource_shortage(error: BaseException | None) -> ResourcesError | None:
    """Return a ResourcesError if a lack of descriptors, memory or disk has caused an exception (even ImportError)."""
    while error is not None:
        if isinstance(error, ResourcesError):
            return error
        if isinstance(error, OSError) and error.errno in FULL and error.filename:
            return out_of_resources(f"Cannot write {error.filename}", error)
        scarce = isinstance(error, OSError) and error.errno in RESOURCES
        # The dynamic loader's message for an extension module that it cannot open.
        scarce = scarce or (
            isinstance(error, ImportError) and any(map(str(error).__contains__, RESOURCE_MESSAGES))
        )
        scarce = scarce or (isinstance(error, RuntimeError) and NO_THREAD in str(error))
        if scarce or isinstance(error, MemoryError):
            file = error.filename if isinstance(error, OSError) else None
            return out_of_resources(f"Cannot read {file}" if file else "torchlink cannot continue", error)
        error = error.__cause__ or error.__context__
    return None


def close_inspected_files() -> None:
    """Close the binaries that are being read, which frees descriptors for reporting an error."""
    data = sys.modules.get("torchlink.binary.data")
    if data is not None:
        data.Source.close_all()


def dispatch(arguments: Sequence[str]) -> int:
    """Run a command; import typer, which takes longer than most commands, only if `plain.read` does not accept it."""
    found = command_for(arguments)
    if found is not None:
        command, rest = found
        parsed = command.read(rest) if command.read else plain.read(command, rest)
        if parsed is not None:
            return command.run(parsed)
    from torchlink.cli import app

    return app.run(arguments)


def internal_error(error: Exception) -> TorchlinkError:
    """Return the error for a bug in torchlink: a sentence for the user, the traceback in a file for the report."""
    import traceback

    from torchlink.atomic import write_file
    from torchlink.paths import LOGS, usable

    try:
        log = usable(LOGS) / "internal-error.txt"
        write_file(log, "".join(traceback.format_exception(error)).encode(errors="backslashreplace"))
        where = f"The details are in {log}."
    except OSError:
        where = "Set TORCHLINK_DEBUG=1 to see the details."
    return TorchlinkError(
        f"This is a bug in torchlink: {type(error).__name__}: {error}",
        hint=f"Please report it, with the command line. {where}",
    )


def shorten(error: TorchlinkError, arguments: Sequence[str]) -> None:
    """Shorten very long arguments that an error repeats; paths stay whole."""
    for argument in arguments:
        if len(argument) <= LONGEST_ARGUMENT:
            continue
        name, _, value = argument.partition("=")
        for part in (argument, name, value, *argument.split(",")):
            if len(part) > (LONGEST_PATH if "/" in part else LONGEST_ARGUMENT):
                for text in (part, repr(part)[1:-1]):
                    error.message = error.message.replace(text, shortened(text))
                    error.hint = error.hint.replace(text, shortened(text))
                    error.details = tuple(line.replace(text, shortened(text)) for line in error.details)


def render_error(error: TorchlinkError, *, as_json: bool) -> None:
    """Print an error: text on stderr, or with `--json` an object on stdout."""
    if as_json:
        import json

        answer(json.dumps({"schema": 1, "error": error.to_json()}, indent=2))
        return
    say(f"torchlink: {visible(error.message)}", err=True)
    for line in error.details:
        say(f"  {visible(line)}", err=True)
    if error.hint:
        say(f"  -> {visible(error.hint)}", err=True)


def entry(argv: Sequence[str] | None = None) -> None:
    """The console script `torchlink`."""
    # Most commands end before a garbage collection would free anything; with Python's default threshold
    # a tenth of the time of a lint goes into collections.
    gc.set_threshold(100_000)
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments[:1] not in NOTHING_TO_CLEAN_UP:
            unwind_when_stopped()
    except (OSError, ImportError) as error:
        sys.exit(report_fault(error, arguments))
    code = main(argv)
    for number in (*STOPPING, signal.SIGINT):
        if signal.getsignal(number) in {_unwind, _interrupt}:
            signal.signal(number, signal.SIG_DFL)  # an exception would now only be printed
    gc.freeze()
    sys.exit(code)


def compiler_entry() -> None:
    """The console script `torchlink-c++`: `torchlink c++` for tools that accept a compiler only as a single word."""
    entry(["c++", *sys.argv[1:]])
