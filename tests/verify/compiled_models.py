"""Models compiled by AOTInductor, and packages made of theirs by hand. Compiling takes some seconds each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Run in a process of its own: compiling leaves threads, processes and settings behind.
COMPILE = """
import os, sys
import torch
from torch import nn
from torch._inductor.package import package_aoti
from torch.export import Dim, export

out = sys.argv[1]
torch.manual_seed(0)


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        return torch.relu(self.fc(x))


class Many(nn.Module):
    def forward(self, ids, pair, scale: float, channels, *, mask=None, options=None):
        h = pair[0] * scale + ids.unsqueeze(-1) + mask.unsqueeze(-1)
        return {"h": h, "rest": (None, [pair[1] * 2, options["b"] - options["a"].half()], channels + 1)}


layer = Layer().eval()
batch = Dim("batch", min=2, max=100)
x = torch.randn(5, 4)
dynamic = export(layer, (x,), dynamic_shapes=({0: batch},))
files = torch._inductor.aot_compile(dynamic.module(), (x,), options={"aot_inductor.package": True})
package_aoti(f"{out}/layer.pt2", files)
package_aoti(f"{out}/two.pt2", {"one": files, "other": files})
torch._inductor.aot_compile(dynamic.module(), (x,), options={"aot_inductor.output_path": f"{out}/bare.so"})
torch.save(layer.state_dict(), f"{out}/layer_state.pt")
torch._inductor.aoti_compile_and_package(
    export(layer, (torch.ones(2, 4),)),
    package_path=f"{out}/outside.pt2",
    inductor_configs={
        "aot_inductor.package_constants_in_so": False,
        "aot_inductor.package_constants_on_disk_format": "pickle_weights",
    },
)
many = (
    torch.ones(2, 5, dtype=torch.int64),
    (torch.ones(2, 5, 4, dtype=torch.bfloat16), torch.ones((), dtype=torch.complex64)),
    2.0,
    torch.ones(1, 3, 4, 4).to(memory_format=torch.channels_last),
)
keywords = {"mask": torch.ones(2, 5, dtype=torch.bool), "options": {"b": torch.ones(2), "a": torch.ones(2)}}
torch._inductor.aoti_compile_and_package(export(Many(), many, keywords), package_path=f"{out}/many.pt2")
"""
MODEL = "data/aotinductor/model/"


def compile_models(directory: Path) -> Path:
    """Compile all models into a directory."""
    script = directory / "compile.py"
    script.write_text(COMPILE)
    environment = {
        **os.environ,
        "TORCHINDUCTOR_CACHE_DIR": str(directory / "inductor"),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
    }
    done = subprocess.run(
        [sys.executable, str(script), str(directory)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return directory


def changed(package: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """A copy of a package whose entries, without the top directory, were changed."""
    with zipfile.ZipFile(package) as archive:
        root = archive.namelist()[0].partition("/")[0]
        entries = {
            info.filename.partition("/")[2]: archive.read(info.filename) for info in archive.infolist()
        }
    change(entries)
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in entries.items():
            kind = zipfile.ZIP_DEFLATED if len(content) > 1 << 26 else zipfile.ZIP_STORED
            archive.writestr(f"{root}/{name}", content, kind)
    return target


def entry(entries: dict[str, bytes], ending: str) -> str:
    """The one entry whose name ends so."""
    (name,) = [name for name in entries if name.endswith(ending)]
    return name


def with_metadata(**told: str) -> Callable[[dict[str, bytes]], None]:
    """A change of what the model says that it was compiled for."""

    def change(entries: dict[str, bytes]) -> None:
        name = entry(entries, ".wrapper_metadata.json")
        entries[name] = json.dumps({**json.loads(entries[name]), **told}).encode()

    return change


def with_library(content: bytes) -> Callable[[dict[str, bytes]], None]:
    """A change of the compiled library."""

    def change(entries: dict[str, bytes]) -> None:
        entries[entry(entries, ".wrapper.so")] = content

    return change
