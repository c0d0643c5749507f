"""Rules about symbols that nothing defines: the ABI, other headers, a library not linked, one too old."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import run_clean
from tests.lint.builder import MAIN, Builder, calls, findings, functions, rules, said
from torchlink.binary.elf import ElfFile
from torchlink.lint.finding import Severity

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.compile

SEARCH = "-Wl,-rpath,$ORIGIN/torch/lib"
LOAD = """
    #include <string>
    namespace torch { namespace jit { void load(const std::string&); } }
    int main() { torch::jit::load("model.pt"); }
"""
SHOW = """
    #include <string>
    namespace at { std::string show_config(); }
    int main() { return at::show_config().size() == 0; }
"""


def compiled(builder: Builder, source: str, abi: int) -> Path:
    """A C++ program compiled with one ABI, linked with a libtorch of the same."""
    words = (builder.directory / "torch/lib/libtorch_cpu.so", SEARCH, f"-D_GLIBCXX_USE_CXX11_ABI={abi}")
    return builder.program("app", source, *words, language="c++", compiler="g++")


@pytest.mark.parametrize("source", [LOAD, SHOW], ids=["takes a string", "returns a string"])
@pytest.mark.parametrize("abi", [0, 1])
def test_a_program_with_the_other_abi(builder: Builder, source: str, abi: int) -> None:
    builder.torch(abi=abi)
    app = compiled(builder, source, abi)
    assert not findings(app)
    builder.torch(abi=1 - abi)
    (finding,) = findings(app)
    assert (finding.rule, finding.severity) == ("abi-mismatch", Severity.ERROR)
    assert f"_GLIBCXX_USE_CXX11_ABI={abi}, but" in finding.message
    assert f"-D_GLIBCXX_USE_CXX11_ABI={1 - abi}" in finding.fix


LIBCXX_STRING = "NSt3__112basic_stringIcNS_11char_traitsIcEENS_9allocatorIcEEEE"


@pytest.mark.parametrize("called", [f"_ZN5torch3jit4loadERK{LIBCXX_STRING}", "_ZN2at11show_configEv"])
def test_a_program_for_libcxx(builder: Builder, called: str) -> None:
    builder.torch()
    # A libtorch_cpu that has the functions for libc++, which no release does, or else it would not link.
    never = builder.library("never/libtorch_cpu.so", functions(called))
    runtime = builder.library("libc++.so.1", functions("_ZNSt3__15mutex4lockEv"))
    words = (never, runtime, f"{SEARCH}:$ORIGIN")
    (finding,) = findings(builder.program("app", calls(called, "_ZNSt3__15mutex4lockEv"), *words))
    assert (finding.rule, finding.subject, finding.severity) == ("abi-mismatch", "libc++", Severity.ERROR)
    assert "-stdlib=libstdc++" in finding.fix


SHARED = ("-shared", "-fPIC", "-Wl,-soname,libshim.so")
SHIM = """
    #include <string>
    namespace at { std::string show_config(); }
    extern "C" int use_all() { return at::show_config().size() == 0; }
