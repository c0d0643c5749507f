"""The commands as typer knows them: help, completion, and every command line that is not taken the quick way.

The typer command of a declared one: the same options, for help, completion and what is wrong with a command line.
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

# click's UsageError, wherever this typer keeps its click: since 0.26 it brings one of its own.
USAGE_ERROR: type[Any] = next(
    base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException"
)


COMPILER, OTHER_NAMES = "--compiler", ("--cxx", "--cxx-compiler", "--cc", "--gcc")
UNKNOWN_COMMAND = re.compile(r"No such command '(.*?)'", re.DOTALL)


class EndedEarly(Exception):  # noqa: N818 - not an error of the command
    """Carries an interruption or a broken pipe past typer, which would end the process without a word."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__()
        self.cause = cause


class LazyGroup(TyperGroup):
    """A group that imports a command's module only when that command is asked for.

    Types are loose here because click itself moved between the releases of typer.
    """

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - click's signature
        """Names in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - click's signature
        """The command of that name, or None."""
        if cmd_name not in COMMANDS:
            return None
        command = typer_command(cmd_name, declared(cmd_name))
        refuse_empty_paths(command)
        summarize(command)
        return command

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, BrokenPipeError) as cause:
            raise EndedEarly(cause) from cause


def summarize(command: Any) -> None:
    """Give a command and its own commands their first sentence as the summary: click would cut a longer one."""
    if not command.short_help and command.help:
        paragraph = " ".join(command.help.strip().split("\n\n")[0].split())
        command.short_help = paragraph.partition(". ")[0].rstrip(".") + "."
    for each in getattr(command, "commands", {}).values():
        summarize(each)


def refuse_empty_paths(command: Any) -> None:
    """Make every path of a command refuse an empty argument, which `Path` takes for the current directory.

    Scripts make such words: `torchlink lint "$APP"` where APP is not set.
    """
    for parameter in command.params:
        if parameter.type.name in {"path", "file", "directory"}:
            parameter.type.convert = refusing_empty(parameter.type)
    for each in getattr(command, "commands", {}).values():
        refuse_empty_paths(each)


def refusing_empty(kind: Any) -> Callable[..., Any]:
    """How a parameter's type takes its word, but for the empty one."""
    convert = kind.convert

    def checked(value: Any, parameter: Any, context: Any) -> Any:
        if value == "":
            kind.fail("An empty argument names no file or directory.", parameter, context)
        return convert(value, parameter, context)

    return checked


EPILOG = """\b
First steps:
  torchlink find                        # which libtorch, and what it is
  eval c++ main.cpp -o app $(torchlink flags --cxx)
  torchlink cmake init app              # or: torchlink nim init app
  torchlink verify model.pt             # does it really work here?
  torchlink --install-completion        # or for another shell: --install-completion zsh
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
    """The build and link toolchain for libtorch: the flags to compile, link, load and run with it, checked."""


def root_context() -> Any:
    """Torchlink itself as click's context, for who asks for help."""
    command: Any = typer.main.get_command(app)
    return command.context_class(command, info_name="torchlink", **command.context_settings)


def complete_in(option: str, shell: str, *more: str) -> int:
    """Show or install completion for a shell that is named; typer's options know the current one alone.

    Returns the exit code.

    Raises:
        UsageError: there is no completion for such a shell.
        FileError: its settings cannot be written.
    """
    completion: Any = importlib.import_module("typer.completion")  # its types say nothing of what it exports
    if shell not in SHELLS or more:
        raise UsageError(
            f"{option} {' '.join((shell, *more))} names no shell.",
            hint=f"Use one of {', '.join(SHELLS)}, or none for the current one.",
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
            hint=f"Put what `torchlink --show-completion {shell}` prints where your shell reads it.",
        ) from error
    say(f"{shell} completion is in {path}; it takes effect in the next shell.")
    return 0


