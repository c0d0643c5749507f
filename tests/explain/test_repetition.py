"""Expressions that can take exponential time are refused when a cause is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.explain.own import own_cause
from torchlink.errors import FileError
from torchlink.explain import causes
from torchlink.explain.repetition import is_exponential

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "pattern",
    [
        "frobnicator: (x+x+)+y",
        "word(?:a*)*b",
        "word(?:[a-z]+)*!",
        "word(\\w+\\s?)*$",
        "word(?i:(?:A+a)+)x",
        "word(?:.*,)*x",
        "word(?:a|b+)+c",
        "word(?:(?:[^/]+/?)+ )?",
        "word(?:x{1,}){10,}y",
        "word(?=(?:a+)+b)",
        "word(?:.+\u4e00)+x",
        "word(?:[^\u4e00]+\u4e01)+x",
        "word(?:x{0,900}){0,900}y",
    ],
)
def test_repetitions_without_a_separator(pattern: str, tmp_path: Path) -> None:
    assert is_exponential(pattern)
    with pytest.raises(FileError, match="exponential time"):
        causes.parse(own_cause(pattern), tmp_path / "mine.toml")


@pytest.mark.parametrize(
    "pattern",
    [
        "word(?:::\\w+)*",
        "(?:\\w+[\\\\/])*word",
        "word(?:\\S+, )*x",
        "word.*x.*y",
        "word(?:a+b){2}",
        "word[^/]+(?:/[^/]+)*",
    ],
)
def test_repetitions_with_a_separator(pattern: str, tmp_path: Path) -> None:
    assert not is_exponential(pattern)
    assert causes.parse(own_cause(pattern), tmp_path / "mine.toml").id == "mine"
