"""Pack a model that is mostly Python with torch.package: python make_package.py [FILE]."""

import sys
import tempfile
import warnings
from pathlib import Path

import torch
from torch.package import PackageExporter

SOURCE = '''
import math

import torch


class Rules(torch.nn.Module):
    """A small network whose output is reworked in plain Python, as tokenizers and decoders are."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Linear(10, 5)

    def forward(self, image):
        rows = image.flatten(0, -2).tolist()
        total = 0.0
        for step in range(2000):
            for row in rows[:1]:
                total += math.sin(row[step % len(row)] + step)
        return self.scale(image).flatten(0, -2) + total
'''


def main() -> None:
    """Write the package."""
    target = sys.argv[1] if len(sys.argv) > 1 else "package.pt"
    warnings.filterwarnings("ignore", message="TypedStorage is deprecated")  # torch.package uses it itself
    with tempfile.TemporaryDirectory() as directory:
        # A module of its own, because torch.package takes the source of a class from its file.
        (Path(directory) / "rules.py").write_text(SOURCE)
        sys.path.insert(0, directory)
        import rules

        torch.manual_seed(0)
        with PackageExporter(target) as exporter:
            exporter.intern("rules")
            exporter.extern(["torch.**", "math"])
            exporter.save_pickle("model", "model.pkl", rules.Rules().eval())


main()
