"""The reference loader itself: its declarations are torch's, it survives what models do, it works by hand."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.conftest import run_clean
from torchlink.compilation.loader import build_loader
from torchlink.compilation.recipe import source_dir
from torchlink.emit import cxx
from torchlink.libtorch.inspect import inspect
from torchlink.paths import data_dir
from torchlink.plan import make_plan
from torchlink.toolchain.compiler import find_compiler

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.plan import LinkPlan

pytestmark = pytest.mark.compile
TINY = data_dir("templates") / "loader" / "tiny.pt"

# Declared in model.h and unchanged.h to be compiled in half the time; torch's own headers must say the same.
DECLARATIONS = """
#define LOADER_FULL_HEADERS
#include <ATen/CPUGeneratorImpl.h>
#include "loader.cpp"
#include <type_traits>
namespace jit = torch::jit;
static_assert(sizeof(jit::Module) <= sizeof(ObjectPtr) + 63 * sizeof(void*), "LoadedModule has room for Module");
static_assert(!std::is_polymorphic<jit::Module>::value && !std::is_trivially_copyable<jit::Module>::value, "");
static_assert(sizeof(jit::Object) == sizeof(ObjectPtr), "Module begins with its object");
const auto load = static_cast<jit::Module (*)(const std::string&, std::optional<c10::Device>, bool)>(&jit::load);
const auto graph = static_cast<std::shared_ptr<jit::Graph> (jit::GraphFunction::*)() const>(
    &jit::GraphFunction::optimized_graph);
const auto text = static_cast<std::string (jit::Graph::*)(bool) const>(&jit::Graph::toString);
const auto cast = static_cast<jit::GraphFunction& (*)(jit::Function&)>(&jit::toGraphFunction);
static_assert(sizeof(jit::Code) == sizeof(std::shared_ptr<void>), "Code is one shared pointer");
static_assert(std::is_constructible<jit::Code, const std::shared_ptr<jit::Graph>&, std::string, size_t>::value, "");
const auto table =
    static_cast<const std::vector<c10::IValue>& (jit::Code::*)() const>(&jit::Code::constant_table);
"""


@pytest.fixture(scope="module")
def plan(torch_root: Path) -> LinkPlan:
    return make_plan(inspect(torch_root, found_by="test"), compiler=find_compiler())


@pytest.fixture(scope="module")
def loader(plan: LinkPlan) -> Path:
    return build_loader(plan, find_compiler()).path


def events(loader: Path, *commands: str) -> list[dict[str, object]]:
    """What `loader --serve` answers."""
    done = subprocess.run(
        [loader, "--serve"],
        input="".join(f"{line}\n" for line in commands),
        env={},
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_its_own_declarations_are_those_of_torch(plan: LinkPlan, loader: Path, tmp_path: Path) -> None:
    source = tmp_path / "full.cpp"
    source.write_text(DECLARATIONS)
    command = ["c++", source, "-o", "full", f"-I{source_dir()}", *cxx.flags(plan)]
    done = subprocess.run(
        [str(word) for word in command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    ask = (f"load cpu {TINY}", "describe", "forward 1 tensor float32 1x4 randn:7")
    both = [events(program, *ask) for program in (loader, tmp_path / "full")]
    assert both[0][1] == both[1][1]
    assert both[0][2]["outputs"] == both[1][2]["outputs"]


def test_it_runs_by_hand(loader: Path) -> None:
    done = run_clean(loader, TINY, "tensor", "float32", "1x4", "ones")
    assert done.returncode == 0, done.stderr
    assert '"values":[2.5,-0.75]' in done.stdout
    assert "loaded on cpu" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), 2),
        (("--help",), 2),
        (("/nonexistent.pt",), 1),
        ((TINY, "tensor", "float32", "1x5", "ones"), 1),
        ((TINY, "tensor"), 1),
    ],
)
def test_by_hand_it_says_what_is_wrong(loader: Path, arguments: tuple[str, ...], code: int) -> None:
    done = run_clean(loader, *arguments)
    assert done.returncode == code
    assert done.stderr.strip()
    assert "terminate called" not in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "",
        "nonsense",
        "forward",
        "forward 1",
        "forward x",
        "forward -1",
        "forward 99999999999",
        "forward 1 tensor float32 1x4",
        "forward 1 tensor float33 1x4 ones",
        "forward 1 tensor float32 1xx4 ones",
        "forward 1 tensor float32 -1 ones",
        "forward 1 tensor float32 9999999x9999999 ones",
        "forward 1 tensor float32 1x4 twos",
        "forward 1 tensor float32 1x4 rand",
        "forward 1 tensor float32 1x4 randint:3:3:1",
        "forward 1 tensor float32 1x4 full:x",
        "forward 1 tensor float32 1x4 file:0:4x1:/nonexistent",
        f"forward 1 tensor float32 1000x1000 file:0:1000x1:{TINY}",
        f"forward 1 tensor float32 2x4 file:0:-4x1:{TINY}",
        f"forward 1 tensor float32 2x4 file:0:9999999999999x1:{TINY}",
        f"forward 1 tensor float32 1x4 file:-8:4x1:{TINY}",
        "forward 1 tensor float32 1x4 ones 3",
        "forward 1 list int 2 int 1",
        "forward 1 list Tensor 0",
        "forward 1 dict 1 str a",
        "compare float32 1x2 0 2x1 /nonexistent float32 1x2 0 2x1 /nonexistent 0 0",
        f"compare float32 1x2 0 2x1 {TINY} float32 2 0 1 {TINY} 0 0",
        f"compare float32 1x2 0 2x1 {TINY} float32 1x2 0 1 {TINY} 0 0",
        f"compare float32 1x2 -8 2x1 {TINY} float32 1x2 0 2x1 {TINY} 0 0",
        f"compare float32 999999 0 1 {TINY} float32 999999 0 1 {TINY} 0 0",
        "save again /nonexistent/raw",
        "load cpu /nonexistent.pt",
        "load tpu x",
    ],
)
def test_a_bad_command_is_answered_and_the_next_one_works(loader: Path, command: str) -> None:
    bad, good = events(loader, f"load cpu {TINY}", command, f"load cpu {TINY}")[1:]
    assert bad["event"] == "error"
    assert bad["message"]
    assert good["event"] == "loaded"


def test_commands_before_a_model_is_loaded_are_errors(loader: Path) -> None:
    assert [event["event"] for event in events(loader, "describe", "forward 0", "save outputs x")] == [
        "error"
    ] * 3


def test_random_numbers_are_those_of_their_seed(loader: Path) -> None:
    ask = [f"forward 1 tensor float32 1x4 randn:{seed}" for seed in (1, 1, 2)]
    outputs = [event["outputs"] for event in events(loader, f"load cpu {TINY}", *ask)[1:]]
    assert outputs[0] == outputs[1] != outputs[2]


@pytest.mark.parametrize(
    ("header", "interface"),
    [
        ("ATen/core/class_type.h", "111"),
        ("torch/csrc/jit/api/module.h", "105"),
        ("ATen/core/List.h", "102"),
        (None, "101"),
    ],
)
def test_the_headers_tell_which_interface_a_libtorch_has(
    tmp_path: Path, header: str | None, interface: str
) -> None:
    included = re.findall(r"#include <((?:ATen|c10|torch)/[^>]+)>", (source_dir() / "api.h").read_text())
    for name in (*included, header):
        if name:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
    command = ["c++", "-std=c++11", "-E", "-dM", f"-I{tmp_path}", "-x", "c++", str(source_dir() / "api.h")]
    macros = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert re.findall(r"#define LOADER_API (\d+)", macros) == [interface]
