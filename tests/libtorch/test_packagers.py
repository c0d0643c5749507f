"""The layouts of conda-forge's, ROCm's and XPU's libtorchs, as their build scripts make them.

Sources: build.sh of conda-forge's pytorch-cpu-feedstock (2026), build_rocm.sh and build_xpu.sh of upstream's
manywheel builds, the search path of ROCm's wheels from 2.14 on. None of these can be had from PyPI or Debian.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.binary.test_macho_pe import macho
from tests.conftest import run_clean
from tests.libtorch.trees import CHECK_FAIL, Fake, Library, build, make, make_site, make_venv
from torchlink.binary.elf import ElfFile
from torchlink.emit.cxx import flags
from torchlink.libtorch.choose import choose
from torchlink.libtorch.inspect import inspect
from torchlink.plan import make_plan

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.libtorch.facts import Libtorch

pytestmark = pytest.mark.compile
CONDA = replace(
    Fake(),
    version=None,
    cuda="12.9",
    libraries=("torch_cpu", "torch", "torch_python", "shm", "c10_cuda", "torch_cuda"),
    needed=(
        ("torch_cpu", ("libmkl_rt_x.so.2", "libprotobuf_x.so.31")),
        ("c10_cuda", ("libcudart.so.12",)),
    ),
)
ROCM_PARTS = ("_rocm_sdk_core/lib", "_rocm_sdk_core/lib/rocm_sysdeps/lib", "_rocm_sdk_libraries/lib")


@pytest.fixture(autouse=True)
def nothing_active(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX", "CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)


def conda_forge(prefix: Path) -> Path:
    """libtorch in the prefix; in site-packages a Python package with links to its libraries and no headers."""
    make(prefix, CONDA)
    (prefix / "conda-meta").mkdir()
    (prefix / "conda-meta/libtorch-2.13.0-cuda129_mkl_h1234_300.json").touch()
    for companion in ("libmkl_rt_x.so.2", "libprotobuf_x.so.31", "libcudart.so.12", "libz.so.1"):
        build(prefix / "lib" / companion, Library())
    (prefix / "bin").mkdir()
    (prefix / "bin/python3").touch(0o755)
    package = prefix / "lib/python3.12/site-packages/torch"
    (package / "lib").mkdir(parents=True)
    (package / "include/pybind11").mkdir(parents=True)
    (package / "share").mkdir()
    (prefix / "lib/python3.12/os.py").touch()
    (package / "__init__.py").touch()
    (package / "version.py").write_text("__version__ = '2.13.0'\ncuda: Optional[str] = '12.9'\n")
    for library in CONDA.libraries:
        (package / f"lib/lib{library}.so").symlink_to(f"../../../../lib{library}.so")
    (package / "lib/libc10.so").symlink_to("../../../../libc10.so")
    (package / "share/cmake").symlink_to("../../../../../share/cmake")
    return package


def check_conda(found: Libtorch, prefix: Path) -> None:
    assert (found.root, found.layout, found.library_dir) == (prefix, "conda", prefix / "lib")
    assert (found.version, found.accelerator, found.accelerator_version) == ("2.13.0", "cuda", "12.9")
    assert found.include_dirs[0] == prefix / "include"
    assert (found.missing_libraries, found.conflicts, found.layout_intact) == ((), (), True)
    assert found.python == prefix / "bin/python3"
    assert "libz.so.1" not in found.libraries
    assert [library.name for library in make_plan(found).libraries if library.keep] == ["torch_cuda"]


def test_conda_forges_libtorch_is_the_prefix(tmp_path: Path) -> None:
    conda_forge(tmp_path / "env")
    check_conda(inspect(tmp_path / "env", "path"), tmp_path / "env")


def test_conda_forges_python_package_leads_to_the_prefix(tmp_path: Path) -> None:
    package = conda_forge(tmp_path / "env")
    check_conda(inspect(package, "path"), tmp_path / "env")
    check_conda(choose(python=str(tmp_path / "env/bin/python3")), tmp_path / "env")


def test_a_wheel_of_links_into_a_cache_keeps_its_root(tmp_path: Path) -> None:
    make(tmp_path / "cache/torch")
    root = make_site(tmp_path / "venv")
    shutil.rmtree(root / "lib")
    (root / "lib").mkdir()
    for library in (tmp_path / "cache/torch/lib").iterdir():
        (root / "lib" / library.name).symlink_to(library)
    assert inspect(root, "path").root == root


def test_condas_cuda_headers_are_in_targets(tmp_path: Path) -> None:
    conda_forge(tmp_path / "env")
    include = tmp_path / "env/targets/x86_64-linux/include"
    (include / "crt").mkdir(parents=True)
    (include / "crt/host_defines.h").touch()
    (include / "cuda_runtime_api.h").touch()
    (include / "cuda.h").write_text("#define CUDA_VERSION 12090\n")
    assert make_plan(inspect(tmp_path / "env", "path")).cuda_include_dirs == (include,)


def rocm_wheel(site: Path, path: str, bundled: tuple[str, ...] = ()) -> Path:
    """A ROCm torch whose libtorch_hip needs the HIP runtime."""
    fake = replace(
        Fake(),
        version="2.14.0+rocm7.1",
        headers="2.14.0",
        built="2.14.0",
        cmake="2.14.0",
        libraries=("torch_cpu", "torch", "c10_hip", "torch_hip"),
        search_path=path,
        new_dtags=False,
        needed=(("torch_hip", ("libamdhip64_x.so.7", "libhipblas_x.so.3", "libelf_x.so.1")),),
    )
    root = make(site / "torch", fake)
    (root / "version.py").write_text("__version__ = '2.14.0+rocm7.1'\nhip: Optional[str] = '7.1.2-abc'\n")
    for name in bundled:
        build(root / "lib" / name, Library())
    return root


def test_rocms_packages_beside_torch_are_reached(tmp_path: Path) -> None:
    site = make_venv(tmp_path)
    root = rocm_wheel(site, ":".join((*(f"$ORIGIN/../../{part}" for part in ROCM_PARTS), "$ORIGIN")))
    for part, name in zip(ROCM_PARTS, ("amdhip64_x.so.7", "elf_x.so.1", "hipblas_x.so.3"), strict=True):
        build(site / part / f"lib{name}", Library())
    found = inspect(root, "path")
    assert (found.accelerator, found.accelerator_version, found.missing_libraries) == ("rocm", "7.1", ())
    assert {companion.path for companion in found.companion_dirs} == {site / part for part in ROCM_PARTS}
    assert found.layout_intact
    moved = tmp_path / "moved/torch"
    shutil.copytree(root, moved)
    (site / "path.pth").write_text("# nothing\n")
    strays = inspect(moved, "path")
    assert {missing.package for missing in strays.missing_libraries} >= {"rocm-sdk-core"}


def test_rocms_family_packages_are_searched_where_no_path_leads(tmp_path: Path) -> None:
    site = make_venv(tmp_path)
    root = rocm_wheel(site, "$ORIGIN")
    for part, name in zip(
        ("_rocm_sdk_core/lib", "_rocm_sdk_core/lib/rocm_sysdeps/lib", "_rocm_sdk_libraries_gfx94x/lib"),
        ("amdhip64_x.so.7", "elf_x.so.1", "hipblas_x.so.3"),
        strict=True,
    ):
        build(site / part / f"lib{name}", Library())
    assert inspect(root, "path").missing_libraries == ()


def test_rocms_older_wheels_bundle_many_libraries_and_all_are_libtorchs(tmp_path: Path) -> None:
    bundled = (
        "libamdhip64_x.so.7",
        "libhipblas_x.so.3",
        "libelf_x.so.1",
        *(f"librocpart{number}.so" for number in range(40)),
    )
    found = inspect(rocm_wheel(make_venv(tmp_path), "$ORIGIN", bundled), "path")
    assert {*bundled} <= {*found.libraries}
    assert (found.missing_libraries, found.companion_dirs) == ((), ())


def test_a_program_keeps_the_hip_library(tmp_path: Path) -> None:
    bundled = ("libamdhip64_x.so.7", "libhipblas_x.so.3", "libelf_x.so.1")
    root = rocm_wheel(make_venv(tmp_path), "$ORIGIN", bundled)
    check_kept(inspect(root, "path"), "libtorch_hip.so", tmp_path)


def test_xpus_libraries_are_found_in_the_environment(tmp_path: Path) -> None:
    fake = replace(
        Fake(),
        version="2.11.0+xpu",
        headers="2.11.0",
        built="2.11.0",
        cmake="2.11.0",
        libraries=("torch_cpu", "torch", "c10_xpu", "torch_xpu", "torch-xpu-ops-sycl-UnaryKernels"),
        search_path="$ORIGIN/../../../..:$ORIGIN",
        new_dtags=False,
        needed=(("torch_xpu", ("libsycl_x.so.8", "libmkl_sycl_blas.so.5")),),
    )
    root = make(make_venv(tmp_path) / "torch", fake)
    (root / "version.py").write_text("__version__ = '2.11.0+xpu'\nxpu: Optional[str] = '20250302'\n")
    build(tmp_path / "lib/libsycl_x.so.8", Library())
    found = inspect(root, "path")
    assert (found.accelerator, found.accelerator_version) == ("xpu", "20250302")
    assert [(each.path, each.in_place) for each in found.companion_dirs] == [(tmp_path / "lib", True)]
    assert [(each.name, each.package) for each in found.missing_libraries] == [
        ("libmkl_sycl_blas.so.5", "onemkl-sycl-blas")
    ]
    build(tmp_path / "lib/libmkl_sycl_blas.so.5", Library())
    check_kept(inspect(root, "path"), "libtorch_xpu.so", tmp_path)


@pytest.mark.parametrize("libraries", [("torch_cpu", "torch", "c10"), ("torch", "c10")])
def test_the_search_path_of_macos_libraries_is_read_with_or_without_libtorch_cpu(
    tmp_path: Path, libraries: tuple[str, ...]
) -> None:
    root = make(tmp_path / "torch", replace(Fake(), version="1.3.1"))
    shutil.rmtree(root / "lib")
    (root / "lib").mkdir()
    for library in libraries:
        (root / f"lib/lib{library}.dylib").write_bytes(macho().ljust(2 << 20, b"\0"))
    found = inspect(root, "path")
    assert (found.platform, found.arch, found.cxx11_abi) == ("macos", "arm64", None)
    assert (found.search_kind, found.search_path) == ("rpath", ("@loader_path/../lib",))


def check_kept(found: Libtorch, library: str, tmp_path: Path) -> None:
    """A program that names nothing of a load-bearing library needs it all the same, and starts."""
    assert found.missing_libraries == ()
    symbol = CHECK_FAIL[1]
    source = f'extern "C" char {symbol}[];\nint main() {{ return {symbol} == nullptr; }}\n'
    command = ["c++", "-x", "c++", "-", "-x", "none", "-o", str(tmp_path / "app")]
    link = flags(make_plan(found), "link")
    subprocess.run([*command, *link], input=source, text=True, check=True)
    assert library in ElfFile.open(tmp_path / "app").dynamic.needed
    done = run_clean(tmp_path / "app")
    assert done.returncode == 0, done.stderr
