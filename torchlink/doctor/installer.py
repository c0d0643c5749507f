"""The system's package manager, and what it calls the things that a build needs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchlink.process import which

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Installer:
    """A package manager."""

    program: str  # "apt-get"
    install: str  # the command before the packages' names, with sudo where that is needed
    refresh: str  # the command that fetches the lists of packages; empty where nobody needs it
    packages: Mapping[str, str]  # what they are called here, where that differs from the usual name

    def command(self, *things: str) -> str:
        """The command that installs things, such as `c++` or `cmake`."""
        return f"{self.install} {' '.join(self.packages.get(thing, thing) for thing in things)}"


APT = {"c++": "g++", "ninja": "ninja-build", "driver": "nvidia-driver", "venv": "python3-venv"}
RPM = {"c++": "gcc-c++", "ninja": "ninja-build", "pkg-config": "pkgconf-pkg-config"}
# Program, its install command, its refresh command, names that differ; in the order in which they are tried.
MANAGERS: tuple[tuple[str, str, str, Mapping[str, str]], ...] = (
    ("apt-get", "apt-get install -y", "apt-get update", APT),
    ("dnf", "dnf install -y", "", RPM),
    ("yum", "yum install -y", "", RPM),
    ("zypper", "zypper install -y", "", {**RPM, "ninja": "ninja", "pkg-config": "pkg-config"}),
    ("pacman", "pacman -S --needed", "", {"c++": "gcc", "pkg-config": "pkgconf", "driver": "nvidia"}),
    ("apk", "apk add", "", {"c++": "g++ musl-dev", "pkg-config": "pkgconf"}),
    ("brew", "brew install", "", {"c++": "llvm", "pkg-config": "pkgconf"}),
)
OWN_ACCOUNT = ("brew",)  # must not be run as root


def find_installer() -> Installer | None:
    """The first package manager on PATH."""
    for program, install, refresh, packages in MANAGERS:
        if which(program):
            sudo = "" if program in OWN_ACCOUNT or _is_root() else "sudo "
            return Installer(program, sudo + install, f"{sudo}{refresh}" if refresh else "", packages)
    return None


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0
