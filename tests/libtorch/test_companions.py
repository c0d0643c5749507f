"""Companion directories are found wherever they were moved, with whether libtorch itself reaches them."""

from __future__ import annotations

import platform
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.libtorch.trees import Fake, Library, build, make, make_site, make_venv
from torchlink.libtorch.inspect import inspect
from torchlink.plan import make_plan

if TYPE_CHECKING:
    from torchlink.libtorch.facts import Libtorch

pytestmark = pytest.mark.compile
# Names that are in no CUDA toolkit on the machine.
NVIDIA = "$ORIGIN/../../nvidia/cuda_cupti/lib:$ORIGIN/../../nvidia/cudnn/lib:$ORIGIN"
CUDA = replace(
    Fake(),
    version="2.13.0+cu124",
    cuda="12.4",
    libraries=("torch_cpu", "torch", "torch_cuda"),
    search_path=NVIDIA,
    new_dtags=False,
    needed=(
        ("torch_cpu", ("libcupti_x.so.12", "libc.so.6")),
        ("torch_cuda", ("libcudnn_x.so.9", "libcuda.so.1")),
    ),
)


@pytest.fixture(autouse=True)
def nothing_active(monkeypatch: pytest.MonkeyPatch) -> None:
    """No environment of whoever runs the tests helps out with its own nvidia packages."""
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.path", [entry for entry in sys.path if not Path(entry, "nvidia").is_dir()])


def nvidia(site: Path) -> None:
    """The nvidia packages that CUDA needs, in a site-packages directory."""
    for part, library in (("cuda_cupti", "libcupti_x.so.12"), ("cudnn", "libcudnn_x.so.9")):
        (site / "nvidia" / part / "lib").mkdir(parents=True)
        (site / "nvidia" / part / "lib" / library).touch()


def companions(found: Libtorch) -> dict[str, bool]:
    """Directory → whether libtorch's own search path leads there."""
    return {str(companion.path): companion.in_place for companion in found.companion_dirs}


@pytest.mark.parametrize("linked", ["site-packages", "to site-packages", "torch"])
def test_packages_of_the_other_library_directory_are_found_behind_links(tmp_path: Path, linked: str) -> None:
    prefix = tmp_path / "env"
    make_venv(prefix)
    platlib = prefix / "lib64/python3.11/site-packages"
    nvidia(prefix / "lib/python3.11/site-packages")
    if linked == "site-packages":  # the environment's own is a link to elsewhere
        make(tmp_path / "disk/packages/torch", CUDA)
        platlib.parent.mkdir(parents=True)
        platlib.symlink_to(tmp_path / "disk/packages")
        root = platlib / "torch"
    else:
        make(platlib / "torch", CUDA)
        where = tmp_path / "links/site-packages"
        link = where if linked == "to site-packages" else where / "torch"
        link.parent.mkdir(parents=True)
        link.symlink_to(platlib if link is where else platlib / "torch")
        root = where / "torch"
    found = inspect(root, "test")
    assert found.missing_libraries == ()
    assert found.python == prefix / "bin/python3"
    assert set(companions(found)) == {
        str(prefix / f"lib/python3.11/site-packages/nvidia/{part}/lib") for part in ("cuda_cupti", "cudnn")
    }


def test_a_directory_outside_an_environment_has_no_interpreter(tmp_path: Path) -> None:
    # In `/opt/x/site-packages` the way up, as from `lib/python3.11/site-packages`, would lead to /bin/python3.
    site = tmp_path / "opt/x/site-packages"
    make(site / "torch", CUDA)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python3").symlink_to(sys.executable)
    assert inspect(site / "torch", "test").python is None


def test_packages_in_their_place_are_reached(tmp_path: Path) -> None:
    root = make_site(tmp_path, CUDA)
    nvidia(root.parent)
    found = inspect(root, "path")
    assert companions(found) == {
        str(root.parent / "nvidia/cuda_cupti/lib"): True,
        str(root.parent / "nvidia/cudnn/lib"): True,
    }
    assert found.layout_intact
    assert found.missing_libraries == ()
    assert (found.search_kind, found.search_path) == ("rpath", tuple(NVIDIA.split(":")))


def test_missing_packages_are_named(tmp_path: Path) -> None:
    found = inspect(make_site(tmp_path, CUDA), "path")
    assert [(each.name, each.needed_by, each.package) for each in found.missing_libraries] == [
        ("libcupti_x.so.12", "libtorch_cpu.so", "nvidia-cuda-cupti-cu12"),
        ("libcudnn_x.so.9", "libtorch_cuda.so", "nvidia-cudnn-cu12"),
    ]
    assert found.companion_dirs == ()


def test_the_driver_is_never_missing(tmp_path: Path) -> None:
    found = inspect(make_site(tmp_path, CUDA), "path")
    assert "libcuda.so.1" not in [each.name for each in found.missing_libraries]


def test_a_copied_lib_finds_its_companions_in_the_active_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_site(tmp_path / "venv", CUDA)
    make_venv(tmp_path / "venv")
    nvidia(root.parent)
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / "venv"))
    shutil.copytree(root / "lib", tmp_path / "copy/lib")
    shutil.copytree(root / "include", tmp_path / "copy/include")
    found = inspect(tmp_path / "copy", "path")
    assert companions(found) == {
        str(root.parent / "nvidia/cuda_cupti/lib"): False,
        str(root.parent / "nvidia/cudnn/lib"): False,
    }
    assert not found.layout_intact
    assert found.missing_libraries == ()


