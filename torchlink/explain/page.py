"""A cause as a page of the documentation, in Markdown: what happened, the fixes, how to recognise it, real logs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from torchlink.bounds import read_whole
from torchlink.explain import causes
from torchlink.explain.causes import LARGEST, STAGES, SUFFIX
from torchlink.explain.placeholders import PLACEHOLDER
from torchlink.settings import toml_document

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torchlink.explain.causes import Cause

HEADINGS = {
    "setup": "Setting up",
    "configure": "Configuring",
    "compile": "Compiling",
    "link": "Linking",
    "load": "Starting the program",
    "import": "Importing in Python",
    "run": "Running",
}
# How a fix's build system or language (`for`) is called, where that is not its name with a capital letter.
NAMES = {
    "any": "Everywhere",
    "c++": "C++",
    "cmake": "CMake",
    "csharp": "C#",
    "macos": "macOS",
    "ocaml": "OCaml",
    "node": "Node.js",
    "pip": "pip",
    "conda": "conda",
    "pkg-config": "pkg-config",
    "redhat": "Red Hat",
}
# The language of commands that are not for a shell.
LANGUAGES = {
    "c++": "cpp",
    "c": "c",
    "cmake": "cmake",
    "go": "go",
    "nim": "nim",
    "python": "python",
    "rust": "rust",
}
# A call, a statement or a bare option: the line is not for a shell.
CODE = re.compile(r"[\w.:!]+\(|(?:import|from|let|auto|const|use) |std::|[-/]\S|set [A-Z]+=")
NOT_RUN = "<!-- not run: it takes a machine that has this error -->"


class Heading(NamedTuple):
    """What lists of causes need of one."""

    id: str
    title: str
    stage: str


def render(cause: Cause, titles: Mapping[str, str]) -> str:
    """Return the page of a cause.

    Args:
        cause: the cause.
        titles: those of the other causes by id, to link the ones that follow from this one.
    """
    parts = [f"# {cause.title}", "", f"*{cause.stage}*: `{cause.id}`", "", cause.text.strip(), ""]
    parts += ["## How to fix it", ""]
    if any(PLACEHOLDER.search(fix.command) for fix in cause.fixes):
        parts += ["`torchlink explain` fills in what stands in `<…>`, as it is on your machine.", ""]
    for target, fixes in by_target(cause).items():
        parts += [f"### {NAMES.get(target, target.capitalize())}", ""]
        for fix in fixes:
            parts += [sentence(fix.text, bool(fix.command.strip())), ""]
            parts += block(fix.command, target)
    if cause.hides:
        known = [f"[{titles[each]}]({each}.md)" for each in cause.hides if each in titles]
        if known:
            parts += ["## What follows from it", ""]
            parts += [
                "These errors disappear with this one, so `torchlink explain` does not list them beside it:",
                "",
            ]
            parts += [*(f"- {each}" for each in known), ""]
    if cause.examples:
        parts += ["## What it looks like", ""]
        for example in cause.examples:
            parts += [f"{example.tool}:", "", *fenced(example.log.strip("\n"), "text"), ""]
    return "\n".join(parts).rstrip() + "\n"


def by_target(cause: Cause) -> dict[str, list[causes.Fix]]:
    """Return the fixes of a cause by build system, in the file's order."""
    found: dict[str, list[causes.Fix]] = {}
    for fix in cause.fixes:
        found.setdefault(fix.target, []).append(fix)
    return found


def sentence(text: str, before_command: bool) -> str:
    """Return the text of a fix as a sentence."""
    text = text.strip()
    return text if text.endswith((".", ":", "!", "?")) else f"{text}{':' if before_command else '.'}"


def block(command: str, target: str) -> list[str]:
    """Return the command of a fix as a fenced block, in the language that it is written in."""
    command = PLACEHOLDER.sub(r"<\1>", command.strip("\n"))
    if not command:
        return []
    if any(CODE.match(line) for line in command.splitlines()):
        return [*fenced(command, LANGUAGES.get(target, "text")), ""]
    return [NOT_RUN, *fenced(command, "sh"), ""]


def fenced(text: str, language: str) -> list[str]:
    """Return a fenced block, with a fence that is longer than any in the text."""
    fence = "`" * max(3, *(len(ticks) + 1 for ticks in re.findall(r"`{3,}", text)), 3)
    return [f"{fence}{language}", *text.splitlines(), fence]


def index(found: Sequence[Heading]) -> str:
    """Return the page that lists the causes by stage."""
    parts = [
        "# Errors and their causes",
        "",
        "`torchlink explain -` names the cause of an error that is pasted into it. These are the ones it knows, in the",
        "order in which to fix them.",
        "",
    ]
    for stage in STAGES:
        rows = [f"- [{each.title}]({each.id}.md)" for each in found if each.stage == stage]
        if rows:
            parts += [f"## {HEADINGS[stage]}", "", *rows, ""]
    return "\n".join(parts).rstrip() + "\n"


def headings() -> list[Heading]:
    """Return the headings of torchlink's own causes, by stage, and by title in each; their patterns are not read."""
    found = []
    for name in causes.ids():
        table = toml_document(read_whole(causes.directory() / f"{name}{SUFFIX}", LARGEST).decode())
        found.append(Heading(name, table["title"], table["stage"]))
    return sorted(found, key=lambda each: (STAGES.index(each.stage), each.title.casefold()))
