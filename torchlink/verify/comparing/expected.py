"""Comparing what a model returned with the tensors of a file: `--expect`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torchlink.errors import MismatchError
from torchlink.model.stored import StoredTensor
from torchlink.verify.comparing.values import Comparison, compare_leaves, leaves
from torchlink.verify.outputs import positions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torchlink.verify.comparing.tolerances import Tolerances
    from torchlink.verify.comparing.values import Ask


def compare_expected(
    outputs: Any, expected: Sequence[StoredTensor], tolerances: Tolerances, ask: Ask
) -> Comparison:
    """Compare the tensors among the outputs with the expected ones, by key where both have keys, else in order.

    Shapes must be equal; dtypes may differ.

    Args:
        outputs: what forward returned.
        expected: of the file.
        tolerances: of the comparison.
        ask: sends the loader a command and returns the event that answers it.

    Raises:
        MismatchError: there are others, or another number of them.
    """
    tensors = [leaf for leaf in leaves(outputs) if isinstance(leaf.value, StoredTensor)]
    source = expected[0].path.name if expected else "the file"
    order = positions([leaf.label for leaf in tensors], [each.label for each in expected], source)
    if isinstance(order, MismatchError):
        raise order
    wanted = [expected[number] for number in order]
    return Comparison(
        source,
        tuple(
            compare_leaves(leaf, tensor, tolerances, ask, any_dtype=True)
            for leaf, tensor in zip(tensors, wanted, strict=True)
        ),
    )
