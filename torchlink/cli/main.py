"""Being told to stop: SIGTERM and SIGHUP end a command as Ctrl-C does, so that its work beside is removed.

The command line's entry: which way a command line goes, and the one place that renders errors.
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


def unwind_when_stopped() -> None:
    """Raise `Stopped` when this process is told to stop; a signal that the caller has ignored (nohup) stays so.

    While a program is being started, SIGINT waits like the others until that program is known.
    """
    for number in STOPPING:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _unwind)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def _unwind(number: int, _: FrameType | None) -> None:
    # `timeout` and closing terminals send a second one, which must not end the tidying.
    for each in STOPPING:
        signal.signal(each, signal.SIG_IGN)
    deliver(Stopped(number))


def _interrupt(_: int, __: FrameType | None) -> None:
    deliver(KeyboardInterrupt())


NOTHING_TO_TIDY = (
    ["find"],
    ["flags"],
)  # commands that leave nothing when they are stopped; they start quickly
LONGEST_WORD, LONGEST_PATH = 256, 4096  # letters that an error repeats of the command line
NO_THREAD = "can't start new thread"  # Python's own, for no memory and for too many
SCARCE = tuple(map(os.strerror, sorted(RESOURCES)))
# What the system says of an output that takes no more.
NOT_WRITTEN = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EBADF}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line.

    Returns its exit code: 0 fine, 1 it looked and something is wrong, 2 it could not look, 130 interrupted, 129 and
    143 stopped by SIGHUP and SIGTERM.
    """
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if sys.stdout is None:  # closed by the caller (`>&-`)
        sys.stdout = unwritable_stdout()
    signals.forget()
    try:
        code = heedful(arguments)
        sys.stdout.flush()  # here, so that a reader that went away is noticed here
    except ResourcesError as error:
        return fault(error, arguments)
    except TorchlinkError as error:
        shorten(error, arguments)
        render_error(error, as_json="--json" in arguments)
        return error.exit_code
    except KeyboardInterrupt as interrupt:
        asked = signals.received()  # click knows Ctrl-C alone
        number = asked.number if isinstance(asked, Stopped) else getattr(interrupt, "number", signal.SIGINT)
        say(f"torchlink: {'interrupted' if number == signal.SIGINT else 'stopped'}", err=True)
        return 128 + int(number)
    except BrokenPipeError:
        silence()  # the reader went away (`torchlink flags | head -0`): nothing more can be said to it
        return 141
    except OSError as error:
        if error.filename is not None or error.errno not in NOT_WRITTEN:
            return fault(error, arguments)
        silence()
        say(f"torchlink: The answer cannot be written: {error.strerror}.", err=True)
        return 2
    except Exception as error:  # noqa: BLE001 - no traceback reaches a user; `fault` keeps it in a file
        return fault(error, arguments)
    return code


def heedful(arguments: Sequence[str]) -> int:
    """As `dispatch`; a signal counts even where Python drops or wraps what its handler has raised.

    Raises:
        KeyboardInterrupt: a signal has asked for it.
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
    """What stands for a stdout that is closed: what is written there fails as on the closed one.

    Its descriptor is taken, so that no file of torchlink's gets it, and with it what programs print that it starts.
    """
    held = os.open(os.devnull, os.O_RDONLY)
    if held != 1:
        os.dup2(held, 1)
    os.set_inheritable(1, True)
    return open(1, "w", encoding="utf-8", closefd=False)


def silence() -> None:
    """Send what is still to be written on stdout nowhere, so that the interpreter's end does not trip over it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fault(error: Exception, arguments: Sequence[str]) -> int:
    """Say a fault of torchlink's own, and return the exit code.

    Raises:
        Exception: that very fault, where TORCHLINK_DEBUG asks for the traceback.
    """
    scarce = scarcity(error)
    if scarce is None and os.environ.get("TORCHLINK_DEBUG"):
        raise error
    give_descriptors_back()
    try:
        render_error(scarce or internal_error(error), as_json="--json" in arguments)
    except (OSError, ImportError, MemoryError):  # not even for that
        say(f"torchlink: {visible(str(scarce or error))}", err=True)
    return 2


def scarcity(error: BaseException | None) -> ResourcesError | None:
    """The error for a fault that only comes of descriptors, memory or a disk that fail, such as an ImportError."""
    while error is not None:
        if isinstance(error, ResourcesError):
            return error
        if isinstance(error, OSError) and error.errno in FULL and error.filename:
            return out_of_resources(f"Cannot write {error.filename}", error)
        scarce = isinstance(error, OSError) and error.errno in RESOURCES
        # What the dynamic loader says of a module that it cannot open.
        scarce = scarce or (isinstance(error, ImportError) and any(map(str(error).__contains__, SCARCE)))
        scarce = scarce or (isinstance(error, RuntimeError) and NO_THREAD in str(error))
        if scarce or isinstance(error, MemoryError):
            file = error.filename if isinstance(error, OSError) else None
            return out_of_resources(f"Cannot read {file}" if file else "torchlink cannot go on", error)
        error = error.__cause__ or error.__context__
    return None


def give_descriptors_back() -> None:
    """Close the files that are read, so that one can be opened to say what is wrong."""
    data = sys.modules.get("torchlink.binary.data")
    if data is not None:
        data.Source.close_all()


def dispatch(arguments: Sequence[str]) -> int:
    """Run a command; typer, whose import takes longer than most commands, only where a command line is not plain."""
    found = command_for(arguments)
    if found is not None:
        command, words = found
        given = command.read(words) if command.read else plain.read(command, words)
        if given is not None:
            return command.run(given)
    from torchlink.cli import app

    return app.run(arguments)


def internal_error(error: Exception) -> TorchlinkError:
    """An error of torchlink's own: one sentence for the user, the traceback in a file for the report."""
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
        f"This is a fault of torchlink itself: {type(error).__name__}: {error}",
        hint=f"Please report it with the command line. {where}",
    )


def shorten(error: TorchlinkError, arguments: Sequence[str]) -> None:
    """Cut what an error repeats of the command line where that is longer than anybody reads; paths stay whole."""
    for argument in arguments:
        if len(argument) <= LONGEST_WORD:
            continue
        name, _, value = argument.partition("=")
        for word in (argument, name, value, *argument.split(",")):
            if len(word) > (LONGEST_PATH if "/" in word else LONGEST_WORD):
                for text in (word, repr(word)[1:-1]):
                    error.message = error.message.replace(text, shortened(text))
                    error.hint = error.hint.replace(text, shortened(text))
                    error.details = tuple(line.replace(text, shortened(text)) for line in error.details)


def render_error(error: TorchlinkError, *, as_json: bool) -> None:
    """Say an error: text on stderr, or with `--json` the object on stdout."""
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
    # Most commands are over before a garbage collection would free anything, and so is the process at its end:
    # with Python's own settings a tenth of a lint goes into them.
    gc.set_threshold(100_000)
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if words[:1] not in NOTHING_TO_TIDY:
            unwind_when_stopped()
    except (OSError, ImportError) as error:
        sys.exit(fault(error, words))
    code = main(argv)
    gc.freeze()
    sys.exit(code)


def compiler_entry() -> None:
    """The console script `torchlink-c++`: `torchlink c++` for tools that want a compiler in one argument."""
    entry(["c++", *sys.argv[1:]])
