"""`torchlink new`: start a project around a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from torchlink.cli import options
from torchlink.cli.declaration import Command, Option, Positional
from torchlink.cli.output import answer, say
from torchlink.cli.planning import locate, plan_for, print_notes
from torchlink.plan import PlanOptions
from torchlink.shown import quoted, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torchlink.plan import LinkPlan
    from torchlink.projects.kinds import Kind
    from torchlink.projects.new import NewProject

EPILOG = """\b
Examples:
  torchlink new --list
  torchlink new app hello
  torchlink new server inference-server
  torchlink new python-extension fastops --tensors

\b
In a fresh clone of a CMake project, and after libtorch was upgraded or replaced:
  torchlink cmake prefix --output .torchlink
"""


def complete_kind(incomplete: str) -> list[str]:
    """Complete the name of a kind for the shell."""
    from torchlink.projects.kinds import kinds

    return [kind.name for kind in kinds() if kind.name.startswith(incomplete)]


class NewArguments(NamedTuple):
    """The command line of `torchlink new`."""

    kind: Annotated[
        str | None, Positional("[KIND]", "What to start: see --list.", complete=complete_kind)
    ] = None
    directory: Annotated[Path, Positional("[DIR]", "The project's directory; it is created if missing.")] = (
        Path()
    )
    list_kinds: Annotated[bool, Option("--list", "List the kinds, and write nothing.")] = False
    name: Annotated[
        str | None,
        Option(
            "--name",
            "The name of the program or module. [default: depends on the kind: its own name, or DIR's]",
            metavar="NAME",
        ),
    ] = None
    plain: Annotated[
        bool, Option("--plain", "python-extension: use libtorch inside, pass no tensors (default).")
    ] = False
    tensors: Annotated[
        bool, Option("--tensors", "python-extension: take and return torch.Tensor, with autograd.")
    ] = False
    stable_abi: Annotated[
        bool,
        Option(
            "--stable-abi", "python-extension: one wheel for several torch versions (torch's stable ABI)."
        ),
    ] = False
    force: Annotated[bool, Option("--force", "Overwrite existing files.")] = False
    libtorch: options.Libtorch = None
    python: options.Python = None
    plan: Annotated[PlanOptions, options.PROJECT] = PlanOptions()
    json: options.Json = False


def new(arguments: NewArguments) -> int:
    """Write a small project around a model, which builds at once and which you keep.

    A project has a README, tests, a CI file that lints what was built, and, where CMake builds it, presets and an
    install rule. The commands to type next are printed. Only DIR/.torchlink, CMakeUserPresets.json and nim.cfg are
    specific to this machine, and git ignores them.
    """
    from torchlink.errors import UsageError
    from torchlink.projects.kinds import kind_named, kinds

    if arguments.list_kinds:
        if arguments.kind is not None:
            raise UsageError(
                "--list lists all kinds, and KIND names one to start.", hint="Omit one of the two."
            )
        print_kinds(kinds(), json=arguments.json)
        return 0
    if arguments.kind is None:
        raise UsageError("KIND is missing.", hint="List the kinds with `torchlink new --list`.")
    project, plan, written = write(kind_named(arguments.kind), arguments)
    print_project(project, arguments.directory, written, json=arguments.json)
    if plan is not None:
        print_notes(plan)
    return 0


def write(kind: Kind, arguments: NewArguments) -> tuple[NewProject, LinkPlan | None, tuple[Path, ...]]:
    """Write a project of a kind; return it, the plan it was made from, if any, and its files."""
    from torchlink.cli.capi import build
    from torchlink.compilation.capi import write as write_c_api
    from torchlink.compilation.cmake import project_tools, write_with_prefix
    from torchlink.errors import UsageError
    from torchlink.libtorch.tree import check_unpacked
    from torchlink.projects.cmake import PREFIX_DIR
    from torchlink.projects.naming import name_for
    from torchlink.projects.new import CAPI_DIR, new_project
    from torchlink.projects.writing import write_project

    named = {"plain": arguments.plain, "tensors": arguments.tensors, "stable-abi": arguments.stable_abi}
    variants = [variant for variant, chosen in named.items() if chosen]
    if len(variants) > 1:
        raise UsageError(
            f"{' and '.join(f'--{each}' for each in variants)} exclude each other.", hint="Use one of them."
        )
    directory = arguments.directory
    name = name_for(kind, arguments.name, directory)
    plan = None
    if kind.build != "python":
        found = locate(arguments.libtorch, arguments.python)
        check_unpacked(found)
        wanted = arguments.plan._replace(aoti=arguments.plan.aoti or kind.aoti)
        plan = plan_for(found, wanted, None)
    made = None
    if plan is not None and kind.capi:
        made, plan = build(plan.libtorch, arguments.plan, None, directory / CAPI_DIR)
    tools = project_tools() if kind.build == "cmake" else None
    project = new_project(kind, name, plan, tools, next(iter(variants), None))
    if plan is not None and kind.build == "cmake":
        written = write_with_prefix(project.files, plan, directory, PREFIX_DIR, force=arguments.force)
    else:
        written = write_project(project.files, directory, force=arguments.force)
    if made is not None:
        write_c_api(made, directory / CAPI_DIR, force=True)  # torchlink's own, not the user's
    return project, plan, written


def print_project(project: NewProject, directory: Path, written: Sequence[Path], *, json: bool) -> None:
    """Print the files that were written, and the commands to type next."""
    if json:
        import json as json_format

        fields = {
            "schema": 1,
            "kind": project.kind.name,
            "name": project.name,
            "directory": str(directory),
            "files": [str(path) for path in written],
            "commands": list(project.commands),
            "serves": project.kind.serves,
        }
        answer(json_format.dumps(fields, indent=2))
        return
    for path in written:
        say(visible(str(path)))
    say(visible("torchlink: next:"), err=True)
    enter = [] if directory.absolute() == Path.cwd() else [f"cd {quoted(str(directory))}"]
    for command in (*enter, *project.commands):
        say(visible(f"  {command}"), err=True)


def print_kinds(kinds: Sequence[Kind], *, json: bool) -> None:
    """Print the kinds: a line each, or as JSON."""
    if json:
        import json as json_format

        fields = [
            {
                "name": kind.name,
                "language": kind.language,
                "summary": kind.summary,
                "commands": [
                    command.replace("{name}", kind.usual_name or "NAME") for command in kind.commands
                ],
                "serves": kind.serves,
            }
            for kind in kinds
        ]
        answer(json_format.dumps({"schema": 1, "kinds": fields}, indent=2))
        return
    names = max((len(kind.name) for kind in kinds), default=0)
    languages = max((len(kind.language) for kind in kinds), default=0)
    for kind in kinds:
        answer(f"{kind.name:{names}}  {kind.language:{languages}}  {kind.summary}", line=True)


COMMAND = Command(NewArguments, new, EPILOG)
