"""Which fixes of a cause are shown, and what the log and the failed command put into them."""

from __future__ import annotations

import io
import shlex
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from torchlink.explain import causes
from torchlink.explain.commands import repeats, values_of
from torchlink.explain.explanation import Found, explain
from torchlink.explain.facts import MachineFacts

HEADER = "ops.cpp:1:10: fatal error: torch/torch.h: No such file or directory\n"
UNDEFINED = (
    "/usr/bin/ld: /tmp/ccXs4gQe.o: in function `main':\n"
    "my app.cpp:(.text+0x5): undefined reference to `at::get_num_threads()'\n"
)
NOT_LOADED = "libtorch_cpu.so: cannot open shared object file: No such file or directory\n"
IMPORT = (
    f'Traceback (most recent call last):\n  File "<string>", line 1, in <module>\nImportError: {NOT_LOADED}'
)
UNSCRIPTED = "  what():  PytorchStreamReader failed locating file constants.pkl: file not found.\n"


def found_in(log: str, command: str = "", *, facts: bool = True) -> Found:
    words = shlex.split(command)
    machine = MachineFacts(here=bool(words), command=words) if facts else None
    (found,) = explain([("log", io.BytesIO(log.encode()))], machine).causes
    return found


def shown(found: Found) -> list[tuple[str, str]]:
    return [(fix.target, fix.command) for fix in found.fixes[: found.fitting]]


@pytest.mark.parametrize(
    ("failed", "fix", "same"),
    [
        ("torchlink c++ -c nh.cpp", "torchlink c++ -c nh.cpp", True),
        ("python3 -m torchlink c++ lk.cpp -o lk", "torchlink c++ lk.cpp -o app", True),
        ("/opt/bin/torchlink c++ -O2 -std=c++20 a.cpp", "torchlink c++ -c a.cpp", True),
        ("torchlink c++ a.cpp -o app", "torchlink c++ --cpu a.cpp -o app", False),
        ("torchlink c++ a.cpp", "torchlink c++ --compiler g++-12 a.cpp", False),
        ("torchlink c++ --compiler g++ a.cpp", "torchlink c++ --compiler g++-12 a.cpp", False),
        ("torchlink cmake configure -S cm -B b2", "torchlink cmake configure -S . -B build", True),
        ("torchlink cmake configure -S . -B b", "torchlink cmake configure -S . -B b -DX=1", False),
        ("torchlink cmake init app", "torchlink cmake configure -S . -B build", False),
        ("torchlink verify a.pt", "torchlink verify model.pt", True),
        ("torchlink run -- ./app x", "torchlink run -- ./app", True),
        ("./app", "torchlink run -- ./app", False),
        ("g++ main.cpp -o app", "torchlink c++ main.cpp -o app", False),
        ("g++ -isystem /t/include -c a.cpp", "g++ -isystem /u/include -c a.cpp", False),
        ("g++ -isystem /t/include -O2 -c a.cpp", "g++ -isystem /t/include -c a.cpp", True),
        ("cmake -S . -B build", "cmake -S . -B build -DTorch_DIR=/t", False),
        ("pip install ext", "pip install torch", False),
        ("pip install torch", "pip install torch", True),
        ("cmake --build build", "cmake -S . -B build", False),
        ("nim c main.nim", "nim cpp main.nim", False),
        ("torchlink flags --nim", "torchlink flags --nim >> nim.cfg", False),
        ("", "torchlink c++ a.cpp", False),
    ],
)
def test_a_fix_may_repeat_the_command_that_failed(failed: str, fix: str, *, same: bool) -> None:
    assert repeats(shlex.split(failed), fix) is same


def test_the_command_that_failed_is_no_fix(torch_root: Path) -> None:
    log = HEADER.replace("ops.cpp", f"{torch_root}/../ops.cpp")
    assert any(command.startswith("torchlink c++ -c ") for _, command in shown(found_in(log, "make")))
    again = found_in(log, "torchlink c++ -O2 -c main.cpp")
    assert not any(fix.command.startswith("torchlink c++") for fix in again.fixes)
    assert again.fixes
    assert again.fitting


def test_no_fix_overwrites_or_removes_files() -> None:
    for name in causes.ids():
        for fix in causes.load(name).fixes:
            words = fix.command.split()
            targets = {after for word, after in pairwise(words) if word == ">"}
            assert all(f"mkdir {Path(each).parent} &&" in fix.command for each in targets), name
            assert "rm -" not in fix.command, name
            assert not fix.command.startswith("torchlink flags --nim") or ">> nim.cfg" in fix.command, name


def test_a_link_of_one_step_is_repeated_with_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ("c++", "torchlink c++ main.cpp -o app") in shown(found_in(UNDEFINED))
    Path("my app.cpp").touch()
    log = UNDEFINED.replace("my app", "app")
    Path("app.cpp").touch()
    assert ("c++", "torchlink c++ app.cpp -o app") in shown(found_in(log))
    command = "g++ -O2 'my app.cpp' other.o -o out/prog"
    assert ("c++", "torchlink c++ 'my app.cpp' other.o -o out/prog") in shown(found_in(log, command))
    log = UNDEFINED.replace("my app.cpp", "app.o")
    Path("app.o").touch()
    assert ("c++", "torchlink c++ app.o -o app") in shown(found_in(log))