"""


@pytest.mark.parametrize("called", ["as a library", "by a program", "by a program with libtorch"])
@pytest.mark.parametrize("abi", [0, 1])
def test_a_shim_with_the_other_abi_whose_libtorch_the_linker_dropped(
    builder: Builder, abi: int, called: str
) -> None:
    lib = builder.torch(abi=1 - abi)
    words = ("-Wl,--as-needed", lib / "libtorch_cpu.so", lib / "libc10.so", SEARCH)
    found_via = {"language": "c++", "compiler": "g++"}
    shim = builder.build("libshim.so", SHIM, *SHARED, f"-D_GLIBCXX_USE_CXX11_ABI={abi}", *words, **found_via)
    with ElfFile.open(shim) as elf:
        assert not any("torch" in name or "c10" in name for name in elf.dynamic.needed)
    checked = shim
    if called != "as a library":
        linked = (lib / "libtorch_cpu.so",) if "with libtorch" in called else ()
        source = calls("use_all", *(["_ZN2at13globalContextEv"] if linked else []))
        checked = builder.program("app", source, shim, *linked, f"{SEARCH}:$ORIGIN")
    found = [each for each in findings(checked) if each.rule != "rpath-unused" or "libshim" in each.message]
    assert [(each.rule, each.severity) for each in found] == [("abi-mismatch", Severity.ERROR)]
    assert f"-D_GLIBCXX_USE_CXX11_ABI={1 - abi}" in found[0].fix
    builder.build("libshim.so", SHIM, *SHARED, f"-D_GLIBCXX_USE_CXX11_ABI={1 - abi}", *words, **found_via)
    assert not [each for each in findings(checked) if each.severity is not Severity.NOTE]
    assert not findings(shim)


def test_a_shim_that_has_a_search_path_to_libtorch_and_does_not_link_it(builder: Builder) -> None:
    builder.torch()
    shim = builder.library("libshim.so", calls("_ZN2at13globalContextEv", main=False), SEARCH)
    (finding,) = findings(shim)
    assert (finding.rule, finding.subject) == ("torch-library-not-linked", "libtorch_cpu.so")
    assert (finding.severity, "-ltorch_cpu" in finding.fix) == (Severity.WARNING, True)
    newer = builder.library("libshim.so", calls("_ZN2at6newestEv", main=False), SEARCH)
    (finding,) = findings(newer)
    assert (finding.rule, finding.subject) == (
        "header-library-mismatch",
        str(builder.directory / "torch/lib"),
    )
    plain = builder.library("libshim.so", calls("of_the_host", main=False), SEARCH)
    assert {each.rule for each in findings(plain)} == {"undefined-symbol", "rpath-unused"}


def test_a_program_compiled_with_another_versions_headers(builder: Builder) -> None:
    lib = builder.torch(extra="_ZN2at6newestEv")
    app = builder.program(
        "app", calls("_ZN2at13globalContextEv", "_ZN2at6newestEv"), lib / "libtorch_cpu.so", SEARCH
    )
    assert not findings(app)
    builder.torch()
    (finding,) = findings(app)
    assert (finding.rule, finding.subject) == ("header-library-mismatch", str(lib))
    assert finding.evidence == ("_ZN2at6newestEv",)


def test_a_library_of_libtorch_that_nothing_loads(builder: Builder) -> None:
    lib = builder.torch(cuda=True)
    cuda = calls("_ZN2at13globalContextEv", "_ZN2at4cuda9warp_sizeEv")
    linked = builder.program("app", cuda, lib / "libtorch_cpu.so", lib / "libtorch_cuda.so", SEARCH)
    assert not findings(linked)
    shim = builder.library("libshim.so", cuda.replace("main", "use_all"), lib / "libtorch_cpu.so", SEARCH)
    app = builder.program("app", calls("use_all"), shim, "-Wl,-rpath,$ORIGIN")
    (finding,) = said(app, "torch-library-not-linked")
    assert (finding.subject, finding.severity) == ("libtorch_cuda.so", Severity.ERROR)
    assert "-ltorch_cuda" in finding.fix
    assert "header-library-mismatch" not in rules(app)
    assert (
        said(shim, "torch-library-not-linked")[0].severity is Severity.WARNING
    )  # whoever loads it may have it


def test_a_symbol_that_no_library_defines(builder: Builder) -> None:
    library = builder.library("libinner.so", functions("kept gone"))
    app = builder.program("app", calls("kept", "gone"), library, "-Wl,-rpath,$ORIGIN")
    assert not findings(app)
    builder.library("libinner.so", functions("kept"))
    (finding,) = findings(app)
    assert (finding.rule, finding.subject, finding.evidence) == ("undefined-symbol", "app", ("gone",))
    assert finding.severity is Severity.ERROR


def test_a_library_may_leave_symbols_to_the_program(builder: Builder) -> None:
    plugin = builder.library("libplugin.so", calls("of_the_host", main=False))
    assert [each.severity for each in findings(plugin)] == [Severity.NOTE]
    extension = builder.library(
        "mine.so", functions("PyInit_mine") + calls("PyErr_Clear", "_Py_Dealloc", main=False)
    )
    assert not findings(extension)


def versioned(builder: Builder, *versions: str) -> Path:
    """A library that defines `number` in each of these symbol versions."""
    script = builder.path("versions.map")
    script.write_text("".join(f"{name} {{ global: number; local: *; }};\n" for name in versions))
    return builder.library("libv.so", functions("number"), f"-Wl,--version-script,{script}")


def test_a_library_older_than_the_one_that_was_linked(builder: Builder) -> None:
    app = builder.program("app", calls("number"), versioned(builder, "V_2"), "-Wl,-rpath,$ORIGIN")
    assert not findings(app)
    library = versioned(builder, "V_1")
    (finding,) = findings(app)
    assert (finding.rule, finding.subject) == ("symbol-version-missing", str(library))
    assert finding.evidence == ("V_2: needed by app",)


def test_a_library_that_has_lost_its_symbol_versions(builder: Builder) -> None:
    app = builder.program("app", calls("number"), versioned(builder, "V_1"), "-Wl,-rpath,$ORIGIN")
    assert not findings(app)
    assert run_clean(app).returncode == 0
    library = builder.library("libv.so", functions("number"))
    (finding,) = findings(app)
    assert (finding.rule, finding.subject) == ("symbol-version-missing", str(library))
    assert (finding.severity, finding.evidence) == (Severity.ERROR, ("number",))
    done = run_clean("/bin/sh", "-c", f"LD_BIND_NOW=1 exec {app}")
    assert done.returncode != 0
    assert "check_match" in done.stderr
    assert not findings(builder.program("app", calls("number"), library, "-Wl,-rpath,$ORIGIN"))


def test_a_library_without_versions_of_its_own_that_needs_some_is_taken(builder: Builder) -> None:
    script = builder.path("base.map")
    script.write_text("B_1 { global: base; local: *; };\n")
    base = builder.library("libbase.so", functions("base"), f"-Wl,--version-script,{script}")
    app = builder.program("app", calls("number"), versioned(builder, "V_1"), "-Wl,-rpath,$ORIGIN")
    source = functions("number") + calls("base", main=False)
    library = builder.library("libv.so", source, base, "-Wl,-rpath,$ORIGIN")
    (finding,) = findings(app)
    assert (finding.rule, finding.subject) == ("symbol-version-missing", str(library))
    assert finding.severity is Severity.WARNING
    done = run_clean("/bin/sh", "-c", f"LD_BIND_NOW=1 exec {app}")
    assert done.returncode == 0
    assert "no version information available" in done.stderr


def test_libtorchs_own_libraries_rely_on_their_user(builder: Builder) -> None:
    lib = builder.torch(cuda=True)
    source = calls("_ZN2at13globalContextEv", "_ZN2at4cuda9warp_sizeEv", main=False)
    words = (lib / "libtorch_cpu.so", "-Wl,-rpath,$ORIGIN")
    inside = builder.library("torch/lib/libtorch_nvshmem.so", source, *words)
    assert not said(inside, "torch-library-not-linked")
    outside = builder.library("libmine.so", source, lib / "libtorch_cpu.so", SEARCH)
    assert said(outside, "torch-library-not-linked")


def test_symbols_of_libtorch_without_a_libtorch_are_undefined(builder: Builder) -> None:
    plugin = builder.library("libplugin.so", calls("_ZN2at13globalContextEv", main=False))
    assert [(each.rule, each.severity) for each in findings(plugin)] == [("undefined-symbol", Severity.NOTE)]
    assert not findings(builder.program("app", MAIN))


def test_pythons_names_are_the_interpreters_in_a_library_of_an_extension_too(builder: Builder) -> None:
    helper = builder.library("libhelper.so", calls("PyErr_Clear", "gone", main=False))
    (finding,) = findings(helper)
    assert finding.evidence == ("gone",)
    assert not findings(builder.library("libfine.so", calls("PyErr_Clear", "_Py_Dealloc", main=False)))


def test_a_copy_of_a_part_of_glibc_is_to_be_deleted(builder: Builder) -> None:
    script = builder.path("libc.map")
    script.write_text("GLIBC_2.99 { global: inner; local: *; };\n")
    libc = builder.library(
        "other/libc.so.6", functions("inner"), f"-Wl,--version-script,{script}", soname="libc.so.6"
    )
    script.write_text("GLIBC_2.2.5 { global: clock; local: *; };\n")
    source = functions("clock") + calls("inner", main=False)
    copy = builder.library("torch/lib/librt.so.1", source, libc, f"-Wl,--version-script,{script}")
    app = builder.program("app", calls("clock"), copy, "-Wl,-rpath,$ORIGIN/torch/lib")
    (finding,) = said(app, "symbol-version-missing")
    assert finding.fix.startswith(f"Delete the copy of a part of glibc: rm {copy}.")
    assert "newer library along" not in finding.fix
    copy.unlink()
    assert not said(app, "symbol-version-missing")


def test_a_newer_glibc_next_to_the_binary_is_never_the_fix(builder: Builder) -> None:
    script = builder.path("libm.map")
    script.write_text("GLIBC_2.99 { global: newer; };\n")
    libm = builder.library("other/libm.so.6", functions("newer"), f"-Wl,--version-script,{script}")
    app = builder.program("app", calls("newer"), libm)
    (finding,) = said(app, "symbol-version-missing")
    assert "ship the newer library with it" not in finding.fix
    assert "run it on a newer system" in finding.fix
