"""From the shape that an operator must return to the shape that it must be given.

Only operators that need inverting are listed. Those that keep a shape that is already right (`view`, `flatten`,
`reshape`, elementwise ones, pooling for channels) need not be inverted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchlink.verify.guessing.operators import REDUCING
from torchlink.verify.guessing.values import HEIGHT, LENGTH, WIDTH, Shaped, whole, wholes

if TYPE_CHECKING:
    from collections.abc import Callable

    from torchlink.verify.guessing.values import Template


UNBOUNDED = 1 << 62


@dataclass(frozen=True, slots=True)
class InvertedStep:
    """An operator that a value went through, with the numbers that it was called with."""

    kind: str
    numbers: tuple[int, ...] = ()


def step_of(kind: str, arguments: list[object]) -> InvertedStep | None:
    """The step of an operator; None if the shape need not be inverted, or cannot be.

    Args:
        kind: the operator's name without `aten::` and without a trailing underscore.
        arguments: what it is called with; the value in question is the first.
    """
    rest = arguments[1:]
    try:
        if kind == "permute":
            return InvertedStep(kind, tuple(wholes(rest[0])))
        if kind in ("transpose", "swapaxes"):
            return InvertedStep("transpose", (whole(rest[0]), whole(rest[1])))
        if kind in ("unsqueeze", "squeeze", "unbind"):
            return InvertedStep(kind, (whole(rest[0]),))
        if kind == "select":
            index = rest[1] if isinstance(rest[1], int) else 0
            return InvertedStep(kind, (whole(rest[0]), index + 1 if index >= 0 else -index))
        if kind == "slice" and isinstance(rest[0], int):
            return _slice(*rest)
        if kind == "chunk":
            return InvertedStep("times", (whole(rest[1]), whole(rest[0])))
        if kind == "split_with_sizes" or (kind == "split" and isinstance(rest[0], list)):
            return InvertedStep("exactly", (whole(rest[1]), sum(wholes(rest[0]))))
        if kind in REDUCING and rest and _is_dims(rest[0]):
            keepdim = rest[1] is True if len(rest) > 1 else False
            return None if keepdim else InvertedStep("reduce", tuple(wholes(rest[0])))
    except (TypeError, LookupError):
        return None
    return InvertedStep("t") if kind == "t" else None


def _is_dims(value: object) -> bool:
    return isinstance(value, (int, list)) and not isinstance(value, bool) and value != []


def _slice(dim: object, start: object = None, end: object = None, step: object = 1) -> InvertedStep:
    """`x[start:end:step]` along a dimension; a full range changes nothing."""
    first = 0 if start is None else whole(start)
    last = UNBOUNDED if end is None else whole(end)
    return InvertedStep("slice", (whole(dim), first, min(last, UNBOUNDED), whole(step)))


def undone(template: Template, step: InvertedStep) -> Template | None:
    """The shape before the step; None if no shape before it gives this one."""
    try:
        return UNDOING[step.kind](template, *step.numbers)
    except (IndexError, ValueError):
        return None


def _permute(template: Template, *dims: int) -> Template | None:
    if len(dims) != len(template):
        return None
    before = list(template)
    for place, dim in enumerate(dims):
        before[dim] = template[place]
    return tuple(before)


def _transpose(template: Template, first: int, second: int) -> Template:
    before = list(template)
    before[first], before[second] = before[second], before[first]
    return tuple(before)


def _unsqueeze(template: Template, dim: int) -> Template | None:
    place = dim % len(template)
    if isinstance(template[place], int) and template[place] != 1:
        return None
    return template[:place] + template[place + 1 :]


def _insert(template: Template, dim: int, size: int | str) -> Template:
    place = dim % (len(template) + 1)
    return (*template[:place], size, *template[place:])


def _slice_before(template: Template, dim: int, start: int, end: int, step: int) -> Template | None:
    size = template[dim]
    if isinstance(size, str):
        return template
    if start < 0:
        grown = max(size, -start)
    elif end < UNBOUNDED and end >= 0 and len(range(start, end, step)) != size:
        return None
    else:
        grown = start + size * step + (-end if end < 0 else 0)
    return _with(template, dim, grown)


def _cat(template: Template, dim: int, parts: int, known: int) -> Template | None:
    size = template[dim]
    if isinstance(size, str):
        return template
    share = (size - known) // parts
    return _with(template, dim, share) if share > 0 else None


def _cat_first(template: Template, dim: int, parts: int, known: int) -> Template | None:
    """The first of the joined parts takes the remainder."""
    size = template[dim]
    if isinstance(size, str):
        return template
    return _with(template, dim, size - known - (parts - 1) * ((size - known) // parts))


def _times(template: Template, dim: int, times: int) -> Template:
    size = template[dim]
    return template if isinstance(size, str) else _with(template, dim, size * times)


def _reduce(template: Template, *dims: int) -> Template:
    rank = len(template) + len(dims)
    open_sizes = [LENGTH] if len(dims) == 1 else [HEIGHT, WIDTH] if len(dims) == 2 else [LENGTH] * len(dims)
    before = list(template)
    for place, letter in zip(sorted(dim % rank for dim in dims), open_sizes, strict=True):
        before.insert(place, letter)
    return tuple(before)


def _with(template: Template, dim: int, size: int) -> Template:
    place = dim % len(template)
    return (*template[:place], size, *template[place + 1 :])


UNDOING: dict[str, Callable[..., Template | None]] = {
    "permute": _permute,
    "transpose": _transpose,
    "t": lambda template: template[::-1],
    "unsqueeze": _unsqueeze,
    "squeeze": lambda template, dim: _insert(template, dim, 1),
    "select": _insert,
    "unbind": lambda template, dim: _insert(template, dim, LENGTH),
    "slice": _slice_before,
    "cat": _cat,
    "cat_first": _cat_first,
    "stack": lambda template, dim, *_: _unsqueeze(_with(template, dim, 1), dim),
    "times": _times,
    "exactly": _with,
    "reduce": _reduce,
    "classes": lambda template: template[:-1],
    "unpacked": lambda template: ("B", *template),
}


def known_size(value: object, dim: int) -> int | None:
    """The size of a tensor along a dimension, if known."""
    if isinstance(value, Shaped) and -value.rank <= dim < value.rank:
        return value.shape[dim]
    return None
