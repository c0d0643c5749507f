"""Write templates/loader/tiny.pt: the model that `torchlink verify` runs by default; and warm.pt beside it.

    python tools/make_tiny_model.py [FILE]

warm.pt is what a loader runs before it serves many models (`warm` of its protocol): operators whose first use makes
libtorch do what it does once in a process.

`forward(x: Tensor) -> Tensor` takes float32 of shape [N, 4] and returns float32 of shape [N, 2]. Weights are
small fractions of two, so the result is exact on every device: `ones(1, 4)` gives [[2.5, -0.75]].

The file must load in every libtorch from 1.13 on: it uses no operator newer than PyTorch 1.0, and the
file format that torch writes for such code is 3 (1.13 reads up to 10: `caffe2/serialize/versions.h`). What
torch adds for debugging (source paths of the machine that wrote it) is removed, so the bytes are the same
everywhere.
"""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import torch

TARGET = Path(__file__).parent.parent / "templates" / "loader" / "tiny.pt"
FILE_FORMAT = b"3\n"
ADDED_FOR_DEBUGGING = (".debug_pkl", "/.data/serialization_id")


class Tiny(torch.nn.Module):  # type: ignore[misc]  # mypy does not follow torch
    """Two affine layers with a relu between them: 4 -> 3 -> 2, weights [out, in]."""

    def __init__(self) -> None:
        super().__init__()
        self.weight1 = torch.nn.Parameter(
            torch.tensor([[0.5, 0.5, 1.0, -1.0], [-1.0, 1.0, -0.5, 0.25], [0.25, 0.25, 0.5, 1.0]])
        )
        self.bias1 = torch.nn.Parameter(torch.tensor([0.5, 0.0, -0.25]))
        self.weight2 = torch.nn.Parameter(torch.tensor([[1.0, 0.25, 0.5], [0.5, 1.0, -1.0]]))
        self.bias2 = torch.nn.Parameter(torch.tensor([0.125, 0.25]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the two layers on float32 of shape [N, 4]."""
        hidden = torch.relu(torch.addmm(self.bias1, x, self.weight1.t()))
        return torch.addmm(self.bias2, hidden, self.weight2.t())


class Warm(torch.nn.Module):  # type: ignore[misc]  # as above
    """Layers that many models have; what it returns is of no use."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)
        self.convolution = torch.nn.Conv2d(1, 2, 2)
        self.batch_norm = torch.nn.BatchNorm2d(2)
        self.layer_norm = torch.nn.LayerNorm(4)
        self.embedding = torch.nn.Embedding(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run them on float32 of shape [1, 4]."""
        mixed = torch.softmax(self.linear(self.layer_norm(x)), -1)
        image = torch.relu(self.batch_norm(self.convolution(torch.ones(1, 1, 4, 4))))
        rows = self.embedding(torch.zeros(2, dtype=torch.long))
        product = torch.matmul(rows, rows.transpose(0, 1))
        return mixed.sum() + image.flatten(1).mean() + product.sum() + torch.cat([x, rows]).sum()


def tiny_model() -> bytes:
    """Return the model as TorchScript, byte for byte the same from every torch that writes this file format."""
    return _written(Tiny())


def warm_model() -> bytes:
    """Return the model of warm.pt, whose weights are all zero but for the norms'."""
    model = Warm()
    for name, parameter in model.named_parameters():
        torch.nn.init.constant_(parameter, 1.0 if "norm.weight" in name else 0.0)
    return _written(model)


def _written(model: torch.nn.Module) -> bytes:
    type(model).__module__ = "torchlink"  # the name of the class in the file, however this script is run
    written = io.BytesIO()
    torch.jit.save(torch.jit.script(model.eval()), written)
    bare = io.BytesIO()
    with zipfile.ZipFile(written) as full, zipfile.ZipFile(bare, "w") as kept:
        for member in full.infolist():
            if member.filename.endswith(ADDED_FOR_DEBUGGING):
                continue
            content = full.read(member)
            if member.filename.endswith("/version") and content != FILE_FORMAT:
                sys.exit(f"this torch writes file format {content!r}, which an old libtorch may not read")
            name = "tiny/" + member.filename.partition("/")[2]
            kept.writestr(zipfile.ZipInfo(name), content)
    return bare.getvalue()


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET
    target.write_bytes(tiny_model())
    target.with_name("warm.pt").write_bytes(warm_model())
