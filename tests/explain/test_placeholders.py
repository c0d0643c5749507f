"""Values in the commands of fixes are quoted for the language that the command is in."""

from __future__ import annotations

import shlex

import pytest

from torchlink.explain.placeholders import command, filled

ROOT = "/opt/my libs/it's $(torch)"
KNOWN = {"root": ROOT, "lib": "/opt/lib", "standard": "17"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("g++ -I{root}/include main.cpp", ["g++", f"-I{ROOT}/include", "main.cpp"]),
        ("g++ -Wl,-rpath,{root} -std=c++{standard}", ["g++", f"-Wl,-rpath,{ROOT}", "-std=c++17"]),
        ("cmake -S . -DCMAKE_PREFIX_PATH={root}", ["cmake", "-S", ".", f"-DCMAKE_PREFIX_PATH={ROOT}"]),
        ('g++ "-L{root}"', ["g++", f"-L{ROOT}"]),
        ("g++ '{root}'", ["g++", ROOT]),
        ('g++ "{root}" x', ["g++", ROOT, "x"]),
    ],
)
def test_a_shell_gets_one_word(text: str, words: list[str]) -> None:
    for target in ("c++", "cmake", "any"):
        assert shlex.split(command(text, target, KNOWN)) == words


def test_what_is_unknown_has_a_name() -> None:
    assert (
        command("pip install torch=={version} {python}", "pip", {}) == "pip install torch==<version> <python>"
    )
    assert command("set(X ${TORCH_LIBRARIES} ${root})", "cmake", KNOWN) == "set(X ${TORCH_LIBRARIES} ${root})"
    assert filled("The headers are in {root}, as {none}", KNOWN) == f"The headers are in {ROOT}, as <none>"


def test_cmake_code() -> None:
    value = 'a"b$c\\d'
    known = {"root": value}
    quoted = '"a\\"b\\$c\\\\d"'
    assert command("list(APPEND CMAKE_PREFIX_PATH {root})", "cmake", known) == (
        f"list(APPEND CMAKE_PREFIX_PATH {quoted})"
    )
    assert command('set(X "{root}/lib")', "cmake", known) == f'set(X {quoted[:-1]}/lib")'


def test_windows() -> None:
    known = {"lib": r"C:\Program Files\torch\lib"}
    assert command("link /LIBPATH:{lib}", "windows", known) == r'link /LIBPATH:"C:\Program Files\torch\lib"'
    assert command("link {lib}", "windows", {"lib": "50%"}) == "link <lib>"


def test_the_files_of_the_log_replace_those_of_the_sample() -> None:
    known = {"source": "my file.cu", "model": "w.pt", "program": "./b", "extension": "/a/b.so"}
    assert command("torchlink c++ main.cpp -o app", "c++", known) == "torchlink c++ 'my file.cu' -o app"
    assert command("torchlink verify model.pt; ls -l model.pt", "any", known) == (
        "torchlink verify w.pt; ls -l w.pt"
    )
    assert command("torchlink run -- ./app", "any", known) == "torchlink run -- ./b"
    assert command("torchlink lint FILE.so", "any", known) == "torchlink lint /a/b.so"
    for code in ('torch::jit::load("model.pt")', 'model.load(torch.load("model.pt"))', "g++ src/main.cpp"):
        assert command(code, "any", known) == code
    assert (
        command("torchlink c++ main.cpp", "c++", {"source": "{root}.cpp", "root": "/"})
        == "torchlink c++ main.cpp"
    )
