"""`torchlink cache warm`: the loaders are built, and are found again, also where a container image brings them."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.libtorch.trees import make

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result

pytestmark = pytest.mark.compile

# Real for torchlink's questions. Its loader is a copy of `true`, and it lists one header of libtorch's.
COMPILER = """#!/bin/sh
case "$*" in
  *loader.cpp*)
    echo built >> "$COUNT"
    echo "loader: $HEADER" > loader.d
    exec cp /bin/true loader;;
esac
exec c++ "$@"
"""


@pytest.fixture
def warm(
    tmp_path: Path, torchlink: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """`cache warm` with that compiler, for a small libtorch of the test's own."""
    root = make(tmp_path / "site/torch")
    header = root / "include" / "extra.h"
    header.touch()
    os.utime(header, ns=(10**18 + 123456789, 10**18 + 123456789))
    compiler = tmp_path / "fake-c++"
    compiler.write_text(COMPILER)
    compiler.chmod(0o755)
    for name, value in (("CACHE_DIR", tmp_path / "cache"), ("LAUNCHER", "none")):
        monkeypatch.setenv(f"TORCHLINK_{name}", str(value))
    monkeypatch.setenv("COUNT", str(tmp_path / "count"))
    monkeypatch.setenv("HEADER", str(header))
    return lambda *words: torchlink("cache", "warm", "--libtorch", root, "--compiler", compiler, *words)


def count(tmp_path: Path) -> int:
    return len((tmp_path / "count").read_text(encoding="utf-8").split())


def test_a_second_call_compiles_nothing_and_both_say_what_is_there(
    warm: Callable[..., Result], tmp_path: Path
) -> None:
    first, second = warm(), warm()
    (loader,) = (tmp_path / "cache/loaders").glob("*/loader")
    assert first.out.startswith(f"torchscript: {loader} (built in ")
    assert second.out == f"torchscript: {loader} (already built)\n"
    assert (first.code, second.code, count(tmp_path)) == (0, 0, 1)
    loaders = json.loads(warm("--json").out)["loaders"]
    assert [(each["program"], each["path"], each["cached"]) for each in loaders] == [
        ("torchscript", str(loader), True)
    ]


def test_the_loader_for_compiled_models_is_built_too_where_libtorch_has_it(
    warm: Callable[..., Result], tmp_path: Path
) -> None:
    refused = warm("--aoti")
    assert refused.code == 2
    assert "has no loader for AOTInductor packages" in refused.err
    package = tmp_path / "site/torch/include/torch/csrc/inductor/aoti_package/model_package_loader.h"
    package.parent.mkdir(parents=True)
    package.touch()
    assert warm("--aoti").out.count("(built in ") == 2
    assert count(tmp_path) == 2


def test_what_an_image_keeps_is_enough_to_find_a_loader(warm: Callable[..., Result], tmp_path: Path) -> None:
    """A layer is an archive: whoever unpacks it makes new files, with times in whole seconds."""
    warm()
    for file in [each for each in tmp_path.rglob("*") if each.is_file() and not each.is_symlink()]:
        status = file.stat()
        shutil.copy(file, tmp_path / "copy")
        os.utime(tmp_path / "copy", (int(status.st_atime), int(status.st_mtime)))
        (tmp_path / "copy").replace(file)
    assert "(already built)" in warm().out
    assert count(tmp_path) == 1
    header = tmp_path / "site/torch/include/extra.h"
    os.utime(header, (10**9 + 1, 10**9 + 1))
    assert "(built in " in warm().out


def test_a_cache_that_is_not_used_is_an_error(warm: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    done = warm()
    assert done.code == 2
    assert "Nothing is kept" in done.err
