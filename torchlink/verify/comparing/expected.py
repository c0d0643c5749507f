"""Comparing what a model returned with the contents of a file: `--expect`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from torchlink.errors import FileError, MismatchError
from torchlink.model.stored import InlineTensor, StoredTensor
from torchlink.verify.comparing.values import Comparison, compare_leaves, leaves, strides_of
from torchlink.verify.outputs import as_output, positions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from torchlink.verify.comparing.tolerances import Tolerances
    from torchlink.verify.comparing.values import Ask, Leaf

TENSORS = (StoredTensor, InlineTensor)
ALIGNMENT = 64


class Expectation(NamedTuple):
    """The contents of a file: each tensor and plain value with its place, `['boxes'][1]`."""

    source: str  # the file's name
    parts: tuple[tuple[str, Any], ...]

    @property
    def only_tensors(self) -> bool:
        """Whether the file contains only tensors."""
        return all(isinstance(part, TENSORS) for _, part in self.parts)


def read_expectation(path: Path) -> Expectation:
    """Read a file with the values that a model should return.

    Raises:
        FileError: the file cannot be read, is of another kind, or contains nothing to compare.
        MalformedFileError: it is damaged, or a tensor in it cannot be read in place.
    """
    from torchlink.model.tensors import read_expected
    from torchlink.model.values import read_values

    try:
        parts = tuple(_parts(read_values(path).value, ""))
    except FileError:  # a module's tensors; `read_expected` also has the best error for a bad file
        parts = tuple((tensor.label, tensor) for tensor in read_expected(path))
    if not parts:
        parts = tuple(
            (tensor.label, tensor) for tensor in read_expected(path)
        )  # raises the error that there are none
    return Expectation(path.name, parts)


def _parts(value: Any, label: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, (dict, list, tuple)):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _parts(part, f"{label}[{key!r}]")
    else:
        yield label, value


def compare_expected(
    outputs: Any, expected: Expectation, tolerances: Tolerances, ask: Ask, raw: Path
) -> Comparison:
    """Compare the outputs with the expected ones, by key if both have keys, else in order.

    Shapes must be equal; dtypes may differ. If the file contains only tensors, only tensor outputs are compared.

    Args:
        outputs: what forward returned.
        expected: the values of the file.
        tolerances: of the comparison.
        ask: sends the loader a command and returns the event that answers it.
        raw: a file for tensors that the file stores as text.

    Raises:
        MismatchError: the keys or the number of outputs differ.
    """
    labels = [label for label, _ in expected.parts]
    returned = _counted(leaves(outputs), expected)
    unnamed = _counted(
        leaves(outputs, fields=False), expected
    )  # a file stores the fields of a named tuple by position
    mine = [leaf.label for leaf in returned]
    if {leaf.label for leaf in unnamed} == set(map(as_output, labels)):
        mine = [leaf.label for leaf in unnamed]
    order = positions(mine, labels, expected.source, "tensor" if expected.only_tensors else "value")
    if isinstance(order, MismatchError):
        raise order
    with raw.open("wb") as file:
        wanted = [_stored(part, raw, file) for _, part in expected.parts]
    found = (
        compare_leaves(leaf, wanted[number], tolerances, ask, any_dtype=True)
        for leaf, number in zip(returned, order, strict=True)
    )
    return Comparison(expected.source, tuple(found))


def _counted(outputs: Iterable[Leaf], expected: Expectation) -> list[Leaf]:
    """The outputs that are compared."""
    return [leaf for leaf in outputs if isinstance(leaf.value, StoredTensor) or not expected.only_tensors]


def _stored(part: Any, raw: Path, file: Any) -> Any:
    """A part; elements that are in memory are moved to the raw file."""
    if not isinstance(part, InlineTensor):
        return part
    offset = -(-file.tell() // ALIGNMENT) * ALIGNMENT
    file.seek(offset)
    file.write(part.data)
    return StoredTensor(part.dtype, part.shape, strides_of(part.shape), offset, raw, "")
