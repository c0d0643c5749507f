"""The one place that starts programs: argument lists only, never a shell."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from torchlink.errors import RunFailedError, Stopped, ToolMissingError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# What changes which libraries the dynamic loader picks; none of it may prop up a program being proved.
LOADER_VARIABLES = (
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "LD_AUDIT",
    "LD_BIND_NOW",
    "DYLD_LIBRARY_PATH",
    "DYLD_INSERT_LIBRARIES",
    "DYLD_FALLBACK_LIBRARY_PATH",
)

# All that a program being proved is given of the caller's environment; docs/security.md lists it. The rest, with
# whatever tokens and passwords a CI job has in it, stays out.
KEPT = """
PATH HOME USER LOGNAME TMPDIR TMP TEMP LANG LANGUAGE TZ LC_* XDG_CACHE_HOME GLIBC_TUNABLES MALLOC_* QEMU_LD_PREFIX
OMP_* GOMP_* KMP_* MKL_* OPENBLAS_* BLIS_* DNNL_* ONEDNN_* ATEN_* TORCH_* PYTORCH_*
CUDA_* CUBLAS_* CUDNN_* NCCL_* NVIDIA_VISIBLE_DEVICES NVIDIA_DRIVER_CAPABILITIES NVIDIA_TF32_OVERRIDE
HIP_* ROCR_* HSA_* MIOPEN_* GPU_DEVICE_ORDINAL ZE_* SYCL_* ONEAPI_* SYSTEMROOT WINDIR COMSPEC PATHEXT
"""
KEPT_VARIABLES = frozenset(name for name in KEPT.split() if name[-1] != "*")
KEPT_PREFIXES = tuple(name[:-1] for name in KEPT.split() if name[-1] == "*")
SECRET = ("TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "_KEY")  # in a name, whatever it begins with


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
    """Run a program to its end with its output captured as text; a non-zero exit is the caller's to judge.

    Raises:
        ToolMissingError: the program does not exist or may not be executed.
        RunFailedError: it ran longer than `timeout` seconds (and was killed).
    """
    words = tuple(str(word) for word in argv)
    start = time.perf_counter()
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            env=None if env is None else dict(env),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
        raise missing_tool(words[0], error) from error
    except OSError as error:  # no executable format, an argument list too long, …
        raise RunFailedError(f"Cannot run {words[0]}: {error.strerror}.") from error
    except subprocess.TimeoutExpired as error:
        raise RunFailedError(f"{words[0]} did not finish within {timeout:g} s and was stopped.") from error
    return Completed(words, done.returncode, done.stdout, done.stderr, time.perf_counter() - start)


def filtered(argv: Sequence[str | Path], text: str, *, timeout: float, memory: int) -> str:
    """What a filter makes of a text that an inspected file may have crafted.

    Args:
        argv: the filter.
        text: its standard input.
        timeout: seconds after which it is stopped.
        memory: bytes of address space that it may take, where the system can limit another process (Linux).

    Raises:
        ToolMissingError: the program does not exist or may not be executed.
        RunFailedError: it took longer, or did not end well.
    """
    process = spawn(argv, env={**minimal_environment(), "LC_ALL": "C.UTF-8"})
    try:
        if sys.platform == "linux":
            import resource

            resource.prlimit(process.pid, resource.RLIMIT_AS, (memory, memory))
        out, _ = process.communicate(text, timeout)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.communicate()
        raise RunFailedError(f"{argv[0]} did not finish within {timeout:g} s and was stopped.") from error
    if process.returncode:
        raise RunFailedError(f"{argv[0]} ended with status {process.returncode}.")
    return out


def spawn(
    argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.Popen[str]:
    """Start a program to talk to over text pipes (line buffered); stderr is a pipe too.

    Raises:
        ToolMissingError: the program does not exist or may not be executed.
    """
    words = [str(word) for word in argv]
    try:
        return subprocess.Popen(
            words,
            cwd=cwd,
            env=None if env is None else dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            bufsize=1,
        )
    except OSError as error:
        raise missing_tool(words[0], error) from error


def wait(process: subprocess.Popen[str], seconds: float) -> int | None:
    """The exit status of a process (negative for a signal), or None where it still runs after `seconds`."""
    if hasattr(os, "pidfd_open"):  # Popen itself looks every 50 ms
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

    A signal that tells this process to stop is handed on to it.

    Raises:
        ToolMissingError: the program does not exist or may not be executed.
    """
    words = [str(word) for word in argv]
    try:
        process = subprocess.Popen(words, env=None if env is None else dict(env))
    except OSError as error:
        raise missing_tool(words[0], error) from error
    try:
        code = process.wait()
    except Stopped as stopped:
        process.send_signal(stopped.number)
        code = process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise
    return 128 - code if code < 0 else code


def which(name: str) -> str | None:
    """Absolute path of a program on PATH (or of a path that is executable), or None."""
    import shutil  # brings bz2 and lzma along, and a warm `verify` starts its loader without

    found = shutil.which(name)
    return os.path.abspath(found) if found else None  # noqa: PTH100 - a symlink such as ccache's must stay one


def minimal_environment(passed: Sequence[str] = ()) -> dict[str, str]:
    """The environment for a program being proved: nothing that changes the dynamic loader's choice, and no secrets.

    Args:
        passed: further variables, as `--env` takes them: NAME, where it is set, or NAME=VALUE.

    Raises:
        UsageError: one is no name, or one of the dynamic loader's.
    """
    kept = {name: value for name, value in os.environ.items() if _is_kept(name)}
    for each in passed:
        name, equals, value = each.partition("=")
        if not name or "\0" in each:
            raise UsageError(
                f"--env {each!r} names no variable.", hint="Write --env NAME or --env NAME=VALUE."
            )
        if name in LOADER_VARIABLES:
            raise UsageError(
                f"--env {name} would change which libraries the program finds, which is what is proved.",
                hint=f"Leave it out; `torchlink lint --env {name}=…` tells what it would change.",
            )
        if equals or name in os.environ:
            kept[name] = value if equals else os.environ[name]
    return kept


def _is_kept(name: str) -> bool:
    if name in KEPT_VARIABLES:
        return True
    return name.startswith(KEPT_PREFIXES) and not any(word in name.upper() for word in SECRET)


def missing_tool(name: str, error: OSError) -> ToolMissingError:
    """The error for a program that could not be started."""
    return ToolMissingError(
        f"Cannot start {name}: {error.strerror or error}.",
        hint=f"Install {name} or name another one.",
    )
