"""The exact text of the flags in the syntax of each language's tool."""
# ruff: noqa: E501 - the texts are what users get

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.fake_libtorch import CUDA, fake_libtorch
from torchlink.capi_plan import c_api_plan
from torchlink.emit import CXX_TARGETS, FOR_WINDOWS, TARGETS, emit
from torchlink.errors import InexpressibleError, UsageError
from torchlink.plan import PlanOptions, make_plan
from torchlink.toolchain.cuda_architectures import architectures

if TYPE_CHECKING:
    from pathlib import Path

KEPT = "-Wl,--push-state,--no-as-needed,-ltorch_cuda,--pop-state"
HEADERS = "-isystem T/include -isystem T/include/torch/csrc/api/include"
# T is the root of libtorch, or the directory of the C API.
TEXTS = {
    "julia": """\
const torch_flags = String["-D_GLIBCXX_USE_CXX11_ABI=1", "-isystem", "T/include", "-isystem", "T/include/torch/csrc/api/include", "-std=c++20", "-LT/lib", "-Wl,-rpath,T/lib", "KEPT", "-lc10_cuda", "-ltorch_cpu", "-lc10"]
""",
    "swift": """\
-Xlinker -LT/lib -Xlinker -rpath -Xlinker T/lib -Xlinker --push-state -Xlinker --no-as-needed -Xlinker -ltorch_cuda -Xlinker --pop-state -Xlinker -lc10_cuda -Xlinker -ltorch_cpu -Xlinker -lc10 -Xlinker -lstdc++ -Xlinker -lm
""",
    "make": """\
TORCH_CXXFLAGS := -D_GLIBCXX_USE_CXX11_ABI=1 HEADERS -std=c++20
CXXFLAGS += $(TORCH_CXXFLAGS)
TORCH_LDLIBS := -LT/lib -Wl,-rpath,T/lib KEPT -lc10_cuda -ltorch_cpu -lc10 -lstdc++ -lm
LDLIBS += $(TORCH_LDLIBS)
""",
    "rust": """\
cargo:cxxflags=-D_GLIBCXX_USE_CXX11_ABI=1 HEADERS -std=c++20
cargo:rustc-link-search=native=T/lib
cargo:rustc-link-lib=dylib=c10_cuda
cargo:rustc-link-lib=dylib=torch_cpu
cargo:rustc-link-lib=dylib=c10
cargo:rustc-link-lib=dylib=stdc++
cargo:rustc-link-lib=dylib=m
cargo:rustc-link-arg=-LT/lib
cargo:rustc-link-arg=-Wl,-rpath,T/lib
cargo:rustc-link-arg=KEPT
cargo:rustc-link-arg=-lc10_cuda
cargo:rustc-link-arg=-ltorch_cpu
cargo:rustc-link-arg=-lc10
cargo:rustc-link-arg=-lstdc++
cargo:rustc-link-arg=-lm
""",
    "go": """\
export CGO_CXXFLAGS='-g -O2 -D_GLIBCXX_USE_CXX11_ABI=1 HEADERS -std=c++20'
export CGO_LDFLAGS='-LT/lib -Wl,-rpath,T/lib KEPT -lc10_cuda -ltorch_cpu -lc10 -lstdc++ -lm'
#cgo CXXFLAGS: -D_GLIBCXX_USE_CXX11_ABI=1 HEADERS -std=c++20
#cgo LDFLAGS: -LT/lib -Wl,-rpath,T/lib -Wl,--no-as-needed -ltorch_cuda -Wl,--as-needed -lc10_cuda -ltorch_cpu -lc10 -lstdc++ -lm
""",
    "d": """\
-L-LT/lib -L-rpath -LT/lib -L--push-state -L--no-as-needed -L-ltorch_cuda -L--pop-state -L-lc10_cuda -L-ltorch_cpu -L-lc10 -L-lstdc++ -L-lm
""",
    "zig": """\
-D_GLIBCXX_USE_CXX11_ABI=1 HEADERS -lc -fno-each-lib-rpath -LT/lib -rpath T/lib -needed-ltorch_cuda -lc10_cuda -ltorch_cpu -lc10 libstdc++.so.6 libgcc_s.so.1 -lm
""",
    "fortran": """\
-LT/lib -Wl,-rpath,T/lib KEPT -lc10_cuda -ltorch_cpu -lc10 -lstdc++ -lm
""",
    "ocaml": """\
; ocamlopt: -ccopt -LT/lib -ccopt -Wl,-rpath,T/lib -cclib KEPT -cclib -lc10_cuda -cclib -ltorch_cpu -cclib -lc10 -cclib -lstdc++ -cclib -lm
(foreign_stubs
 (language cxx)
 (names stubs)
 (flags (:standard -D_GLIBCXX_USE_CXX11_ABI=1 HEADERS -std=c++20)))
(link_flags (-ccopt -LT/lib -ccopt -Wl,-rpath,T/lib -cclib KEPT -cclib -lc10_cuda -cclib -ltorch_cpu -cclib -lc10 -cclib -lstdc++ -cclib -lm))
""",
    "haskell": """\
cxx-options: -D_GLIBCXX_USE_CXX11_ABI=1 HEADERS -std=c++20
extra-lib-dirs: T/lib
extra-libraries: c10_cuda torch_cpu c10 stdc++ m
ld-options: "-Wl,-rpath,T/lib" "KEPT"
""",
    "crystal": """\
@[Link(ldflags: "-LT/lib -Wl,-rpath,T/lib KEPT -lc10_cuda -ltorch_cpu -lc10 -lstdc++ -lm")]
""",
    "ada": """\
-cargs:C++ -D_GLIBCXX_USE_CXX11_ABI=1 HEADERS -std=c++20 -largs -LT/lib -Wl,-rpath,T/lib KEPT -lc10_cuda -ltorch_cpu -lc10 -lstdc++ -lm
""",
    "r": """\
CXX_STD = CXX20
PKG_CPPFLAGS = -D_GLIBCXX_USE_CXX11_ABI=1 HEADERS
PKG_LIBS = -LT/lib -Wl,-rpath,T/lib KEPT -lc10_cuda -ltorch_cpu -lc10 -lstdc++ -lm
""",
    "ruby": """\
$CXXFLAGS = [$CXXFLAGS, '-D_GLIBCXX_USE_CXX11_ABI=1 HEADERS -std=c++20'].join(' ')
$LOCAL_LIBS = [$LOCAL_LIBS, '-LT/lib -Wl,-rpath,T/lib KEPT -lc10_cuda -ltorch_cpu -lc10 -lstdc++ -lm'].join(' ')
""",
    "node": """\
{
  "cflags!": ["-fno-rtti", "-fno-exceptions"],
  "cflags_cc!": ["-fno-rtti", "-fno-exceptions", "-std=gnu++14", "-std=gnu++1y", "-std=gnu++17", "-std=gnu++1z", "-std=gnu++20"],
  "cflags_cc": ["-D_GLIBCXX_USE_CXX11_ABI=1", "-isystem", "T/include", "-isystem", "T/include/torch/csrc/api/include", "-std=c++20"],
  "libraries": ["-LT/lib", "-Wl,-rpath,T/lib", "KEPT", "-lc10_cuda", "-ltorch_cpu", "-lc10", "-lstdc++", "-lm"],
}
""",
    "qmake": """\
DEFINES += QT_NO_KEYWORDS
QMAKE_CXXFLAGS += -D_GLIBCXX_USE_CXX11_ABI=1 HEADERS -std=c++20
QMAKE_CXXFLAGS_CXX11 = -std=c++20
QMAKE_CXXFLAGS_GNUCXX11 = -std=c++20
QMAKE_CXXFLAGS_CXX14 = -std=c++20
QMAKE_CXXFLAGS_GNUCXX14 = -std=c++20
QMAKE_CXXFLAGS_CXX1Z = -std=c++20
QMAKE_CXXFLAGS_GNUCXX1Z = -std=c++20
QMAKE_LFLAGS += -LT/lib -Wl,-rpath,T/lib
LIBS += KEPT -lc10_cuda -ltorch_cpu -lc10 -lstdc++ -lm
""",
    "bazel": """\
# This file is torch.BUILD, next to a BUILD file. In WORKSPACE:
#
# new_local_repository(
#     name = "torch",
#     path = "T",
#     build_file = "//:torch.BUILD",
# )
#
# In MODULE.bazel the same, after:
#
# new_local_repository = use_repo_rule("@bazel_tools//tools/build_defs/repo:local.bzl", "new_local_repository")
#
# Then: deps = ["@torch"]
# In .bazelrc: build --cxxopt=-std=c++20

cc_library(
    name = "torch",
    hdrs = glob(["include/**"]),
    includes = [
        "include",
        "include/torch/csrc/api/include",
    ],
    defines = ["_GLIBCXX_USE_CXX11_ABI=1"],
    linkopts = [
        "-LT/lib",
        "-Wl,-rpath,T/lib",
        "KEPT",
        "-lc10_cuda",
        "-ltorch_cpu",
        "-lc10",
        "-lstdc++",
        "-lm",
    ],
    visibility = ["//visibility:public"],
)
""",
    "nvcc": """\
--expt-relaxed-constexpr -D_GLIBCXX_USE_CXX11_ABI=1 HEADERS -std=c++20 -LT/lib -Xlinker -rpath,T/lib -Xlinker --push-state,--no-as-needed,-ltorch_cuda,--pop-state -lc10_cuda -ltorch_cpu -lc10
""",
}
C_API_TEXTS = {
    "cxx": """\
-isystem T -LT -Wl,-rpath,T -ltorchmodel
""",
    "nim": """\
--passC:"-isystem T"
--passL:"-LT -Wl,-rpath,T -ltorchmodel"
""",
    "pkg-config": """\
Name: torchmodel
Description: a C API over libtorch, written by torchlink
Version: 1
Cflags: -IT
Libs: -LT -Wl,-rpath,T -ltorchmodel
""",
    "make": """\
TORCHMODEL_CPPFLAGS := -isystem T
CPPFLAGS += $(TORCHMODEL_CPPFLAGS)
TORCHMODEL_LDLIBS := -LT -Wl,-rpath,T -ltorchmodel
LDLIBS += $(TORCHMODEL_LDLIBS)
""",
    "rust": """\
cargo:cflags=-isystem T
cargo:rustc-link-search=native=T
cargo:rustc-link-lib=dylib=torchmodel
cargo:rustc-link-arg=-LT
cargo:rustc-link-arg=-Wl,-rpath,T
cargo:rustc-link-arg=-ltorchmodel
""",
    "go": """\
export CGO_CFLAGS='-g -O2 -isystem T'
export CGO_LDFLAGS='-LT -Wl,-rpath,T -ltorchmodel'
#cgo CFLAGS: -isystem T
#cgo LDFLAGS: -LT -Wl,-rpath,T -ltorchmodel
""",
    "d": """\
-L-LT -L-rpath -LT -L-ltorchmodel
""",
    "zig": """\
-isystem T -lc -fno-each-lib-rpath -LT -rpath T -ltorchmodel
""",
    "fortran": """\
-LT -Wl,-rpath,T -ltorchmodel
""",
    "ocaml": """\
; ocamlopt: -ccopt -LT -ccopt -Wl,-rpath,T -cclib -ltorchmodel
(foreign_stubs
 (language c)
 (names stubs)
 (flags (:standard -isystem T)))
(link_flags (-ccopt -LT -ccopt -Wl,-rpath,T -cclib -ltorchmodel))
""",
    "haskell": """\
cc-options: -isystem T
extra-lib-dirs: T
extra-libraries: torchmodel
ld-options: "-Wl,-rpath,T"
""",
    "crystal": """\
@[Link(ldflags: "-LT -Wl,-rpath,T -ltorchmodel")]
""",
    "ada": """\
-cargs:C -isystem T -largs -LT -Wl,-rpath,T -ltorchmodel
""",
    "r": """\
PKG_CPPFLAGS = -isystem T
PKG_LIBS = -LT -Wl,-rpath,T -ltorchmodel
""",
    "ruby": """\
$CPPFLAGS = [$CPPFLAGS, '-isystem T'].join(' ')
$LOCAL_LIBS = [$LOCAL_LIBS, '-LT -Wl,-rpath,T -ltorchmodel'].join(' ')
""",
    "node": """\
{
  "cflags": ["-isystem", "T"],
  "libraries": ["-LT", "-Wl,-rpath,T", "-ltorchmodel"],
}
""",
    "qmake": """\
QMAKE_CFLAGS += -isystem T
QMAKE_CXXFLAGS += -isystem T
QMAKE_LFLAGS += -LT -Wl,-rpath,T
LIBS += -ltorchmodel
""",
    "nvcc": """\
-isystem T -LT -Xlinker -rpath,T -ltorchmodel
""",
    "julia": """\
const libtorchmodel = "T/libtorchmodel.so"
""",
    "swift": """\
-import-objc-header T/torchmodel.h -Xlinker -LT -Xlinker -rpath -Xlinker T -Xlinker -ltorchmodel
""",
}


