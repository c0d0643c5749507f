"""Rules about finding the libraries at all."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from torchlink.binary.search import DROPPED
from torchlink.libtorch.names import DRIVER, TORCH_LIBRARIES, bare_name
from torchlink.lint.context import file_name, real_dir
from torchlink.lint.finding import Severity, rule
from torchlink.lint.libtorch_names import mixed
from torchlink.lint.missing import missing_names, nearby, not_inherited, of_libtorch, severity_of
from torchlink.lint.rules.needed_paths import with_soname
from torchlink.shown import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torchlink.binary.closure import Edge, LoadedObject
    from torchlink.lint.context import LintContext
    from torchlink.lint.finding import Finding, Rule


def asked_by(edges: Iterable[Edge]) -> str:
    """The objects that ask for a library, in words."""
    return ", ".join(dict.fromkeys(file_name(edge.needed_by) for edge in edges))


def searched(edge: Edge) -> tuple[str, ...]:
    """The directories of a search, each with the reason why it was left."""
    return tuple(f"{tried.path}: {tried.reason} ({tried.found_via})" for tried in edge.tried)


NOT_THERE = "not there"  # of an interpreter, for which nothing is searched

# `cmake --install` takes away every search path that the project does not ask for.
IN_CMAKE = (
    " If `cmake --install` put it there: set(CMAKE_INSTALL_RPATH_USE_LINK_PATH TRUE) before add_executable()."
)


@rule("library-not-found", Severity.ERROR, "A library that the binary needs is not where the loader looks.")
def library_not_found(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding a cause: names that one search path would find go together, and so do libtorch's own."""
    causes: dict[tuple[str, str], list[tuple[Edge, ...]]] = {}
    for edges in missing_names(context).get(rule.id, ()):
        edge = edges[0]
        asking = context.closure.object(edge.needed_by) or context.subject
        place = None if "/" in edge.name or edge.fatal else nearby(edge, asking, context.closure, context)
        of_torch = of_libtorch(edge)
        cause = place or because(edge) or ("libtorch" if of_torch else edge.name)
        # A search path serves who is linked with it; that libtorch is nowhere is the same for all who ask.
        user = "" if cause == "libtorch" else edge.needed_by
        causes.setdefault((cause, user), []).append(edges)
    for (cause, _), group in causes.items():
        edge = group[0][0]
        place = cause if cause.startswith("$ORIGIN") else None
        severity = max(severity_of(edges[0].name, place, context) for edges in group)
        names = [edges[0].name for edges in group]
        users = " and ".join(dict.fromkeys(file_name(edges[0].needed_by) for edges in group))
        asked = asked_by(edge for edges in group for edge in edges)
        what = f"{', '.join(names)}, needed by {asked}, {'is' if len(names) == 1 else 'are'} not found"
        if edge.fatal and edge.tried and edge.fatal != NOT_THERE:
            what = f"{edge.name}, needed by {asked}, is found, but {edge.tried[-1].path} {edge.fatal}"
        yield rule.finding(
            " + ".join(names),
            f"{what}: {outcome(severity, context)}.{because(edge)}",
            how_to_find(edge, place, names, users, context),
            searched(edge),
            severity=severity,
        )


def because(edge: Edge) -> str:
    """What the loader leaves out of the search because the program runs set-uid, in a sentence; else nothing."""
    lost = dict.fromkeys(str(tried.found_via) for tried in edge.tried if tried.reason == DROPPED)
    return (
        f" It runs set-uid, and for such a program the loader leaves out: {', '.join(lost)}." if lost else ""
    )


def outcome(severity: Severity, context: LintContext) -> str:
    """What happens without a library."""
    if context.is_program:
        return f"{context.name} does not start"
    if context.failed:
        return "importing what needs it has failed"
    if context.imported is not None:
        return f"importing {context.name} fails, for the torch in {context.imported.root} does not load it either"
    if severity is Severity.ERROR:
        return f"nothing can load {context.name}"
    if context.is_extension:
        return "importing it fails unless something that brings it, such as torch, was imported before"
    return "loading it fails unless the program has loaded that library before"


