"""The flags build real programs, which run with an empty environment: compilers, linkers, odd paths."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.conftest import makes_programs, run_clean, unmet
from torchlink.emit import cxx, emit
from torchlink.emit.cxx import flags, response_file
from torchlink.errors import InexpressibleError
from torchlink.libtorch.facts import CompanionDir
from torchlink.libtorch.inspect import inspect
from torchlink.plan import PlanOptions, make_plan
from torchlink.toolchain.compiler import find_compiler

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torchlink.libtorch.facts import Libtorch

pytestmark = pytest.mark.compile

# One exported function whose name says the C++ ABI, and a header that costs nothing to compile.
SOURCE = """
#include <c10/macros/Macros.h>
#include <cstdio>
#include <string>
namespace at { C10_API std::string show_config(); }
int main() { std::puts(at::show_config().substr(0, 18).c_str()); }
"""
SAYS = "PyTorch built with\n"
ODD_NAMES = (
    "with space", "sq'uote", 'dq"uote', "dol$lar", "$$", "$(id)", "ha#sh", "# hash", "semi;colon", "per%cent",
    "back\\slash", "trailing\\", "ünïcödé", "-dash", "amp&", "(paren)", "tick`x", "ta\tb", "li\nne", "star*",
    "~tilde", "{a,b}", "com,ma", "@at", "ex!cl", "two  spaces",
)  # fmt: skip
# What a .pc file cannot carry through pkg-config.
PKG_CONFIG_CANNOT = ("li\nne", "com,ma", "{a,b}")
SHELL_CANNOT = ("ta\tb", "li\nne")
LINKERS = {"bfd": "ld.bfd", "gold": "ld.gold", "lld": "ld.lld", "mold": "mold"}


@pytest.fixture(scope="module")
def libtorch(torch_root: Path) -> Libtorch:
    return inspect(torch_root, found_by="test")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("link")
    (directory / "main.cpp").write_text(SOURCE)
    (directory / "empty.cpp").write_text("int main() {}\n")
    return directory


@pytest.fixture(scope="module")
def with_cuda(libtorch: Libtorch, tmp_path_factory: pytest.TempPathFactory) -> Libtorch:
    """The real libtorch next to a libtorch_cuda that only prints that it was loaded."""
    directory = tmp_path_factory.mktemp("cuda build") / "lib"
    directory.mkdir()
    for name in libtorch.libraries:
        (directory / name).symlink_to(libtorch.library_dir / name)
    (directory.parent / "cuda.cpp").write_text(
        '#include <cstdio>\n__attribute__((constructor)) static void registers() { std::puts("cuda"); }\n'
    )
    for name in ("torch_cuda", "c10_cuda"):
        share("cuda.cpp", directory / f"lib{name}.so")
    names = (*libtorch.libraries, "libtorch_cuda.so", "libc10_cuda.so")
    return libtorch._replace(library_dir=directory, libraries=names)


def build(*command: str | Path, cwd: Path | None = None) -> None:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, f"{shlex.join(map(str, command))}\n{done.stderr}"


def needed(program: Path) -> list[str]:
    """The NEEDED names of torch's own libraries."""
    done = subprocess.run(["readelf", "-d", program], capture_output=True, text=True, check=True, timeout=300)
    names = [line.partition("[")[2].rstrip("]") for line in done.stdout.splitlines() if "(NEEDED)" in line]
    return [name for name in names if name.startswith(("libtorch", "libc10"))]


def search_paths(program: Path) -> list[str]:
    """`RPATH value` and `RUNPATH value` of a program."""
    done = subprocess.run(["readelf", "-d", program], capture_output=True, text=True, check=True, timeout=300)
    return [
        f"{kind} {line.partition('[')[2].rstrip(']')}"
        for line in done.stdout.splitlines()
        for kind in ("RPATH", "RUNPATH")
        if f"({kind})" in line
    ]


def compilers() -> Sequence[str]:
    return [name for name in ("g++", "clang++") if shutil.which(name)]


def test_the_flags_at_the_end_of_a_command_are_enough(libtorch: Libtorch, workplace: Path) -> None:
    build("c++", "main.cpp", "-o", "app", *flags(make_plan(libtorch)), cwd=workplace)
    assert run_clean(workplace / "app").stdout == SAYS


def test_compile_and_link_in_two_steps(libtorch: Libtorch, workplace: Path) -> None:
    plan = make_plan(libtorch)
    build("c++", "-c", "-Werror", "main.cpp", "-o", "half.o", *flags(plan, "compile"), cwd=workplace)
    build("c++", "half.o", "-o", "half", *flags(plan, "link"), cwd=workplace)
    assert run_clean(workplace / "half").stdout == SAYS


