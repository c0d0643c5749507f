"""Frozen, quantised and otherwise packed models tell their inputs as plain ones do; what cannot run says why."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import needed
from torchlink.libtorch.inspect import inspect
from torchlink.report.verify import model_to_json
from torchlink.verify.verification import verify

needed("torch")

pytestmark = pytest.mark.compile

# Quantising prints warnings and changes torch's state: it is done in a process of its own.
MODELS = """
import sys, warnings
warnings.simplefilter("ignore")
import torch
from torch import Tensor, nn
quantization = torch.ao.quantization


class Lenet(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.c, self.d = nn.Linear(400, 120), nn.Linear(120, 10)

    def forward(self, x):
        x = torch.max_pool2d(torch.relu(self.a(x)), 2)
        x = torch.max_pool2d(torch.relu(self.b(x)), 2)
        return self.d(torch.relu(self.c(torch.flatten(x, 1))))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(23, 8, 2, batch_first=True, bidirectional=True), nn.Linear(16, 3)

    def forward(self, x):
        y, _ = self.lstm(x)
        return self.head(y[:, -1])


class Static(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.d = quantization.QuantStub(), quantization.DeQuantStub()
        self.conv, self.relu, self.deep = nn.Conv2d(2, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2, groups=8)
        self.head = nn.Linear(8 * 12 * 12, 10)

    def forward(self, x):
        return self.d(self.head(torch.flatten(self.deep(self.relu(self.conv(self.q(x)))), 1)))


class Table(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.EmbeddingBag(40, 16, mode="sum")

    def forward(self, x: Tensor, offsets: Tensor):
        return self.table(x, offsets)


class Loops(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(37, 3)

    def forward(self, xs: list[Tensor], times: int = 2):
        total = torch.zeros(3)
        for x in xs:
            y = self.layer(x)
            i = 0
            while i < times:
                i += 1
                y = y + self.layer(x)
            total = total + y
        return total


class Refuses(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.numel() >= 0:
            raise ValueError("not trained yet")
        return x


class Broken(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 3), nn.Linear(4, 2)

    def forward(self, x):
        return self.b(self.a(x))


def frozen(module):
    return torch.jit.freeze(torch.jit.script(module.eval()))


def static():
    module = Static().eval()
    module.qconfig = quantization.get_default_qconfig("fbgemm")
    quantization.fuse_modules(module, [["conv", "relu"]], inplace=True)
    quantization.prepare(module, inplace=True)
    module(torch.randn(2, 2, 28, 28))
    return quantization.convert(module)


def table():
    module = Table().eval()
    module.table.qconfig = quantization.float_qparams_weight_only_qconfig
    return quantization.convert(quantization.prepare(module))


mlp = nn.Sequential(nn.Linear(768, 64), nn.ReLU(), nn.Linear(64, 10))
cnn = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
dynamic = quantization.quantize_dynamic
models = {
    "mlp": frozen(mlp),
    "cnn": frozen(cnn),
    "lenet": frozen(Lenet()),
    "lstm": frozen(Recurrent()),
    "loops": frozen(Loops()),
    "dynamic": torch.jit.script(dynamic(mlp.eval(), {nn.Linear})),
    "dynamic_frozen": frozen(dynamic(mlp.eval(), {nn.Linear})),
    "half": torch.jit.script(dynamic(mlp.eval(), {nn.Linear}, torch.float16)),
    "dynamic_lstm": torch.jit.script(dynamic(Recurrent().eval(), {nn.LSTM, nn.Linear})),
    "static": torch.jit.script(static()),
    "static_frozen": frozen(static()),
    "table": torch.jit.script(table()),
    "optimized_mlp": torch.jit.optimize_for_inference(torch.jit.script(mlp.eval())),
    "optimized_cnn": torch.jit.optimize_for_inference(torch.jit.script(cnn.eval())),
    "refuses": torch.jit.script(Refuses()),
    "broken": torch.jit.script(Broken()),
}
for name, model in models.items():
    model.save(f"{sys.argv[1]}/{name}.pt")
"""
RUNS = {
    "mlp": ["float32[1,768]"],
    "cnn": ["float32[1,1,64,64]"],
    "lenet": ["float32[1,1,28,28]"],
    "lstm": ["float32[1,8,23]"],
    "loops": ["[float32[1,37], float32[1,37]]"],
    "dynamic": ["float32[1,768]"],
    "dynamic_frozen": ["float32[1,768]"],
    "half": ["float32[1,768]"],
    "dynamic_lstm": ["float32[1,8,23]"],
    "static": ["float32[1,2,28,28]"],
    "static_frozen": ["float32[1,2,28,28]"],
    "table": ["int64[8]", "int64[1]=zeros"],
    "optimized_mlp": ["float32[1,768]"],
}


@pytest.fixture(scope="module")
def results(torch_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    directory = tmp_path_factory.mktemp("packed")
    (directory / "models.py").write_text(MODELS)  # scripting reads the source again
    subprocess.run([sys.executable, directory / "models.py", directory], check=True)
    report = verify(sorted(directory.glob("*.pt")), inspect(torch_root, found_by="test"))
    return {Path(model.path).stem: model_to_json(model) for model in report.models}


@pytest.mark.parametrize("name", RUNS)
def test_weights_that_are_no_parameters_tell_the_inputs(results: dict[str, Any], name: str) -> None:
    result = results[name]
    assert result["error"] is None
    assert [taken["input"] for taken in result["inputs"]] == RUNS[name]


def test_a_model_that_torch_cannot_load_again_names_the_one_to_save(results: dict[str, Any]) -> None:
    error = results["optimized_cnn"]["error"]
    assert "optimize_for_inference" in error["message"]
    assert "torch.jit.freeze" in error["hint"]


def test_what_every_input_raises_is_the_models_own(results: dict[str, Any]) -> None:
    error = results["refuses"]["error"]
    assert error["code"] == "no-input-fits"
    assert "different inputs forward raised: not trained yet" in error["message"]
    assert "The model raises this itself" in error["hint"]


def test_the_error_is_that_of_the_likeliest_input_which_is_not_advised(results: dict[str, Any]) -> None:
    result = results["broken"]
    assert result["inputs"][0]["input"] == "float32[1,5]"
    assert "'float32[1,5]', forward raised: mat1 and mat2 shapes" in result["error"]["message"]
    assert "[" not in result["error"]["hint"]
