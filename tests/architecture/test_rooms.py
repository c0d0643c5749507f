"""The architecture: the order of the rooms, forbidden imports, the size of modules, and the pages that describe it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent.parent
PACKAGE = REPOSITORY / "torchlink"
HEAVY = {
    "jinja2",
    "rich",
    "elftools",
    "numpy",
    "torch",
    "asyncio",
    "unittest",
    "email",
    "http",
    "hypothesis",
}


def test_rooms_import_only_rooms_above_them() -> None:
    from importlinter.cli import lint_imports

    assert lint_imports(config_filename=str(REPOSITORY / "pyproject.toml"), cache_dir=None) == 0


def test_every_room_is_in_the_import_order() -> None:
    order = (REPOSITORY / "pyproject.toml").read_text()
    for room in PACKAGE.iterdir():
        if room.name.startswith("_") or room.suffix not in ("", ".py"):
            continue
        assert room.stem in order, f"{room.name} is in no layer of the import contract"


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_the_files_that_a_page_names_exist(page: str) -> None:
    named = set(re.findall(r"`([\w./-]+\.(?:py|h|md))`", (REPOSITORY / page).read_text("utf-8")))
    assert len(named) > 10
    assert not [name for name in named if not ((PACKAGE / name).exists() or (REPOSITORY / name).exists())]


def test_every_room_has_a_row_in_the_architecture() -> None:
    rows = re.findall(
        r"^\| (`.+?`) \|", (REPOSITORY / "docs/architecture.md").read_text("utf-8"), re.MULTILINE
    )
    named = {name.rstrip("/") for row in rows for name in re.findall(r"`([\w.]+/?)`", row)}
    rooms = {
        room.name
        for room in PACKAGE.iterdir()
        if not room.name.startswith("_") and room.suffix in {"", ".py"}
    }
    assert rooms <= named


def test_modules_stay_small() -> None:
    long = {
        str(path.relative_to(REPOSITORY)): lines
        for path in PACKAGE.rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 500
    }
    assert not long


# In a workspace of atomic.py's, in the private directory of a process, or appended to a file that is another's.
WRITERS = {
    "atomic.py",
    "paths.py",
    "compilation/cache.py",
    "compilation/loader.py",
    "bundle/making.py",
    "bundle/writing.py",
    "extract/extraction.py",
    "model/aoti.py",
    "model/writing.py",
    "verify/aoti/running.py",
    "verify/comparing/expected.py",
    "verify/comparing/golden.py",
    "verify/remote/units.py",
    "verify/saving.py",
    "cli/verify_output.py",
    "lint/linting.py",
    "cli/lint_output.py",
    "cli/main.py",
}
WRITING = re.compile(
    r"""\.write_(?:text|bytes)\(|\bmkd?s?temp\(|TemporaryDirectory\(|os\.(?:replace|rename)\(|open\([^)]*"[wxa]b?\""""
)


def test_files_are_written_in_one_way() -> None:
    writers = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if WRITING.search(path.read_text("utf-8"))
    }
    assert writers <= WRITERS


def modules_loaded_by(*arguments: str) -> set[str]:
    """Return the top-level names of the modules that a command line imports."""
    script = (
        "import json, sys\n"
        "from torchlink.cli.main import main\n"
        "main(sys.argv[1:])\n"
        "sys.stderr.write(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    "command", [["--version"], ["find", "--print", "root"], ["flags", "--cxx"], ["flags", "--nim"]]
)
def test_frequent_commands_load_nothing_heavy(command: list[str], torch_root: Path) -> None:
    if command[0] != "--version":
        modules_loaded_by(
            *command, "--libtorch", str(torch_root)
        )  # a first call may ask the compiler who it is
        command = [*command, "--libtorch", str(torch_root)]
    assert not modules_loaded_by(*command) & HEAVY


def test_the_api_stays_callable_when_rooms_are_imported() -> None:
    import torchlink
    import torchlink.emit
    import torchlink.lint.linting
    import torchlink.plan
    import torchlink.verify.verification

    assert all(callable(getattr(torchlink, name)) for name in torchlink.__all__ if not name.startswith("__"))


@pytest.mark.parametrize("name", ["api_reference", "capi_reference", "languages_table"])
def test_generated_pages_are_current(name: str) -> None:
    tool = REPOSITORY / "tools" / f"{name}.py"
    done = subprocess.run(
        [sys.executable, tool, "--check"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
