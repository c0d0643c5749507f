"""`torchlink help COMMAND`: the same as `torchlink COMMAND --help`."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

from torchlink.cli.declaration import Command, Positional
from torchlink.cli.output import answer

EPILOG = """\b
Examples:
  torchlink help
  torchlink help flags
  torchlink help cmake init
"""


def words_at(ctx: Any, incomplete: str) -> list[str]:
    """Return completions: the commands, or the subcommands of the command typed so far."""
    place: Any = ctx.find_root().command
    for word in ctx.params.get("command") or ():
        place = place.get_command(ctx, word) if hasattr(place, "get_command") else None
    names = place.list_commands(ctx) if hasattr(place, "list_commands") else []
    return [name for name in names if name.startswith(incomplete)]


class HelpArguments(NamedTuple):
    """The command line of `torchlink help`."""

    command: Annotated[
        tuple[str, ...],
        Positional("[COMMAND]...", "A command, and optionally its subcommand.", complete=words_at),
    ] = ()


def show(arguments: HelpArguments) -> int:
    """Print the help of torchlink or of one of its commands, as --help does."""
    from torchlink.cli.app import did_you_mean, root_context
    from torchlink.errors import UsageError

    place: Any = root_context()
    for word in arguments.command:
        group = place.command
        names = group.list_commands(place) if hasattr(group, "list_commands") else []
        if word not in names:
            hints = [*did_you_mean(word, names), f"See '{place.command_path} --help'."]
            raise UsageError(f"{place.command_path} has no command {word!r}.", hint=" ".join(hints))
        found = group.get_command(place, word)
        place = type(place)(found, info_name=word, parent=place, **found.context_settings)
    answer(place.get_help())
    return 0


COMMAND = Command(HelpArguments, show, EPILOG)
