"""Writes TorchScript models into the directory given, and for each a JSON file with calls and what Python returns.

mypy does not read torch, to it `nn.Module` is Any: hence no misc.
"""

# mypy: disable-error-code=misc

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple  # noqa: UP035 - TorchScript reads these

import torch
from torch import Tensor, nn

DTYPES = (
    "float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "uint16", "uint32",
    "uint64", "bool", "complex64", "complex128",
)  # fmt: skip


class Same(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


class Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2


class Mixed(nn.Module):
    def forward(
        self,
        x: Tensor,
        whole: int,
        real: float,
        yes: bool,
        text: str,
        sizes: List[int],  # noqa: UP006
        parts: Dict[str, Tensor],  # noqa: UP006
        pair: Tuple[int, str],  # noqa: UP006
        maybe: Optional[Tensor] = None,  # noqa: UP045
        more: int = 3,
    ) -> Tuple[  # noqa: UP006
        Tensor, int, float, bool, str, List[int], Dict[str, Tensor], Tuple[int, str], Optional[Tensor], int  # noqa: UP006, UP045
    ]:
        return x + 1, whole + 1, real / 3, not yes, text + "!", sizes, parts, pair, maybe, more


class Keys(nn.Module):
    def forward(self, numbers: Dict[int, float], rows: List[List[Tensor]]) -> Dict[int, float]:  # noqa: UP006
        return {key + len(rows[0]): value * 2 for key, value in numbers.items()}


class Slow(nn.Module):
    """As many products of matrices as are asked for."""

    def forward(self, count: int) -> int:
        x = torch.eye(256)
        for _ in range(count):
            x = x @ x
        return int(x.sum().item())


class Raises(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.numel() > 0:
            raise ValueError("the model says no")
        return x


def number(value: Any) -> Any:
    if isinstance(value, complex):
        return [number(value.real), number(value.imag)]
    if isinstance(value, float) and value != value:  # noqa: PLR0124 - NaN
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def marshalled(value: Any) -> Any:
    """A value as docs/values.md says, with the exact value of each number."""
    if isinstance(value, Tensor):
        elements = [number(each) for each in value.reshape(-1).tolist()]
        return {
            "type": "tensor",
            "data_type": str(value.dtype)[6:],
            "shape": list(value.shape),
            "value": elements,
        }
    if value is None:
        return {"type": "none"}
    if isinstance(value, str):
        return {"type": "string", "value": value}
    if isinstance(value, (bool, int, float, complex)):
        dtype = {bool: "bool", int: "int64", float: "float64", complex: "complex128"}[type(value)]
        return {"type": "scalar", "data_type": dtype, "value": number(value)}
    if isinstance(value, tuple):
        return {"type": "tuple", "value": [marshalled(each) for each in value]}
    if isinstance(value, list):
        return [marshalled(each) for each in value]
    if all(isinstance(key, str) for key in value):
        return {"type": "generic_dict", "value": {key: marshalled(each) for key, each in value.items()}}
    return {"type": "dict", "value": [[marshalled(key), marshalled(each)] for key, each in value.items()]}


def of_dtype(name: str) -> Tensor:
    dtype = getattr(torch, name)
    if name == "bool":
        return torch.tensor([[True, False, True], [False, False, True]])
    if dtype.is_complex:
        return torch.tensor([[1.5 - 2j, complex(float("inf"), 0), 0.1j]], dtype=dtype)
    if dtype.is_floating_point:
        numbers = [0.1, -2.5, 1e-5, float("nan"), float("inf"), float("-inf")]
        return torch.tensor(numbers, dtype=torch.float64).to(dtype).reshape(2, 3)
    info = torch.iinfo(dtype)
    return torch.tensor([[info.min, 1], [0, info.max]], dtype=dtype)


def main(directory: Path) -> None:
    """Write them all."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    linear = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    models: dict[str, tuple[nn.Module, list[list[Any]]]] = {
        "same": (Same(), [[of_dtype(name)] for name in DTYPES] + [[torch.tensor(7.5)], [torch.zeros(0, 4)]]),
        "twice": (Twice(), [[torch.tensor([1.5])]]),
        "mixed": (
            Mixed(),
            [
                [torch.ones(2), 41, 1.0, True, "hä\n😀", [1, 2], {"a": torch.zeros(1)}, (5, "x")],
                [torch.ones(2), -1, 2.5, False, "", [], {}, (5, "x"), torch.ones(1), 9],
            ],
        ),
        "keys": (Keys(), [[{1: 0.5, 2: 1.5}, [[torch.ones(1), torch.ones(2)]]]]),
        "linear": (linear, [[torch.randn(4, 6)], [torch.randn(1, 6)]]),
        "slow": (Slow(), [[2]]),
        "raises": (Raises(), []),
    }
    for name, (model, calls) in models.items():
        scripted = torch.jit.script(model.eval())
        scripted.save(directory / f"{name}.pt")
        with torch.no_grad():
            answers = [
                {"arguments": marshalled(list(call)), "answer": marshalled(scripted(*call))} for call in calls
            ]
        (directory / f"{name}.json").write_text(json.dumps(answers))


main(Path(sys.argv[1]))
