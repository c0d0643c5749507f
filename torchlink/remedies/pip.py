"""The pip commands that install a libtorch's companion packages, in POSIX shell syntax."""

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

EXTRAS = re.compile(r"\[([^]]*)\]")  # in a requirement: `cuda-toolkit[cublas]==13.2.2`
TAG = re.compile(r"-cp(?P<major>[0-9])(?P<minor>[0-9]{1,3})-[^-]+-[^-]+$")
OLDEST_GLIBC, GLIBC = 17, 28  # minor versions of glibc 2 in the platform tags of the companion wheels


class Wanted(NamedTuple):
    """What pip has to install."""

    damaged: tuple[str, ...] = ()  # exact versions that pip considers installed, although files are missing
    absent: tuple[str, ...] = ()  # requirements

    @property
    def all(self) -> tuple[str, ...]:
        """Everything that pip has to install."""
        return (*self.damaged, *self.absent)


def wanted_from_pip(missing: Iterable[MissingLibrary], sites: Sequence[Path]) -> Wanted:
    """Return the packages that contain the missing libraries; those with a dist-info directory are damaged.

    Args:
        missing: the libraries.
        sites: the site-packages directories that pip looks in.
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
    """Return `nvidia-cuda-cupti==13.2.86` if the RECORD of that installed package lists the library."""
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
    """Return one requirement per distribution: as torch's METADATA pins it, otherwise the bare name."""
    extras: dict[str, list[str]] = {}
    for library in missing:
        requirement = library.requirement or library.package
        if requirement:
            named = EXTRAS.search(requirement)
            known = extras.setdefault(EXTRAS.sub("[]", requirement), [])
            known += [extra for extra in (named[1].split(",") if named else ()) if extra not in known]
    return tuple(plain.replace("[]", f"[{','.join(names)}]") for plain, names in extras.items())


def install_command(python: Path, wanted: Wanted) -> str:
    """Install into an interpreter's environment; packages that pip considers installed are forced."""
    pip = f"{shlex.quote(str(python))} -m pip install"
    forced = f"{pip} --force-reinstall --no-deps {shlex.join(wanted.damaged)}" if wanted.damaged else ""
    plain = f"{pip} {shlex.join(wanted.absent)}" if wanted.absent else ""
    return " && ".join(filter(None, (forced, plain)))


def merge_command(site: Path, wanted: Wanted, platform: str) -> str:
    """Install into a temporary directory and copy what a site-packages without an interpreter lacks.

    `pip install --target` skips a directory that already exists, such as `nvidia`; with --upgrade it replaces that
    directory and loses the files of other packages in it.

    Args:
        site: the site-packages directory.
        wanted: what to install.
        platform: options that make pip choose for another machine, see `platform_options`.
    """
    options = (platform, "" if wanted.absent else "--no-deps")
    arguments = " ".join(filter(None, (*options, shlex.join(wanted.all))))
    destination = shlex.quote(f"{site}/")
    return (
        """(new=$(mktemp -d) && trap 'rm -rf "$new"' EXIT && """
        f'python3 -m pip install --target "$new" {arguments} && cp -rn "$new"/. {destination})'
    )


def download_command(missing: Iterable[MissingLibrary], wheel: str, arch: str) -> str:
    """Download the companion wheels of a torch wheel, for the machine it was built for.

    Args:
        missing: the libraries that are needed; the command is empty if no package is known for any of them.
        wheel: file name of torch's wheel.
        arch: what it was built for, `aarch64`.
    """
    wanted = requirements_of(missing)
    if not wanted:
        return ""
    return " ".join(
        filter(None, ("pip download", platform_options(wheel, arch), shlex.join(wanted), "-d wheels"))
    )


def platform_options(tag: str, arch: str) -> str:
    """Return the options that make pip choose for the Linux and Python of a wheel; empty for this machine's own.

    pip matches each --platform literally, and the companions are tagged with other glibc versions than torch.

    Args:
        tag: the wheel's file name, or the tag in its WHEEL file: `cp312-cp312-manylinux_2_28_aarch64`.
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
