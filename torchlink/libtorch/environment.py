"""Python environments, read from their files: prefix, interpreter and site-packages directories."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torchlink.libtorch.disk import exists, is_dir, is_file, read_text
from torchlink.libtorch.packages import added_sites
from torchlink.libtorch.resolve import site_dirs, unique

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Environment(NamedTuple):
    """One Python environment: a virtual one, a conda one or an installation."""

    prefix: Path
    python: Path | None  # its interpreter, where it has one
    sites: tuple[Path, ...]  # site-packages directories in the order of sys.path


def environment_at(prefix: Path, version: str | None = None) -> Environment:
    """Return the environment with this prefix.

    Args:
        prefix: the directory that holds `bin/` and `lib/`.
        version: `3.11` or `3.13t` where the prefix holds several Pythons (`/usr`).
    """
    sites = sites_of(prefix, version)
    config = read_pyvenv(prefix)
    if config is None:
        local = sites_of(Path("/usr/local"), version) if str(prefix) == "/usr" else []
        sites = [*user_sites(version), *local, *sites]
    elif config.get("include-system-site-packages", "false").lower() == "true" and config.get("home"):
        sites += environment_at(Path(config["home"]).parent, config_version(config)).sites
    return Environment(prefix, interpreter_in(prefix, version), tuple(unique(sites)))


def sites_of(prefix: Path, version: str | None) -> list[Path]:
    """Return the site directories of one Python below a prefix; Debian's `lib/python3` is for all versions."""
    return [
        site
        for site in site_dirs(prefix)
        if version is None or python_version(site.parent.name) in {None, version}
    ]


def python_version(directory: str) -> str | None:
    """Return the version in a directory's name: `3.11` for `python3.11`, None for `python3`."""
    version = directory.removeprefix("python").removeprefix("pypy")
    return version if "." in version else None


def read_pyvenv(prefix: Path) -> dict[str, str] | None:
    """Return the settings in pyvenv.cfg; None if the prefix is not a virtual environment."""
    if not is_file(prefix / "pyvenv.cfg"):
        return None
    pairs = (line.partition("=") for line in read_text(prefix / "pyvenv.cfg").splitlines())
    return {key.strip().lower(): value.strip() for key, equals, value in pairs if equals}


def config_version(config: dict[str, str]) -> str | None:
    """Return the Python version in pyvenv.cfg (`version` of venv, `version_info` of virtualenv and uv)."""
    parts = (config.get("version") or config.get("version_info") or "").split(".")
    return ".".join(parts[:2]) if len(parts) >= 2 else None


def user_sites(version: str | None) -> list[Path]:
    """Return the per-user site-packages, which Pythons outside virtual environments use."""
    if os.environ.get("PYTHONNOUSERSITE"):
        return []
    return sites_of(Path(os.environ.get("PYTHONUSERBASE") or "~/.local").expanduser(), version)


def interpreter_in(prefix: Path, version: str | None = None) -> Path | None:
    """Return the interpreter of a prefix."""
    exact: tuple[str, ...] = (f"bin/python{version}",) if version else ()
    for name in (*exact, "bin/python3", "bin/python", "Scripts/python.exe", "python.exe"):
        if exists(prefix / name):
            return prefix / name
    return None


def environment_around(root: Path) -> Environment | None:
    """Return the environment whose site-packages (or conda prefix) contains a libtorch, or None.

    With symlinks there may be several: the interpreter is that of the environment on the path as given, the
    site-packages are those of all.
    """
    named, real = root.parent, Path(os.path.realpath(root))
    places = dict.fromkeys((named, Path(os.path.realpath(named)), real.parent))
    found = [each for each in (*map(_environment_of, places), _conda_at(root)) if each]
    if not found:
        return None
    owner = next((each for each in found if each.python), found[0])
    return owner._replace(sites=tuple(unique([site for each in found for site in each.sites])))


def _environment_of(site: Path) -> Environment | None:
    """Return the environment of a site-packages directory, by its path."""
    if site.name not in {"site-packages", "dist-packages"}:
        return None
    if site.parent.name.lower() == "lib":  # Windows
        return environment_at(site.parent.parent)
    if not site.parent.name.lower().startswith(("python", "pypy")):
        return None
    prefix = site.parent.parent.parent
    if prefix.name == "local" and prefix.parent.name == "usr":
        prefix = prefix.parent
    return environment_at(prefix, python_version(site.parent.name))


def _conda_at(root: Path) -> Environment | None:
    return environment_at(root) if is_dir(root / "conda-meta") else None


def known_sites(environment: Environment | None) -> Iterator[Path]:
    """Yield the site directories to search for dependencies that a libtorch's own search paths do not reach.

    Its own environment's come first, then the active one's, each followed by what its .pth files add, then sys.path
    of the Python that runs torchlink.
    """
    active = (os.environ.get(variable) for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"))
    for known in (environment, *(environment_at(Path(prefix)) for prefix in active if prefix)):
        for site in known.sites if known else ():
            yield site
            yield from added_sites(site)
    yield from running_sites()


def running_sites() -> Iterable[Path]:
    """Return the directories on this process's own sys.path."""
    return [Path(entry) for entry in sys.path if entry and is_dir(entry)]
