"""Resolving the finished bundle as the loader will: from the new place, everything must come from there."""

from __future__ import annotations

import os
import posixpath
from typing import TYPE_CHECKING

from torchlink.binary.loader import resolve
from torchlink.binary.system import system_for
from torchlink.bundle.planning import portable
from torchlink.errors import BundleFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torchlink.binary.closure import Closure
    from torchlink.binary.tree import Tree
    from torchlink.bundle.facts import BundlePlan
    from torchlink.bundle.policy import Policy


def check(root: Path, plan: BundlePlan, policy: Policy, tree: Tree | None = None) -> None:
    """See that the bundle below `root` is whole.

    What is opened by name is loaded as if it were preloaded: with the program's search path behind its own,
    as `dlopen` does. `tree` is the files as the binary finds them.

    Raises:
        BundleFailedError: a library would be missing, or come from elsewhere.
    """
    from torchlink.binary.elf import ElfFile

    binary = root / plan.binary.path
    with ElfFile.open(binary) as elf:
        system = portable(system_for(elf, tree=tree))
    opened = tuple(str(root / part.path) for part in plan.libraries if part.why and part.why.kind != "needed")
    closure = resolve(binary, system=system._replace(preload=opened), secure=False)
    faults = list(dict.fromkeys(faults_of(closure, root, plan, policy)))
    if faults:
        raise BundleFailedError(
            f"The bundle of {plan.binary.path} would not hold in another place; nothing was written.",
            hint="This is a fault of torchlink itself; please report it.",
            details=tuple(faults),
        )


def faults_of(closure: Closure, root: Path, plan: BundlePlan, policy: Policy) -> Iterator[str]:
    """What is not as planned, as sentences."""
    inside = f"{os.path.realpath(root)}/"
    provided = {
        name: os.path.realpath(root / part.path)
        for part in plan.libraries
        for name in (posixpath.basename(part.path), *part.links)
    }
    ours = {each.path for each in closure.objects if os.path.realpath(each.file).startswith(inside)}
    for edge in closure.edges:
        name = posixpath.basename(edge.name)
        asks = posixpath.basename(edge.needed_by)
        if edge.needed_by not in ours:
            continue
        served = closure.object(edge.path) if edge.path else None
        if name in provided:
            if served is None or os.path.realpath(served.file) != provided[name]:
                yield f"{asks} finds {served.path if served else 'no'} {name} instead of the bundle's."
        elif served is None and edge.missing and policy.reason(name) is None:
            yield f"{asks} does not find {name}."
        elif (
            served is not None
            and served.path not in ours
            and not policy.reason(name, served.elf.dynamic.soname)
        ):
            yield f"{asks} finds {name} outside the bundle, at {served.path}."
    loaded = {os.path.realpath(each.file) for each in closure.objects}
    for name, file in provided.items():
        if file not in loaded:
            yield f"{name} is in the bundle and nothing loads it."
