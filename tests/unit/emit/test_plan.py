"""The link rules, one by one, for libtorchs of every age and platform."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING, Any

import pytest

from tests.fake_libtorch import CPU, CUDA, TEST_LIBRARIES, companion, fake_compiler, fake_libtorch
from torchlink.errors import InexpressibleError, LibtorchUnusableError, UsageError
from torchlink.libtorch.facts import MissingLibrary
from torchlink.plan import LinkPlan, PlanOptions, make_plan
from torchlink.remedies.notes import notes_on
from torchlink.toolchain.directories import is_system_dir

if TYPE_CHECKING:
    from pathlib import Path


def linked(plan: LinkPlan) -> list[str]:
    """Names in link order, required ones in capitals."""
    return [library.name.upper() if library.keep else library.name for library in plan.libraries]


SPLIT = (*CUDA, "libtorch_cuda_cu.so", "libtorch_cuda_cpp.so")
WINDOWS = ("c10.dll", "c10.lib", "fmt.lib", "torch.lib", "torch_cpu.dll", "torch_cpu.lib", "torch_python.lib")


@pytest.mark.parametrize(
    ("libraries", "options", "expected"),
    [
        (CPU, {}, ["torch_cpu", "c10"]),
        ((*CPU, *TEST_LIBRARIES, "libgomp.so.1"), {}, ["torch_cpu", "c10"]),
        (CUDA, {}, ["TORCH_CUDA", "c10_cuda", "torch_cpu", "c10"]),
        (CUDA, {"cpu_only": True}, ["torch_cpu", "c10"]),
        (CPU, {"aoti": True}, ["TORCH", "torch_cpu", "c10"]),
        (CUDA, {"aoti": True}, ["TORCH", "TORCH_CUDA", "c10_cuda", "torch_cpu", "c10"]),
        (SPLIT, {}, ["TORCH_CUDA", "TORCH_CUDA_CPP", "TORCH_CUDA_CU", "c10_cuda", "torch_cpu", "c10"]),
        ((*CPU, "libtorch_hip.so", "libc10_hip.so"), {}, ["TORCH_HIP", "c10_hip", "torch_cpu", "c10"]),
        ((*CPU, "libtorch_xpu.so", "libc10_xpu.so"), {}, ["TORCH_XPU", "c10_xpu", "torch_cpu", "c10"]),
        (("libtorch.so", "libc10.so"), {}, ["torch", "c10"]),
        (("libtorch.so", "libc10.so"), {"aoti": True}, ["TORCH", "c10"]),
        (
            ("libtorch.so", "libcaffe2.so", "libcaffe2_gpu.so", "libc10.so", "libc10_cuda.so", "libfoxi.so"),
            {},
            ["CAFFE2_GPU", "c10_cuda", "torch", "caffe2", "c10"],
        ),
        (("libtorch_cpu.so.1.13", "libc10.so.1.13"), {}, ["torch_cpu", "c10"]),
    ],
)
def test_what_is_linked(
    tmp_path: Path, libraries: tuple[str, ...], options: dict[str, Any], expected: list[str]
) -> None:
    plan = make_plan(fake_libtorch(tmp_path, libraries), PlanOptions(**options))
    assert linked(plan) == expected
    assert all(library.file.is_file() for library in plan.libraries)


def test_windows_links_import_libraries_and_names_the_symbol_that_keeps_cuda(tmp_path: Path) -> None:
    libraries = (*WINDOWS, "torch_cuda.lib", "c10_cuda.lib")
    plan = make_plan(fake_libtorch(tmp_path, libraries, platform="windows", cxx11_abi=None))
    assert [library.file.name for library in plan.libraries] == [
        "torch_cuda.lib",
        "c10_cuda.lib",
        "torch_cpu.lib",
        "c10.lib",
    ]
    assert plan.libraries[0].symbol == "?warp_size@cuda@at@@YAHXZ"
    assert plan.runtime_dirs == ()
    assert "on PATH" in notes_on(plan)[-1]


def test_an_incomplete_libtorch_cannot_be_linked(tmp_path: Path) -> None:
    with pytest.raises(LibtorchUnusableError, match="nothing to link against"):
        make_plan(fake_libtorch(tmp_path, ("libtorch_cpu.so",)))


@pytest.mark.parametrize(
    ("facts", "defines"),
    [
        ({"cxx11_abi": 0}, (("_GLIBCXX_USE_CXX11_ABI", "0"),)),
        ({"cxx11_abi": 1}, (("_GLIBCXX_USE_CXX11_ABI", "1"),)),
        ({"cxx11_abi": None}, ()),
    ],
)
def test_the_abi_is_set_where_it_has_a_meaning(
    tmp_path: Path, facts: dict[str, Any], defines: tuple[tuple[str, str], ...]
) -> None:
    assert make_plan(fake_libtorch(tmp_path, **facts)).defines == defines


def test_macos_has_no_abi_define_and_its_own_origin(tmp_path: Path) -> None:
    libraries = ("libc10.dylib", "libtorch_cpu.dylib", "libtorch.dylib")
    libtorch = fake_libtorch(tmp_path, libraries, platform="macos", arch="arm64", cxx11_abi=None)
    plan = make_plan(libtorch, PlanOptions(rpath="origin=../lib"))
    assert plan.defines == ()
    assert plan.runtime_dirs == ("@loader_path/../lib",)
    assert [library.file.name for library in plan.libraries] == ["libtorch_cpu.dylib", "libc10.dylib"]


def test_directories_that_the_compiler_searches_are_not_repeated(tmp_path: Path) -> None:
    libtorch = fake_libtorch(tmp_path)
    first, second = libtorch.include_dirs
    compiler = fake_compiler(include_dirs=(str(first), "/usr/include"))
    assert make_plan(libtorch, compiler=compiler).include_dirs == (second,)
    assert make_plan(libtorch).include_dirs == (first, second)


def test_usr_include_is_never_named(tmp_path: Path) -> None:
    from pathlib import Path

    libtorch = fake_libtorch(tmp_path)
    debian = libtorch._replace(include_dirs=(Path("/usr/include"), libtorch.include_dirs[1]))
    assert make_plan(debian).include_dirs == (libtorch.include_dirs[1],)


def test_a_missing_directory_is_not_named(tmp_path: Path) -> None:
    libtorch = fake_libtorch(tmp_path)
    gone = libtorch._replace(include_dirs=(*libtorch.include_dirs, tmp_path / "gone"))
    assert make_plan(gone).include_dirs == libtorch.include_dirs


@pytest.mark.parametrize(
    ("directory", "is_system"),
    [
        ("/usr/lib", True),
        ("/lib64", True),
        ("/usr/lib/x86_64-linux-gnu", True),
        ("/usr/lib/aarch64-linux-gnu", True),
        ("/lib/arm-linux-gnueabihf", True),
        ("/usr/local/lib", False),
        ("/usr/lib/python3/dist-packages/torch/lib", False),
        ("/opt/libtorch/lib", False),
    ],
)
def test_system_directories_are_known(directory: str, is_system: bool) -> None:
    from pathlib import Path

    assert is_system_dir(Path(directory)) is is_system


def test_a_system_directory_needs_no_search_path(tmp_path: Path) -> None:
    from pathlib import Path

    plan = make_plan(fake_libtorch(tmp_path)._replace(library_dir=Path("/usr/lib/x86_64-linux-gnu")))
    assert (plan.library_dirs, plan.runtime_dirs) == ((), ())


@pytest.mark.parametrize(
    ("rpath", "expected"),
    [
        ("none", ()),
        ("origin=lib", ("$ORIGIN/lib",)),
        ("origin=../lib/torch/", ("$ORIGIN/../lib/torch",)),
        ("origin=.", ("$ORIGIN",)),
        ("origin=", ("$ORIGIN",)),
        ("origin", ("$ORIGIN",)),
    ],
)
def test_the_search_path_is_as_asked_for(tmp_path: Path, rpath: str, expected: tuple[str, ...]) -> None:
    assert make_plan(fake_libtorch(tmp_path), PlanOptions(rpath=rpath)).runtime_dirs == expected


@pytest.mark.parametrize(
    "options", [{"rpath": "yes"}, {"rpath": "none=x"}, {"rpath": "origin=/lib"}, {"headers": "before"}]
)
def test_an_unknown_value_of_an_option_is_a_usage_error(tmp_path: Path, options: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"Unknown --(rpath|headers) value"):
        make_plan(fake_libtorch(tmp_path), PlanOptions(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["a:b", "$LIB", "${ORIGIN}", "$PLATFORM/x"])
def test_a_search_path_that_the_loader_would_misread_is_refused(tmp_path: Path, name: str) -> None:
    libtorch = fake_libtorch(tmp_path / name)
    with pytest.raises(InexpressibleError, match="cannot be written in a search path"):
        make_plan(libtorch)
    assert make_plan(libtorch, PlanOptions(rpath="none")).runtime_dirs == ()
    with pytest.raises(InexpressibleError):
        make_plan(fake_libtorch(tmp_path / "plain"), PlanOptions(rpath=f"origin={name}"))


@pytest.mark.parametrize("name", ["$LIBRARY", "a$b", "$", "a;b"])
def test_other_odd_names_are_the_loaders_business_no_more_than_ours(tmp_path: Path, name: str) -> None:
    assert make_plan(fake_libtorch(tmp_path / name)).runtime_dirs == (str(tmp_path / name / "lib"),)


def test_an_intact_layout_gets_only_libtorchs_directory(tmp_path: Path) -> None:
    beside = companion(tmp_path / "nvidia/cudnn/lib", "libcudnn.so.9", in_place=True)
    plan = make_plan(fake_libtorch(tmp_path / "torch", CUDA, search_kind="rpath", companion_dirs=(beside,)))
    assert plan.runtime_dirs == (str(tmp_path / "torch/lib"),)
    assert not plan.runtime_as_rpath
    assert plan.linker_dirs == ()


def test_the_linker_gets_the_directories_where_companions_find_one_another(tmp_path: Path) -> None:
    beside = companion(tmp_path / "torch.libs", "libopenblas.so.0", in_place=True)._replace(tangled=True)
    plan = make_plan(fake_libtorch(tmp_path / "torch", search_kind="rpath", companion_dirs=(beside,)))
    assert plan.linker_dirs == (beside.path,)
    assert plan.runtime_dirs == (str(tmp_path / "torch/lib"),)


def test_a_linker_for_another_machine_gets_every_directory(tmp_path: Path) -> None:
    beside = companion(tmp_path / "torch.libs", "libopenblas.so.0", in_place=True)
    other = "x86_64" if platform.machine() == "aarch64" else "aarch64"
    plan = make_plan(
        fake_libtorch(tmp_path / "torch", search_kind="rpath", companion_dirs=(beside,), arch=other)
    )
    assert plan.linker_dirs == (tmp_path / "torch/lib", beside.path)
    assert plan.runtime_dirs == (str(tmp_path / "torch/lib"),)


def test_a_moved_layout_gets_its_companions_as_rpath(tmp_path: Path) -> None:
    beside = companion(tmp_path / "elsewhere/cudnn/lib", "libcudnn.so.9")
    plan = make_plan(fake_libtorch(tmp_path / "torch", CUDA, search_kind="rpath", companion_dirs=(beside,)))
    assert plan.runtime_dirs == (str(tmp_path / "torch/lib"), str(beside.path))
    assert plan.runtime_as_rpath
    assert plan.linker_dirs == (beside.path,)
    assert "libcudnn.so.9" not in [library.name for library in plan.libraries]


def test_companions_that_a_librarys_own_runpath_hides_are_linked_by_the_program(tmp_path: Path) -> None:
    beside = companion(tmp_path / "torch.libs", "libopenblas-56e95da7.so.0")
    plan = make_plan(fake_libtorch(tmp_path / "torch", search_kind="runpath", companion_dirs=(beside,)))
    assert linked(plan)[-1] == "LIBOPENBLAS-56E95DA7.SO.0"
    assert plan.libraries[-1].file == beside.path / "libopenblas-56e95da7.so.0"


@pytest.mark.parametrize("rpath", ["none", "origin=lib"])
def test_without_absolute_paths_the_companions_are_the_users_to_place(tmp_path: Path, rpath: str) -> None:
    beside = companion(tmp_path / "elsewhere/cudnn/lib", "libcudnn.so.9")
    plan = make_plan(fake_libtorch(tmp_path / "torch", companion_dirs=(beside,)), PlanOptions(rpath=rpath))
    assert not any(str(beside.path) in entry for entry in plan.runtime_dirs)
    assert not plan.runtime_as_rpath
    assert str(beside.path) in notes_on(plan)[0]


CUPTI = MissingLibrary("libcupti.so.13", "libtorch_cpu.so", "nvidia-cuda-cupti")
CUDNN = MissingLibrary("libcudnn.so.9", "libtorch_cuda.so", None)


def test_notes_name_what_is_missing_what_installs_it_and_contradictions(tmp_path: Path) -> None:
    libtorch = fake_libtorch(
        tmp_path,
        CUDA,
        accelerator="cuda",
        missing_libraries=(CUPTI, CUDNN),
        python=tmp_path / "venv/bin/python",
        conflicts=("A contradicts B.",),
    )
    assert notes_on(make_plan(libtorch))[:2] == (
        "A contradicts B.",
        (
            "libtorch has missing dependencies: libcupti.so.13, libcudnn.so.9; libtorch_cpu.so itself asks for "
            f"libcupti.so.13, so --cpu does not help; to get them: {tmp_path}/venv/bin/python -m pip "
            "install nvidia-cuda-cupti"
        ),
    )


def test_a_cpu_program_gets_notes_only_about_its_own_dependencies(tmp_path: Path) -> None:
    libtorch = fake_libtorch(tmp_path, CUDA, missing_libraries=(CUPTI, CUDNN))
    (note,) = notes_on(make_plan(libtorch, PlanOptions(cpu_only=True)))
    assert "libcupti.so.13" in note
    assert "libcudnn.so.9" not in note


def test_where_only_cuda_lacks_something_cpu_is_the_way_out(tmp_path: Path) -> None:
    libtorch = fake_libtorch(tmp_path, CUDA, accelerator="cuda", missing_libraries=(CUDNN,))
    assert notes_on(make_plan(libtorch))[0] == (
        "libtorch has missing dependencies: libcudnn.so.9; a program built with --cpu does without."
    )
    assert notes_on(make_plan(libtorch, PlanOptions(cpu_only=True))) == ()


def test_a_lower_standard_than_preferred_is_noted_unless_it_was_asked_for(tmp_path: Path) -> None:
    libtorch = fake_libtorch(tmp_path)
    old = fake_compiler(version=(9, 4, 0), standards=(11, 14, 17))
    assert "preferred C++20" in notes_on(make_plan(libtorch, compiler=old))[0]
    assert notes_on(make_plan(libtorch, PlanOptions(cxx_standard=17))) == ()


def test_an_archive_for_this_machine_is_refused_with_what_to_do(tmp_path: Path) -> None:
    from torchlink.libtorch.machine import this_machine

    here = this_machine()
    packed = fake_libtorch(tmp_path / "torch.whl", packed=True, platform=here.platform, arch=here.arch)
    with pytest.raises(LibtorchUnusableError, match="not extracted") as caught:
        make_plan(packed)
    assert "torchlink extract" in caught.value.hint


def test_an_archive_for_another_machine_may_be_looked_at(tmp_path: Path) -> None:
    packed = fake_libtorch(tmp_path / "torch.whl", packed=True, arch="s390x")
    plan = make_plan(packed)
    assert plan.include_dirs == packed.include_dirs
    assert any("not extracted" in note for note in notes_on(plan))


def test_a_libtorch_for_another_machine_is_reported_and_gets_no_cuda_headers_of_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toolkit = tmp_path / "cuda/include"
    (toolkit / "crt").mkdir(parents=True)
    (toolkit / "crt/host_defines.h").touch()
    (toolkit / "cuda_runtime_api.h").touch()
    (toolkit / "cuda.h").write_text("#define CUDA_VERSION 13000\n")
    monkeypatch.setenv("CUDA_HOME", str(toolkit.parent))
    facts: dict[str, Any] = {"accelerator": "cuda", "accelerator_version": "13.0"}
    own = os.uname().machine
    foreign = make_plan(
        fake_libtorch(tmp_path / "a", arch="aarch64" if own == "x86_64" else "x86_64", **facts)
    )
    native = make_plan(fake_libtorch(tmp_path / "b", arch=own, **facts))
    assert f"and this machine is {own} Linux" in notes_on(foreign)[0]
    assert foreign.cuda_include_dirs == ()
    assert native.cuda_include_dirs == (toolkit,)
    assert not any("this machine" in note for note in notes_on(native))
