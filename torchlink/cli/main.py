"""The command line's entry: lazy commands, and the one place that renders errors."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from torchlink.errors import TorchlinkError

if TYPE_CHECKING:
    from collections.abc import Sequence

# Command name -> module below torchlink.cli that holds its `app`. The order is the order of --help.
COMMANDS = {
    "find": "find",
    "flags": "flags",
    "c++": "cxx",
    "run": "run",
    "cmake": "cmake",
    "nim": "nim",
    "verify": "verify",
    "extract": "extract",
    "lint": "lint",
    "cache": "cache",
}


# click's UsageError, wherever this typer keeps its click: since 0.26 it brings one of its own.
USAGE_ERROR: type[Any] = next(
    base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException"
)


class LazyGroup(TyperGroup):
    """A group that imports a command's module only when that command is asked for.

    Types are loose here because click itself moved between the releases of typer.
    """

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - click's signature
        """Names in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - click's signature
        """The command of that name, or None."""
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        command = typer.main.get_command(importlib.import_module(f"torchlink.cli.{module}").app)
        command.name = cmd_name
        return command


EPILOG = """\b
First steps:
  torchlink find                        # which libtorch, and what it is
  eval c++ main.cpp -o app $(torchlink flags --cxx)
  torchlink cmake init app              # or: torchlink nim init app
  torchlink verify model.pt             # does it really work here?
"""

app = typer.Typer(
    cls=LazyGroup,
    name="torchlink",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def show_version(wanted: bool) -> None:
    """Print the version and leave, where it was asked for."""
    if wanted:
        from torchlink import __version__

        typer.echo(f"torchlink {__version__}")
        raise typer.Exit


@app.callback(epilog=EPILOG)
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """The build and link toolchain for libtorch: the words that compile, link, load and run, proved."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line.

    Returns its exit code: 0 fine, 1 it looked and something is wrong, 2 it could not look, 130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    try:
        code = typer.main.get_command(app).main(args=arguments, prog_name="torchlink", standalone_mode=False)
    except TorchlinkError as error:
        render_error(error, as_json="--json" in arguments)
        return error.exit_code
    except USAGE_ERROR as error:
        render_error(usage_error(error), as_json="--json" in arguments)
        return 2
    except (typer.Abort, KeyboardInterrupt):
        print("torchlink: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader went away (`torchlink flags | head -0`): nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if os.environ.get("TORCHLINK_DEBUG"):
            raise
        render_error(internal_error(error), as_json="--json" in arguments)
        return 2
    return code if isinstance(code, int) else 0


def usage_error(error: Any) -> TorchlinkError:
    """What click found wrong with the words of a command line, as an error of ours."""
    from torchlink.errors import UsageError

    context = getattr(error, "ctx", None)
    hint = f"See '{context.command_path} --help'." if context else ""
    return UsageError(error.format_message() or "A command is missing.", hint)


def internal_error(error: Exception) -> TorchlinkError:
    """An error of torchlink's own: one sentence for the user, the traceback in a file for the report."""
    import traceback

    from torchlink.paths import cache_dir

    log = cache_dir() / "logs" / "internal-error.txt"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        where = f"The details are in {log}."
    except OSError:
        where = "Set TORCHLINK_DEBUG=1 to see the details."
    return TorchlinkError(
        f"This is a fault of torchlink itself: {type(error).__name__}: {error}",
        hint=f"Please report it with the command line. {where}",
    )


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
