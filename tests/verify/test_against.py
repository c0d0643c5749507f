"""`verify --against`, `--expect`, `--record` and `--golden`: right numbers, and what is said of wrong ones."""

from __future__ import annotations

import json
import shlex
import sys
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.conftest import needed

torch = needed("torch")

from torch import Tensor, nn  # noqa: E402 - needs torch

from torchlink.verify.comparing import references  # noqa: E402 - after torch
from torchlink.verify.comparing.tolerances import PRECISIONS, Tolerances  # noqa: E402 - after torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result

pytestmark = pytest.mark.compile


class Point(NamedTuple):
    where: Tensor
    rank: int


class Everything(nn.Module):
    def forward(
        self, x: Tensor, times: int = 3
    ) -> tuple[dict[str, list[Tensor]], str, float, Point, dict[int, Tensor], bool, None]:
        print("the model speaks")
        pair = torch.view_as_complex(torch.stack([x, x / 3], -1))
        return (
            {"a": [x * times, pair], "b": [x / 0, (x * 0) / 0]},
            "text",
            0.1 + times,
            Point(x > 0, 9007199254740993),
            {3: x.to(torch.bfloat16), 4: torch.zeros(0, 3)},
            True,
            None,
        )


class Two(nn.Module):
    def __init__(self, factor: float = 2.0) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"same": x + 1, "scaled": x * self.factor}


class Placed(nn.Module):
    def forward(self, x: Tensor, where: torch.device) -> Tensor:  # type: ignore[name-defined]
        return x.to(where) + 1


class Noise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand(4)


