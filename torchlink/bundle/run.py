"""`torchlink bundle` as a function: plan, fill a directory beside the place, check, rename, lint."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

from torchlink.atomic import SILENT, Progress, check_space, publish, unwritable, workspace
from torchlink.bundle.checking import check
from torchlink.bundle.facts import BundlePlan, BundleReport
from torchlink.bundle.manifest import MANIFEST, names_of, to_dict
from torchlink.bundle.options import BundleOptions
from torchlink.bundle.planning import make_plan, policy_of
from torchlink.bundle.writing import write_licences, write_parts
from torchlink.errors import ToolMissingError, WouldOverwriteError
from torchlink.lint.run import lint
from torchlink.toolchain.patchelf import find_patchelf

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
