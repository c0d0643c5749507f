"""The commands as typer sees them, built from the same declarations that `cli/plain.py` reads.

typer handles `--help`, shell completion, and every command line that `plain.read` does not accept.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from torchlink.cli.commands import COMMANDS, declared
from torchlink.cli.declaration import REQUIRED, CommandGroup, Positional, fields_of, make
from torchlink.cli.output import answer, say
from torchlink.errors import FileError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torchlink.cli.declaration import Command, Field


COMPLETION = ("--show-completion", "--install-completion")
SHELLS = ("bash", "zsh", "fish", "powershell", "pwsh")

# click's UsageError, wherever this release of typer keeps click: since 0.26 it ships its own copy.
USAGE_ERROR: type[Any] = next(
    base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException"
)


COMPILER, OTHER_NAMES = "--compiler", ("--cxx", "--cxx-compiler", "--cc", "--gcc")
UNKNOWN_COMMAND = re.compile(r"No such command '(.*?)'", re.DOTALL)


class EndedEarly(Exception):  # noqa: N818 - not an error of the command
    """Carries an interruption or a broken pipe past typer, which would end the process silently."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__()
        self.cause = cause


class LazyGroup(TyperGroup):
    """A group that imports a command's module only when that command is asked for.

    Types are loose here because click itself moved between the releases of typer.
    """

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - click's signature
        """Return the command of that name, or None."""
        if cmd_name not in COMMANDS:
            return None
        command = typer_command(cmd_name, declared(cmd_name))
        reject_empty_paths(command)
        summarize(command)
        return command

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, BrokenPipeError) as cause:
            raise EndedEarly(cause) from cause


def summarize(command: Any) -> None:
    """Use the first sentence of the help as the summary of a command and its subcommands; click would truncate it."""
    if not command.short_help and command.help:
        paragraph = " ".join(command.help.strip().split("\n\n")[0].split())
        command.short_help = paragraph.partition(". ")[0].rstrip(".") + "."
    for each in getattr(command, "commands", {}).values():
        summarize(each)


def reject_empty_paths(command: Any) -> None:
    """Make every path parameter of a command reject the empty string, which `Path` reads as the current directory.

    Scripts pass one by accident: `torchlink lint "$APP"` where APP is not set.
    """
    for parameter in command.params:
        if parameter.type.name in {"path", "file", "directory"}:
            parameter.type.convert = rejecting_empty(parameter.type)
    for each in getattr(command, "commands", {}).values():
        reject_empty_paths(each)


def rejecting_empty(kind: Any) -> Callable[..., Any]:
    """Return the conversion of a parameter type, except that the empty string is an error."""
    convert = kind.convert

    def checked(value: Any, parameter: Any, context: Any) -> Any:
        if value == "":
            kind.fail("An empty argument names no file or directory.", parameter, context)
        return convert(value, parameter, context)

    return checked


EPILOG = """\b
First steps:
  torchlink find                        # which libtorch is used, and what it is
  eval c++ main.cpp -o app $(torchlink flags --cxx)
  torchlink cmake init app              # or: torchlink nim init app
  torchlink verify model.pt             # does my model run in C++ on this machine?
  torchlink doctor                      # what is missing on this machine?
  torchlink docs                        # the pages of the documentation
  torchlink --install-completion        # for your shell; for another one: --install-completion zsh
"""