@pytest.mark.parametrize("target", TEXTS)
def test_the_text_for_libtorch(tmp_path: Path, target: str) -> None:
    expected = TEXTS[target].replace("HEADERS", HEADERS).replace("KEPT", KEPT).replace("T/", f"{tmp_path}/")
    expected = expected.replace('"T"', f'"{tmp_path}"')
    assert emit(make_plan(fake_libtorch(tmp_path, CUDA)), target) + "\n" == expected


@pytest.mark.parametrize("target", C_API_TEXTS)
def test_the_text_for_the_c_api(target: str, tmp_path: Path) -> None:
    place = tmp_path / "T"
    text = emit(c_api_plan(place), target) + "\n"
    assert text.replace(str(place), "T") == C_API_TEXTS[target]


@pytest.mark.parametrize("target", [target for target in TARGETS if target not in FOR_WINDOWS])
def test_tools_without_flags_for_windows_say_so(tmp_path: Path, target: str) -> None:
    libraries = ("c10.lib", "torch_cpu.lib", "c10.dll")
    plan = make_plan(fake_libtorch(tmp_path, libraries, platform="windows", cxx11_abi=None))
    with pytest.raises(InexpressibleError, match="no flags for a libtorch for Windows"):
        emit(plan, target)


def test_an_archive_brings_libtorch_and_the_runtime(tmp_path: Path) -> None:
    plan = make_plan(fake_libtorch(tmp_path / "torch"), PlanOptions(aoti=True))
    text = emit(c_api_plan(tmp_path, archive_plan=plan), "cxx")
    assert text == (
        f"-isystem {tmp_path} -L{tmp_path}/torch/lib -Wl,-rpath,{tmp_path}/torch/lib {tmp_path}/libtorchmodel.a "
        "-Wl,--push-state,--no-as-needed,-ltorch,--pop-state -ltorch_cpu -lc10 -lstdc++ -lm"
    )
    assert emit(c_api_plan(tmp_path, archive_plan=plan), "fortran").count("-lstdc++") == 1


