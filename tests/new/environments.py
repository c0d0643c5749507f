"""Environments of users, for tests of projects that pip installs."""

from __future__ import annotations

import os
import shutil
import sys
import venv
from pathlib import Path

# What `import torch` and `python -m build` need, as top-level names in site-packages.
PACKAGES = (
    "torch", "torch-", "torchgen", "functorch", "numpy", "filelock", "typing_extensions", "sympy", "mpmath",
    "networkx", "jinja2", "markupsafe", "fsspec", "setuptools",
    "packaging", "pygments", "build", "pyproject_hooks",
)  # fmt: skip


def site_of(environment: Path) -> Path:
    return next((environment / "lib").glob("python3*/site-packages"))


def with_torch(directory: Path, torch_root: Path) -> None:
    """Make an environment with pip, build and a torch, hard-linked from where the torch is installed."""
    venv.create(directory, with_pip=True)
    site = site_of(directory)
    for entry in torch_root.parent.iterdir():
        name = entry.name.lower()
        if not any(
            name == each or name.startswith((f"{each.rstrip('-')}-", f"{each}.")) for each in PACKAGES
        ):
            continue
        if (site / entry.name).exists():
            continue
        if entry.is_dir():
            shutil.copytree(entry, site / entry.name, copy_function=link, symlinks=True)
        else:
            link(entry, site / entry.name)


def link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def surroundings(environment: Path, wheels: Path, **variables: str) -> dict[str, str]:
    """The variables of a shell in which an environment is active."""
    links = " ".join(filter(None, (wheels.as_uri(), os.environ.get("PIP_FIND_LINKS"))))
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("PIP_", "SSL_", "HTTP", "REQUESTS_"))
    }
    # Not the programs of the environment that runs the tests.
    own = str(Path(sys.executable).parent)
    outside = [each for each in os.environ["PATH"].split(os.pathsep) if each != own]
    return {
        **kept,
        "PATH": os.pathsep.join((str(environment / "bin"), *outside)),
        "HOME": os.environ["HOME"],
        "VIRTUAL_ENV": str(environment),
        "PIP_FIND_LINKS": links,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        **variables,
    }
