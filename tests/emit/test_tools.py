"""The flags in the syntax of each language's tool: the tool builds a program, which runs with an empty environment."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import installed, program, run_clean, unmet
from tests.emit.conftest import Use, run
from torchlink.errors import InexpressibleError
from torchlink.plan import PlanOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.emit.conftest import Uses

pytestmark = pytest.mark.compile

ODD_NAMES = (
    "with space", "com,ma", "dol$lar", "sq'uote", 'dq"uote', "ha#sh", "back\\slash", "tick`x", "per%cent%{x}",
    "(paren)", "semi;colon", "#{x}", "$(id)", "ünïcödé", "two  spaces", "@at", "a=b", "<lt>", "$$", "<(x)",
)  # fmt: skip
# What a tool's syntax cannot express.
REFUSED: dict[str, tuple[str, ...]] = {
    "go": ('dq"uote', "back\\slash"),
    "cgo": tuple(
        name
        for name in ODD_NAMES
        if name not in {"with space", "dol$lar", "ünïcödé", "two  spaces", "@at", "a=b", "$$"}
    ),
    "ada": ("com,ma", "back\\slash"),
    "bazel": ("with space", "sq'uote", 'dq"uote', "back\\slash", "two  spaces"),
    "qmake": ("sq'uote", 'dq"uote'),
    "nvcc": tuple(name for name in ODD_NAMES if name not in {"ünïcödé", "@at", "a=b"}),
    "node": ("com,ma", "sq'uote", 'dq"uote', "<(x)"),
}


def build_make(place: Path, use: Use) -> Path:
    (place / "use.mk").write_text(use.text("make") + "\n")
    (place / "app.c").write_text(
        "#include <stdint.h>\n#include <stdio.h>\nint32_t tm_version(void);\n"
        'int main(void) { printf("%d\\n", tm_version()); }\n'
    )
    own = place / use.source.with_stem("own").name
    own.write_bytes(use.source.read_bytes())
    (place / "Makefile").write_text("include use.mk\napp: own.o app.o\n")
    run(program("make"), "app", cwd=place)
    return place / "app"


def build_rust(place: Path, use: Use) -> Path:
    (place / "src").mkdir()
    (place / "Cargo.toml").write_text('[package]\nname = "app"\nversion = "0.1.0"\nedition = "2021"\n')
    (place / "lines.txt").write_text(use.text("rust") + "\n")
    objects = "".join(f"cargo:rustc-link-arg={file}\n" for file in use.objects)
    (place / "objects.txt").write_text(objects)
    (place / "build.rs").write_text(
        'fn main() { print!("{}{}", include_str!("objects.txt"), include_str!("lines.txt")); }\n'
    )
    (place / "src/main.rs").write_text(
        'extern "C" { fn tm_version() -> i32; }\nfn main() { println!("{}", unsafe { tm_version() }); }\n'
    )
    run(program("cargo"), "build", "--offline", "--quiet", cwd=place)
    return place / "target/debug/app"


GO = """package main

/*
%s
#include <stdint.h>
int32_t tm_version(void);
*/
import "C"
import "fmt"

