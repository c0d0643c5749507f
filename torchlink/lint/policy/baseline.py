"""Baselines: the findings that existed when lint was introduced, so that only new ones fail.

A fingerprint identifies a finding across builds and machines.
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

SCHEMA = 1
TOOL = "torchlink lint baseline"
_DIRECTORIES = re.compile(r"[^\s,;'\"()=]*/(?=[^/\s])")
SEARCH_PATH_RULES = "rpath-"
SAME_TREE = 2  # components that paths in one project share at least: /home/someone


@dataclass(frozen=True, slots=True, order=True)
class BaselineEntry:
    """One known finding, identified by its fingerprint; file and subject are for readers."""

    file: str  # without its directory
    rule: str
    subject: str  # without directories, except for search path entries
    fingerprint: str
    count: int = 1  # how many findings share the fingerprint
    parts: tuple[str, ...] = ()  # as in `Finding.parts`, of all that share it


def of(report: LintReport) -> tuple[BaselineEntry, ...]:
    """Return the baseline of a report's findings (not of those it allows), in a stable order."""
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
        MalformedFileError: it is not a baseline, or has a schema that this torchlink does not support.
    """
    again = "Write a new one with 'torchlink lint --write-baseline'."
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
    """Return the entries of a baseline file.

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
    """Write a baseline file atomically; only an older baseline is replaced.

    Raises:
        WouldOverwriteError: the path is a file other than a baseline, and `force` is not set.
        FileError: it cannot be written.
    """
    if path.exists() and not force:
        try:
            read(path)
        except FileError as error:
            if not path.is_file():  # a FIFO, a device: `read` has the right error
                raise
            raise WouldOverwriteError(
                f"{path} exists and is not a baseline of torchlink lint.",
                hint="Choose another file, or pass --force to replace it.",
            ) from error
    from torchlink.atomic import write_file

    try:
        write_file(path, dump(entries).encode())
    except OSError as error:
        raise FileError(
            f"Cannot write the baseline {path}: {error.strerror}.", hint="Choose a path that can be written."
        ) from error


def _entry(item: object, where: str) -> BaselineEntry:
    names = ("file", "rule", "subject", "fingerprint")
    if not isinstance(item, dict) or not all(isinstance(item.get(name), str) for name in names):
        raise MalformedFileError(f"{where} must have the strings {', '.join(names)}.")
    count = item.get("count", 1)
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise MalformedFileError(f"{where}: count must be a positive integer.")
    parts = item.get("parts", [])
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise MalformedFileError(f"{where}: parts must be a list of strings.")
    return BaselineEntry(
        item["file"], item["rule"], item["subject"], item["fingerprint"], count, tuple(parts)
    )


def bare(text: str) -> str:
    """Remove the directories of a path, or of the paths in a sentence: `/home/a/libx.so` becomes `libx.so`."""
    return _DIRECTORIES.sub("", text.replace("\\", "/").rstrip("/"))


def fingerprint(file: str, finding: Finding) -> str:
    """Return the identity of a finding: 32 hexadecimal digits from its rule, file name and subject.

    The directory of the file is not part of it, so that the fingerprint is the same in `/home/someone/build` and on a
    CI machine; nor are severity, message and evidence, which change between releases and builds. Findings that differ
    only in directories share a fingerprint, so they must be counted. For a search path entry the directory is part of
    it, relative to the file.
    """
    identity = "\0".join((finding.rule, bare(file), subject_of(file, finding)))
    return hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def subject_of(file: str, finding: Finding) -> str:
    """Return a finding's subject without the directories that differ between machines."""
    of_search_path = finding.rule.startswith(SEARCH_PATH_RULES)
    return relative_to(file, finding.subject) if of_search_path else bare(finding.subject)


def relative_to(file: str, directory: str) -> str:
    """Return a directory relative to a file in the same tree, or as it is if it is elsewhere."""
    here = os.path.dirname(os.path.abspath(file))  # noqa: PTH100, PTH120 - a file that a text names may not exist here
    if not directory.startswith("/"):
        return directory
    common = os.path.commonpath((here, directory))
    return os.path.relpath(directory, here) if common.count("/") >= SAME_TREE else directory
