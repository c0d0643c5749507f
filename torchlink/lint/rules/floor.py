"""The rule about symbol versions that are newer than the target system's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from torchlink.bounds import whole_number
from torchlink.lint.context import file_name
from torchlink.lint.finding import Severity, rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torchlink.binary.closure import LoadedObject
    from torchlink.binary.elf import Reference, VersionNeed
    from torchlink.lint.context import LintContext
    from torchlink.lint.finding import Finding, Rule


SHOWN = 5  # symbols listed per object
VERSION = r"(GLIBC|GLIBCXX|CXXABI)_(\d+(?:\.\d+)*)$"
# Version names of glibc that stand for a linking feature rather than for symbols, and the release that introduced each.
FEATURE_VERSIONS = {"GLIBC_ABI_DT_RELR": (2, 36), "GLIBC_ABI_GNU2_TLS": (2, 42), "GLIBC_ABI_GNU_TLS": (2, 42)}
LIBRARY = {"GLIBC": "glibc", "GLIBCXX": "libstdc++", "CXXABI": "libstdc++"}


def where_to_build(target: str) -> str:
    """Return where to build a program for a target with a different C library."""
    image = "Alpine, or in an image such as quay.io/pypa/musllinux_1_2_x86_64"
    return image if target.startswith("musllinux") else f"{target} itself or in its container image"


class TooNewVersion(NamedTuple):
    """A symbol version that an object needs and the target lacks."""

    number: tuple[int, ...]
    version: str  # "GLIBC_2.38"
    object: LoadedObject


@rule("floor-above-target", Severity.ERROR, "Needs newer symbol versions than the target system has.")
def floor_above_target(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding for glibc and one for libstdc++, whose GLIBCXX and CXXABI versions advance together."""
    if not context.options.floors:
        return
    if (other := mismatched_c_library(context)) is not None:
        theirs, ours = other
        torch = bool(context.torch) and theirs == "glibc"
        yield rule.finding(
            theirs,
            f"{context.name} is built for {theirs}, but {context.options.target} has {ours}: it does not start there.",
            f"Choose a target with glibc, or build PyTorch from source on {context.options.target} and link "
            f"{context.name} with it: no published libtorch is for musl."
            if torch
            else f"Build it on {where_to_build(context.options.target or '')}.",
        )
        return
    found: dict[str, list[TooNewVersion]] = {}
    for each in context.closure.objects:
        if each is context.subject or not context.is_system(each):
            for family, excess in above(each, context):
                found.setdefault(LIBRARY[family], []).append(excess)
    for library, excesses in found.items():
        # GLIBCXX is more informative than CXXABI, and their numbers cannot be compared.
        top = max(excesses, key=lambda each: (not each.version.startswith("CXXABI"), each.number))
        setting = [each.object for each in excesses if each.version == top.version]
        names = list(dict.fromkeys(file_name(each.path) for each in setting))
        need = "needs" if len(names) == 1 else "need"
        allowed = allowed_version(top.version, context)
        yield rule.finding(
            top.version,
            f"{', '.join(names)} {need} {top.version} ({library}), but {context.options.target or 'the target'} has at "
            f"most {allowed}: {context.name} does not start there.",
            fix(library, allowed, setting, excesses, context),
            tuple(evidence(excesses)),
        )


def mismatched_c_library(context: LintContext) -> tuple[str, str] | None:
    """Return the C library of the binary and that of the target if they differ."""
    there = "musl" if context.options.floors.get("GLIBC") == () else "glibc"
    here = context.system.family
    return (here, there) if here != there and context.subject.elf.dynamic.needed else None


def above(each: LoadedObject, context: LintContext) -> Iterator[tuple[str, TooNewVersion]]:
    """Return the needed versions above the target's, of libraries that the target itself provides."""
    served = {edge.name: edge.path for edge in context.closure.edges_of(each.path)}
    for need in each.elf.version_needs():
        parsed = parse(need)
        if parsed is None or need.weak:
            continue
        family, number = parsed
        allowed = context.options.floors.get(family)
        if allowed is None or number <= allowed:
            continue
        provider = context.closure.object(served.get(need.library) or "")
        if provider is None or context.is_system(provider):
            yield family, TooNewVersion(number, need.version, each)


def parse(need: VersionNeed) -> tuple[str, tuple[int, ...]] | None:
    """Return the family and number of a version that can be compared, else None."""
    if need.version in FEATURE_VERSIONS:
        return "GLIBC", FEATURE_VERSIONS[need.version]
    match = re.match(VERSION, need.version)
    return (match[1], tuple(whole_number(part) for part in match[2].split("."))) if match else None


def allowed_version(version: str, context: LintContext) -> str:
    """Return the target's newest version of the same family, such as GLIBC_2.31."""
    family = version.partition("_")[0]
    return f"{family}_{'.'.join(map(str, context.options.floors[family]))}"


def fix(
    library: str,
    allowed: str,
    setting: list[LoadedObject],
    excesses: list[TooNewVersion],
    context: LintContext,
) -> str:
    """Return the fix: where to build so that older symbol versions suffice."""
    of_torch = torch_itself(excesses, context)
    if all(context.belongs_to_torch(each) for each in setting):
        return of_torch
    where = context.options.target or "the target"
    if "=" in where:
        where = f"a system whose {library} has at most {allowed}, or in a container image of one"
    elif where.startswith("manylinux"):
        where = f"the container image of {where}"
    else:
        where = f"{where} itself or in its container image"
    advice = f"Build on {where}; a binary built on an older system runs on newer ones"
    if of_torch:
        advice = f"{of_torch} Then build {context.name} on {where} as well"
    if library == "libstdc++":
        return (
            f"{advice}. Or ship libstdc++.so.6 with it, or link with -static-libstdc++, which may in turn need a newer "
            "glibc."
        )
    return f"{advice}."


def torch_itself(excesses: list[TooNewVersion], context: LintContext) -> str:
    """Return sentences about libtorch's own libraries if the target is too old for them, else an empty string."""
    of_torch = [each for each in excesses if context.belongs_to_torch(each.object)]
    if not of_torch:
        return ""
    from torchlink.libtorch.floor import newest_fitting

    top = max(of_torch, key=lambda each: (not each.version.startswith("CXXABI"), each.number))
    where = context.options.target or "the target"
    fitting = newest_fitting(context.subject.elf.machine, context.options.floors)
    instead = (
        f"the newest torch that can is {fitting}."
        if fitting
        else "no torch wheel on PyPI is known to run there: build libtorch from source on it."
    )
    return (
        f"This libtorch cannot run on {where}, wherever {context.name} is built: {file_name(top.object.path)} itself "
        f"needs {top.version}; {instead}"
    )


def evidence(excesses: list[TooNewVersion]) -> Iterator[str]:
    """Return a line per object and version, with symbols that need it."""
    for excess in sorted(excesses, reverse=True, key=lambda each: each.number):
        elf = excess.object.elf
        # A variable with a copy relocation is not undefined in the program's symbol table.
        symbols = needing(elf.references(relocated=False), excess.version) or needing(
            elf.references(), excess.version
        )
        named = f" ({', '.join(symbols[:SHOWN])}{', …' * (len(symbols) > SHOWN)})" if symbols else ""
        yield f"{excess.object.path}: {excess.version}{named}"


def needing(references: Iterable[Reference], version: str) -> list[str]:
    """Return the mangled names of the references that need a version."""
    return [each.name.decode("utf-8", "replace") for each in references if each.version == version]


FLOOR = (floor_above_target,)
