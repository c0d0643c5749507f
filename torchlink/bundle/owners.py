"""Which package a file belongs to, from the file lists of pip, conda and Debian."""

from __future__ import annotations

import re
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from torchlink.bounds import load_json
from torchlink.bundle.contents import Owner
from torchlink.libtorch.disk import names_in, read_text
from torchlink.status import is_dir, is_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LICENCE = re.compile(r"(licen[cs]e|copying|notice|eula|third.?party)", re.IGNORECASE)
DPKG = Path("/var/lib/dpkg")
COPYRIGHTS = Path("/usr/share/doc")
NAME = re.compile(r"^Name:\s*(\S+)", re.MULTILINE)
VERSION = re.compile(r"^Version:\s*(\S+)", re.MULTILINE)
DEEPEST = 12  # levels above a library at which a package's file list is looked for
TEXTS = ("", ".txt", ".md", ".rst", ".html", ".pdf")
LARGEST_TEXT = 32 << 20  # bytes: a licence is smaller
NOT_SEARCHED = ("/", "/usr", "/usr/lib", "/usr/local", "/usr/local/lib", "/lib", "/opt", "/home", "/root")


class Owners:
    """Finds the owners of files; reads each file list once.

    Args:
        dpkg: Debian's package database.
        copyrights: the directory with the copyright files of Debian's packages.
    """

    def __init__(self, dpkg: Path = DPKG, copyrights: Path = COPYRIGHTS) -> None:
        self._dpkg = dpkg
        self._copyrights = copyrights

    def of(self, file: Path) -> Owner | None:
        """Return the package that installed a file (given its real path), or None if no list contains it."""
        for parent in list(file.parents)[:DEEPEST]:
            relative = str(file.relative_to(parent))
            owner = wheel_owner(parent, relative) or conda_owner(parent, relative)
            if owner is not None:
                return owner
        return self._deb_owner(str(file)) or libtorch_owner(file)

    def _deb_owner(self, path: str) -> Owner | None:
        # /lib is a link to /usr/lib, and packages list either.
        for listed in (path, path.removeprefix("/usr"), f"/usr{path}"):
            package = self._debs.get(listed)
            if package is not None:
                copyright_ = self._copyrights / package.partition(":")[0] / "copyright"
                licences = (("copyright", copyright_),) if is_file(copyright_) else ()
                name = package.partition(":")[0]
                return Owner("deb", name, self._deb_versions.get(name), listed, licences)
        return None

    @cached_property
    def _debs(self) -> dict[str, str]:
        """Path of a library -> `package` or `package:architecture`."""
        found: dict[str, str] = {}
        for file in sorted((self._dpkg / "info").glob("*.list")):
            text = read_text(file)
            if ".so" in text:
                found.update((line, file.stem) for line in text.splitlines() if ".so" in line)
        return found

    @cached_property
    def _deb_versions(self) -> dict[str, str]:
        text = read_text(self._dpkg / "status")
        return dict(re.findall(r"^Package: (\S+)\n(?:\S.*\n| .*\n)*?Version: (\S+)$", text, re.MULTILINE))


def wheel_owner(site: Path, relative: str) -> Owner | None:
    """Return the distribution in a site-packages directory whose RECORD lists a file."""
    for info in dist_infos(site):
        if relative in recorded(info):
            metadata = read_text(info / "METADATA").partition("\n\n")[0]
            name, _, version = info.name.removesuffix(".dist-info").partition("-")
            named, numbered = NAME.search(metadata), VERSION.search(metadata)
            licences = [*licences_in(info)] or [*listed_licences(site, recorded(info))]
            return Owner(
                "wheel",
                named[1] if named else name,
                numbered[1] if numbered else version or None,
                relative,
                tuple(licences),
            )
    return None


@lru_cache(maxsize=1024)
def recorded(info: Path) -> frozenset[str]:
    """Return the paths that a distribution's RECORD lists, relative to site-packages: the first of three columns."""
    return frozenset(line.rsplit(",", 2)[0].strip('"') for line in read_text(info / "RECORD").splitlines())


@lru_cache(maxsize=64)
def dist_infos(site: Path) -> tuple[Path, ...]:
    """The `.dist-info` directories of a site-packages directory."""
    return tuple(site / name for name in names_in(site) if name.endswith(".dist-info"))


def conda_owner(prefix: Path, relative: str) -> Owner | None:
    """Return the conda package in a prefix whose record lists a file."""
    if not is_dir(prefix / "conda-meta"):
        return None
    for file in sorted((prefix / "conda-meta").glob("*.json")):
        text = read_text(file)
        if f'"{relative}"' not in text:
            continue
        try:
            record = load_json(text)
            if relative not in record["files"]:
                continue
            unpacked = Path(record.get("extracted_package_dir") or prefix / "pkgs" / file.stem)
            licences = tuple(licences_in(unpacked / "info"))
            return Owner("conda", str(record["name"]), str(record["version"]), relative, licences)
        except (ValueError, KeyError, TypeError):
            continue
    return None


def libtorch_owner(file: Path) -> Owner | None:
    """Return the libtorch (an unpacked zip, a source build) whose `lib` contains a file."""
    root = file.parent.parent
    if not (is_file(file.parent / "libc10.so") and is_dir(root / "include" / "torch")):
        return None
    version = read_text(root / "build-version").strip() or None
    licences = tuple(licences_in(root))
    return Owner("libtorch", "libtorch", version, f"{file.parent.name}/{file.name}", licences)


def licences_in(directory: Path) -> Iterator[tuple[str, Path]]:
    """Yield the licence texts of a package: those in its directory, and everything in its `licenses`."""
    for folder in (directory / "licenses", directory / "share" / "licenses"):
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                yield str(file.relative_to(folder)), file
    yield from licences_beside(directory)


def listed_licences(site: Path, listed: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """Yield the licence texts among a package's files, such as `nvidia/cusparselt/LICENSE.txt`."""
    for relative in sorted(listed):
        path = PurePosixPath(relative)
        if LICENCE.match(path.name) and path.suffix in TEXTS and (site / path).is_file():
            yield relative, site / path


def licences_beside(directory: Path) -> Iterator[tuple[str, Path]]:
    """Yield the licence texts directly in a directory."""
    for name in names_in(directory):
        file = directory / name
        if LICENCE.match(name) and file.is_file() and file.stat().st_size <= LARGEST_TEXT:
            yield name, file


def licences_above(file: Path) -> tuple[tuple[str, Path], ...]:
    """Return the licence texts near a file that no package owns: in its directory, or one of the two above."""
    for directory in list(file.parents)[:3]:
        if str(directory) in NOT_SEARCHED:
            break
        found = tuple(licences_beside(directory))
        if found:
            return found
    return ()
