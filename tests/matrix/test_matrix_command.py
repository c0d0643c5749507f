"""One verification per cell: what passed, what failed, what could not be run; and a CI service's own matrix."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.fake_libtorch import fake_libtorch
from tests.libtorch.test_packed import pack
from tests.libtorch.trees import Fake, make
from torchlink.matrix.cells import CANNOT, FAILED, OK, Cell, Column, MatrixReport, Row
from torchlink.report.github import github_matrix
from torchlink.report.matrix import to_markdown, to_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result

OLD = replace(Fake(), version="2.6.0+cpu", headers="2.6.0", built="2.6.0", cmake="2.6.0", abi=0)


def make_broken(root: Path) -> Path:
    """A libtorch with whose headers nothing compiles."""
    make(root, OLD)
    header = root / "include/ATen/core/class_type.h"  # the loader's build tells older libtorchs by it
    header.parent.mkdir()
    header.write_text("#error broken\n")
    return root


@pytest.fixture
def matrix(torchlink: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`torchlink matrix` with the default compiler."""
    monkeypatch.delenv("CXX", raising=False)

    def call(*arguments: str | Path) -> Result:
        return torchlink("matrix", *arguments)

    return call


def jobs(result: Result) -> list[dict[str, Any]]:
    """The jobs of `--github`."""
    assert result.code == 0, result.err
    assert result.out.count("\n") == 1
    said = json.loads(result.out)
    assert list(said) == ["include"]
    include: list[dict[str, Any]] = said["include"]
    return include


def test_duplicate_arguments_are_run_once_and_reported(
    torch_root: Path, matrix: Callable[..., Result]
) -> None:
    done = matrix("--github", "--libtorch", torch_root, "--libtorch", torch_root)
    assert len(jobs(done)) == 1
    assert f"--libtorch {torch_root} is given 2 times; it is tried once" in done.err


@pytest.mark.compile
def test_a_real_one_a_broken_one_a_packed_one_and_none(
    torch_root: Path, tmp_path: Path, matrix: Callable[..., Result]
) -> None:
    make_broken(tmp_path / "old")
    make(tmp_path / "site/torch")
    wheel = pack(tmp_path / "site", tmp_path / "torch.whl")
    rows = [torch_root, tmp_path / "old", wheel, tmp_path / "gone"]
    words = [word for row in rows for word in ("--libtorch", str(row))]
    done = matrix(*words, "--compiler", "c++", "--compiler", "no-such-compiler", "--json")
    said = json.loads(done.out)
    assert (said["schema"], said["ok"], done.code) == (1, False, 1)
    status = {(cell["row"], cell["column"]): cell["status"] for cell in said["cells"]}
    assert [status[row, 0] for row in range(4)] == [OK, FAILED, CANNOT, CANNOT]
    assert [status[row, 1] for row in range(4)] == [CANNOT] * 4
    assert [row["path"] for row in said["rows"]] == [str(row) for row in rows]
    codes = [cell["error"]["code"] if cell["error"] else None for cell in said["cells"]]
    assert codes == [
        None,
        "tool-missing",
        "build-failed",
        "tool-missing",
        "libtorch-unusable",
        "tool-missing",
        "libtorch-unusable",
        "libtorch-unusable",
    ]
    assert said["cells"][0]["model"]["outputs"]

    page = matrix(*words)
    assert page.code == 1
    lines = page.out.splitlines()
    assert lines[0].split()[0] == "libtorch"
    cells = [re.split(r"\s{2,}", line)[1].partition(" [")[0] for line in lines[1:5]]
    assert cells == ["ok", "FAILED", "not run", "not run"]
    assert "torchlink extract" in page.out
    assert lines[-1] == "4 verifications: 1 ok, 1 failed, 2 could not be run."


@pytest.mark.compile
def test_parallel_cells_give_the_same_report(
    torch_root: Path, tmp_path: Path, matrix: Callable[..., Result]
) -> None:
    make_broken(tmp_path / "old")
    words = ["--libtorch", str(torch_root), "--libtorch", str(tmp_path / "old"), "--json"]

    def told(result: Result) -> list[tuple[object, ...]]:
        cells = json.loads(result.out)["cells"]
        return [(cell["row"], cell["column"], cell["status"]) for cell in cells]

    assert told(matrix(*words, "--jobs", "2")) == told(matrix(*words)) == [(0, 0, OK), (1, 0, FAILED)]


