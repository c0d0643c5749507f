"""What a libtorch is: every fact, put together from its own files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.errors import FileError, LibtorchUnusableError, MalformedFileError
from torchlink.libtorch.abi import read_abi
from torchlink.libtorch.accelerator import read_accelerator
from torchlink.libtorch.companions import read_companions
from torchlink.libtorch.environment import environment_around, known_sites
from torchlink.libtorch.facts import Libtorch
from torchlink.libtorch.layout import NO_HEADERS, Layout, NoLibtorch
from torchlink.libtorch.libraries import incomplete, library_names, odd_names
from torchlink.libtorch.machine import machine_of
from torchlink.libtorch.resolve import resolve
from torchlink.libtorch.same_build import other_builds
from torchlink.libtorch.standard import read_standard
from torchlink.libtorch.version import read_version
from torchlink.libtorch.version_py import read_version_py

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

NAME_ANOTHER = (
    "Name a directory with include/ and lib/, a wheel or a zip; `torchlink find --all` lists what is here."
)
EXTRA_INCLUDE = "torch/csrc/api/include"  # where torch/torch.h and the rest of the C++ frontend are


def inspect(path: Path, found_by: str, *, alone: bool = False) -> Libtorch:
    """Read what the libtorch at `path` is; it need not be this machine's.

    Args:
        path: what `resolve` understands: a root, its lib, a directory around it, a wheel or zip.
        found_by: how it was come by, for the report.
        alone: what this machine has beside it does not count, because it is meant for another one.

    Raises:
        LibtorchUnusableError: there is no libtorch, half of one, or a damaged one.
    """
    found = resolve(path)
    if isinstance(found, NoLibtorch):
        raise LibtorchUnusableError(
            f"{path} is not a usable libtorch: {found.reason}.",
            hint=NAME_ANOTHER,
        )
    return inspect_layout(found, found_by, alone=alone)


def inspect_layout(layout: Layout, found_by: str, *, alone: bool = False) -> Libtorch:
    """Read what the libtorch of a known layout is.

    Raises:
        LibtorchUnusableError: half of it is missing, or its core is damaged.
    """
    root = layout.tree.root
    try:
        lacking = incomplete(layout)
        if lacking:
            raise LibtorchUnusableError(
                f"{root} is not a usable libtorch: {lacking}.", hint="Install it again."
            )
        return read_facts(layout, found_by, alone=alone)
    except (FileError, MalformedFileError) as error:
        raise LibtorchUnusableError(
            f"{root} is not a usable libtorch: {error.message}", hint="Install it again."
        ) from error


def read_facts(layout: Layout, found_by: str, *, alone: bool = False) -> Libtorch:
    """Ask every reader of one fact."""
    tree = layout.tree
    machine = machine_of(layout)
    version_py = read_version_py(layout)
    version = read_version(layout, version_py)
    accelerator = read_accelerator(layout, version_py, version.text)
    abi = read_abi(layout, machine.platform)
    standard = read_standard(layout, version.text)
    libraries = library_names(layout)
    environment = None if tree.packed else environment_around(tree.root)

    def sites() -> Iterable[Path]:
        return known_sites(environment)

    cuda = accelerator.version if accelerator.name == "cuda" else None
    companions = read_companions(layout, libraries, cuda, sites, alone=alone)
    extra = f"{layout.include}/{EXTRA_INCLUDE}"
    has_headers = tree.is_dir(layout.include)
    lacking = () if has_headers else (f"{NO_HEADERS}, so programs can be linked but not compiled",)
    libtorch = Libtorch(
        root=tree.root,
        packed=tree.packed,
        layout=layout.kind,
        found_by=found_by,
        version=version.text,
        version_from=version.source,
        platform=machine.platform,
        arch=machine.arch,
        cxx11_abi=abi.value,
        cxx11_abi_from=abi.evidence,
        cxx_standard_required=standard.required,
        cxx_standard=standard.preferred,
        cxx_standard_from=standard.evidence,
        include_dirs=tuple(tree.path(name) for name in (layout.include, extra) if tree.is_dir(name)),
        library_dir=tree.path(layout.library_dir),
        libraries=libraries,
        accelerator=accelerator.name,
        accelerator_version=accelerator.version,
        search_kind=companions.search_kind,
        search_path=companions.search_path,
        companion_dirs=companions.dirs,
        missing_libraries=companions.missing,
        python=environment.python if environment else None,
        conflicts=(
            *lacking,
            *odd_names(layout),
            *version.conflicts,
            *accelerator.conflicts,
            *abi.conflicts,
            *other_builds(layout),
            *companions.conflicts,
        ),
    )
    if accelerator.conflicts and libtorch.version and "+" in libtorch.version:
        # The local tag came from the same file that is wrong about the accelerator.
        libtorch = libtorch._replace(version=libtorch.version.partition("+")[0])
    return libtorch
