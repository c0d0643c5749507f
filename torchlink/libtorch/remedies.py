"""How to get the libraries that a libtorch lacks: a command for its own environment, or why none can help."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, NamedTuple

from torchlink.libtorch.layout import INSTALLED, is_triple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torchlink.libtorch.facts import Libtorch, MissingLibrary

SITES = {"site-packages", "dist-packages"}
# What the packages libtorch-dev and libtorch1.13 depend on, which whoever only unpacks them does not get.
DEBIAN = (
    "`apt install libtorch-dev` brings what Debian's libtorch needs: headers (libgflags-dev, "
    "libgoogle-glog-dev, libprotobuf-dev, python3-dev) and libraries"
)
UNPACKED = "for the one in {root}, unpack the packages that libtorch-dev depends on into the same directory (dpkg -x)"
EXTRAS = re.compile(r"\[([^]]*)\]")  # of a requirement: `cuda-toolkit[cublas]==13.2.2`


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
        installed = str(libtorch.root) in INSTALLED
        return Remedy(sentence=DEBIAN if installed else f"{DEBIAN}; {UNPACKED.format(root=libtorch.root)}")
    wanted = requirements_of(lacking)
    if not wanted:
        return Remedy()
    words = " ".join(map(shlex.quote, wanted))
    site = libtorch.root.parent
    if libtorch.python:
        return Remedy(f"{shlex.quote(str(libtorch.python))} -m pip install {words}")
    if site.name in SITES:
        return Remedy(f"python3 -m pip install --target {shlex.quote(str(site))} {words}")
    return Remedy(
        sentence=f"pip cannot mend {libtorch.root} in place, because it belongs to no Python environment: copy the "
        f"libraries of {', '.join(wanted)} into {libtorch.library_dir}, or cut a whole libtorch out of the "
        "wheels (torchlink extract TORCH.whl COMPANION.whl... DIR)"
    )


def is_debians(libtorch: Libtorch) -> bool:
    """Whether it is the one of Debian's and Ubuntu's packages, installed or unpacked."""
    return libtorch.layout == "system" and is_triple(libtorch.library_dir.name)


def requirements_of(missing: Iterable[MissingLibrary]) -> tuple[str, ...]:
    """What pip is to be asked for, each distribution once: pinned as torch's METADATA pins it, else by name."""
    extras: dict[str, list[str]] = {}
    for library in missing:
        requirement = library.requirement or library.package
        if requirement:
            named = EXTRAS.search(requirement)
            known = extras.setdefault(EXTRAS.sub("[]", requirement), [])
            known += [extra for extra in (named[1].split(",") if named else ()) if extra not in known]
    return tuple(plain.replace("[]", f"[{','.join(names)}]") for plain, names in extras.items())
