"""Comparing what forward returned with the tensors of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torchlink.errors import MismatchError
from torchlink.verify.matching import positions
from torchlink.verify.specs import dimensions, encoded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torchlink.model.stored import StoredTensor
    from torchlink.verify.outputs import Output

ATOL, RTOL = 1e-5, 1e-4


def compare(
    outputs: Sequence[Output],
    expected: Sequence[StoredTensor],
    ask: Callable[[str], Mapping[str, Any]],
    atol: float = ATOL,
    rtol: float = RTOL,
) -> tuple[float | None, MismatchError | None]:
    """Compare the tensors among the outputs with the expected ones, by key where both have keys, else in order.

    They agree where |output - expected| <= atol + rtol * |expected| for every element, and what is not
    finite is the same in both. Shapes must be equal; dtypes may differ.

    Args:
        outputs: what forward returned.
        expected: of the file.
        ask: sends the loader a command and returns the event that answers it.
        atol: absolute tolerance.
        rtol: relative tolerance.

    Returns:
        The greatest absolute difference of any element (None where shapes or counts differ already), and what
        is wrong, if anything is.
    """
    tensors = [(index, output) for index, output in enumerate(outputs) if output.type == "tensor"]
    source = expected[0].path.name if expected else "the file"
    order = positions([output.label for _, output in tensors], [each.label for each in expected], source)
    if isinstance(order, MismatchError):
        return None, order
    worst, wrong, comparable = 0.0, [], True
    for (index, output), tensor in zip(tensors, (expected[number] for number in order), strict=True):
        if output.shape != tensor.shape:
            found = None if output.shape is None else list(output.shape)
            wrong.append(f"{output.label}: its shape is {found}, expected is {list(tensor.shape)}")
            comparable = False
            continue
        words = (str(index), *stored(tensor), repr(float(atol)), repr(float(rtol)))
        event = ask(f"expect {' '.join(words)}")
        if event["event"] == "error":
            wrong.append(f"{output.label}: cannot be compared: {event['message']}")
            comparable = False
            continue
        worst = max(worst, float(event["max_abs_error"]))
        if not event["ok"]:
            wrong.append(
                f"{output.label}: {event['mismatched']} of {_elements(tensor)} elements differ, "
                f"at most by {float(event['max_abs_error']):.3g}"
            )
    if not wrong:
        return worst, None
    return (
        worst if comparable else None,
        MismatchError(
            f"What came out is not what {source} holds (atol {atol:g}, rtol {rtol:g}).",
            hint="Allow more with --atol and --rtol where the difference is rounding."
            if comparable
            else "Save what forward returns for these very inputs.",
            details=tuple(wrong),
        ),
    )


def stored(tensor: StoredTensor) -> tuple[str, str, str, str, str]:
    """`DTYPE DIMS OFFSET STRIDES PATH` as the loader reads them."""
    path = encoded(str(tensor.path.absolute()))
    return tensor.dtype, dimensions(tensor.shape), str(tensor.offset), dimensions(tensor.strides), path


def _elements(tensor: StoredTensor) -> int:
    count = 1
    for size in tensor.shape:
        count *= size
    return count
