"""The environment of a build: variables that change which libraries and headers are used, and the package manager."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torchlink.binary.elf import ElfFile
from torchlink.binary.loader import resolve
from torchlink.doctor.report import Variable, VariableEntry
from torchlink.errors import TorchlinkError
from torchlink.process import which

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torchlink.libtorch.facts import Libtorch


SEARCHED = "LD_LIBRARY_PATH"
LOADED = ("LD_PRELOAD", "LD_AUDIT")
HEADERS = ("CPATH", "CPLUS_INCLUDE_PATH")  # the first is searched before -isystem
LINKED = "LIBRARY_PATH"
TORCH_HEADERS = (
    "ATen/ATen.h",
    "c10/macros/Macros.h",
    "torch/script.h",
    "torch/csrc/api/include/torch/torch.h",
)
OF_TORCH = r"lib(c10|torch)(_\w+)?\.so(\.|$)"
ENTRY = re.compile(r"lib(torch_cpu|torch_cuda|torch_hip|torch_xpu)\.so(\.[\d.]+)?$")
# Libraries that programs need themselves, for which the variable overrides their RUNPATH.
OF_PROGRAMS = r"lib(stdc\+\+|gcc_s|gomp|m|c|dl|pthread|rt)\.so\.\d"
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


def variables(environ: Mapping[str, str], libtorch: Libtorch | None) -> tuple[Variable, ...]:
    """Return the variables that are set.

    Args:
        environ: the environment.
        libtorch: the one that is used.
    """
    return tuple(_variables(environ, libtorch))


def _variables(environ: Mapping[str, str], libtorch: Libtorch | None) -> Iterator[Variable]:
    value = environ.get(SEARCHED)
    if value:
        won = winning(value, libtorch)
        entries = re.split("[:;]", value)
        yield Variable(SEARCHED, value, tuple(_directory(each, won.get(each, ())) for each in entries))
    for name in LOADED:
        value = environ.get(name)
        if value:
            pattern = "[: ]" if name == "LD_PRELOAD" else ":"
            yield Variable(name, value, tuple(map(_file, filter(None, re.split(pattern, value)))))
    for name in (*HEADERS, LINKED):
        value = environ.get(name)
        if value:
            named = (_with_headers(each, libtorch) for each in value.split(":"))
            yield Variable(
                name, value, tuple(map(_directory, value.split(":"))) if name == LINKED else tuple(named)
            )


def _directory(entry: str, wins: tuple[str, ...] = ()) -> VariableEntry:
    place = Path(entry or os.curdir)
    torch = any(re.match(OF_TORCH, name) for name in _names(place))
    return VariableEntry(entry, place.is_dir(), torch, wins)


def _file(entry: str) -> VariableEntry:
    there = "/" not in entry or Path(entry).is_file()  # a name without a slash is searched for
    return VariableEntry(entry, there, bool(re.match(OF_TORCH, Path(entry).name)), ())


def _with_headers(entry: str, libtorch: Libtorch | None) -> VariableEntry:
    place = Path(entry or os.curdir)
    own = {os.path.realpath(each) for each in libtorch.include_dirs} if libtorch else set()
    there = [name for name in TORCH_HEADERS if (place / name).is_file()]
    foreign = tuple(there) if os.path.realpath(place) not in own else ()
    return VariableEntry(entry, place.is_dir(), bool(there), foreign)


def _names(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)  # noqa: PTH208 - only names: there may be thousands
    except OSError:
        return []


def winning(value: str, libtorch: Libtorch | None) -> dict[str, tuple[str, ...]]:
    """Return, by entry of LD_LIBRARY_PATH, the libraries that replace those a libtorch would otherwise load.

    For what libtorch's libraries need, the model of the loader decides; what a program itself needs is searched for in
    the variable's directories before its RUNPATH.
    """
    if libtorch is None or libtorch.packed or libtorch.platform != "linux":
        return {}
    usual: dict[str, str] = {}
    won: dict[str, dict[str, None]] = {}
    machine = None
    for name in filter(ENTRY.match, libtorch.libraries):
        try:
            plain = resolve(libtorch.library_dir / name)
            there = resolve(libtorch.library_dir / name, environment={SEARCHED: value})
        except TorchlinkError:  # a damaged one is reported elsewhere
            continue
        machine = plain.subject.elf.machine
        paths = {each.name: each.real_path for each in plain.objects}
        usual.update(paths)
        for each in there.objects:
            if (
                each.found_via.kind == SEARCHED
                and each.found_via.entry is not None
                and paths.get(each.name) != each.real_path
            ):
                won.setdefault(each.found_via.entry, {})[Path(each.path).name] = None
    asked = {name: os.path.realpath(libtorch.library_dir / name) for name in libtorch.libraries}
    own = {name: path for name, path in asked.items() if re.match(OF_TORCH, name)}
    own.update((name, path) for name, path in usual.items() if re.match(OF_PROGRAMS, name))
    for name, path in own.items():
        for entry in re.split("[:;]", value):
            file = Path(entry or os.curdir, name)
            if _is_loadable(file, machine):
                if os.path.realpath(file) != path:
                    won.setdefault(entry, {})[name] = None
                break
    return {entry: tuple(sorted(names)) for entry, names in won.items()}


def _is_loadable(file: Path, machine: str | None) -> bool:
    """Whether the loader would accept a file."""
    if not os.path.exists(file):  # noqa: PTH110 - `Path.exists` raises for a name that is too long
        return False
    try:
        with ElfFile.open(file) as elf:
            return machine is None or elf.machine == machine
    except TorchlinkError:
        return False


@dataclass(frozen=True, slots=True)
class Installer:
    """A package manager."""

    program: str  # "apt-get"
    install: str  # the command before the package names, with sudo where needed
    refresh: str  # the command that updates the package lists; empty if none is needed
    packages: Mapping[str, str]  # its package names, where they differ from the usual ones

    def command(self, *things: str) -> str:
        """Return the command that installs things, such as `c++` or `cmake`."""
        return f"{self.install} {' '.join(self.packages.get(thing, thing) for thing in things)}"


def find_installer() -> Installer | None:
    """Return the first package manager on PATH, or None."""
    for program, install, refresh, packages in MANAGERS:
        if which(program):
            sudo = "" if program in OWN_ACCOUNT or _is_root() else "sudo "
            return Installer(program, sudo + install, f"{sudo}{refresh}" if refresh else "", packages)
    return None


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0
