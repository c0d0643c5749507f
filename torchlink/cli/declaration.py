"""How a command and its options are declared: once, for typer, for `cli/plain.py` and for shell completion.

A command's arguments are one named tuple. Each field is annotated with its option:

    class DoctorArguments(NamedTuple):
        fix_script: Annotated[bool, Option("--fix-script", "Print a shell script.")] = False

The field gives the type and the default. A field that holds the options object of another room (`PlanOptions`) is
annotated with a mapping from that object's fields to their `Option`; the command passes the object on unchanged.
"""

import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

REQUIRED = object()  # the default of an argument that has none


class Option(NamedTuple):
    """An option; its type and default are those of the annotated field."""

    names: str  # "--libtorch", or several: "-v --verbose"
    help: str
    metavar: str | None = None
    parse: Callable[[str], object] | None = None  # text -> value, or ValueError; None: the field's type
    choices: tuple[str, ...] = ()  # the values it accepts; (): any
    complete: Callable[..., list[str]] | None = None  # prefix -> completions for the shell


class Positional(NamedTuple):
    """A positional argument; its type and default are those of the annotated field."""

    metavar: str
    help: str
    show_default: bool = True
    complete: Callable[..., list[str]] | None = None


Group = Mapping[str, Any]  # field of an options object -> its Option, or a Group for a nested options object


class Command(NamedTuple):
    """A command: its arguments and the function that runs it, whose docstring is the help."""

    arguments: type[Any]  # a named tuple
    run: Callable[[Any], int]  # returns the exit code
    epilog: str = ""
    usage: str | None = None  # replaces "[OPTIONS]" in the usage line
    interspersed: bool = True  # False: everything after the first positional argument is positional, too
    wraps_program: bool = False  # unknown options are passed to the program that it runs
    # Replaces `plain.read` for a command line with rules of its own.
    read: Callable[[Sequence[str]], Any] | None = None


class CommandGroup(NamedTuple):
    """A command that has subcommands."""

    commands: Mapping[str, Command]
    help: str
    epilog: str = ""


class Field(NamedTuple):
    """One option or positional argument of a command."""

    path: tuple[str, ...]  # ("plan", "rpath"): the field `rpath` of the field `plan`
    declaration: Option | Positional
    type: type[Any]  # bool, str, int, float or Path; with `many`, that of each value
    many: bool  # a tuple of values: the option may be repeated
    default: object

    @property
    def name(self) -> str:
        """The name of the innermost field, which is unique in a command."""
        return self.path[-1]

    @property
    def names(self) -> tuple[str, ...]:
        """The spellings of an option, such as `-v` and `--verbose`; empty for a positional argument."""
        return tuple(self.declaration.names.split()) if isinstance(self.declaration, Option) else ()

    @property
    def refuses_empty(self) -> bool:
        """Whether the empty string is not a value: for paths (it would mean the current directory) and names."""
        return self.type is Path or (self.type is str and self.default is None and not self.many)

    def value(self, text: str) -> object:
        """Convert text from the command line.

        Raises:
            ValueError: the text is not a value of this option.
        """
        declaration = self.declaration
        if isinstance(declaration, Option):
            if declaration.choices and text not in declaration.choices:
                raise ValueError(text)
            if declaration.parse:
                return declaration.parse(text)
        return self.type(text)


def only(group: Group, *names: str) -> Group:
    """Return some of a group's options."""
    return {name: group[name] for name in names}


def fields_of(arguments: type[Any]) -> list[Field]:
    """Return the options and positional arguments of a command in the order of their fields."""
    hints = get_type_hints(arguments, include_extras=True)
    defaults = arguments._field_defaults
    found: list[Field] = []
    for name, hint in hints.items():
        kind, declaration = get_args(hint)
        default = defaults.get(name, REQUIRED)
        found += _fields((name,), kind, declaration, default)
    return found


def fields_of_group(group: Group, default: Any) -> list[Field]:
    """Return the options of a group; `default` is the options object with their defaults."""
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
    """Build the arguments of a command from the values that were given, by field path."""
    return arguments(**_inner(arguments._field_defaults, values))


def _inner(defaults: Mapping[str, Any], values: Mapping[tuple[str, ...], object]) -> dict[str, object]:
    """Return the values of the outermost fields."""
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
    """Return the command-line flags that produce `options`, omitting the defaults."""
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