@pytest.mark.compile
def test_success_is_exit_zero_and_a_wrong_input_is_exit_one(
    torch_root: Path, matrix: Callable[..., Result]
) -> None:
    text = matrix("--libtorch", torch_root)
    assert text.code == 0
    assert text.err.startswith("torchlink: 1 of 1: libtorch ")  # a line for each verification when it is done
    done = matrix("--libtorch", torch_root, "--input", "float32[7]")
    assert done.code == 1
    assert "FAILED [1]" in done.out


def test_a_file_that_is_not_a_model_is_reported_before_anything_is_built(
    tmp_path: Path, matrix: Callable[..., Result]
) -> None:
    (tmp_path / "model.pt").write_bytes(b"")
    done = matrix(tmp_path / "model.pt", "--libtorch", tmp_path)
    assert done.code == 2
    assert "empty" in done.err


@pytest.mark.parametrize(
    "words", [["--via", "make"], ["--jobs", "0"], ["--json", "--github"], ["--device", "tpu"]]
)
def test_invalid_arguments_are_exit_two(
    words: list[str], torch_root: Path, matrix: Callable[..., Result]
) -> None:
    done = matrix("--libtorch", torch_root, *words)
    assert done.code == 2
    assert done.out == "" or "error" in json.loads(done.out)


@pytest.mark.compile
def test_the_matrix_for_github_lists_every_pair_and_runs_nothing(
    tmp_path: Path, matrix: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "TORCHLINK_CACHE_DIR", str(tmp_path / "cache")
    )  # the shared one is written to meanwhile
    make(tmp_path / "a b", OLD)
    make(tmp_path / "new")
    include = jobs(
        matrix(
            "model.pt",
            "--github",
            *("--libtorch", tmp_path / "a b", "--libtorch", tmp_path / "new"),
            *("--compiler", "g++-99", "--via", "cxx", "--via", "cmake"),
        )
    )
    assert [(job["version"], job["cxx"], job["via"]) for job in include] == [
        ("2.6.0+cpu", "g++-99", "cxx"),
        ("2.6.0+cpu", "g++-99", "cmake"),
        ("2.13.0+cpu", "g++-99", "cxx"),
        ("2.13.0+cpu", "g++-99", "cmake"),
    ]
    assert len({job["name"] for job in include}) == 4
    assert (include[0]["torch"], include[0]["cxx11_abi"]) == ("2.6.0", 0)
    assert shlex.split(include[0]["run"]) == [
        *("torchlink", "verify", "model.pt", "--libtorch", str(tmp_path / "a b")),
        *("--compiler", "g++-99", "--via", "cxx"),
    ]
    assert not list(tmp_path.glob("cache/loaders/*"))


@pytest.mark.compile
def test_without_libtorch_every_usable_one_is_a_row(
    tmp_path: Path, matrix: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "old", OLD)
    make(tmp_path / "new")
    monkeypatch.setenv("TORCHLINK_LIBTORCH", str(tmp_path / "old"))
    monkeypatch.setenv("LIBTORCH", str(tmp_path / "new"))
    monkeypatch.setenv("TORCH_INSTALL_PREFIX", str(tmp_path / "nothing"))
    versions = [job["version"] for job in jobs(matrix("--github"))]
    assert versions[:2] == ["2.6.0+cpu", "2.13.0+cpu"]
    assert "unknown" not in versions


@pytest.mark.compile
def test_a_wheel_is_unpacked_by_its_job(tmp_path: Path, matrix: Callable[..., Result]) -> None:
    make(tmp_path / "site/torch")
    wheel = pack(tmp_path / "site", tmp_path / "a wheel.whl")
    (job,) = jobs(matrix("--github", "--libtorch", wheel))
    assert job["libtorch"] == str(wheel)
    extract, _, verify = job["run"].partition(" && ")
    assert shlex.split(extract)[:3] == ["torchlink", "extract", str(wheel)]
    assert shlex.split(verify) == [
        *("torchlink", "verify", "--libtorch", shlex.split(extract)[3]),
        *("--via", "cxx"),
    ]
    assert matrix("--github", "--libtorch", tmp_path / "gone").code == 2


