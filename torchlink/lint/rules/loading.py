"""Rules about libraries that the loader does not find, or finds only under some conditions."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from torchlink.binary.search import DROPPED
from torchlink.libtorch.names import DRIVER, TORCH_LIBRARIES, bare_name
from torchlink.lint.context import file_name, real_dir
from torchlink.lint.finding import Severity, rule
from torchlink.lint.missing import is_relative, missing_names, nearby, not_inherited, of_libtorch, severity_of
from torchlink.lint.search_dirs import SearchDir, begins, is_of_build
from torchlink.lint.torch_symbols import mixed
from torchlink.shown import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torchlink.binary.closure import Edge, LoadedObject
    from torchlink.lint.context import LintContext
    from torchlink.lint.finding import Finding, Rule

NO_SUCH_FILE = "no such file"  # why an interpreter is missing: the loader does not search for it
# `cmake --install` removes every search path that the project does not request.
IN_CMAKE = (
    " If `cmake --install` installed it: set(CMAKE_INSTALL_RPATH_USE_LINK_PATH TRUE) before add_executable()."
)


@rule("library-not-found", Severity.ERROR, "A library that the binary needs is not where the loader looks.")
def library_not_found(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding per cause: libraries that one search path would find are grouped, and so are libtorch's own."""
    causes: dict[tuple[str, str], list[tuple[Edge, ...]]] = {}
    for edges in missing_names(context).get(rule.id, ()):
        edge = edges[0]
        requester = context.closure.object(edge.needed_by) or context.subject
        place = None if "/" in edge.name or edge.fatal else nearby(edge, requester, context.closure, context)
        of_torch = of_libtorch(edge)
        cause = place or because(edge) or ("libtorch" if of_torch else edge.name)
        # A search path is used for the object that has it; a libtorch found nowhere is one cause for all objects.
        user = "" if cause == "libtorch" else edge.needed_by
        causes.setdefault((cause, user), []).append(edges)
    for (cause, _), group in causes.items():
        edge = group[0][0]
        place = cause if cause.startswith("$ORIGIN") else None
        severity = max(severity_of(edges[0].name, place, context) for edges in group)
        names = [edges[0].name for edges in group]
        users = " and ".join(dict.fromkeys(file_name(edges[0].needed_by) for edges in group))
        asked = needed_by(edge for edges in group for edge in edges)
        what = f"{', '.join(names)}, needed by {asked}, {'is' if len(names) == 1 else 'are'} not found"
        if edge.fatal and edge.tried and edge.fatal != NO_SUCH_FILE:
            what = f"{edge.name}, needed by {asked}, is found, but {edge.tried[-1].path} {edge.fatal}"
        yield rule.finding(
            " + ".join(names),
            f"{what}: {outcome(severity, context)}.{because(edge)}",
            how_to_find(edge, place, names, users, context),
            searched(edge),
            severity=severity,
        )


def because(edge: Edge) -> str:
    """Return a sentence about what the loader does not search because the program runs set-uid, or an empty string."""
    dropped = dict.fromkeys(str(tried.found_via) for tried in edge.tried if tried.reason == DROPPED)
    if not dropped:
        return ""
    return f" It runs set-uid, and for such programs the loader ignores: {', '.join(dropped)}."


def outcome(severity: Severity, context: LintContext) -> str:
    """Return a clause: the effect of a missing library."""
    if context.is_program:
        return f"{context.name} does not start"
    if context.failed:
        return f"importing {context.name} has failed"
    if context.imported is not None:
        return f"importing {context.name} fails, because the torch in {context.imported.root} does not load it either"
    if severity is Severity.ERROR:
        return f"nothing can load {context.name}"
    if context.is_extension:
        return f"importing {context.name} fails unless a module that loads it, such as torch, was imported before"
    return f"loading {context.name} fails unless the program has already loaded that library"


