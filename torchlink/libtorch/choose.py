"""Choosing a libtorch: the first usable candidate; the rejected ones keep their reason."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from torchlink.errors import LibtorchNotFoundError, LibtorchUnusableError, UsageError
from torchlink.libtorch.facts import Candidate, Libtorch, Search
from torchlink.libtorch.inspect import NAME_ANOTHER, inspect_layout
from torchlink.libtorch.layout import NOTHING, NoLibtorch
from torchlink.libtorch.machine import Machine, this_machine
from torchlink.libtorch.places import FRONT_END, NAMED, Place, named_places, places
from torchlink.libtorch.resolve import resolve

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def choose(libtorch: Path | None = None, python: str | None = None) -> Libtorch:
    """Return the libtorch to use.

    Args:
        libtorch: what `--libtorch` named: a root, a lib directory, a directory around one, a wheel or zip.
        python: what `--python` named: an interpreter or its name on PATH.

    Raises:
        LibtorchNotFoundError: nothing usable; `details` lists where torchlink looked.
        LibtorchUnusableError: the one that was named is not usable.
        ToolMissingError: no such interpreter.
        UsageError: both are given.
    """
    if libtorch is not None and python is not None:
        raise UsageError(
            f"--libtorch {libtorch} and --python {python} each name a libtorch, and only one can be used.",
            hint="Use only one of them; `torchlink find --all` accepts both and shows what they are.",
        )
    found = search(() if libtorch is None else (libtorch,), python)
    if found.chosen is not None:
        return found.chosen
    raise failure(found)


def search(libtorch: Sequence[Path] = (), python: str | None = None, *, everything: bool = False) -> Search:
    """Look for libtorchs in the documented order (docs/find.md).

    Args:
        libtorch: places named by the user; only these are looked at, whatever machine they are for.
        python: an interpreter; only its torch is looked at.
        everything: continue after the first usable one.

    Raises:
        ToolMissingError: no such interpreter.
    """
    chosen: Libtorch | None = None
    stopped = False  # the one that the user named is broken: the others are only listed
    candidates: list[Candidate] = []
    seen: set[str] = set()
    here = this_machine()
    for place in named_places(libtorch, python) if libtorch or python else places():
        stopped = stopped or (bool(candidates) and was_requested(candidates[-1], place))
        if stopped and not everything:
            break
        candidate = examine(place, here)
        if candidate is None:
            continue
        root = str(candidate.libtorch.root if candidate.libtorch else candidate.path)
        real = os.path.realpath(root)
        if real in seen:
            continue
        seen.add(real)
        candidates.append(candidate)
        chosen = chosen or (None if stopped else candidate.libtorch)
        if chosen is not None and not everything:
            break
    return Search(chosen, tuple(candidates))


def was_requested(rejected: Candidate, following: Place) -> bool:
    """Whether the user named the rejected one, so that no place of another kind may replace it."""
    return rejected.found_by in NAMED and rejected.found_by != following.found_by


def examine(place: Place, here: Machine) -> Candidate | None:
    """Check one place; None if there is nothing and nothing was expected."""
    if place.absent is not None:
        return Candidate(place.path, place.found_by, None, place.absent)
    found = resolve(place.path)
    if isinstance(found, NoLibtorch) and found.libraries and place.found_by == "--libtorch":
        found = found.libraries  # a lib directory without headers was named: use what its files contain
    if isinstance(found, NoLibtorch):
        if found.nearness == NOTHING and not place.expected:
            return None
        return Candidate(place.path, place.found_by, None, found.reason)
    root = found.tree.root
    try:
        libtorch = inspect_layout(found, place.found_by)
    except LibtorchUnusableError as error:
        reason = error.message.removeprefix(f"{root} is not a usable libtorch: ").rstrip(".")
        return Candidate(root, place.found_by, None, reason)
    built_for = Machine(libtorch.platform, libtorch.arch)
    if built_for != here and place.found_by != "--libtorch":
        reason = f"built for {built_for}, and this is {here}; name it with --libtorch to look at it"
        return Candidate(root, place.found_by, None, reason)
    return Candidate(root, place.found_by, libtorch, None)


def failure(found: Search) -> LibtorchNotFoundError | LibtorchUnusableError:
    """Return the error for a search that chose nothing."""
    requested = next((each for each in reversed(found.candidates) if each.found_by in NAMED), None)
    if requested is not None and requested.found_by == f"--python {FRONT_END}":
        return LibtorchNotFoundError(
            f"No libtorch to build for: {requested.path}: {requested.rejected}.",
            hint="Install torch for this interpreter before you build the package, or set TORCHLINK_LIBTORCH to the "
            "directory of a libtorch.",
        )
    if requested is not None:
        return LibtorchUnusableError(
            f"{requested.path} ({requested.found_by}) is not a usable libtorch: {requested.rejected}.",
            hint=NAME_ANOTHER,
        )
    from torchlink.libtorch.places import searched

    return LibtorchNotFoundError(
        "No working libtorch was found.",
        hint="Install one (`pip install torch`, or unpack a libtorch zip) or name one with --libtorch PATH.",
        details=(
            *(
                f"{candidate.found_by}: {candidate.path}: {candidate.rejected}"
                for candidate in found.candidates
            ),
            *searched(),
        ),
    )