func main() { fmt.Println(C.tm_version()) }
"""


def go_module(place: Path, use: Use, lines: str) -> None:
    (place / "go.mod").write_text("module app\n\ngo 1.19\n")
    (place / "main.go").write_text(GO % lines)
    if use.objects:
        (place / "shim.cpp").write_bytes(use.source.read_bytes())


def go_environment(place: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    return {**kept, "GOFLAGS": "-mod=mod", "GOPROXY": "off", "GOCACHE": str(place.parent / "go-cache")}


def build_go(place: Path, use: Use) -> Path:
    program("go")
    go_module(place, use, "")
    script = f"{use.text('go')}\ngo build -o app ."
    run("sh", "-c", script, cwd=place, env=go_environment(place))
    return place / "app"


def build_cgo(place: Path, use: Use) -> Path:
    lines = [line for line in use.text("go").splitlines() if not line.startswith("export ")]
    if lines[0].startswith("# No"):
        raise InexpressibleError(lines[0])
    go_module(place, use, "\n".join(lines))
    run(program("go"), "build", "-o", "app", ".", cwd=place, env=go_environment(place))
    return place / "app"


def build_d(place: Path, use: Use) -> Path:
    (place / "app.d").write_text(
        "import core.stdc.stdio;\nextern(C) int tm_version();\n"
        'void main() { printf("%d\\n", tm_version()); }\n'
    )
    objects = shlex.join(map(str, use.objects))
    run("sh", "-c", f"{program('ldc2')} -of=app app.d {objects} {use.text('d')}", cwd=place)
    return place / "app"


def build_zig(place: Path, use: Use) -> Path:
    installed("ziglang")
    (place / "app.zig").write_text(
        "extern fn tm_version() c_int;\nextern fn printf(format: [*:0]const u8, ...) c_int;\n"
        'pub fn main() void { _ = printf("%d\\n", tm_version()); }\n'
    )
    zig = f"{shlex.quote(sys.executable)} -m ziglang build-exe"
    cache = shlex.quote(str(place.parent / "zig-cache"))
    caches = f"--global-cache-dir {cache} --cache-dir {cache}"
    objects = shlex.join(map(str, use.objects))
    run("sh", "-c", f"{zig} {caches} -femit-bin=app app.zig {objects} {use.text('zig')}", cwd=place)
    return place / "app"


def build_fortran(place: Path, use: Use) -> Path:
    (place / "app.f90").write_text(
        "program app\n  use iso_c_binding\n  interface\n    function tm_version() bind(c)\n"
        "      import :: c_int32_t\n      integer(c_int32_t) :: tm_version\n    end function\n  end interface\n"
        "  print '(i0)', tm_version()\nend program\n"
    )
    objects = shlex.join(map(str, use.objects))
    run("sh", "-c", f"{program('gfortran')} app.f90 {objects} -o app {use.text('fortran')}", cwd=place)
    return place / "app"


OCAML_STUBS = """
#include <caml/mlvalues.h>
#ifdef __cplusplus
extern "C"
#endif
value app_version(value unit) { (void)unit; return Val_int(tm_version()); }
"""


def ocaml_sources(place: Path, use: Use) -> str:
    """The name of the stubs."""
    stubs = f"stubs{use.source.suffix}"
    (place / stubs).write_text(use.source.read_text() + OCAML_STUBS)
    (place / "app.ml").write_text(
        'external version : unit -> int = "app_version"\nlet () = Printf.printf "%d\\n" (version ())\n'
    )
    return stubs


def build_ocaml(place: Path, use: Use) -> Path:
    ocaml_sources(place, use)
    (place / "dune-project").write_text("(lang dune 2.9)\n")
    (place / "dune").write_text(f"(executable\n (name app)\n{use.text('ocaml')})\n")
    run(program("dune"), "build", "--root=.", "--display=quiet", "./app.exe", cwd=place)
    return place / "_build/default/app.exe"


def build_ocamlopt(place: Path, use: Use) -> Path:
    stubs = ocaml_sources(place, use)
    options = use.text("ocaml").splitlines()[0].removeprefix("; ocamlopt: ")
    compiled = use.text("cxx", "compile")
    where = run(program("ocamlfind"), "ocamlopt", "-where").strip()
    run(
        "sh",
        "-c",
        f"c++ -x {'c' if use.source.suffix == '.c' else 'c++'} -c {stubs} -I{where} {compiled}",
        cwd=place,
    )
    run("sh", "-c", f"ocamlfind ocamlopt app.ml stubs.o -o app {options}", cwd=place)
    return place / "app"


def build_haskell(place: Path, use: Use) -> Path:
    stubs = f"stubs{use.source.suffix}"
    (place / stubs).write_bytes(use.source.read_bytes())
    (place / "Main.hs").write_text(
        "module Main where\nimport Data.Int\n"
        'foreign import ccall "tm_version" version :: IO Int32\nmain :: IO ()\nmain = version >>= print\n'
    )
    fields = "".join(f"  {line}\n" for line in use.text("haskell").splitlines())
    kind = "c-sources" if use.source.suffix == ".c" else "cxx-sources"
    (place / "app.cabal").write_text(
        "cabal-version: 2.2\nname: app\nversion: 0.1\nbuild-type: Simple\n\nexecutable app\n"
        f"  main-is: Main.hs\n  build-depends: base\n  default-language: Haskell2010\n  {kind}: {stubs}\n{fields}"
    )
    home = place.parent / "cabal-home"
    (home / ".cabal/packages").mkdir(parents=True, exist_ok=True)
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"}
    # The build tool that GHC comes with, and that cabal runs: it needs no index of packages.
    (place / "Setup.hs").write_text("import Distribution.Simple\nmain :: IO ()\nmain = defaultMain\n")
    setup = (program("runghc"), "Setup.hs")
    run(*setup, "configure", "--disable-library-profiling", cwd=place, env=env)
    run(*setup, "build", cwd=place, env=env)
    return place / "dist/build/app/app"


def build_crystal(place: Path, use: Use) -> Path:
    objects = "".join(f'@[Link(ldflags: "{file}")]\n' for file in use.objects)
    (place / "app.cr").write_text(
        f"{use.text('crystal')}\n{objects}lib LibTM\n  fun tm_version : Int32\nend\nputs LibTM.tm_version\n"
    )
    env = {**os.environ, "CRYSTAL_CACHE_DIR": str(place.parent / "crystal-cache")}
    run(program("crystal"), "build", "app.cr", "-o", "app", cwd=place, env=env)
    return place / "app"


def build_ada(place: Path, use: Use) -> Path:
    own = place / use.source.with_stem("own").name
    own.write_bytes(use.source.read_bytes())
    (place / "app.adb").write_text(
        "with Ada.Text_IO; with Interfaces;\nprocedure App is\n"
        "   function Version return Interfaces.Integer_32 with Import, Convention => C,\n"
        '     External_Name => "tm_version";\nbegin\n'
        "   Ada.Text_IO.Put_Line (Interfaces.Integer_32'Image (Version)(2 .. 2));\nend App;\n"
    )
    language = "C" if own.suffix == ".c" else "C++"
    (place / "app.gpr").write_text(
        f'project App is\n   for Languages use ("Ada", "{language}");\n   for Main use ("app.adb");\n'
        f'   package Naming is\n      for Body_Suffix ("{language}") use "{own.suffix}";\n   end Naming;\n'
        "end App;\n"
    )
    run("sh", "-c", f"{program('gprbuild')} -q -P app.gpr {use.text('ada')}", cwd=place)
    return place / "app"


def build_r(place: Path, use: Use) -> Path:
    """A shared library; the program that is returned loads it in R."""
    entry = "#include <R.h>\n" if use.source.suffix == ".c" else 'extern "C"\n'
    (place / f"use{use.source.suffix}").write_text(
        f"{use.source.read_text()}{entry}void version(int *to) {{ *to = tm_version(); }}\n"
    )
    (place / "Makevars").write_text(use.text("r") + "\n")
    r = program("R")
    run(r, "CMD", "SHLIB", "-o", "use.so", f"use{use.source.suffix}", cwd=place)
    return script(
        place, f'{r} --vanilla --slave -e \'dyn.load("use.so"); cat(.C("version", 0L)[[1]], fill = TRUE)\''
    )


def script(place: Path, command: str) -> Path:
    """A program that runs a command in the project's directory."""
    app = place / "run.sh"
    app.write_text(
        f"#!/bin/sh\nPATH={os.environ['PATH']}\nexport PATH\ncd {shlex.quote(str(place))}\n{command}\n"
    )
    app.chmod(0o755)
    return app


