"""What forward returned as typed objects: where each stood, numbers of every kind, and the calls after the first."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import torchlink
from tests.conftest import needed
from torchlink.libtorch.inspect import inspect
from torchlink.verify.failures import without_self

torch = needed("torch")

from torch import Tensor, nn  # noqa: E402 - needs torch

from tests.verify.small_models import save  # noqa: E402 - needs torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result
    from torchlink.libtorch.facts import Libtorch

SNIPPET = """\
from pathlib import Path

import torchlink
from torchlink.errors import TorchlinkError
from torchlink.verify.outputs import Number, Output
from torchlink.verify.result import ModelResult, TakenInput, VerifyReport

one: VerifyReport = torchlink.verify("model.pt")
other: VerifyReport = torchlink.verify(Path("model.pt"), inputs="float32[1,4]", expect="out.npy")
several: VerifyReport = torchlink.verify(
    ["a.pt", Path("b.pt")],
    torchlink.find(),
    inputs=("float32[1,4]", "3"),
    expect=Path("out.npy"),
    timeout=5,
    compiler="g++",
    via="cmake",
    libraries=["libops.so", Path("libmore.so")],
)
ok: bool = several.ok
code: int = several.exit_code
assert several.loader is not None
seconds: float = several.loader.compile_seconds
for model in several.models:
    result: ModelResult = model
    error: TorchlinkError | None = model.error
    if error is not None:
        message: str = error.message + error.hint + error.code
    taken: tuple[TakenInput, ...] = model.inputs
    first: float | None = model.forward_ms
    later: tuple[float, ...] = model.again_ms
    for output in model.outputs:
        typed: Output = output
        place: tuple[str | bool | int | float, ...] = output.path
        shape: tuple[int, ...] | None = output.shape
        dtype: str | None = output.dtype
        values: tuple[Number, ...] = output.values
        lowest: float | None = output.min
        plain: bool | int | float | complex | str | None = output.value
"""


@pytest.fixture(scope="module")
def libtorch(torch_root: Path) -> Libtorch:
    return inspect(torch_root, found_by="test")


class Nested(nn.Module):
    """Everything that can stand in what forward returns."""

    def forward(self, x: Tensor) -> tuple[dict[str, list[Tensor]], dict[int, float], tuple[Tensor, str]]:
        return {"a.b": [x, x[:0]]}, {7: 1e400}, (torch.complex(x, x / 0), "text")


class Once(nn.Module):
    """Raises when it is called again."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        print("called")
        self.calls += 1
        if bool(self.calls > 1):
            msg = "only once"
            raise RuntimeError(msg)
        return x


class Growing(nn.Module):
    """Changes its input in place, and adds to what it returns in each call."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        print("called")
        self.calls += 1
        return x.unsqueeze_(0).squeeze(1) + self.calls


@pytest.mark.compile
def test_the_path_says_where_an_output_stood_and_numbers_are_numbers(
    libtorch: Libtorch, tmp_path: Path
) -> None:
    (model,) = torchlink.verify(save(Nested(), tmp_path / "m.pt"), libtorch, inputs="float32[1]").models
    assert model.error is None
    first, empty, number, complex_, text = model.outputs
    assert [each.path for each in model.outputs] == [
        (0, "a.b", 0),
        (0, "a.b", 1),
        (1, 7),
        (2, 0),
        (2, 1),
    ]
    assert (first.shape, first.dtype, first.values, first.mean) == ((1,), "float32", (1.0,), 1.0)
    assert (empty.shape, empty.values, empty.min) == ((0,), (), None)
    assert number.value == math.inf
    assert complex_.values == (complex(1, math.inf),)
    assert complex_.non_finite == 1
    assert (text.type, text.value, text.shape) == ("str", "text", None)
    assert hash(first) == hash(first)


@pytest.mark.compile
def test_forward_is_called_again_and_the_first_call_s_outputs_count(
    torchlink: Callable[..., Result], torch_root: Path, tmp_path: Path
) -> None:
    model = save(Growing(), tmp_path / "m.pt")
    torch.save(torch.tensor([2.0]), tmp_path / "first.pt")
    words = ("--input", "float32[1]", "--expect", tmp_path / "first.pt", "--libtorch", torch_root)
    done = torchlink("verify", model, *words)
    assert done.code == 0, done.out
    assert " ms first, " in done.out
    assert done.out.splitlines()[-1] == "  printed   called"


@pytest.mark.compile
def test_a_model_that_can_be_called_once_only_is_not_ok(libtorch: Libtorch, tmp_path: Path) -> None:
    (model,) = torchlink.verify(save(Once(), tmp_path / "m.pt"), libtorch, inputs="float32[1]").models
    assert model.error is not None
    assert model.error.message == "forward raised when it was called again with the same inputs: only once"
    assert (model.forward_ms or 0) > 0
    assert model.again_ms == ()


def test_the_module_itself_is_not_counted_or_shown_among_forward_s_arguments() -> None:
    said = (
        "Expected at most 2 argument(s) for operator 'forward', but received 4 argument(s). "
        "Declaration: forward(__torch__.torch.nn.modules.linear.___torch_mangle_3.Linear this, Tensor x) -> Tensor"
    )
    assert without_self(said) == (
        "Expected at most 1 argument(s) for operator 'forward', but received 3 argument(s). "
        "Declaration: forward(Tensor x) -> Tensor"
    )
    assert (
        without_self("Declaration: forward(__torch__.N self) -> Tensor") == "Declaration: forward() -> Tensor"
    )


@pytest.mark.compile
def test_too_many_inputs_are_counted_as_the_user_gave_them(libtorch: Libtorch) -> None:
    (model,) = torchlink.verify(None, libtorch, inputs=["float32[1,4]", "3", "4"]).models
    assert model.error is not None
    assert "forward takes 1 argument, but --input gives 3" in model.error.message
    assert model.error.hint == "Give --input the arguments of forward(x: Tensor)."
    assert model.error.exit_code == 2


def test_a_user_s_program_type_checks_without_an_any(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(SNIPPET)
    words = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--disallow-any-expr",
        "--follow-imports=silent",
        "user.py",
    ]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
