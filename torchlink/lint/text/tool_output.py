"""Trees of `lddtree` whose binary is here: the search of the binary itself counts, for lddtree's is not the loader's.

lddtree lets a RUNPATH be inherited like an RPATH, so it finds libraries that the loader does not. On the other hand
it heeds the LD_LIBRARY_PATH that it ran in, of which the text tells nothing.

Judging what `ldd`, `lddtree` or `readelf -d` printed, and saying what such a text leaves open.
"""

from __future__ import annotations

import codecs
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from torchlink.binary.bindings import Scope
from torchlink.binary.loader import OpenFiles, resolve
from torchlink.binary.system import system_for
from torchlink.errors import FileError, MalformedFileError
from torchlink.libtorch.names import TORCH_LIBRARIES, bare_name
from torchlink.lint.checking import (
    EXTENSION_NAME,
    check_binary,
    entries,
    examine,
    findings_of,
    kind_of,
    report_of,
)
from torchlink.lint.context import LintContext, LintOptions, holds_torch
from torchlink.lint.finding import FileReport
from torchlink.lint.missing import missing_names
from torchlink.lint.rules import RULES
from torchlink.lint.text import ldd, lddtree, readelf
from torchlink.lint.text.closure import describe
from torchlink.lint.text.listing import LDD, LDDTREE, LOADER, READELF
from torchlink.lint.torch_symbols import is_of_torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torchlink.binary.elf import ElfFile
    from torchlink.lint.finding import Rule
    from torchlink.lint.importing import Torches
    from torchlink.lint.text.closure import Described
    from torchlink.lint.text.listing import Listing

STREAM = "-"  # what the command line calls standard input
HINT = "Pipe it in whole: `ldd -r ./app 2>&1 | torchlink lint -`; or name the file itself: `torchlink lint ./app`."
LARGEST_TEXT = 64 << 20  # bytes; ldd on all of a large machine's programs writes some 10 MiB
WIDE = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # what PowerShell's > writes
NOT_INHERITED = "runpath-not-inherited"
SHOWN = 3  # names in a sentence
LONGEST_LINE = 120  # characters of a line that a sentence quotes
LDD_ALONE = "ldd loads an extension without Python's having imported torch: checked is the file itself, which is here."
STATIC = "Nothing is loaded for it: it is statically linked, or no ELF file; what is inside only the file itself tells."
OF_THE_FILE = (
    "its search path, libraries that it links without use or uses without linking, text relocations and stack"
)


def decode(data: bytes, label: str) -> str:
    """A text's bytes as text: UTF-8 or what PowerShell writes; other bytes survive as surrogates.

    Raises:
        MalformedFileError: it is larger than any such text.
    """
    if len(data) > LARGEST_TEXT:
        raise MalformedFileError(f"{named(label)} is too large for a text of ldd.", hint=HINT)
    encoding = WIDE.get(data[:2])
    if encoding:
        return data.decode(encoding, "replace")
    return data.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")


def named(label: str) -> str:
    """How messages call a text."""
    return "Standard input" if label == STREAM else label


