"""Writing a project skeleton into a directory that is not empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from torchlink.errors import FileError, WouldOverwriteError
from torchlink.projects.writing import write_project

if TYPE_CHECKING:
    from pathlib import Path


def test_gitignore_entries_are_added_to_existing_ones(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("*.o\n/build/")
    for _ in range(2):  # a second time changes nothing
        write_project({".gitignore": "/build/\n/.torchlink/\n", "main.cpp": "int main() {}\n"}, tmp_path)
        assert (tmp_path / ".gitignore").read_text() == "*.o\n/build/\n/.torchlink/\n"


def test_another_file_in_the_way_stops_everything(tmp_path: Path) -> None:
    (tmp_path / "main.cpp").write_text("mine\n")
    with pytest.raises(WouldOverwriteError, match=r"main\.cpp"):
        write_project({".gitignore": "/build/\n", "main.cpp": "int main() {}\n"}, tmp_path)
    assert not (tmp_path / ".gitignore").exists()
    assert (tmp_path / "main.cpp").read_text() == "mine\n"


def test_a_file_that_may_be_overwritten_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "ours.txt").write_text("old\n")
    write_project({"ours.txt": "new\n"}, tmp_path, is_ours=lambda path: path.name == "ours.txt")
    assert (tmp_path / "ours.txt").read_text() == "new\n"


def test_a_project_that_cannot_be_written_completely_is_undone(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine\n")
    with pytest.raises(FileError, match="Cannot write"):
        write_project({"new/deep/main.cpp": "int main() {}\n", "taken/config": "\n"}, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