def test_a_lower_standard_before_the_flags_does_no_harm(libtorch: Libtorch, workplace: Path) -> None:
    plan = make_plan(libtorch)
    (workplace / "standard.cpp").write_text(f"static_assert(__cplusplus >= 20{plan.cxx_standard}00L);\n")
    command = ("c++", "-std=gnu++14", "-c", "standard.cpp", "-o", "standard.o")
    build(*command, *flags(plan, "compile"), cwd=workplace)


@pytest.mark.parametrize("headers", ["system", "after"])
def test_warnings_of_the_headers_are_not_the_users(libtorch: Libtorch, workplace: Path, headers: str) -> None:
    plan = make_plan(libtorch, PlanOptions(headers=headers))
    (workplace / "warn.cpp").write_text("#include <c10/util/Exception.h>\nint main() {}\n")
    command = ("c++", "-c", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wold-style-cast", "-Werror")
    build(*command, "warn.cpp", "-o", "warn.o", *flags(plan, "compile"), cwd=workplace)


@pytest.mark.parametrize("sanitizer", ["", "-fsanitize=address"])
@pytest.mark.parametrize("linker", LINKERS)
def test_every_compiler_and_linker_keeps_required_libraries(
    with_cuda: Libtorch, workplace: Path, linker: str, sanitizer: str
) -> None:
    if not shutil.which(LINKERS[linker]):
        unmet(LINKERS[linker])
    if sanitizer and linker == "gold":
        pytest.skip("gold warns about the sanitizer's own symbols")
    for compiler in compilers():
        if sanitizer and not makes_programs(compiler, sanitizer):
            unmet(f"the runtime of {compiler} {sanitizer}")
        plan = make_plan(with_cuda, PlanOptions(), find_compiler(compiler))
        options = [f"-fuse-ld={linker}", *([sanitizer] if sanitizer else [])]
        app = workplace / f"app-{compiler}-{linker}{sanitizer}"
        build(compiler, *options, "main.cpp", "-o", app, *flags(plan), cwd=workplace)
        assert needed(app)[:2] == [
            "libtorch_cuda.so",
            *(["libc10_cuda.so"] if "libc10_cuda.so" in needed(app) else ["libtorch_cpu.so"]),
        ]
        done = subprocess.run(
            [app],
            env={"ASAN_OPTIONS": "detect_leaks=0"},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.stdout.startswith("cuda\n"), done.stderr
        assert done.stdout.endswith(SAYS)


@pytest.mark.parametrize("linker", LINKERS)
def test_nothing_else_is_forced(with_cuda: Libtorch, workplace: Path, linker: str) -> None:
    if not shutil.which(LINKERS[linker]):
        unmet(LINKERS[linker])
    app = workplace / f"empty-{linker}"
    as_needed = ("-Wl,--as-needed", f"-fuse-ld={linker}")  # the default of Debian's g++, not of every one
    for options, kept in ((PlanOptions(), ["libtorch_cuda.so"]), (PlanOptions(cpu_only=True), [])):
        plan = make_plan(with_cuda, options)
        build("c++", *as_needed, "empty.cpp", "-o", app, *flags(plan), cwd=workplace)
        assert needed(app) == kept


def test_an_aoti_program_keeps_libtorch_by_its_bare_name(libtorch: Libtorch, workplace: Path) -> None:
    app = workplace / "aoti"
    build(
        "c++",
        "-Wl,--as-needed",
        "empty.cpp",
        "-o",
        app,
        *flags(make_plan(libtorch, PlanOptions(aoti=True))),
        cwd=workplace,
    )
    assert needed(app) == ["libtorch.so"]
    assert run_clean(app).returncode == 0


def test_a_program_beside_its_libraries_runs_wherever_it_is_put(libtorch: Libtorch, workplace: Path) -> None:
    plan = make_plan(libtorch, PlanOptions(rpath="origin=../lib"))
    place = workplace / "ship me" / "bin"
    place.mkdir(parents=True)
    build("c++", workplace / "main.cpp", "-o", place / "app", *flags(plan))
    assert run_clean(place / "app").returncode != 0
    (place.parent / "lib").symlink_to(libtorch.library_dir)
    assert run_clean(place / "app").stdout == SAYS


def test_without_a_search_path_the_program_has_none(libtorch: Libtorch, workplace: Path) -> None:
    app = workplace / "nowhere"
    build("c++", "main.cpp", "-o", app, *flags(make_plan(libtorch, PlanOptions(rpath="none"))), cwd=workplace)
    assert search_paths(app) == []


@pytest.mark.parametrize("own_path", ["rpath", "runpath"])
def test_companions_of_a_moved_libtorch_are_found_again(
    libtorch: Libtorch, workplace: Path, tmp_path: Path, own_path: str
) -> None:
    """A libtorch_cpu whose own search path leads nowhere, as in a copied lib directory."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "deep.cpp").write_text("int deep() { return 7; }\n")
    (tmp_path / "core.cpp").write_text("int deep();\nint core() { return deep(); }\n")
    (tmp_path / "main.cpp").write_text("int core();\nint main() { return core() - 7; }\n")
    (tmp_path / "c10.cpp").write_text("")
    dtags = "--disable-new-dtags" if own_path == "rpath" else "--enable-new-dtags"
    share("deep.cpp", tmp_path / "elsewhere/libdeep.so.1")
    own = (f"-Wl,-rpath,$ORIGIN/gone,{dtags}", tmp_path / "elsewhere/libdeep.so.1")
    share("core.cpp", tmp_path / "lib/libtorch_cpu.so", *own)
    share("c10.cpp", tmp_path / "lib/libc10.so")
    moved = libtorch._replace(
        library_dir=tmp_path / "lib",
        libraries=("libc10.so", "libtorch_cpu.so"),
        search_kind=own_path,
        companion_dirs=(CompanionDir(tmp_path / "elsewhere", ("libdeep.so.1",), in_place=False),),
    )
    app = tmp_path / "app"
    for linker in [name for name, program in LINKERS.items() if shutil.which(program)]:
        command = ("c++", f"-fuse-ld={linker}", "main.cpp", "-o", app)
        build(*command, *flags(make_plan(moved, PlanOptions(rpath="none"))), cwd=tmp_path)
        assert run_clean(app).returncode != 0
        build(*command, *flags(make_plan(moved)), cwd=tmp_path)
        assert search_paths(app) == [f"RPATH {tmp_path}/lib:{tmp_path}/elsewhere"]
        assert run_clean(app).returncode == 0


def share(source: str, library: Path, *more: str | Path) -> None:
    """Build a shared library with its own file name as SONAME."""
    command = ("c++", "-shared", "-fPIC", f"-Wl,-soname,{library.name}", source, "-o", library)
    build(*command, *more, cwd=library.parent.parent)


def reach(libtorch: Libtorch, place: Path, *names: str) -> Libtorch:
    """The same libtorch through a symlink below directories of these names."""
    link = place.joinpath(*names)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(libtorch.root)
    (place / "main.cpp").write_text(SOURCE)
    include_dirs = (link / "include", link / "include/torch/csrc/api/include")
    return libtorch._replace(root=link, library_dir=link / "lib", include_dirs=include_dirs)


def test_a_shell_line_survives_odd_paths(libtorch: Libtorch, tmp_path: Path) -> None:
    names = [name for name in ODD_NAMES if name not in SHELL_CANNOT]
    line = cxx.emit(make_plan(reach(libtorch, tmp_path, *names)))
    build("sh", "-c", f"c++ main.cpp -o direct {line}", cwd=tmp_path)
    build("sh", "-c", "eval c++ main.cpp -o evaluated $1", "sh", line, cwd=tmp_path)
    assert run_clean(tmp_path / "direct").stdout == SAYS
    assert run_clean(tmp_path / "evaluated").stdout == SAYS


@pytest.mark.parametrize("name", SHELL_CANNOT)
def test_a_shell_line_refuses_what_eval_would_change(libtorch: Libtorch, tmp_path: Path, name: str) -> None:
    with pytest.raises(InexpressibleError, match="shell line"):
        cxx.emit(make_plan(reach(libtorch, tmp_path, name)))


def test_a_response_file_survives_odd_paths(libtorch: Libtorch, tmp_path: Path) -> None:
    (tmp_path / "w.rsp").write_text(response_file(make_plan(reach(libtorch, tmp_path, *ODD_NAMES))))
    for compiler in compilers():
        build(compiler, "main.cpp", "-o", compiler, "@w.rsp", cwd=tmp_path)
        assert run_clean(tmp_path / compiler).stdout == SAYS


def test_a_pc_file_survives_odd_paths(libtorch: Libtorch, with_cuda: Libtorch, tmp_path: Path) -> None:
    names = [name for name in ODD_NAMES if name not in PKG_CONFIG_CANNOT]
    reached = reach(libtorch, tmp_path, *names)
    beside = reached.root.with_name("cuda lib")
    beside.symlink_to(with_cuda.library_dir)
    cuda = reached._replace(library_dir=beside, libraries=with_cuda.libraries)
    for build, says in ((reached, SAYS), (cuda, f"cuda\n{SAYS}")):
        arguments = through_pkg_config(build, tmp_path)
        command = [b"c++", b"main.cpp", b"-o", b"app", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        assert run_clean(tmp_path / "app").stdout == says


@pytest.mark.parametrize(
    "name", ["space ed", "$dollar#hash", "space and $dollar (paren) `tick` & '\"#;", "a'b&c"]
)
def test_a_pc_file_with_a_special_character_shows_the_shell_command(
    libtorch: Libtorch, tmp_path: Path, name: str
) -> None:
    assert "xargs" not in emit(make_plan(libtorch), "pkg-config")
    spaced = reach(libtorch, tmp_path, name)
    through_pkg_config(spaced, tmp_path)
    remark = (tmp_path / "torch.pc").read_text(encoding="utf-8").splitlines()[0]
    assert remark.startswith("# ")
    command = remark.partition(": ")[2]
    assert ("compiler shows its warnings" in (tmp_path / "torch.pc").read_text(encoding="utf-8")) == (
        " " in name
    )
    environment = {**os.environ, "PKG_CONFIG_PATH": str(tmp_path)}
    (tmp_path / "Makefile").write_text(f"app: main.cpp\n\t{command}\n")
    for build in (["sh", "-c", command], ["make"]):
        subprocess.run(build, cwd=tmp_path, env=environment, check=True, timeout=300)
        assert run_clean(tmp_path / "app").stdout == SAYS
        (tmp_path / "app").unlink()


@pytest.mark.parametrize("name", PKG_CONFIG_CANNOT)
def test_a_pc_file_refuses_what_it_cannot_express(libtorch: Libtorch, tmp_path: Path, name: str) -> None:
    with pytest.raises(InexpressibleError, match=r"cannot be written in a \.pc file"):
        emit(make_plan(reach(libtorch, tmp_path, name)), "pkg-config")


def test_a_pc_file_is_complete(with_cuda: Libtorch, tmp_path: Path) -> None:
    arguments = [word.decode() for word in through_pkg_config(with_cuda, tmp_path)]
    plan = make_plan(with_cuda)
    joined = "\n".join(flags(plan)).replace("-isystem\n", "-isystem")
    # Meson drops -L: what is kept must be found without.
    own = f"\n-std=c++{plan.cxx_standard}\n"
    kept = joined.replace(own, f"\n-std=c++{plan.libtorch.cxx_standard_required}\n").replace(
        ",-ltorch_cuda,", f",{with_cuda.library_dir}/libtorch_cuda.so,"
    )
    assert arguments == kept.splitlines()
    version = f"{with_cuda.version}".partition("+")[0]
    environment = {**os.environ, "PKG_CONFIG_PATH": str(tmp_path)}
    for question in (f"--exact-version={version}", "--validate"):
        subprocess.run(["pkg-config", question, "torch"], env=environment, check=True, timeout=300)


def test_a_pc_file_sets_no_standard_that_is_the_compilers_default(libtorch: Libtorch) -> None:
    """Meson puts it behind the project's own: a C++20 project must not become C++17, nor one of C++17 C++20."""
    needed = libtorch.cxx_standard_required
    commands = {"g++ -std=c++14": [f"-std=c++{needed}"], "g++ -std=gnu++17": [], "g++ -std=c++23": []}
    for program in compilers():
        default = find_compiler(program).default_standard
        assert default is not None
        commands[program] = [] if default >= needed else [f"-std=c++{needed}"]
    for command, expected in commands.items():
        text = emit(make_plan(libtorch, compiler=find_compiler(command)), "pkg-config")
        cflags = text.partition("\nCflags:")[2].partition("\n")[0]
        assert [word for word in cflags.split() if word.startswith("-std=")] == expected, command
        assert f"need C++{needed} or later" in text
        assert ("must be raised" in text) == (not expected)
    assert f"-std=c++{needed}" in emit(make_plan(libtorch), "pkg-config")  # for a compiler that is not known
    for command in ("g++", "g++ -std=c++14"):
        chosen = make_plan(libtorch, PlanOptions(cxx_standard=20), find_compiler(command))
        assert "-std=c++20" in emit(chosen, "pkg-config")


def through_pkg_config(libtorch: Libtorch, directory: Path) -> list[bytes]:
    """What pkg-config makes of the .pc file, split as meson and CMake split it.

    A shell would take `$` and `(` for itself: pkgconf does not quote them.
    """
    if not shutil.which("pkg-config"):
        unmet("pkg-config")
    (directory / "torch.pc").write_text(emit(make_plan(libtorch), "pkg-config") + "\n")
    printed = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "torch"],
        env={**os.environ, "PKG_CONFIG_PATH": str(directory)},
        capture_output=True,
        check=True,
        timeout=300,
    ).stdout
    return [word.encode("latin-1") for word in shlex.split(printed.decode("latin-1"))]
