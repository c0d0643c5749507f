"""Writes the TorchScript models that wrapper.nim asks for into the directory given.

mypy does not read torch, to it `nn.Module` is Any: hence no misc.
"""

# mypy: disable-error-code=misc

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn


class Same(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


class Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2


class Tenth(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / 10


class Add(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class Nothing(nn.Module):
    def forward(self) -> Tensor:
        return torch.tensor([7])


class Transposed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.t()


class Everything(nn.Module):
    def forward(
        self, x: Tensor
    ) -> tuple[Tensor, list[Tensor], dict[str, Tensor], int, float, bool, Tensor | None]:
        absent: Tensor | None = None
        return x, [x + 1, x + 2], {"b": x + 3, "a": x + 4}, 5, 6.5, True, absent


class Text(nn.Module):
    def forward(self, x: Tensor) -> str:
        return "no tensor"


class Half(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.half()


class Raises(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.numel() > 0:
            raise ValueError("the model says no")
        return x


class InPlace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.fill_(9.0)


class Keeps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kept = torch.zeros(1)

    def forward(self, x: Tensor) -> Tensor:
        before = self.kept
        self.kept = x
        return before


class Negated(nn.Module):
    """Its output is lazy: the numbers in memory have the other sign."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.complex(x, x).conj().imag


def main(directory: Path) -> None:
    """Write them all."""
    models = (
        Same,
        Twice,
        Tenth,
        Add,
        Nothing,
        Transposed,
        Everything,
        Text,
        Half,
        Raises,
        InPlace,
        Keeps,
        Negated,
    )
    for model in models:
        torch.jit.script(model()).save(directory / f"{model.__name__}.pt")
    linear = nn.Linear(4, 2)
    linear.weight.data = torch.arange(8.0).reshape(2, 4)
    linear.bias.data = torch.tensor([0.5, -0.5])
    torch.jit.script(linear).save(directory / "Linear.pt")
    torch.jit.script(nn.Linear(2, 3, bias=False).half()).save(directory / "HalfWeights.pt")
    torch.jit.script(nn.Dropout(0.5).train()).save(directory / "Dropout.pt")
    torch.jit.script(nn.Linear(1024, 1024)).save(directory / "Heavy.pt")
    (directory / "Broken.pt").write_bytes((directory / "Linear.pt").read_bytes()[:1000])


main(Path(sys.argv[1]))
