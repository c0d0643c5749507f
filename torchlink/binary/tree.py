"""Paths as the loader of an image or sysroot sees them, and their files on this machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from torchlink.status import not_about_the_file

if TYPE_CHECKING:
    from pathlib import Path


MOST_LINKS = 40  # the kernel's own limit before ELOOP


class Root:
    """A file system root. Without a directory it is this machine's, and paths are unchanged.

    Below a directory, absolute symlinks and `..` are followed as after `chroot`: they cannot leave it.
    """

    __slots__ = ("_real_dirs", "root")

    def __init__(self, root: Path | None = None) -> None:
        real = None if root is None else os.path.realpath(root)
        self.root = None if real in {None, "/"} else real
        self._real_dirs: dict[str, str] = {}

    def on_host(self, path: str) -> str:
        """Return the path on this machine of a `path` as the loader sees it; what does not exist keeps its name."""
        return path if self.root is None else self.root + self._follow(path)

    def inside(self, path: str) -> str | None:
        """Return an absolute path of this machine as the loader sees it, or None when it is outside the root."""
        if self.root is None:
            return path
        return (path[len(self.root) :] or "/") if f"{path}/".startswith(f"{self.root}/") else None

    def real_path(self, path: str) -> str:
        """Return a path with every symlink followed, still as the loader sees it."""
        if self.root is not None:
            return self._follow(path)
        directory, _, name = path.rpartition("/")
        if directory not in self._real_dirs:
            self._real_dirs[directory] = os.path.realpath(directory or "/")
        joined = f"{self._real_dirs[directory]}/{name}"
        return os.path.realpath(joined) if os.path.islink(joined) else os.path.normpath(joined)  # noqa: PTH114 - hot

    def _follow(self, path: str) -> str:
        pending = path.split("/")[::-1]
        done: list[str] = []
        links = 0
        while pending:
            part = pending.pop()
            if part in {"", "."}:
                continue
            if part == "..":
                if done:
                    done.pop()
                continue
            here = "/".join((*done, part))
            try:
                target = os.readlink(f"{self.root}/{here}")  # noqa: PTH115 - plain strings: it runs per component
            except OSError as error:
                not_about_the_file(here, error)
                done.append(part)
                continue
            links += 1
            if links > MOST_LINKS:
                return path
            if target.startswith("/"):
                done.clear()
            pending.extend(target.split("/")[::-1])
        return "/" + "/".join(done)


class Overlay(Root):
    """A program's view in QEMU's user mode: files below its `-L` directory hide this machine's at the same paths.

    Args:
        top: that directory; None to see this machine's files only.
    """

    __slots__ = ("top",)

    def __init__(self, top: Path | None) -> None:
        super().__init__()
        self.top = "" if top is None else str(top)

    def on_host(self, path: str) -> str:
        """Return the path on this machine of a `path` as the loader sees it."""
        above = self.top + path
        return above if self.top and path.startswith("/") and os.path.exists(above) else path  # noqa: PTH110 - plain strings

    def real_path(self, path: str) -> str:
        """Return the path of its file on this machine, with every symlink followed."""
        return super().real_path(self.on_host(path))
