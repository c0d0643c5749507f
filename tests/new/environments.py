"""Environments of users, for tests of projects that pip installs."""

from __future__ import annotations

import os
import shutil
import venv
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# What `import torch` needs, and pytest, as top-level names in site-packages.
PACKAGES = (
    "torch", "torch-", "torchgen", "functorch", "numpy", "filelock", "typing_extensions", "sympy", "mpmath",
    "networkx", "jinja2", "markupsafe", "fsspec", "setuptools", "pytest", "_pytest", "pluggy", "iniconfig",
    "packaging", "pygments", "build", "pyproject_hooks",
)  # fmt: skip


def site_of(environment: Path) -> Path:
    return next((environment / "lib").glob("python3*/site-packages"))


def with_torch(directory: Path, torch_root: Path) -> None:
    """Make an environment with pip, pytest and a torch, hard-linked from where the torch is installed."""
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
    return {
        **kept,
        "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "HOME": os.environ["HOME"],
        "VIRTUAL_ENV": str(environment),
        "PIP_FIND_LINKS": links,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        **variables,
    }
