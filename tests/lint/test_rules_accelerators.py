"""The library that no symbol names: whether a program wants it, and whether it is loaded."""

from __future__ import annotations

import pytest

from tests.lint.builder import MAIN, Builder, calls, findings, functions, said
from torchlink.lint.finding import Severity

pytestmark = pytest.mark.compile

AVAILABLE = "_ZN5torch4cuda12is_availableEv"
HAS_CUDA = "_ZN2at6detail12getCUDAHooksEv"
SEED = calls(HAS_CUDA, "_ZN2at6detail11getXPUHooksEv")  # as torch::manual_seed does, on a CPU too
DEVICE = """
    #include <string>
    namespace c10 { struct Device { Device(const std::string&); }; }
    namespace at { void globalContext(); }
    int main(int count, char** words) { at::globalContext(); c10::Device device(DEVICE); return 0; }
"""
SEARCH = "-Wl,-rpath,$ORIGIN/torch/lib"


@pytest.mark.parametrize("symbol", [AVAILABLE, HAS_CUDA])
def test_a_program_that_uses_cuda_without_libtorch_cuda(builder: Builder, symbol: str) -> None:
    lib = builder.torch(cuda=True)
    named = ("-Wl,--as-needed", lib / "libtorch_cpu.so", lib / "libtorch_cuda.so", SEARCH)
    lost = builder.program("app", calls(symbol), *named)
    (finding,) = findings(lost)
    assert (finding.rule, finding.subject) == ("load-bearing-lost", "libtorch_cuda.so")
    assert finding.severity is Severity.ERROR
    assert finding.evidence == (symbol,)
    assert "-Wl,--push-state,--no-as-needed,-ltorch_cuda,--pop-state" in finding.fix
    assert not findings(builder.program("app", calls(symbol), "-Wl,--no-as-needed", *named[1:]))


@pytest.mark.parametrize("optimize", ["-O0", "-O2"])
@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_a_device_name_shows_the_use_of_cuda(builder: Builder, device: str, optimize: str) -> None:
    lib = builder.torch(
        cuda=True, extra="_ZN3c106DeviceC1ERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
    )
    source = DEVICE.replace("DEVICE", f'"{device}"')
    words = (optimize, lib / "libtorch_cpu.so", SEARCH, "-Wl,--allow-shlib-undefined")
    (finding,) = said(
        builder.program("app", source, *words, language="c++", compiler="g++"), "load-bearing-lost"
    )
    assert finding.severity is Severity.ERROR
    assert finding.evidence == ('the device name "cuda"',)
    kept = ("-Wl,--no-as-needed", lib / "libtorch_cuda.so")
    repaired = builder.program("app", source, *words, *kept, language="c++", compiler="g++")
    assert not said(repaired, "load-bearing-lost")


@pytest.mark.parametrize("source", [MAIN, SEED], ids=["plain", "manual_seed"])
def test_a_program_without_any_sign_of_cuda_gets_a_note(builder: Builder, source: str) -> None:
    lib = builder.torch(cuda=True)
    (finding,) = said(builder.program("app", source, lib / "libtorch_cpu.so", SEARCH), "load-bearing-lost")
    assert finding.severity is Severity.NOTE


def test_a_libtorch_without_cuda_is_fine(builder: Builder) -> None:
    lib = builder.torch()
    assert not findings(builder.program("app", calls(AVAILABLE), lib / "libtorch_cpu.so", SEARCH))


def test_a_program_that_opens_the_library_by_name_need_not_link_it(builder: Builder) -> None:
    lib = builder.torch(cuda=True)
    source = "void* dlopen(const char*, int);\n" + calls(AVAILABLE).replace(
        "return 0;", 'return dlopen("libtorch_cuda.so", 2) == 0;'
    )
    assert not findings(builder.program("app", source, lib / "libtorch_cpu.so", SEARCH))


def test_a_shared_library_may_be_loaded_where_libtorch_cuda_is(builder: Builder) -> None:
    lib = builder.torch(cuda=True)
    words = (lib / "libtorch_cpu.so", SEARCH)
    (finding,) = findings(builder.library("libshim.so", calls(AVAILABLE, main=False), *words))
    assert finding.severity is Severity.WARNING
    assert not findings(
        builder.library("mine.so", functions("PyInit_mine") + calls(AVAILABLE, main=False), *words)
    )


@pytest.mark.parametrize(
    ("called", "libraries", "words"),
    [
        ("_ZN3c104cuda12device_countEv", "libc10_cuda.so", "-lc10_cuda"),
        ("_ZN2at4cuda9warp_sizeEv", "libtorch_cuda.so", ""),
        (
            "_ZN3c104cuda12device_countEv _ZN2at4cuda9warp_sizeEv",
            "libc10_cuda.so + libtorch_cuda.so",
            "-lc10_cuda",
        ),
    ],
)
def test_calls_into_cudas_own_libraries_are_one_finding(
    builder: Builder, called: str, libraries: str, words: str
) -> None:
    lib = builder.torch(cuda=True)
    builder.library(
        "torch/lib/libc10_cuda.so", functions("_ZN3c104cuda12device_countEv"), "-Wl,-rpath,$ORIGIN"
    )
    source = calls(AVAILABLE, *called.split())
    # An older libtorch_cpu that had all of it, or else the linker would not build such a program.
    older = builder.library("older/libtorch_cpu.so", functions(f"{AVAILABLE} {called}"))
    (finding,) = findings(builder.program("app", source, older, SEARCH))
    assert (finding.rule, finding.subject) == ("torch-library-not-linked", libraries)
    assert finding.severity is Severity.ERROR
    kept = "-Wl,--push-state,--no-as-needed,-ltorch_cuda,--pop-state"
    assert f"Add {kept} {words}".rstrip() + " after" in finding.fix
    repaired = (f"-L{lib}", *f"-Wl,--as-needed {kept} {words}".split(), "-ltorch_cpu", SEARCH)
    assert not findings(builder.program("app", source, *repaired))


def test_the_library_that_uses_cuda_is_named(builder: Builder) -> None:
    lib = builder.torch(cuda=True)
    shim = builder.library("libshim.so", calls(AVAILABLE, main=False), lib / "libtorch_cpu.so", SEARCH)
    app = builder.program("app", calls("use_all"), shim, "-Wl,-rpath,$ORIGIN")
    (finding,) = findings(app)
    assert finding.severity is Severity.ERROR
    assert "libshim.so uses CUDA" in finding.message
