"""A progress bar on stderr where somebody watches."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeVar

from torchlink.atomic import SILENT, Progress

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def watched(work: Callable[[Progress], T]) -> T:
    """Do work that tells how many bytes it has written, with a bar on a terminal and silently elsewhere."""
    if not sys.stderr.isatty():
        return work(SILENT)
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn
    from rich.progress import Progress as Bar

    with Bar(BarColumn(), DownloadColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=0)

        def expect(size: int) -> None:
            bar.update(task, total=(bar.tasks[0].total or 0) + size)

        def advance(size: int) -> None:
            bar.advance(task, size)

        return work(Progress(expect, advance))
