"""The typer command of a declared one: the same options, for help, completion and what is wrong with a command line."""

from __future__ import annotations

import enum
import inspect
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from torchlink.cli.declaration import REQUIRED, Argument, CommandGroup, fields_of, make

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torchlink.cli.declaration import Command, Field


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
    if isinstance(declaration, Argument):
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
