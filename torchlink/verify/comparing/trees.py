"""Comparing what a model returned with what it should have: values that may nest, tensors that lie in files.

A tree is the marshalling of docs/values.md as the loader and Python write it, with a `StoredTensor` in place of each
tensor. The elements of tensors are compared by the loader, which reads both files piece by piece.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import hypot, inf, isfinite, isnan, prod
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from torchlink.model.stored import StoredTensor
from torchlink.shown import shortened
from torchlink.verify.specs import dimensions, encoded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

Tree: TypeAlias = "StoredTensor | list[Any] | dict[str, Any]"
Ask: TypeAlias = "Callable[[str], Mapping[str, Any]]"

# dtype -> (rtol, atol), as torch.testing.assert_close takes them by default (torch/testing/_comparison.py); every other
# dtype is compared exactly. Quantized tensors come dequantized, as float32.
PRECISIONS = {
    "float16": (1e-3, 1e-5),
    "bfloat16": (1.6e-2, 1e-5),
    "float32": (1.3e-6, 1e-5),
    "float64": (1e-7, 1e-7),
    "complex32": (1e-3, 1e-5),
    "complex64": (1.3e-6, 1e-5),
    "complex128": (1e-7, 1e-7),
}
EXACT = (0.0, 0.0)
KINDS = {"generic_dict": "dict", "dict": "dict", "string": "str"}


class Tolerances(NamedTuple):
    """What may differ: |actual - expected| <= atol + rtol * |expected|; None takes the default of the dtype."""

    atol: float | None = None
    rtol: float | None = None

    def of(self, *dtypes: str) -> tuple[float, float]:
        """`(atol, rtol)` for tensors of these dtypes: the greater ones where they differ."""
        found = [PRECISIONS.get(dtype, EXACT) for dtype in dtypes]
        return (
            max(atol for _, atol in found) if self.atol is None else self.atol,
            max(rtol for rtol, _ in found) if self.rtol is None else self.rtol,
        )


@dataclass(frozen=True, slots=True)
class OutputComparison:
    """One tensor or plain value compared; differences are None where there was nothing to subtract."""

    label: str  # where it stands: "output", "output[0]", "output.logits"
    problem: str = ""  # why it is wrong, where it is not by numbers: another shape, dtype, type or text
    max_abs_error: float | None = None
    worst_at: tuple[int, ...] | None = None  # the index of the greatest absolute difference; None without one
    max_rel_error: float | None = None  # divided by what was expected
    worst_rel_at: tuple[int, ...] | None = None
    mismatched: int = 0
    elements: int = 0
    atol: float = 0.0
    rtol: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether it is what was expected."""
        return not self.problem and not self.mismatched

    def sentence(self) -> str:
        """What is wrong with it, or how much it differs."""
        if self.problem:
            return f"{self.label}: {self.problem}"
        if self.elements == 1 and not self.worst_at:
            count = "it differs"
        else:
            count = f"{self.mismatched} of {self.elements} elements differ"
        worst = f"greatest absolute difference {number(self.max_abs_error)}{_at(self.worst_at)} (atol {self.atol:g})"
        relative = f"relative {number(self.max_rel_error)}{_at(self.worst_rel_at)} (rtol {self.rtol:g})"
        return f"{self.label}: {count}; {worst}, {relative}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """All outputs of a model compared with those of another run, or of a file."""

    to: str  # with what: "python (torch 2.13.0)", "libtorch 2.6.0 of /opt/libtorch", "golden/m.pt"
    outputs: tuple[OutputComparison, ...] = ()
    failed: str = ""  # why there was nothing to compare with: the other side did not run
    # How much two runs of the loader with the same inputs differ, where that is more than the tolerances allow.
    spread: float | None = None

    @property
    def ok(self) -> bool:
        """Whether everything is what was expected."""
        return not self.failed and all(output.ok for output in self.outputs)

    @property
    def comparable(self) -> bool:
        """Whether the numbers of every output could be subtracted."""
        return not self.failed and not any(output.problem for output in self.outputs)

    @property
    def max_abs_error(self) -> float | None:
        """The greatest absolute difference of any element; None where something was not comparable."""
        return self._greatest([output.max_abs_error for output in self.outputs])

    @property
    def max_rel_error(self) -> float | None:
        """The greatest relative difference of any element; None where something was not comparable."""
        return self._greatest([output.max_rel_error for output in self.outputs])

    def _greatest(self, errors: Sequence[float | None]) -> float | None:
        if not self.comparable:
            return None
        return max((error for error in errors if error is not None), default=0.0)


def number(value: float | None) -> str:
    """A difference for people: `0.0123`, `infinite`."""
    if value is None:
        return "none"
    return "infinite" if value == inf else f"{value:.3g}"


def _at(index: tuple[int, ...] | None) -> str:
    return f" at [{','.join(map(str, index))}]" if index else ""


def grafted(tree: Any, raw: Path) -> Tree:
    """A tree as the loader or Python wrote it, with its tensors as they lie in the raw file beside it."""
    if isinstance(tree, list):
        return [grafted(each, raw) for each in tree]
    kind, value = tree["type"], tree.get("value")
    if kind == "tensor" and "offset" in tree:
        shape = tuple(map(int, tree["shape"]))
        return StoredTensor(
            str(tree["data_type"]), shape, strides_of(shape), int(tree["offset"]), raw, ""
        )
    if kind == "tuple":
        return {**tree, "value": [grafted(each, raw) for each in value]}
    if kind == "generic_dict":
        return {**tree, "value": {key: grafted(each, raw) for key, each in value.items()}}
    if kind == "dict":
        return {**tree, "value": [[grafted(key, raw), grafted(each, raw)] for key, each in value]}
    return dict(tree)


def strides_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Those of a contiguous tensor."""
    return tuple(prod(shape[index + 1 :]) for index in range(len(shape)))


