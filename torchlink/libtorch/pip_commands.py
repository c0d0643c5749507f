"""The pip commands that install a libtorch's companions, as a POSIX shell takes them."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, NamedTuple

from torchlink.libtorch.disk import names_in, read_text
from torchlink.libtorch.machine import this_machine
from torchlink.libtorch.version import is_version

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from torchlink.libtorch.facts import MissingLibrary

EXTRAS = re.compile(r"\[([^]]*)\]")  # of a requirement: `cuda-toolkit[cublas]==13.2.2`
TAG = re.compile(r"-cp(?P<major>[0-9])(?P<minor>[0-9]{1,3})-[^-]+-[^-]+$")
OLDEST_GLIBC, GLIBC = 17, 28  # minor versions of glibc 2 that the companions' wheels are tagged with


class Wanted(NamedTuple):
    """What pip is to be asked for."""

    damaged: tuple[str, ...] = ()  # exact versions of what pip holds for installed, though files are gone
    absent: tuple[str, ...] = ()  # requirements

    @property
    def all(self) -> tuple[str, ...]:
        """Everything."""
        return (*self.damaged, *self.absent)


def wanted_from_pip(missing: Iterable[MissingLibrary], sites: Sequence[Path]) -> Wanted:
    """Which packages bring libraries, told apart by whether their dist-info is there.

    Args:
        missing: the libraries.
        sites: the site-packages in which pip looks.
    """
    damaged: dict[str, None] = {}
    absent = []
    for library in missing:
        exact = installed(library, sites)
        if exact:
            damaged[exact] = None
        else:
            absent.append(library)
    return Wanted(tuple(damaged), requirements_of(absent))


def installed(library: MissingLibrary, sites: Sequence[Path]) -> str | None:
    """`nvidia-cuda-cupti==13.2.86` where that package's RECORD lists the library, else None."""
    package = (library.package or "").replace("-", "_").lower()
    for site in sites if package else ():
        for name in names_in(site):
            stem, _, version = name.removesuffix(".dist-info").partition("-")
            if (
                name.endswith(".dist-info")
                and is_version(version)
                and stem.lower().replace("-", "_") == package
            ):
                record = read_text(site / name / "RECORD")
                if re.search(rf"(?:^|/){re.escape(library.name)},", record, re.MULTILINE):
                    return f"{library.package}=={version}"
    return None


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


def install_words(python: Path, wanted: Wanted) -> str:
    """Install into an interpreter's environment; what pip believes to be there needs to be forced."""
    pip = f"{shlex.quote(str(python))} -m pip install"
    forced = f"{pip} --force-reinstall --no-deps {shlex.join(wanted.damaged)}" if wanted.damaged else ""
    plain = f"{pip} {shlex.join(wanted.absent)}" if wanted.absent else ""
    return " && ".join(filter(None, (forced, plain)))


def merge_words(site: Path, wanted: Wanted, machine: str) -> str:
    """Install into a new directory, then add what a site-packages without an interpreter lacks.

    `pip install --target` itself brings nothing into a directory that is there already, such as `nvidia`, and with
    --upgrade puts the new one in its place, without what other packages have there.

    Args:
        site: the site-packages.
        wanted: what to install.
        machine: options by which pip chooses for another machine, see `machine_words`.
    """
    options = (machine, "" if wanted.absent else "--no-deps")
    words = " ".join(filter(None, (*options, shlex.join(wanted.all))))
    place = shlex.quote(f"{site}/")
    return (
        """(new=$(mktemp -d) && trap 'rm -rf "$new"' EXIT && """
        f'python3 -m pip install --target "$new" {words} && cp -rn "$new"/. {place})'
    )


def download_words(missing: Iterable[MissingLibrary], wheel: str, arch: str) -> str:
    """The command that downloads the companions of a wheel, for its machine.

    Args:
        missing: what is needed; empty words where no package is known for any of it.
        wheel: file name of torch's wheel.
        arch: what it was built for, `aarch64`.
    """
    wanted = requirements_of(missing)
    if not wanted:
        return ""
    return " ".join(
        filter(None, ("pip download", machine_words(wheel, arch), shlex.join(wanted), "-d wheels"))
    )


def machine_words(tag: str, arch: str) -> str:
    """Options that make pip choose for the Linux and the Python of a wheel; none where this machine is of its kind.

    pip takes each --platform as it is, and the companions have tags of other glibc versions than torch.

    Args:
        tag: the wheel's file name, or what its WHEEL says: `cp312-cp312-manylinux_2_28_aarch64`.
        arch: what it was built for.
    """
    here = this_machine()
    if (here.platform, here.arch) == ("linux", arch):
        return ""
    found = TAG.search(f"-{tag}")
    glibc = re.search(r"manylinux_2_([0-9]{1,3})_", tag)
    newest = max(GLIBC, int(glibc[1]) if glibc else 0)
    python = f"--python-version {found['major']}.{found['minor']} " if found else ""
    return (
        f"--platform=manylinux2014_{arch} $(seq -f --platform=manylinux_2_%g_{arch} {OLDEST_GLIBC} {newest}) "
        f"{python}--only-binary :all:"
    )
