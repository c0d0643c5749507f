"""Rules about RPATH and RUNPATH. An entry is one finding, of the rule that says what is worst about it."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from torchlink.lint.context import file_name, holds_torch, real_dir
from torchlink.lint.finding import Severity, rule
from torchlink.lint.search_path import HOME, LOST_ORIGIN, all_entries, is_directory, is_padding, open_to_all
from torchlink.shown import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlink.lint.context import LintContext
    from torchlink.lint.finding import Finding, Rule
    from torchlink.lint.search_path import SearchDir

# `$` must reach the linker: a shell and make both eat it.
QUOTING = "-Wl,-rpath,'$ORIGIN/…' in a shell, '$$ORIGIN/…' in a Makefile, $ORIGIN in CMake's INSTALL_RPATH"


def flawed(rule: Rule, context: LintContext) -> Iterator[tuple[str, str, SearchDir]]:
    """The entries that break a rule, each once, with who carries them in words: (text, carriers, entry)."""
    entries: dict[str, list[SearchDir]] = {}
    for entry in context.once(all_entries):
        if entry.flaw == rule.id:
            entries.setdefault(entry.text, []).append(entry)
    for text, group in entries.items():
        carriers = ", ".join(dict.fromkeys(file_name(entry.owner.path) for entry in group))
        yield text, f"{group[0].kind.upper()} of {carriers}", group[0]


@rule("rpath-relative", Severity.ERROR, "A search path entry is empty, relative or has lost its $ORIGIN.")
def rpath_relative(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """The loader reads such an entry from the current directory, which whoever starts the program chooses."""
    for text, where, entry in flawed(rule, context):
        severity = None
        if re.match(LOST_ORIGIN, entry.directory):
            message = (
                f"The {where} names {text}: a shell or make has eaten the $ORIGIN in it, or a part of it."
            )
            fix = f"Quote it: {QUOTING}."
        elif is_padding(entry):
            message = (
                f"The {where} ends with empty entries, CMake's room for the search path of the installed file: as it "
                "is in the build tree, the loader looks into the current directory too."
            )
            fix = "Nothing: `cmake --install` takes them away. Do not hand on the file of the build tree."
            severity = Severity.NOTE
        elif not text:
            message = (
                f"The {where} has an empty entry: the loader takes libraries from the current directory."
            )
            fix = "Remove the colon too many; an empty variable in -Wl,-rpath,$VARIABLE or LD_RUN_PATH makes one."
        else:
            message = (
                f"The {where} has the relative entry {text}: the loader looks there from the current directory, so "
                "it works from one directory only, and whoever can write another can bring libraries in."
            )
            fix = f"Make it relative to the file: {QUOTING}."
        yield rule.finding(text or "(empty)", message, fix, severity=severity)


@rule("rpath-world-writable", Severity.ERROR, "A search path entry is a directory that anyone may write to.")
def rpath_world_writable(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """It may not exist: then anyone may make it."""
    for text, where, entry in flawed(rule, context):
        there = is_directory(entry.host)
        what = "is writable by everyone" if there else "does not exist, and everyone may make it"
        culprit = open_to_all(entry.host)
        if there and culprit not in {None, entry.host}:
            what = f"is below {culprit}, in which everyone may put another in its place"
        way = "" if there else f", or make it before others do: mkdir -p -m 755 {quoted(str(entry.host))}"
        if culprit is not None:
            way = f", or chmod o-w {quoted(str(culprit))}"
        yield rule.finding(
            text,
            f"The {where} names {text}, which {what}: any user of the machine can put a library there, and it runs "
            "with the rights of whoever starts the program.",
            f"Link without it (a build in a temporary directory leaves it behind){way}.",
        )


@rule("rpath-not-allowed", Severity.ERROR, "A search path entry is under none of the allowed prefixes.")
def rpath_not_allowed(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """The prefixes are the user's own; without any, every prefix is allowed."""
    for text, where, _ in flawed(rule, context):
        yield rule.finding(
            text,
            f"The {where} names {text}, which is not under {' or '.join(context.options.allowed_rpath)}: where it is "
            "installed that directory may not be there, or hold something else.",
            "Link without it, set an allowed one with patchelf --set-rpath, or allow it with --allowed-rpath "
            f"{quoted(text)}.",
        )