def listings(text: str, label: str) -> list[Listing]:
    """What a text tells, one listing a binary.

    Args:
        text: what `ldd`, `lddtree` or `readelf -d` printed; line ends may be Windows's.
        label: how messages call it.

    Raises:
        MalformedFileError: it is empty, or no tool's output that is known here.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    if not text.strip():
        raise MalformedFileError(f"{named(label)} is empty: there is no text to check.", hint=HINT)
    if readelf.is_dynamic(lines):
        found = list(readelf.parse(lines))
    elif lddtree.is_tree(lines):
        found = list(lddtree.parse_tree(lines))
    elif lddtree.is_list(lines):
        found = list(lddtree.parse_list(lines))
    else:
        found = list(ldd.parse(lines))
    if not found:
        raise MalformedFileError(
            f"{named(label)} holds no output of ldd, lddtree or readelf -d that torchlink knows.", hint=HINT
        )
    return found


def check_text(
    text: str,
    label: str,
    options: LintOptions | None = None,
    *,
    rules: Iterable[Rule] = RULES,
    files: OpenFiles | None = None,
    torches: Torches | None = None,
) -> Iterator[FileReport]:
    """What the rules say about each binary that a text is about; files that it names are read, never run.

    Args:
        text: what `ldd`, `lddtree` or `readelf -d` printed, of one binary or several.
        label: how reports call a binary that the text does not name: the text's own file, or `-`.
        options: what it is checked against; the environment does not count, for the text says what was found.
        rules: the rules to apply.
        files: keeps libraries open from one binary to the next.
        torches: where the libtorch comes from that Python has loaded when it imports an extension.

    Raises:
        MalformedFileError: the text is empty, or holds none of these tools' output; or a file that it names
            contradicts itself.
    """
    files = files or OpenFiles()
    options = options or LintOptions()
    options = options._replace(environment={})
    chosen = tuple(rules)
    found = listings(text, label)
    if all(each.complaints and not each.libraries for each in found):
        raise MalformedFileError(
            f"{named(label)} names no binary: {found[0].complaints[0]}.",
            hint="Run it on a program or library that exists.",
        )
    for listing in found:
        yield check_listing(listing, label, options, chosen, files, torches)


def check_listing(
    listing: Listing,
    label: str,
    options: LintOptions,
    rules: Iterable[Rule],
    files: OpenFiles,
    torches: Torches | None = None,
) -> FileReport:
    """What the rules say about one binary of a text."""
    path = listing.subject or label
    if without_torch(listing, files):
        report = check_binary(Path(path), options, rules=rules, files=files, torches=torches)
        return report._replace(not_checked=(*report.not_checked, LDD_ALONE))
    if listing.static:
        return FileReport(path, listing.kind, (), (), not_checked=(STATIC,))
    if listing.kind == READELF and listing.subject and is_here(listing, files):
        return check_binary(Path(listing.subject), options, rules=rules, files=files)
    if is_message(listing) and listing.subject and leaves_undefined(listing, files):
        return check_imported(listing, Path(listing.subject), options, rules, files, torches)
    described = describe(listing, files)
    remarks: tuple[str, ...] = ()
    if listing.kind == LDDTREE and described.subject_read:
        own = check_itself(listing, Path(path), options, rules, files)
        if not isinstance(own, str):
            return own
        remarks = (own,)
    elf = described.closure.subject.elf
    context = LintContext(
        described.closure,
        described.scope,
        options,
        kind_in(listing, described),
        system_for(elf, interpreter=musl_loader(listing, elf)),
        from_text=bool(listing.undefined),
        failed=listing.imported,
        errors=listing.errors,
    )
    assumed: tuple[str, ...] = ()
    # What a program takes of libtorch and does not find tells most when it is looked up in one.
    of_torch = not context.torch and any(is_of_torch(each.symbol) for each in listing.undefined)
    if listing.undefined and (context.is_extension or of_torch):
        from torchlink.lint.importing import after_import_in_text

        context, assumed, more = after_import_in_text(context, torches, files)
        remarks += more
    if listing.kind == "ldd text" and options.shell:
        from torchlink.lint.shell import through_shell

        paths = [each.path for each in listing.libraries if each.path]
        assumed += tuple(through_shell(options.shell, paths))
    usual = tuple(always_left_open(listing, described))
    return FileReport(
        path,
        listing.kind,
        findings_of(context, rules),
        entries(described.closure),
        not_checked=(
            *listing.complaints,
            *not_understood(listing),
            *left_open(listing, described),
            *usual,
            *remarks,
        ),
        assumed=assumed,
        of_every_text=usual,
    )


def check_itself(
    listing: Listing, path: Path, options: LintOptions, rules: Iterable[Rule], files: OpenFiles
) -> FileReport | str:
    """The report for the binary of a tree by its own search.

    Args:
        listing: what lddtree printed of it.
        path: the binary, which is of the build that the text says about.
        options: what it is checked against.
        rules: the rules to apply.
        files: keeps libraries open.

    Returns:
        The report; or a sentence, where lddtree found what the loader would not find without help that the text
        does not say about: then its word must do.
    """
    elf = files.open(path)[0]
    system = system_for(elf)
    closure = resolve(path, system=system, environment=options.environment, files=files)
    lost = missing_names(LintContext(closure, Scope(closure), options, kind_of(path, elf), system))
    from_text = {each.name: each.path for each in listing.libraries if each.path}
    beyond = {
        edges[0].name for rule, group in lost.items() for edges in group if rule != NOT_INHERITED
    } & from_text.keys()
    if beyond:
        return (
            f"The loader alone would not find {', '.join(sorted(beyond))}; lddtree did, through LD_LIBRARY_PATH "
            f"perhaps: `torchlink lint {path}` checks its own search."
        )
    report = check_binary(path, options, rules=rules, files=files)
    own = {edge.name: edge.path for edge in closure.edges}
    apart = [name for name, where in from_text.items() if name in own and not same(own[name], where)]
    if apart:
        sentence = (
            f"lddtree finds {', '.join(apart)} elsewhere than the loader does. {path} is here, so its own search is "
            "what was checked."
        )
        report = report._replace(not_checked=(*report.not_checked, sentence))
    return report


def check_imported(
    listing: Listing,
    path: Path,
    options: LintOptions,
    rules: Iterable[Rule],
    files: OpenFiles,
    torches: Torches | None,
) -> FileReport:
    """What the rules say about an extension whose import has failed and whose file is here."""
    examined = examine(path, options, files=files, torches=torches, imported=True)
    report = report_of(examined, path, rules)
    here = {each.symbol for each in examined.context.undefined}
    beyond = tuple(each.symbol for each in listing.undefined if each.symbol not in here)
    chosen = next((each for each in rules if each.id == "undefined-symbol"), None)
    if not beyond or chosen is None or not examined.context.complete:
        return report
    found = examined.context.imported
    directory = found.root if found else next(iter(examined.context.torch_dirs), "its closure")
    symbols, them = ("symbols are", "them") if len(beyond) > 1 else ("symbol is", "it")
    finding = chosen.finding(
        report.path.rpartition("/")[2],
        f"The text says that {len(beyond)} {symbols} undefined, but {directory} has {them}: another libtorch than that "
        "one was loaded.",
        "Name the one of the Python that failed with --libtorch or --python, or build the extension again for it.",
        beyond,
    )
    return report._replace(findings=(finding, *report.findings))


def same(one: str | None, other: str | None) -> bool:
    """Whether two paths lead to one file."""
    return one == other or bool(one and other and os.path.realpath(one) == os.path.realpath(other))


def not_understood(listing: Listing) -> tuple[str, ...]:
    """A sentence about the lines of a text that are none of the tool's, if there are any."""
    if not listing.strange:
        return ()
    lines = "1 line is" if len(listing.strange) == 1 else f"{len(listing.strange)} lines are"
    return (f"{lines} not understood, such as: {listing.strange[0][:LONGEST_LINE]}",)


