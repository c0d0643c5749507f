"""The one place that starts programs: argument lists only, never a shell."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import subprocess
import sys
import threading
import time
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from torchlink import signals
from torchlink.environment import minimal_environment
from torchlink.errors import (
    FULL,
    RESOURCES,
    RunFailedError,
    Stopped,
    ToolMissingError,
    TorchlinkError,
    out_of_resources,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from torchlink.streams import Copies

# Every program is started with a variable of this name, which its children inherit.
MARK = "TORCHLINK_STARTED"
# A watcher that runs next to a program, in its own session. When torchlink ends, which closes the pipe, it kills all
# processes with the mark ($1) in their environment: grandchildren such as cc1plus and ld, or those of ninja, which have
# their own process groups, survive a killed parent and are re-parented. Two passes in a row must find none, because a
# program may just be starting; or as many as the line that it reads says. The text is constant: nothing is
# interpolated.
WATCH = """
trap '' HUP INT QUIT TERM
read -r looks || looks=2
round=0 clean=0
while [ $round -lt 300 ]; do
  clean=$((clean + 1))
  for file in $(grep -lsF "$1" /proc/[0-9]*/environ); do
    clean=0 id=${file#/proc/}
    case $round in
      0) kill -TERM "${id%/environ}" ;;
      [1-5]) ;;
      *) kill -KILL "${id%/environ}" ;;
    esac
  done
  [ $clean -lt $looks ] || exit
  round=$((round + 1))
  sleep 0.1
done
"""
SLICE = 0.1  # seconds of one wait for a program
LONGEST_END = 10.0  # seconds to wait for the watcher
NAMES = {1: "stdout", 2: "stderr"}

LARGER = "File size limit exceeded"  # compilers print it of a child killed by `ulimit -f`
ABSENT = (FileNotFoundError, PermissionError, NotADirectoryError)
TimeoutExpired = subprocess.TimeoutExpired
TEXT: dict[str, Any] = {"text": True, "encoding": "utf-8", "errors": "replace"}


Watcher: TypeAlias = "subprocess.Popen[bytes] | None"  # see WATCH


class Completed(NamedTuple):
    """How a program ended. `returncode` is negative for a signal; `seconds` is wall time."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str
    seconds: float


def run(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    timeout: float | None = None,
) -> Completed:
    """Run a program to its end with its output captured as text; a non-zero exit is the caller's to check.

    Raises:
        ToolMissingError: the program does not exist or may not be executed.
        RunFailedError: it ran longer than `timeout` seconds (and was stopped), or it is not a program.
        ResourcesError: the system cannot start programs at the moment.
    """
    words = tuple(str(word) for word in argv)
    start = time.perf_counter()
    pipes = {
        "stdin": subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
    }
    try:
        with _child(words, env, cwd=cwd, **pipes, **TEXT) as (process, _):
            out, err = _communicate(process, stdin, timeout)
    except ToolMissingError as error:
        cause = error.__cause__
        if not isinstance(cause, OSError) or isinstance(cause, ABSENT):
            raise
        # no executable format, an argument list too long, …
        raise RunFailedError(f"Cannot run {words[0]}: {cause.strerror}.") from cause
    except subprocess.TimeoutExpired as error:
        raise RunFailedError(f"{words[0]} did not finish within {timeout:g} s and was stopped.") from error
    if process.returncode:
        _check_resources(words[0], f"{out}\n{err}")
    return Completed(words, process.returncode, out, err, time.perf_counter() - start)


def _check_resources(name: str, output: str) -> None:
    """Raise a `ResourcesError` where a program failed for lack of resources."""
    if LARGER in output:  # `ulimit -f`
        raise out_of_resources(f"{name} cannot continue", OSError(errno.EFBIG, os.strerror(errno.EFBIG)))
    for line in output.splitlines():
        for number in (*RESOURCES, *FULL):
            # The dynamic loader prints only the number.
            if line.endswith((os.strerror(number), f"cannot open shared object file: Error {number}")):
                raise out_of_resources(f"{name} cannot continue", OSError(number, os.strerror(number)))


def filtered(argv: Sequence[str | Path], text: str, *, timeout: float, memory: int) -> str:
    """Run a text that may come from an inspected file through a filter, and return its output.

    Args:
        argv: the filter.
        text: its standard input.
        timeout: seconds after which it is stopped.
        memory: limit of its address space in bytes, where the system can limit another process (Linux).

    Raises:
        ToolMissingError: the program does not exist or may not be executed.
        RunFailedError: it took longer, or failed.
    """
    words = [str(word) for word in argv]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    try:
        with _child(words, {**minimal_environment(), "LC_ALL": "C.UTF-8"}, **pipes, **TEXT) as (process, _):
            if sys.platform == "linux":
                import resource

                resource.prlimit(process.pid, resource.RLIMIT_AS, (memory, memory))
            out, _ = _communicate(process, text, timeout)
    except subprocess.TimeoutExpired as error:
        raise RunFailedError(f"{argv[0]} did not finish within {timeout:g} s and was stopped.") from error
    if process.returncode:
        raise RunFailedError(f"{argv[0]} ended with status {process.returncode}.")
    return str(out)


