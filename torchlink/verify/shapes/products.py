"""Shape rules of matrix products."""

from __future__ import annotations

from torchlink.verify.shapes.values import Rule, Shaped, broadcast, promote, require, tensor


def same_dtype(*tensors: Shaped) -> None:
    """Matrix products and convolutions take one dtype only."""
    require(len({each.dtype for each in tensors}) == 1)


def matmul(x: object, y: object) -> Shaped:
    """Matrix product with broadcast batch dimensions; a 1-dim side is a vector."""
    a, b = tensor(x), tensor(y)
    require(a.rank > 0 and b.rank > 0)
    same_dtype(a, b)
    left = a.shape if a.rank > 1 else (1, *a.shape)
    right = b.shape if b.rank > 1 else (*b.shape, 1)
    require(left[-1] == right[-2])
    tail = (*((left[-2],) if a.rank > 1 else ()), *((right[-1],) if b.rank > 1 else ()))
    return Shaped((*broadcast(left[:-2], right[:-2]), *tail), a.dtype)


def matmul_of_rank(rank: int) -> Rule:
    """`mm` and `bmm`: matmul of exactly this rank."""

    def rule(x: object, y: object) -> Shaped:
        a, b = tensor(x), tensor(y)
        require(a.rank == b.rank == rank and a.shape[:-2] == b.shape[:-2])
        return matmul(x, y)

    return rule


def addmm(bias: object, x: object, y: object, *_: object) -> Shaped:
    """`bias + x @ y`."""
    product_ = matmul(x, y)
    require(broadcast(tensor(bias).shape, product_.shape) == product_.shape)
    return product_


def linear(x: object, weight: object, bias: object = None) -> Shaped:
    """`x @ weight.T + bias`."""
    given, matrix = tensor(x), tensor(weight)
    same_dtype(given, matrix, *([bias] if isinstance(bias, Shaped) else []))
    require(given.rank > 0 and given.shape[-1] == matrix.shape[-1])
    return Shaped((*given.shape[:-1], *matrix.shape[:-1]), given.dtype)


def bilinear(x: object, y: object, weight: object, *_: object) -> Shaped:
    """One matrix an output feature between two inputs."""
    a, b, matrix = tensor(x), tensor(y), tensor(weight)
    require(a.shape[:-1] == b.shape[:-1] and (a.shape[-1], b.shape[-1]) == matrix.shape[1:])
    return Shaped((*a.shape[:-1], matrix.shape[0]), a.dtype)


def einsum(equation: object, operands: object, *_: object) -> Shaped:
    """Letters with one size each; `...` is not followed."""
    given = [tensor(each) for each in operands] if isinstance(operands, list) else []
    if not isinstance(equation, str) or "." in equation:
        raise TypeError
    left, arrow, right = equation.replace(" ", "").partition("->")
    sizes: dict[str, int] = {}
    for letters, operand in zip(left.split(","), given, strict=True):
        require(len(letters) == operand.rank)
        for letter, size in zip(letters, operand.shape, strict=True):
            require(sizes.setdefault(letter, size) in (size, 1) or size == 1)
    if not arrow:
        right = "".join(sorted(letter for letter in sizes if left.count(letter) == 1))
    return Shaped(tuple(sizes[letter] for letter in right), promote(*given))


RULES: dict[str, Rule] = {
    "matmul": matmul,
    "mm": matmul_of_rank(2),
    "bmm": matmul_of_rank(3),
    "addmm": addmm,
    "baddbmm": addmm,
    "linear": linear,
    "bilinear": bilinear,
    "einsum": einsum,
}
