"""What the use of a value tells of it: as an index, a mask, bits, an image, beside another tensor."""

from __future__ import annotations

from torchlink.model.dtypes import is_floating
from torchlink.verify.guessing.clues import PASS, ClueRule, Known, Probe, Telling, Told, among, rows
from torchlink.verify.guessing.templates import BATCH, HEIGHT, LENGTH, WIDTH, Template, spatial
from torchlink.verify.shapes.elementwise import BINARY, BITWISE, DIVISION
from torchlink.verify.shapes.values import UNKNOWN, Shaped

ELEMENTWISE = (*BINARY.split(), *DIVISION.split(), "eq", "ne", "lt", "le", "gt", "ge", "maximum", "minimum")


def pack(x: object, lengths: object, batch_first: object, *_: object) -> Told:
    """Sequences of several lengths, packed: the lengths are int64 on the CPU."""
    told = Telling(lengths, ((BATCH,),), "int64", "it gives the lengths of sequences")
    return ((told,), PASS) if isinstance(x, Probe) or batch_first is not UNKNOWN else None


def einsum(equation: object, operands: object, *_: object) -> Told:
    """One letter a dimension; letters that a parameter has too are known."""
    if not isinstance(equation, str) or not isinstance(operands, list) or "." in equation:
        return None
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, operand in zip(terms, operands, strict=False):
        if isinstance(operand, Shaped):
            sizes.update(zip(term, operand.shape, strict=False))
    dtype = next((each.dtype for each in operands if isinstance(each, Shaped)), None)
    reason = f"einsum says {equation!r}"
    return tuple(
        Telling(operand, (tuple(sizes.get(letter, 4) for letter in term),), dtype, reason)
        for term, operand in zip(terms, operands, strict=False)
    ), UNKNOWN


def index(x: object, indices: object, *_: object) -> Told:
    """Integers that index another tensor."""
    if not isinstance(indices, list):
        return None
    templates: tuple[Template, ...] = ((LENGTH,), (BATCH, LENGTH))
    found = [each for each in indices if isinstance(each, Probe)]
    return tuple(
        Telling(each, templates, "int64", "it is used as an index", "zeros") for each in found
    ), among(x)


def index_at(x: object, _dim: object, indices: object, *_: object) -> Told:
    """`index_select` and `gather`."""
    templates: tuple[Template, ...] = ((LENGTH,), (BATCH, LENGTH), (BATCH, LENGTH, 1))
    return (Telling(indices, templates, "int64", "it is used as an index", "zeros"),), among(x)


def masked_fill(x: object, mask: object, *_: object) -> Told:
    """A mask of bools; none set, because what is masked out everywhere is not a number."""
    return (Telling(mask, (None,), "bool", "it is used as a mask", "zeros"),), among(x)


def where(condition: object, *values: object) -> Told:
    """A condition of bools."""
    return (Telling(condition, (None,), "bool", "it is used as a condition"),), among(*values[:2])


def bitwise(*values: object) -> Told:
    """Integers or bools."""
    return tuple(Telling(each, (None,), "int64", "its bits are used") for each in values[:2]), PASS


def one_hot(x: object, *_: object) -> Told:
    """Class numbers."""
    return (Telling(x, ((BATCH, LENGTH), (BATCH,)), "int64", "it holds class numbers", "zeros"),), PASS


def target(_x: object, wanted: object, *_: object) -> Told:
    """The class numbers of a loss."""
    return (Telling(wanted, ((BATCH,),), "int64", "it holds class numbers", "zeros"),), UNKNOWN


def counted(x: object, *_: object) -> Told:
    """`bincount`."""
    return (Telling(x, ((LENGTH,),), "int64", "it is counted"),), UNKNOWN


def resized(rank: int) -> ClueRule:
    """An image that is resized."""

    def rule(x: object, *_: object) -> Told:
        template: Template = (BATCH, 3, *spatial(rank))
        return (Telling(x, (template,), None, "it is resized as an image", weak=True),), PASS

    return rule


def as_real(x: object, *_: object) -> Told:
    """Complex numbers."""
    return (Telling(x, (None,), "complex64", "its real and imaginary parts are used"),), PASS


def elementwise(*values: object) -> Told:
    """A parameter or constant that is combined element by element: its shape, or one that broadcasts with it."""
    known = [each for each in values[:3] if isinstance(each, Shaped) and each.rank > 0]
    widths = [each.last for each in values[:3] if isinstance(each, Known) and each.last is not None]
    if not known and widths:
        reason = f"it is combined with vectors of {widths[0]}"
        tellings = tuple(Telling(each, rows(widths[0]), None, reason, weak=True) for each in values[:3])
        return tellings, Known(last=widths[0])
    if not known:
        return None
    shape, dtype = known[0].shape, known[0].dtype
    wide: Template = tuple(
        size if size > 1 else letter for size, letter in zip(shape, _letters(len(shape)), strict=True)
    )
    templates: list[Template] = [wide, (BATCH, *wide)] if len(shape) < 4 else [wide]
    if shape[0] != 1:
        templates.reverse()
    reason = f"it is combined with {known[0].origin or 'a constant'} of shape {list(shape)}"
    told = dtype if is_floating(dtype) else None
    return tuple(Telling(each, tuple(templates), told, reason, weak=True) for each in values[:3]), PASS


def _letters(rank: int) -> Template:
    """Open sizes for the dimensions in which a broadcast parameter has size 1."""
    return {1: (LENGTH,), 2: (BATCH, LENGTH), 3: (BATCH, HEIGHT, WIDTH)}.get(
        rank, (BATCH, 3, HEIGHT, WIDTH)[:rank]
    )


CLUE_RULES: dict[str, ClueRule] = {
    **dict.fromkeys(ELEMENTWISE, elementwise),
    **dict.fromkeys(BITWISE.split(), bitwise),
    "_pack_padded_sequence": pack,
    "einsum": einsum,
    "index": index,
    "index_select": index_at,
    "gather": index_at,
    "masked_fill": masked_fill,
    "where": where,
    "one_hot": one_hot,
    "cross_entropy_loss": target,
    "nll_loss": target,
    "bincount": counted,
    "view_as_real": as_real,
    "upsample_nearest1d": resized(1),
    "upsample_linear1d": resized(1),
    "upsample_nearest2d": resized(2),
    "upsample_bilinear2d": resized(2),
    "upsample_bicubic2d": resized(2),
    "upsample_trilinear3d": resized(3),
}
