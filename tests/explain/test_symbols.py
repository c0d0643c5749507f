"""Undefined symbols in the texts of linkers and loaders, and their namesakes in a library."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.conftest import program
from torchlink.binary.elf import ElfFile
from torchlink.explain.lookup import missing_libraries
from torchlink.explain.symbols import Symbol, namesakes, pattern_of, qualified, string_of, undefined_in

if TYPE_CHECKING:
    from pathlib import Path

LOAD = "torch::jit::load(std::string const&, std::optional<c10::Device>, bool)"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (f"main.cpp:(.text+0x3): undefined reference to `{LOAD}'", LOAD),
        (f"main.cpp:3: error: undefined reference to '{LOAD}'", LOAD),
        (f"ld.lld: error: undefined symbol: {LOAD}", LOAD),
        (f"mold: error: undefined symbol: {LOAD}", LOAD),
        (f'  "{LOAD}", referenced from:', LOAD),
        ("./app: symbol lookup error: ./app: undefined symbol: _ZN3c105ErrorC1Ev", "_ZN3c105ErrorC1Ev"),
        ("undefined symbol: _ZN3c105ErrorC1Ev\t(./libx.so)", "_ZN3c105ErrorC1Ev"),
        ("ImportError: /a/x.so: undefined symbol: _ZN3c105ErrorC1Ev, version V1", "_ZN3c105ErrorC1Ev"),
        ("Error relocating /a/x.so: _ZN3c105ErrorC1Ev: symbol not found", "_ZN3c105ErrorC1Ev"),
        ("undefined reference to `vtable for torch::autograd::Meta'", "vtable for torch::autograd::Meta"),
        ("undefined symbol: aoti_torch_delete_tensor_object", "aoti_torch_delete_tensor_object"),
        (
            'a.obj : error LNK2019: unresolved external symbol "void __cdecl c10::f(void)" (?f@c10@@YAXXZ) referenced',
            "?f@c10@@YAXXZ",
        ),
    ],
)
def test_the_symbol_of_a_line(line: str, text: str) -> None:
    found = undefined_in(line)
    assert found is not None
    assert found.text == text
    assert found.of_torch


@pytest.mark.parametrize(
    "line",
    [
        "undefined reference to `mine::f(c10::Device)'",
        "undefined symbol: _ZN4mine1fEN3c106DeviceE",
        "undefined reference to `main'",
        "undefined reference to `std::string::~string()'",
    ],
)
def test_symbols_of_others(line: str) -> None:
    found = undefined_in(line)
    assert found is not None
    assert not found.of_torch


@pytest.mark.parametrize(
    ("plain", "name"),
    [
        (LOAD, "torch::jit::load"),
        ("float* at::TensorBase::data_ptr<float>() const", "at::TensorBase::data_ptr<float>"),
        ("c10::Foo<int (*)(int)> torch::f<void (c10::A)>(int)", "torch::f<void (c10::A)>"),
        ("at::operator<<(std::ostream&, at::Tensor const&)", "at::operator<<"),
        ("c10::(anonymous namespace)::f(int)", "c10::{anonymous}::f"),
        ("c10::Lambda::operator()(int) const", "c10::Lambda::operator{}"),
        ("typeinfo for c10::Error", "c10::Error"),
    ],
)
def test_the_qualified_name(plain: str, name: str) -> None:
    assert qualified(plain) == name


def test_namesakes_of_a_real_library(tmp_path: Path) -> None:
    (tmp_path / "lib.cpp").write_text(
        """
        #include <ostream>
        #include <string>
        namespace c10 {
        struct T { virtual ~T(); T(int); template <class V> V get() const; };
        T::T(int) {}
        T::~T() {}
        template <> float T::get<float>() const { return 0; }
        void f(const std::string&) {}
        void f(int) {}
        std::string name() { return {}; }
        void names(int) {}
        std::ostream& operator<<(std::ostream& out, const T&) { return out; }
        }
        """
    )
    library = tmp_path / "lib.so"
    words = [
        program("g++"),
        "-shared",
        "-fPIC",
        "-D_GLIBCXX_USE_CXX11_ABI=1",
        str(tmp_path / "lib.cpp"),
        "-o",
        str(library),
    ]
    subprocess.run(words, check=True, timeout=60)
    text = "std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char> >"
    with ElfFile.open(library) as elf:

        def kinds(name: str) -> list[tuple[bool, bool]]:
            symbol = Symbol(name, mangled=name.startswith("_Z"))
            return [(found.same, found.exact) for found in namesakes(symbol, elf)]

        assert kinds(f"c10::f({text} const&)") == [(True, True), (False, False)]
        assert kinds(f"c10::f({text.replace('> >', '>>')} const&)")[0] == (True, True)
        assert kinds("c10::f(std::string const&)") == [(True, False), (False, False)]
        assert kinds("_ZN3c101fERKSs") == [(True, False), (False, False)]
        assert kinds("c10::f(char)") == [(False, False), (False, False)]
        assert kinds("c10::name()") == kinds("_ZN3c104nameEv") == [(True, False)]
        assert kinds("c10::nam(int)") == kinds("c10::none()") == kinds("mine::f(int)") == []
        assert (True, True) in kinds("c10::T::T(int)")
        assert (True, True) in kinds("c10::T::~T()")
        assert kinds("float c10::T::get<float>() const") == [(True, True)]
        assert kinds("vtable for c10::T") == [(True, True)]
        assert kinds("c10::operator<<(std::ostream&, c10::T const&)") == [(True, True)]


@pytest.mark.parametrize(
    "name", ["", "(", "~", "<>", "::", "_Z", "_ZN", "_ZN99999c10", "c10::", "c10::<(", "operator"]
)
def test_broken_names(name: str) -> None:
    symbol = Symbol(name, mangled=name.startswith("_Z"))
    pattern_of(symbol)
    qualified(name)
    assert string_of(symbol) is None


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (
            "./app: error while loading shared libraries: libc10.so: cannot open shared object file",
            "libc10.so",
        ),
        (
            "ImportError: libcudart.so.12: cannot open shared object file: No such file or directory",
            "libcudart.so.12",
        ),
        ("/usr/bin/ld: cannot find -ltorch_cpu: No such file or directory", "libtorch_cpu.so"),
        ("ld.lld: error: unable to find library -lc10", "libc10.so"),
        (
            "ld: warning: libcudnn.so.8, needed by /a/libtorch_cuda.so, not found (try using -rpath)",
            "libcudnn.so.8",
        ),
        ("dyld[1]: Library not loaded: @rpath/libc10.dylib", "libc10.dylib"),
        ("\tlibc10.so => not found", "libc10.so"),
        (
            "make: *** No rule to make target '/opt/libtorch/lib/libc10.so', needed by 'app'.  Stop.",
            "libc10.so",
        ),
        ("ld: library 'torch_cpu' not found", "libtorch_cpu.so"),
    ],
)
def test_the_missing_library_of_a_line(line: str, name: str) -> None:
    assert list(missing_libraries([line])) == [name]


@pytest.mark.parametrize(
    ("name", "string"),
    [
        ("_ZN3c105ErrorC1ENS_14SourceLocationESs", "old"),
        ("_ZN3c104DessEv", None),
        ("_ZN3c104nameB5cxx11Ev", "new"),
        ("_ZN3c101fERKNSt3__112basic_stringIcNS1_11char_traitsIcEENS1_9allocatorIcEEEE", "libc++"),
        ("c10::f(std::string const&)", "old"),
        ("c10::f(std::__1::basic_string<char> const&)", "libc++"),
        ("c10::f(int)", None),
    ],
)
def test_whose_string_a_symbol_has(name: str, string: str | None) -> None:
    assert string_of(Symbol(name, mangled=name.startswith("_Z"))) == string
