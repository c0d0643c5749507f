"""Shape rules of operators that move, join, cut or index elements."""

from __future__ import annotations

from torchlink.verify.shapes.values import (
    Mismatch,
    Rule,
    Shape,
    Shaped,
    axis,
    broadcast,
    product,
    promote,
    require,
    tensor,
    whole,
    wholes,
)

INDEX_DTYPES = ("int64", "int32", "uint8", "bool")
FAR = 1 << 62  # slices without an end carry the largest int64


def view(x: object, size: object, *_: object) -> Shaped:
    """`view` and `reshape`: the same elements; one size may be -1."""
    given, sizes = tensor(x), wholes(size)
    known = product([number for number in sizes if number >= 0])
    if -1 in sizes:
        require(sizes.count(-1) == 1 and known > 0 and given.numel % known == 0)
        sizes[sizes.index(-1)] = given.numel // known
    require(product(sizes) == given.numel and min(sizes, default=0) >= 0)
    return Shaped(tuple(sizes), given.dtype)


def view_as(x: object, other: object) -> Shaped:
    """The shape of another tensor, with as many elements."""
    return view(x, list(tensor(other).shape))


def flatten(x: object, start: object = 0, end: object = -1) -> Shaped:
    """The dimensions from `start` to `end` as one."""
    given = tensor(x)
    first, last = axis(start, given.rank), axis(end, given.rank)
    require(first <= last)
    if given.rank == 0:
        return Shaped((1,), given.dtype)
    joined = product(given.shape[first : last + 1])
    return Shaped((*given.shape[:first], joined, *given.shape[last + 1 :]), given.dtype)


def unflatten(x: object, dim: object, size: object, *_: object) -> Shaped:
    """One dimension as several."""
    given = tensor(x)
    place = axis(dim, given.rank)
    inner = view(Shaped((given.shape[place],), given.dtype), size).shape
    return Shaped((*given.shape[:place], *inner, *given.shape[place + 1 :]), given.dtype)


def permute(x: object, dims: object) -> Shaped:
    """The dimensions in another order."""
    given = tensor(x)
    order = [axis(dim, given.rank) for dim in wholes(dims)]
    require(sorted(order) == list(range(given.rank)))
    return Shaped(tuple(given.shape[place] for place in order), given.dtype, given.origin)


def transpose(x: object, first: object, second: object) -> Shaped:
    """Two dimensions swapped."""
    given = tensor(x)
    order = list(range(given.rank))
    a, b = axis(first, given.rank), axis(second, given.rank)
    order[a], order[b] = order[b], order[a]
    return permute(x, order)


def matrix_transpose(x: object) -> Shaped:
    """`x.t()`: of a matrix, or of what has fewer dimensions."""
    given = tensor(x)
    require(given.rank <= 2)
    return Shaped(given.shape[::-1], given.dtype, given.origin)


def movedim(x: object, source: object, target: object) -> Shaped:
    """Dimensions moved to new places, the others in order."""
    given = tensor(x)
    sources = [axis(dim, given.rank) for dim in wholes(source)]
    targets = [axis(dim, given.rank) for dim in wholes(target)]
    others = iter(place for place in range(given.rank) if place not in sources)
    moved = dict(zip(targets, sources, strict=True))
    return permute(x, [moved[place] if place in moved else next(others) for place in range(given.rank)])


def unsqueeze(x: object, dim: object) -> Shaped:
    """A new dimension of size 1."""
    given = tensor(x)
    place = axis(dim, given.rank + 1)
    return Shaped((*given.shape[:place], 1, *given.shape[place:]), given.dtype)


def squeeze(x: object, dim: object = None) -> Shaped:
    """Without the dimensions of size 1, or without one of them."""
    given = tensor(x)
    chosen = range(given.rank) if dim is None else [axis(each, given.rank) for each in wholes(dim)]
    kept = [size for place, size in enumerate(given.shape) if size != 1 or place not in chosen]
    return Shaped(tuple(kept), given.dtype)


def expand(x: object, size: object, *_: object) -> Shaped:
    """Broadcast to a size; -1 keeps one."""
    given, sizes = tensor(x), wholes(size)
    require(len(sizes) >= given.rank)
    own = (*(1 for _ in range(len(sizes) - given.rank)), *given.shape)
    target = tuple(mine if wish == -1 else wish for mine, wish in zip(own, sizes, strict=True))
    require(broadcast(given.shape, target) == target)
    return Shaped(target, given.dtype)


