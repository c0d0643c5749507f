"""The order of the search: the first usable libtorch is chosen, rejected ones keep their reason."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.libtorch.trees import Fake, make, make_site, make_venv, write_libraries
from torchlink.errors import LibtorchNotFoundError, LibtorchUnusableError, UsageError
from torchlink.libtorch.choose import choose, search

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.compile


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is active, no python is on PATH, and the working directory is empty."""
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "OPAM_SWITCH_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "no-bin"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def without_own_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python that runs the tests has no torch."""
    import sys

    entries = [entry for entry in sys.path if not Path(entry, "torch", "lib").is_dir()]
    monkeypatch.setattr("sys.path", entries)


def variable(name: str, below: str = "") -> Callable[[Path, pytest.MonkeyPatch], Path]:
    """A libtorch that an environment variable names."""

    def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        root = make(tmp_path / f"by {name}")
        monkeypatch.setenv(name, str(root / below))
        return root

    return place


def virtual_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_venv(tmp_path / "venv")
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / "venv"))
    return make_site(tmp_path / "venv")


def conda_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "conda/conda-meta").mkdir(parents=True)
    monkeypatch.setenv("CONDA_PREFIX", str(tmp_path / "conda"))
    return make_site(tmp_path / "conda", python="python3.12")


def vendored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make(tmp_path / "work/third_party/libtorch", replace(Fake(), version=None))


def python_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_venv(tmp_path / "other")
    monkeypatch.setenv("PATH", str(tmp_path / "other/bin"))
    return make_site(tmp_path / "other")


def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make(tmp_path / "home/libtorch")


ORDER: list[tuple[str, Callable[[Path, pytest.MonkeyPatch], Path]]] = [
    ("TORCHLINK_LIBTORCH", variable("TORCHLINK_LIBTORCH")),
    ("LIBTORCH", variable("LIBTORCH")),
    ("TORCH_INSTALL_PREFIX", variable("TORCH_INSTALL_PREFIX")),
    ("Torch_DIR", variable("Torch_DIR", "share/cmake/Torch")),
    ("CMAKE_PREFIX_PATH", variable("CMAKE_PREFIX_PATH")),
    ("active virtual environment", virtual_environment),
    ("active conda environment", conda_environment),
    ("./third_party/libtorch", vendored),
    ("python3 on PATH", python_on_path),
    ("system", home),
]


@pytest.mark.usefixtures("without_own_torch")
def test_every_place_is_found_and_the_order_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roots = {}
    for found_by, place in reversed(ORDER):
        roots[found_by] = place(tmp_path, monkeypatch)
        found = choose()
        assert (found.found_by, found.root) == (found_by, roots[found_by])
    everything = search(everything=True)
    usable = [candidate for candidate in everything.candidates if candidate.libtorch]
    assert [(each.found_by, each.path) for each in usable] == [(name, roots[name]) for name, _ in ORDER]
    assert everything.chosen is usable[0].libtorch


def test_the_python_that_runs_torchlink_is_looked_at(torch_root: Path) -> None:
    assert (choose().found_by, choose().root) == ("the Python that runs torchlink", torch_root)


@pytest.mark.usefixtures("without_own_torch")
def test_nothing_found_says_where_torchlink_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIBTORCH", str(tmp_path / "gone"))
    monkeypatch.setattr("torchlink.libtorch.places.SYSTEM", ())
    with pytest.raises(LibtorchNotFoundError) as caught:
        choose()
    said = "\n".join(caught.value.details)
    assert f"LIBTORCH: {tmp_path / 'gone'}: no such file or directory" in said
    assert "vendor/libtorch" in said
    assert "CMAKE_PREFIX_PATH" in said


def test_a_broken_variable_of_other_tools_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIBTORCH", str(tmp_path / "gone"))
    good = virtual_environment(tmp_path, monkeypatch)
    found = search()
    assert found.chosen is not None
    assert found.chosen.root == good
    assert [candidate.rejected for candidate in found.candidates] == ["no such file or directory", None]