def how_to_find(edge: Edge, place: str | None, names: list[str], users: str, context: LintContext) -> str:
    """The fix that makes a missing library found, and those that are missing for the same cause."""
    name = edge.name
    if edge.fatal and edge.tried and edge.tried[-1].found_via.kind == "interpreter":
        return f"Install what brings {name}, or link on the system that the program is to run on."
    if edge.fatal:
        return "Put the library itself there: what is there now is no library for this loader."
    if re.match(DRIVER, name):
        return f"{name} comes with NVIDIA's driver: run it where one is installed, or load the library with dlopen."
    user = file_name(edge.needed_by)
    if "/" in name:  # no search path serves it
        return f"Put it there, or {with_soname(name, user)}"
    if context.closure.secure and edge.needed_by == context.subject.path:
        trusted = ", ".join(context.system.default_dirs)
        return (
            f"Install {', '.join(names)} in a directory of the loader's own ({trusted}), or link {user} with "
            f"the absolute path of one that only root may write to (-Wl,-rpath,/usr/local/lib/{user}): "
            "for a set-uid program neither $ORIGIN nor LD_LIBRARY_PATH counts."
        )
    if place is not None:
        return found_nearby(context.closure.object(edge.needed_by) or context.subject, place, context)
    if bare_name(name) in TORCH_LIBRARIES and context.imported is not None:
        return (
            f"Build {context.name} against the torch that it is imported with, whose libraries are in "
            f"{context.imported.library_dir}, or install the torch that it was built against."
        )
    if bare_name(name) in TORCH_LIBRARIES and context.is_extension:
        return "Import torch before it, or link it with -Wl,-rpath,'$ORIGIN/…/torch/lib', the way from it to torch."
    if bare_name(name) in TORCH_LIBRARIES:
        return f"Link {users} with the search path that `torchlink flags --link` prints.{IN_CMAKE}"
    return f"Install {name}, or link {user} with -Wl,-rpath,DIR, where DIR holds it."


def found_nearby(asking: LoadedObject, place: str, context: LintContext) -> str:
    """The fix that makes what is in a place found, and what that needs in turn."""
    from torchlink.lint.relinking import advice

    links, lost = advice(asking, place, context)
    words = f"It is nearby: link {' and '.join(map(str, links))}."
    if any(link.inherited for link in links):
        words += " A RUNPATH would not serve what the libraries there need in turn; the RPATH does."
    if lost:
        more = ", ".join(
            dict.fromkeys(f"{edge.name} (needed by {file_name(edge.needed_by)})" for edge in lost)
        )
        words += f" Then {more} is still to be found."
    return words