def expand_as(x: object, other: object) -> Shaped:
    """Broadcast to another tensor's shape."""
    return expand(x, list(tensor(other).shape))


def repeat(x: object, times: object) -> Shaped:
    """Each dimension several times."""
    given, counts = tensor(x), wholes(times)
    require(len(counts) >= given.rank)
    own = (*(1 for _ in range(len(counts) - given.rank)), *given.shape)
    return Shaped(tuple(size * count for size, count in zip(own, counts, strict=True)), given.dtype)


def repeat_interleave(x: object, times: object, dim: object = None, *_: object) -> Shaped:
    """Each element several times, along a dimension or flat."""
    given = flatten(x) if dim is None else tensor(x)
    place = 0 if dim is None else axis(dim, given.rank)
    return _resized(given, place, given.shape[place] * whole(times))


def cat(parts: object, dim: object = 0) -> Shaped:
    """Joined along a dimension; all others must agree. 1-dim empty tensors are skipped, as torch does."""
    given = [tensor(part) for part in parts] if isinstance(parts, (list, tuple)) else []
    counted = [part for part in given if part.shape != (0,)] or given
    if not counted:
        raise Mismatch
    place = axis(dim, counted[0].rank)
    for part in counted[1:]:
        require(part.rank == counted[0].rank)
        require(_resized(part, place, 0).shape == _resized(counted[0], place, 0).shape)
    joined = _resized(counted[0], place, sum(part.shape[place] for part in counted))
    return Shaped(joined.shape, promote(*counted))


def stack(parts: object, dim: object = 0) -> Shaped:
    """Joined along a new dimension; all shapes must agree."""
    given = [tensor(part) for part in parts] if isinstance(parts, (list, tuple)) else []
    require(len({part.shape for part in given}) == 1)
    place = axis(dim, given[0].rank + 1)
    return Shaped((*given[0].shape[:place], len(given), *given[0].shape[place:]), promote(*given))


