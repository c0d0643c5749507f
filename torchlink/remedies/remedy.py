"""How to get the libraries that a libtorch lacks: a command for its own environment, or why no command can help."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torchlink.libtorch.disk import names_in, read_text
from torchlink.libtorch.machine import this_machine
from torchlink.remedies.conda import conda_command, conda_prefix
from torchlink.remedies.debian import is_debians, packages_sentence
from torchlink.remedies.pip import install_command, merge_command, platform_options, wanted_from_pip

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from torchlink.libtorch.facts import Libtorch, MissingLibrary

SITE_NAMES = {"site-packages", "dist-packages"}


class Remedy(NamedTuple):
    """How to get missing libraries: a shell command, or where there is none, a sentence without a final full stop."""

    command: str = ""
    sentence: str = ""

    @property
    def text(self) -> str:
        """The command or the sentence; empty if nothing is known."""
        return self.command or self.sentence


def remedy_for(libtorch: Libtorch, missing: Iterable[MissingLibrary]) -> Remedy:
    """Return what installs the missing libraries where this libtorch finds them."""
    missing = tuple(missing)
    if missing and is_debians(libtorch):
        return Remedy(sentence=packages_sentence(libtorch, missing))
    prefix = conda_prefix(libtorch) if missing else None
    if prefix:
        return Remedy(conda_command(libtorch, prefix, missing))
    site = libtorch.root.parent
    wanted = wanted_from_pip(missing, site_dirs(libtorch))
    if not wanted.all:
        return Remedy()
    # An interpreter of another architecture does not run here, and a link to one leads to this machine's own.
    if libtorch.python and libtorch.arch == this_machine().arch:
        return Remedy(install_command(libtorch.python, wanted))
    dist_info = next((name for name in names_in(site) if _is_torch_dist_info(name)), "")
    if site.name in SITE_NAMES or dist_info:
        tag = read_text(site / dist_info / "WHEEL").partition("\nTag: ")[2].partition("\n")[0].strip()
        return Remedy(merge_command(site, wanted, platform_options(tag, libtorch.arch)))
    return Remedy(
        sentence=f"pip cannot fix {libtorch.root} in place, because it belongs to no Python environment: copy the "
        f"libraries of {', '.join(wanted.all)} into {libtorch.library_dir}, or cut a whole libtorch out of the "
        "wheels (torchlink extract TORCH.whl COMPANION.whl... DIR)"
    )


def site_dirs(libtorch: Libtorch) -> tuple[Path, ...]:
    """Return the site-packages directories where the packages of a libtorch's environment are recorded."""
    from torchlink.libtorch.environment import environment_around

    environment = environment_around(libtorch.root)
    return tuple(dict.fromkeys((libtorch.root.parent, *(environment.sites if environment else ()))))


def _is_torch_dist_info(name: str) -> bool:
    return name.startswith("torch-") and name.endswith(".dist-info")
