"""Comparing what a model returned with what it should return: nested values, with tensors in files.

Values are Python's own lists, tuples, dicts, numbers and strings, with a `StoredTensor` for each tensor. The elements
of tensors are compared by the loader, which reads both files piece by piece.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot, inf, isfinite, isnan, prod
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from torchlink.model.stored import StoredTensor
from torchlink.shown import shortened
from torchlink.verify.specs import dimensions, encoded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torchlink.verify.comparing.tolerances import Tolerances

Ask: TypeAlias = "Callable[[str], Mapping[str, Any]]"


@dataclass(frozen=True, slots=True)
class OutputComparison:
    """One tensor or plain value compared; differences are None if nothing could be subtracted."""

    label: str  # its place: "output", "output[0]", "output.logits"
    problem: str = ""  # why it is wrong, other than by its numbers: another shape, dtype, type or text
    max_abs_error: float | None = None
    worst_at: tuple[int, ...] | None = None  # the index of the greatest absolute difference; None without one
    max_rel_error: float | None = None  # divided by what was expected
    worst_rel_at: tuple[int, ...] | None = None
    mismatched: int = 0
    elements: int = 0
    atol: float = 0.0
    rtol: float = 0.0
    note: str = ""  # why it has not been compared, although it is not wrong

    @property
    def ok(self) -> bool:
        """Whether it is as expected."""
        return not self.problem and not self.mismatched

    def sentence(self) -> str:
        """A sentence: what is wrong with it, or how much it differs."""
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
    failed: str = ""  # why there is nothing to compare with: the other run failed
    # How much two runs of the loader with the same inputs differ, if that exceeds the tolerances.
    spread: float | None = None

    @property
    def ok(self) -> bool:
        """Whether everything is as expected."""
        return not self.failed and all(output.ok for output in self.outputs)

    @property
    def comparable(self) -> bool:
        """Whether the numbers of every output could be subtracted."""
        return not self.failed and not any(output.problem for output in self.outputs)

    @property
    def notes(self) -> list[str]:
        """What has not been compared, one sentence for each output."""
        return [f"{output.label} is {output.note}" for output in self.outputs if output.note]

    @property
    def max_abs_error(self) -> float | None:
        """The greatest absolute difference of any element; None if something was not comparable."""
        return self._greatest([output.max_abs_error for output in self.outputs])

    @property
    def max_rel_error(self) -> float | None:
        """The greatest relative difference of any element; None if something was not comparable."""
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


class Fields(tuple[Any, ...]):  # noqa: SLOT001 - a tuple takes no slots that are not empty
    """A named tuple's values, with the names of its fields."""

    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Opaque:
    """A value of which only little is known: an object, a device, a tensor without elements."""

    type: str  # in TorchScript's notation; empty if Python returned it and has no such name
    text: str = ""  # all that there is to it, `cuda:0` of a device; empty: its contents cannot be compared


def value_of(tree: Any, raw: Path) -> Any:
    """The value of a tree as the loader or Python wrote it (docs/values.md); its tensors are in the raw file."""
    if isinstance(tree, list):
        return [value_of(each, raw) for each in tree]
    kind, value = tree["type"], tree.get("value")
    if kind == "tensor":
        if "offset" not in tree:
            return Opaque(f"{tree['data_type']} tensor whose values cannot be read")
        shape = tuple(map(int, tree["shape"]))
        return StoredTensor(str(tree["data_type"]), shape, strides_of(shape), int(tree["offset"]), raw, "")
    if kind == "scalar":
        return _scalar(str(tree["data_type"]), value)
    if kind == "tuple":
        parts = Fields(value_of(each, raw) for each in value)
        parts.names = tuple(tree.get("names") or ())
        return parts
    if kind == "generic_dict":
        return {key: value_of(each, raw) for key, each in value.items()}
    if kind == "dict":
        return {
            _key(value_of(key, raw), index): value_of(each, raw) for index, (key, each) in enumerate(value)
        }
    if kind == "none":
        return None
    if kind in ("string", "device"):
        return str(value)
    return Opaque(str(value), str(tree.get("text") or ""))