@pytest.mark.parametrize("how", ["--libtorch", "TORCHLINK_LIBTORCH"])
def test_a_broken_one_that_was_named_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    virtual_environment(tmp_path, monkeypatch)
    if how == "TORCHLINK_LIBTORCH":
        monkeypatch.setenv(how, str(tmp_path / "gone"))
    with pytest.raises(LibtorchUnusableError, match=f"gone \\({how}\\).*no such file"):
        choose(libtorch=tmp_path / "gone" if how == "--libtorch" else None)


def test_one_that_is_reached_twice_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = virtual_environment(tmp_path, monkeypatch)
    (tmp_path / "work/libtorch").symlink_to(root)
    monkeypatch.setenv("LIBTORCH", str(root / "lib"))
    candidates = search(everything=True).candidates
    assert [each.found_by for each in candidates if each.path == root] == ["LIBTORCH"]
    assert "./libtorch" not in [each.found_by for each in candidates]


def test_a_libtorch_for_another_machine_is_refused_unless_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make(tmp_path / "aarch64")
    for library in (root / "lib").iterdir():
        content = bytearray(library.read_bytes())
        content[18:20] = (183).to_bytes(2, "little")  # e_machine: aarch64
        library.write_bytes(content)
    monkeypatch.setenv("LIBTORCH", str(root))
    candidate = search().candidates[0]
    assert candidate.rejected is not None
    assert candidate.rejected.startswith("built for aarch64 Linux, and this is ")
    assert choose(libtorch=root).arch == "aarch64"


@pytest.mark.parametrize("named", ["copy", "copy/lib"])
def test_libraries_without_headers_are_read_where_they_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    write_libraries(tmp_path / "copy/lib", Fake(built="2.13.0", abi=0))
    found = choose(libtorch=tmp_path / named)
    assert (found.root, found.library_dir) == (tmp_path / "copy", tmp_path / "copy/lib")
    assert (found.version, found.cxx11_abi, found.accelerator) == ("2.13.0", 0, "cpu")
    assert (found.include_dirs, found.search_path) == ((), ("$ORIGIN",))
    assert (found.cxx_standard_required, found.cxx_standard) == (17, 20)
    assert "2.13.0" in found.cxx_standard_from
    assert found.conflicts == (
        "no headers: include/ATen is missing, so programs can be linked but not compiled",
    )
    monkeypatch.setenv("LIBTORCH", str(tmp_path / named))
    (unnamed,) = [one for one in search(everything=True).candidates if one.path == tmp_path / named]
    assert unnamed.rejected == "no headers: include/ATen is missing"


def test_several_named_ones_are_all_examined(tmp_path: Path) -> None:
    one, two = make(tmp_path / "one"), make(tmp_path / "two", replace(Fake(), abi=0))
    found = search((one, tmp_path / "gone", two), everything=True)
    assert [candidate.path for candidate in found.candidates] == [one, tmp_path / "gone", two]
    assert [candidate.libtorch is None for candidate in found.candidates] == [False, True, False]


def test_naming_a_libtorch_and_an_interpreter_is_refused(tmp_path: Path) -> None:
    root = make(tmp_path / "one")
    site = make_venv(tmp_path / "venv")
    make(site / "torch")
    with pytest.raises(UsageError, match="and only one can be used"):
        choose(root, str(tmp_path / "venv"))
    both = search((root,), str(tmp_path / "venv"), everything=True)
    assert [candidate.path for candidate in both.candidates] == [root, site / "torch"]


def test_nothing_is_imported_or_started_for_a_plain_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    virtual_environment(tmp_path, monkeypatch)
    (tmp_path / "venv/lib/python3.11/site-packages/torch/__init__.py").write_text(
        "raise SystemExit('imported')\n"
    )
    (tmp_path / "venv/bin/python3").unlink()
    (tmp_path / "venv/bin/python3").write_text(f"#!/bin/sh\ntouch {json.dumps(str(tmp_path / 'started'))}\n")
    (tmp_path / "venv/bin/python3").chmod(0o755)
    assert choose().found_by == "active virtual environment"
    assert not (tmp_path / "started").exists()