def test_headers_of_cuda_outside_of_libtorch_are_refused_by_bazel(tmp_path: Path) -> None:
    plan = make_plan(fake_libtorch(tmp_path / "torch"))._replace(cuda_include_dirs=(tmp_path / "cuda",))
    with pytest.raises(InexpressibleError, match="outside"):
        emit(plan, "bazel")


@pytest.mark.parametrize(
    ("listed", "flags"),
    [
        ("9.0", ["-gencode=arch=compute_90,code=sm_90"]),
        ("8.6+PTX", ["-gencode=arch=compute_86,code=sm_86", "-gencode=arch=compute_86,code=compute_86"]),
        ("7.5 10.0a", ["-gencode=arch=compute_75,code=sm_75", "-gencode=arch=compute_100a,code=sm_100a"]),
        ("Hopper", ["-gencode=arch=compute_90,code=sm_90", "-gencode=arch=compute_90,code=compute_90"]),
        ("native", ["-arch=native"]),
    ],
)
def test_architectures_are_listed_as_for_torch(
    monkeypatch: pytest.MonkeyPatch, listed: str, flags: list[str]
) -> None:
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", listed)
    assert list(architectures(None)) == flags


@pytest.mark.parametrize("listed", ["9", "sm_90", "Fermi", "9.0-PTX", "9.0;x"])
def test_an_unknown_architecture_is_an_error(monkeypatch: pytest.MonkeyPatch, listed: str) -> None:
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", listed)
    with pytest.raises(UsageError, match="not an architecture"):
        architectures(None)