def is_message(listing: Listing) -> bool:
    """Whether a text is what Python's import said of the first symbol that an extension lacks."""
    if listing.kind != LDD or not listing.undefined or listing.libraries or listing.interpreter:
        return False
    path = Path(listing.subject or "")
    return (listing.imported or bool(re.search(EXTENSION_NAME, path.name))) and not holds_torch(path.parent)


def without_torch(listing: Listing, files: OpenFiles) -> bool:
    """Whether ldd was run on an extension that is here and for which Python has libtorch's libraries loaded."""
    lost = any(each.path is None and bare_name(each.name) in TORCH_LIBRARIES for each in listing.libraries)
    if listing.kind != LDD or not listing.subject or not (lost or listing.static):
        return False
    path = Path(listing.subject)
    if holds_torch(path.parent) or not leaves_undefined(listing, files):
        return False
    elf = files.open(path)[0]
    named = {each.name for each in listing.libraries}
    return kind_of(path, elf) == "python extension" and all(
        name in named or LOADER.fullmatch(name) for name in elf.dynamic.needed
    )


def leaves_undefined(listing: Listing, files: OpenFiles) -> bool:
    """Whether the binary of a loader's message is here, and takes from others what the message says that it lacks."""
    try:
        elf = files.open(Path(listing.subject or ""))[0]
        taken = frozenset(elf.undefined_names())
    except FileError:
        return False
    if elf.type not in {"dyn", "exec"}:
        return False
    return all(
        each.symbol.encode("utf-8", "surrogateescape") in taken
        for each in listing.undefined
        if each.object in {None, listing.subject}
    )


