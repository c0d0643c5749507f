"""The output of `ldd`: glibc's (also with `-r`, `-d`, `-v` or several files), musl's, and the loader's own errors.

glibc's loader never translates its lines. `ldd` itself is a shell script that does: its own lines are recognised by
their position, not by their text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torchlink.lint.text.listing import LDD, LOADER, ListedLibrary, ListedSymbol, ListedVersion, Listing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


ADDRESS = r"(?:\(0x[0-9a-f]+\))"
FOUND = re.compile(rf"\s*(?P<name>\S.*?) => (?P<path>.*?)\s*{ADDRESS}?")
ALONE = re.compile(rf"\s*(?P<name>\S.*?) {ADDRESS}")
NOT_FOUND = "not found"
VDSO = re.compile(r"linux-(vdso|gate)")  # mapped by the kernel, without a file
HEADER = re.compile(r"(?P<path>\S.*):")

VERSIONS = re.compile(r"\s+Version information:")
VERSION_OBJECT = re.compile(r"\s+(?P<path>\S.*):")
VERSION_ROW = re.compile(r"\s+(?P<name>\S+) \((?P<version>\S+)\) => (?P<path>.+)")
VERSION_MISSING = re.compile(
    r"(?:(?P<before>.*?): )?(?P<library>[^:]+): version [`'](?P<version>[^']+)' not found "
    r"\(required by (?P<object>.+)\)"
)
UNDEFINED = re.compile(
    r"(?:(?P<before>.*): )?undefined symbol: (?P<symbol>[^\s,]+)(?:, version (?P<version>[^\s)]+))?"
    r"(?:\s+\((?P<object>.+)\))?"
)
OTHER_FILE = re.compile(
    # glibc before 2.31 has no comma.
    r"(?:(?P<before>.*): )?symbol (?P<symbol>[^\s,]+)(?:,? version (?P<version>\S+))? not defined in file \S+ "
    r"with link time reference(?:\s+\((?P<object>.+)\))?"
)
STOPPED = re.compile(
    r"(?P<object>.+?): error while loading shared libraries: (?P<name>[^:]+): (?P<reason>.+)"
)
MUSL_MISSING = re.compile(
    r"Error loading shared library (?P<name>.+?): (?P<reason>.+) \(needed by (?P<object>.+)\)"
)
MUSL_UNDEFINED = re.compile(r"Error relocating (?P<object>.+): (?P<symbol>[^:\s]+): symbol not found")
MUSL_LOADER = re.compile(r"(^|/)(ld-musl-|musl-ldd$)")
ABSENT = ("No such file or directory", "cannot open shared object file")  # reasons that mean only "not found"
LOOKUP_ERROR = re.compile(r"(?P<program>.*?): (?:symbol lookup|relocation) error: ")
LIBRARY = re.compile(r"\.so(\.[\d.]+)?$")
STATIC = re.compile(r"\s*(statically linked|not a dynamic executable|.*: Not a valid dynamic program)")
COMPLAINT = re.compile(r"(?:\S*/)?(?:musl-)?ldd:? .*")
PYTHON_ERROR = re.compile(r"(ImportError|OSError): ")
PYTHON_MISSING = re.compile(r"(ImportError|OSError): (?P<name>[^:\s]*(?:/|\.so)[^:]*): (?P<reason>.+)")
TRACEBACK = re.compile(
    r"Traceback \(most recent call last\):|  File \".*|    .*|During handling of .*:|The above exc.*:"
)
WARNING = re.compile(r"(?:\S*/)?ldd: warning: .*")
# Warnings of the loader about versions, after which it starts the program.
NO_VERSIONS = re.compile(
    r".*: no version information available \(required by .*\)|.*: weak version .* not found \(required by .*\)"
)
LOADER_FAILURE = re.compile(
    r"Fatal glibc error: |dyld(\[\d+\])?: |qemu-\w+: |.*: Exec format error$"
)  # errors that concern only the program
ERROR = re.compile(
    r"\b(fatal|errors?|\w*Error|not found|no such file|cannot|can't|could not|failed|fails|undefined|unresolved"
    r"|symbol lookup|not loaded|denied|too short|invalid|wrong ELF class|unsupported|core dumped|abort(ed)?)\b",
    re.IGNORECASE,
)
UNUSED = re.compile(r"Unused direct dependencies:")


def parse(lines: Sequence[str]) -> Iterator[Listing]:
    """Return one listing per binary; none if the lines are not the output of ldd.

    Args:
        lines: without line ends.
    """
    block: list[str] = []
    subject: str | None = None
    from_python = any(PYTHON_ERROR.match(line) for line in lines)
    for line in lines:
        if from_python and TRACEBACK.fullmatch(line):
            continue
        header = HEADER.fullmatch(line)
        if header and not UNUSED.fullmatch(line):
            yield from listing(block, subject)
            block, subject = [], header["path"]
        elif line.strip():
            block.append(line)
    yield from listing(block, subject)


def listing(lines: Sequence[str], subject: str | None) -> Iterator[Listing]:
    """Return the listing of one binary; none if no line is ldd's.

    Args:
        lines: without the header.
        subject: the binary's path in the header, None if there was no header.
    """
    reader = Reader()
    for line in lines:
        reader.read(line)
    # One line behind a tab can only be "not a dynamic executable" in the user's language.
    static = reader.static or (len(lines) == 1 == len(reader.unknown) and lines[0].startswith("\t"))
    known = (
        *(reader.libraries, reader.interpreter, reader.undefined, reader.versions),
        *(reader.complaints, [line for line in reader.errors if LOADER_FAILURE.match(line)]),
    )
    if not (static or any(known)):
        return
    own = subject or reader.program
    listed = {own, *(each.path for each in reader.libraries), *(each.name for each in reader.libraries)}
    named = (
        *(each.object for each in reader.versions),  # -v begins with the binary's own
        *(each.object for each in reader.undefined if each.object),
        *(each.needed_by for each in reader.libraries if each.needed_by),
        *(each.library for each in reader.versions if not each.found and "/" in each.library),
    )
    others = list(dict.fromkeys(name for name in named if name not in listed))
    if own is None and others:  # choose a library as the binary only if nothing else is named
        own = next((name for name in others if not LIBRARY.search(name)), others[0])
        others.remove(own)
    # A text with only errors of the loader or of musl's ldd does not list libraries, but names those in error.
    found = any(each.path for each in reader.libraries)
    about = [ListedLibrary(name.rpartition("/")[2], name) for name in others if "/" in name and not found]
    yield Listing(
        kind=LDD,
        subject=own,
        libraries=tuple(dict.fromkeys((*reader.libraries, *about))),
        interpreter=reader.interpreter,
        undefined=tuple(dict.fromkeys(reader.undefined)),
        versions=tuple(dict.fromkeys(reader.versions)),
        static=static and not reader.libraries,
        musl=reader.musl or bool(MUSL_LOADER.search(reader.interpreter or "")),
        imported=reader.imported,
        errors=tuple(dict.fromkeys(reader.errors)),
        unknown=tuple(dict.fromkeys(reader.unknown)),
        complaints=tuple(reader.complaints),
    )


class Reader:
    """Collects the contents of the lines of one binary."""

    def __init__(self) -> None:
        self.libraries: list[ListedLibrary] = []
        self.undefined: list[ListedSymbol] = []
        self.versions: list[ListedVersion] = []
        self.interpreter: str | None = None
        self.complaints: list[str] = []
        self.static = False
        self.musl = False
        self.program: str | None = None  # at the start of the loader's error
        self.unknown: list[str] = []  # lines that are not ldd's
        self.errors: list[str] = []
        self._section = ""  # of the version information: the object whose versions follow
        self._in_versions = False
        self._in_unused = False
        self.imported = False

    def read(self, line: str) -> None:
        """Parse one line."""
        self.imported |= bool(PYTHON_ERROR.match(line))
        known = self._sections(line) or WARNING.fullmatch(line) or self._error(line) or self._library(line)
        if not known and line.strip():
            is_error = ERROR.search(line) and not line.startswith(
                "\t"
            )  # ldd's own sentence in the user's language
            (self.errors if is_error else self.unknown).append(line.strip())

    def _sections(self, line: str) -> bool:
        """Version information (`-v`) and unused dependencies (`-u`)."""
        if VERSIONS.fullmatch(line):
            self._in_versions = True
            return True
        if UNUSED.fullmatch(line):
            self._in_unused = True
            return True
        if self._in_unused and line[:1].isspace():
            return True
        if not self._in_versions:
            return False
        if row := VERSION_ROW.fullmatch(line):
            found = row["path"] != NOT_FOUND
            library = row["path"] if found else row["name"]
            self.versions.append(ListedVersion(self._section, library, row["version"], found))
            return True
        if section := VERSION_OBJECT.fullmatch(line):
            self._section = section["path"]
            return True
        return False

    def _error(self, line: str) -> bool:
        if NO_VERSIONS.fullmatch(line):
            self.complaints.append(line.strip())
        elif STATIC.fullmatch(line):
            self.static = True
        elif missing := MUSL_MISSING.fullmatch(line):
            self.musl = True
            reason = "" if missing["reason"].startswith(ABSENT) else missing["reason"]
            self.libraries.append(ListedLibrary(missing["name"], None, missing["object"], reason))
        elif symbol := MUSL_UNDEFINED.fullmatch(line):
            self.musl = True
            self.undefined.append(ListedSymbol(symbol["symbol"], None, symbol["object"]))
        elif version := VERSION_MISSING.fullmatch(line):
            self._version(version)
        elif stopped := STOPPED.fullmatch(line):
            reason = "" if stopped["reason"].startswith(ABSENT) else stopped["reason"]
            self.libraries.append(ListedLibrary(stopped["name"], None, stopped["object"], reason))
        elif symbol := UNDEFINED.fullmatch(line) or OTHER_FILE.fullmatch(line):
            self._undefined(symbol)
        elif missing := PYTHON_MISSING.fullmatch(line):
            reason = "" if missing["reason"].startswith(ABSENT) else missing["reason"]
            self.libraries.append(ListedLibrary(missing["name"], None, None, reason))
        elif COMPLAINT.fullmatch(line) and " => " not in line and not ALONE.fullmatch(line):
            self.complaints.append(line.strip())
        else:
            return False
        return True

    def _version(self, version: re.Match[str]) -> None:
        names = (version["object"], version["library"].strip(), version["version"])
        self.versions.append(ListedVersion(*names, found=False))
        before = version["before"]
        if before and not PYTHON_ERROR.fullmatch(f"{before}: "):
            self.program = self.program or before.rpartition(": ")[2]

    def _undefined(self, symbol: re.Match[str]) -> None:
        before: str = symbol["before"] or ""
        failed = LOOKUP_ERROR.match(before)
        if failed and ": " not in failed["program"]:
            self.program = self.program or failed["program"]
        requester = symbol["object"] or before.rpartition(": ")[2] or None
        self.undefined.append(ListedSymbol(symbol["symbol"], symbol["version"], requester))

    def _library(self, line: str) -> bool:
        if alone := ALONE.fullmatch(line):
            if not VDSO.match(alone["name"]):
                if "=>" in alone["name"]:
                    return self._found(line)
                self._interpreter_or_path(alone["name"])
            return True
        return self._found(line)

    def _found(self, line: str) -> bool:
        found = FOUND.fullmatch(line)
        if found is None:
            return False
        name, path = found["name"], found["path"].strip()
        # A path has a slash, or an address after it; anything else means "not found", in some language.
        if path == NOT_FOUND or (path and "/" not in path and not line.rstrip().endswith(")")):
            self.libraries.append(ListedLibrary(name, None))
        elif path and not VDSO.match(name):
            self.libraries.append(ListedLibrary(name, path))
        return True

    def _interpreter_or_path(self, path: str) -> None:
        """Parse a line with one path: the loader, or a library that is needed by path."""
        if self.interpreter is None and LOADER.fullmatch(path):
            self.interpreter = path
        else:
            self.libraries.append(ListedLibrary(path, path))