class Counting(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        wide = torch.full([2], 9007199254740992, dtype=torch.int64)
        return x, wide + 1


def saved(module: nn.Module, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(str(path))
    return path


def model_of(result: Result) -> Any:
    (model,) = json.loads(result.out)["models"]
    return model


def python_with(tmp_path: Path, patch: str) -> str:
    """An interpreter whose `torch.jit.load` returns what the expression `patch` makes of the model `m`."""
    program = (
        "import runpy, sys, time, os, torch\n"
        "load = torch.jit.load\n"
        f"torch.jit.load = lambda *a, **k: (lambda m: {patch})(load(*a, **k))\n"
        "print('noise on stdout')\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    exe = tmp_path / "python-patched"
    exe.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(program)} "$@"\n')
    exe.chmod(0o755)
    return f"python={exe}"


def test_an_interpreter_that_never_answers_is_given_up_without_a_time_limit(
    verify: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(references, "PATIENCE", 1.0)
    silent = tmp_path / "python-silent"
    silent.write_text(
        '#!/bin/sh\nread line\necho \'{"event":"imported","torch":"9"}\'\nread line\nexec sleep 1000\n'
    )
    silent.chmod(0o755)
    words = (saved(Two(), tmp_path / "m.pt"), "--input", "float32[3]", "--against", f"python={silent}")
    for options in ((), ("--bench", "--bench-runs", "1")):
        error = model_of(verify(*words, *options, "--json"))["error"]
        assert error["code"] == "reference-failed"
        assert "did not finish within" in error["message"]
        assert "--timeout" in error["hint"]


def test_the_tolerances_are_torch_s_own() -> None:
    from torch.testing._comparison import default_tolerances

    dtypes = [each for each in vars(torch).values() if isinstance(each, torch.dtype)]
    for dtype in dtypes:
        if "q" in str(dtype):  # those come dequantized
            continue
        name = str(dtype).removeprefix("torch.")
        assert Tolerances().of(name) == default_tolerances(dtype)[::-1], name
    assert set(PRECISIONS) <= {str(dtype).removeprefix("torch.") for dtype in dtypes}
    assert Tolerances().of("float64", "float16") == default_tolerances(torch.float64, torch.float16)[::-1]


def test_a_model_that_is_the_same_in_python_agrees_in_every_part(
    verify: Callable[..., Result], tmp_path: Path
) -> None:
    path = saved(Everything(), tmp_path / "all.pt")
    result = verify(path, "--input", "float32[2,4]=randn:3", "--against", "python", "--json")
    model = model_of(result)
    assert model["error"] is None
    assert result.code == 0
    against = model["against"]
    assert against["to"] == f"python (torch {torch.__version__})"
    assert against["ok"] is True
    assert against["max_abs_error"] == against["max_rel_error"] == 0
    labels = [output["label"] for output in against["outputs"]]
    assert labels[:3] == ["output[0].a[0]", "output[0].a[1]", "output[0].b[0]"]
    assert len(labels) == 12
    assert model["printed"] == "the model speaks\n"
    text = verify(path, "--input", "float32[2,4]=randn:3", "--against", "python").out
    assert f"compared  with python (torch {torch.__version__}): greatest difference 0 absolute" in text


def test_a_difference_is_named_with_its_place_and_size(verify: Callable[..., Result], tmp_path: Path) -> None:
    path = saved(Two(), tmp_path / "two.pt")
    patch = "lambda x: {**m(x), 'scaled': m(x)['scaled'] + torch.tensor([[0., 0, 0.5], [0, 0, 0]])}"
    exe = python_with(tmp_path, patch)
    result = verify(path, "--input", "float32[2,3]=ones", "--against", exe, "--json")
    model = model_of(result)
    assert result.code == 1
    assert model["error"]["code"] == "mismatch"
    (line,) = model["error"]["details"]
    assert line == (
        "output.scaled: 1 of 6 elements differ; greatest absolute difference 0.5 at [0,2] (atol 1e-05), "
        "relative 0.2 at [0,2] (rtol 1.3e-06)"
    )
    scaled = model["against"]["outputs"][1]
    assert (scaled["mismatched"], scaled["elements"], scaled["worst_at"]) == (1, 6, [0, 2])
    assert model["against"]["max_abs_error"] == 0.5
    assert model["nondeterministic"] is None
    allowed = verify(path, "--input", "float32[2,3]=ones", "--against", exe, "--atol", "0.5")
    assert allowed.code == 0


def test_another_structure_is_a_mismatch_by_its_path(verify: Callable[..., Result], tmp_path: Path) -> None:
    path = saved(Two(), tmp_path / "two.pt")
    patch = "lambda x: {'same': [x], 'other': 'text'}"
    model = model_of(
        verify(path, "--input", "float32[3]", "--against", python_with(tmp_path, patch), "--json")
    )
    assert sorted(model["error"]["details"]) == [
        "output.other: it is missing",
        "output.same: it is a float32 tensor, expected a list of 1",
        "output.scaled: it is not expected",
    ]
    assert model["against"]["max_abs_error"] is None
    shape = python_with(tmp_path, "lambda x: {'same': x[:2], 'scaled': x.double() * 2}")
    model = model_of(verify(path, "--input", "float32[3]", "--against", shape, "--json"))
    assert model["error"]["details"] == [
        "output.same: its shape is [3], expected [2]",
        "output.scaled: its dtype is float32, expected float64",
    ]


def test_a_model_that_is_never_the_same_is_called_nondeterministic(
    verify: Callable[..., Result], tmp_path: Path
) -> None:
    path = saved(Noise(), tmp_path / "noise.pt")
    for option in (("--against", "python=" + sys.executable), ("--record", str(tmp_path / "golden"))):
        result = verify(path, "--input", "float32[2,4]", *option, "--json")
        model = model_of(result)
        assert result.code == 1
        # Both begin with the same seed, so the first numbers may even be those of Python.
        assert 0 < model["nondeterministic"] < 1
        if model["error"]:
            assert model["error"]["code"] == "nondeterministic"
            assert "greatest absolute difference 0." in model["error"]["message"]
    assert not (tmp_path / "golden").exists() or not list((tmp_path / "golden").rglob("*.pt"))
    assert verify(path, "--input", "float32[2,4]", "--record", tmp_path / "golden", "--atol", "1").code == 0


def test_what_goes_wrong_in_python_is_told_with_its_own_words(
    verify: Callable[..., Result], tmp_path: Path
) -> None:
    path = saved(Two(), tmp_path / "two.pt")
    for patch, said in (
        ("lambda x: [][1]", "could not run the model: IndexError: list index out of range"),
        ("lambda x: __import__('ctypes').string_at(0)", "was killed by SIGSEGV while it ran the model"),
        ("lambda x: os._exit(3)", "ended with exit status 3 while it ran the model"),
        ("[][1]", "could not load the model: IndexError: list index out of range"),
    ):
        result = verify(path, "--input", "float32[3]", "--against", python_with(tmp_path, patch), "--json")
        error = model_of(result)["error"]
        assert result.code == 1
        assert error["code"] == "reference-failed"
        assert said in error["message"]
        assert model_of(result)["against"]["ok"] is False
    slow = python_with(tmp_path, "lambda x: time.sleep(600)")
    error = model_of(verify(path, "--input", "float32[3]", "--against", slow, "--timeout", "5", "--json"))[
        "error"
    ]
    assert "did not finish within 5 s" in error["message"]


def test_one_python_goes_on_after_a_model_that_ended_it(
    verify: Callable[..., Result], tmp_path: Path
) -> None:
    first, second = saved(Two(1.0), tmp_path / "a.pt"), saved(Two(2.0), tmp_path / "b.pt")
    patch = "(lambda x: os._exit(3)) if m.factor == 1.0 else m"
    result = verify(
        first, second, "--input", "float32[3]", "--against", python_with(tmp_path, patch), "--json"
    )
    assert [model["ok"] for model in json.loads(result.out)["models"]] == [False, True]


def test_an_interpreter_that_cannot_serve_is_exit_2_with_the_reason(
    verify: Callable[..., Result], tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -S "$@"\n')
    bare.chmod(0o755)
    for named, said in (
        (f"python={bare}", "cannot import torch: No module named 'torch'"),
        (f"python={tmp_path / 'none'}", "no such interpreter"),
        ("python=", "no such interpreter"),
        ("python=/bin/false", "cannot import torch: it ended with exit status 1"),
        (str(tmp_path / "nothing"), "no such file or directory"),
    ):
        result = verify("--against", named)
        assert result.code == 2
        assert said in result.err
        assert "Traceback" not in result.err


def test_the_environment_of_python_holds_no_secrets_and_no_relative_path(
    verify: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('the wrong torch')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MY_TOKEN", "secret")
    monkeypatch.setenv("PYTHONPATH", "")
    path = saved(Two(), tmp_path / "two.pt")
    patch = "m if 'MY_TOKEN' not in os.environ else None"
    assert verify(path, "--input", "float32[3]", "--against", python_with(tmp_path, patch)).code == 0


def test_the_same_libtorch_by_its_path_agrees(
    verify: Callable[..., Result], tmp_path: Path, torch_root: Path
) -> None:
    path = saved(Everything(), tmp_path / "all.pt")
    model = model_of(verify(path, "--input", "float32[2,4]=rand:3", "--against", torch_root, "--json"))
    assert model["error"] is None
    assert model["against"]["to"].startswith(f"libtorch {torch.__version__} of ")
    assert model["against"]["ok"] is True


@pytest.mark.skipif(torch.version.cuda is not None, reason="this is a CUDA build")
def test_cuda_needs_a_cuda_build(verify: Callable[..., Result]) -> None:
    result = verify("--against", "cuda")
    assert result.code == 2
    assert "--against cuda needs a CUDA build" in result.err


def test_a_recording_can_be_opened_and_is_compared_with(
    verify: Callable[..., Result], tmp_path: Path
) -> None:
    path, golden = saved(Everything(), tmp_path / "models" / "all.pt"), tmp_path / "golden"
    recorded = verify(
        path, "--input", "float32[2,4]=randn:3", "--input", "times=5", "--record", golden, "--json"
    )
    place = golden / "models" / "all.pt" / "forward"
    assert model_of(recorded)["recording"] == str(place)
    inputs = torch.load(place / "inputs.pt", weights_only=True)
    outputs = torch.load(place / "outputs.pt", weights_only=True)
    assert outputs[0]["a"][0].equal(inputs["positional"][0] * 5)
    assert outputs[1:3] == ("text", 5.1)
    about = json.loads((place / "golden.json").read_text())
    assert (about["torch"], about["model"]) == (torch.__version__, "models/all.pt")
    checked = verify(path, "--golden", golden, "--json")
    assert model_of(checked)["error"] is None
    assert model_of(checked)["against"]["max_abs_error"] == 0
    assert "recorded in" in model_of(checked)["inputs"][0]["why"]
    again = verify(path, "--record", golden, "--input", "float32[2,4]")
    assert again.code == 2
    assert "already contains a recording" in again.err
    assert verify(path, "--record", golden, "--input", "float32[2,4]", "--force").code == 0
    assert verify(path, "--golden", golden).code == 0
    assert torch.load(place / "inputs.pt")["positional"][0].equal(torch.ones(2, 4))


def test_a_changed_model_is_found_by_its_output(verify: Callable[..., Result], tmp_path: Path) -> None:
    path, golden = saved(Two(), tmp_path / "two.pt"), tmp_path / "golden"
    assert verify(path, "--input", "float32[3]=randn:1", "--record", golden).code == 0
    saved(Two(2.5), path)
    result = verify(path, "--golden", golden, "--json")
    error = model_of(result)["error"]
    assert result.code == 1
    assert error["code"] == "mismatch"
    assert [line.partition(":")[0] for line in error["details"]] == ["output.scaled"]
    missing = verify(saved(Two(), tmp_path / "new.pt"), "--golden", golden)
    assert missing.code == 2
    assert "contains no recording of" in missing.err
    nowhere = verify(path, "--golden", tmp_path / "nowhere")
    assert nowhere.code == 2
    assert f"--golden: no such directory: {tmp_path / 'nowhere'}." in nowhere.err
    (golden / "two.pt" / "forward" / "golden.json").write_text("{}")
    assert verify(path, "--golden", golden).code == 2


def test_two_models_of_one_name_have_two_recordings(
    verify: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    names = ("a/m.pt", "b/m.pt", "../m.pt", "%2E%2E/m.pt", "a%2Fm.pt")
    for number, name in enumerate(names):
        saved(Two(float(number)), tmp_path / "here" / name)
    words = [*names, "--input", "float32[3]"]
    assert verify(*words, "--record", "golden").code == 0
    assert verify(*words, "--golden", "golden").code == 0
    assert (
        verify("a", "b", "golden/a", "--golden", "golden").code == 2
    )  # a directory of recordings holds no model
    below = json.loads(verify(".", *words[-2:], "--json").out)["models"]
    assert len(below) == 4  # and none of the recorded tensors
    monkeypatch.chdir(tmp_path)  # where verify is started does not count
    assert verify("here/a/m.pt", "m.pt", "--golden", "here/golden").code == 0


def test_nothing_of_the_user_s_is_overwritten(verify: Callable[..., Result], tmp_path: Path) -> None:
    path, golden = saved(Two(), tmp_path / "two.pt"), tmp_path / "golden"
    place = golden / "two.pt" / "forward"
    place.mkdir(parents=True)
    (place / "notes.txt").write_text("mine")
    result = verify(path, "--input", "float32[3]", "--record", golden, "--force")
    assert result.code == 2
    assert "notes.txt" in result.err
    assert [entry.name for entry in place.iterdir()] == ["notes.txt"]


def test_plain_values_are_compared_where_the_file_has_them(
    verify: Callable[..., Result], tmp_path: Path
) -> None:
    path = saved(Everything(), tmp_path / "all.pt")
    x = torch.tensor([[1.0, -2.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        outputs = torch.jit.load(str(path))(x)
    numbers = [*outputs[:3], (outputs[3][0], outputs[3][1]), *outputs[4:]]
    torch.save(numbers, tmp_path / "right.pt")
    given = ("--input", '{"type":"tensor","data_type":"float32","shape":[1,2],"value":[1,-2]}')
    right = verify(path, *given, "--expect", tmp_path / "right.pt", "--json")
    assert model_of(right)["error"] is None
    wrong = [numbers[0], "other", 3.2, (outputs[3][0], outputs[3][1] - 1), *numbers[4:]]
    torch.save(wrong, tmp_path / "wrong.pt")
    error = model_of(verify(path, *given, "--expect", tmp_path / "wrong.pt", "--json"))["error"]
    assert [line.partition(";")[0] for line in error["details"]] == [
        "output[1]: it is 'text', expected 'other'",
        "output[2]: it differs",
        "output[3].rank: it is int 9007199254740993, expected int 9007199254740992",
    ]


def test_whole_numbers_are_compared_to_the_last_bit(verify: Callable[..., Result], tmp_path: Path) -> None:
    path = saved(Counting(), tmp_path / "count.pt")
    wanted = torch.tensor([9007199254740993, 9007199254740992])
    torch.save([torch.ones(2), wanted], tmp_path / "expected.pt")
    model = model_of(verify(path, "--input", "float32[2]", "--expect", tmp_path / "expected.pt", "--json"))
    assert model["expected"]["outputs"][1]["mismatched"] == 1
    assert model["expected"]["outputs"][1]["worst_at"] == [1]
    assert model["expected"]["outputs"][1]["max_abs_error"] == 1


def test_the_default_tolerance_is_that_of_the_dtype(verify: Callable[..., Result], tmp_path: Path) -> None:
    class Halves(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x.half(), x

    path = saved(Halves(), tmp_path / "halves.pt")
    torch.save([torch.full([2], 1.0005), torch.full([2], 1.00005)], tmp_path / "expected.pt")
    model = model_of(verify(path, "--input", "float32[2]", "--expect", tmp_path / "expected.pt", "--json"))
    assert [output["ok"] for output in model["expected"]["outputs"]] == [True, False]


def test_a_mismatch_of_infinities_is_a_string_in_json(verify: Callable[..., Result], tmp_path: Path) -> None:
    path = saved(Two(float("inf")), tmp_path / "two.pt")
    torch.save({"same": torch.full([2], 2.0), "scaled": -torch.full([2], float("inf"))}, tmp_path / "e.pt")
    model = model_of(verify(path, "--input", "float32[2]", "--expect", tmp_path / "e.pt", "--json"))
    assert model["expected"]["max_abs_error"] == "Infinity"
    assert model["max_abs_error"] is None


def test_a_golden_excludes_other_comparisons(verify: Callable[..., Result], tmp_path: Path) -> None:
    for other in (("--against", "python"), ("--record", str(tmp_path))):
        result = verify("--golden", tmp_path, *other)
        assert result.code == 2
        assert "cannot be combined" in result.err


def test_a_device_among_the_inputs_reaches_python_and_a_recording(
    verify: Callable[..., Result], tmp_path: Path
) -> None:
    path = saved(Placed(), tmp_path / "m.pt")
    given = ("--input", "float32[2]", "--input", "'cpu'")
    done = verify(path, *given, "--against", "python=" + sys.executable, "--record", tmp_path / "golden")
    assert done.code == 0, done.out
    assert verify(path, "--golden", tmp_path / "golden").code == 0