def musl_loader(listing: Listing, elf: ElfFile) -> str | None:
    """The loader where the text is of musl's; None where the file tells which loader it is."""
    if not listing.musl:
        return None
    named = listing.interpreter or ""
    return named if "/ld-musl-" in named else f"/lib/ld-musl-{elf.machine}.so.1"


def is_here(listing: Listing, files: OpenFiles) -> bool:
    """Whether the binary that `readelf -d` was run on is here: then there is more to check than the text."""
    try:
        dynamic = files.open(Path(listing.subject or ""))[0].dynamic
    except FileError:
        return False
    said = listing.dynamic
    return said is not None and all(
        getattr(said, name) == getattr(dynamic, name) for name in ("needed", "soname", "rpath", "runpath")
    )


def kind_in(listing: Listing, described: Described) -> str:
    """What a text is about, as in `FileReport.kind`: as its file says, else by its name."""
    subject = described.closure.subject
    name = subject.path.rpartition("/")[2]
    if described.subject_read:
        return kind_of(subject.file, subject.elf)
    if listing.imported or re.search(EXTENSION_NAME, name):
        return "python extension"
    return "shared library" if ".so" in name or (listing.dynamic and listing.dynamic.soname) else "executable"


def left_open(listing: Listing, described: Described) -> Iterator[str]:
    """What this text leaves open besides what every one does, in sentences."""
    if listing.kind == READELF:
        yield (
            "readelf -d tells what a binary asks for, not what the loader finds: whether its libraries are there, and "
            "everything about symbols, is left open."
        )
        return
    if described.at_odds:
        yield (
            f"{listing.subject} on this machine needs {some(described.at_odds)}, which the text does not list: it is "
            "of another build, and was not read."
        )
    if listing.musl and not listing.undefined and all(each.path for each in listing.libraries):
        yield "musl's ldd writes to stderr what is missing: pipe it in with `2>&1`."


def always_left_open(listing: Listing, described: Described) -> Iterator[str]:
    """What every text of a linked binary leaves open where the files that it names are not here, in sentences."""
    if listing.kind == READELF:
        return
    name = listing.subject
    if not described.at_odds and not described.subject_read:
        why = f"{name} is no file here" if name else "The text does not name the binary"
        yield f"{why}, so {OF_THE_FILE} are left open: `torchlink lint FILE` checks them."
    if described.absent:
        one = len(described.absent) == 1
        yield (
            f"{len(described.absent)} of the libraries {'is' if one else 'are'} not on this machine "
            f"({some(described.absent)}): what {'it defines, needs and is' if one else 'they define, need and are'} "
            "built for is left open."
        )
    if not listing.undefined and not (described.whole and described.subject_read):
        yield "Undefined symbols are checked only as far as the text names them, as `ldd -r` does."
    yield "The text does not say through what a library was found: RPATH, LD_LIBRARY_PATH or the system."


def some(names: tuple[str, ...]) -> str:
    """The first few names."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
