"""`torchlink find`: which libtorch is used, why, and what it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from torchlink.cli import options
from torchlink.cli.declaration import Command, Option
from torchlink.cli.output import answer, note, say
from torchlink.errors import UsageError

if TYPE_CHECKING:
    from torchlink.errors import TorchlinkError
    from torchlink.libtorch.facts import Search

EPILOG = """\b
Examples:
  torchlink find
  torchlink find --all
  torchlink find --libtorch torch-2.6.0-cp311-cp311-manylinux1_x86_64.whl
  torchlink find --python .venv/bin/python --json
  ln -s "$(torchlink find --print root)" libtorch
"""


def fields(incomplete: str) -> list[str]:
    """Return completions for --print: the JSON fields of the libtorch that is found."""
    from torchlink.libtorch.choose import search
    from torchlink.report.find import libtorch_to_json

    found = search([], None, everything=False).chosen
    return [name for name in libtorch_to_json(found) if name.startswith(incomplete)] if found else []


class FindArguments(NamedTuple):
    """The command line of `torchlink find`."""

    libtorch: Annotated[
        tuple[Path, ...],
        Option(
            "--libtorch",
            "Look only here: a root directory, its lib directory, a directory that contains it, a wheel or a zip "
            "file. May be repeated with --all.",
            metavar="PATH",
        ),
    ] = ()
    python: options.Python = None
    all: Annotated[bool, Option("--all", "List every candidate in order; rejected ones with the reason.")] = (
        False
    )
    print: Annotated[
        str | None,
        Option(
            "--print",
            "Print only one value, for scripts: root, version, cxx11_abi, cxx_standard, library_dir, … "
            "(a field of --json); a list is printed one element per line.",
            metavar="FIELD",
            complete=fields,
        ),
    ] = None
    json: options.Json = False
    verbose: Annotated[
        bool, Option("-v --verbose", "Show the symbol from which the C++ ABI was determined.")
    ] = False


def find(arguments: FindArguments) -> int:
    """Find libtorch and print what it is.

    Version, C++ ABI, C++ standard, libraries and accelerator are read from its files.

    Without --libtorch and --python, the first usable one of these is used: the variables TORCHLINK_LIBTORCH,
    LIBTORCH, TORCH_INSTALL_PREFIX, Torch_DIR and CMAKE_PREFIX_PATH; the active virtual environment, then the
    conda environment; ./libtorch and other directories where projects vendor it; python3 on PATH; the Python
    that runs torchlink; the system directories.
    """
    from torchlink.libtorch.choose import failure, search

    if arguments.json and arguments.print:
        raise UsageError("--print and --json cannot be combined.", hint="Use only one of them.")
    if len(arguments.libtorch) + bool(arguments.python) > 1 and not arguments.all:
        several = "--libtorch and --python together" if arguments.python else "Several --libtorch"
        raise UsageError(f"{several} need --all.", hint="Add --all to list each of them.")
    found = search(arguments.libtorch, arguments.python, everything=arguments.all)
    error = None if found.chosen else failure(found)
    if error is not None and (arguments.print or not arguments.all):
        raise error
    show(found, arguments, error)
    if found.chosen and not arguments.json:
        from torchlink.libtorch.floor import shortfall

        short = shortfall(found.chosen)
        if short is not None:
            note(f"{short.message} {short.hint}", label="warning")
    if error is None:
        return 0
    if not arguments.json:
        raise error
    return error.exit_code


def show(found: Search, arguments: FindArguments, error: TorchlinkError | None) -> None:
    """Print what was found, as text, as JSON or as one value."""
    from torchlink.report.find import field_values, search_to_json, search_to_text

    if arguments.json:
        import json

        answer(json.dumps(search_to_json(found, error), indent=2))
    elif arguments.print and found.chosen:
        for value in field_values(found.chosen, arguments.print):
            answer(value, line=True)
    else:
        say(search_to_text(found, everything=arguments.all, verbose=arguments.verbose))


COMMAND = Command(FindArguments, find, EPILOG)
