"""`torchlink bundle` as a function: plan, fill a directory next to the target, check it, rename it, lint it.

The check resolves the finished bundle as the loader will: every bundled library must be found inside it.
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

SPARE = 64 << 20  # bytes for licences, and for what patchelf adds to a file


def check(root: Path, plan: BundlePlan, policy: Policy, tree: Root | None = None) -> None:
    """Check that the bundle below `root` is complete.

    Libraries that are opened at run time are treated as preloaded: with the program's search path after their own, as
    `dlopen` does. `tree` is the file system as the binary sees it.

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
            f"The bundle of {plan.binary.path} would not work in another directory; nothing was written.",
            hint="This is a bug in torchlink; please report it.",
            details=tuple(faults),
        )


def faults_of(closure: Closure, root: Path, plan: BundlePlan, policy: Policy) -> Iterator[str]:
    """Yield a sentence for everything that is not as planned."""
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
            yield f"{name} is in the bundle, but nothing loads it."


def bundle(
    binary: Path,
    directory: Path,
    options: BundleOptions | None = None,
    *,
    force: bool = False,
    dry: bool = False,
    progress: Progress = SILENT,
) -> BundleReport:
    """Make a directory with a binary and all the libraries that it needs, which runs from anywhere.

    The directory appears complete or not at all.

    Args:
        binary: a program or shared library; it is read, never run.
        directory: the target; created if missing.
        options: the user's choices.
        force: replace a bundle that was made there before.
        dry: only report what would be done.
        progress: is called with the bytes written.

    Raises:
        FileError: a file cannot be read, the directory cannot be written, or the disk is too small.
        MalformedFileError: the binary is not an ELF file.
        BundleFailedError: a library is missing, or a changed copy is broken.
        WouldOverwriteError: something else is at the target.
        ToolMissingError: a search path must be changed, and patchelf is missing.
        UsageError: the binary's name is reserved in a bundle.
    """
    options = options or BundleOptions()
    plan = make_plan(binary, options)
    target = Path(os.path.realpath(directory))  # a link's target
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
    """Check that a bundle may be put at `directory`.

    Raises:
        WouldOverwriteError: it is not empty, and `force` is off or it is not a bundle.
        FileError: it cannot be read.
    """
    try:
        if not directory.is_dir():
            if os.path.lexists(directory):
                raise WouldOverwriteError(
                    f"{directory} is a file; nothing was written.", hint="Name another directory."
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
        what = "is not a bundle made by torchlink" if known is None else "contains more than a bundle"
        raise WouldOverwriteError(
            f"{directory} {what}, and --force would delete {', '.join(others[:3])}; nothing was written.",
            hint="Name a directory for the bundle alone.",
        )


def foreseen(plan: BundlePlan) -> BundlePlan:
    """Return the plan of a dry run, with a note where it could not be carried out."""
    if not plan.patched:
        return plan
    try:
        find_patchelf(why_patched(plan))
    except ToolMissingError as error:
        return replace(plan, notes=(*plan.notes, f"{error.message} {error.hint}"))
    return plan


def why_patched(plan: BundlePlan) -> str:
    """Return what patchelf is needed for, as the end of a sentence."""
    first, *others = (part.source.name for part in plan.patched)
    return f"to change the search path of {first}" + (f" and {len(others)} more" if others else "")