app = typer.Typer(
    cls=LazyGroup,
    name="torchlink",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def show_version(wanted: bool) -> None:
    """Print the version and exit if --version was given."""
    if wanted:
        from torchlink import __version__

        say(f"torchlink {__version__}")
        raise typer.Exit


@app.callback(epilog=EPILOG)
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", callback=show_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Find libtorch, print the flags that compile and link against it, and check that the result loads and runs."""


def root_context() -> Any:
    """Return click's context of torchlink itself, to print help from."""
    command: Any = typer.main.get_command(app)
    return command.context_class(command, info_name="torchlink", **command.context_settings)


def complete_in(option: str, shell: str, *more: str) -> int:
    """Print or install completion for a given shell; typer's own options only support the current one.

    Returns the exit code.

    Raises:
        UsageError: the shell is not supported.
        FileError: its settings cannot be written.
    """
    completion: Any = importlib.import_module("typer.completion")  # its exports are not typed
    if shell not in SHELLS or more:
        raise UsageError(
            f"{option}: not a supported shell: {' '.join((shell, *more))}.",
            hint=f"Use one of {', '.join(SHELLS)}, or omit it for the current shell.",
        )
    if option == "--show-completion":
        script = completion.get_completion_script(
            prog_name="torchlink", complete_var="_TORCHLINK_COMPLETE", shell=shell
        )
        answer(script)
        return 0
    try:
        _, path = completion.install(shell=shell, prog_name="torchlink", complete_var="_TORCHLINK_COMPLETE")
    except OSError as error:
        raise FileError(
            f"Completion cannot be installed: {error.filename}: {error.strerror}.",
            hint=f"Save the output of `torchlink --show-completion {shell}` where your shell reads it.",
        ) from error
    say(f"{shell} completion is installed in {path}; it takes effect in the next shell.")
    return 0


def run(arguments: Sequence[str]) -> int:
    """Run one command line.

    Returns its exit code.

    Raises:
        TorchlinkError: what the command raised; UsageError if the command line is wrong.
        KeyboardInterrupt: it was interrupted.
        BrokenPipeError: the reader of its output has closed the pipe.
    """
    if arguments[0] in COMPLETION and len(arguments) > 1:
        return complete_in(*arguments)
    try:
        code = typer.main.get_command(app).main(
            args=list(arguments), prog_name="torchlink", standalone_mode=False
        )
    except USAGE_ERROR as error:
        if (
            type(error).__name__ == "NoArgsIsHelpError"
        ):  # `torchlink cache` alone: click's way to print its help, as plain `torchlink` does
            say(error.format_message())
            return 0
        raise usage_error(error) from error
    except EndedEarly as error:
        raise error.cause from None
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    return code if isinstance(code, int) else 0


def usage_error(error: Any) -> UsageError:
    """Return click's usage error as torchlink's own, with a suggestion of what was probably meant."""
    context = getattr(error, "ctx", None)
    if context is None:
        return UsageError(error.format_message() or "A command is missing.")
    message, hints = (
        error.format_message() or "A command is missing.",
        [f"See '{context.command_path} --help'."],
    )
    unknown = UNKNOWN_COMMAND.match(error.message)
    if unknown:
        message = f"No such command {unknown[1]!r}."
        if unknown[1] == "help":  # in a group: `torchlink cmake help`
            hints = [f"See 'torchlink help{context.command_path.removeprefix('torchlink')}'."]
        hints[:0] = did_you_mean(unknown[1], context.command.list_commands(context))
    elif hasattr(error, "possibilities"):  # an option; click would append its suggestions to the message
        message = f"No such option: {error.option_name}"
        known = options_of(context.command, context)
        meant = COMPILER if COMPILER in known and error.option_name in OTHER_NAMES else error.option_name
        hints[:0] = did_you_mean(meant, known)
        holders = commands_with(error.option_name, context) if len(hints) == 1 else []
        if holders:
            hints[:0] = [f"Put it after a command that has it: {', '.join(holders)}."]
    return UsageError(message, " ".join(hints))


def did_you_mean(word: str, known: Iterable[str]) -> list[str]:
    """Return a "Did you mean …?" with the names closest to an unknown word; empty if none is close."""
    import difflib

    names = list(known)
    near = (
        difflib.get_close_matches(word, names, cutoff=0.7)
        or [name for name in names if name.startswith(word)][:3]
    )
    return [f"Did you mean {' or '.join(near)}?"] if near else []


def options_of(command: Any, context: Any) -> list[str]:
    """Return the names of a command's options."""
    return [
        name for each in command.get_params(context) if each.param_type_name == "option" for name in each.opts
    ]


def commands_with(option: str, context: Any) -> list[str]:
    """Return the commands of a group that have an option which was given to the group itself."""
    group = context.command
    names = group.list_commands(context) if hasattr(group, "list_commands") else []
    return [name for name in names if option in options_of(group.get_command(context, name), context)]


class WrapperCommand(TyperCommand):
    """A command that passes unknown options to another program; `-h` is its own only as the sole argument."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Treat a lone `-h` as `--help`."""
        return super().parse_args(ctx, ["--help"] if args == ["-h"] else args)


def typer_command(name: str, declared: Command | CommandGroup) -> Any:
    """Return the click command that typer builds from a declaration."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    if isinstance(declared, CommandGroup):
        app = typer.Typer(
            add_completion=False,
            rich_markup_mode=None,
            no_args_is_help=True,
            help=declared.help,
            epilog=declared.epilog or None,
        )
        app.callback()(lambda: None)  # otherwise typer would replace a group of one command by that command
        for inner, command in declared.commands.items():
            add(app, inner, command)
    else:
        add(app, name, declared)
    made = typer.main.get_command(app)
    made.name = name
    return made


def add(app: typer.Typer, name: str, command: Command) -> None:
    """Add a command to an app."""
    settings: dict[str, Any] = {}
    if not command.interspersed:
        settings["allow_interspersed_args"] = False
    if command.wraps_program:  # if -h were a help option, click would find it in -DTorch_DIR=…
        settings |= {"ignore_unknown_options": True, "help_option_names": ["--help"]}
    register = app.command(
        name,
        cls=WrapperCommand if command.wraps_program else TyperCommand,
        epilog=command.epilog or None,
        options_metavar=command.usage or "[OPTIONS]",
        context_settings=settings or None,
    )
    register(function_of(command))


def function_of(command: Command) -> Callable[..., None]:
    """Return a function with one parameter for each option, as typer expects it, that runs the command."""
    fields = {field.name: field for field in fields_of(command.arguments)}

    def run(**given: Any) -> None:
        values = {
            fields[name].path: declared_value(value, fields[name])
            for name, value in given.items()
            if value is not None and value != []
        }
        raise typer.Exit(command.run(make(command.arguments, values)))

    run.__doc__ = command.run.__doc__
    run.__annotations__ = {}
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [parameter(field) for field in fields.values()]
    )
    return run


def declared_value(value: Any, field: Field) -> object:
    """Convert typer's value (a list, an enum member) to the type that the field declares."""
    if field.many:
        return tuple(value)
    return value.value if isinstance(value, enum.Enum) else value


def parameter(field: Field) -> inspect.Parameter:
    """Return the function parameter for an option or positional argument."""
    declaration = field.declaration
    kind: Any = field.type
    default = inspect.Parameter.empty if field.default is REQUIRED else field.default
    if isinstance(declaration, Positional):
        info = typer.Argument(
            metavar=declaration.metavar,
            help=declaration.help,
            show_default=declaration.show_default,
            autocompletion=declaration.complete,
        )
    else:
        if declaration.choices:
            kind = choices(declaration.choices)
            default = kind(default) if default else default
        parse = declaration.parse
        if (
            parse is None and not declaration.choices and field.type is str and field.refuses_empty
        ):  # paths: see `reject_empty_paths`
            parse = not_empty
        info = typer.Option(
            *field.names,
            metavar=declaration.metavar,
            help=declaration.help,
            parser=None if parse is None else parser(parse),
            autocompletion=declaration.complete,
        )
    if field.many:
        kind = list[kind]
        default = default or None
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind if default is not None else kind | None, info],
    )


def not_empty(text: str) -> str:
    """Return the text unchanged.

    Raises:
        ValueError: it is empty.
    """
    if not text:
        raise ValueError("An empty argument names nothing.")
    return text


def choices(values: Sequence[str]) -> Any:
    """Return an enumeration of the values, from which typer knows what an option accepts."""
    make_enum: Any = enum.Enum
    return make_enum("Choices", {value: value for value in values}, type=str)


def parser(parse: Callable[[str], object]) -> Callable[[str], object]:
    """Return `parse` for typer: a ValueError becomes a usage error."""

    def parsed(text: str) -> object:
        try:
            return parse(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error

    return parsed
