"""What `torchlink find` does once its options are known. It knows nothing of typer: see `cli.plain`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torchlink.cli.output import answer, note, say
from torchlink.cli.plain import Option, read
from torchlink.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torchlink.errors import TorchlinkError
    from torchlink.libtorch.facts import Search


class Order(NamedTuple):
    """The options of `torchlink find`."""

    libtorch: Sequence[str | Path] = ()
    python: str | None = None
    everything: bool = False
    field: str | None = None
    as_json: bool = False
    verbose: bool = False


OPTIONS = {
    "--libtorch": Option("libtorch", list),
    "--python": Option("python"),
    "--all": Option("everything", bool),
    "--print": Option("field"),
    "--json": Option("as_json", bool),
    "-v": Option("verbose", bool),
    "--verbose": Option("verbose", bool),
}


def plain(arguments: Sequence[str]) -> Order | None:
    """The options in the words behind `find`; None where there is anything for typer to say."""
    words = read(arguments, OPTIONS)
    return None if words is None or words[1] else Order(**words[0])  # type: ignore[arg-type]  # the table's types


def run(order: Order) -> int:
    """Print what was found, and return the exit code.

    Raises:
        UsageError: the options do not go together.
        TorchlinkError: nothing usable was found.
    """
    from torchlink.libtorch.choose import failure, search

    if order.as_json and order.field:
        raise UsageError("--print and --json exclude one another.", hint="Say one of them.")
    if len(order.libtorch) + bool(order.python) > 1 and not order.everything:
        several = "--libtorch and --python together" if order.python else "Several --libtorch"
        raise UsageError(f"{several} need --all.", hint="Say --all to see every one of them.")
    found = search([Path(path) for path in order.libtorch], order.python, everything=order.everything)
    error = None if found.chosen else failure(found)
    if error is not None and (order.field or not order.everything):
        raise error
    show(found, order, error)
    if found.chosen and not order.as_json:
        from torchlink.libtorch.floor import shortfall

        short = shortfall(found.chosen)
        if short is not None:
            note(f"{short.message} {short.hint}", label="warning")
    if error is None:
        return 0
    if not order.as_json:
        raise error
    return error.exit_code


def show(found: Search, order: Order, error: TorchlinkError | None) -> None:
    """Print what was found in the form that was asked for."""
    from torchlink.report.find import field_values, search_to_json, search_to_text

    if order.as_json:
        import json

        answer(json.dumps(search_to_json(found, error), indent=2))
    elif order.field and found.chosen:
        for value in field_values(found.chosen, order.field):
            answer(value, line=True)
    else:
        say(search_to_text(found, everything=order.everything, verbose=order.verbose))
