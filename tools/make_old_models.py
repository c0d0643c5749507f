"""Write the small models in old file formats that templates/ and tests/ contain, with the torch that runs this.

    python tools/make_old_models.py DIRECTORY

It runs in Python 3.7 with torch 1.1.0, 1.4.0 or 1.10.2 (and numpy before 1.20), and writes

    tiny-VERSION.pt        the model of make_tiny_model.py: forward(x) of float32[N, 4] gives float32[N, 2], and
                           ones(1, 4) [[2.5, -0.75]]; that of 1.1.0 is templates/loader/tiny-1.1.pt
    containers-VERSION.pt  in tests/data: lists, a tuple and a dict as inputs and outputs
"""

import sys
from pathlib import Path

import torch

TINY = """
def forward(self, x):
    hidden = torch.relu(torch.addmm(self.bias1, x, self.weight1.t()))
    return torch.addmm(self.bias2, hidden, self.weight2.t())
"""
CONTAINERS = """
def forward(self, x: Tensor, sizes: List[int], factor: float, flag: bool, parts: List[Tensor],
            pair: Tuple[Tensor, int], table: Dict[str, Tensor]):
    y = x * factor
    if flag:
        y = y + parts[0]
    first, second = pair
    y = y + first * second + table["k"]
    return y, [y, x], sizes[0] + sizes[1], {"out": y}, sizes, [factor]
"""


class Tiny(torch.jit.ScriptModule):  # type: ignore[misc]  # mypy does not follow torch
    """Two affine layers with a relu between them: 4 -> 3 -> 2, weights [out, in]."""

    def __init__(self) -> None:
        super().__init__()
        self.weight1 = torch.nn.Parameter(
            torch.tensor([[0.5, 0.5, 1.0, -1.0], [-1.0, 1.0, -0.5, 0.25], [0.25, 0.25, 0.5, 1.0]])
        )
        self.bias1 = torch.nn.Parameter(torch.tensor([0.5, 0.0, -0.25]))
        self.weight2 = torch.nn.Parameter(torch.tensor([[1.0, 0.25, 0.5], [0.5, 1.0, -1.0]]))
        self.bias2 = torch.nn.Parameter(torch.tensor([0.125, 0.25]))
        self.define(TINY)


class Containers(torch.jit.ScriptModule):  # type: ignore[misc]  # mypy does not follow torch
    """One of every kind of value that a loader must create and read."""

    def __init__(self) -> None:
        super().__init__()
        self.define(CONTAINERS)


if __name__ == "__main__":
    version = torch.__version__.partition("+")[0]
    for model in (Tiny(), Containers()):
        name = type(model).__name__.lower()
        model.save(str(Path(sys.argv[1]) / f"{name}-{version}.pt"))