def build_ruby(place: Path, use: Use) -> Path:
    begin = 'extern "C" ' if use.objects else ""
    (place / f"use{use.source.suffix}").write_text(
        f"{use.source.read_text()}#include <ruby.h>\n"
        "static VALUE version(VALUE self) { return INT2FIX(tm_version()); }\n"
        f'{begin}void Init_use(void) {{ rb_define_global_function("version", version, 0); }}\n'
    )
    (place / "extconf.rb").write_text(f"require 'mkmf'\n{use.text('ruby')}\ncreate_makefile('use')\n")
    ruby = program("ruby")
    run(ruby, "extconf.rb", cwd=place)
    run(program("make"), cwd=place)
    return script(place, f"{ruby} -I. -e 'require \"use\"; puts version'")


NODE = """
#include <node_api.h>
static napi_value version(napi_env env, napi_callback_info info) {
  napi_value value;
  (void)info;
  napi_create_int32(env, tm_version(), &value);
  return value;
}
NAPI_MODULE_INIT() {
  napi_value function;
  napi_create_function(env, "version", NAPI_AUTO_LENGTH, version, 0, &function);
  return function;
}
"""


def build_node(place: Path, use: Use) -> Path:
    node = Path(program("node")).resolve()
    prefix = node.parent.parent
    places = (
        "lib/node_modules/npm/node_modules/node-gyp",
        "share/nodejs/node-gyp",
    )  # Node.js's own, Debian's
    gyp = next(
        (file for file in (prefix / place / "bin/node-gyp.js" for place in places) if file.is_file()), None
    )
    if gyp is None or not (prefix / "include/node/node_api.h").is_file():
        unmet("node-gyp or the headers of Node.js")
    source = f"use{use.source.suffix}"
    (place / source).write_text(use.source.read_text() + NODE)
    (place / "use.gypi").write_text(use.text("node") + "\n")
    (place / "package.json").write_text('{"name": "use", "version": "1.0.0"}\n')
    (place / "binding.gyp").write_text(
        f'{{"targets": [{{"target_name": "use", "sources": ["{source}"], "includes": ["use.gypi"]}}]}}\n'
    )
    run(node, gyp, "rebuild", f"--nodedir={prefix}", "--offline", cwd=place)
    return script(place, f"{node} -e 'console.log(require(\"./build/Release/use.node\")())'")


