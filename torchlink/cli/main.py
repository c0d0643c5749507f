"""The command line's entry: lazy commands, and the one place that renders errors."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from torchlink.errors import TorchlinkError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import click

# Command name -> module below torchlink.cli that holds its `app`. The order is the order of --help.
COMMANDS = {
    "find": "find",
    "flags": "flags",
    "c++": "cxx",
    "run": "run",
    "cmake": "cmake",
    "nim": "nim",
    "verify": "verify",
    "cache": "cache",
}


class LazyGroup(TyperGroup):
    """A group that imports a command's module only when that command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Names in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """The command of that name, or None."""
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        command = typer.main.get_command(importlib.import_module(f"torchlink.cli.{module}").app)
        command.name = cmd_name
        return command


app = typer.Typer(
    cls=LazyGroup,
    name="torchlink",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def show_version(wanted: bool) -> None:
    """Print the version and leave, where it was asked for."""
    if wanted:
        from torchlink import __version__

        typer.echo(f"torchlink {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[  # noqa: ARG001 - its callback does the work
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """The build and link toolchain for libtorch: which words compile, link, load and run here, and do they work?"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code: 0 fine, 1 something is wrong, 2 could not look, 130 interrupted."""
    from click.exceptions import Abort, ClickException

    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = typer.main.get_command(app).main(args=arguments, prog_name="torchlink", standalone_mode=False)
    except TorchlinkError as error:
        render_error(error, as_json="--json" in arguments)
        return error.exit_code
    except ClickException as error:
        from torchlink.errors import UsageError

        context = getattr(error, "ctx", None)
        hint = f"See '{context.command_path} --help'." if context else ""
        render_error(UsageError(error.format_message(), hint), as_json="--json" in arguments)
        return 2
    except (Abort, KeyboardInterrupt):
        print("torchlink: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader went away (`torchlink flags | head -0`): nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return code if isinstance(code, int) else 0


def render_error(error: TorchlinkError, *, as_json: bool) -> None:
    """Say an error: text on stderr, or with `--json` the object on stdout."""
    if as_json:
        import json

        print(json.dumps({"schema": 1, "error": error.to_json()}, indent=2))
        return
    print(f"torchlink: {error.message}", file=sys.stderr)
    for line in error.details:
        print(f"  {line}", file=sys.stderr)
    if error.hint:
        print(f"  -> {error.hint}", file=sys.stderr)


def entry() -> None:
    """The console script."""
    sys.exit(main())
