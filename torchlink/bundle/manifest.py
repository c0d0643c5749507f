"""`manifest.json`: the contents of a bundle, their origin, and hashes to check that they are unchanged."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from torchlink import __version__
from torchlink.bounds import LONGEST_JSON, load_json, read_whole
from torchlink.bundle.placement import LIBRARIES
from torchlink.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torchlink.bundle.contents import BundlePlan, Part, Written

SCHEMA = 1
MANIFEST = "manifest.json"
LICENCES = "licenses"
OWN_NAMES = frozenset({LIBRARIES, LICENCES, MANIFEST})
TOOL = "torchlink bundle"


def to_dict(
    plan: BundlePlan, written: Mapping[str, Written], licences: Mapping[str, tuple[str, ...]]
) -> dict[str, object]:
    """Return the manifest. It contains no path of this machine, and two runs over the same files produce the same one.

    Args:
        plan: what was planned.
        written: what was written, by path; without an entry (a dry run) a file has no hash.
        licences: package -> paths below `licenses`.
    """
    return {
        "schema": SCHEMA,
        "tool": f"{TOOL} {__version__}",
        "binary": plan.binary.path,
        "library_dir": plan.library_dir,
        "machine": plan.machine,
        "needs": {floor.library: floor.version for floor in plan.floors},
        "files": [entry(part, written.get(part.path)) for part in plan.parts],
        "left_out": [
            {"name": each.name, "needed_by": each.by, "reason": each.reason} for each in plan.left_out
        ],
        "licenses": {package: list(paths) for package, paths in sorted(licences.items())},
    }


def entry(part: Part, written: Written | None) -> dict[str, object]:
    """Return the entry of one file."""
    why = {"kind": part.why.kind, "by": part.why.by, "note": part.why.note} if part.why else None
    return {
        "path": part.path,
        "sha256": written.sha256 if written else None,
        "size": written.size if written else part.size,
        "soname": part.soname,
        "links": [posixpath.join(posixpath.dirname(part.path), link) for link in part.links],
        "at_start": part.at_start,
        "why": why,
        "package": {"kind": part.owner.kind, "name": part.owner.name, "version": part.owner.version}
        if part.owner
        else None,
        "source": part.owner.path if part.owner else part.source.name,
        "source_sha256": written.source_sha256 if written else None,
        "patched": patched(part),
    }


def patched(part: Part) -> dict[str, object] | None:
    """Return what was rewritten in a file; None: nothing."""
    if part.patch is None:
        return None
    return {
        "search_path": None if part.patch.search_path is None else ":".join(part.patch.search_path),
        "kind": part.patch.kind,
        "needed": dict(part.patch.needed),
    }


def names_of(directory: Path) -> frozenset[str] | None:
    """Return the names at the top of a bundle, from its manifest; None: it is not a bundle made by torchlink."""
    try:
        manifest = load_json(read_whole(directory / MANIFEST, LONGEST_JSON))
        if str(manifest["tool"]).startswith(TOOL):
            return OWN_NAMES | {str(manifest["binary"])}
    except (OSError, FileError, ValueError, KeyError, TypeError):
        pass
    return None