class Leaf(NamedTuple):
    """A tensor or a plain value in a tree."""

    label: str
    value: StoredTensor | dict[str, Any]


def leaves(tree: Tree, label: str = "output") -> Iterator[Leaf]:
    """The leaves of a tree in order."""
    steps = children(tree)
    if steps is None:
        yield Leaf(label, tree)  # type: ignore[arg-type]  # a list has children
        return
    for step, child in steps.items():
        yield from leaves(child, label + step)


def children(tree: Tree) -> dict[str, Tree] | None:
    """What a container holds by how a label names it: `.key`, `[0]`; None for a leaf."""
    if isinstance(tree, StoredTensor):
        return None
    if isinstance(tree, list):
        return {f"[{index}]": each for index, each in enumerate(tree)}
    kind, value = tree["type"], tree.get("value")
    if kind == "tuple":
        names = tree.get("names") or []
        steps = [f".{name}" for name in names] if len(names) == len(value) else None
        return dict(zip(steps or [f"[{index}]" for index in range(len(value))], value, strict=True))
    if kind == "generic_dict":
        return {f".{key}": each for key, each in value.items()}
    if kind == "dict":
        return {f"[{_key(key, index)}]": each for index, (key, each) in enumerate(value)}
    return None


def _key(key: Tree, index: int) -> str:
    """A key that is no string: the number itself, `true`; what has no text goes by its position."""
    if isinstance(key, dict) and key["type"] == "scalar":
        return json.dumps(key["value"])
    if isinstance(key, dict) and key["type"] == "string":
        return json.dumps(key["value"])
    return f"entry {index}"


def described(tree: Tree) -> str:
    """What a value is, for people: `a tuple of 2`, `a float32 tensor`, `int64 3`, `'text'`."""
    if isinstance(tree, StoredTensor):
        return f"a {tree.dtype} tensor"
    if isinstance(tree, list):
        return f"a list of {len(tree)}"
    kind, value = tree["type"], tree.get("value")
    if kind in ("tuple", "generic_dict", "dict"):
        return f"a {KINDS.get(kind, kind)} of {len(value)}"
    if kind == "none":
        return "None"
    if kind == "string":
        return repr(shortened(str(value)))
    if kind == "scalar":
        return f"{tree['data_type']} {json.dumps(value)}"
    return f"a {tree['data_type']} tensor that cannot be read" if kind == "tensor" else f"a value of type {value}"


def compare_trees(
    actual: Tree, expected: Tree, tolerances: Tolerances, ask: Ask, label: str = "output"
) -> Iterator[OutputComparison]:
    """Compare two values part by part; containers must be of one kind and have the same parts.

    Args:
        actual: what came out.
        expected: what should have.
        tolerances: of the comparison.
        ask: sends the loader a command and returns the event that answers it.
        label: where both stand.
    """
    ours, theirs = children(actual), children(expected)
    if ours is None or theirs is None or _container(actual) != _container(expected):
        if ours is None and theirs is None:
            yield compare_leaves(Leaf(label, actual), Leaf(label, expected), tolerances, ask)  # type: ignore[arg-type]
        else:
            yield OutputComparison(label, f"it is {described(actual)}, expected is {described(expected)}")
        return
    missing = [step for step in theirs if step not in ours]
    extra = [step for step in ours if step not in theirs]
    for steps, fact in ((missing, "is missing"), (extra, "is not expected")):
        for step in steps:
            yield OutputComparison(label + step, f"it {fact}")
    for step, child in ours.items():
        if step in theirs:
            yield from compare_trees(child, theirs[step], tolerances, ask, label + step)


def _container(tree: Tree) -> str:
    if isinstance(tree, dict):
        return KINDS.get(tree["type"], tree["type"])
    return type(tree).__name__


