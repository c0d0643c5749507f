"""A page a command, made from its declaration: what `--help` prints, as Markdown."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

from torchlink.cli.commands import COMMANDS, declared
from torchlink.cli.declaration import REQUIRED, CommandGroup, Positional, fields_of
from torchlink.pages import Page

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlink.cli.declaration import Command, Field

CHECKED = "<!-- read by tests/docs/test_commands.py -->"
SHELL = re.compile(r"(?:[A-Z_]+=\S+ )*(?:torchlink|torchlink-c\+\+|eval|c\+\+|cmake|ldd|ln|pip|app/|echo) ?")
CODE = re.compile(r"(`[^`]*`)")
PAGE = re.compile(r"\bdocs/([\w/-]+)\.md\b")
WORD = re.compile(  # an option, a variable, a call, or a word with a character that Markdown would take for a mark
    r"(?<![\w`])(\[\[[\w.]+\]\]|--?[A-Za-z][\w+-]*(?::\w+)?=?|\$?[A-Z]+(?:_[A-Z0-9]+)+|\w+_\w+(?:\(\w*\))?"
    r"|[^\s`(]*[*_<>|$\\][^\s`)]*?)(?=[].,;:)]*(?:\s|$))"
)


def command_pages() -> Iterator[Page]:
    """Yield the index of commands and the page of each."""
    yield Page("commands", "Commands", "Commands", index)
    for name in COMMANDS:
        about = summary(declared(name)).replace("`", "")
        yield Page(f"commands/{name}", f"torchlink {name}", about, lambda name=name: page(name))  # type: ignore[misc]


def index() -> str:
    """Return the page that lists the commands."""
    rows = [f"| [`torchlink {name}`]({name}.md) | {summary(declared(name))} |" for name in COMMANDS]
    head = "`torchlink COMMAND --help` prints the same as the pages here, in short form."
    return "\n".join(["# Commands", "", head, "", "| command | does |", "|---|---|", *rows, ""])


def page(name: str) -> str:
    """Return the page of a command and its subcommands."""
    found = declared(name)
    parts = [f"# torchlink {name}", ""]
    if isinstance(found, CommandGroup):
        parts += [*prose(found.help), *epilog(found.epilog)]
        for inner, command in found.commands.items():
            parts += [f"## torchlink {name} {inner}", "", *section(f"{name} {inner}", command, "###")]
    else:
        parts += section(name, found, "##")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts)).rstrip() + "\n"


def summary(found: Command | CommandGroup) -> str:
    """Return the first sentence of a command's help."""
    text = found.help if isinstance(found, CommandGroup) else inspect.getdoc(found.run) or ""
    return coded(" ".join(text.split("\n\n")[0].split()).partition(". ")[0].rstrip(".") + ".")


def section(name: str, command: Command, heading: str) -> list[str]:
    """Return a command's help: the usage, what it does, examples, arguments and options."""
    fields = fields_of(command.arguments)
    positional = [each for each in fields if isinstance(each.declaration, Positional)]
    options = [each for each in fields if not isinstance(each.declaration, Positional)]
    words = [command.usage or "[OPTIONS]", *(usage(each) for each in positional)]
    parts = ["```text", f"torchlink {name} {' '.join(words)}", "```", ""]
    parts += prose(inspect.getdoc(command.run) or "")
    parts += epilog(command.epilog)
    for title, its in (("Arguments", positional), ("Options", options)):
        if its:
            parts += [f"{heading} {title}", ""]
            for each in its:
                parts += [*entry(each), ""]
    return parts


def usage(field: Field) -> str:
    """Return a positional argument as it stands in the usage line."""
    declaration: Any = field.declaration
    return str(declaration.metavar)


def entry(field: Field) -> list[str]:
    """Return an argument or option as an entry of a definition list."""
    declaration: Any = field.declaration
    if isinstance(declaration, Positional):
        return [f"`{declaration.metavar}`", f":   {coded(declaration.help)}"]
    metavar = declaration.metavar or "|".join(declaration.choices) or KINDS.get(field.type.__name__, "")
    value = f" {metavar}" if metavar else ""
    names = ", ".join(f"`{name}{value}`" for name in field.names)
    remarks = []
    if field.many and "repeat" not in declaration.help:
        remarks.append("May be repeated.")
    if "[default:" not in declaration.help and field.default not in (None, False, (), REQUIRED, ""):
        remarks.append(f"Default: `{field.default}`.")
    return [names, f":   {' '.join([coded(declaration.help), *remarks])}"]


KINDS = {"str": "TEXT", "int": "INTEGER", "float": "NUMBER", "Path": "PATH"}


def prose(text: str) -> list[str]:
    """Return the paragraphs of a help text."""
    lines: list[str] = []
    for paragraph in text.strip().split("\n\n"):
        lines += [coded(" ".join(paragraph.replace("\b", "").split())), ""]
    return lines


def epilog(text: str) -> list[str]:
    """Return the parts of a help's end: blocks of lines that keep their form, and sentences."""
    lines: list[str] = []
    for part in text.strip("\n").split("\n\n"):
        if not part.startswith("\b"):
            lines += prose(part)
            continue
        title, *block = part.removeprefix("\b\n").splitlines()
        if not block or not all(line.startswith("  ") for line in block):
            lines += prose(part)
            continue
        lines += [coded(title), ""]
        inner = [line.removeprefix("  ") for line in block]
        commands = all(SHELL.match(line) for line in inner)
        lines += [*([CHECKED, "```sh"] if commands else ["```text"]), *inner, "```", ""]
    return lines


def coded(text: str) -> str:
    """Return a sentence with its options, variables and whatever Markdown would change as code."""
    marked = (part if part.startswith("`") else WORD.sub(r"`\1`", part) for part in CODE.split(text))
    return PAGE.sub(r"[\1](../\1.md)", "".join(marked))
