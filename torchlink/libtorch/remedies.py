"""How to get the libraries that a libtorch lacks: a command for its own environment, or why none can help."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torchlink.libtorch.conda_commands import conda_commands, conda_prefix
from torchlink.libtorch.disk import names_in, read_text
from torchlink.libtorch.layout import INSTALLED, is_triple
from torchlink.libtorch.machine import this_machine
from torchlink.libtorch.pip_commands import install_words, machine_words, merge_words, wanted_from_pip

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from torchlink.libtorch.facts import Libtorch, MissingLibrary

SITES = {"site-packages", "dist-packages"}
# What the packages libtorch-dev and libtorch1.13 depend on, which whoever only unpacks them does not get.
DEBIAN = (
    "`apt install libtorch-dev` brings what Debian's libtorch needs: headers (libgflags-dev, "
    "libgoogle-glog-dev, libprotobuf-dev, python3-dev) and libraries"
)
UNPACKED = "for the one in {root}, unpack the packages that libtorch-dev depends on into the same directory (dpkg -x)"
# SONAME → Debian's package, where it is called otherwise or other packages could bring it too.
DEBIANS = {
    "libOpenCL.so.1": "ocl-icd-libopencl1",
    "libblas.so.3": "libblas3",
    "liblapack.so.3": "liblapack3",
    "libgomp.so.1": "libgomp1",
}


class Remedy(NamedTuple):
    """What brings missing libraries: a command, or a sentence without a final full stop where none does."""

    command: str = ""
    sentence: str = ""

    @property
    def text(self) -> str:
        """Whichever there is; empty where nothing is known."""
        return self.command or self.sentence


def remedy_for(libtorch: Libtorch, missing: Iterable[MissingLibrary]) -> Remedy:
    """What brings these libraries to where this libtorch finds them."""
    lacking = tuple(missing)
    if lacking and is_debians(libtorch):
        return Remedy(sentence=debians_words(libtorch, lacking))
    prefix = conda_prefix(libtorch) if lacking else None
    if prefix:
        return Remedy(conda_commands(libtorch, prefix, lacking))
    site = libtorch.root.parent
    wanted = wanted_from_pip(lacking, site_dirs_of(libtorch))
    if not wanted.all:
        return Remedy()
    # Another machine's interpreter does not run here; where it is a link, it leads to one of this machine.
    if libtorch.python and libtorch.arch == this_machine().arch:
        return Remedy(install_words(libtorch.python, wanted))
    dist_info = next((name for name in names_in(site) if is_torchs(name)), "")
    if site.name in SITES or dist_info:
        tag = read_text(site / dist_info / "WHEEL").partition("\nTag: ")[2].partition("\n")[0].strip()
        return Remedy(merge_words(site, wanted, machine_words(tag, libtorch.arch)))
    return Remedy(
        sentence=f"pip cannot fix {libtorch.root} in place, because it belongs to no Python environment: copy the "
        f"libraries of {', '.join(wanted.all)} into {libtorch.library_dir}, or cut a whole libtorch out of the "
        "wheels (torchlink extract TORCH.whl COMPANION.whl... DIR)"
    )


def is_debians(libtorch: Libtorch) -> bool:
    """Whether it is the one of Debian's and Ubuntu's packages, installed or unpacked."""
    return libtorch.layout == "system" and is_triple(libtorch.library_dir.name)


def debians_words(libtorch: Libtorch, missing: tuple[MissingLibrary, ...]) -> str:
    """Which of Debian's packages bring libraries."""
    named = {library.name: DEBIANS.get(library.name) for library in missing}
    packages = dict.fromkeys(package for package in named.values() if package)
    installed = str(libtorch.root) in INSTALLED
    if len(packages) < len(named):
        return DEBIAN if installed else f"{DEBIAN}; {UNPACKED.format(root=libtorch.root)}"
    words = f"`apt install {' '.join(packages)}` brings {', '.join(named)}"
    return words if installed else f"{words}; for the one in {libtorch.root}, unpack it there (dpkg -x)"


def site_dirs_of(libtorch: Libtorch) -> tuple[Path, ...]:
    """The site-packages in which the packages of a libtorch's environment are recorded."""
    from torchlink.libtorch.environment import environment_around

    environment = environment_around(libtorch.root)
    return tuple(dict.fromkeys((libtorch.root.parent, *(environment.sites if environment else ()))))


def is_torchs(name: str) -> bool:
    """Whether a name is that of torch's own dist-info directory."""
    return name.startswith("torch-") and name.endswith(".dist-info")
