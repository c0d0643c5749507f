"""What a libtorch is, as the JSON contract's object."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torchlink.libtorch.facts import Libtorch


def libtorch_to_json(libtorch: Libtorch) -> dict[str, object]:
    """The `libtorch` object of every report: plain values, paths as strings."""
    from torchlink.libtorch.floor import shortfall

    short = shortfall(libtorch)
    return {
        "root": str(libtorch.root),
        "version": libtorch.version,
        "version_from": libtorch.version_from,
        "found_by": libtorch.found_by,
        "layout": libtorch.layout,
        "packed": libtorch.packed,
        "platform": libtorch.platform,
        "arch": libtorch.arch,
        "cxx11_abi": libtorch.cxx11_abi,
        "cxx11_abi_from": libtorch.cxx11_abi_from,
        "cxx_standard": libtorch.cxx_standard,
        "cxx_standard_required": libtorch.cxx_standard_required,
        "cxx_standard_from": libtorch.cxx_standard_from,
        "include_dirs": [str(path) for path in libtorch.include_dirs],
        "library_dir": str(libtorch.library_dir),
        "libraries": list(libtorch.libraries),
        "accelerator": libtorch.accelerator,
        "accelerator_version": libtorch.accelerator_version,
        "search_kind": libtorch.search_kind,
        "search_path": list(libtorch.search_path),
        "companion_dirs": [str(companion.path) for companion in libtorch.companion_dirs],
        "layout_intact": libtorch.layout_intact,
        "missing_libraries": [
            {"name": missing.name, "needed_by": missing.needed_by, "package": missing.package}
            for missing in libtorch.missing_libraries
        ],
        "python": None if libtorch.python is None else str(libtorch.python),
        "conflicts": list(libtorch.conflicts),
        "needs_newer_system": None if short is None else short.message,
    }
