"""Models that differ by what `forward` takes: several tensors, none, containers, numbers, defaults, dtypes."""

import torch
from torch import Tensor, nn


class Recommender(nn.Module):
    """Two tables and dense features, joined."""

    def __init__(self) -> None:
        super().__init__()
        self.user = nn.Embedding(5, 4)
        self.item = nn.Embedding(9, 4)
        self.fc = nn.Linear(4 + 4 + 3, 1)

    def forward(self, user: Tensor, item: Tensor, dense: Tensor) -> Tensor:
        return self.fc(torch.cat([self.user(user), self.item(item), dense], dim=-1))


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(4, 3)
        self.right = nn.Linear(5, 3)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.left(a) * self.right(b)


class Joined(nn.Module):
    """Two inputs that share one layer's width."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(9, 2)

    def forward(self, state: Tensor, action: Tensor) -> Tensor:
        return self.fc(torch.cat([state, action], 1))


class OptionalArgument(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        y = self.fc(x)
        if mask is not None:
            y = y * mask
        return y


class Defaults(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor, scale: float = 2.0, steps: int = 3, name: str = "n") -> Tensor:
        for _ in range(steps):
            x = x * scale
        return self.fc(x)


class Integers(nn.Module):
    """int64 by what is done with it: bits."""

    def forward(self, x: Tensor) -> Tensor:
        return (x & 3) | (x << 1)


class Double(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x)


class Half(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 2).half())

    def forward(self, x: Tensor) -> Tensor:
        return x.matmul(self.weight)


class Bfloat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2).bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x).float()


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 2, dtype=torch.complex64))

    def forward(self, x: Tensor) -> Tensor:
        return torch.view_as_real(x @ self.weight)


class ListIn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, images: list[Tensor]) -> list[Tensor]:
        return [self.conv(image.unsqueeze(0)).mean() for image in images]


class DictIn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Conv2d(3, 2, 3)
        self.text = nn.Embedding(5, 2)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.image(batch["pixels"]).mean([2, 3]) + self.text(batch["ids"]).mean(1)


class TupleIn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
        a, b = pair
        return self.fc(a) + b


class IntArgument(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList([nn.Linear(4, 2), nn.Linear(4, 3)])

    def forward(self, x: Tensor, head: int, normalise: bool) -> Tensor:
        y = self.heads[0](x) if head == 0 else self.heads[1](x)
        return torch.softmax(y, -1) if normalise else y


class Mode(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor, mode: str) -> Tensor:
        if mode == "logits":
            return self.fc(x)
        if mode == "probabilities":
            return torch.softmax(self.fc(x), -1)
        raise ValueError("no such mode")


class NoParameters(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.matmul(a, b) + 1


class Columns(nn.Module):
    """Two ranges of one input's columns go through two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 2)
        self.rest = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.first(x[:, :3]) + self.rest(x[:, 3:])


class Control(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(5, 5)

    def forward(self, x: Tensor, rounds: int) -> Tensor:
        if x.dim() != 2:
            raise ValueError("expected a matrix")
        for _ in range(rounds):
            x = self.fc(x) if bool(x.sum() > 0) else -x
        return x


class Raises(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.dim() >= 0:
            raise ValueError("this model always refuses")
        return x
