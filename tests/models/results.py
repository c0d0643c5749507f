"""Models that differ by what `forward` gives back."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class TupleOut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, int, Tensor]:
        return self.fc(x), 7, x


class ListOut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])

    def forward(self, x: Tensor) -> list[Tensor]:
        outputs: list[Tensor] = []
        for layer in self.layers:
            x = layer(x)
            outputs.append(x)
        return outputs


class DictOut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.fc(x)
        return {"logits": y, "probabilities": torch.softmax(y, -1)}


class StringOut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> str:
        return "high" if bool(self.fc(x).sum() > 0) else "low"


class Pair(NamedTuple):
    left: Tensor
    right: Tensor


class NestedOut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> dict[str, list[tuple[Tensor, float]]]:
        y = self.fc(x)
        return {"a": [(y, 0.5), (x, 1.5)], "b": [(y, 2.5)]}


class NamedTupleOut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Pair:
        return Pair(self.fc(x), x)


class EmptyOut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x)[:0]
