"""Models compiled by AOTInductor: they run without --input, and what does not fit is explained before it is loaded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import made_once, needed, program

torch = needed("torch")

from tests.verify.compiled_models import (  # noqa: E402 - needs torch
    MODEL,
    changed,
    compile_models,
    entry,
    with_library,
    with_metadata,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result

pytestmark = pytest.mark.compile


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "compiled", compile_models)


def model_of(result: Result) -> Any:
    (model,) = json.loads(result.out)["models"]
    return model


def test_a_package_runs_with_the_inputs_that_its_checks_ask_for(
    verify: Callable[..., Result], compiled: Path
) -> None:
    result = verify(compiled / "layer.pt2", "--json")
    model = model_of(result)
    assert (result.code, model["kind"], model["device"]) == (0, "aoti-package", "cpu")
    assert [(each["name"], each["input"]) for each in model["inputs"]] == [("argument 1", "float32[2,4]")]
    assert "one size is dynamic" in model["inputs"][0]["why"]
    layer = torch.nn.Linear(4, 3)
    layer.load_state_dict(
        {name.removeprefix("fc."): value for name, value in torch.load(compiled / "layer_state.pt").items()}
    )
    expected = torch.relu(layer(torch.ones(2, 4))).flatten().tolist()
    assert model["outputs"][0]["values"] == pytest.approx(expected, abs=1e-6)


def test_structure_keywords_dtypes_and_memory_formats_are_those_of_the_export(
    verify: Callable[..., Result], compiled: Path
) -> None:
    result = verify(compiled / "many.pt2", "--json")
    model = model_of(result)
    assert result.code == 0, result.out
    assert {each["name"]: each["input"] for each in model["inputs"]} == {
        "argument 1": "int64[2,5]",
        "argument 2": "(bfloat16[2,5,4], complex64[])",
        "argument 3": "none",  # a float, which was fixed at export
        "argument 4": "float32[1,3,4,4]",
        "mask": "bool[2,5]",
        "options": "{'b': float32[2], 'a': float32[2]}",
    }
    labels = [output["label"] for output in model["outputs"]]
    assert labels == [
        "output.h",
        "output.rest[0]",
        "output.rest[1][0]",
        "output.rest[1][1]",
        "output.rest[2]",
    ]
    assert model["outputs"][0]["values"][0] == 4.0
    assert model["outputs"][1]["type"] == "none"


def test_given_inputs_are_taken_by_keyword_and_a_wrong_one_is_named(
    verify: Callable[..., Result], compiled: Path
) -> None:
    given = ["int64[2,5]", "(bfloat16[2,5,4], complex64[])", "none", "float32[1,3,4,4]"]
    named = ["options={'a': float32[2], 'b': float64[2]}", "mask=bool[2,5]"]
    words = [word for text in (*given, *named) for word in ("--input", text)]
    result = verify(compiled / "many.pt2", *words)
    assert result.code == 1
    assert (
        "argument 4 must have stride 1 in dimension 1" in result.out
    )  # a program has to give channels-last, too
    result = verify(compiled / "layer.pt2", "--input", "float32[1,4]")
    assert "argument 1 must have size at least 2 in dimension 0, and has 1" in result.out
    result = verify(compiled / "layer.pt2", "--input", "int64[2,4]")
    assert "argument 1 must be float32, and is int64" in result.out


def test_another_structure_than_that_of_the_export_is_refused_before_the_call(
    verify: Callable[..., Result], compiled: Path
) -> None:
    result = verify(compiled / "layer.pt2", "--input", "[float32[2,4], float32[2,4]]")
    assert result.code == 2
    assert "layer.pt2: argument 1 must be one tensor, and is a list, tuple or dict." in result.err
    result = verify(compiled / "layer.pt2", "--input", "3")
    assert result.code == 2
    assert "layer.pt2: forward takes 1 tensor, but the arguments have 0." in result.err


def test_calls_are_timed_with_sizes_that_it_takes(verify: Callable[..., Result], compiled: Path) -> None:
    arguments = (compiled / "layer.pt2", "--bench", "--bench-runs", "10", "--json")
    result = verify(*arguments, "--bench-batch", "argument 1:0=2,16")
    assert result.code == 0, result.out
    bench = model_of(result)["bench"]
    assert [(case["size"], len(case["times_ms"])) for case in bench["cases"]] == [(2, 10), (16, 10)]
    result = verify(*arguments, "--bench-batch", "*:1=9")
    assert (result.code, model_of(result)["stage"]) == (1, "bench")
    assert "argument 1 must have size" in model_of(result)["error"]["message"]


def test_a_model_of_several_is_named(verify: Callable[..., Result], compiled: Path) -> None:
    result = verify(compiled / "two.pt2")
    assert (result.code, "2 models in this package: one, other" in result.err, "--model" in result.err) == (
        2,
        True,
        True,
    )
    assert verify(compiled / "two.pt2", "--model", "other").code == 0
    result = verify(compiled / "two.pt2", "--model", "third")
    assert (result.code, "no model third in this package" in result.err) == (2, True)


def test_a_bare_library_tells_what_it_takes_when_it_is_asked(
    verify: Callable[..., Result], compiled: Path
) -> None:
    result = verify(compiled / "bare.so", "--json")
    model = model_of(result)
    assert (result.code, model["kind"]) == (0, "aoti-library")
    assert model["inputs"][0]["input"] == "float32[2,4]"


def test_a_package_without_its_source_is_asked_too(
    verify: Callable[..., Result], compiled: Path, tmp_path: Path
) -> None:
    def stripped(entries: dict[str, bytes]) -> None:
        del entries[entry(entries, ".wrapper.cpp")]

    package = changed(compiled / "many.pt2", tmp_path / "many.pt2", stripped)
    result = verify(package, "--json")
    assert result.code == 0, result.out
    inputs = [each["input"] for each in model_of(result)["inputs"]]
    assert inputs[:2] == ["int64[2,5]", "(bfloat16[2,5,4], complex64[])"]


def test_weights_outside_the_library_are_found_in_the_package_and_beside_it(
    verify: Callable[..., Result], compiled: Path, tmp_path: Path
) -> None:
    inside = model_of(verify(compiled / "outside.pt2", "--json"))
    assert inside["ok"], inside

    def stripped(entries: dict[str, bytes]) -> None:
        del entries["data/weights/weight_0"], entries[f"{MODEL}weights_config.json"]

    package = changed(compiled / "outside.pt2", tmp_path / "outside.pt2", stripped)
    result = verify(package)
    assert result.code == 1
    assert "compiled without its weights" in result.out
    assert "outside.safetensors" in result.out
    shutil.copy(compiled / "layer_state.pt", tmp_path / "outside.pt")
    beside = model_of(verify(package, "--json"))
    assert beside["outputs"] == inside["outputs"]


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"AOTI_MACHINE": "aarch64"}, "compiled for aarch64 Linux"),
        ({"AOTI_PLATFORM": "darwin"}, "macOS"),
        ({"AOTI_DEVICE_KEY": "cuda"}, "compiled for the device cuda"),
        ({"AOTI_CPU_ISA": "SVE"}, "compiled for a processor with SVE"),
    ],
)
def test_what_it_was_compiled_for_is_checked_before_anything_is_built(
    verify: Callable[..., Result],
    compiled: Path,
    tmp_path: Path,
    told: dict[str, str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TORCHLINK_CACHE_DIR", str(tmp_path / "cache"))
    package = changed(compiled / "layer.pt2", tmp_path / "other.pt2", with_metadata(**told))
    result = verify(package, "--json")
    error = model_of(result)["error"]
    assert (result.code, error["code"]) == (1, "compiled-for-other")
    assert said in error["message"]
    assert error["hint"]
    assert json.loads(result.out)["loader"] is None


def stranger(tmp_path: Path, body: str) -> bytes:
    """A library that looks compiled, for this machine."""
    source, library = tmp_path / "stranger.c", tmp_path / "stranger.so"
    source.write_text(body + "\nint AOTInductorModelContainerCreateWithDevice(void) { return 0; }\n")
    subprocess.run([program("gcc"), "-shared", "-fPIC", source, "-o", library], check=True, timeout=60)
    return library.read_bytes()


def test_symbols_that_this_libtorch_does_not_have_are_named(
    verify: Callable[..., Result], compiled: Path, tmp_path: Path
) -> None:
    body = "void aoti_torch_cpu_of_tomorrow(void); void f(void) { aoti_torch_cpu_of_tomorrow(); }"
    library = stranger(tmp_path, body)
    package = changed(compiled / "layer.pt2", tmp_path / "newer.pt2", with_library(library))
    for path in (package, tmp_path / "stranger.so"):
        result = verify(path, "--json")
        error = model_of(result)["error"]
        assert (result.code, error["code"]) == (1, "compiled-for-other")
        assert "aoti_torch_cpu_of_tomorrow" in error["message"]
        assert "newer" in error["hint"]


def test_a_library_of_another_machine_is_not_loaded(
    verify: Callable[..., Result], compiled: Path, tmp_path: Path
) -> None:
    library = bytearray((compiled / "bare.so").read_bytes())
    library[18:20] = (183).to_bytes(2, "little")  # e_machine: aarch64
    package = changed(compiled / "layer.pt2", tmp_path / "arm.pt2", with_library(bytes(library)))
    result = verify(package)
    assert (result.code, "its library is for aarch64" in result.out) == (1, True)


def evil(entries: dict[str, bytes]) -> None:
    entries["../../evil"] = b"evil"


def bomb(entries: dict[str, bytes]) -> None:
    entries[f"{MODEL}zeros.bin"] = bytes(300 << 20)


def many(entries: dict[str, bytes]) -> None:
    entries.update({f"{MODEL}{number}": b"" for number in range(20_001)})


def no_json(entries: dict[str, bytes]) -> None:
    entries[entry(entries, ".wrapper_metadata.json")] = b"{"


def a_list(entries: dict[str, bytes]) -> None:
    entries[entry(entries, ".wrapper_metadata.json")] = b"[1]"


def no_library(entries: dict[str, bytes]) -> None:
    del entries[entry(entries, ".wrapper.so")]


def only_sources(entries: dict[str, bytes]) -> None:
    no_library(entries)
    entries[f"{MODEL}x.wrapper_compile_flags.json"] = b"{}"


def file_and_directory(entries: dict[str, bytes]) -> None:
    entries[f"{MODEL}thing"] = b""
    entries[f"{MODEL}thing/inside"] = b""


def text_for_library(entries: dict[str, bytes]) -> None:
    entries[entry(entries, ".wrapper.so")] = b"no library\n" * 100


def test_a_source_without_checks_and_a_library_that_cannot_be_loaded(
    verify: Callable[..., Result], compiled: Path, tmp_path: Path
) -> None:
    def garbage(entries: dict[str, bytes]) -> None:
        entries[entry(entries, ".wrapper.cpp")] = b"\xff\xfe" * 1000

    result = verify(changed(compiled / "layer.pt2", tmp_path / "garbage.pt2", garbage))
    assert result.code == 0, result.out + result.err

    def hollow(entries: dict[str, bytes]) -> None:
        library = entry(entries, ".wrapper.so")
        entries[library] = entries[library][:64] + bytes(100_000)

    result = verify(changed(compiled / "layer.pt2", tmp_path / "hollow.pt2", hollow))
    assert result.code == 1
    assert "no loadable segments" in result.out
    assert "/tmp/aotinductor_" not in result.out  # libtorch unpacks there, and leaves it behind


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (evil, "points outside the package"),
        (bomb, "far more than a package of its size"),
        (many, "entries, far more than a package has"),
        (no_json, "is not JSON"),
        (a_list, "not a JSON object of strings"),
        (no_library, "has no compiled library"),
        (only_sources, "packaged as sources"),
        (text_for_library, "is not an ELF file"),
        (file_and_directory, "is damaged"),
    ],
)
def test_a_hostile_or_broken_package_is_one_clear_error(
    verify: Callable[..., Result],
    compiled: Path,
    tmp_path: Path,
    change: Callable[[dict[str, bytes]], None],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    result = verify(changed(compiled / "layer.pt2", tmp_path / "bad.pt2", change))
    assert result.code == 2
    assert said in result.err + result.out
    assert "Traceback" not in result.err
    assert list(place.iterdir()) == []
    assert not list(tmp_path.glob("**/evil"))


def test_nothing_stays_of_an_unpacked_package(
    verify: Callable[..., Result], compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    killed = tmp_path / "torchlink-model-of-a-killed-run"
    (killed / "package").mkdir(parents=True)
    os.utime(killed, (1, 1))
    (tmp_path / "torchlink-model-link").symlink_to(killed)
    assert verify(compiled / "layer.pt2").code == 0
    assert [each.name for each in tmp_path.iterdir()] == ["torchlink-model-link"]


def test_each_kind_of_model_has_its_own_loader(
    verify: Callable[..., Result], compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert verify(compiled / "layer.pt2").code == 0
    first = json.loads(verify(compiled / "layer.pt2", "--json").out)["loader"]
    assert first["cached"]
    assert "-DLOADER_AOTI" in first["command"]
    both = verify(compiled / "layer.pt2", small(tmp_path), "--json")
    assert both.code == 0
    assert [model["kind"] for model in json.loads(both.out)["models"]] == ["aoti-package", "torchscript"]


def small(directory: Path) -> Path:
    """A TorchScript model."""
    path = directory / "small.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
    return path


def test_a_mobile_file_with_code_runs_like_any_other(verify: Callable[..., Result], tmp_path: Path) -> None:
    path = tmp_path / "model.ptl"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(torch.nn.Linear(4, 2))._save_for_lite_interpreter(str(path))
    assert verify(path).code == 0


def test_a_libtorch_without_the_loader_of_packages_says_so(
    torchlink: Callable[..., Result], torch_root: Path, compiled: Path, tmp_path: Path
) -> None:
    old = tmp_path / "torch"
    shutil.copytree(torch_root / "include", old / "include", copy_function=os.link, symlinks=True)
    shutil.rmtree(old / "include" / "torch" / "csrc" / "inductor" / "aoti_package")
    for name in ("lib", "version.py", "share"):
        (old / name).symlink_to(torch_root / name)
    result = torchlink("verify", compiled / "layer.pt2", "--libtorch", old)
    assert result.code == 2
    assert "has no loader for AOTInductor packages" in result.err


def test_compiled_models_agree_with_python_and_with_their_recordings(
    verify: Callable[..., Result], compiled: Path, tmp_path: Path
) -> None:
    packages = [compiled / "layer.pt2", compiled / "many.pt2"]
    result = verify(*packages, "--against", f"python={sys.executable}", "--json")
    for model in json.loads(result.out)["models"]:
        assert model["error"] is None
        assert model["against"]["ok"] is True
        assert len(model["against"]["outputs"]) == len(model["outputs"])
    assert verify(*packages, "--record", tmp_path / "golden").code == 0
    checked = verify(*packages, "--golden", tmp_path / "golden", "--json")
    assert [model["error"] for model in json.loads(checked.out)["models"]] == [None, None]
