"""The weights of a compiled model that are not in its library: in the package, or in a file next to it."""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import TYPE_CHECKING

from torchlink.errors import FileError, ForwardFailedError, MalformedFileError, ResourcesError
from torchlink.model.stored import ITEM_SIZES, bounded
from torchlink.model.tensors import read_expected
from torchlink.shown import shortened
from torchlink.verify.specs import dimensions, encoded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torchlink.model.aoti import CompiledModel
    from torchlink.model.stored import StoredTensor

# A state dict next to `model.pt2`: `model.safetensors`, `model_weights.pt`, …
ENDINGS = (".safetensors", ".pt", ".pth", "_weights.safetensors", "_weights.pt", "_weights.pth")
SHOWN = 5


def weights_of(model: CompiledModel, unset: Sequence[str], unpacked: Path) -> dict[str, StoredTensor]:
    """Where to find the weights that are not in the library.

    Args:
        model: the compiled model.
        unset: names of those weights.
        unpacked: the directory that its package was unpacked to.

    Raises:
        ForwardFailedError: they were not found.
        MalformedFileError: one of the package cannot be read.
    """
    if set(unset) <= set(model.weights):
        return {name: _packaged(model, name, unpacked) for name in unset}
    looked_at = []
    for ending in ENDINGS:
        file = model.path.with_name(model.path.stem + ending)
        if file == model.path or not file.is_file():
            continue
        looked_at.append(file.name)
        found = _state_dict(file)
        if found is not None and set(unset) <= set(found):
            return {name: found[name] for name in unset}
    names = ", ".join(map(shortened, unset[:SHOWN])) + (
        f" and {len(unset) - SHOWN} more" if len(unset) > SHOWN else ""
    )
    beside = f", nor in {', '.join(looked_at)}next to it" if looked_at else ""
    raise ForwardFailedError(
        f"{model.label}: compiled without its weights, which are not in the package{beside}: {names}.",
        hint=f"Put its state dict next to it as {model.path.stem}.safetensors or {model.path.stem}.pt, or compile it "
        "with aot_inductor.package_constants_in_so or package_constants_on_disk_format.",
    )


def command(weights: Mapping[str, StoredTensor]) -> str:
    """The loader's command that sets the weights: templates/loader/README.md."""
    words = [f"weights {len(weights)}"]
    for name, tensor in weights.items():
        words += [
            encoded(name),
            tensor.dtype,
            dimensions(tensor.shape),
            str(tensor.offset),
            dimensions(tensor.strides),
            encoded(str(tensor.path.absolute())),
        ]
    return " ".join(words)


def _packaged(model: CompiledModel, name: str, unpacked: Path) -> StoredTensor:
    """A weight in `data/weights/`: a part of a tensor that torch.save wrote."""
    place = model.weights[name]
    file = unpacked / "data" / "weights" / place.file
    try:
        (stored,) = read_expected(file)
    except (FileError, ValueError) as error:
        raise MalformedFileError(
            f"{model.label}: its weight {name} cannot be read: {error}", hint="Compile the package again."
        ) from error
    size = ITEM_SIZES[stored.dtype]
    last = sum((n - 1) * step for n, step in zip(stored.shape, stored.strides, strict=True))
    end = stored.offset + (size * (last + 1) if 0 not in stored.shape else 0)
    part = replace(
        stored, shape=place.shape, strides=place.strides, offset=stored.offset + size * place.offset
    )
    return bounded(part, end)


def _state_dict(file: Path) -> dict[str, StoredTensor] | None:
    """The tensors in a file of weights, by name; None if it is not such a file."""
    try:
        tensors = read_expected(file)
    except ResourcesError:
        raise
    except FileError:
        return None
    found = {}
    for tensor in tensors:
        try:
            (key,) = ast.literal_eval(tensor.label)  # `['fc.weight']`
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return None
        if not isinstance(key, str):
            return None
        found[key] = tensor
    return found
