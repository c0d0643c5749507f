"""Imports torch, and checks that it is the one that the C++ module was built with."""

import re
import warnings

from ._built_with import TORCH


def check(package: str) -> None:
    """Compare the versions: another one has another C++ interface."""
    try:
        import torch
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ImportError(
            f"{package} needs torch, which is not installed: pip install torch=={TORCH}"
        ) from None
    here, built = (re.findall(r"\d+", text)[:3] for text in (torch.__version__, TORCH))
    if here[:2] != built[:2]:
        raise ImportError(
            f"{package} was built with torch {TORCH}, and torch {torch.__version__} is installed, whose C++ interface "
            f"differs. Rebuild it (pip install --force-reinstall --no-deps SOURCE), or install torch=={TORCH}."
        )
    if here != built:
        warnings.warn(
            f"{package} was built with torch {TORCH}, and torch {torch.__version__} is installed.",
            RuntimeWarning,
            3,
        )