def test_packages_in_a_directory_that_a_path_file_adds(tmp_path: Path) -> None:
    root = make_site(tmp_path / "venv", CUDA)
    nvidia(tmp_path / "shared")
    (root.parent / "shared.pth").write_text("import sys\n# a comment\n../../../../shared\n/no/such/place\n")
    found = inspect(root, "path")
    assert found.missing_libraries == ()
    assert companions(found) == {
        str(tmp_path / "shared/nvidia/cuda_cupti/lib"): False,
        str(tmp_path / "shared/nvidia/cudnn/lib"): False,
    }


def test_purelib_and_platlib_apart(tmp_path: Path) -> None:
    root = make(tmp_path / "lib64/python3.11/site-packages/torch", CUDA)
    nvidia(tmp_path / "lib/python3.11/site-packages")
    found = inspect(root, "path")
    assert set(companions(found).values()) == {False}
    assert all("/lib/python3.11/" in directory for directory in companions(found))


def test_site_packages_behind_a_link(tmp_path: Path) -> None:
    root = make_site(tmp_path / "real", CUDA)
    nvidia(root.parent)
    (tmp_path / "linked").symlink_to(root.parent)
    (tmp_path / "libtorch").symlink_to(root)
    for path in (tmp_path / "linked/torch", tmp_path / "libtorch"):
        found = inspect(path, "path")
        assert found.root == path
        assert found.layout_intact
        assert found.missing_libraries == ()
        assert len(found.companion_dirs) == 2
        assert all(companion.path.is_dir() for companion in found.companion_dirs)


def test_libraries_that_auditwheel_added_count_as_libtorchs(tmp_path: Path) -> None:
    fake = replace(
        Fake(),
        search_path="$ORIGIN:$ORIGIN/../../torch.libs",
        new_dtags=False,
        needed=(("torch_cpu", ("libopenblasp-r0-bbd0e64a.3.28.so",)),),
    )
    root = make_site(tmp_path, fake)
    (root.parent / "torch.libs").mkdir()
    (root.parent / "torch.libs/libopenblasp-r0-bbd0e64a.3.28.so").touch()
    found = inspect(root, "path")
    assert "libopenblasp-r0-bbd0e64a.3.28.so" in found.libraries
    assert companions(found) == {str(root.parent / "torch.libs"): True}


@pytest.mark.parametrize(("search_path", "tangled"), [("", True), ("$ORIGIN/gone", True), ("$ORIGIN", False)])
def test_companions_that_only_the_loader_can_find_are_marked(
    tmp_path: Path, search_path: str, tangled: bool
) -> None:
    fake = replace(
        Fake(),
        search_path="$ORIGIN:$ORIGIN/../../torch.libs",
        new_dtags=False,
        needed=(("torch_cpu", ("libopenblas-1.so.0", "libgomp-2.so.1")),),
    )
    root = make_site(tmp_path, fake)
    openblas = Library(needed=("libgomp-2.so.1", "libgfortran-3.so.5"), search_path=search_path)
    build(root.parent / "torch.libs/libopenblas-1.so.0", openblas)
    build(root.parent / "torch.libs/libgomp-2.so.1", Library())
    (root.parent / "torch.libs/libgfortran-3.so.5").touch()
    (companion,) = inspect(root, "path").companion_dirs
    assert companion.in_place
    assert companion.tangled is tangled


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the system's libraries are x86_64's")
def test_a_library_of_the_system_is_not_missing(tmp_path: Path) -> None:
    fake = replace(Fake(), needed=(("torch_cpu", ("libz.so.1", "libnowhere.so.1")),))
    found = inspect(make(tmp_path, fake), "path")
    assert [each.name for each in found.missing_libraries] == ["libnowhere.so.1"]


def test_paths_with_spaces_and_letters(tmp_path: Path) -> None:
    root = make_site(tmp_path / "my vénv $x", CUDA)
    nvidia(root.parent)
    found = inspect(tmp_path / "my vénv $x", "path")
    assert found.root == root
    assert found.layout_intact


def test_a_read_only_tree(tmp_path: Path) -> None:
    root = make_site(tmp_path, CUDA)
    for directory in (root / "lib", root):
        directory.chmod(0o555)
    try:
        assert inspect(root, "path").version == "2.13.0+cu124"
    finally:
        for directory in (root, root / "lib"):
            directory.chmod(0o755)


def test_a_tree_without_search_paths_needs_a_path_to_its_own_libraries(tmp_path: Path) -> None:
    fake = replace(
        Fake(), search_path="", needed=(("torch_cpu", ("libc10.so", "libfmt_x.so.9", "libc.so.6")),)
    )
    root = make(tmp_path / "debian/usr", fake)
    (root / "lib/libfmt_x.so.9").touch()
    found = inspect(root, "path")
    assert companions(found) == {str(root / "lib"): False}
    assert found.companion_dirs[0].libraries == ("libc10.so", "libfmt_x.so.9", "libtorch_cpu.so")
    assert found.missing_libraries == ()
    plan = make_plan(found)
    assert plan.runtime_dirs == (str(root / "lib"),)
    assert plan.runtime_as_rpath