@rule(
    "found-through-environment", Severity.WARNING, "A library is found only because LD_LIBRARY_PATH names it."
)
def found_through_environment(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding a directory of LD_LIBRARY_PATH whose libraries are not found, or others are, without it."""
    bare = context.without_environment
    if bare is None:
        return
    elsewhere = {edge.name: edge.path for edge in bare.edges}
    # A search path in place of the variable would not fix a mix.
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
        lost = len(names) > len(others.get(directory, ()))
        without = "it does not start" if lost else "it loads other copies"
        yield rule.finding(
            directory,
            f"{context.name} finds {', '.join(names)} only through LD_LIBRARY_PATH={directory}: {without} where "
            "that variable is not set (cron, a service, an IDE, sudo).",
            way_without(directory, names, through, context),
            tuple(others.get(directory, ())),
        )


def way_without(directory: str, names: list[str], through: Iterable[str], context: LintContext) -> str:
    """How to do without one directory of LD_LIBRARY_PATH, through which some libraries are found."""
    bare = context.bare
    if bare is not None and starts(bare):
        alone = f"without it {context.name} finds all its libraries by itself"
        return f"Unset LD_LIBRARY_PATH, or take {directory} out of it: {alone}."
    if not starts(context) and any(bare_name(name) in TORCH_LIBRARIES for name in names):
        return (
            f"The libtorch in {directory} is not the one that {context.name} was built with: link it with the search "
            "path of that one, as `torchlink flags --link` prints it, and unset LD_LIBRARY_PATH."
        )
    from torchlink.lint.relinking import needs_rpath

    link = f"Link with {'-Wl,--disable-new-dtags ' if needs_rpath(through, context) else ''}-Wl,-rpath,"
    if directory.startswith("/"):
        way = f"{link}{quoted(directory)}"
    else:  # a relative search path would be as bad as the variable
        absolute = quoted(os.path.abspath(directory))  # noqa: PTH100 - a symlink must stay one
        way = f"{link}{absolute}, or with the way there from {context.name}, -Wl,-rpath,'$ORIGIN/…'"
    return f"{way}; or install the libraries where the loader looks by itself."


def starts(context: LintContext) -> bool:
    """Whether all libraries are found, and have what the user's own objects and they themselves need."""
    return context.complete and not (context.undefined or context.missing_versions or context.once(mixed))


@rule(
    "runpath-not-inherited",
    Severity.ERROR,
    "A library is looked for without the RUNPATH of the object that brought its user in.",
)
def runpath_not_inherited(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """A RUNPATH serves the NEEDED entries of its own object only; what those need in turn is not found by it."""
    for edges in missing_names(context).get(rule.id, ()):
        edge = edges[0]
        entry = not_inherited(edge.name, edge.needed_by, context)
        if entry is not None:
            user = file_name(edge.needed_by)
            owner = file_name(entry.owner.path)
            asking = context.closure.object(edge.needed_by)
            place = None if asking is None else nearby(edge, asking, context.closure, context)
            along = "" if place is None else f" (link it with -Wl,-rpath,'{place}')"
            or_rpath = (
                f", or link {owner} with -Wl,--disable-new-dtags, whose RPATH serves everything that it loads"
            )
            if asking is None or asking.elf.dynamic.runpath_present:  # with one of its own it inherits none
                or_rpath = ""
            yield rule.finding(
                edge.name,
                f"{edge.name}, needed by {asked_by(edges)}, is not found although it is in {entry.text}: that is "
                f"the RUNPATH of {owner}, which serves {owner} alone and not {user}. {context.name} does not start.",
                f"Give {user} a search path of its own{along}{or_rpath}.",
                searched(edge),
                severity=severity_of(edge.name, None, context),
            )
    yield from taken_elsewhere(rule, context)


def taken_elsewhere(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """A library of the system was taken although a RUNPATH above its user holds one of that name."""
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
                f"{file_name(each.needed_by)} takes {each.path}, and not the {each.name} in {entry.text}: that is "
                f"the RUNPATH of {file_name(entry.owner.path)}, which serves that object alone.",
                f"Give {file_name(each.needed_by)} a search path of its own, or link "
                f"{file_name(entry.owner.path)} with -Wl,--disable-new-dtags.",
                (f"{each.path}: {each.found_via}",),
                severity=Severity.WARNING,
            )


@rule("loader-error", Severity.ERROR, "A text holds an error of the loader that no other rule explains.")
def loader_error(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding for all such lines: who reads the report must not take the binary for sound."""
    if context.errors:
        lines = "an error" if len(context.errors) == 1 else f"{len(context.errors)} errors"
        yield rule.finding(
            context.name,
            f"The text reports {lines} that torchlink does not know: {context.errors[0]}",
            "Do what the line asks for; `torchlink lint FILE` on the machine that printed it tells more than the text.",
            context.errors,
        )


LOADING = (library_not_found, found_through_environment, runpath_not_inherited, loader_error)
