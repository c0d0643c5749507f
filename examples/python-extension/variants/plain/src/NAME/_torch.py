"""Checks, before the C++ module is loaded, that the torch here is the one that it was built with."""

import re
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

from ._built_with import TORCH


def installed() -> "tuple[str | None, Path | None]":
    """Return the version and the directory of the torch that `import torch` finds; it is not imported."""
    spec = sys.modules["torch"].__spec__ if "torch" in sys.modules else find_spec("torch")
    if spec is None or not spec.origin:
        return None, None
    directory = Path(spec.origin).parent
    try:
        text = (directory / "version.py").read_text(encoding="utf-8")
    except OSError:
        return None, directory
    found = re.search(r"""^__version__ *(?:: *\w+ *)?= *['"]([^'"]+)""", text, re.MULTILINE)
    return (found[1] if found else None), directory


def check(package: str) -> None:
    """Compare the versions, and make the dynamic loader use the libtorch of the torch that Python would import."""
    version, directory = installed()
    if version is None or directory is None:  # the module itself shows whether there is a libtorch
        return
    here, built = (re.findall(r"\d+", text)[:3] for text in (version, TORCH))
    if here[:2] != built[:2]:
        raise ImportError(
            f"{package} was built with torch {TORCH}, and torch {version} is installed, whose C++ interface differs. "
            f"Rebuild it (pip install --force-reinstall --no-deps SOURCE), or install torch=={TORCH}."
        )
    if here != built:
        warnings.warn(
            f"{package} was built with torch {TORCH}, and torch {version} is installed.", RuntimeWarning, 3
        )
    if directory.parent != Path(__file__).parent.parent:
        # Torch is in another site-packages directory than this package, where the module's search path does not lead.
        import ctypes

        ctypes.CDLL(str(directory / "lib" / "libtorch_cpu.so"))
