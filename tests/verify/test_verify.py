"""`torchlink verify` as a user meets it: what it prints, what it exits with, what it says when things fail."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import needed
from torchlink.paths import data_dir

torch = needed("torch")


from tests.verify import small_models  # noqa: E402 - needs torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result

pytestmark = pytest.mark.compile
TINY = data_dir("templates") / "loader" / "tiny.pt"


@pytest.fixture
def verify(torchlink: Callable[..., Result], torch_root: Path) -> Callable[..., Result]:
    def call(*arguments: str | Path) -> Result:
        return torchlink("verify", *arguments, "--libtorch", torch_root)

    return call


def report_of(result: Result) -> Any:
    return json.loads(result.out)


def test_without_a_model_the_tiny_one_is_proved_and_the_json_is_the_contract_s(
    verify: Callable[..., Result],
) -> None:
    result = verify("--json")
    report = report_of(result)
    assert result.code == 0
    assert set(report) == {"schema", "ok", "libtorch", "loader", "lint", "models", "summary"}
    assert report["schema"] == 1
    assert report["ok"] is True
    assert list(report["loader"]) == ["cached", "compile_seconds", "command", "emulator"]
    assert report["loader"]["emulator"] is None
    (model,) = report["models"]
    assert (
        " ".join(model)
        == "path kind method device ok stage signal error inputs input_tries outputs output saved_outputs max_abs_error"
        " expected against nondeterministic recording load_ms forward_ms again_ms peak_rss_mb seconds gpu bench"
        " printed"
    )
    assert model["path"] == str(TINY)
    assert (model["kind"], model["device"], model["ok"], model["error"]) == ("torchscript", "cpu", True, None)
    assert model["inputs"][0]["input"] == "float32[1,4]"
    assert model["inputs"][0]["why"]
    assert model["outputs"][0] | {"device": "cpu"} == {
        "label": "output",
        "path": [],
        "type": "tensor",
        "device": "cpu",
        "dtype": "float32",
        "shape": [1, 2],
        "values": [2.5, -0.75],
        "min": -0.75,
        "max": 2.5,
        "mean": 0.875,
        "non_finite": 0,
    }
    assert model["load_ms"] > 0
    assert model["forward_ms"] > 0
    assert 20 < model["peak_rss_mb"] < 4000


def test_a_warm_run_starts_no_compiler(
    verify: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import shutil

    compiler = shutil.which("c++")
    assert compiler
    wrapper = tmp_path / "c++"
    wrapper.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\nexec {compiler} "$@"\n')
    wrapper.chmod(0o755)
    assert verify("--compiler", wrapper, "--json").code == 0
    (tmp_path / "calls").unlink()
    report = report_of(verify("--compiler", wrapper, "--json"))
    assert report["loader"]["cached"] is True
    assert report["loader"]["compile_seconds"] == 0
    assert not (tmp_path / "calls").exists()


def test_the_text_shows_inputs_outputs_and_times(verify: Callable[..., Result]) -> None:
    assert verify().code == 0  # the loader is there now
    result = verify()
    assert result.code == 0
    assert result.err == ""
    for words in ("tiny.pt: ok", "x = float32[1,4]", "float32[1,2] on cpu", "2.5 -0.75", "mean 0.875", "MiB"):
        assert words in result.out
    assert "\x1b" not in result.out


def test_preloads_of_the_environment_do_not_reach_the_loader(
    verify: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_PRELOAD", "/nonexistent/libpreload.so")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/nonexistent")
    result = verify()
    assert result.code == 0
    assert "preload" not in result.out + result.err


@pytest.mark.parametrize(
    ("module", "names"), [(small_models.OtherName, ["x", "y"]), (small_models.OtherNameAlone, [])]
)
def test_the_module_itself_is_no_input_whatever_forward_calls_it(
    verify: Callable[..., Result], tmp_path: Path, module: Callable[[], Any], names: list[str]
) -> None:
    path = small_models.save(module(), tmp_path / "m.pt")
    (model,) = report_of(verify(path, "--json"))["models"]
    assert model["error"] is None
    assert [taken["name"] for taken in model["inputs"]] == names


def test_expected_values_are_compared(verify: Callable[..., Result], tmp_path: Path) -> None:
    torch.save(torch.tensor([[2.5, -0.5]]), tmp_path / "wrong.pt")
    wrong = report_of(verify(TINY, "--input", "float32[1,4]", "--expect", tmp_path / "wrong.pt", "--json"))
    model = wrong["models"][0]
    assert wrong["ok"] is False
    assert model["error"]["code"] == "mismatch"
    assert model["max_abs_error"] == 0.25
    assert "1 of 2 elements" in model["error"]["details"][0]
    allowed = verify(
        TINY, "--input", "float32[1,4]", "--expect", tmp_path / "wrong.pt", "--atol", "0.3", "--json"
    )
    assert allowed.code == 0
    assert report_of(allowed)["models"][0]["max_abs_error"] == 0.25


@pytest.mark.parametrize("expected", [torch.ones(1, 3), [torch.ones(1, 2), torch.ones(1, 2)]])
def test_another_shape_or_count_than_expected_is_a_mismatch(
    verify: Callable[..., Result], tmp_path: Path, expected: Any
) -> None:
    torch.save(expected, tmp_path / "wrong.pt")
    result = verify(TINY, "--expect", tmp_path / "wrong.pt", "--json")
    assert result.code == 1
    error = report_of(result)["models"][0]["error"]
    assert error["code"] == "mismatch"
    assert "--atol" not in error["hint"]


def test_a_dict_is_compared_by_its_keys(verify: Callable[..., Result], tmp_path: Path) -> None:
    model, x = small_models.save(small_models.TwoKeys(), tmp_path / "model.pt"), torch.ones(2)
    torch.save({"a": x, "b": x * 2}, tmp_path / "right.pt")
    torch.save({"b": x, "a": x * 2}, tmp_path / "swapped.pt")
    torch.save({"b": x * 2, "c": x}, tmp_path / "other.pt")
    torch.save([x * 2, x], tmp_path / "list.pt")
    errors = {}
    for name in ("right", "swapped", "other", "list"):
        result = verify(model, "--input", "float32[2]", "--expect", tmp_path / f"{name}.pt", "--json")
        errors[name] = report_of(result)["models"][0]["error"]
    assert errors["right"] is errors["list"] is None
    assert [line.split(":")[0] for line in errors["swapped"]["details"]] == ["output.b", "output.a"]
    assert "output.c is missing; output.a is not in the file" in errors["other"]["message"]


def test_a_damaged_model_is_not_called_a_newer_one(verify: Callable[..., Result], tmp_path: Path) -> None:
    model = small_models.save(small_models.TwoKeys(), tmp_path / "model.pt")
    with zipfile.ZipFile(model) as archive:
        members = archive.infolist()
        number = next(at for at, member in enumerate(members) if member.filename.endswith(".py"))
    content = bytearray(model.read_bytes())
    content[members[number + 1].header_offset - members[number].compress_size // 2] ^= 0xFF
    model.write_bytes(content)
    error = report_of(verify(model, "--json"))["models"][0]["error"]
    assert ".py does not match its checksum" in error["message"]
    assert "newer" not in error["message"] + error["hint"]


def test_what_is_not_finite_must_be_the_same(verify: Callable[..., Result], tmp_path: Path) -> None:
    model = small_models.save(small_models.NotFinite(), tmp_path / "model.pt")
    right = torch.tensor([float("inf"), float("nan"), float("-inf")])
    torch.save(right, tmp_path / "right.pt")
    assert verify(model, "--input", "float32[1]", "--expect", tmp_path / "right.pt").code == 0
    torch.save(-right, tmp_path / "wrong.pt")
    result = verify(model, "--input", "float32[1]", "--expect", tmp_path / "wrong.pt", "--json")
    assert result.code == 1
    assert report_of(result)["models"][0]["max_abs_error"] is None
    assert report_of(result)["models"][0]["outputs"][0]["values"] == ["inf", "nan", "-inf"]


def test_what_forward_raises_is_told_in_its_own_words(verify: Callable[..., Result], tmp_path: Path) -> None:
    model = small_models.save(small_models.Raising(), tmp_path / "model.pt")
    result = verify(model, "--input", "float32[2]", "--json")
    error = report_of(result)["models"][0]["error"]
    assert result.code == 1
    assert error["code"] == "forward-failed"
    assert error["message"] == "forward raised: only empty tensors are welcome"
    assert "frame #" not in json.dumps(error)


def test_a_model_that_takes_nothing_that_was_tried_counts_as_loaded_but_not_run(
    verify: Callable[..., Result], tmp_path: Path
) -> None:
    model = small_models.save(small_models.Raising(), tmp_path / "model.pt")
    result = verify(model, "--json")
    (entry,) = report_of(result)["models"]
    assert result.code == 1
    assert entry["load_ms"] > 0
    assert entry["forward_ms"] is None
    assert entry["error"]["code"] == "no-input-fits"
    assert "loaded but not run" in entry["error"]["message"]
    assert "only empty tensors are welcome" in entry["error"]["message"]
    assert "--input" in entry["error"]["hint"]


def test_a_model_may_print_as_much_as_it_likes(verify: Callable[..., Result], tmp_path: Path) -> None:
    model = small_models.save(small_models.Chatty(), tmp_path / "model.pt")
    result = verify(model, "--input", "float32[1]", "--json")
    assert result.code == 0
    assert report_of(result)["models"][0]["outputs"][0]["values"] == [1]


def test_a_file_that_is_no_model_is_one_error(verify: Callable[..., Result], tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "weights.pt")
    result = verify(tmp_path / "weights.pt")
    assert result.code == 2
    assert result.out == ""
    assert "weights.pt" in result.err
    report = report_of(verify(tmp_path / "weights.pt", "--json"))
    assert report["error"]["code"] == "not-a-model"
    assert report["ok"] is False
    assert report["models"][0]["error"] == report["error"]


def test_the_other_models_are_proved_all_the_same(verify: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "empty.pt").write_bytes(b"")
    result = verify(tmp_path / "empty.pt", TINY, tmp_path / "missing.pt", "--json")
    report = report_of(result)
    assert result.code == 2
    assert [model["ok"] for model in report["models"]] == [False, True, False]
    text = verify(tmp_path / "empty.pt", TINY)
    assert text.code == 2
    assert "tiny.pt: ok" in text.out
    assert "empty.pt: FAILED" in text.out


def test_cuda_of_a_cpu_build_is_refused_in_one_sentence(
    verify: Callable[..., Result], torch_root: Path
) -> None:
    if list((torch_root / "lib").glob("libtorch_cuda*")):
        pytest.skip("this torch has CUDA")
    result = verify("--device", "cuda")
    assert result.code == 2
    assert "is a CPU build" in result.err
    assert report_of(verify("--device", "auto", "--json"))["models"][0]["device"] == "cpu"


@pytest.mark.gpu
def test_a_model_runs_on_the_gpu(verify: Callable[..., Result]) -> None:
    result = verify("--device", "cuda", "--json")
    assert result.code == 0, result
    (model,) = report_of(result)["models"]
    assert model["device"] == "cuda:0"
    assert model["outputs"][0]["device"] == "cuda:0"
    assert model["outputs"][0]["values"] == [2.5, -0.75]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--device", "tpu"),
        ("--via", "make"),
        ("--input", "float33[1]"),
        ("--expect", "nonexistent.pt"),
        ("--compiler", "nonexistent-compiler"),
        ("a.pt", "b.pt", "--expect", str(TINY)),
        ("--atol", "x"),
    ],
)
def test_bad_usage_is_one_error(verify: Callable[..., Result], arguments: tuple[str, ...]) -> None:
    result = verify(*arguments)
    assert result.code == 2
    assert result.out == ""
    assert result.err.startswith("torchlink: ")
    assert "Traceback" not in result.err


def test_the_api_does_the_same(torch_root: Path) -> None:
    import torchlink

    report = torchlink.verify([TINY], torchlink.inspect(torch_root))
    assert report.ok
    assert report.models[0].outputs[0].shape == (1, 2)


def test_a_required_optional_tensor_is_given_where_the_graph_tells_its_shape(
    verify: Callable[..., Result], tmp_path: Path
) -> None:
    model = small_models.save(small_models.OptionalRequired(), tmp_path / "model.pt")
    (entry,) = report_of(verify(model, "--json"))["models"]
    assert [taken["input"] for taken in entry["inputs"]] == ["float32[1,6]", "none"]
    assert entry["outputs"][0]["shape"] == [1, 2]
