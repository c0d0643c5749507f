"""A page a language: from nothing to a running program, made from the kinds of `torchlink new`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torchlink.emit import TARGETS
from torchlink.pages import Page
from torchlink.projects.kinds import kinds
from torchlink.projects.new import new_project

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torchlink.projects.kinds import Kind
    from torchlink.projects.new import NewProject

SLUGS = {"C++": "cpp"}  # else the name of the language's kind that uses the C API
FLAGS = {"C++": "cxx"}  # else the target of the kind's name, if there is one
RUN = "<!-- run by tests/new -->"
TYPED = re.compile(r"(curl|torchlink|cmake|pip) ")
USES = {  # what to type, where it is more than the flags themselves
    "cxx": (
        "eval c++ main.cpp -o app $(torchlink flags)",
        'make CXX="torchlink c++"',
        "torchlink cmake init app",
    ),
    "nim": ("torchlink flags --nim > nim.cfg", "nim cpp main.nim"),
}
NAME = "app"  # of the projects on the pages
PROGRAM = re.compile(r"^\| `([^`]+)` \| (?:the|its) program\b", re.MULTILINE)
LONGEST = 160  # lines of a program that a page shows
FENCES = {
    "rs": "rust",
    "py": "python",
    "hs": "haskell",
    "ml": "ocaml",
    "adb": "ada",
    "rb": "ruby",
    "cr": "crystal",
}
FENCES |= {"f90": "fortran", "cs": "csharp", "js": "javascript", "R": "r"}


def language_pages() -> Iterator[Page]:
    """Yield the index of languages and the page of each."""
    found = by_language()
    yield Page("languages", "Languages", "Languages: one command each", lambda: index(found))
    for language, its in found.items():
        yield Page(
            f"languages/{slug(its)}",
            language,
            f"{language}: {', '.join(f'torchlink new {kind.name}' for kind in its)}",
            lambda language=language, its=its: page(language, its),  # type: ignore[misc]
        )


def by_language() -> dict[str, list[Kind]]:
    """Return the kinds of each language; those that use the C API first."""
    found: dict[str, list[Kind]] = {}
    for kind in kinds():
        found.setdefault(kind.language, []).append(kind)
    return {language: sorted(its, key=lambda kind: not kind.capi) for language, its in found.items()}


def slug(its: Sequence[Kind]) -> str:
    """Return the last part of the name of a language's page."""
    return SLUGS.get(its[0].language, its[0].name)


def index(found: dict[str, list[Kind]]) -> str:
    """Return the page that lists the languages."""
    rows = [
        f"| [{language}]({slug(its)}.md) | `torchlink new {kind.name} DIR` | {kind.summary} |"
        for language, its in found.items()
        for kind in its
    ]
    return "\n".join(
        [
            "# Languages",
            "",
            "One command writes a program that loads a model and runs it, its tests and its build files. Most of them",
            "call libtorch through the [C API](../capi.md), so that they never meet C++.",
            "",
            "| language | type | you get |",
            "|---|---|---|",
            *rows,
            "",
            "For a build of your own, `torchlink flags` prints what it needs in [the syntax of its tool](../flags.md).",
            "",
        ]
    )


def page(language: str, its: Sequence[Kind]) -> str:
    """Return the page of a language."""
    parts = [f"# {language}", ""]
    if len(its) > 1:
        parts += [*(f"- [`torchlink new {kind.name}`](#{kind.name}): {kind.summary}" for kind in its), ""]
    for kind in its:
        parts += section(kind, alone=len(its) == 1)
    parts += own_build(its[0])
    return "\n".join(parts).rstrip() + "\n"


