"""A loader is rebuilt as soon as any header that its compiler read has changed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from torchlink import inspect
from torchlink.compilation import cache, recipe
from torchlink.compilation.recipe import TELLING_HEADERS, source_dir
from torchlink.verify.options import VerifyOptions
from torchlink.verify.verification import verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result

NAMES = ("plain.h", "a b.h", "do$$llar.h", "ha#sh.h", "ü.h")


@pytest.mark.compile
@pytest.mark.parametrize("compiler", ["g++", "clang++"])
def test_the_names_in_a_compiler_s_dependency_file_are_read_back(tmp_path: Path, compiler: str) -> None:
    program = shutil.which(compiler)
    if program is None:
        pytest.skip(f"{compiler} is missing")
    place = tmp_path / "in clude"
    place.mkdir()
    for name in NAMES:
        (place / name).touch()
    source = tmp_path / "source.cpp"
    source.write_text("".join(f'#include "{name}"\n' for name in NAMES))
    work = tmp_path / "work"
    work.mkdir()
    command = [program, "-MD", "-MF", "x.d", "-c", str(source), "-o", "x.o", "-isystem", str(place)]
    subprocess.run(command, cwd=work, check=True)
    read = recipe.read_in(work, tmp_path / "elsewhere", {})
    assert {str(place / name) for name in NAMES} <= set(read)
    assert str(source) in read
    assert recipe.read_in(work, tmp_path, {}) == [path for path in read if not path.startswith(str(tmp_path))]


def test_phony_rules_and_continued_lines_are_understood() -> None:
    assert recipe.prerequisites("a.o: b.cpp \\\r\n  c\\ d.h\\\n e.h\n\nb.h:\n") == ["b.cpp", "c d.h", "e.h"]
    assert recipe.prerequisites("") == []
    assert recipe.prerequisites("no rule") == []


def test_a_name_through_a_link_is_one_below_its_target(tmp_path: Path) -> None:
    (tmp_path / "x.d").write_text("x.o: source/x.cpp include-0/a/b.h include-0/../c.h /usr/d.h other/e.h\n")
    read = recipe.read_in(
        tmp_path, tmp_path / "src", {"source": f"{tmp_path}/src", "include-0": "/opt/include"}
    )
    assert read == ["/opt/c.h", "/opt/include/a/b.h", "/usr/d.h"]


def test_a_stamp_changes_with_size_time_and_presence(tmp_path: Path) -> None:
    file = tmp_path / "x.h"
    seen = {recipe.stamp([str(file)])}
    file.write_text("a")
    os.utime(file, (1, 1))
    seen.add(recipe.stamp([str(file)]))
    os.utime(file, (2, 2))
    seen.add(recipe.stamp([str(file)]))
    file.write_text("ab")
    os.utime(file, (2, 2))
    seen.add(recipe.stamp([str(file)]))
    assert len(seen) == 4


def test_a_header_changed_during_the_build_is_never_up_to_date(tmp_path: Path) -> None:
    file = tmp_path / "x.h"
    begun = time.time_ns()
    file.touch()
    os.utime(file, ns=(begun, begun))
    assert recipe.stamp([str(file)], since=begun) != recipe.stamp([str(file)])
    assert recipe.stamp([str(file)], since=begun + 1) == recipe.stamp([str(file)])
    future = begun + 10**12  # another machine's clock
    os.utime(file, ns=(future, future))
    assert recipe.stamp([str(file)], since=begun) == recipe.stamp([str(file)])


@pytest.mark.parametrize("lost", [False, True])
def test_an_entry_whose_header_changed_is_not_found_and_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, lost: bool
) -> None:
    monkeypatch.setenv("TORCHLINK_CACHE_DIR", str(tmp_path / "cache"))
    header = tmp_path / "x.h"
    header.touch()
    entry = publish("k", header)
    assert cache.find("k") is not None
    if lost:
        entry.program.with_name(recipe.LIST).unlink()
    else:
        header.write_text("changed")
    assert cache.find("k") is None
    publish("k", header)
    assert cache.find("k") is not None


def publish(key: str, header: Path) -> cache.CachedProgram:
    """An entry whose program was made of one header."""
    with cache.workspace() as work:
        (work / "entry").mkdir()
        program = work / "entry" / "loader"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        (work / "entry" / recipe.LIST).write_text(str(header))
        return cache.publish(key, work / "entry", "loader", {"headers": recipe.stamp([str(header)])})


@pytest.mark.compile
@pytest.mark.parametrize(
    "via", ["cxx", pytest.param("cmake", marks=pytest.mark.cmake), pytest.param("nim", marks=pytest.mark.nim)]
)
def test_every_way_of_building_keeps_the_headers_of_libtorch_that_it_read(torch_root: Path, via: str) -> None:
    report = verify((), inspect(torch_root), VerifyOptions(via=via))
    assert report.loader is not None
    names = report.loader.path.with_name(recipe.LIST).read_text(encoding="utf-8").split("\n")
    assert sum(name.startswith(str(torch_root)) for name in names) > 300
    assert not [name for name in names if name.startswith(str(source_dir()))]


@pytest.mark.compile
def test_a_c_compiler_that_does_not_link_the_cxx_library_is_reported(
    torchlink: Callable[..., Result], torch_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "gcc")
    result = torchlink("verify", "--libtorch", torch_root)
    assert result.code == 1
    assert re.search(r"Use \S*g\+\+: \S*gcc does not link the C\+\+ library", result.err)


@pytest.mark.compile
def test_a_loader_is_rebuilt_when_a_header_outside_the_key_was_edited(
    torchlink: Callable[..., Result], torch_root: Path, tmp_path: Path
) -> None:
    libtorch = tmp_path / "libtorch"
    (libtorch / "include").mkdir(parents=True)
    for part in ("lib", "version.py"):
        (libtorch / part).symlink_to(torch_root / part)
    for entry in (torch_root / "include").iterdir():
        (libtorch / "include" / entry.name).symlink_to(entry)
    edited = "c10/util/Exception.h"
    assert edited not in TELLING_HEADERS
    copy = libtorch / "include" / "c10"
    copy.unlink()
    shutil.copytree(torch_root / "include" / "c10", copy)
    cached = []
    for change in (None, None, "\n// edited\n"):
        if change:
            with (libtorch / "include" / edited).open("a") as header:
                header.write(change)
        result = torchlink("verify", "--libtorch", libtorch, "--json")
        assert result.code == 0, result
        cached.append(json.loads(result.out)["loader"]["cached"])
    assert cached == [False, True, False]
