"""The built wheel, installed into an empty environment and used from elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.conftest import needed

REPOSITORY = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    needed("build")
    out = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", out, REPOSITORY],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return `torchlink` of an environment that contains only the wheel and its dependencies."""
    home = tmp_path_factory.mktemp("empty environment")
    venv.create(home, with_pip=True)
    done = subprocess.run(
        [home / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", wheel],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return home / "bin" / "torchlink"


def outside(installed: Path, directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command in a directory, without this test's environment."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "TORCHLINK_CACHE_DIR": str(directory / "cache"),
    }
    return subprocess.run(
        [installed, *arguments], cwd=directory, env=environment, capture_output=True, text=True, check=False
    )


def test_the_wheel_carries_templates_examples_and_docs_and_no_stray_files(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for kind in ("templates", "examples", "docs", "causes"):
        ours = {
            path.relative_to(REPOSITORY).as_posix()
            for path in (REPOSITORY / kind).rglob("*")
            if path.is_file()
        }
        packed = {
            name.removeprefix("torchlink/_data/")
            for name in names
            if name.startswith(f"torchlink/_data/{kind}/")
        }
        tracked = subprocess.run(
            ["git", "ls-files", kind], cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
        if tracked.returncode == 0:
            ours &= set(tracked.stdout.splitlines())
        assert packed >= ours
    assert "torchlink/py.typed" in names
    assert "torchlink/_data/docs/security.md" in names  # which --help names
    assert not [name for name in names if name.startswith("tests/")]


def test_the_documentation_in_the_wheel_is_under_two_megabytes(wheel: Path) -> None:
    packed = [
        entry
        for entry in zipfile.ZipFile(wheel).infolist()
        if entry.filename.startswith(("torchlink/_data/docs/", "torchlink/_data/causes/"))
    ]
    assert {entry.filename.rpartition(".")[2] for entry in packed} == {"md", "toml"}  # no built site
    assert sum(entry.file_size for entry in packed) < 2_000_000


def test_an_installed_wheel_prints_every_page_without_a_network(installed: Path, tmp_path: Path) -> None:
    listed = outside(installed, tmp_path, "docs")
    assert listed.returncode == 0, listed.stderr
    names = [line.split()[0] for line in listed.stdout.splitlines()]
    kinds = {name.partition("/")[0] for name in names if "/" in name}
    assert kinds == {"causes", "commands", "languages", "originals", "rules"}
    for name in ("index", "rules/abi-mismatch", "causes/std-too-low", "languages/rust", "commands/verify"):
        assert name in names
        done = outside(installed, tmp_path, "docs", name)
        assert (done.returncode, done.stderr) == (0, ""), name
        assert done.stdout.startswith("# ")


def test_an_installed_wheel_prints_flags_for_a_libtorch(
    installed: Path, torch_root: Path, tmp_path: Path
) -> None:
    place = tmp_path / "a place with spaces"
    place.mkdir()
    done = outside(installed, place, "flags", "--cxx", "--libtorch", str(torch_root))
    assert done.returncode == 0, done.stderr
    assert "-ltorch_cpu" in done.stdout


@pytest.mark.parametrize("kind", ["cmake", "nim"])
def test_an_installed_wheel_starts_projects(
    installed: Path, torch_root: Path, tmp_path: Path, kind: str
) -> None:
    done = outside(installed, tmp_path, kind, "init", "my app", "--libtorch", str(torch_root))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "my app" / {"cmake": "CMakeLists.txt", "nim": "nim.cfg"}[kind]).is_file()


def test_without_a_libtorch_the_error_lists_where_it_looked(installed: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    done = outside(installed, tmp_path, "find", "--libtorch", str(empty))
    assert done.returncode == 2
    assert str(empty) in done.stderr
    assert "Traceback" not in done.stderr