def how_to_find(edge: Edge, place: str | None, names: list[str], users: str, context: LintContext) -> str:
    """Return the fix for a missing library and for those that are missing for the same cause."""
    name = edge.name
    if edge.fatal and edge.tried and edge.tried[-1].found_via.kind == "interpreter":
        return (
            f"Install the package that contains {name}, or link on the system that the program will run on."
        )
    if edge.fatal:
        return "Replace the file with the library itself: the loader cannot load the present file."
    if re.match(DRIVER, name):
        return f"Run it where NVIDIA's driver, which installs {name}, is present, or load the library with dlopen."
    user = file_name(edge.needed_by)
    if "/" in name:  # the loader does not search for it
        return f"Put it there, or {with_soname(name, user)}"
    if context.closure.secure and edge.needed_by == context.subject.path:
        trusted = ", ".join(context.system.default_dirs)
        return (
            f"Install {', '.join(names)} in one of the loader's default directories ({trusted}), or link {user} with "
            f"the absolute path of a directory that only root can write to (-Wl,-rpath,/usr/local/lib/{user}): a "
            "set-uid program gets neither $ORIGIN nor LD_LIBRARY_PATH."
        )
    if place is not None:
        return found_nearby(context.closure.object(edge.needed_by) or context.subject, place, context)
    if bare_name(name) in TORCH_LIBRARIES and context.imported is not None:
        return (
            f"Build {context.name} against the torch that it is imported with, whose libraries are in "
            f"{context.imported.library_dir}, or install the torch that it was built against."
        )
    if bare_name(name) in TORCH_LIBRARIES and context.is_extension:
        return (
            "Import torch before it, or link it with -Wl,-rpath,'$ORIGIN/…/torch/lib', the relative path from it to "
            "torch/lib."
        )
    if bare_name(name) in TORCH_LIBRARIES:
        return f"Link {users} with the search path that `torchlink flags --link` prints.{IN_CMAKE}"
    return f"Install {name}, or link {user} with -Wl,-rpath,DIR, where DIR is the directory that holds it."


def found_nearby(requester: LoadedObject, place: str, context: LintContext) -> str:
    """Return the fix that lets the loader find the libraries in a directory, and their own dependencies."""
    from torchlink.lint.relinking import advice

    links, missing = advice(requester, place, context)
    fix = f"It is nearby: link {' and '.join(map(str, links))}."
    if any(link.inherited for link in links):
        fix += " The libraries there have dependencies of their own, which an RPATH finds and a RUNPATH does not."
    if missing:
        more = ", ".join(
            dict.fromkeys(f"{edge.name} (needed by {file_name(edge.needed_by)})" for edge in missing)
        )
        fix += f" Then {more} is still missing."
    return fix


