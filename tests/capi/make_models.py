"""Write models with every kind of value, and files that are no models: python make_models.py DIRECTORY."""

import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch


class Pair(NamedTuple):
    left: torch.Tensor
    right: int


class Everything(torch.nn.Module):
    kept: list[torch.Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.kept = [torch.zeros(1)]

    def forward(self, x: torch.Tensor, scale: float = 2.0, offset: int = 1) -> torch.Tensor:
        return x * scale + offset

    @torch.jit.export
    def echo(self, value: Any) -> Any:
        return value

    @torch.jit.export
    def typed(
        self,
        a: int | None,
        b: bool,
        c: float,
        d: complex,
        e: str,
        f: list[torch.Tensor],
        g: tuple[int, str],
        h: dict[str, list[int]],
    ) -> tuple[
        int | None, bool, float, complex, str, list[torch.Tensor], tuple[int, str], dict[str, list[int]]
    ]:
        return (a, not b, c * 2, d * 2, e + "!", f, (g[0] + 1, g[1]), h)

    @torch.jit.export
    def keep(self, x: torch.Tensor) -> int:
        self.kept = [x]
        return len(self.kept)

    @torch.jit.export
    def named(self, x: torch.Tensor) -> Pair:
        return Pair(x, 7)

    @torch.jit.export
    def lazily(self, x: torch.Tensor) -> torch.Tensor:
        return torch.conj(x)

    @torch.jit.export
    def fails(self, x: torch.Tensor) -> torch.Tensor:
        if x.numel() >= 0:
            raise ValueError("the model says no")
        return x


class Layer(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x)


directory = Path(sys.argv[1])
torch.jit.script(Everything().eval()).save(str(directory / "everything.pt"))
torch.export.save(torch.export.export(Layer(), (torch.ones(2, 3),)), directory / "exported.pt2")
torch.save(torch.nn.Linear(2, 2).state_dict(), directory / "weights.pt")
(directory / "garbage.pt").write_bytes(b"\x93garbage" * 100)
(directory / "empty.pt").write_bytes(b"")
(directory / "broken.pt").write_bytes((directory / "everything.pt").read_bytes()[:-50])