def test_a_libtorch_for_the_cpu_has_no_architectures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCH_CUDA_ARCH_LIST", raising=False)
    assert architectures(fake_libtorch(tmp_path)) == ()


@pytest.mark.compile
def test_the_architectures_of_libtorch_are_read_from_its_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TORCH_CUDA_ARCH_LIST", raising=False)
    flags = (
        "-gencode=arch=compute_80,code=sm_80",
        "-gencode=arch=compute_90,code=sm_90",
        "-gencode=arch=compute_90,code=compute_90",
    )
    for name in ("one", "two"):
        (tmp_path / f"{name}.cu").write_text(f"__global__ void {name}(int *to) {{ *to = 1; }}\n")
    library = tmp_path / "kernels.so"
    if not shutil.which("nvcc"):
        pytest.skip("nvcc is not in Debian")
    command = ["nvcc", "-shared", "-Xcompiler", "-fPIC", "-cudart", "none", *flags]
    subprocess.run([*command, "one.cu", "two.cu", "-o", library], cwd=tmp_path, check=True, timeout=280)
    libtorch = fake_libtorch(tmp_path / "torch", CUDA, accelerator="cuda")
    shutil.copy(library, libtorch.library_dir / "libtorch_cuda.so")
    assert architectures(libtorch) == flags


