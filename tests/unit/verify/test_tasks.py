"""Which models the paths of a verification name."""

from __future__ import annotations

from pathlib import Path

import pytest

from torchlink.errors import FileError
from torchlink.verify.options import DEFAULTS
from torchlink.verify.tasks import gather

MODELS = ("a.pt", "draft/b.pt", "draft/old/c.pt", "d.pt2")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name in MODELS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        ((), MODELS),
        (("*.pt2",), MODELS[:3]),
        (("draft/**",), ("a.pt", "d.pt2")),
        (("draft/*",), ("a.pt", "draft/old/c.pt", "d.pt2")),
        (("a.pt", "[cd].*"), ("draft/b.pt",)),
        (("/elsewhere/*.pt",), MODELS),
    ],
)
def test_excluded_models_of_a_directory_are_left_out(
    directory: Path, patterns: tuple[str, ...], left: tuple[str, ...]
) -> None:
    options = DEFAULTS._replace(exclude=patterns)
    for path in (directory, f"{directory}/**"):
        tasks = gather([path], options)
        assert sorted(str(Path(task.path).relative_to(directory)) for task in tasks) == sorted(left)


def test_a_file_that_is_named_itself_is_never_left_out(directory: Path) -> None:
    (task,) = gather([directory / "a.pt"], DEFAULTS._replace(exclude=("*.pt",)))
    assert task.path == str(directory / "a.pt")


def test_nothing_left_is_an_error(directory: Path) -> None:
    with pytest.raises(FileError, match="--exclude"):
        gather([directory], DEFAULTS._replace(exclude=("**",)))
