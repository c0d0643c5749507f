"""Which libtorch is taken: the first usable candidate, every other one kept with its reason."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from torchlink.errors import LibtorchNotFoundError, LibtorchUnusableError, UsageError
from torchlink.libtorch.facts import Candidate, Libtorch, Search
from torchlink.libtorch.inspect import NAME_ANOTHER, inspect_layout
from torchlink.libtorch.layout import NOTHING, NoLibtorch
from torchlink.libtorch.machine import Machine, this_machine
from torchlink.libtorch.places import NAMED, Place, named_places, places
from torchlink.libtorch.resolve import resolve

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def choose(libtorch: Path | None = None, python: str | None = None) -> Libtorch:
    """The libtorch that is taken.

    Args:
        libtorch: what `--libtorch` named: a root, a lib directory, a directory around one, a wheel or zip.
        python: what `--python` named: an interpreter or its name on PATH.

    Raises:
        LibtorchNotFoundError: nothing usable; `details` lists where torchlink looked.
        LibtorchUnusableError: the one that was named cannot serve.
        ToolMissingError: there is no such interpreter.
        UsageError: both are named, and only one can be taken.
    """
    if libtorch is not None and python is not None:
        raise UsageError(
            f"--libtorch {libtorch} and --python {python} each name a libtorch, and one is taken.",
            hint="Use only one of them; `torchlink find --all` takes both and shows what they are.",
        )
    found = search(() if libtorch is None else (libtorch,), python)
    if found.chosen is not None:
        return found.chosen
    raise failure(found)


def search(libtorch: Sequence[Path] = (), python: str | None = None, *, everything: bool = False) -> Search:
    """Look for libtorchs in the design's order.

    Args:
        libtorch: places named by the user; only these are looked at, whatever machine they are for.
        python: an interpreter; only its torch is looked at.
        everything: go on after the first usable one.

    Raises:
        ToolMissingError: there is no such interpreter.
    """
    chosen: Libtorch | None = None
    barred = False  # one that was meant is broken: the rest is listed at most
    candidates: list[Candidate] = []
    seen: set[str] = set()
    here = this_machine()
    for place in named_places(libtorch, python) if libtorch or python else places():
        barred = barred or (bool(candidates) and was_meant(candidates[-1], place))
        if barred and not everything:
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
        chosen = chosen or (None if barred else candidate.libtorch)
        if chosen is not None and not everything:
            break
    return Search(chosen, tuple(candidates))


def was_meant(rejected: Candidate, following: Place) -> bool:
    """Whether the rejected one was named by the user, so that no place of another kind may stand in for it."""
    return rejected.found_by in NAMED and rejected.found_by != following.found_by


def examine(place: Place, here: Machine) -> Candidate | None:
    """Check one place; None where there is nothing and nobody said that there would be."""
    if place.absent is not None:
        return Candidate(place.path, place.found_by, None, place.absent)
    found = resolve(place.path)
    if isinstance(found, NoLibtorch) and found.libraries and place.found_by == "--libtorch":
        found = found.libraries  # who names a lib directory gets what its files tell
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
    """The error for a search that took nothing."""
    meant = next((each for each in reversed(found.candidates) if each.found_by in NAMED), None)
    if meant is not None:
        return LibtorchUnusableError(
            f"{meant.path} ({meant.found_by}) is not a usable libtorch: {meant.rejected}.",
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