@pytest.mark.parametrize("target", [target for target in TARGETS if target not in CXX_TARGETS])
def test_a_plugin_is_made_by_a_cxx_compiler(tmp_path: Path, target: str) -> None:
    plan = make_plan(fake_libtorch(tmp_path), PlanOptions(plugin=True))
    with pytest.raises(InexpressibleError, match="not for plugins"):
        emit(plan, target)


def test_zig_links_no_archive_whole(tmp_path: Path) -> None:
    plan = make_plan(fake_libtorch(tmp_path))._replace(whole_archives=(tmp_path / "libops.a",))
    assert "--whole-archive," in emit(plan, "fortran")
    with pytest.raises(InexpressibleError, match="whole"):
        emit(plan, "zig")


def test_julia_finds_the_library_next_to_its_file_or_by_name(tmp_path: Path) -> None:
    def text(rpath: str, place: Path = tmp_path) -> str:
        return emit(c_api_plan(place, PlanOptions(rpath=rpath)), "julia").removeprefix(
            "const libtorchmodel = "
        )

    assert text("origin=lib") == 'joinpath(@__DIR__, "lib", "libtorchmodel.so")'
    assert text("origin=.") == 'joinpath(@__DIR__, "libtorchmodel.so")'
    assert text("none") == '"libtorchmodel.so"'
    odd = tmp_path / 'a "$x" \\ b'
    assert text("absolute", odd) == f'"{tmp_path}/a \\"\\$x\\" \\\\ b/libtorchmodel.so"'
    archive = c_api_plan(tmp_path, archive_plan=make_plan(fake_libtorch(tmp_path), PlanOptions(aoti=True)))
    with pytest.raises(InexpressibleError, match="archive"):
        emit(archive, "julia")


def test_a_linker_that_does_not_find_libtorch_by_itself_is_given_its_directory(tmp_path: Path) -> None:
    plan = c_api_plan(tmp_path, linker_dirs=(tmp_path / "torch/lib",))
    assert f" -Wl,-rpath-link,{tmp_path}/torch/lib " in emit(plan, "cxx")


def test_gyp_has_other_settings_on_macos(tmp_path: Path) -> None:
    libraries = ("libc10.dylib", "libtorch_cpu.dylib", "libtorch.dylib")
    plan = make_plan(fake_libtorch(tmp_path, libraries, platform="macos", arch="arm64", cxx11_abi=None))
    assert emit(plan, "node", "compile").splitlines() == [
        "{",
        '  "xcode_settings": {"GCC_ENABLE_CPP_EXCEPTIONS": "YES", "GCC_ENABLE_CPP_RTTI": "YES", '
        f'"OTHER_CPLUSPLUSFLAGS": ["-isystem", "{tmp_path}/include", "-isystem", '
        f'"{tmp_path}/include/torch/csrc/api/include", "-std=c++20"]}},',
        "}",
    ]


def test_macos_has_its_own_runtime_and_search_path(tmp_path: Path) -> None:
    libraries = ("libc10.dylib", "libtorch_cpu.dylib", "libtorch.dylib")
    libtorch = fake_libtorch(tmp_path, libraries, platform="macos", arch="arm64", cxx11_abi=None)
    plan = make_plan(libtorch, PlanOptions(rpath="origin=../lib"))
    assert emit(plan, "fortran") == f"-L{tmp_path}/lib -Wl,-rpath,@loader_path/../lib -ltorch_cpu -lc10 -lc++"
    assert "cargo:rustc-link-lib=dylib=c++" in emit(plan, "rust").splitlines()
