"""What is no ELF file and too large for a text is refused without being read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.conftest import unmet

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result


def test_a_text_larger_than_any_is_refused(torchlink: Callable[..., Result], tmp_path: Path) -> None:
    text = tmp_path / "large.txt"
    text.write_text("not found\n")
    try:
        os.truncate(text, 400 << 30)
    except OSError:
        unmet("a file system with holes of 400 GB")
    done = torchlink("lint", text)
    assert done.code == 2
    assert f"{text} is neither an ELF file nor a text of less than" in done.err
