"""TorchScript models of many kinds, each with inputs that fit and what it does in Python."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from pathlib import Path


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Cnn(nn.Module):
    def __init__(self, *, adaptive: bool) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1) if adaptive else nn.MaxPool2d(2)
        self.head = nn.Linear(4 if adaptive else 4 * 7 * 7, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.flatten(self.pool(self.features(x)), 1))


class Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 7, batch_first=True)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        outputs, state = self.lstm(x)
        return outputs, state


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        self.encoder = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
        self.head = nn.Linear(16, 50)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.encoder(self.embedding(tokens)))


class EmbeddingBag(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 4)

    def forward(self, indices: Tensor) -> Tensor:
        return self.embedding(indices).sum(1)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(3, 4), nn.Linear(5, 4)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.left(a) + self.right(b)


class OptionalArgument(nn.Module):
    def forward(self, x: Tensor, scale: float = 2.0, mask: Tensor | None = None) -> Tensor:
        y = x * scale
        return y if mask is None else y * mask


class TupleOutput(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, int, Tensor]:
        return x + 1, x.size(0), x.sum()


class Pair(NamedTuple):
    mean: Tensor
    spread: Tensor


class NamedOutput(nn.Module):
    def forward(self, x: Tensor) -> Pair:
        return Pair(x.mean(), x.std())


class ListOutput(nn.Module):
    def forward(self, x: Tensor) -> list[Tensor]:
        return [x[i] for i in range(x.size(0))]


class DictOutput(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"twice": x * 2, "größe": torch.tensor(x.size(0))}


class TwoKeys(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"b": x * 2, "a": x}


class OtherName(nn.Module):
    def forward(s, x: Tensor, y: Tensor) -> Tensor:  # noqa: N805 - that is the case
        return x + y


class OtherNameAlone(nn.Module):
    def forward(this) -> Tensor:  # noqa: N805 - that is the case
        return torch.ones(2)


class StringOutput(nn.Module):
    def forward(self, x: Tensor) -> str:
        return 'a "quoted"\nline, ' + str(x.dim())


class Scalars(nn.Module):
    def forward(self, n: int, f: float, flag: bool, text: str) -> tuple[int, float, bool, str]:
        return n * 2, f / 2, not flag, text + "!"


class Integers(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 3 - 1


class Booleans(nn.Module):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return torch.logical_and(x > 1, mask)


class ControlFlow(nn.Module):
    def forward(self, x: Tensor, steps: int) -> Tensor:
        for i in range(steps):
            x = x + i if bool(x.sum() > 0) else x - i
        return x


class Double(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class Empty(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:0]


class Complex(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft(x)


class NotFinite(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x / 0, (x - x) / 0, -x / 0])


class Half(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.half(), x.to(torch.bfloat16)


class Sparse(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.to_sparse()


class Strided(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.t(), x[:, ::2]


class Conjugated(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.conj(x)


class ListInput(nn.Module):
    def forward(
        self, xs: list[Tensor], sizes: list[int], table: dict[str, Tensor], pair: tuple[Tensor, int]
    ) -> Tensor:
        return torch.stack(xs).sum(0) * sizes[0] + table["bias"] + pair[0] * pair[1]


class OptionalRequired(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 2)

    def forward(self, x: Tensor | None, mask: Tensor | None) -> Tensor:
        if x is None:
            return torch.zeros(1)
        y = self.fc(x)
        return y if mask is None else y.masked_fill(mask, 0.0)


class Printing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        print('{"event":"result","outputs":[]}')
        return x


class Chatty(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        for i in range(20000):
            print("a line that fills the pipe, number", i)
        return x


class Raising(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.size(0) > 0:
            raise ValueError("only empty tensors are welcome")
        return x


@dataclass(frozen=True)
class Specimen:
    """A model with arguments for `--input` and the same for Python."""

    name: str
    module: nn.Module
    inputs: tuple[str, ...]
    arguments: tuple[Any, ...]


def ones(*shape: int) -> Tensor:
    return torch.ones(shape)


def small_models() -> tuple[Specimen, ...]:
    """Every model; weights are the same at every call."""
    torch.manual_seed(1)
    ramp = torch.arange(6.0).reshape(2, 3)
    return (
        Specimen("mlp", Mlp(), ("float32[2,6]",), (ones(2, 6),)),
        Specimen("cnn", Cnn(adaptive=False), ("float32[1,3,31,31]",), (ones(1, 3, 31, 31),)),
        Specimen(
            "cnn_adaptive", Cnn(adaptive=True), ("float32[1,3,20,24]=full:0.5",), (ones(1, 3, 20, 24) / 2,)
        ),
        Specimen("lstm", Lstm(), ("float32[1,4,5]",), (ones(1, 4, 5),)),
        Specimen("transformer", Transformer(), ("int64[1,6]=arange",), (torch.arange(6).reshape(1, 6),)),
        Specimen("embedding", EmbeddingBag(), ("int64[2,3]=arange",), (torch.arange(6).reshape(2, 3),)),
        Specimen("two_inputs", TwoInputs(), ("float32[2,3]", "float32[2,5]"), (ones(2, 3), ones(2, 5))),
        Specimen("optional_left_out", OptionalArgument(), ("float32[2,3]",), (ones(2, 3),)),
        Specimen(
            "optional_given",
            OptionalArgument(),
            ("float32[3]", "3", "bool[3]"),
            (ones(3), 3.0, ones(3).bool()),
        ),
        Specimen("tuple", TupleOutput(), ("float32[2,3]=arange",), (ramp,)),
        Specimen("named_tuple", NamedOutput(), ("float32[2,3]=arange",), (ramp,)),
        Specimen("list", ListOutput(), ("float32[2,3]=arange",), (ramp,)),
        Specimen("dict", DictOutput(), ("float32[2,3]=arange",), (ramp,)),
        Specimen("string", StringOutput(), ("float32[2]",), (ones(2),)),
        Specimen("scalars", Scalars(), ("3", "0.5", "true", "'a b'"), (3, 0.5, True, "a b")),
        Specimen("integers", Integers(), ("int64[2,3]=arange",), (ramp.long(),)),
        Specimen(
            "booleans",
            Booleans(),
            ("int32[2]=full:2", "bool[2]"),
            (torch.full((2,), 2, dtype=torch.int32), ones(2).bool()),
        ),
        Specimen("control_flow", ControlFlow(), ("float32[3]", "4"), (ones(3), 4)),
        Specimen("double", Double(), ("float64[1,4]",), (ones(1, 4).double(),)),
        Specimen("empty", Empty(), ("float32[2,3]",), (ones(2, 3),)),
        Specimen("empty_input", Integers(), ("float32[0,3]",), (ones(0, 3),)),
        Specimen("zero_dim", Integers(), ("float32[]",), (torch.tensor(1.0),)),
        Specimen("complex", Complex(), ("float32[4]=arange",), (torch.arange(4.0),)),
        Specimen("conjugated", Conjugated(), ("complex64[2]=full:2",), (torch.full((2,), 2.0 + 0j),)),
        Specimen("not_finite", NotFinite(), ("float32[2]",), (ones(2),)),
        Specimen("half", Half(), ("float32[2,3]=arange",), (ramp,)),
        Specimen("sparse", Sparse(), ("float32[2,3]=arange",), (ramp,)),
        Specimen("strided", Strided(), ("float32[2,3]=arange",), (ramp,)),
        Specimen(
            "containers",
            ListInput(),
            ("[float32[3], float32[3]]", "[2, 3]", "{'bias': float32[3]=arange}", "(float32[3], 4)"),
            ([ones(3), ones(3)], [2, 3], {"bias": torch.arange(3.0)}, (ones(3), 4)),
        ),
        Specimen("printing", Printing(), ("float32[2]",), (ones(2),)),
    )


def save(module: nn.Module, path: Path) -> Path:
    """Script a module and write it to a file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; it is what this is about
        torch.jit.script(module.eval()).save(str(path))
    return path


def tensors_of(value: object) -> list[Tensor]:
    """The tensors in a value, in the loader's order, as what `torch.save` can keep."""
    if isinstance(value, Tensor):
        return [value.to_dense() if value.is_sparse else value.resolve_conj()]
    if isinstance(value, dict):
        return [tensor for part in value.values() for tensor in tensors_of(part)]
    if isinstance(value, (list, tuple)):
        return [tensor for part in value for tensor in tensors_of(part)]
    return []
