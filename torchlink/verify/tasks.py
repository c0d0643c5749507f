"""The models to verify: files, directories, globs and the tables of the settings, as one list of tasks."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from torchlink.errors import FileError, UsageError
from torchlink.status import exists, is_dir, not_about_the_file
from torchlink.verify.options import DEFAULTS, VerifyOptions
from torchlink.verify.result import Shard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torchlink.errors import TorchlinkError

SUFFIXES = (".pt", ".pth", ".ts", ".pt2", ".ptl")  # of the files in a directory that are treated as models
GLOB = frozenset("*?[")
RECORDED = "golden.json"  # next to the inputs and outputs that --record saves, which are not models


class ModelTask(NamedTuple):
    """The verification of one model."""

    path: str
    options: VerifyOptions = DEFAULTS
    skip: str = ""  # why to skip it
    settings: str = ""  # the tables of the settings that match it: "torchlink.toml: model[0]"
    given: VerifyOptions | None = None  # the options without those of the tables; None: the same


def gather(
    paths: Sequence[Path | str],
    options: VerifyOptions,
    adjusted: Callable[[ModelTask], ModelTask] = lambda task: task,
    *,
    once: bool = False,
    origins: Mapping[str, str] | None = None,
) -> list[ModelTask]:
    """A task for each model that paths name.

    Args:
        paths: files; directories, whose models are taken (see `models_below`); patterns, quoted so that the shell
            does not expand them. A model named twice is verified twice, one that is also in a named directory once.
            `options.exclude` leaves out models of directories and patterns, never a file that is named itself.
        options: for all of them.
        adjusted: applies the settings.
        once: a model named twice is verified once as well.
        origins: where paths come from that the command line does not name, for messages.

    Raises:
        FileError: a directory contains no model or cannot be read, or a pattern matches nothing.
    """
    named: list[str] = []
    for path in paths:
        try:
            found = _models_of(path, options.exclude)
        except FileError as error:
            attribute(error, (origins or {}).get(str(path), ""))
            raise
        known = set(named) if once or found != [str(path)] else set()
        named += [each for each in found if each not in known]
    return [adjusted(ModelTask(each, options)) for each in named]


def _models_of(path: Path | str, excluded: Sequence[str]) -> list[str]:
    """The models that one path names."""
    found = fitting(str(path)) if is_pattern(path) else models_below(path) if is_dir(path) else [str(path)]
    if found != [str(path)]:
        found = [each for each in found if not _excluded(each, excluded)]
        if not found:
            raise FileError(
                f"{path}: --exclude leaves no model.", hint="Check the patterns, or name other models."
            )
    return found


def attribute(error: TorchlinkError, origin: str) -> None:
    """Make an error name the settings that it comes from; nothing for an empty `origin`."""
    if origin:
        error.message = f"{origin}: {error.message}"


def is_pattern(path: Path | str) -> bool:
    """Whether a path is a glob: a file of exactly that name is not a pattern."""
    return not GLOB.isdisjoint(str(path)) and not exists(path)


def is_several(paths: Sequence[Path | str]) -> bool:
    """Whether one of the paths stands for any number of models."""
    return any(is_pattern(path) or is_dir(path) for path in paths)


def models_below(directory: Path | str) -> list[str]:
    """The model files in a directory and those below it, by their names, sorted; links are followed.

    Raises:
        FileError: there is none, or the directory cannot be read.
    """
    found = list(_walk(str(directory), lambda path: path.endswith(SUFFIXES)))
    if not found:
        raise FileError(
            f"{directory}: no model in this directory.",
            hint=f"Name one that contains {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} files, or the files themselves.",
        )
    return found


def _walk(
    directory: str, wanted: Callable[[str], bool], above: tuple[tuple[int, int], ...] = ()
) -> Iterator[str]:
    """The wanted files below a directory, sorted, links to a directory `above` are not followed."""
    try:
        status = os.stat(directory)  # noqa: PTH116 - plain strings: there may be very many
        this = (status.st_dev, status.st_ino)
        if this in above:
            return
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except OSError as error:
        not_about_the_file(directory, error)
        raise FileError(
            f"Cannot read the directory {directory}: {error.strerror}.", hint="Check its permissions."
        ) from error
    if any(entry.name == RECORDED for entry in entries):
        return
    for entry in entries:
        if _is_directory(entry):
            yield from _walk(entry.path, wanted, (*above, this))
        elif wanted(entry.path):  # a dangling link as well: it is reported when it is read
            yield entry.path


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def fitting(pattern: str) -> list[str]:
    """The files that match a glob, sorted; `**` matches any directories. A matching directory yields its models.

    Raises:
        FileError: nothing matches.
    """
    from glob import glob

    fixed, deep, _ = f"/{pattern}".partition("/**")
    if deep:  # Python's own glob would follow links in circles
        bases = sorted(glob(fixed[1:])) if fixed[1:] else ["/" if pattern.startswith("/") else "."]  # noqa: PTH207
        whole = os.path.normpath(os.path.abspath(pattern))  # noqa: PTH100 - a pattern is text
        found = [path for base in bases for path in _walk(base, lambda path: fits(path, whole))]
        found = [path.removeprefix("./") for path in found]
    else:
        found = sorted(glob(pattern))  # noqa: PTH207 - absolute patterns, too
    if not found:
        raise FileError(f"{pattern}: no model matches this pattern.", hint="Check it with `ls`.")
    files = [path for path in found if not is_dir(path)]
    return files or list(dict.fromkeys(model for path in found for model in models_below(path)))


def parse_shard(text: str) -> tuple[int, int]:
    """`2/3` as its numbers.

    Raises:
        UsageError: it is not of that form.
    """
    number, slash, of = text.partition("/")
    if slash and number.isascii() and of.isascii() and number.isdigit() and of.isdigit() and len(text) < 16:
        numbers = int(number), int(of)
        if 1 <= numbers[0] <= numbers[1]:
            return numbers
    raise UsageError(
        f"--shard {text}: not of the form I/N with I from 1 to N.",
        hint="Write --shard 1/2 for the first of two.",
    )


def shard_of(tasks: Sequence[ModelTask], number: int, of: int) -> tuple[list[ModelTask], Shard]:
    """The tasks of one shard: every `of`-th, so that large neighbours are spread over the shards."""
    return list(tasks[number - 1 :: of]), Shard(number, of, len(tasks))


def _excluded(path: str, patterns: Sequence[str]) -> bool:
    """Whether one of the globs matches a path; a relative one may match at any depth, as in .gitignore."""
    return any(fits(path, each if each.startswith("/") else f"/**/{each}") for each in patterns)


def fits(path: str, pattern: str) -> bool:
    """Whether an absolute glob matches a path; `*` and `?` stop at a `/`, and `**` matches any directories."""
    place = os.path.abspath(path)  # noqa: PTH100 - a link counts by its own name
    return re.fullmatch(_expression(pattern), place, re.DOTALL) is not None


def _expression(pattern: str) -> str:
    out, rest = "", pattern
    while rest:
        if rest.startswith("**/"):
            out, rest = f"{out}(?:[^/]+/)*", rest[3:]
        elif rest.startswith("**"):
            out, rest = f"{out}.*", rest[2:]
        elif rest[0] == "*":
            out, rest = f"{out}[^/]*", rest[1:]
        elif rest[0] == "?":
            out, rest = f"{out}[^/]", rest[1:]
        elif rest[0] == "[" and (found := re.match(r"\[(!?)(\]?[^]/]*)\]", rest)):
            chars = re.sub(r"([\\^\[&~|])", r"\\\1", found[2])
            out, rest = f"{out}[{'^/' if found[1] else ''}{chars}]", rest[found.end() :]
        else:
            out, rest = out + re.escape(rest[0]), rest[1:]
    return out