def _scalar(dtype: str, value: Any) -> bool | int | float | complex:
    if "complex" in dtype:
        return complex(*map(float, value))
    return float(value) if "float" in dtype else value


def _key(key: Any, index: int) -> Any:
    """A key of a dict; one that is not a plain value is replaced by its position."""
    return key if isinstance(key, (bool, int, float, str)) else Opaque(f"entry {index}")


def strides_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Those of a contiguous tensor."""
    return tuple(prod(shape[index + 1 :]) for index in range(len(shape)))


def children(value: Any) -> list[tuple[str, Any]] | None:
    """The parts of a container, each with its step in a label: `.key`, `[0]`; None if it is not a container."""
    if isinstance(value, (list, tuple)):
        names = value.names if isinstance(value, Fields) and len(value.names) == len(value) else None
        steps = [f".{name}" for name in names] if names else [f"[{index}]" for index in range(len(value))]
        return list(zip(steps, value, strict=True))
    if isinstance(value, dict):
        return [(step(key), each) for key, each in value.items()]
    return None


def step(key: Any) -> str:
    """The step of a dict's entry in a label, as the loader writes it."""
    if isinstance(key, str):
        return f".{key}"
    if isinstance(key, bool):
        return "[true]" if key else "[false]"
    return f"[{key.type if isinstance(key, Opaque) else key}]"


class Leaf(NamedTuple):
    """A tensor or a plain value, and its label."""

    label: str
    value: Any


def leaves(value: Any, label: str = "output", *, fields: bool = True) -> Iterator[Leaf]:
    """The leaves of a value, in order; without `fields`, those of a named tuple are numbered."""
    parts = children(value if fields or not isinstance(value, Fields) else tuple(value))
    if parts is None:
        yield Leaf(label, value)
        return
    for where, part in parts:
        yield from leaves(part, label + where, fields=fields)


def described(value: Any) -> str:
    """A value described for people: `a tuple of 2`, `a float32 tensor`, `int 3`, `'text'`."""
    if isinstance(value, StoredTensor):
        return f"a {value.dtype} tensor"
    if isinstance(value, Opaque):
        return f"a {value.type} {value.text}".rstrip() if value.type else "an object"
    if isinstance(value, str):
        return repr(shortened(value))
    if isinstance(value, (list, tuple, dict)):
        return f"a {_container(value)} of {len(value)}"
    return "None" if value is None else f"{type(value).__name__} {value}"


def _container(value: Any) -> str:
    return "tuple" if isinstance(value, tuple) else type(value).__name__


def compare_values(
    actual: Any, expected: Any, tolerances: Tolerances, ask: Ask, label: str = "output"
) -> Iterator[OutputComparison]:
    """Compare two values part by part; containers must be of the same kind and have the same parts.

    Args:
        actual: what was returned.
        expected: what should be returned.
        tolerances: of the comparison.
        ask: sends the loader a command and returns the event that answers it.
        label: the label of both.
    """
    ours, theirs = children(actual), children(expected)
    if ours is None and theirs is None:
        yield compare_leaves(Leaf(label, actual), expected, tolerances, ask)
        return
    if ours is None or theirs is None or _container(actual) != _container(expected):
        yield OutputComparison(label, f"it is {described(actual)}, expected {described(expected)}")
        return
    if not isinstance(actual, dict):  # by position: elsewhere the fields of a named tuple are numbered
        theirs = [(each, part) for (each, _), (_, part) in zip(ours, theirs, strict=False)] + theirs[
            len(ours) :
        ]
    wanted, got = dict(theirs), dict(ours)
    for steps, fact in (
        ([each for each in wanted if each not in got], "it is missing"),
        ([each for each in got if each not in wanted], "it is not expected"),
    ):
        for each in steps:
            yield OutputComparison(label + each, fact)
    for each, part in ours:
        if each in wanted:
            yield from compare_values(part, wanted[each], tolerances, ask, label + each)