@rule(
    "rpath-build-tree", Severity.WARNING, "A search path entry leads into a build tree or a home directory."
)
def rpath_build_tree(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """It works on the machine that built it, and there only as long as the directory is kept."""
    for text, where, entry in flawed(rule, context):
        gone = "" if is_directory(entry.host) else " It does not exist here any more."
        if is_of_libtorch(entry, context):
            yield rule.finding(
                text,
                f"The {where} names {text}, where libtorch is: `torchlink flags` writes that by default. It works on "
                "this machine as long as the directory is kept.",
                "To hand the program on, link with `torchlink flags --link --rpath origin=lib` and put the libraries "
                "into lib next to it, or let `torchlink bundle` do both. If it stays on this machine: --allowed-rpath "
                f"{quoted(text)}.",
                severity=Severity.NOTE,
            )
            continue
        yield rule.finding(
            text,
            f"The {where} names {text}, in {kind_of_place(entry)}: on another machine, or for another "
            f"user, the libraries in it are not found.{gone}",
            f"Make it relative to the file: {QUOTING}, or with `torchlink flags --link --rpath origin=DIR`; or bring "
            "the libraries along with `torchlink bundle`. If it stays on this machine: --allowed-rpath "
            f"{quoted(text)}.",
        )


def is_of_libtorch(entry: SearchDir, context: LintContext) -> bool:
    """Whether a directory is libtorch's, or holds what libtorch asks for: what `flags` prints in a default build."""
    real = os.path.realpath(entry.host)
    if holds_torch(entry.host) or real in context.torch_dirs:
        return True
    torch = {each.path for objects in context.torch.values() for each in objects}
    return any(each.needed_by in torch and real_dir(each) == real for each in context.closure.objects)


def kind_of_place(entry: SearchDir) -> str:
    """What makes a directory one of this machine or of this build alone."""
    if re.match(r"/(var/)?tmp/", f"{entry.directory}/"):
        return "a temporary directory"
    return "a home directory" if re.match(HOME, entry.directory) else "a build tree"


@rule("rpath-missing-directory", Severity.NOTE, "A search path entry names a directory that does not exist.")
def rpath_missing_directory(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """What was to be found there is not, or the entry is a leftover."""
    for text, where, entry in flawed(rule, context):
        leads = "" if text == entry.directory else f" ({entry.directory})"
        yield rule.finding(
            text,
            f"The {where} names {text}{leads}, and there is no such directory: it serves nothing, and what it was "
            "meant for is found elsewhere or not at all.",
            "Link without it, or install the libraries there.",
        )


@rule("rpath-unused", Severity.NOTE, "A search path entry holds none of the libraries that are needed.")
def rpath_unused(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """The loader looks into it for every library first, in vain."""
    for text, where, _ in flawed(rule, context):
        yield rule.finding(
            text,
            f"The {where} names {text}, which holds no library that is looked for there: a leftover that slows "
            "every start, and a place where a wrong library can be picked up later.",
            "Link without it.",
        )


@rule("rpath-absolute", Severity.NOTE, "A search path entry is an absolute path.")
def rpath_absolute(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """Right for an installation in a fixed place, and wrong for everything that is copied elsewhere."""
    for text, where, _ in flawed(rule, context):
        yield rule.finding(
            text,
            f"The {where} names {text}: the binary works on machines that have its libraries in this very place.",
            f"If it is to be moved, make it relative to the file: {QUOTING}; if not, --allowed-rpath "
            f"{quoted(text)}.",
        )


@rule(
    "rpath-and-runpath", Severity.WARNING, "An object carries both RPATH and RUNPATH: the RPATH is ignored."
)
def rpath_and_runpath(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding an object."""
    for each in context.own:
        dynamic = each.elf.dynamic
        if dynamic.rpath is not None and dynamic.runpath is not None:
            yield rule.finding(
                file_name(each.path),
                f"{file_name(each.path)} carries the RPATH {dynamic.rpath} and the RUNPATH {dynamic.runpath}: glibc "
                "ignores the RPATH, other loaders and tools do not, so it finds other libraries here than there.",
                "Link with one of -Wl,--enable-new-dtags (RUNPATH) and -Wl,--disable-new-dtags (RPATH); in a built "
                "binary remove both with patchelf --remove-rpath, then use patchelf --set-rpath.",
                (f"RPATH: {dynamic.rpath}", f"RUNPATH: {dynamic.runpath}"),
                severity=Severity.NOTE if dynamic.rpath == dynamic.runpath else None,
            )


SEARCH_PATHS = (
    rpath_relative,
    rpath_world_writable,
    rpath_not_allowed,
    rpath_build_tree,
    rpath_missing_directory,
    rpath_unused,
    rpath_absolute,
    rpath_and_runpath,
)