def section(kind: Kind, *, alone: bool) -> list[str]:
    """Return the part of a page about one kind: the commands, what they need, the README, the program."""
    files = new_project(kind, NAME if kind.usual_name is None else kind.usual_name, None, None)
    typed = [f"torchlink new {kind.name} {NAME}", f"cd {NAME}", *files.commands]
    parts = [] if alone else [f"## {kind.name}", ""]
    parts += [f"{kind.summary}. Copy, paste, run:", ""]
    parts += [RUN, "```sh", *typed, "```", ""]
    parts += needs(kind)
    if kind.model and not kind.serves:
        parts += ["`model.pt` is a small model that comes with it; write the path of yours instead.", ""]
    readme = text_of(files, "README.md")
    parts += body_of(readme, files.commands, "" if alone else "#")
    shown = PROGRAM.search(readme)
    program = text_of(files, shown[1]) if shown else ""
    if shown and program and program.count("\n") <= LONGEST:
        suffix = shown[1].rpartition(".")[2]
        heading = "##" if alone else "###"
        fence = FENCES.get(suffix, suffix)
        parts += [f"{heading} `{shown[1]}`", "", f"```{fence}", program.rstrip("\n"), "```", ""]
    return parts


def needs(kind: Kind) -> list[str]:
    """Return the sentence on what a kind's commands need."""
    tools = [" or ".join(f"`{name}`" for name in each.split("|")) for each in kind.tools]
    if kind.build == "cmake":
        tools = ["CMake", *tools]
    words = f"It needs {', '.join((*tools, 'a C++ compiler'))} and a libtorch ([which one](../find.md))."
    if kind.system:
        words += f" On Debian and Ubuntu: `apt-get install {' '.join(kind.system)}`."
    if kind.pip:
        words += f" From PyPI: `pip install {' '.join(kind.pip)}`."
    return [words, ""]


def text_of(project: NewProject, name: str) -> str:
    """Return a project's file as text; "" if there is none of that name."""
    found = project.files.get(name, "")
    return found.decode() if isinstance(found, bytes) else found


def body_of(readme: str, commands: Sequence[str], deeper: str) -> list[str]:
    """Return a project's README as a part of a page, without its title and the commands, which the page has already."""
    found: list[str] = []
    inside: list[str] | None = None  # the lines of a block without a language
    plain = True  # not in a block with a language
    for line in readme.splitlines()[1:]:
        if inside is not None:
            if line != "```":
                inside.append(line)
                continue
            if inside != list(commands):
                found += (
                    [RUN, "```sh", *inside, "```"] if TYPED.match(inside[0]) else ["```text", *inside, "```"]
                )
            inside = None
        elif line == "```" and plain:
            inside = []
        else:
            plain ^= line.startswith("```")
            found.append(f"{deeper}{line}" if plain and line.startswith("#") else line)
    return [*re.sub(r"\n{3,}", "\n\n", "\n".join(found)).strip("\n").splitlines(), ""]


def own_build(kind: Kind) -> list[str]:
    """Return the part on building without `torchlink new`."""
    target = FLAGS.get(kind.language, kind.name)
    parts = ["## In a build of your own", ""]
    if target not in TARGETS:
        return [
            *parts,
            "Build [the C API](../capi.md), and link `libtorchmodel.so` or open it; C compiles with",
            "",
            "<!-- run by tests/capi -->",
            "```sh",
            "torchlink capi out",
            "cc main.c -o app $(PKG_CONFIG_PATH=out pkg-config --cflags --libs torchmodel)",
            "```",
            "",
        ]
    typed = USES.get(target, (f"torchlink flags --{target}",))
    if kind.capi:
        comment = "   # of libtorch itself, for code in C++"
        own = f"torchlink flags --{target} --capi out"
        typed = (
            f"{typed[0]:{len(own)}}{comment}",
            *typed[1:],
            "torchlink capi out",
            f"{own}   # of the C API, without C++",
        )
    parts += ["The flags in the syntax of its build tool ([how to use them](../flags.md)):", ""]
    return [*parts, "<!-- run by tests/emit, tests/capi, tests/cmake -->", "```sh", *typed, "```", ""]
