"""Checks, before the C++ module is loaded, that the torch here is the one that it was built with.

It imports nothing that takes long (re, pathlib, importlib.util): the import of this package is little more than loading
libtorch.
"""

import os
import sys

from ._built_with import TORCH


def installed() -> "tuple[str | None, str | None]":
    """Return the version and the directory of the torch that `import torch` finds; it is not imported."""
    specs = (finder.find_spec("torch", None) for finder in sys.meta_path)
    spec = next(filter(None, specs), None)
    if spec is None or not spec.origin:
        return None, None
    directory = os.path.dirname(spec.origin)
    try:
        with open(os.path.join(directory, "version.py"), encoding="utf-8") as file:
            for line in file:
                name, _, value = line.partition("=")
                if name.partition(":")[0].strip() == "__version__":
                    return value.strip().strip("'\""), directory
    except OSError:
        pass
    return None, directory


def check(package: str) -> None:
    """Compare the versions, and make the dynamic loader use the libtorch of the torch that Python would import."""
    version, directory = installed()
    if version is None or directory is None:  # the module itself shows whether there is a libtorch
        return
    here, built = (text.partition("+")[0].split(".")[:3] for text in (version, TORCH))
    if here[:2] != built[:2]:
        raise ImportError(
            f"{package} was built with torch {TORCH}, and torch {version} is installed, whose C++ interface differs. "
            f"Rebuild it (pip install --force-reinstall --no-deps SOURCE), or install torch=={TORCH}."
        )
    if here != built:
        import warnings

        warnings.warn(
            f"{package} was built with torch {TORCH}, and torch {version} is installed.", RuntimeWarning, 3
        )
    if os.path.dirname(directory) != os.path.dirname(os.path.dirname(__file__)):
        # Torch is in another site-packages directory than this package, where the module's search path does not lead.
        import ctypes

        ctypes.CDLL(os.path.join(directory, "lib", "libtorch_cpu.so"))
