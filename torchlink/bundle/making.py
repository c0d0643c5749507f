"""Resolving the finished bundle as the loader will: from the new place, everything must come from there.

`torchlink bundle` as a function: plan, fill a directory beside the place, check, rename, lint.
"""

from __future__ import annotations

import json
import os
import posixpath
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from torchlink.atomic import SILENT, Progress, check_space, publish, unwritable, workspace
from torchlink.binary.loader import resolve
from torchlink.binary.system import system_for
from torchlink.bundle.contents import BundlePlan, BundleReport
from torchlink.bundle.manifest import MANIFEST, names_of, to_dict
from torchlink.bundle.options import BundleOptions
from torchlink.bundle.planning import make_plan, policy_of, portable
from torchlink.bundle.writing import write_licences, write_parts
from torchlink.errors import BundleFailedError, ToolMissingError, WouldOverwriteError
from torchlink.lint.linting import lint
from torchlink.toolchain.tools import find_patchelf

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlink.binary.closure import Closure
    from torchlink.binary.tree import Root
    from torchlink.bundle.policy import Policy


def check(root: Path, plan: BundlePlan, policy: Policy, tree: Root | None = None) -> None:
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


SPARE = 64 << 20  # bytes for licences, and for what patchelf adds to a file


def bundle(
    binary: Path,
    directory: Path,
    options: BundleOptions | None = None,
    *,
    force: bool = False,
    dry: bool = False,
    progress: Progress = SILENT,
) -> BundleReport:
    """Make a directory that holds a binary with all the libraries that it needs, and runs from anywhere.

    The directory appears whole or not at all.

    Args:
        binary: a program or shared library; it is read, never run.
        directory: where to; made where it is missing.
        options: what the user wants of it.
        force: replace a bundle that was made there before.
        dry: only say what would be done.
        progress: told how far it is.

    Raises:
        FileError: a file cannot be read, the directory not be written, the disk is too small.
        MalformedFileError: the binary is no ELF file.
        BundleFailedError: a library is missing, or a changed copy is broken.
        WouldOverwriteError: something stands in the way.
        ToolMissingError: a search path must be changed, and patchelf is missing.
        UsageError: the binary's name cannot be that of a bundle's.
    """
    options = options or BundleOptions()
    plan = make_plan(binary, options)
    target = Path(os.path.realpath(directory))  # of a link, what it leads to
    check_target(target, force=force)
    if dry:
        return BundleReport(directory, foreseen(plan), {}, {}, (), None)
    patchelf = find_patchelf(why_patched(plan)) if plan.patched else None
    check_space(target.parent, plan.size + SPARE)
    progress.expect(plan.size)
    with workspace(target) as work:
        root = work / "bundle"
        root.mkdir()
        written = write_parts(root, plan, patchelf, progress.advance)
        check(root, plan, policy_of(options), options.tree)
        licences, unlicensed = write_licences(root, plan)
        manifest = root / MANIFEST
        try:
            text = json.dumps(to_dict(plan, written, licences), indent=1)
            manifest.write_text(f"{text}\n", encoding="utf-8")
        except OSError as error:
            raise unwritable(manifest, error) from error
        publish(root, target)
    return BundleReport(
        directory, plan, written, licences, unlicensed, lint((directory,), root=options.sysroot)
    )


def check_target(directory: Path, *, force: bool) -> None:
    """See whether a bundle may be put at `directory`.

    Raises:
        WouldOverwriteError: something stands there, and without `force`, or something else than a bundle.
        FileError: it cannot be looked at.
    """
    try:
        if not directory.is_dir():
            if os.path.lexists(directory):
                raise WouldOverwriteError(
                    f"{directory} is a file; nothing was written.", hint="Name another place."
                )
            return
        there = sorted(path.name for path in directory.iterdir())
    except OSError as error:
        raise unwritable(directory, error) from error
    if not there:
        return
    if not force:
        raise WouldOverwriteError(
            f"{directory} is not empty; nothing was written.",
            hint="Name another directory, or give --force to replace a bundle that was made there before.",
        )
    known = names_of(directory)
    others = [name for name in there if known is None or name not in known]
    if others:
        what = "is no bundle of torchlink's" if known is None else "holds more than a bundle"
        raise WouldOverwriteError(
            f"{directory} {what}, and --force would delete {', '.join(others[:3])}; nothing was written.",
            hint="Name a directory of its own.",
        )


def foreseen(plan: BundlePlan) -> BundlePlan:
    """A plan that is only shown, with a note where it could not be carried out."""
    if not plan.patched:
        return plan
    try:
        find_patchelf(why_patched(plan))
    except ToolMissingError as error:
        return replace(plan, notes=(*plan.notes, f"{error.message} {error.hint}"))
    return plan


def why_patched(plan: BundlePlan) -> str:
    """The rest of a sentence about what needs patchelf."""
    first, *others = (part.source.name for part in plan.patched)
    return f"to change the search path of {first}" + (f" and {len(others)} more" if others else "")
