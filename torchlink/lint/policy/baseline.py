"""What makes two findings the same one on another day or another machine.

A baseline: the findings that stood on the day lint was taken up, so that only new ones fail.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from torchlink.bounds import LONGEST_JSON, load_json, read_whole
from torchlink.errors import FileError, MalformedFileError, WouldOverwriteError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torchlink.lint.finding import Finding, LintReport


_DIRECTORIES = re.compile(r"[^\s,;'\"()=]*/(?=[^/\s])")

SEARCH_PATH_RULES = "rpath-"
SAME_TREE = 2  # components that two paths share at least which are in one project: /home/someone


def bare(text: str) -> str:
    """A path, or a sentence with paths in it, without directories: `/home/a/libx.so` becomes `libx.so`."""
    return _DIRECTORIES.sub("", text.replace("\\", "/").rstrip("/"))


def fingerprint(file: str, finding: Finding) -> str:
    """The identity of a finding: 32 hexadecimal digits over its rule, file name and subject.

    Where the file is does not count, so that the fingerprint is the same in `/home/someone/build` and on a CI
    machine; neither do severity, words and evidence, which change between releases and builds. Two findings
    that differ in nothing but directories share a fingerprint: whoever compares must count. A search path entry
    is what the directory is, so there it counts, as seen from the file.
    """
    identity = "\0".join((finding.rule, bare(file), subject_of(file, finding)))
    return hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def subject_of(file: str, finding: Finding) -> str:
    """A finding's subject without what another machine would have elsewhere."""
    of_search_path = finding.rule.startswith(SEARCH_PATH_RULES)
    return beside(file, finding.subject) if of_search_path else bare(finding.subject)


def beside(file: str, directory: str) -> str:
    """A directory as seen from a file that is in the same tree; one that is elsewhere as it is."""
    here = os.path.dirname(os.path.abspath(file))  # noqa: PTH100, PTH120 - what a text names may lie elsewhere
    if not directory.startswith("/"):
        return directory
    common = os.path.commonpath((here, directory))
    return os.path.relpath(directory, here) if common.count("/") >= SAME_TREE else directory


SCHEMA = 1
TOOL = "torchlink lint baseline"


@dataclass(frozen=True, slots=True, order=True)
class BaselineEntry:
    """One known finding; file and subject are for the reader, the fingerprint decides."""

    file: str  # without its directory
    rule: str
    subject: str  # without directories, but for search path entries
    fingerprint: str
    count: int = 1  # how many findings share the fingerprint
    parts: tuple[str, ...] = ()  # as in `Finding.parts`, of all that share it


def of(report: LintReport) -> tuple[BaselineEntry, ...]:
    """The baseline of what a report finds (not of what it allows), in a stable order."""
    known: Counter[tuple[str, str, str, str]] = Counter()
    parts: dict[str, set[str]] = {}
    for file in report.files:
        for finding in file.findings:
            identity = fingerprint(file.path, finding)
            known[bare(file.path), finding.rule, subject_of(file.path, finding), identity] += 1
            parts.setdefault(identity, set()).update(finding.parts)
    return tuple(
        sorted(BaselineEntry(*names, count, tuple(sorted(parts[names[3]]))) for names, count in known.items())
    )


def dump(entries: Sequence[BaselineEntry]) -> str:
    """A baseline as the text of its file: JSON, schema 1, one line an entry, so that a diff reads well."""
    lines = ",\n".join(f"    {json.dumps(asdict(entry))}" for entry in sorted(entries))
    findings = f"[\n{lines}\n  ]" if lines else "[]"
    return f'{{\n  "schema": {SCHEMA},\n  "tool": {json.dumps(TOOL)},\n  "findings": {findings}\n}}\n'


def parse(text: str, name: str) -> tuple[BaselineEntry, ...]:
    """The entries in a baseline file's text; `name` stands in errors.

    Raises:
        MalformedFileError: it is not a baseline, or one of a schema that this torchlink does not know.
    """
    again = "Write it again with 'torchlink lint --write-baseline'."
    try:
        document = load_json(text)
    except ValueError as error:
        raise MalformedFileError(f"The baseline {name} is not valid JSON: {error}.", hint=again) from error
    if not isinstance(document, dict) or document.get("tool") != TOOL:
        raise MalformedFileError(f"{name} is not a baseline of torchlink lint.", hint=again)
    if document.get("schema") != SCHEMA:
        message = f"The baseline {name} has schema {document.get('schema')!r}; this torchlink reads {SCHEMA}."
        raise MalformedFileError(message, hint=again)
    findings = document.get("findings")
    if not isinstance(findings, list):
        raise MalformedFileError(f"The baseline {name} has no list 'findings'.", hint=again)
    return tuple(_entry(item, f"{name}: findings[{index}]") for index, item in enumerate(findings))


def read(path: Path) -> tuple[BaselineEntry, ...]:
    """The entries of a baseline file.

    Raises:
        FileError: it cannot be read.
        MalformedFileError: it is not a baseline.
    """
    try:
        return parse(read_whole(path, LONGEST_JSON).decode("utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise MalformedFileError(f"{path} is not a baseline of torchlink lint: it is not UTF-8.") from error
    except OSError as error:
        raise FileError(
            f"Cannot read the baseline {path}: {error.strerror}.",
            hint="Write one with 'torchlink lint --write-baseline FILE'.",
        ) from error


def write(path: Path, entries: Sequence[BaselineEntry], *, force: bool = False) -> None:
    """Write a baseline file, beside and renamed; an older baseline is replaced, another file is not.

    Raises:
        WouldOverwriteError: something else than a baseline stands there and `force` is not given.
        FileError: it cannot be written.
    """
    if path.exists() and not force:
        try:
            read(path)
        except FileError as error:
            if not path.is_file():  # a FIFO, a device: what is wrong with it is said
                raise
            raise WouldOverwriteError(
                f"{path} exists and is not a baseline of torchlink lint.",
                hint="Name another file, or give --force to replace it.",
            ) from error
    from torchlink.atomic import write_file

    try:
        write_file(path, dump(entries).encode())
    except OSError as error:
        raise FileError(
            f"Cannot write the baseline {path}: {error.strerror}.", hint="Name a file that can be written."
        ) from error


def _entry(item: object, where: str) -> BaselineEntry:
    names = ("file", "rule", "subject", "fingerprint")
    if not isinstance(item, dict) or not all(isinstance(item.get(name), str) for name in names):
        raise MalformedFileError(f"{where} needs the texts {', '.join(names)}.")
    count = item.get("count", 1)
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise MalformedFileError(f"{where}: count must be a whole number from 1 on.")
    parts = item.get("parts", [])
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise MalformedFileError(f"{where}: parts must be a list of texts.")
    return BaselineEntry(
        item["file"], item["rule"], item["subject"], item["fingerprint"], count, tuple(parts)
    )
