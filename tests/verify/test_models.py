"""Models of many kinds give through the loader what they give in Python."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import needed

torch = needed("torch")

from tests.verify.small_models import Specimen, save, small_models, tensors_of  # noqa: E402 - needs torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.compile
SPECIMENS = {small_model.name: small_model for small_model in small_models()}


@pytest.fixture(params=SPECIMENS)
def small_model(request: pytest.FixtureRequest) -> Specimen:
    return SPECIMENS[request.param]


def verify(torchlink: Callable[..., Any], *arguments: str | Path) -> Any:
    result = torchlink("verify", *arguments, "--json")
    report = json.loads(result.out)
    assert result.code == (0 if report["ok"] else 1), result
    return report["models"][0]


def test_the_outputs_are_those_of_python(
    torchlink: Callable[..., Any], torch_root: Path, tmp_path: Path, small_model: Specimen
) -> None:
    model = save(small_model.module, tmp_path / "a model.pt")
    with torch.no_grad():
        expected = tensors_of(small_model.module(*small_model.arguments))
    words: list[str | Path] = [word for text in small_model.inputs for word in ("--input", text)]
    if expected:
        torch.save(expected, tmp_path / "expected.pt")
        words += ["--expect", tmp_path / "expected.pt"]
    got = verify(torchlink, model, "--libtorch", torch_root, *words)
    assert got["error"] is None
    assert (got["max_abs_error"] is not None) == bool(expected)
    described = [output for output in got["outputs"] if output["type"] == "tensor"]
    assert [output["shape"] for output in described] == [list(tensor.shape) for tensor in expected]
    assert [output["dtype"] for output in described] == [str(tensor.dtype)[6:] for tensor in expected]