def chunk(x: object, count: object, dim: object = 0) -> list[object]:
    """Cut into equal pieces, the last one smaller."""
    given = tensor(x)
    place = axis(dim, given.rank)
    return split(x, max(1, -(-given.shape[place] // whole(count))), dim)


def split(x: object, size: object, dim: object = 0) -> list[object]:
    """Cut into pieces of a size, or of the sizes of a list."""
    given = tensor(x)
    place = axis(dim, given.rank)
    total = given.shape[place]
    if isinstance(size, list):
        sizes = wholes(size)
        require(sum(sizes) == total)
    else:
        piece = whole(size)
        require(piece > 0 or total == 0)
        sizes = [min(piece, total - start) for start in range(0, total, piece)] or [0]
    return [_resized(given, place, each) for each in sizes]


def unbind(x: object, dim: object = 0) -> list[object]:
    """The slices along a dimension."""
    given = tensor(x)
    place = axis(dim, given.rank)
    require(given.rank > 0)
    return [select(x, place, 0)] * given.shape[place] if given.shape[place] else []


def select(x: object, dim: object, index: object) -> Shaped:
    """One slice along a dimension."""
    given = tensor(x)
    require(given.rank > 0)
    place = axis(dim, given.rank)
    size = given.shape[place]
    if isinstance(index, int):
        require(-size <= index < size)
    return Shaped(given.shape[:place] + given.shape[place + 1 :], given.dtype)


def slice_(x: object, dim: object = 0, start: object = None, end: object = None, step: object = 1) -> Shaped:
    """A range along a dimension, clamped as Python's slices are."""
    given = tensor(x)
    require(given.rank > 0)
    place = axis(dim, given.rank)
    first, last = (None if bound is None else whole(bound) for bound in (start, end))
    count = len(range(*slice(first, last, whole(step)).indices(given.shape[place])))
    return _resized(given, place, count)


def narrow(x: object, dim: object, start: object, length: object) -> Shaped:
    """A range of a length along a dimension, not clamped."""
    given = tensor(x)
    place = axis(dim, given.rank)
    require(whole(start) + whole(length) <= given.shape[place])
    return _resized(given, place, whole(length))


def index_select(x: object, dim: object, index: object) -> Shaped:
    """The slices that a 1-dim index names."""
    given, chosen = tensor(x), tensor(index)
    require(chosen.dtype in ("int64", "int32") and chosen.rank <= 1)
    return _resized(given, axis(dim, given.rank), chosen.numel)


def gather(x: object, dim: object, index: object, *_: object) -> Shaped:
    """One element an index; the index has as many dimensions."""
    given, chosen = tensor(x), tensor(index)
    axis(dim, given.rank)
    require(chosen.dtype == "int64" and chosen.rank == given.rank)
    return Shaped(chosen.shape, given.dtype)


def index(x: object, indices: object) -> Shaped:
    """`x[i, j]` with tensors of integers; a mask's result has an unknown size."""
    given = tensor(x)
    chosen = [None if each is None else tensor(each) for each in indices] if isinstance(indices, list) else []
    require(len(chosen) <= given.rank)
    require(all(each is None or each.dtype in INDEX_DTYPES for each in chosen))
    masks = [each for each in chosen if each is not None and each.dtype in ("bool", "uint8")]
    for mask in masks:
        require(mask.rank <= given.rank)
    if masks:
        raise TypeError
    places = [place for place, each in enumerate(chosen) if each is not None]
    joined: Shape = broadcast(*(each.shape for each in chosen if each is not None))
    apart = places != list(range(places[0], places[-1] + 1))
    rest = [size for place, size in enumerate(given.shape) if place not in places]
    at = 0 if apart else places[0]
    return Shaped((*rest[:at], *joined, *rest[at:]), given.dtype)


def pad(x: object, amounts: object, *_: object) -> Shaped:
    """Padding given from the last dimension on, two numbers each."""
    given, given_amounts = tensor(x), wholes(amounts)
    sizes = list(given.shape)
    require(len(given_amounts) // 2 <= given.rank)
    for place in range(len(given_amounts) // 2):
        sizes[-1 - place] += given_amounts[2 * place] + given_amounts[2 * place + 1]
    require(min(sizes, default=0) >= 0)
    return Shaped(tuple(sizes), given.dtype)


def pixel_shuffle(x: object, factor: object) -> Shaped:
    """Channels turned into a finer grid."""
    given, by = tensor(x), whole(factor)
    require(given.rank >= 3 and given.shape[-3] % (by * by) == 0)
    *lead, channels, height, width = given.shape
    return Shaped((*lead, channels // (by * by), height * by, width * by), given.dtype)


def view_as_real(x: object) -> Shaped:
    """Complex numbers as pairs."""
    given = tensor(x)
    require(given.dtype.startswith("complex"))
    return Shaped((*given.shape, 2), {"complex64": "float32"}.get(given.dtype, "float64"))


def part(x: object) -> Shaped:
    """The real or imaginary part."""
    given = tensor(x)
    parts = {"complex64": "float32", "complex128": "float64"}
    return Shaped(given.shape, parts.get(given.dtype, given.dtype))


def one_hot(x: object, classes: object = -1) -> Shaped:
    """One more dimension with a 1 at the index."""
    given = tensor(x)
    require(given.dtype == "int64")
    if whole(classes) < 0:
        raise TypeError  # as many as the largest value says
    return Shaped((*given.shape, whole(classes)), "int64")


def _resized(x: Shaped, place: int, size: int) -> Shaped:
    return Shaped((*x.shape[:place], size, *x.shape[place + 1 :]), x.dtype, x.origin)


RULES: dict[str, Rule] = {
    **dict.fromkeys(("view", "reshape", "_unsafe_view", "_reshape_alias"), view),
    "view_as": view_as,
    "reshape_as": view_as,
    "flatten": flatten,
    "ravel": flatten,
    "unflatten": unflatten,
    "permute": permute,
    "transpose": transpose,
    "swapaxes": transpose,
    "t": matrix_transpose,
    "movedim": movedim,
    "moveaxis": movedim,
    "unsqueeze": unsqueeze,
    "squeeze": squeeze,
    "expand": expand,
    "broadcast_to": expand,
    "expand_as": expand_as,
    "repeat": repeat,
    "repeat_interleave": repeat_interleave,
    "cat": cat,
    "concat": cat,
    "stack": stack,
    "chunk": chunk,
    "split": split,
    "split_with_sizes": split,
    "unbind": unbind,
    "select": select,
    "slice": slice_,
    "narrow": narrow,
    "index_select": index_select,
    "gather": gather,
    "index": index,
    "pad": pad,
    "constant_pad_nd": pad,
    **dict.fromkeys(
        (f"{kind}_pad{rank}d" for kind in ("reflection", "replication") for rank in (1, 2, 3)), pad
    ),
    "pixel_shuffle": pixel_shuffle,
    "view_as_real": view_as_real,
    "real": part,
    "imag": part,
    "one_hot": one_hot,
}
