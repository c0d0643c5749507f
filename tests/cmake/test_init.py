"""`torchlink cmake init` writes a project that builds at once, and overwrites nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.cmake.toy import built, configured, dynamic
from tests.conftest import REPOSITORY, run_clean
from tests.fake_libtorch import fake_libtorch
from tests.libtorch.test_packed import pack
from tests.libtorch.trees import Fake, make
from torchlink.errors import UsageError
from torchlink.plan import make_plan
from torchlink.projects.cmake import ProjectTools, presets, project, user_presets

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result

COMMITTED = {"CMakeLists.txt", "CMakePresets.json", "main.cpp", ".gitignore"}
FILES = COMMITTED | {"CMakeUserPresets.json"}
MODEL = REPOSITORY / "templates/loader/tiny.pt"


@pytest.mark.cmake
@pytest.mark.compile
def test_the_project_builds_and_runs_by_preset(
    torch_root: Path, tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    directory = tmp_path / "my app ü"
    done = torchlink("cmake", "init", directory, "--libtorch", torch_root)
    assert done.code == 0, done.err
    assert {path.name for path in directory.iterdir()} == FILES | {".torchlink"}
    assert f"cmake --preset default -S '{directory}'" in done.err
    configured(directory, "--preset", "default")
    built(directory)
    ran = run_clean(directory / "build/app", MODEL)
    assert ran.returncode == 0, ran.stderr
    assert "CPUFloatType" in ran.stdout
    found = dynamic(directory / "build/app")
    assert sorted(found["NEEDED"]) == ["libc10.so", "libtorch_cpu.so"]
    assert found["RUNPATH"] == [str(torch_root / "lib")]
    install = ("cmake", "--install", str(directory / "build"), "--prefix", str(tmp_path / "there"))
    subprocess.run(install, check=True, capture_output=True)
    assert run_clean(tmp_path / "there/bin/app", MODEL).returncode == 0


@pytest.mark.cmake
def test_it_configures_without_a_preset_as_well(
    torch_root: Path, tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    assert torchlink("cmake", "init", tmp_path, "--name", "tool", "--libtorch", torch_root).code == 0
    assert "Found Torch" in configured(tmp_path)


def test_no_committed_file_names_a_path_of_the_machine(
    torch_root: Path, tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    done = torchlink("cmake", "init", tmp_path, "--libtorch", torch_root, "--json")
    said = json.loads(done.out)
    assert (said["schema"], said["prefix"]) == (1, str(tmp_path / ".torchlink"))
    assert {path.rpartition("/")[2] for path in said["files"]} == FILES
    for name in COMMITTED:
        text = (tmp_path / name).read_text()
        assert str(torch_root) not in text
        assert str(tmp_path) not in text
    assert "/.torchlink/" in (tmp_path / ".gitignore").read_text()


@pytest.mark.compile
def test_a_libtorch_too_old_for_the_example_gets_a_program_of_its_own(
    tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    old = Fake(version="1.1.0", headers="1.1.0", built="1.1.0", cmake="1.1.0")
    done = torchlink("cmake", "init", tmp_path / "app", "--libtorch", make(tmp_path / "torch", old))
    assert done.code == 0, done.err
    assert "torch::jit::script::Module" in (tmp_path / "app/main.cpp").read_text()
    assert torchlink("cmake", "init", tmp_path / "new", "--libtorch", make(tmp_path / "torch2")).code == 0
    assert (tmp_path / "new/main.cpp").read_text() == (REPOSITORY / "examples/cpp/main.cpp").read_text()


def test_nothing_of_the_users_is_overwritten(
    torch_root: Path, tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    init = ("cmake", "init", tmp_path, "--libtorch", torch_root)
    assert torchlink(*init).code == 0
    assert torchlink(*init).code == 0  # what stands there is what would be written
    (tmp_path / "main.cpp").write_text("int main() {}\n")
    refused = torchlink(*init, "--name", "other")
    assert refused.code == 2
    assert "main.cpp" in refused.err
    assert "project(app" in (tmp_path / "CMakeLists.txt").read_text()
    assert torchlink(*init, "--force").code == 0
    assert "torch" in (tmp_path / "main.cpp").read_text()


@pytest.mark.compile
@pytest.mark.parametrize("machine", [b"\x3e", b"\xb7"], ids=["x86_64", "aarch64"])
def test_a_packed_libtorch_is_refused_whatever_its_machine_and_nothing_stays_behind(
    machine: bytes, tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    root = make(tmp_path / "site/torch")
    for library in root.glob("lib/*.so"):
        content = bytearray(library.read_bytes())
        content[18:19] = machine
        library.write_bytes(content)
    wheel = pack(tmp_path / "site", tmp_path / "torch.whl")
    commands = (("cmake", "init", "new"), ("nim", "init", "new"), ("cmake", "prefix"), ("cmake", "dir"))
    for command in (*commands, ("cmake", "configure", "--show")):
        words = [str(tmp_path / word) if word == "new" else word for word in command]
        done = torchlink(*words, "--libtorch", wheel)
        assert done.code == 2, command
        assert "not extracted" in done.err
        assert f"torchlink extract {wheel} DIR" in done.err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["torch", "test", "all", "two words", "", "-x", "a;b", "ä"])
def test_a_name_that_cannot_be_a_target_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name"):
        project(
            make_plan(fake_libtorch(tmp_path)), ProjectTools((3, 25), "Ninja", None), {"main.cpp": ""}, name
        )


def test_the_committed_presets_name_no_tool_and_those_of_the_machine_do() -> None:
    committed = json.loads(presets(precompiled_header=True))
    local = json.loads(user_presets(ProjectTools((4, 1), "Ninja", "ccache")))
    bare = json.loads(user_presets(ProjectTools((3, 25), "Unix Makefiles", None)))
    assert [each["name"] for each in committed["configurePresets"]] == ["default", "pch"]
    assert [each["configurePreset"] for each in committed["buildPresets"]] == ["default", "pch"]
    assert all(
        each["jobs"] > 1 for each in committed["buildPresets"]
    )  # make alone compiles one file at a time
    assert "jobs" not in local["buildPresets"][0]  # Ninja knows the machine
    assert not {"generator", "toolset"} & {name for each in committed["configurePresets"] for name in each}
    assert "CMAKE_CXX_COMPILER_LAUNCHER" not in json.dumps(committed)
    (own,) = local["configurePresets"]
    assert (own["name"], own["inherits"], own["generator"]) == ("local", "default", "Ninja")
    assert own["cacheVariables"] == {"CMAKE_CXX_COMPILER_LAUNCHER": "ccache"}
    assert "cacheVariables" not in bare["configurePresets"][0]


@pytest.mark.cmake
def test_a_clone_configures_by_preset_once_its_prefix_is_made(
    torch_root: Path, tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    """As git leaves it: without what .gitignore names, and on a machine without Ninja and ccache."""
    assert torchlink("cmake", "init", tmp_path / "a", "--libtorch", torch_root).code == 0
    ignored = {line.strip("/") for line in (tmp_path / "a/.gitignore").read_text().splitlines()}
    assert ignored >= {".torchlink", "CMakeUserPresets.json", "build", "build-local", "build-pch"}
    assert not ignored & COMMITTED
    (tmp_path / "b").mkdir()
    for name in COMMITTED:
        shutil.copy(tmp_path / "a" / name, tmp_path / "b" / name)
    prefix = ("cmake", "prefix", "--output", tmp_path / "b/.torchlink", "--libtorch", torch_root)
    assert torchlink(*prefix).code == 0
    configured(tmp_path / "b", "--preset", "default")
    configured(tmp_path / "a", "--preset", "local")
    assert not list((tmp_path / "b").rglob("cmake_pch.hxx"))
    configured(tmp_path / "b", "--preset", "pch")
    assert list((tmp_path / "b").rglob("cmake_pch.hxx"))


@pytest.mark.parametrize("name", ["semi;colon", "back\\slash", 'quo"te', "new\nline", "sq[uare"])
def test_a_directory_that_cmake_cannot_work_in_is_refused(
    torch_root: Path,
    tmp_path: Path,
    torchlink: Callable[..., Result],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = tmp_path / name
    for words in (
        ("init", place),
        ("prefix", "-o", place),
        ("configure", "-S", place),
        ("configure", f"-B{place}"),
        ("configure", place),
        ("configure", "-D", "A=B", "-G", "Ninja", place),
        ("configure", f"-H{place}"),
    ):
        done = torchlink("cmake", *words, "--libtorch", torch_root)
        assert done.code == 2, words
        assert "CMake cannot work in" in done.err
    monkeypatch.setenv("TORCHLINK_CACHE_DIR", str(place))
    assert "CMake cannot work in" in torchlink("cmake", "dir", "--libtorch", torch_root).err
    assert not place.exists() or not list(place.rglob("*.cmake"))
    monkeypatch.setenv("TORCHLINK_CACHE_DIR", str(tmp_path / "cache"))
    place.mkdir(exist_ok=True)
    monkeypatch.chdir(place)
    monkeypatch.setenv("PWD", str(place))
    for line in ("configure", "configure --preset default", "configure -S app", "configure ..", "init"):
        done = torchlink("cmake", *line.split(), "--libtorch", torch_root)
        assert done.code == 2, line
        assert "CMake cannot work in" in done.err
    elsewhere = ("-S", str(tmp_path), "-B", str(tmp_path / "b"))
    assert torchlink("cmake", "configure", *elsewhere, "--show", "--libtorch", torch_root).code == 0
    (tmp_path / "link").symlink_to(place)
    monkeypatch.setenv("PWD", str(tmp_path / "link"))  # CMake trusts it
    assert torchlink("cmake", "configure", "--show", "--libtorch", torch_root).code == 0
    assert torchlink("cmake", "init", "../fine", "--libtorch", torch_root).code == 0


@pytest.mark.cmake
def test_a_moved_project_builds_on_its_new_place(
    torch_root: Path, tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    assert torchlink("cmake", "init", tmp_path / "a", "--libtorch", torch_root).code == 0
    shutil.move(tmp_path / "a", tmp_path / "b")
    configured(tmp_path / "b", "--preset", "default")