def spawn(
    argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> tuple[subprocess.Popen[str], Watcher]:
    """Start a program to communicate with over text pipes (line buffered); stderr is a pipe too.

    The program must exit when its standard input is closed. It has a session of its own: a signal to its process
    group, as a model may send one, does not reach this process. End it with `kill_tree`, then `dismiss` its watcher,
    which kills what it has started if this process is killed.

    Raises:
        ToolMissingError: the program does not exist or may not be executed.
        ResourcesError: the system cannot start anything just now.
    """
    words = [str(word) for word in argv]
    name, value = _new_mark()
    try:
        process = subprocess.Popen(
            words,
            cwd=cwd,
            env={**(os.environ if env is None else env), name: value},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=1,
            start_new_session=True,
            **TEXT,
        )
        # Second: the program, which ends with its standard input, starts meanwhile.
        return process, _watcher_of(process, f"{name}={value}")
    except OSError as error:
        raise missing_tool(words[0], error) from error


def _watcher_of(process: subprocess.Popen[str], mark: str) -> Watcher:
    """Start the watcher of a process that has been started; where that fails, end the process."""
    try:
        return _watcher(mark)
    except OSError:
        process.kill()
        with process:
            pass
        raise


def _new_mark() -> tuple[str, str]:
    return MARK, f"{os.getpid()}-{os.urandom(8).hex()}"


class Child(Protocol):
    """What is used here of a `subprocess.Popen`."""

    pid: int
    stdin: IO[str] | None
    stdout: IO[str] | None
    stderr: IO[str] | None

    def poll(self) -> int | None:
        """Its exit status, or None if it still runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end."""

    def kill(self) -> None:
        """Send it SIGKILL."""

    def terminate(self) -> None:
        """Send it SIGTERM."""


def kill_tree(process: Child) -> None:
    """Kill a process and, on Linux, all that it started, whatever their sessions."""
    tree = _descendants(process.pid) if process.poll() is None else []
    process.kill()
    for descendant in tree:
        with contextlib.suppress(OSError):  # it ended with its parent
            os.kill(descendant, signal.SIGKILL)


def _descendants(process: int) -> list[int]:
    """The processes that a process and its children started: `/proc` is Linux's."""
    from pathlib import Path

    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat") if sys.platform == "linux" else ():
        with contextlib.suppress(OSError, ValueError, IndexError):  # it ended meanwhile
            parent = int(stat.read_bytes().rpartition(b") ")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found = list(children.get(process, ()))
    for child in found:  # grows meanwhile
        found += children.get(child, ())
    return found


def limit_memory(process: int, size: int) -> None:
    """Let a running process have no more bytes of memory of its own: RLIMIT_DATA, where the system has it (Linux).

    RLIMIT_AS would count the gigabytes of libraries that a program maps, and the address space that CUDA reserves.
    """
    if sys.platform == "linux":
        import resource

        with contextlib.suppress(ProcessLookupError):  # whoever talks to it says more
            resource.prlimit(process, resource.RLIMIT_DATA, (size, size))


def wait(process: Child, seconds: float) -> int | None:
    """Return the exit status of a process (negative for a signal), or None if it still runs after `seconds`."""
    if hasattr(os, "pidfd_open"):  # Popen itself polls every 50 ms
        with contextlib.suppress(OSError):
            pidfd = os.pidfd_open(process.pid)
            try:
                ended = select.poll()
                ended.register(pidfd, select.POLLIN)
                ended.poll(seconds * 1000)
            finally:
                os.close(pidfd)
            return process.poll()
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def replace(argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None) -> int:
    """Run a program on this process's own stdin, stdout and stderr and return its exit status (128 + signal).

    A signal that tells this process to stop is forwarded to it.

    Raises:
        ToolMissingError: the program does not exist or may not be executed.
    """
    return copied(argv, env=env, streams=())[0]


def copied(
    argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, streams: Sequence[int] = (1, 2)
) -> tuple[int, bytes]:
    """Do what `replace` does, and also return the end of what the program wrote to some of these streams.

    Args:
        argv: the program and its arguments.
        env: its environment.
        streams: 1 and 2 for stdout and stderr.

    Raises:
        ToolMissingError: the program does not exist or may not be executed.
    """
    copies: Copies | None = None
    if streams:
        from torchlink.streams import Copies  # most commands copy nothing

        copies = Copies(streams)
    given = {NAMES[number]: end for number, end in copies.of.items()} if copies else {}
    started = False
    try:
        with _child([str(word) for word in argv], env, **given) as (process, watcher):
            try:
                started = True
                if copies:
                    signals.hold()  # with only some of its streams copied, the program could wait for ever
                    try:
                        copies.start()
                    finally:
                        signals.release()
                code = _ended(process)
            except Stopped as stopped:
                signals.forget()  # from here on the program's exit status counts
                process.send_signal(stopped.number)
                code = process.wait()
                end_all(watcher)  # g++ does not wait for its cc1plus
            output = copies.finish() if copies else b""
    finally:
        if copies and not started:
            copies.close()
    return 128 - code if code < 0 else code, output


def _communicate(process: subprocess.Popen[str], stdin: str | None, timeout: float | None) -> tuple[str, str]:
    """Do what `Popen.communicate` does, and wake up in between.

    A signal waits for `subprocess` to return (`signals.UNINTERRUPTED`), and Python drops what a handler raises inside
    some callbacks.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    text = stdin  # taken over by the first call
    while True:
        left = SLICE if deadline is None else min(SLICE, deadline - time.monotonic())
        try:
            return process.communicate(text, max(left, 0))
        except subprocess.TimeoutExpired:
            text = None
            if deadline is not None and time.monotonic() >= deadline:
                raise
            if threading.current_thread() is threading.main_thread():
                signals.check()


def _ended(process: subprocess.Popen[str]) -> int:
    """Wait for a process, as `_communicate` does, and return its exit status."""
    while True:
        code = wait(process, SLICE)
        if code is not None:
            return code
        signals.check()


@contextlib.contextmanager
def _child(
    words: Sequence[str], env: Mapping[str, str] | None, **options: Any
) -> Iterator[tuple[subprocess.Popen[str], Watcher]]:
    """Run a program during the block, with a watcher; where an exception leaves the block, it is killed.

    So are its descendants. When this process is killed (even by `kill -9`) they are killed too, within a second. A
    signal that tells this process to stop while the program is being started is raised inside the block.

    Raises:
        ToolMissingError: the program does not exist or may not be executed.
        ResourcesError: the system cannot start anything just now.
    """
    name, value = _new_mark()
    watcher = None
    main = threading.current_thread() is threading.main_thread()
    if main and sys.exc_info()[1] is None:  # else this is the cleanup after the signal
        signals.check()
    try:
        if main:
            signals.hold()
        watcher = _watcher(f"{name}={value}")
        process = subprocess.Popen(
            words, env={**(os.environ if env is None else env), name: value}, **options
        )
    except BaseException as error:
        dismiss(watcher)
        if main:
            signals.release()
        if isinstance(error, OSError):
            raise missing_tool(words[0], error) from error
        raise
    try:
        if main:
            signals.release()
        yield process, watcher
    except BaseException:
        try:
            end_all(watcher)
        finally:
            process.kill()
            with process:  # closes its pipes and waits for its end
                pass
        raise
    dismiss(watcher)


def _watcher(mark: str) -> Watcher:
    """Start the watcher that kills processes with a mark when this one ends; None if there is no /bin/sh."""
    if sys.platform != "linux":
        return None
    try:
        return subprocess.Popen(
            ("/bin/sh", "-c", WATCH, "torchlink-watch", mark),
            env={"PATH": os.environ.get("PATH", os.defpath)},  # without the mark of a parent torchlink
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # what kills this process may kill its whole group
        )
    except (FileNotFoundError, PermissionError):
        return None


def dismiss(watcher: Watcher) -> None:
    """Stop a watcher whose program has ended."""
    if watcher is not None:
        watcher.kill()
        with watcher:
            pass


def end_all(watcher: Watcher) -> None:
    """Have a watcher kill all marked processes now."""
    if watcher is not None:
        with contextlib.suppress(subprocess.TimeoutExpired, BrokenPipeError):
            watcher.communicate(b"1\n", LONGEST_END)
        dismiss(watcher)


class SharedWatcher:
    """A watcher of several processes with one mark, each of which calls `leave` once when it has ended."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._users = 1
        self._lock = threading.Lock()

    def join(self) -> SharedWatcher:
        """Count one process more."""
        with self._lock:
            self._users += 1
        return self

    def leave(self, *, killed: bool) -> None:
        """Count one less; the last has the watcher kill what is left of a process that was killed."""
        with self._lock:
            self._users -= 1
            last = self._users == 0
        if last and killed:
            end_all(self._watcher)
        if last:
            dismiss(self._watcher)


def which(name: str) -> str | None:
    """Return the absolute path of a program on PATH (or of an executable path), or None."""
    import shutil  # imports bz2 and lzma, which a warm `verify` does not need

    found = shutil.which(name)
    return os.path.abspath(found) if found else None  # noqa: PTH100 - a symlink such as ccache's must stay one


def missing_tool(name: str, error: OSError) -> TorchlinkError:
    """Return the error for a program that could not be started."""
    if error.errno in RESOURCES or error.errno == errno.EAGAIN:  # EAGAIN: no more processes
        return out_of_resources(f"Cannot start {name}", error)
    reason, hint = error.strerror or str(error), f"Install {name}, or name another program."
    if os.path.dirname(name) and os.path.isdir(name):  # noqa: PTH112, PTH120 - plain strings
        reason, hint = "it is a directory", "Name a program in it, or another one."
    elif error.errno == errno.EACCES and os.path.isfile(name):  # noqa: PTH113
        reason = f"{reason}: it is not executable"
        hint = "Name a program; if it is one, make it executable with `chmod +x`."
    elif error.errno == errno.ENOEXEC:
        hint = "Name a program for this machine; start a script with its interpreter."
    return ToolMissingError(f"Cannot start {name}: {reason}.", hint=hint)
