"""The compiler that the user names is found, probed once, and refused if it does not work."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.conftest import unmet
from torchlink.errors import ToolMissingError, ToolUnfitError, UsageError
from torchlink.paths import cache_dir
from torchlink.toolchain.compiler import find_compiler
from torchlink.toolchain.tools import find_tool, read_version

pytestmark = pytest.mark.compile


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is remembered from elsewhere."""
    monkeypatch.setenv("TORCHLINK_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("CXX", raising=False)


def real_compiler() -> str:
    found = shutil.which("c++")
    assert found
    return found


class Wrapper:
    """A compiler that writes down how often it was started."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / "my c++"
        self.log = directory / "log"
        self.install()

    def install(self, comment: str = "") -> None:
        self.path.write_text(f'#!/bin/sh\n# {comment}\necho x >> "{self.log}"\nexec {real_compiler()} "$@"\n')
        self.path.chmod(0o755)

    @property
    def starts(self) -> int:
        return self.log.read_text().count("x") if self.log.exists() else 0


@pytest.fixture
def wrapper(tmp_path: Path) -> Wrapper:
    return Wrapper(tmp_path / "tools with space")


def test_without_a_name_it_is_cxx_of_the_path() -> None:
    compiler = find_compiler()
    assert compiler.command == ("c++",)
    assert compiler.path == Path(real_compiler())
    assert compiler.platform in {"linux", "macos"}
    assert compiler.version >= (4,)
    assert 17 in compiler.standards


def test_the_environment_names_it_with_launchers_and_options(monkeypatch: pytest.MonkeyPatch) -> None:
    if not shutil.which("ccache"):
        unmet("ccache")
    monkeypatch.setenv("CXX", "ccache c++ -O1")
    compiler = find_compiler()
    assert compiler.command == ("ccache", "c++", "-O1")
    assert compiler.path == Path(real_compiler())


def test_a_link_to_a_launcher_counts_as_its_compiler(tmp_path: Path) -> None:
    ccache = shutil.which("ccache")
    if not ccache:
        unmet("ccache")
    link = tmp_path / "c++"
    link.symlink_to(ccache)
    compiler = find_compiler(str(link))
    assert compiler.path == link
    assert compiler.identity == find_compiler().identity


def test_a_path_with_spaces_needs_no_quotes(wrapper: Wrapper) -> None:
    assert find_compiler(str(wrapper.path)).path == wrapper.path
    assert find_compiler(f"'{wrapper.path}' -O1").command == (str(wrapper.path), "-O1")


def test_it_is_probed_once(wrapper: Wrapper) -> None:
    first = find_compiler(str(wrapper.path))
    assert find_compiler(str(wrapper.path)) == first
    assert wrapper.starts == 1


def test_it_is_probed_again_when_the_program_or_its_options_change(wrapper: Wrapper) -> None:
    first = find_compiler(str(wrapper.path))
    wrapper.install("another one")
    assert find_compiler(str(wrapper.path)).identity != first.identity
    find_compiler(f"'{wrapper.path}' -O1")
    assert wrapper.starts == 3


@pytest.mark.parametrize("harm", ["", "{", "[]", '{"form": 1}', '{"form": 1, "key": "other", "answer": {}}'])
def test_a_damaged_cache_is_ignored(wrapper: Wrapper, harm: str) -> None:
    first = find_compiler(str(wrapper.path))
    for file in (cache_dir() / "toolchain").iterdir():
        file.write_text(harm)
    assert find_compiler(str(wrapper.path)) == first
    assert find_compiler(str(wrapper.path)) == first
    assert wrapper.starts == 2


def test_a_cache_that_cannot_be_written_is_ignored(
    wrapper: Wrapper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TORCHLINK_CACHE_DIR", str(tmp_path / "file" / "cache"))
    find_compiler(str(wrapper.path))
    assert find_compiler(str(wrapper.path)).kind in {"gcc", "clang", "apple-clang"}
    assert wrapper.starts == 2


@pytest.mark.parametrize("command", ["no-such-compiler", "ccache no-such-compiler", "''", "/etc"])
def test_a_missing_one_is_an_error_that_names_it(command: str) -> None:
    with pytest.raises(ToolMissingError, match=r"which is not a program on PATH"):
        find_compiler(command)


def test_a_wrong_cxx_is_an_error_and_not_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ToolMissingError, match=r"\$CXX names no-such-compiler"):
        find_compiler()


def test_no_compiler_at_all_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissingError, match=r"No C\+\+ compiler") as caught:
        find_compiler()
    assert "apt install g++" in caught.value.hint


def test_another_program_is_not_a_compiler() -> None:
    with pytest.raises(ToolUnfitError, match="does not behave like"):
        find_compiler("cat")


def test_a_command_with_an_open_quote_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="not a command"):
        find_compiler("g++ 'open")


def test_clang_with_libcxx_is_distinguished_from_clang_with_libstdcxx() -> None:
    if not shutil.which("clang++"):
        unmet("clang++")
    assert find_compiler("clang++").kind == "clang"
    assert find_compiler("clang++").standard_library == "libstdc++"
    try:
        compiler = find_compiler("clang++ -stdlib=libc++")
    except ToolUnfitError:
        unmet("libc++")
    assert compiler.standard_library == "libc++"
    assert compiler.default_cxx11_abi is None


def test_a_foreign_locale_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("LANGUAGE", "de")
    compiler = find_compiler()
    assert compiler.include_dirs
    assert compiler.target != "unknown"


def test_what_the_environment_adds_to_the_search_list_is_not_the_compilers_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CPATH", "CPLUS_INCLUDE_PATH"):
        monkeypatch.setenv(name, str(tmp_path))
    assert str(tmp_path) not in find_compiler().include_dirs


def test_tools_are_found_with_their_versions() -> None:
    tool = find_tool("cat")
    assert tool is not None
    assert tool.path == Path(shutil.which("cat") or "")
    assert len(tool.version) >= 2
    assert find_tool("cat") == tool
    assert find_tool("no-such-tool") is None


def test_a_tool_by_another_program_name_keeps_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "pkgconf"
    program.write_text("#!/bin/sh\necho 2.1.0\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin-that-is-not-there")
    tool = find_tool("pkg-config")
    assert tool is not None
    assert (tool.name, tool.path, tool.version) == ("pkg-config", program, (2, 1, 0))


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("cmake version 3.25.1\n\nCMake suite", (3, 25, 1)),
        ("Nim Compiler Version 1.6.10 [Linux: amd64]", (1, 6, 10)),
        ("1.11.1", (1, 11, 1)),
        ("mold 1.10.1 (compatible with GNU ld)", (1, 10, 1)),
        ("no number", ()),
    ],
)
def test_versions_are_read_from_what_programs_print(text: str, version: tuple[int, ...]) -> None:
    assert read_version(text) == version