def test_an_extension_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    log = "ImportError: /build/ext.cpython-311-x86_64-linux-gnu.so: undefined symbol: THPVariable_Wrap\n"
    suffix = "$(python3-config --extension-suffix)"
    command = "torchlink c++ --python-extension --tensors"
    assert ("c++", f"{command} module.cpp -o ext{suffix}") in shown(found_in(log))
    Path("ext.cpp").touch()
    found = found_in(log)
    assert ("c++", f"{command} ext.cpp -o ext{suffix}") in shown(found)
    assert found.fixes[0].target == "python"


def test_python_gets_the_fixes_of_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pasted = shown(found_in(IMPORT))
    assert pasted[0][0] == "python"
    assert not any("./app" in command for _, command in pasted)
    command = "python3.11 -c 'import ext'"
    assert ("any", f"torchlink run -- {command}") in shown(found_in(IMPORT, command))
    assert not any("./app" in each for _, each in shown(found_in(IMPORT, command)))
    started = found_in(f"./app: error while loading shared libraries: {NOT_LOADED}")
    assert shown(started)[0] == ("any", "torchlink run -- ./app")
    started = found_in(f"./b: error while loading shared libraries: {NOT_LOADED}", "./b --size 3")
    assert shown(started)[0] == ("any", "torchlink run -- ./b --size 3")


def test_the_interpreter_that_failed_gets_torch() -> None:
    log = "ModuleNotFoundError: No module named 'torch'\nlibtorch\n"
    facts = MachineFacts(here=True, command=["/usr/bin/python3", "-c", "import torch"])
    recognised = explain([("log", io.BytesIO(log.encode()))], facts).recognised
    assert "/usr/bin/python3 -m pip install torch" in recognised[0].next
    assert facts.python == "/usr/bin/python3"


def test_the_fix_that_repairs_a_model_is_shown() -> None:
    targets = [target for target, _ in shown(found_in(UNSCRIPTED))]
    assert targets[:2] == ["any", "python"]
    log = 'Traceback (most recent call last):\n  File "a.py", line 1, in <module>\n'
    log += "AssertionError: Torch not compiled with CUDA enabled\n"
    assert "pip" in [target for target, _ in shown(found_in(log))]


@pytest.mark.parametrize(
    ("named", "said"),
    [("/lib/x86_64-linux-gnu", False), ("/usr/lib/x86_64-linux-gnu", False), ("/opt/gcc-4", True)],
)
@pytest.mark.parametrize("facts", [True, False])
def test_the_library_that_is_too_old_is_not_preloaded(named: str, *, said: bool, facts: bool) -> None:
    log = f"./app: {named}/libstdc++.so.6: version `GLIBCXX_3.4.30' not found (required by /t/libtorch_cpu.so)\n"
    found = found_in(log, facts=facts)
    assert found.cause.id == "glibcxx-too-old"
    assert any(fix.command.startswith("LD_PRELOAD=") for fix in found.fixes) is said


@pytest.mark.parametrize(
    ("tool", "target"),
    [
        ("Hint: used config file '/etc/nim/nim.cfg' [Conf]\nnim cpp a.nim\ng++ -c @ma.nim.cpp\n", "nim"),
        ("error: failed to run custom build command for `torch-sys v0.17`\ncargo build\n", "rust"),
        ("# cgo: go build\n", "go"),
    ],
    ids=["nim", "rust", "go"],
)
def test_languages_that_call_the_compiler_get_their_own_fixes(tool: str, target: str) -> None:
    log = tool + "main.cpp:1: undefined reference to `at::get_num_threads()'\n"
    log = log if target != "go" else tool + HEADER
    found = found_in(log)
    assert found.fixes[0].target == target
    assert "c++" not in {each for each, _ in shown(found)}


@pytest.mark.parametrize(
    ("command", "source", "build"),
    [
        ("cmake -S cm -B cm/b2", "cm", "cm/b2"),
        ("cmake -Scm -Bb2 -DX=1 -G Ninja", "cm", "b2"),
        ("cmake ..", "..", "."),
        ("torchlink cmake configure -S cm -B b2", "cm", "b2"),
        ("torchlink cmake configure --libtorch /t -- -S cm -B b2", "cm", "b2"),
        ("cmake --preset release", None, None),
        ("cmake --build b2", None, "b2"),
        ("make", None, None),
    ],
)
def test_the_directories_of_cmake(command: str, source: str | None, build: str | None) -> None:
    found = values_of(shlex.split(command))
    assert (found.get("source_dir"), found.get("build_dir")) == (source, build)


def test_cmake_is_run_again_in_its_directories() -> None:
    log = 'CMake Error at CMakeLists.txt:3 (find_package):\n  By not providing "FindTorch.cmake" in CMAKE_MODULE_PATH\n'
    commands = [command for _, command in shown(found_in(log, "cmake -S 'my cm' -B b2"))]
    assert "torchlink cmake configure -S 'my cm' -B b2" in commands
    log = "CMake Error at CMakeLists.txt:1:\n  CMake 3.28 or higher is required.  You are running version 3.25.1\n"
    commands = [command for _, command in shown(found_in(log, "cmake -S cm -B b2/"))]
    assert any(command.endswith("torchlink cmake configure -S cm -B b2-new") for command in commands)


def test_the_target_is_that_of_the_log() -> None:
    log = 'CMake Error:\n  Target "net" links to target "Torch::Torch" but the target was not found.\n'
    assert ("cmake", 'target_link_libraries(net "${TORCH_LIBRARIES}")') in shown(found_in(log))


def test_an_interpreter_is_known_by_its_name() -> None:
    assert values_of([sys.executable, "a.py"])["interpreter"] == sys.executable
    assert "interpreter" not in values_of(["./python_app"])
