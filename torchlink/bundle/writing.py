"""Filling a bundle's directory: copies, links and licences."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
from typing import TYPE_CHECKING

from torchlink.atomic import unwritable
from torchlink.bundle import patching
from torchlink.bundle.facts import Written
from torchlink.bundle.manifest import LICENCES
from torchlink.bundle.owners import licences_above
from torchlink.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torchlink.bundle.facts import BundlePlan, Part

PIECE = 4 << 20  # bytes
UNSAFE = re.compile(r"[^\w.+~@-]")  # what a package's name may hold and a directory's should not


def write_parts(
    root: Path, plan: BundlePlan, patchelf: Path | None, advance: Callable[[int], None]
) -> dict[str, Written]:
    """Copy every part below `root`, patch those that must be, and make the links.

    Args:
        root: an empty directory.
        plan: what to write.
        patchelf: the program; None where nothing is patched.
        advance: called with the number of bytes after every piece.

    Raises:
        FileError: a file cannot be read or written, or patchelf refuses it.
        BundleFailedError: patchelf broke a copy.
    """
    written = {}
    for part in plan.parts:
        target = root / part.path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            source_hash = copy(part, target, executable=part is plan.binary, advance=advance)
            for link in part.links:
                target.with_name(link).symlink_to(target.name)
        except OSError as error:
            raise unwritable(target, error) from error
        final_hash = source_hash
        if part.patch and patchelf:
            patching.apply(patchelf, target, part, part.patch)
            final_hash = sha256_of(target)
        written[part.path] = Written(final_hash, target.stat().st_size, source_hash)
    return written


def copy(part: Part, target: Path, *, executable: bool, advance: Callable[[int], None]) -> str:
    """Copy one file piece by piece, with its times, and return the SHA-256 of what was read.

    Raises:
        FileError: the source cannot be read, or changed meanwhile.
        OSError: the target cannot be written.
    """
    digest = hashlib.sha256()
    size = 0
    try:
        source = part.source.open("rb")
    except OSError as error:
        raise FileError(f"Cannot read {part.source}: {error.strerror}.") from error
    with source, target.open("xb") as file:
        status = os.fstat(source.fileno())
        while piece := source.read(PIECE):
            digest.update(piece)
            file.write(piece)
            size += len(piece)
            advance(len(piece))
    if size != part.size:
        raise FileError(f"{part.source} changed while it was copied.", hint="Run it again.")
    # Readable by all and writable by its owner; set-uid bits are not carried along.
    plain = 0o755 if executable or status.st_mode & stat.S_IXUSR else 0o644
    target.chmod(plain)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
    return digest.hexdigest()


def write_licences(root: Path, plan: BundlePlan) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Copy the licence texts of every package below `root/licenses`, each package once.

    Returns package (or library, where no package is known) -> paths below `licenses`, and the names of the
    libraries that have none.

    Raises:
        FileError: one cannot be written.
    """
    found: dict[str, tuple[str, ...]] = {}
    without = []
    for part in plan.libraries:
        texts = part.owner.licences if part.owner else licences_above(part.source)
        if not texts:
            without.append(part.source.name)
            continue
        directory = UNSAFE.sub("_", part.owner.name if part.owner else part.source.name)
        if directory in found:
            continue
        try:
            for relative, text in texts:
                target = root / LICENCES / directory / relative
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(text, target)
        except OSError as error:
            raise unwritable(root / LICENCES, error) from error
        found[directory] = tuple(f"{directory}/{relative}" for relative, _ in texts)
    return found, tuple(without)


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while piece := stream.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()
