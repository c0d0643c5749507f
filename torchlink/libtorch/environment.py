"""Python environments, read from their files: which site-packages belong to one, and where its torch is."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torchlink.libtorch.resolve import site_dirs, unique

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PYTHON_DIR = re.compile(r"(?:python|pypy)(\d+\.\d+t?)")
SYSTEM_PREFIXES = {"/usr", "/usr/local"}


@dataclass(frozen=True, slots=True)
class Environment:
    """One Python environment: a virtual one, a conda one or an installation."""

    prefix: Path
    python: Path | None  # its interpreter, where it is
    sites: tuple[Path, ...]  # site-packages directories in the order of sys.path


def environment_at(prefix: Path, version: str | None = None) -> Environment:
    """The environment with this prefix.

    Args:
        prefix: the directory that holds `bin/` and `lib/`.
        version: `3.11` or `3.13t` where the prefix holds several Pythons (`/usr`).
    """
    sites = [site for site in site_dirs(prefix) if version is None or fits(site, version)]
    config = read_pyvenv(prefix)
    isolated = config is not None and config.get("include-system-site-packages", "false").lower() != "true"
    if not isolated:
        if config is None:
            sites = [*user_sites(prefix, version), *sites]
            if str(prefix) == "/usr":
                sites = [*site_dirs_of(Path("/usr/local"), version), *sites]
        elif home := config.get("home"):
            base = environment_at(Path(home).parent, config_version(config))
            sites += base.sites
    return Environment(prefix, interpreter_in(prefix, version), tuple(unique(sites)))


def fits(site: Path, version: str) -> bool:
    """Whether a site directory is read by this Python; Debian's `lib/python3/dist-packages` is by every one."""
    match = PYTHON_DIR.fullmatch(site.parent.name)
    return match is None or match[1] == version


def site_dirs_of(prefix: Path, version: str | None) -> list[Path]:
    """`site_dirs` of one Python version."""
    return [site for site in site_dirs(prefix) if version is None or fits(site, version)]


def read_pyvenv(prefix: Path) -> dict[str, str] | None:
    """The settings of a virtual environment's pyvenv.cfg; None where the prefix is no virtual environment."""
    try:
        text = (prefix / "pyvenv.cfg").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {key.strip().lower(): value.strip() for key, _, value in pairs}


def config_version(config: dict[str, str]) -> str | None:
    """The Python version that pyvenv.cfg names (`version` of venv, `version_info` of virtualenv and uv)."""
    match = re.match(r"\d+\.\d+", config.get("version") or config.get("version_info") or "")
    return match[0] if match else None


def user_sites(prefix: Path, version: str | None) -> list[Path]:
    """The per-user site-packages, which only Pythons outside of virtual environments read."""
    if os.environ.get("PYTHONNOUSERSITE") or (prefix / "conda-meta").is_dir():
        return []
    base = os.environ.get("PYTHONUSERBASE")
    return site_dirs_of(Path(base) if base else Path("~/.local").expanduser(), version)


def interpreter_in(prefix: Path, version: str | None = None) -> Path | None:
    """The interpreter of a prefix."""
    names = (f"bin/python{version}",) if version else ()
    for name in (*names, "bin/python3", "bin/python", "Scripts/python.exe", "python.exe"):
        if (prefix / name).exists():
            return prefix / name
    return None


def environment_around(root: Path) -> Environment | None:
    """The environment whose site-packages (or conda prefix) a libtorch lies in, or None."""
    site = root.parent
    if site.name in {"site-packages", "dist-packages"}:
        match = PYTHON_DIR.fullmatch(site.parent.name)
        prefix = site.parent.parent.parent if site.parent.name.lower() != "lib" else site.parent.parent
        if prefix.name == "local" and prefix.parent.name == "usr":
            prefix = prefix.parent
        return environment_at(prefix, match[1] if match else None)
    if (root / "conda-meta").is_dir():
        return environment_at(root)
    return None


def known_sites(environment: Environment | None) -> Iterator[Path]:
    """Site directories to search for what a libtorch's own search paths do not reach.

    First its own environment's, then the active one's, then those of the Python that runs torchlink.
    """
    if environment is not None:
        yield from environment.sites
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        if os.environ.get(variable):
            yield from environment_at(Path(os.environ[variable])).sites
    yield from running_sites()


def running_sites() -> Iterable[Path]:
    """The directories on this process's own sys.path."""
    return [Path(entry) for entry in sys.path if entry and os.path.isdir(entry)]  # noqa: PTH112 - strings
