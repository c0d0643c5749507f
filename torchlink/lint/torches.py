"""The libtorchs that Python extensions are checked with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.errors import ResourcesError, TorchlinkError

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.libtorch.facts import Libtorch


class Torches:
    """The libtorchs that Python extensions of one run are checked with, each looked for once.

    Args:
        libtorch: what `--libtorch` named.
        python: what `--python` named.
    """

    def __init__(self, libtorch: Path | None = None, python: str | None = None) -> None:
        self.libtorch = libtorch
        self.python = python
        self._found: dict[Path | None, Libtorch | TorchlinkError] = {}

    @property
    def named(self) -> bool:
        """Whether the user has named one."""
        return self.libtorch is not None or self.python is not None

    def check(self) -> None:
        """Look for the one that the user has named.

        Raises:
            TorchlinkError: it cannot serve.
        """
        if self.named and isinstance(found := self.found(None), TorchlinkError):
            raise found

    def found(self, package: Path | None) -> Libtorch | TorchlinkError:
        """The libtorch of a torch package, or (None) the one that `torchlink find` takes."""
        if package not in self._found:
            from torchlink.libtorch.choose import choose

            try:
                self._found[package] = choose(package) if package else choose(self.libtorch, self.python)
            except ResourcesError:
                raise
            except TorchlinkError as error:
                self._found[package] = error
        return self._found[package]
