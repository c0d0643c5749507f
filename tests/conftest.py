"""Fixtures and helpers for all tests: a real libtorch, the command line in this process, and missing requirements.

A test declares its requirements with a marker or a fixture. Where one is missing the test is skipped, unless
`TORCHLINK_TEST_REQUIRE=1` (set by `make test` in CI), which turns every such skip into a failure.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).parent.parent
LIMITS = {"compile": 900, "cmake": 900, "nim": 900, "gpu": 1800, "matrix": 7200}  # seconds, on a slow CI
TOOLS = {"compile": ("c++",), "cmake": ("cmake", "c++"), "nim": ("nim", "c++"), "gpu": ("nvidia-smi",)}


# A shell starts background jobs, and nohup a program, with these ignored, which children inherit: nothing would stop.
for _ignored in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(_ignored) == signal.SIG_IGN:
        signal.signal(_ignored, signal.default_int_handler if _ignored == signal.SIGINT else signal.SIG_DFL)


def unmet(need: str) -> NoReturn:
    """Skip the test, or fail it under `TORCHLINK_TEST_REQUIRE=1`."""
    if os.environ.get("TORCHLINK_TEST_REQUIRE") == "1":
        pytest.fail(f"{need} is missing and TORCHLINK_TEST_REQUIRE=1", pytrace=False)
    pytest.skip(f"{need} is missing")


def program(name: str) -> str:
    """Return the path of a program that a test needs, or skip the test."""
    return shutil.which(name) or unmet(name)


@functools.cache
def makes_programs(*command: str) -> bool:
    """Whether a compiler command builds a C++ program that uses the standard library and runs.

    Sanitizers and libc++ have separate runtime packages, which may be missing although the compiler is installed.
    """
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory) / "program"
        words = [*command, "-x", "c++", "-", "-o", str(program)]
        source = "#include <string>\nint main(int n, char **v) { return std::string(v[n - 1]).empty(); }\n"
        built = subprocess.run(words, input=source, capture_output=True, text=True, check=False, timeout=120)
        return built.returncode == 0 and run_clean(program).returncode == 0


def needed(module: str) -> Any:
    """Import a module that a test needs, or skip the test or the test module that calls this.

    Unlike `pytest.importorskip` it fails under `TORCHLINK_TEST_REQUIRE=1`.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if os.environ.get("TORCHLINK_TEST_REQUIRE") == "1":
            pytest.fail(f"{error.name} is missing and TORCHLINK_TEST_REQUIRE=1", pytrace=False)
        pytest.skip(f"{error.name} is missing", allow_module_level=True)


def installed(module: str) -> None:
    """Skip, or fail under `TORCHLINK_TEST_REQUIRE=1`, if a module is not installed; it is not imported."""
    if importlib.util.find_spec(module) is None:
        if os.environ.get("TORCHLINK_TEST_REQUIRE") == "1":
            pytest.fail(f"{module} is missing and TORCHLINK_TEST_REQUIRE=1", pytrace=False)
        pytest.skip(f"{module} is missing")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect `matrix` and `gpu` tests unless `-m` is given: they need gigabytes or hardware.

    Tests that build or download get a longer timeout than the default in pyproject.toml.
    """
    for item in items:
        seconds = max(
            (LIMITS[mark.name] for mark in item.iter_markers() if mark.name in LIMITS), default=None
        )
        if seconds is not None and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(seconds))
    if config.getoption("-m"):
        return
    kept = [item for item in items if not any(item.get_closest_marker(name) for name in ("matrix", "gpu"))]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Check the programs that a test's markers require."""
    for marker, programs in TOOLS.items():
        if item.get_closest_marker(marker):
            for program in programs:
                if shutil.which(program) is None:
                    unmet(program)


@dataclass(frozen=True)
class Result:
    """The exit status and output of a command line."""

    code: int
    out: str
    err: str


@pytest.fixture
def torchlink(capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """`torchlink("find", "--json")` runs that command line in this process."""
    from torchlink.cli.main import main

    def call(*arguments: str | Path) -> Result:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Result(code, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def torch_root() -> Path:
    """The root of a real pip torch: TORCHLINK_TEST_TORCH, else the one of the tests' Python."""
    named = os.environ.get("TORCHLINK_TEST_TORCH")
    if named:
        return Path(named)
    for entry in sys.path:
        if (Path(entry) / "torch" / "lib" / "libc10.so").is_file():
            return Path(entry) / "torch"
    unmet("a pip torch")


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Make a directory of test data that takes long, once for all the workers of a run, and return it."""
    from filelock import FileLock

    base = factory.getbasetemp()
    directory = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / name
    with FileLock(f"{directory}.lock"):
        made = Path(f"{directory}.made")
        if not made.exists():
            directory.mkdir(exist_ok=True)
            make(directory)
            made.touch()
    return directory


@pytest.fixture(scope="session", autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for the tests, shared by the workers of one run so that no loader is compiled twice."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    directory = Path(os.environ.get("TORCHLINK_TEST_CACHE", shared / "torchlink-cache"))
    os.environ["TORCHLINK_CACHE_DIR"] = str(directory)
    os.environ["TORCHLINK_LAUNCHER"] = (
        "none"  # a developer's ccache is not for tests; those of launchers unset it
    )
    return directory


@pytest.fixture(autouse=True)
def no_inherited_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove variables that choose a libtorch from the environment of the tests."""
    for name in (
        "TORCHLINK_LIBTORCH",
        "LIBTORCH",
        "TORCH_INSTALL_PREFIX",
        "Torch_DIR",
        "CMAKE_PREFIX_PATH",
        "LD_LIBRARY_PATH",
    ):
        monkeypatch.delenv(name, raising=False)


def until(condition: Callable[[], object], seconds: float = 120) -> None:
    """Wait until a condition that depends on another process is true; fail the test on a timeout."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"the condition did not become true within {seconds:g} s")
        time.sleep(0.01)


def run_clean(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a built program with an empty environment, as `env -i` does."""
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
