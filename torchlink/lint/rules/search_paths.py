"""Rules about RPATH and RUNPATH. Each entry gives at most one finding, of the most severe rule that it breaks."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from torchlink.lint.context import file_name, holds_torch, real_dir
from torchlink.lint.finding import Severity, rule
from torchlink.lint.search_dirs import HOME, LOST_ORIGIN, all_entries, is_directory, is_padding, open_to_all
from torchlink.shown import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlink.lint.context import LintContext
    from torchlink.lint.finding import Finding, Rule
    from torchlink.lint.search_dirs import SearchDir

# The `$` must reach the linker: a shell and make both expand it.
QUOTING = "-Wl,-rpath,'$ORIGIN/…' in a shell, '$$ORIGIN/…' in a Makefile, $ORIGIN in CMake's INSTALL_RPATH"


def flawed(rule: Rule, context: LintContext) -> Iterator[tuple[str, str, SearchDir]]:
    """Return the entries that break a rule, each once: (text, "RUNPATH of app, libx.so", entry)."""
    entries: dict[str, list[SearchDir]] = {}
    for entry in context.once(all_entries):
        if entry.flaw == rule.id:
            entries.setdefault(entry.text, []).append(entry)
    for text, group in entries.items():
        owners = ", ".join(dict.fromkeys(file_name(entry.owner.path) for entry in group))
        yield text, f"{group[0].kind.upper()} of {owners}", group[0]


@rule("rpath-relative", Severity.ERROR, "A search path entry is empty, relative or has lost its $ORIGIN.")
def rpath_relative(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """The loader resolves such an entry against the current directory, which is up to whoever starts the program."""
    for text, where, entry in flawed(rule, context):
        severity = None
        if re.match(LOST_ORIGIN, entry.directory):
            message = (
                f"The {where} contains {text}: a shell or make has expanded its $ORIGIN, or a part of it."
            )
            fix = f"Quote it: {QUOTING}."
        elif is_padding(entry):
            message = (
                f"The {where} ends with empty entries, CMake's padding for the search path of the installed file: in "
                "the build tree, the loader also searches the current directory."
            )
            fix = "Ship the file that `cmake --install` writes, which has no such entries, not the build tree's."
            severity = Severity.NOTE
        elif not text:
            message = f"The {where} has an empty entry: the loader searches the current directory."
            fix = "Remove the extra colon; an empty variable in -Wl,-rpath,$VARIABLE or LD_RUN_PATH is the usual cause."
        else:
            message = (
                f"The {where} has the relative entry {text}: the loader resolves it against the current directory, so "
                "it works from one directory only, and anyone who controls the current directory can inject libraries."
            )
            fix = f"Make it relative to the file: {QUOTING}."
        yield rule.finding(text or "(empty)", message, fix, severity=severity)


@rule("rpath-world-writable", Severity.ERROR, "A search path entry is a directory that anyone may write to.")
def rpath_world_writable(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """This includes a directory that does not exist and that anyone may create."""
    for text, where, entry in flawed(rule, context):
        there = is_directory(entry.host)
        what = "is world-writable" if there else "does not exist and can be created by anyone"
        culprit = open_to_all(entry.host)
        if there and culprit not in {None, entry.host}:
            what = f"is below {culprit}, a world-writable directory in which anyone may replace it"
        alternative = (
            "" if there else f", or create it before others do: mkdir -p -m 755 {quoted(str(entry.host))}"
        )
        if culprit is not None:
            alternative = f", or chmod o-w {quoted(str(culprit))}"
        yield rule.finding(
            text,
            f"The {where} contains {text}, which {what}: any local user can put a library there, which then runs with "
            "the rights of whoever starts the program.",
            f"Link without it (a build in a temporary directory leaves it behind){alternative}.",
        )


@rule("rpath-not-allowed", Severity.ERROR, "A search path entry is under none of the allowed prefixes.")
def rpath_not_allowed(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """The user gives the prefixes; if there are none, every entry is allowed."""
    for text, where, _ in flawed(rule, context):
        yield rule.finding(
            text,
            f"The {where} contains {text}, which is not under {' or '.join(context.options.allowed_rpath)}: on the "
            "target system that directory may not exist, or may hold other libraries.",
            "Link without it, set an allowed entry with patchelf --set-rpath, or allow it with --allowed-rpath "
            f"{quoted(text)}.",
        )


@rule(
    "rpath-build-tree", Severity.WARNING, "A search path entry leads into a build tree or a home directory."
)
def rpath_build_tree(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """Such a binary works only on the machine that built it, and only as long as the directory is kept."""
    for text, where, entry in flawed(rule, context):
        gone = "" if is_directory(entry.host) else " The directory no longer exists."
        if is_of_libtorch(entry, context):
            yield rule.finding(
                text,
                f"The {where} contains {text}, the directory of libtorch, as `torchlink flags` sets it by default: the "
                "binary works on this machine as long as the directory is kept.",
                "To distribute the binary, link with `torchlink flags --link --rpath origin=lib` and put the libraries "
                "into lib next to it; `torchlink bundle` does both. If it stays on this machine, pass --allowed-rpath "
                f"{quoted(text)}.",
                severity=Severity.NOTE,
            )
            continue
        yield rule.finding(
            text,
            f"The {where} contains {text}, in {kind_of_place(entry)}: on another machine, or for another user, the "
            f"libraries in it are not found.{gone}",
            f"Make it relative to the file: {QUOTING}, or `torchlink flags --link --rpath origin=DIR`; or ship the "
            "libraries with `torchlink bundle`. If it stays on this machine, pass --allowed-rpath "
            f"{quoted(text)}.",
        )


def is_of_libtorch(entry: SearchDir, context: LintContext) -> bool:
    """Whether a directory holds libtorch or what libtorch needs, as the entries that `flags` prints by default do."""
    real = os.path.realpath(entry.host)
    if holds_torch(entry.host) or real in context.torch_dirs:
        return True
    torch = {each.path for objects in context.torch.values() for each in objects}
    return any(each.needed_by in torch and real_dir(each) == real for each in context.closure.objects)


def kind_of_place(entry: SearchDir) -> str:
    """Return the kind of a directory that exists only on this machine or for this build."""
    if re.match(r"/(var/)?tmp/", f"{entry.directory}/"):
        return "a temporary directory"
    return "a home directory" if re.match(HOME, entry.directory) else "a build tree"


@rule("rpath-missing-directory", Severity.NOTE, "A search path entry names a directory that does not exist.")
def rpath_missing_directory(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """The entry is a leftover, or its libraries were not installed."""
    for text, where, entry in flawed(rule, context):
        expanded = "" if text == entry.directory else f" ({entry.directory})"
        yield rule.finding(
            text,
            f"The {where} contains {text}{expanded}, which does not exist: the libraries that it was meant for are "
            "found elsewhere or not at all.",
            "Link without it, or install the libraries there.",
        )


@rule("rpath-unused", Severity.NOTE, "A search path entry holds none of the libraries that are needed.")
def rpath_unused(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """The loader searches it for every library and finds nothing."""
    for text, where, _ in flawed(rule, context):
        yield rule.finding(
            text,
            f"The {where} contains {text}, which holds none of the libraries that are searched for there: it slows "
            "every start, and a wrong library could be picked up from it later.",
            "Link without it.",
        )


@rule("rpath-absolute", Severity.NOTE, "A search path entry is an absolute path.")
def rpath_absolute(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """Right for an installation in a fixed place, wrong for a binary that is moved."""
    for text, where, _ in flawed(rule, context):
        yield rule.finding(
            text,
            f"The {where} contains the absolute path {text}: the binary works only where its libraries are in exactly "
            "this directory.",
            f"If the binary will be moved, make the entry relative to the file: {QUOTING}; if not, pass "
            f"--allowed-rpath {quoted(text)}.",
        )


@rule("rpath-and-runpath", Severity.WARNING, "An object has both RPATH and RUNPATH: the RPATH is ignored.")
def rpath_and_runpath(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """One finding per object."""
    for each in context.own:
        dynamic = each.elf.dynamic
        if dynamic.rpath is not None and dynamic.runpath is not None:
            yield rule.finding(
                file_name(each.path),
                f"{file_name(each.path)} has both the RPATH {dynamic.rpath} and the RUNPATH {dynamic.runpath}: glibc "
                "ignores the RPATH, but other loaders and tools do not, and may find other libraries.",
                "Link with either -Wl,--enable-new-dtags (RUNPATH) or -Wl,--disable-new-dtags (RPATH); in a built "
                "binary, remove both with patchelf --remove-rpath, then set one with patchelf --set-rpath.",
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
