"""Misuse of the public API: one clear error before anything else happens."""

from __future__ import annotations

import inspect
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import torchlink
from torchlink.cli import options
from torchlink.errors import UsageError
from torchlink.paths import data_dir

if TYPE_CHECKING:
    from collections.abc import Callable

WRONG_TYPES: dict[str, Callable[[Any], object]] = {
    "models must be a path .* or a sequence of them, not bytes": lambda api: api.verify(b"x"),
    "models must be a path .* or a sequence of them, not int": lambda api: api.verify(3),
    "models must be a path .* or a sequence of them, not dict": lambda api: api.verify({"a": 1}),
    r"models must be a path \(str or os.PathLike\), not NoneType": lambda api: api.verify([None]),
    "libtorch must be what torchlink.find or torchlink.inspect returns, not int": lambda api: api.verify(
        "m", 3
    ),
    "libtorch must be what .* not str": lambda api: api.plan("/opt/libtorch"),
    "compiler must be a str, not int": lambda api: api.verify("m", compiler=3),
    "compiler must be a str, not list": lambda api: api.plan(compiler=["g++"]),
    "inputs must be a str, not int": lambda api: api.verify("m", inputs=[3]),
    "inputs must be a str or a sequence of them, not float": lambda api: api.verify("m", inputs=1.5),
    "timeout must be a number, not str": lambda api: api.verify("m", timeout="x"),
    "atol must be a number, not list": lambda api: api.verify("m", atol=[]),
    "env must be a str or a sequence of them, not dict": lambda api: api.verify("m", env={"A": "b"}),
    "jobs must be an int, not float": lambda api: api.verify("m", jobs=1.0),
    "memory_limit must be an int, not str": lambda api: api.verify("m", memory_limit="2G"),
    "executor must be a str, not int": lambda api: api.verify("m", executor=3),
    "force must be a bool, not int": lambda api: api.verify("m", force=1),
    "expect must be a path .*, not list": lambda api: api.verify("m", expect=["a.npy"]),
    "cpu_only must be a bool, not str": lambda api: api.plan(cpu_only="no"),
    "paths must be a path .* or a sequence of them, not NoneType": lambda api: api.lint(None),
    "environment must be a mapping of str to str, not list": lambda api: api.lint("a", environment=["A=b"]),
    "target must be a str, not int": lambda api: api.lint("a", target=12),
    "libtorch must be a path .*, not bytes": lambda api: api.find(b"/opt"),
    "path must be a path .*, not NoneType": lambda api: api.inspect(None),
    "plan must be what torchlink.plan returns, not NoneType": lambda api: api.emit(None),
    "plan must be what torchlink.plan returns, not str": lambda api: api.notes("cxx"),
}
NULLS: dict[str, Callable[[], object]] = {
    "libtorch": lambda: torchlink.find("a\0b"),
    "python": lambda: torchlink.find(python="a\0b"),
    "path": lambda: torchlink.inspect("a\0b"),
    "compiler": lambda: torchlink.plan(compiler="a\0b"),
    "models": lambda: torchlink.verify(["a\0b"]),
    "paths": lambda: torchlink.lint(Path("a\0b")),
}
EMPTY: dict[str, Callable[[], object]] = {
    "models as a list": lambda: torchlink.verify([]),
    "models as a tuple": lambda: torchlink.verify(()),
    "models as a generator": lambda: torchlink.verify(Path("/nonexistent").glob("*.pt")),
    "paths as a list": lambda: torchlink.lint([]),
}


@pytest.mark.parametrize("message", WRONG_TYPES)
def test_an_argument_of_the_wrong_type_is_named(message: str) -> None:
    with pytest.raises(TypeError, match=f"^{message}$"):
        WRONG_TYPES[message](torchlink)


@pytest.mark.parametrize("name", NULLS)
def test_a_null_character_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"^{name} contains a null character"):
        NULLS[name]()


@pytest.mark.parametrize("name", EMPTY)
def test_an_empty_list_is_an_error(name: str) -> None:
    with pytest.raises(UsageError, match=f"^{name.partition(' ')[0]} is empty"):
        EMPTY[name]()


def test_verify_takes_every_option_of_the_command() -> None:
    taken = set(inspect.signature(torchlink.verify).parameters)
    assert set(options.VERIFY) - {"plan"} <= taken
    assert set(options.VERIFY["plan"]) <= taken


@pytest.mark.compile
def test_verify_returns_every_field_of_the_report(torch_root: Path, tmp_path: Path) -> None:
    tiny = data_dir("templates") / "loader" / "tiny.pt"
    models = tmp_path / "models"
    models.mkdir()
    shutil.copy(tiny, models / "a.pt")
    (models / "b.pt").write_text("nothing")
    libtorch = torchlink.find(torch_root)
    kept = tmp_path / "golden"
    report = torchlink.verify(
        models, libtorch, against="python", record=kept, jobs=2, memory_limit=8 << 30, timeout=500
    )
    assert (report.ok, report.exit_code, report.summary) == (False, 2, {"ok": 1, "failed": 1, "skipped": 0})
    good, bad = report.models
    assert isinstance(good, torchlink.ModelResult)
    assert isinstance(good.against, torchlink.Comparison)
    assert isinstance(good.against.outputs[0], torchlink.OutputComparison)
    assert (good.ok, good.against.ok, good.stage, good.signal, good.method) == (
        True,
        True,
        None,
        None,
        "forward",
    )
    assert good.against.max_abs_error is not None
    assert good.recording is not None
    assert (bad.ok, bad.stage, bad.error and bad.error.code) == (False, "read", "not-a-model")
    with pytest.raises(UsageError, match="jobs must be above 0"):
        torchlink.verify(models, libtorch, jobs=0)
    with pytest.raises(torchlink.TorchlinkError, match="no model matches this pattern"):
        torchlink.verify(str(tmp_path / "*.pt"), libtorch)


def test_every_name_of_the_api_exists() -> None:
    for name in torchlink.__all__:
        assert getattr(torchlink, name).__doc__
        assert name in dir(torchlink)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        getattr(torchlink, "nonsense".lower())


def test_classes_are_imported_only_when_asked_for() -> None:
    code = (
        "import sys, torchlink; before = set(sys.modules); torchlink.TorchlinkError; "
        "print(sorted(each for each in before if each.startswith('torchlink')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "['torchlink']"
