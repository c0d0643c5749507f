"""Download Debian packages for the tests with apt, from this system's archive, and unpack them."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from tests.conftest import unmet

if TYPE_CHECKING:
    from pathlib import Path


def closure(package: str, directory: Path) -> list[str]:
    """Return the names of a package and all its dependencies, as if nothing were installed."""
    (directory / "nothing").touch()
    simulated = ("-s", "--no-install-recommends", "-o", f"Dir::State::status={directory / 'nothing'}")
    answer = apt("install", *simulated, package)
    return [line.split()[1] for line in answer.stdout.splitlines() if line.startswith("Inst ")]


def unpack(packages: list[str], root: Path, *options: str) -> None:
    """Download packages and unpack them below a directory; nothing is installed or configured."""
    root.mkdir(parents=True, exist_ok=True)
    debs = root / "debs"
    debs.mkdir()
    apt("download", "-o", "APT::Sandbox::User=root", *options, *packages, directory=debs)
    for deb in sorted(debs.glob("*.deb")):
        subprocess.run(["dpkg", "-x", deb, root], check=True)
    shutil.rmtree(debs)


def release(name: str, directory: Path) -> tuple[str, ...]:
    """Return the options with which apt uses another release of Debian, with its lists below a directory."""
    site = apt("indextargets", "--format", "$(SITE) $(ORIGIN)").stdout
    mirrors = [line.split()[0] for line in site.splitlines() if line.endswith(" Debian")]
    mirror = next((each for each in mirrors if "security" not in each), None)
    if mirror is None:
        unmet("a system of Debian's, which knows its archive")
    (directory / "lists/partial").mkdir(parents=True)
    (directory / "cache").mkdir()
    (directory / "sources.list").write_text(f"deb [trusted=yes] {mirror} {name} main\n")
    settings = {
        "Dir::Etc::sourcelist": directory / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": directory / "lists",
        "Dir::Cache": directory / "cache",
        "APT::Sandbox::User": "root",
        "Debug::NoLocking": "1",
    }
    options = tuple(word for key, value in settings.items() for word in ("-o", f"{key}={value}"))
    apt("update", *options)
    return options


def apt(command: str, *arguments: str, directory: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run apt-get; if it fails (no network, no such package), the test is skipped or fails."""
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        unmet("apt-get and dpkg")
    words = ["apt-get", "-qq", command, *arguments]
    done = subprocess.run(words, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        unmet(f"apt-get {command} ({done.stderr.strip().splitlines()[-1:]})")
    return done
