"""Rows, columns and cells of a matrix, as frozen objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torchlink.errors import TorchlinkError
    from torchlink.libtorch.facts import Libtorch
    from torchlink.verify.result import ModelResult, VerifyReport

OK, FAILED, CANNOT = "ok", "failed", "cannot"


@dataclass(frozen=True, slots=True)
class Row:
    """A libtorch."""

    path: str  # as the user named it, else its root
    libtorch: Libtorch | None
    error: TorchlinkError | None  # why it cannot be used; None exactly where there is a libtorch

    @property
    def version(self) -> str:
        """How tables call it."""
        return (self.libtorch.version if self.libtorch else None) or "unknown"


@dataclass(frozen=True, slots=True)
class Column:
    """A compiler and a way of building."""

    compiler: str | None  # a command; $CXX, else c++, where None
    via: str  # "cxx" | "cmake" | "nim"
    name: str  # `g++ 12.2.0`; the command itself where it was not asked


@dataclass(frozen=True, slots=True)
class Cell:
    """How the verification of one row in one column ended."""

    row: Row
    column: Column
    error: TorchlinkError | None
    report: VerifyReport | None  # None where nothing was built
    seconds: float

    @property
    def status(self) -> str:
        """OK, FAILED (it was tried and something is wrong) or CANNOT (it could not be tried)."""
        if self.error is None:
            return OK
        return FAILED if self.error.exit_code == 1 else CANNOT

    @property
    def model(self) -> ModelResult | None:
        """What became of the model."""
        return self.report.models[0] if self.report else None


@dataclass(frozen=True, slots=True)
class MatrixReport:
    """One run of `torchlink matrix`."""

    model: str | None  # None: the bundled test model
    device: str
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    cells: tuple[Cell, ...]  # row by row

    @property
    def exit_code(self) -> int:
        """0 all is well, 1 a verification failed, 2 none failed but some could not be tried."""
        statuses = {cell.status for cell in self.cells}
        if FAILED in statuses:
            return 1
        return 2 if CANNOT in statuses else 0

    def cells_of(self, row: Row) -> tuple[Cell, ...]:
        """One line of the table."""
        return tuple(cell for cell in self.cells if cell.row is row)