def compare_flat(
    actual: Tree, expected: Tree, tolerances: Tolerances, ask: Ask
) -> Iterator[OutputComparison]:
    """Compare two values leaf by leaf, whatever the containers are: by label where all labels are the same, else in order.

    What an AOTInductor package returns has a structure in Python (a dict, a dataclass) that C++ need not know.
    """
    ours, theirs = list(leaves(actual)), list(leaves(expected))
    if len(ours) != len(theirs):
        yield OutputComparison("output", f"it has {len(ours)} values, expected are {len(theirs)}")
        return
    labels = {leaf.label: leaf for leaf in theirs}
    same = len(labels) == len(theirs) and all(leaf.label in labels for leaf in ours)
    for index, leaf in enumerate(ours):
        yield compare_leaves(leaf, labels[leaf.label] if same else theirs[index], tolerances, ask)


def compare_leaves(
    actual: Leaf, expected: Leaf, tolerances: Tolerances, ask: Ask, *, any_dtype: bool = False
) -> OutputComparison:
    """Compare two tensors or two plain values.

    Args:
        actual: what came out; its label is the result's.
        expected: what should have.
        tolerances: of the comparison.
        ask: sends the loader a command and returns the event that answers it.
        any_dtype: tensors may be of different dtypes, as long as their values are the same.
    """
    label, got, wanted = actual.label, actual.value, expected.value
    if isinstance(got, StoredTensor) and isinstance(wanted, StoredTensor):
        if got.shape != wanted.shape:
            return OutputComparison(label, f"its shape is {list(got.shape)}, expected is {list(wanted.shape)}")
        if got.dtype != wanted.dtype and not any_dtype:
            return OutputComparison(label, f"its dtype is {got.dtype}, expected is {wanted.dtype}")
        return _tensors(label, got, wanted, tolerances.of(got.dtype, wanted.dtype), ask)
    if isinstance(got, StoredTensor) or isinstance(wanted, StoredTensor):
        return OutputComparison(label, f"it is {described(got)}, expected is {described(wanted)}")
    return _plain(label, got, wanted, tolerances)


def _tensors(
    label: str, got: StoredTensor, wanted: StoredTensor, tolerances: tuple[float, float], ask: Ask
) -> OutputComparison:
    atol, rtol = tolerances
    words = (*stored(got), *stored(wanted), repr(float(atol)), repr(float(rtol)))
    event = ask(f"compare {' '.join(words)}")
    if event["event"] == "error":
        return OutputComparison(label, f"it cannot be compared: {event['message']}")
    return OutputComparison(
        label,
        max_abs_error=float(event["max_abs_error"]),
        worst_at=_index(event["worst_at"]),
        max_rel_error=float(event["max_rel_error"]),
        worst_rel_at=_index(event["worst_rel_at"]),
        mismatched=int(event["mismatched"]),
        elements=int(event["elements"]),
        atol=atol,
        rtol=rtol,
    )


def _index(value: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if value is None else tuple(value)


def _plain(
    label: str, got: Mapping[str, Any], wanted: Mapping[str, Any], tolerances: Tolerances
) -> OutputComparison:
    """Two plain values: floats within the tolerances of float64, the rest exactly."""
    differ = OutputComparison(label, f"it is {described(dict(got))}, expected is {described(dict(wanted))}")
    if got["type"] != wanted["type"]:
        return differ
    if got["type"] in ("none", "other", "tensor"):  # the last two cannot be looked into, on neither side
        return OutputComparison(label)
    if got["type"] != "scalar" or "float" not in got["data_type"] and "complex" not in got["data_type"]:
        same = got["value"] == wanted["value"] and got.get("data_type") == wanted.get("data_type")
        return OutputComparison(label) if same else differ
    if got["data_type"] != wanted["data_type"]:
        return differ
    atol, rtol = tolerances.of(got["data_type"], wanted["data_type"])
    error, size = _difference(_parts(got["value"]), _parts(wanted["value"]))
    relative = 0.0 if error == 0 else inf if size == 0 or error == inf else error / size
    at: tuple[int, ...] | None = () if error else None
    wrong = not error <= atol + rtol * size or error == inf
    return OutputComparison(label, "", error, at, relative, at, int(wrong), 1, atol, rtol)


def _parts(value: Any) -> list[float]:
    return [float(each) for each in value] if isinstance(value, list) else [float(value)]


def _difference(got: Sequence[float], wanted: Sequence[float]) -> tuple[float, float]:
    """How far two numbers are apart, and how large the expected one is; as the loader does it."""
    error = size = 0.0
    for one, other in zip(got, wanted, strict=True):
        if isfinite(one) and isfinite(other):
            error, size = hypot(error, one - other), hypot(size, other)
        elif not (one == other or (isnan(one) and isnan(other))):
            return inf, size
    return error, size


def stored(tensor: StoredTensor) -> tuple[str, str, str, str, str]:
    """`DTYPE DIMS OFFSET STRIDES PATH` as the loader reads them."""
    path = encoded(str(tensor.path.absolute()))
    return tensor.dtype, dimensions(tensor.shape), str(tensor.offset), dimensions(tensor.strides), path