def build_qmake(place: Path, use: Use) -> Path:
    """Qt's macros are on; the standard of the project is too low."""
    checks = f"static_assert(__cplusplus >= 20{use.plan.cxx_standard}00L);\n" if use.plan.cxx_standard else ""
    (place / "app.cpp").write_text(
        f"#include <QtGlobal>\n#include <QObject>\n{checks}struct Table {{ int slots; }};\n"
        '#include <cstdio>\nextern "C" int tm_version();\n'
        'int main() { Table table{tm_version()}; std::printf("%d\\n", table.slots); }\n'
        if use.objects
        else f'extern "C" {{\n{use.source.read_text()}}}\n#include <cstdio>\n'
        'int main() { std::printf("%d\\n", shim()); }\n'
    )
    (place / "use.pri").write_text(use.text("qmake") + "\n")
    objects = " ".join(map(str, use.objects))
    (place / "app.pro").write_text(
        f"QT = core\nCONFIG += c++11\nCONFIG -= app_bundle\nSOURCES = app.cpp\nOBJECTS += {objects}\ninclude(use.pri)\n"
    )
    run(program("qmake"), "app.pro", cwd=place)
    run(program("make"), cwd=place)
    return place / "app"


# What bazel 4 would download, of which Debian's package is for a newer one: the rules that are built into it, by name.
RULES_CC = "".join(
    f"{name} = native.{name}\n"
    for name in (
        "cc_binary",
        "cc_import",
        "cc_library",
        "cc_toolchain",
        "cc_toolchain_suite",
    )
)


def build_bazel(place: Path, use: Use) -> Path:
    text = use.text("bazel")
    name = use.plan.package
    declared = [line.removeprefix("# ").removeprefix("#") for line in text.splitlines()]
    begin = declared.index("new_local_repository(")
    (place / "WORKSPACE").write_text("\n".join(declared[begin : declared.index(")", begin) + 1]) + "\n")
    (place / f"{name}.BUILD").write_text(text + "\n")
    (place / f"app{use.source.suffix}").write_text(
        f"{use.source.read_text()}#include <stdio.h>\n"
        'int main() { printf("%d\\n", tm_version()); return 0; }\n'
    )
    (place / "BUILD").write_text(
        f'cc_binary(name = "app", srcs = ["app{use.source.suffix}"], deps = ["@{name}"])\n'
    )
    (place / ".bazelrc").write_text(
        "".join(
            f"{line.partition(': ')[2]}\n" for line in text.splitlines() if line.startswith("# In .bazelrc")
        )
    )
    root = place.parent / "bazel-root"
    bazel = (program("bazel"), "--batch", f"--output_user_root={root}")
    env = {"PATH": os.environ["PATH"], "HOME": str(place.parent), "CC": program("gcc")}
    rules = place.parent / "rules_cc"
    (rules / "cc").mkdir(parents=True)
    (rules / "WORKSPACE").touch()
    (rules / "cc/BUILD").touch()
    (rules / "cc/defs.bzl").write_text(RULES_CC)
    java = "/usr/share/bazel/rules/java"
    offline = [f"--override_repository=rules_cc={rules}", f"--override_repository=rules_java={java}"]
    run(*bazel, "build", "--spawn_strategy=local", *offline, "//:app", cwd=place, env=env)
    return place / "bazel-bin/app"


