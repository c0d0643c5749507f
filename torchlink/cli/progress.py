"""Progress on stderr: a spinner or a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

import os
import sys
import time
from _thread import RLock  # threading takes a millisecond
from typing import TYPE_CHECKING, TypeVar

from torchlink.cli import output
from torchlink.shown import visible

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from types import TracebackType

    from rich.progress import Progress as Bar
    from typing_extensions import Self

    from torchlink.atomic import Progress

T = TypeVar("T")
SHORT = 0.1  # seconds, once it has lasted longer than that
DELAY = 0.5  # seconds: work that ends sooner shows nothing, and does not wait for rich to be imported


def watching() -> bool:
    """Whether stderr is a terminal that can redraw a line."""
    terminal = os.environ.get("TERM", "").lower() not in ("dumb", "unknown")
    return terminal and sys.stderr is not None and sys.stderr.isatty()


class Display:
    """One line on a terminal's stderr: what is being done, for how long, and how much of it is done.

    Anything printed meanwhile clears the line first; the next `show` draws it again.
    """

    def __init__(self) -> None:
        self.watched = watching()
        self._lock = RLock()  # the line is drawn in a timer's thread
        self._timer: threading.Timer | None = None
        self._bar: Bar | None = None
        self._began: float | None = None  # when something with a total was first shown

    def show(self, sentence: str, done: int = 0, total: int | None = None) -> None:
        """Replace the line by a sentence, with a bar and the time that is left if the total is known."""
        if not self.watched:
            return
        import threading

        with self._lock:
            self.hide()
            delay = DELAY
            if total is not None:
                now = time.monotonic()
                delay = SHORT if self._began is not None and now - self._began > DELAY else DELAY
                self._began = self._began or now
            self._timer = threading.Timer(delay, self._draw, (sentence, done, total))
            self._timer.daemon = True
            output.before_printing = self.hide
            self._timer.start()

    def hide(self) -> None:
        """Clear the line."""
        with self._lock:
            output.before_printing = None
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._bar is not None:
                self._bar.stop()
                self._bar = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hide()

    def _draw(self, sentence: str, done: int, total: int | None) -> None:
        import threading

        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        with self._lock:
            if self._timer is not threading.current_thread():  # hidden meanwhile
                return
            counted = () if total is None else (BarColumn(), MofNCompleteColumn())
            began = time.monotonic() - DELAY if total is None or self._began is None else self._began
            left = time_left(time.monotonic() - began, done, total)
            self._bar = Bar(
                SpinnerColumn("line"),  # ASCII, so that every locale can show it
                TextColumn("{task.description}", markup=False),
                *counted,
                TimeElapsedColumn(),
                *((TextColumn(left, markup=False),) if left else ()),
                console=Console(stderr=True),
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            task = self._bar.add_task(output.safe(visible(sentence)), total=total, completed=done)
            self._bar.start()
            self._bar.tasks[task].start_time = self._bar.get_time() - (time.monotonic() - began)


def time_left(seconds: float, done: int, total: int | None) -> str:
    """How long the rest takes at the pace of what is done: `about 3 min left`; "" if unknown."""
    if not total or not done or done >= total:
        return ""
    left = seconds / done * (total - done)
    if left < 90:
        return f"about {max(left, 1):.0f} s left"
    return f"about {left / 60:.0f} min left" if left < 5400 else f"about {left / 3600:.1f} h left"


def working(sentence: str, total: int | None = None) -> Display:
    """Return a display, for a `with` statement, that shows the sentence."""
    display = Display()
    display.show(sentence, 0, total)
    return display


def with_progress_bar(work: Callable[[Progress], T]) -> T:
    """Run work that counts the bytes it writes, with a bar on a terminal and silently elsewhere."""
    from torchlink.atomic import SILENT, Progress

    if not watching():
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
