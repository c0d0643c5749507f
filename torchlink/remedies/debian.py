"""The packages of Debian and Ubuntu that contain what their libtorch lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.libtorch.layout import INSTALLED, is_triple
from torchlink.libtorch.names import DEBIAN_PACKAGES

if TYPE_CHECKING:
    from torchlink.libtorch.facts import Libtorch, MissingLibrary

# What libtorch-dev and libtorch1.13 depend on, which is absent where somebody only unpacked those two.
DEBIAN = (
    "`apt install libtorch-dev` installs what Debian's libtorch needs: headers (libgflags-dev, "
    "libgoogle-glog-dev, libprotobuf-dev, python3-dev) and libraries"
)
UNPACKED = "for the one in {root}, unpack the packages that libtorch-dev depends on into the same directory (dpkg -x)"


def is_debians(libtorch: Libtorch) -> bool:
    """Whether a libtorch is from a package of Debian or Ubuntu, installed or unpacked."""
    return libtorch.layout == "system" and is_triple(libtorch.library_dir.name)


def packages_sentence(libtorch: Libtorch, missing: tuple[MissingLibrary, ...]) -> str:
    """Name the Debian packages that contain the missing libraries, without a final full stop."""
    known = {library.name: DEBIAN_PACKAGES.get(library.name) for library in missing}
    packages = dict.fromkeys(package for package in known.values() if package)
    installed = str(libtorch.root) in INSTALLED
    if len(packages) < len(known):
        return DEBIAN if installed else f"{DEBIAN}; {UNPACKED.format(root=libtorch.root)}"
    sentence = f"`apt install {' '.join(packages)}` installs {', '.join(known)}"
    return sentence if installed else f"{sentence}; for the one in {libtorch.root}, unpack it there (dpkg -x)"
