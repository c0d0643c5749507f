"""How commands and their options are declared: once, for typer, for the reader without it, and for shells.

A command's arguments are one named tuple. Each field is annotated with what the command line knows of it:

    class DoctorArguments(NamedTuple):
        fix_script: Annotated[bool, Option("--fix-script", "Print a shell script.")] = False

The field gives the type and the default. A field that is the options of a room below is annotated with a mapping from
that room's fields to their `Option`, and can be handed on as it is.
"""

import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

REQUIRED = object()  # the default of an argument that has none


class Option(NamedTuple):
    """An option, but for its type and its default, which are those of its field."""

    names: str  # "--libtorch", or several: "-v --verbose"
    help: str
    metavar: str | None = None
    parse: Callable[[str], object] | None = None  # the value of a text, or ValueError; by the type where None
    choices: tuple[str, ...] = ()  # () allows any text
    complete: Callable[..., list[str]] | None = None  # what a shell offers for a beginning


class Positional(NamedTuple):
    """A positional argument, but for its type and its default."""

    metavar: str
    help: str
    show_default: bool = True
    complete: Callable[..., list[str]] | None = None


Group = Mapping[str, Any]  # field of a room's options -> its Option, or the Group of its own options


class Command(NamedTuple):
    """A command: what it is given, and what it does; its help is the docstring of `run`."""

    arguments: type[Any]  # a named tuple
    run: Callable[[Any], int]  # returns the exit code
    epilog: str = ""
    usage: str | None = None  # what stands for "[OPTIONS]" in the usage line
    interspersed: bool = True  # False: all that follows the first positional argument is positional, too
    foreign: bool = False  # unknown options are those of another program
    # In place of `plain.read`, where the command line has rules of its own
    read: Callable[[Sequence[str]], Any] | None = None


class CommandGroup(NamedTuple):
    """A command that has commands of its own."""

    commands: Mapping[str, Command]
    help: str
    epilog: str = ""


class Field(NamedTuple):
    """One option or positional argument of a command."""

    path: tuple[str, ...]  # ("plan", "rpath"): the field `rpath` of the field `plan`
    declaration: Option | Positional
    type: type[Any]  # bool, str, int, float, Path; of each value where there are several
    many: bool
    default: object

    @property
    def name(self) -> str:
        """The innermost field, which is unique in a command."""
        return self.path[-1]

    @property
    def names(self) -> tuple[str, ...]:
        """Of an option: `--verbose` and `-v`."""
        return tuple(self.declaration.names.split()) if isinstance(self.declaration, Option) else ()

    @property
    def refuses_empty(self) -> bool:
        """Whether an empty argument is no value: a path (the current directory) or a name."""
        return self.type is Path or (self.type is str and self.default is None and not self.many)

    def value(self, text: str) -> object:
        """The value of a text on the command line.

        Raises:
            ValueError: the text is none.
        """
        declaration = self.declaration
        if isinstance(declaration, Option):
            if declaration.choices and text not in declaration.choices:
                raise ValueError(text)
            if declaration.parse:
                return declaration.parse(text)
        return self.type(text)


def only(group: Group, *names: str) -> Group:
    """Some options of a group."""
    return {name: group[name] for name in names}


def fields_of(arguments: type[Any]) -> list[Field]:
    """The options and positional arguments of a command in the order of their fields."""
    hints = get_type_hints(arguments, include_extras=True)
    defaults = arguments._field_defaults
    found: list[Field] = []
    for name, hint in hints.items():
        kind, declaration = get_args(hint)
        default = defaults.get(name, REQUIRED)
        found += _fields((name,), kind, declaration, default)
    return found


def fields_of_group(group: Group, default: Any) -> list[Field]:
    """The options of a group, for an object that holds their defaults."""
    return _fields((), type(default), group, default)


def _fields(path: tuple[str, ...], kind: Any, declaration: Any, default: Any) -> list[Field]:
    if isinstance(declaration, Mapping):
        hints = get_type_hints(kind)
        return [
            field
            for name, inner in declaration.items()
            for field in _fields((*path, name), hints[name], inner, getattr(default, name))
        ]
    if get_origin(kind) in {Union, types.UnionType}:
        (kind,) = (each for each in get_args(kind) if each is not type(None))
    many = get_origin(kind) is tuple
    return [Field(path, declaration, get_args(kind)[0] if many else kind, many, default)]


def make(arguments: type[Any], values: Mapping[tuple[str, ...], object]) -> Any:
    """The arguments of a command from the values that were given, by path."""
    return arguments(**_inner(arguments._field_defaults, values))


def _inner(defaults: Mapping[str, Any], values: Mapping[tuple[str, ...], object]) -> dict[str, object]:
    """The values of the outermost fields."""
    given: dict[str, object] = {}
    nested: dict[str, dict[tuple[str, ...], object]] = {}
    for (name, *rest), value in values.items():
        if rest:
            nested.setdefault(name, {})[tuple(rest)] = value
        else:
            given[name] = value
    for name, inner in nested.items():
        given[name] = defaults[name]._replace(**_inner(defaults[name]._asdict(), inner))
    return given


def command_line(group: Group, options: Any) -> list[str]:
    """The options on the command line that give `options`; none for what is as by default."""
    flags: list[str] = []
    for field in fields_of_group(group, type(options)()):
        value = options
        for name in field.path:
            value = getattr(value, name)
        if value == field.default:
            continue
        option = field.names[-1]
        if field.type is bool:
            flags.append(option)
        else:
            for each in value if field.many else (value,):
                flags += [option, str(each).removesuffix(".0") if field.type is float else str(each)]
    return flags
