"""Checking the output of `ldd`, `lddtree` or `readelf -d`, and listing what cannot be checked from it.

A file of the text that exists on this machine is read as well. If the binary of an lddtree output exists, its own
search is checked instead: lddtree treats a RUNPATH as inherited, so it finds libraries that the loader does not, and it
uses the LD_LIBRARY_PATH that it ran with, which its output does not show.
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
from torchlink.libtorch.symbols import is_of_torch
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

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torchlink.binary.elf import ElfFile
    from torchlink.lint.finding import Rule
    from torchlink.lint.importing import Torches
    from torchlink.lint.text.closure import Described
    from torchlink.lint.text.listing import Listing

STREAM = "-"  # standard input, on the command line
HINT = "Pipe in the complete output: `ldd -r ./app 2>&1 | torchlink lint -`; or name the file: `torchlink lint ./app`."
LARGEST_TEXT = 64 << 20  # bytes; ldd on all programs of a large machine writes some 10 MiB
WIDE = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # what PowerShell's > writes
NOT_INHERITED = "runpath-not-inherited"
SHOWN = 3  # names in a sentence
LONGEST_LINE = 120  # characters of a line that a sentence quotes
LDD_ALONE = "ldd loads an extension without torch; the file itself was checked instead, as Python imports it."
STATIC = "It is statically linked, or not an ELF file: there are no libraries to check."
NOT_IN_A_TEXT = (
    "search path, unused and indirectly used libraries, text relocations and stack were not checked"
)


def decode(data: bytes, label: str) -> str:
    """Decode UTF-8 or what PowerShell writes; other bytes become surrogates.

    Raises:
        MalformedFileError: it is larger than any such text.
    """
    if len(data) > LARGEST_TEXT:
        raise MalformedFileError(f"{named(label)} is too large to be the output of ldd.", hint=HINT)
    encoding = WIDE.get(data[:2])
    if encoding:
        return data.decode(encoding, "replace")
    return data.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")


def named(label: str) -> str:
    """Return the name of a text in messages."""
    return "Standard input" if label == STREAM else label


def listings(text: str, label: str) -> list[Listing]:
    """Parse a text into one listing per binary.

    Args:
        text: the output of `ldd`, `lddtree` or `readelf -d`; line ends may be CRLF.
        label: its name in messages.

    Raises:
        MalformedFileError: it is empty, or not the output of one of these tools.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    if not text.strip():
        raise MalformedFileError(f"{named(label)} is empty.", hint=HINT)
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
            f"{named(label)} is not the output of ldd, lddtree or readelf -d.", hint=HINT
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
    """Apply rules to each binary of a text; files that it names are read, never run.

    Args:
        text: the output of `ldd`, `lddtree` or `readelf -d` for one binary or several.
        label: the name in reports of a binary that the text does not name: the text's own file, or `-`.
        options: what it is checked against; the environment is ignored, because the text says what was found.
        rules: the rules to apply.
        files: keeps libraries open from one binary to the next.
        torches: where to find the libtorch that Python has loaded when it imports an extension.

    Raises:
        MalformedFileError: the text is empty or not the output of one of these tools, or a file that it names is
            damaged.
    """
    files = files or OpenFiles()
    options = options or LintOptions()
    options = options._replace(environment={})
    chosen = tuple(rules)
    found = listings(text, label)
    if all(each.complaints and not each.libraries for each in found):
        raise MalformedFileError(
            f"{named(label)} names no binary: {found[0].complaints[0]}.",
            hint="Run the tool on a program or library that exists.",
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
    """Apply rules to one binary of a text."""
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
    # Undefined symbols of libtorch are looked up in an installed libtorch, to find out why they are undefined.
    of_torch = not context.torch and any(is_of_torch(each.symbol) for each in listing.undefined)
    if listing.undefined and (context.is_extension or of_torch):
        from torchlink.lint.importing import after_import_in_text

        context, assumed, more = after_import_in_text(context, torches, files)
        remarks += more
    if listing.kind == "ldd text" and options.shell:
        from torchlink.lint.shell import through_shell

        paths = [each.path for each in listing.libraries if each.path]
        assumed += tuple(through_shell(options.shell, paths))
    usual = tuple(always_unchecked(listing, described))
    return FileReport(
        path,
        listing.kind,
        findings_of(context, rules),
        entries(described.closure),
        not_checked=(
            *listing.complaints,
            *not_understood(listing),
            *unchecked(listing, described),
            *usual,
            *remarks,
        ),
        assumed=assumed,
        of_every_text=usual,
    )


def check_itself(
    listing: Listing, path: Path, options: LintOptions, rules: Iterable[Rule], files: OpenFiles
) -> FileReport | str:
    """Check the binary of an lddtree output by its own search.

    Args:
        listing: the output of lddtree.
        path: the binary, of the same build.
        options: what it is checked against.
        rules: the rules to apply.
        files: keeps libraries open.

    Returns:
        The report; or a sentence if lddtree found libraries that the loader alone does not find, so that its output
        has to be checked.
    """
    elf = files.open(path)[0]
    system = system_for(elf)
    closure = resolve(path, system=system, environment=options.environment, files=files)
    missing = missing_names(LintContext(closure, Scope(closure), options, kind_of(path, elf), system))
    from_text = {each.name: each.path for each in listing.libraries if each.path}
    beyond = {
        edges[0].name for rule, group in missing.items() for edges in group if rule != NOT_INHERITED
    } & from_text.keys()
    if beyond:
        return (
            f"The loader alone does not find {', '.join(sorted(beyond))}; lddtree did, possibly through "
            f"LD_LIBRARY_PATH. Run `torchlink lint {path}` to check the search of the binary itself."
        )
    report = check_binary(path, options, rules=rules, files=files)
    own = {edge.name: edge.path for edge in closure.edges}
    different = [name for name, where in from_text.items() if name in own and not same(own[name], where)]
    if different:
        sentence = (
            f"lddtree finds {', '.join(different)} in a different place than the loader; {path} exists here, so its "
            "own search was checked."
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
    """Apply rules to an extension whose import has failed and whose file exists here."""
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
        f"The message says that {len(beyond)} {symbols} undefined, but {directory} has {them}: another libtorch was "
        "loaded.",
        "Name the libtorch of the Python that failed with --libtorch or --python, or rebuild the extension for it.",
        beyond,
    )
    return report._replace(findings=(finding, *report.findings))


def same(one: str | None, other: str | None) -> bool:
    """Whether two paths lead to one file."""
    return one == other or bool(one and other and os.path.realpath(one) == os.path.realpath(other))


def not_understood(listing: Listing) -> tuple[str, ...]:
    """Return a sentence about the lines of a text that are not the tool's, if there are any."""
    if not listing.unknown:
        return ()
    first = listing.unknown[0][:LONGEST_LINE]
    if len(listing.unknown) == 1:
        return (f"1 line is not recognised: {first}",)
    return (f"{len(listing.unknown)} lines are not recognised; the first is: {first}",)


def is_message(listing: Listing) -> bool:
    """Whether a text is the message of a failed import, which names the first symbol that an extension lacks."""
    if listing.kind != LDD or not listing.undefined or listing.libraries or listing.interpreter:
        return False
    path = Path(listing.subject or "")
    return (listing.imported or bool(re.search(EXTENSION_NAME, path.name))) and not holds_torch(path.parent)


def without_torch(listing: Listing, files: OpenFiles) -> bool:
    """Whether ldd was run on an extension that exists here and that Python imports after torch."""
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
    """Whether the binary of a loader's message exists here and leaves the symbols of the message undefined."""
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
    """Return the loader if the text is of musl's ldd, else None: the binary names its loader."""
    if not listing.musl:
        return None
    named = listing.interpreter or ""
    return named if "/ld-musl-" in named else f"/lib/ld-musl-{elf.machine}.so.1"


def is_here(listing: Listing, files: OpenFiles) -> bool:
    """Whether the binary that `readelf -d` was run on exists here, so that more than the text can be checked."""
    try:
        dynamic = files.open(Path(listing.subject or ""))[0].dynamic
    except FileError:
        return False
    listed = listing.dynamic
    return listed is not None and all(
        getattr(listed, name) == getattr(dynamic, name) for name in ("needed", "soname", "rpath", "runpath")
    )


def kind_in(listing: Listing, described: Described) -> str:
    """Return the kind of a text's binary, as in `FileReport.kind`: from its file, or else from its name."""
    subject = described.closure.subject
    name = subject.path.rpartition("/")[2]
    if described.subject_read:
        return kind_of(subject.file, subject.elf)
    if listing.imported or re.search(EXTENSION_NAME, name):
        return "python extension"
    return "shared library" if ".so" in name or (listing.dynamic and listing.dynamic.soname) else "executable"


def unchecked(listing: Listing, described: Described) -> Iterator[str]:
    """Return sentences about what cannot be checked from this text, unlike from others of its kind."""
    if listing.kind == READELF:
        yield (
            "readelf -d shows what a binary needs, not what the loader finds: missing libraries and symbols were not "
            "checked."
        )
        return
    if described.at_odds:
        yield (
            f"{listing.subject} on this machine needs {some(described.at_odds)}, which the input does not list: it is "
            "from another build and was not read."
        )
    if listing.musl and not listing.undefined and all(each.path for each in listing.libraries):
        yield "musl's ldd writes errors to stderr: pipe them in with `2>&1`."


def always_unchecked(listing: Listing, described: Described) -> Iterator[str]:
    """Return sentences about what no text can show about a linked binary whose files are not on this machine."""
    if listing.kind == READELF:
        return
    name = listing.subject
    if not described.at_odds and not described.subject_read:
        why = f"{name} does not exist here" if name else "The input does not name the binary"
        yield f"{why}: its {NOT_IN_A_TEXT}. Run `torchlink lint FILE` to check them."
    if described.absent:
        one = len(described.absent) == 1
        yield (
            f"{len(described.absent)} of the libraries {'is' if one else 'are'} not on this machine "
            f"({some(described.absent)}): {'its' if one else 'their'} symbols, dependencies and machine were not "
            "checked."
        )
    if not listing.undefined and not (described.whole and described.subject_read):
        yield "Undefined symbols are checked only if the input lists them, as the output of `ldd -r` does."
    yield "The input does not say how a library was found:  through an RPATH, LD_LIBRARY_PATH or the system."


def some(names: tuple[str, ...]) -> str:
    """Return the first few names and the number of further ones."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
