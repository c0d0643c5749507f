"""A program with a real libtorch, bundled, moved, and run with an empty environment."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.bundle.conftest import GLIBC, loaded
from tests.conftest import run_clean, unmet
from torchlink.bundle.making import bundle
from torchlink.compilation.loader import build_loader
from torchlink.libtorch.inspect import inspect
from torchlink.lint.finding import Severity
from torchlink.paths import data_dir
from torchlink.plan import make_plan
from torchlink.process import which
from torchlink.toolchain.compiler import find_compiler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlink.bundle.contents import BundleReport

pytestmark = pytest.mark.compile
TINY = data_dir("templates") / "loader" / "tiny.pt"


@pytest.fixture(scope="module")
def bundled(
    torch_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[BundleReport, Path]]:
    """The reference loader, built with torchlink's flags, as a bundle that was moved; and where it is."""
    if which("patchelf") is None:
        unmet("patchelf")
    plan = make_plan(inspect(torch_root, found_by="test"), compiler=find_compiler())
    program = build_loader(plan, find_compiler()).path
    directory = tmp_path_factory.mktemp("bundle")
    report = bundle(program, directory / "out")
    place = (directory / "out").rename(directory / "moved away")
    yield report, place / program.name
    shutil.rmtree(directory)  # half a gigabyte


def test_it_runs_and_loads_nothing_from_elsewhere(
    bundled: tuple[BundleReport, Path], torch_root: Path
) -> None:
    _, program = bundled
    done = run_clean(program, TINY, "tensor", "float32", "1x4", "ones", cwd=Path("/"))
    assert done.returncode == 0, done.stderr
    objects = loaded(program).objects
    assert str(program.parent / "lib/libtorch_cpu.so") in objects
    assert not [path for path in objects if path.startswith(str(torch_root))]
    elsewhere = {Path(path).name for path in objects if not path.startswith(f"{program.parent}/")}
    assert all(name.startswith(GLIBC) for name in elsewhere), elsewhere


def test_torchs_own_libraries_are_unchanged(bundled: tuple[BundleReport, Path], torch_root: Path) -> None:
    report, program = bundled
    assert [part.path for part in report.plan.patched] == [program.name]
    for name in ("libc10.so", "libtorch_cpu.so"):
        (part,) = (part for part in report.plan.libraries if part.soname == name)
        assert part.owner
        assert part.owner.name == "torch"
        written = report.written[part.path]
        assert written.sha256 == written.source_sha256
        assert (program.parent / part.path).stat().st_size == (torch_root / "lib" / name).stat().st_size


def test_torchs_licences_are_included(bundled: tuple[BundleReport, Path]) -> None:
    report, program = bundled
    assert (program.parent / "licenses/torch/LICENSE").is_file()
    assert len(report.licences["torch"]) > 1


def test_lint_finds_nothing_in_any_file_of_the_bundle(bundled: tuple[BundleReport, Path]) -> None:
    report, program = bundled
    assert report.lint
    assert len(report.lint.files) == len(report.plan.parts)
    own, *_ = (file for file in report.lint.files if file.path == str(report.directory / program.name))
    assert [finding.rule for finding in own.findings] == []
    assert report.lint.count(Severity.ERROR) == 0
