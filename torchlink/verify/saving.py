"""Writing a model's outputs to a file: the loader saves them raw next to it, torchlink converts them to the format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchlink.atomic import beside, unwritable
from torchlink.errors import UsageError, WouldOverwriteError
from torchlink.shown import visible
from torchlink.verify.specs import encoded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def check_place(place: Path, models: Sequence[Path], *, force: bool) -> None:
    """Reject a file that cannot be written, before anything is built.

    Raises:
        UsageError: the suffix is not that of a format, there are several models, or the file is one of them.
        WouldOverwriteError: the file exists, and `force` is off.
        FileError: its directory does not exist.
    """
    from torchlink.model.writing import check_suffix

    check_suffix(place)
    if len(models) > 1:
        raise UsageError("--save-outputs takes a single model.", hint="Verify each model separately.")
    if not place.parent.is_dir():
        raise unwritable(place, FileNotFoundError(2, os.strerror(2), str(place.parent)))
    if not os.path.lexists(place):
        return
    if any(model.exists() and place.exists() and model.samefile(place) for model in models):
        raise UsageError(
            f"--save-outputs {visible(str(place))} is the model itself.", hint="Name another file."
        )
    if not place.is_file():
        raise WouldOverwriteError(f"{visible(str(place))} is not a regular file.", hint="Name another file.")
    if not force:
        raise WouldOverwriteError(
            f"{visible(str(place))} exists.", hint="Name another file, or give --force to overwrite it."
        )


def save_outputs(ask: Callable[[str], Mapping[str, Any]], place: Path) -> None:
    """Write the outputs of the last call.

    Args:
        ask: sends the loader a command and returns the event that answers it.
        place: the file; its suffix selects the format.

    Raises:
        InexpressibleError: the format cannot express a part of them.
        FileError: it cannot be written.
    """
    from torchlink.model.raw_trees import value_of_tree
    from torchlink.model.writing import write_values

    real = Path(os.path.realpath(place))
    try:
        with beside(real) as work:
            raw = work / "raw"
            value = value_of_tree(ask(f"save outputs {encoded(str(raw))}")["value"], raw)
            whole = work / "whole"
            with whole.open("xb") as file:
                write_values(value, place, file)
            whole.replace(real)
    except OSError as error:
        raise unwritable(place, error) from error