def build_nvcc(place: Path, use: Use) -> Path:
    if not shutil.which("nvcc"):
        pytest.skip("nvcc is not in Debian")
    (place / "app.cu").write_text(
        '#include <cstdio>\nextern "C" int tm_version();\n__global__ void kernel(int *to) { *to = 1; }\n'
        'int main() { std::printf("%d\\n", tm_version()); }\n'
    )
    objects = shlex.join(map(str, use.objects))
    run("sh", "-c", f"{program('nvcc')} app.cu {objects} -o app {use.text('nvcc')}", cwd=place)
    return place / "app"


BUILDERS: dict[str, Callable[[Path, Use], Path]] = {
    "make": build_make,
    "rust": build_rust,
    "go": build_go,
    "cgo": build_cgo,
    "d": build_d,
    "zig": build_zig,
    "fortran": build_fortran,
    "ocaml": build_ocaml,
    "ocamlopt": build_ocamlopt,
    "haskell": build_haskell,
    "crystal": build_crystal,
    "ada": build_ada,
    "r": build_r,
    "ruby": build_ruby,
    "node": build_node,
    "qmake": build_qmake,
    "bazel": build_bazel,
    "nvcc": build_nvcc,
}


def runs(app: Path, use: Use) -> None:
    done = run_clean(app)
    assert (done.returncode, sorted(done.stdout.split())) == (0, use.says), done.stderr


@pytest.fixture
def project(tmp_path: Path) -> Path:
    directory = tmp_path / "project"
    directory.mkdir()
    return directory


@pytest.mark.parametrize("tool", BUILDERS)
def test_a_program_links_libtorch_and_keeps_required_libraries(
    uses: Uses, tmp_path: Path, project: Path, tool: str
) -> None:
    use = uses.torch(tmp_path)
    runs(BUILDERS[tool](project, use), use)


@pytest.mark.parametrize("tool", BUILDERS)
def test_a_program_links_the_c_api_in_a_directory_with_a_difficult_name(
    uses: Uses, tmp_path: Path, project: Path, tool: str
) -> None:
    """Each name works in each tool, or is refused; those that work do so together."""
    target = {"cgo": "go", "ocamlopt": "ocaml"}.get(tool, tool)
    expressible = []
    for number, name in enumerate(ODD_NAMES):
        place = tmp_path / str(number)
        place.mkdir()
        try:
            text = uses.c(place, name).text(target)
        except InexpressibleError:
            continue
        if tool != "cgo" or "# No #cgo lines" not in text:
            expressible.append(name)
    assert set(ODD_NAMES) - set(expressible) == set(REFUSED.get(tool, ()))
    together = [name for name in expressible if tool != "go" or name != "sq'uote"]  # refused next to a space
    use = uses.c(tmp_path, *together)
    runs(BUILDERS[tool](project, use), use)


@pytest.mark.parametrize("tool", [tool for tool in BUILDERS if tool not in {"bazel", "cgo", "ocamlopt"}])
def test_a_program_finds_the_c_api_next_to_itself(
    uses: Uses, tmp_path: Path, project: Path, tool: str
) -> None:
    use = uses.c(tmp_path, options=PlanOptions(rpath="origin=beside"))
    app = BUILDERS[tool](project, use)
    if tool != "ada":  # gprbuild adds the directories of -L to the search path
        assert run_clean(app).returncode != 0
    for directory in (app.parent, project / "build/Release"):
        if directory.is_dir():
            (directory / "beside").symlink_to(uses.c_api)
    runs(app, use)
