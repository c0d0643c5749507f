"""`torchlink matrix` as a function: a libtorch per row, a compiler per column, and one verification per cell."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchlink.errors import LibtorchUnusableError, ResourcesError, TorchlinkError, UsageError
from torchlink.libtorch.choose import failure, search
from torchlink.verify.sanity import WAYS
from torchlink.verify.verification import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from torchlink.libtorch.facts import Libtorch
    from torchlink.verify.options import VerifyOptions
    from torchlink.verify.result import ModelResult, VerifyReport


OK, FAILED, CANNOT = "ok", "failed", "cannot"


@dataclass(frozen=True, slots=True)
class Row:
    """A libtorch."""

    path: str  # as the user wrote it, else its root
    libtorch: Libtorch | None
    error: TorchlinkError | None  # why it cannot be used; None exactly if there is a libtorch

    @property
    def version(self) -> str:
        """Its name in tables."""
        return (self.libtorch.version if self.libtorch else None) or "unknown"


@dataclass(frozen=True, slots=True)
class Column:
    """A compiler and a way of building."""

    compiler: str | None  # a command; $CXX, else c++, where None
    via: str  # "cxx" | "cmake" | "nim"
    name: str  # `g++ 12.2.0`; the command itself where its version was not read


@dataclass(frozen=True, slots=True)
class Cell:
    """How the verification of one row in one column ended."""

    row: Row
    column: Column
    error: TorchlinkError | None
    report: VerifyReport | None  # None if nothing was built
    seconds: float

    @property
    def status(self) -> str:
        """OK, FAILED (the verification failed) or CANNOT (it could not be run)."""
        if self.error is None:
            return OK
        return FAILED if self.error.exit_code == 1 else CANNOT

    @property
    def model(self) -> ModelResult | None:
        """The result for the model."""
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
        """0: all succeeded; 1: a verification failed; 2: none failed but some could not be run."""
        statuses = {cell.status for cell in self.cells}
        if FAILED in statuses:
            return 1
        return 2 if CANNOT in statuses else 0

    def cells_of(self, row: Row) -> tuple[Cell, ...]:
        """Return the cells of a row."""
        return tuple(cell for cell in self.cells if cell.row is row)


def rows_of(libtorchs: Sequence[Path]) -> tuple[Row, ...]:
    """Return the libtorchs that were named, unusable ones with their error; where none was, every usable one here.

    Raises:
        LibtorchNotFoundError: none was named, and none was found.
    """
    if libtorchs:
        return tuple(_named(path) for path in dict.fromkeys(libtorchs))
    found = search(everything=True)
    if found.chosen is None:
        raise failure(found)
    usable = [candidate.libtorch for candidate in found.candidates if candidate.libtorch]
    return tuple(Row(str(libtorch.root), libtorch, None) for libtorch in usable)


def _named(path: Path) -> Row:
    found = search((path,))
    if found.chosen is None:
        return Row(str(path), None, failure(found))
    return Row(str(path), found.chosen, None)


def columns_of(compilers: Sequence[str], ways: Sequence[str], *, ask: bool = True) -> tuple[Column, ...]:
    """Return every compiler with every way of building.

    Args:
        compilers: commands; the default compiler where empty.
        ways: "cxx", "cmake", "nim"; "cxx" where empty.
        ask: run the compilers to read their versions.

    Raises:
        UsageError: one of `ways` is unknown.
    """
    for way in ways:
        if way not in WAYS:
            raise UsageError(f"--via {way}: unknown value.", hint=f"Use one of {', '.join(WAYS)}.")
    commands: list[str | None] = list(dict.fromkeys(compilers)) or [None]
    names = {command: _name(command) if ask else command or "c++" for command in commands}
    return tuple(
        Column(command, way, names[command]) for command in commands for way in dict.fromkeys(ways or ["cxx"])
    )


def _name(command: str | None) -> str:
    from torchlink.toolchain.compiler import find_compiler

    try:
        found = find_compiler(command)
    except ResourcesError:
        raise
    except TorchlinkError:
        return command or "c++"  # the cells report what is wrong with it
    return f"{command} {'.'.join(map(str, found.version))}" if command else found.name


def run_matrix(
    model: Path | None,
    rows: Sequence[Row],
    columns: Sequence[Column],
    options: VerifyOptions,
    *,
    jobs: int = 1,
    done: Callable[[Cell], None] = lambda _: None,
) -> MatrixReport:
    """Verify a model in every cell.

    Args:
        model: a TorchScript file; the bundled test model where None.
        rows: libtorchs.
        columns: compilers and ways.
        options: of every verification; the column sets the compiler and the way of building.
        jobs: how many cells to run at once; each compiler needs about a gigabyte of memory.
        done: called after each cell, in the order in which they finish.

    Raises:
        ModelError: the file is not a TorchScript model, so there is nothing to verify.
        FileError: the file cannot be read.
        UsageError: an option has an invalid value.
    """
    if jobs < 1:
        raise UsageError(f"--jobs {jobs}: too few.", hint="Use 1 or more.")
    if model is not None:
        from torchlink.model.kind import require_model

        require_model(model)
    pairs = [(row, column) for row in rows for column in columns]

    def verify_cell(pair: tuple[Row, Column]) -> Cell:
        cell = _verify(*pair, [model] if model else [], options)
        done(cell)
        return cell

    return MatrixReport(
        model=str(model) if model else None,
        device=options.device,
        rows=tuple(rows),
        columns=tuple(columns),
        cells=tuple(_each(verify_cell, pairs, jobs)),
    )


def _each(
    verify_cell: Callable[[tuple[Row, Column]], Cell], pairs: Sequence[tuple[Row, Column]], jobs: int
) -> Iterator[Cell]:
    """Yield the cells in order, with up to `jobs` running at once."""
    if jobs == 1:
        yield from map(verify_cell, pairs)
        return
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(jobs)  # threads: the work is done by compilers and loaders
    try:
        yield from pool.map(verify_cell, pairs)
    finally:
        pool.shutdown(cancel_futures=True)


def _verify(row: Row, column: Column, models: Sequence[Path], options: VerifyOptions) -> Cell:
    start = time.perf_counter()
    if row.libtorch is None:
        return Cell(row, column, row.error or LibtorchUnusableError("No libtorch."), None, 0.0)
    try:
        report = verify(models, row.libtorch, options._replace(via=column.via, compiler=column.compiler))
    except UsageError:
        raise  # the same in every cell
    except ResourcesError:
        raise
    except TorchlinkError as error:
        return Cell(row, column, error, None, time.perf_counter() - start)
    return Cell(row, column, report.models[0].error, report, time.perf_counter() - start)