def run(arguments: Sequence[str]) -> int:
    """Run one command line.

    Returns its exit code.

    Raises:
        TorchlinkError: what the command raised; UsageError where the arguments do not fit together.
        KeyboardInterrupt: it was interrupted.
        BrokenPipeError: whoever reads its output went away.
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
    """What click found wrong with the arguments of a command line, as an error of ours, with what was likely meant."""
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
        if unknown[1] == "help":  # of a group: `torchlink cmake help`
            hints = [f"See 'torchlink help{context.command_path.removeprefix('torchlink')}'."]
        hints[:0] = did_you_mean(unknown[1], context.command.list_commands(context))
    elif hasattr(error, "possibilities"):  # an option; click would put its suggestions behind the message
        message = f"No such option: {error.option_name}"
        known = options_of(context.command, context)
        meant = COMPILER if COMPILER in known and error.option_name in OTHER_NAMES else error.option_name
        hints[:0] = did_you_mean(meant, known)
        holders = commands_with(error.option_name, context) if len(hints) == 1 else []
        if holders:
            hints[:0] = [f"Put it after a command that takes it: {', '.join(holders)}."]
    return UsageError(message, " ".join(hints))


def did_you_mean(word: str, known: Iterable[str]) -> list[str]:
    """A sentence with the known words that are near to an unknown one, or none."""
    import difflib

    names = list(known)
    near = (
        difflib.get_close_matches(word, names, cutoff=0.7)
        or [name for name in names if name.startswith(word)][:3]
    )
    return [f"Did you mean {' or '.join(near)}?"] if near else []


def options_of(command: Any, context: Any) -> list[str]:
    """The names of the options that a command takes."""
    return [
        name for each in command.get_params(context) if each.param_type_name == "option" for name in each.opts
    ]


def commands_with(option: str, context: Any) -> list[str]:
    """The commands of a group that take an option, which was given to the group itself."""
    group = context.command
    names = group.list_commands(context) if hasattr(group, "list_commands") else []
    return [name for name in names if option in options_of(group.get_command(context, name), context)]


class ForeignCommand(TyperCommand):
    """A command whose options are mostly another program's: of -h it reads only one that stands alone."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read `-h` by itself as `--help`."""
        return super().parse_args(ctx, ["--help"] if args == ["-h"] else args)


def typer_command(name: str, declared: Command | CommandGroup) -> Any:
    """What typer makes of a declaration: a command of click's, wherever this typer keeps its click."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    if isinstance(declared, CommandGroup):
        app = typer.Typer(
            add_completion=False,
            rich_markup_mode=None,
            no_args_is_help=True,
            help=declared.help,
            epilog=declared.epilog or None,
        )
        app.callback()(lambda: None)  # or a single command would stand for the group
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
    if command.foreign:  # with -h known, click would find it in -DTorch_DIR=…
        settings |= {"ignore_unknown_options": True, "help_option_names": ["--help"]}
    register = app.command(
        name,
        cls=ForeignCommand if command.foreign else TyperCommand,
        epilog=command.epilog or None,
        options_metavar=command.usage or "[OPTIONS]",
        context_settings=settings or None,
    )
    register(function_of(command))


def function_of(command: Command) -> Callable[..., None]:
    """A function with a parameter for each option, as typer wants it, that runs the command."""
    fields = {field.name: field for field in fields_of(command.arguments)}

    def run(**given: Any) -> None:
        values = {
            fields[name].path: bare(value, fields[name])
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


def bare(value: Any, field: Field) -> object:
    """A value as the declaration gives it, without what typer needs."""
    if field.many:
        return tuple(value)
    return value.value if isinstance(value, enum.Enum) else value


def parameter(field: Field) -> inspect.Parameter:
    """The parameter of an option or positional argument."""
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
        ):  # paths: `app.refuse_empty_paths`
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
    """The text of an option that names something.

    Raises:
        ValueError: it is empty.
    """
    if not text:
        raise ValueError("An empty argument names nothing.")
    return text


def choices(values: Sequence[str]) -> Any:
    """An enumeration, by which typer knows what an option may be."""
    make_enum: Any = enum.Enum
    return make_enum("Choices", {value: value for value in values}, type=str)


def parser(parse: Callable[[str], object]) -> Callable[[str], object]:
    """How typer takes the value of a text."""

    def parsed(text: str) -> object:
        try:
            return parse(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error

    return parsed