@pytest.mark.compile
def test_jobs_that_could_only_fail_are_left_out(tmp_path: Path, matrix: Callable[..., Result]) -> None:
    make(tmp_path / "new")
    make(tmp_path / "site/torch", replace(OLD, libraries=("torch_cpu", "torch", "torch_cuda", "c10_cuda")))
    wheel = pack(tmp_path / "site", tmp_path / "cuda.whl")
    done = matrix("--github", "--libtorch", tmp_path / "new", "--libtorch", wheel)
    assert [job["libtorch"] for job in jobs(done)] == [str(tmp_path / "new")]
    assert f"{wheel} is left out: it is not extracted, and needs libraries of other wheels" in done.err
    alone = matrix("--github", "--libtorch", wheel)
    assert (alone.code, alone.out) == (2, "")
    assert "No job is left." in alone.err


@pytest.mark.parametrize(
    ("platform", "arch", "runner"),
    [
        ("linux", "x86_64", "ubuntu-24.04"),
        ("linux", "aarch64", "ubuntu-24.04-arm"),
        ("macos", "arm64", "macos-14"),
        ("macos", "x86_64", "macos-15-intel"),
        ("windows", "x86_64", None),
        ("linux", "s390x", None),
    ],
)
def test_a_job_has_the_runner_of_its_platform(
    platform: str, arch: str, runner: str | None, tmp_path: Path
) -> None:
    libtorch = fake_libtorch(tmp_path / "torch", (), platform=platform, arch=arch)
    found = github_matrix([Row("x", libtorch, None)], [Column(None, "cxx", "c++")], None)
    assert [job["runner"] for job in found.jobs] == ([runner] if runner else [])
    assert len(found.left_out) == (0 if runner else 1)


@pytest.mark.compile
def test_jobs_verify_what_was_requested(tmp_path: Path, matrix: Callable[..., Result]) -> None:
    make(tmp_path / "new")
    words = ("--input", "float32[1, 3]", "--atol", "0.5", "--device", "cuda", "--cpu")
    done = matrix("m.pt", "--github", "--libtorch", tmp_path / "new", *words)
    (job,) = jobs(done)
    assert shlex.split(job["run"])[2:10] == ["m.pt", *words]
    assert "no GPU" in done.err


def report(*statuses: str) -> MatrixReport:
    """A report with a row for each status."""
    from torchlink.errors import BuildFailedError, LibtorchUnusableError

    errors = {
        OK: None,
        FAILED: BuildFailedError("a | b", hint="Do this.", details=("c++ x",)),
        CANNOT: LibtorchUnusableError("gone"),
    }
    column = Column("c++", "cmake", "c++ 12")
    rows = tuple(Row(f"/{status}|{number}", None, None) for number, status in enumerate(statuses))
    cells = tuple(
        Cell(row, column, errors[status], None, 1.0) for row, status in zip(rows, statuses, strict=True)
    )
    return MatrixReport(None, "cpu", rows, (column,), cells)


def test_the_exit_code_is_that_of_the_worst_cell() -> None:
    assert [report(*statuses).exit_code for statuses in ((OK,), (OK, CANNOT), (CANNOT, FAILED, OK))] == [
        0,
        2,
        1,
    ]


def test_the_table_as_text_and_as_markdown() -> None:
    assert to_text(report(OK, FAILED)).splitlines() == [
        "libtorch   c++ 12 by CMake   in",
        "unknown    ok                /ok|0",
        "unknown    FAILED [1]        /failed|1",
        "",
        "[1] a | b",
        "    c++ x",
        "    -> Do this.",
        "",
        "2 verifications: 1 ok, 1 failed.",
    ]
    assert to_markdown(report(FAILED)).splitlines()[:3] == [
        "| libtorch | c++ 12 by CMake | in |",
        "| --- | --- | --- |",
        r"| unknown | FAILED [1] | `/failed\|0` |",
    ]


def test_the_timeout_is_passed_to_verify(matrix: Callable[..., Result], tmp_path: Path) -> None:
    make(tmp_path / "new")
    (job,) = jobs(matrix("--github", "--libtorch", tmp_path / "new", "--timeout", "60", "--rtol", "0.5"))
    assert shlex.split(job["run"])[:6] == ["torchlink", "verify", "--rtol", "0.5", "--timeout", "60"]
    refused = matrix("--libtorch", tmp_path / "new", "--timeout", "-1")
    assert refused.code == 2
    assert "--timeout -1" in refused.err