@rule("needed-by-relative-path", Severity.ERROR, "A NEEDED entry is a relative path.")
def needed_by_relative_path(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding per path."""
    for name, users in users_of(context, is_relative).items():
        group = [file_name(each.path) for each in users]
        edge = next((each for each in context.closure.edges if each.name == name), None)
        here = "" if edge is None or edge.missing else " It was found from the current directory of this run."
        need = "needs" if len(group) == 1 else "need"
        yield rule.finding(
            name,
            f"{', '.join(group)} {need} {name}, a relative path that the loader opens from the current directory, "
            f"without a search: {context.name} starts only from a directory where that path exists.{here}",
            capitalized(with_soname(name, ", ".join(group))),
            () if edge is None else tuple(f"{tried.path}: {tried.reason}" for tried in edge.tried),
        )


@rule("needed-by-absolute-path", Severity.NOTE, "A NEEDED entry is an absolute path.")
def needed_by_absolute_path(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding per path; `library-not-found` reports a path that does not exist."""
    missing = {edge.name for edge in context.closure.missing}
    for name, users in users_of(context, lambda name: name.startswith("/")).items():
        if name in missing or is_of_system(name, context):
            continue
        directory = name.rpartition("/")[0] or "/"
        host = context.on_host(directory, users[0])
        built = is_of_build(SearchDir(users[0], "needed", name, directory, Path(host), None))
        group = ", ".join(file_name(each.path) for each in users)
        where = ", in a build tree or a home directory" if built else ""
        yield rule.finding(
            name,
            f"{group} {'needs' if len(users) == 1 else 'need'} {name}, an absolute path{where}: {context.name} starts "
            "only where the library is at exactly this path; neither a search path nor LD_LIBRARY_PATH overrides it.",
            capitalized(with_soname(name, group)),
            severity=Severity.WARNING if built else None,
        )


def users_of(context: LintContext, fits: Callable[[str], bool]) -> dict[str, list[LoadedObject]]:
    """Return the NEEDED entries that satisfy a predicate, each with the user's objects that have it."""
    users: dict[str, list[LoadedObject]] = {}
    for each in context.own:
        for name in filter(fits, each.elf.dynamic.needed):
            users.setdefault(name, []).append(each)
    return users


def with_soname(needed: str, user: str) -> str:
    """Return the fix that turns a NEEDED path into a name that the loader searches for."""
    name = file_name(needed)
    return (
        f"give the library a SONAME (link it with -Wl,-soname,{name}) and relink {user} with -L, -l{bare_name(name)} "
        "and a search path."
    )


def capitalized(clause: str) -> str:
    """Return a clause with its first letter in upper case."""
    return f"{clause[0].upper()}{clause[1:]}"


def is_of_system(path: str, context: LintContext) -> bool:
    """Whether a path is the loader itself or is in one of its default directories."""
    if path == context.system.interpreter:
        return True
    real = context.system.tree.real_path(path)
    return any(begins(each, directory) for each in (path, real) for directory in context.system.default_dirs)


@rule("found-through-environment", Severity.WARNING, "A library is found only through LD_LIBRARY_PATH.")
def found_through_environment(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding per directory of LD_LIBRARY_PATH without which its libraries, or the same copies, are not found."""
    bare = context.without_library_path
    if bare is None:
        return
    elsewhere = {edge.name: edge.path for edge in bare.edges}
    # Replacing the variable with a search path would not fix mixed libraries.
    mix = (
        {each.path for objects in context.torch.values() for each in objects}
        if context.once(mixed)
        else set()
    )
    through: dict[str, list[str]] = {}
    others: dict[str, list[str]] = {}
    for each in context.closure.objects:
        if each.found_via.kind != "LD_LIBRARY_PATH" or each.path in mix:
            continue
        other = bare.object(elsewhere.get(each.name) or "")
        if other is None or other.real_path != each.real_path:
            directory = each.path.removesuffix(f"/{file_name(each.path)}")
            through.setdefault(directory, []).append(file_name(each.path))
            if other is not None:
                others.setdefault(directory, []).append(f"without it: {other.path}")
    for directory, names in through.items():
        missing = len(names) > len(others.get(directory, ()))
        without = "it does not start" if missing else "it loads other copies"
        yield rule.finding(
            directory,
            f"{context.name} finds {', '.join(names)} only through LD_LIBRARY_PATH={directory}: {without} where the "
            "variable is not set (cron, a service, an IDE, sudo).",
            fix_without_variable(directory, names, through, context),
            tuple(others.get(directory, ())),
        )


def fix_without_variable(
    directory: str, names: list[str], through: Iterable[str], context: LintContext
) -> str:
    """Return the fix that makes one directory of LD_LIBRARY_PATH unnecessary."""
    bare = context.without_variables
    if bare is not None and starts(bare):
        without = f"{context.name} finds all its libraries without it"
        return f"Unset LD_LIBRARY_PATH, or remove {directory} from it: {without}."
    if not starts(context) and any(bare_name(name) in TORCH_LIBRARIES for name in names):
        return (
            f"The libtorch in {directory} is not the one that {context.name} was built with: link with the search path "
            "of the right one, as `torchlink flags --link` prints it, and unset LD_LIBRARY_PATH."
        )
    from torchlink.lint.relinking import needs_rpath

    link = f"Link with {'-Wl,--disable-new-dtags ' if needs_rpath(through, context) else ''}-Wl,-rpath,"
    if directory.startswith("/"):
        fix = f"{link}{quoted(directory)}"
    else:  # a relative search path would be as bad as the variable
        absolute = quoted(os.path.abspath(directory))  # noqa: PTH100 - a symlink must stay one
        fix = f"{link}{absolute}, or with the path relative to {context.name}, -Wl,-rpath,'$ORIGIN/…'"
    return f"{fix}; or install the libraries in one of the loader's default directories."


def starts(context: LintContext) -> bool:
    """Whether all libraries are found and no symbol or symbol version is missing."""
    return context.complete and not (context.undefined or context.missing_versions or context.once(mixed))


@rule(
    "runpath-not-inherited",
    Severity.ERROR,
    "An indirect dependency is in a RUNPATH directory, but a RUNPATH is searched only for direct dependencies.",
)
def runpath_not_inherited(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """A RUNPATH is searched only for the NEEDED entries of its own object, not for theirs in turn."""
    for edges in missing_names(context).get(rule.id, ()):
        edge = edges[0]
        entry = not_inherited(edge.name, edge.needed_by, context)
        if entry is not None:
            user = file_name(edge.needed_by)
            owner = file_name(entry.owner.path)
            requester = context.closure.object(edge.needed_by)
            place = None if requester is None else nearby(edge, requester, context.closure, context)
            flag = "" if place is None else f" (link it with -Wl,-rpath,'{place}')"
            or_rpath = (
                f", or link {owner} with -Wl,--disable-new-dtags: an RPATH also covers indirect dependencies"
            )
            # An object with its own RUNPATH inherits no RPATH.
            if requester is None or requester.elf.dynamic.runpath_present:
                or_rpath = ""
            yield rule.finding(
                edge.name,
                f"{edge.name}, needed by {needed_by(edges)}, is not found although it is in {entry.text}: that is "
                f"the RUNPATH of {owner}, searched only for {owner}'s own dependencies, not for those of {user}. "
                f"{context.name} does not start.",
                f"Give {user} a search path of its own{flag}{or_rpath}.",
                searched(edge),
                severity=severity_of(edge.name, None, context),
            )
    yield from system_copy_loaded(rule, context)


def system_copy_loaded(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """Report a library loaded from the system although a RUNPATH further up the chain has one of that name."""
    above = {each.path for each in context.own}
    for each in context.closure.objects:
        if (
            each.needed_by not in above
            or each.needed_by == context.subject.path
            or not context.is_system(each)
        ):
            continue
        entry = not_inherited(each.name, each.needed_by, context)
        if entry is not None and str(entry.host) != real_dir(each):
            yield rule.finding(
                each.name,
                f"{file_name(each.needed_by)} loads {each.path}, not the {each.name} in {entry.text}: that is the "
                f"RUNPATH of {file_name(entry.owner.path)}, which is searched only for that object's own dependencies.",
                f"Give {file_name(each.needed_by)} a search path of its own, or link "
                f"{file_name(entry.owner.path)} with -Wl,--disable-new-dtags.",
                (f"{each.path}: {each.found_via}",),
                severity=Severity.WARNING,
            )


@rule("loader-error", Severity.ERROR, "The input contains a loader error that no other rule explains.")
def loader_error(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding for all such lines, so that the binary is not reported as clean."""
    if context.errors:
        errors = "an error" if len(context.errors) == 1 else f"{len(context.errors)} errors"
        yield rule.finding(
            context.name,
            f"The input contains {errors} that torchlink does not recognise: {context.errors[0]}",
            "Resolve the error that the line describes; `torchlink lint FILE` on the machine that printed it checks "
            "more than its output shows.",
            context.errors,
        )


def needed_by(edges: Iterable[Edge]) -> str:
    """Return the file names of the objects that need a library, comma-separated."""
    return ", ".join(dict.fromkeys(file_name(edge.needed_by) for edge in edges))


def searched(edge: Edge) -> tuple[str, ...]:
    """Return the paths that a search tried, each with the reason why it failed there."""
    return tuple(f"{tried.path}: {tried.reason} ({tried.found_via})" for tried in edge.tried)


LOADING = (
    library_not_found,
    needed_by_relative_path,
    needed_by_absolute_path,
    found_through_environment,
    runpath_not_inherited,
    loader_error,
)
