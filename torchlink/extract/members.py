"""Which members of a wheel belong in a libtorch, and where: the layout of upstream's zips.

Upstream's own script (`.ci/manywheel/build_libtorch.sh`) puts a wheel's `include`, `lib` and `share` side by side,
every other library that is needed into the same `lib`, with the search path `$ORIGIN`, and the version and the commit
into two text files.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, NamedTuple

from torchlink.errors import MalformedFileError
from torchlink.libtorch.companions import NOT_LINKED
from torchlink.libtorch.libraries import BUNDLED
from torchlink.libtorch.names import PYTHON_ONLY, library_name
from torchlink.libtorch.version import EXTRACTED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from zipfile import ZipFile, ZipInfo

    from torchlink.libtorch.layout import Layout


SHM_MANAGER = "torch_shm_manager"  # the program that libshm starts
LICENCE = re.compile(r"(licen[cs]e|notice|copying)", re.IGNORECASE)
COMMIT = re.compile(r"^git_version\s*(?::[^=]*)?=\s*['\"]([0-9a-f]{7,64})['\"]", re.MULTILINE)
SYMLINK = 0o120000  # the file type in a Unix mode


class ArchiveMember(NamedTuple):
    """A member of an archive and where it goes."""

    member: ZipInfo
    target: str  # relative to the new directory, `/` between its parts


class Choice(NamedTuple):
    """What is extracted from a wheel."""

    items: tuple[ArchiveMember, ...]
    texts: Mapping[str, str]  # file name -> content, of files that the wheel has in another form
    left_out: tuple[str, ...]  # file names of libraries


def choose(layout: Layout, archive: ZipFile, version: str | None, *, python_libs: bool) -> Choice:
    """Choose members of a torch wheel (or a libtorch zip).

    Args:
        layout: where its parts are.
        archive: the same file.
        version: for `build-version`.
        python_libs: include the libraries that only Python uses.

    Raises:
        MalformedFileError: a member's name leads out of the archive, or a member is a link.
    """
    items: list[ArchiveMember] = []
    left_out: list[str] = []
    inside = getattr(layout.tree, "inside", "")
    homes = {
        _inside(inside, layout.library_dir): "lib",
        _inside(inside, BUNDLED): "lib",  # everything that libtorch needs is in one directory
    }
    trees = {_inside(inside, layout.include): "include", _inside(inside, "share"): "share"}
    for member in files(archive):
        directory, _, name = member.filename.rpartition("/")
        if directory in homes:
            if not python_libs and is_left_out(name):
                left_out.append(name)
            else:
                items.append(ArchiveMember(member, f"{homes[directory]}/{name}"))
        elif python_libs and directory == _inside(inside, "bin") and name == SHM_MANAGER:
            items.append(ArchiveMember(member, f"bin/{name}"))
        else:
            items += (
                ArchiveMember(member, f"{target}/{member.filename[len(source) + 1 :]}")
                for source, target in trees.items()
                if member.filename.startswith(f"{source}/")
            )
    items += licences(archive)
    return Choice(tuple(items), build_texts(layout, version), tuple(sorted(left_out)))


def is_left_out(file: str) -> bool:
    """Whether a library is not for linking: only Python or torch's tests use it."""
    bare = library_name(file)
    return bare is not None and bare in PYTHON_ONLY | NOT_LINKED


def files(archive: ZipFile) -> Iterator[ZipInfo]:
    """Yield the members that are files.

    Raises:
        MalformedFileError: a name leads out of the archive, or a member is a symbolic link.
    """
    for member in archive.infolist():
        name = member.filename
        if name.startswith("/") or ".." in name.split("/") or "\\" in name:
            raise MalformedFileError(
                f"{archive.filename}: unsafe member name: {name!r} points outside the archive.",
                hint="Do not use this file.",
            )
        if (member.external_attr >> 16) & 0o170000 == SYMLINK:
            raise MalformedFileError(
                f"{archive.filename}: member {name!r} is a symbolic link, which wheels do not have.",
                hint="Unpack it with unzip and name the directory with --libtorch.",
            )
        if not member.is_dir():
            yield member


def licences(archive: ZipFile) -> list[ArchiveMember]:
    """Return the licence texts next to a wheel's metadata, for `share/licenses/<distribution>/`."""
    found = []
    for member in files(archive):
        top, _, rest = member.filename.partition("/")
        if top.endswith(".dist-info") and (rest.startswith("licenses/") or LICENCE.match(rest)):
            distribution = top.removesuffix(".dist-info").partition("-")[0]
            found.append(
                ArchiveMember(member, f"share/licenses/{distribution}/{rest.removeprefix('licenses/')}")
            )
    return found


def build_texts(layout: Layout, version: str | None) -> dict[str, str]:
    """Return `build-version` with the local tag and `build-hash`, as in upstream's zips, and a copy of version.py."""
    texts = {}
    if version:
        texts["build-version"] = f"{version}\n"
    commit = COMMIT.search(layout.tree.text("version.py") or "")
    packed = layout.tree.text("build-hash")
    if commit or packed:
        texts["build-hash"] = f"{commit[1]}\n" if commit else str(packed)
    version_py = layout.tree.text("version.py")
    if version_py:  # the only file with an accelerator's full version, such as CUDA 9.0.176
        texts[EXTRACTED] = version_py
    return texts


def total(items: Iterable[ArchiveMember]) -> int:
    """Return the unpacked size in bytes."""
    return sum(item.member.file_size for item in items)


def _inside(root: str, name: str) -> str:
    joined = posixpath.normpath(posixpath.join(root, name))
    return "" if joined == "." else joined