def compare_flat(actual: Any, expected: Any, tolerances: Tolerances, ask: Ask) -> Iterator[OutputComparison]:
    """Compare two values leaf by leaf, whatever the containers: by label if the labels are the same, else in order.

    What an AOTInductor package returns has a structure in Python (a dict, a dataclass) that C++ may not know.
    """
    ours, theirs = list(leaves(actual)), list(leaves(expected))
    if len(ours) != len(theirs):
        yield OutputComparison("output", f"it has {len(ours)} values, expected {len(theirs)}")
        return
    labels = {leaf.label: leaf for leaf in theirs}
    same = len(labels) == len(theirs) and all(leaf.label in labels for leaf in ours)
    for index, leaf in enumerate(ours):
        other = labels[leaf.label] if same else theirs[index]
        yield compare_leaves(leaf, other.value, tolerances, ask)


def compare_leaves(
    actual: Leaf, wanted: Any, tolerances: Tolerances, ask: Ask, *, any_dtype: bool = False
) -> OutputComparison:
    """Compare two tensors or two plain values.

    Args:
        actual: what was returned; its label is the result's.
        wanted: what should be returned.
        tolerances: of the comparison.
        ask: sends the loader a command and returns the event that answers it.
        any_dtype: tensors may be of different dtypes, as long as their values are the same.
    """
    label, got = actual
    if isinstance(got, StoredTensor) and isinstance(wanted, StoredTensor):
        if got.shape != wanted.shape:
            return OutputComparison(label, f"its shape is {list(got.shape)}, expected {list(wanted.shape)}")
        if got.dtype != wanted.dtype and not any_dtype:
            return OutputComparison(label, f"its dtype is {got.dtype}, expected {wanted.dtype}")
        return _tensors(label, got, wanted, tolerances.of(got.dtype, wanted.dtype), ask)
    if isinstance(got, Opaque) and isinstance(wanted, Opaque):
        return _opaque(label, got, wanted)
    if type(got) is not type(wanted):
        return OutputComparison(label, f"it is {described(got)}, expected {described(wanted)}")
    if isinstance(got, float | complex):
        return _numbers(label, got, wanted, tolerances)
    if got != wanted:
        return OutputComparison(label, f"it is {described(got)}, expected {described(wanted)}")
    return OutputComparison(label)


def _opaque(label: str, got: Opaque, wanted: Opaque) -> OutputComparison:
    """Two values by their types and texts, as far as both are known."""
    if (got.type and wanted.type and got.type != wanted.type) or (
        got.text and wanted.text and got.text != wanted.text
    ):
        return OutputComparison(label, f"it is {described(got)}, expected {described(wanted)}")
    if got.text and wanted.text:
        return OutputComparison(label)
    return OutputComparison(label, note=f"{described(got)}, whose contents cannot be compared")


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


def _numbers(label: str, got: complex, wanted: complex, tolerances: Tolerances) -> OutputComparison:
    """Two plain numbers, within the tolerances of float64 or complex128."""
    atol, rtol = tolerances.of("complex128" if type(got) is complex else "float64")
    error = _difference(complex(got), complex(wanted))
    size = abs(wanted) if isfinite(abs(wanted)) else 0.0
    relative = 0.0 if error == 0 else inf if size == 0 or error == inf else error / size
    at: tuple[int, ...] | None = () if error else None
    wrong = not error <= atol + rtol * size or error == inf
    return OutputComparison(label, "", error, at, relative, at, int(wrong), 1, atol, rtol)


def _difference(got: complex, wanted: complex) -> float:
    """The difference of two numbers, computed as the loader does."""
    error = 0.0
    for one, other in ((got.real, wanted.real), (got.imag, wanted.imag)):
        if isfinite(one) and isfinite(other):
            error = hypot(error, one - other)
        elif not (one == other or (isnan(one) and isnan(other))):
            return inf
    return error


def stored(tensor: StoredTensor) -> tuple[str, str, str, str, str]:
    """`DTYPE DIMS OFFSET STRIDES PATH` as the loader reads them."""
    path = encoded(str(tensor.path.absolute()))
    return tensor.dtype, dimensions(tensor.shape), str(tensor.offset), dimensions(tensor.strides), path
