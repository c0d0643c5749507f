"""The kinds that call libtorch through the C API: each is created, built, tested and run by its own commands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import made_once, unmet
from torchlink.projects.kinds import Kind, kinds

pytestmark = pytest.mark.compile

LANGUAGES = {kind.name: kind for kind in kinds() if kind.capi}
BUNDLED = "2.5 -0.75"
MANY = ["9 9", "9", "0 1 2", "done"]  # of the model below, for ones of 1x4
HERE = Path(__file__).parent
KEPT = ("PATH", "LANG", "TMPDIR", "JAVA_HOME", "RUSTUP_HOME", "CARGO_HOME", "ZIG_GLOBAL_CACHE_DIR")
# The peak memory of a shell command's largest process, in KiB.
PEAK = """
import resource, subprocess, sys
done = subprocess.run(["sh", "-c", sys.argv[1]], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(done.returncode)
"""


def environment(directory: Path) -> dict[str, str]:
    """A user's environment: no library path; caches of the language's tools in a directory of the test."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    home = directory.parent / "home"
    home.mkdir(exist_ok=True)
    if (Path.home() / ".rustup").is_dir():
        kept.setdefault("RUSTUP_HOME", str(Path.home() / ".rustup"))
    cache = os.environ["TORCHLINK_CACHE_DIR"]
    kept.setdefault("ZIG_GLOBAL_CACHE_DIR", f"{cache}-zig")  # of zig's own build runner: minutes in a new one
    return {**kept, "HOME": str(home), "TORCHLINK_CACHE_DIR": cache}


def shell(command: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", command],
        cwd=directory,
        env=environment(directory),
        capture_output=True,
        text=True,
        check=False,
        timeout=800,
    )


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with two inputs whose output is a tuple of a tensor, a dict and a string."""

    def make(directory: Path) -> None:
        subprocess.run(
            [sys.executable, str(HERE / "many_model.py"), str(directory / "many.pt")], check=True, timeout=120
        )

    return made_once(tmp_path_factory, "many-model", make) / "many.pt"


@pytest.fixture(scope="module", params=sorted(LANGUAGES))
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Kind, Path]:
    """A project in a directory with a space and a `-` in its name, built."""
    kind = LANGUAGES[request.param]
    for tool in kind.tools:
        if not any(map(shutil.which, tool.split("|"))):
            unmet(tool)
    directory = tmp_path_factory.mktemp(kind.name) / f"my {kind.name}-project"
    made = subprocess.run(
        [sys.executable, "-m", "torchlink", "new", kind.name, str(directory), "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=800,
    )
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["commands"] == list(kind_commands(kind))
    done = shell(kind_commands(kind)[0], directory)
    assert done.returncode == 0, done.stdout + done.stderr
    return kind, directory


def kind_commands(kind: Kind) -> tuple[str, ...]:
    return tuple(command.replace("{name}", kind.usual_name or "") for command in kind.commands)


def lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 0, done.stdout + done.stderr
    return [
        " ".join(f"{float(word):g}" if is_number(word) else word for word in line.split())
        for line in done.stdout.splitlines()
    ]


def is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def test_its_own_tests_pass(built: tuple[Kind, Path]) -> None:
    kind, directory = built
    done = shell(kind_commands(kind)[1], directory)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_runs_the_bundled_model(built: tuple[Kind, Path]) -> None:
    kind, directory = built
    assert lines(shell(kind_commands(kind)[2], directory))[-1] == BUNDLED


def test_all_commands_together(built: tuple[Kind, Path]) -> None:
    kind, directory = built
    assert lines(shell(" && ".join(kind_commands(kind)), directory))[-1] == BUNDLED


def run_with(built: tuple[Kind, Path], arguments: str) -> subprocess.CompletedProcess[str]:
    kind, directory = built
    command = kind_commands(kind)[2]
    assert command.endswith(" model.pt")
    return shell(command.removesuffix("model.pt") + arguments, directory)


def test_two_inputs_and_a_nested_output(built: tuple[Kind, Path], many: Path) -> None:
    assert lines(run_with(built, f"'{many}'"))[-4:] == MANY
    assert lines(run_with(built, f"'{many}' 3 4"))[-4:] == ["9 9 9 9 9 9", "27", "0 1 2", "done"]


@pytest.mark.parametrize("arguments", ["model.pt 1 3", "missing.pt", "README.md"])
def test_what_fails_is_an_error_of_the_language(built: tuple[Kind, Path], arguments: str) -> None:
    done = run_with(built, arguments)
    assert 0 < done.returncode < 126, done
    assert done.stderr.strip()
    assert "core dumped" not in done.stderr


def test_memory_stays_level(built: tuple[Kind, Path], many: Path) -> None:
    """After 10,000 calls at most 5 MB above 1,000 calls."""

    def peak(count: int) -> int:
        """The peak of the largest process below a shell of its own, in KiB."""
        kind, directory = built
        command = kind_commands(kind)[2].removesuffix("model.pt") + f"--repeat {count} '{many}'"
        done = subprocess.run(
            [sys.executable, "-c", PEAK, command],
            cwd=directory,
            env=environment(directory),
            capture_output=True,
            text=True,
            check=False,
            timeout=800,
        )
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    assert peak(10_000) - peak(1_000) <= 5 << 10
