"""Python extensions as Python imports them after `import torch`: the verdict and the live import agree."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.lint.builder import Builder, functions, said
from torchlink.lint.checking import check_binary
from torchlink.lint.context import LintOptions
from torchlink.lint.finding import FileReport, Severity
from torchlink.lint.importing import Torches
from torchlink.lint.text.tool_output import check_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Result

pytestmark = pytest.mark.compile

# No header of Python's or torch's: a PyModuleDef is five words of head, then name, documentation and size.
SOURCE = """
#include <string>
namespace at {{ class Tensor; class TensorBase; }}
namespace torch::jit {{ int parseSchema(const std::string&, bool); }}
void* THPVariable_Wrap(const at::TensorBase&);
int my_kernel(const at::Tensor&);
extern "C" int aoti_torch_of_another_version(void);
extern "C" void* PyModule_Create2(void*, int);
static long definition[13] = {{1, 0, 0, 0, 0, (long)"{name}", 0, -1}};
extern "C" void* PyInit_{name}() {{ return PyModule_Create2(definition, 1013); }}
void use(const std::string& text, const at::Tensor& tensor, const at::TensorBase& base) {{ {use}; }}
"""
PARSE, WRAP = "torch::jit::parseSchema(text, true)", "THPVariable_Wrap(base)"
OLD = "-D_GLIBCXX_USE_CXX11_ABI=0"
TAIL = ".cpython-3-none.so"  # as an extension's name ends; Python takes it by its path


class Extension(NamedTuple):
    """One way to build an extension, and the rule that says why its import fails."""

    use: str
    words: tuple[str, ...]
    rule: str | None


EXTENSIONS = {
    "clean": Extension(PARSE, ("-ltorch_cpu", "-lc10"), None),
    "clean_python": Extension(WRAP, ("-ltorch_python",), None),
    "other_abi": Extension(PARSE, (OLD, "-ltorch_cpu", "-lc10"), "abi-mismatch"),
    "other_abi_not_linked": Extension(PARSE, (OLD,), "abi-mismatch"),
    "nothing_linked": Extension(PARSE, (), "torch-library-not-linked"),
    "no_torch_python": Extension(WRAP, ("-ltorch_cpu",), "torch-library-not-linked"),
    "other_version": Extension(
        "aoti_torch_of_another_version()", ("-ltorch_cpu",), "header-library-mismatch"
    ),
    "forgotten_source": Extension("my_kernel(tensor)", ("-ltorch_cpu",), "undefined-symbol"),
}
IMPORT = """
import importlib.util, json, sys, torch
said = {}
for name in sys.argv[3:]:
    spec = importlib.util.spec_from_file_location(name, f"{sys.argv[1]}/{name}{sys.argv[2]}")
    try:
        importlib.util.module_from_spec(spec)
        said[name] = None
    except ImportError as error:
        said[name] = str(error)
print(json.dumps(said))
"""


class Built(NamedTuple):
    """All of them built, and what Python said to each."""

    directory: Path
    said: dict[str, str | None]

    def path(self, name: str) -> Path:
        """The file of an extension."""
        return self.directory / f"{name}{TAIL}"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, torch_root: Path) -> Built:
    """Every extension, and the outcome of its import after `import torch`."""
    directory = tmp_path_factory.mktemp("extensions")
    builder = Builder(directory)
    for name, (use, words, _) in EXTENSIONS.items():
        flags = ("-std=c++17", "-shared", "-fPIC", f"-L{torch_root / 'lib'}", "-Wl,--no-as-needed", *words)
        builder.build(
            f"{name}{TAIL}", SOURCE.format(name=name, use=use), *flags, language="c++", compiler="g++"
        )
    command = [sys.executable, "-c", IMPORT, str(directory), TAIL, *EXTENSIONS]
    environment = {**os.environ, "PYTHONPATH": str(torch_root.parent)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=environment)
    return Built(directory, json.loads(done.stdout))


def verdict(path: Path, torch_root: Path) -> FileReport:
    """What lint says with the torch of the tests."""
    return check_binary(path, torches=Torches(torch_root))


@pytest.mark.parametrize("name", EXTENSIONS)
def test_the_verdict_is_what_python_says(built: Built, torch_root: Path, name: str) -> None:
    report = verdict(built.path(name), torch_root)
    errors = [each.rule for each in report.findings if each.severity is Severity.ERROR]
    rule = EXTENSIONS[name].rule
    assert bool(built.said[name]) == bool(rule)
    assert errors == ([rule] if rule else [])
    (sentence,) = report.assumed
    assert str(torch_root) in sentence


@pytest.mark.parametrize(("directory", "leftover"), [("torch/lib", False), ("gone/lib", True)])
def test_the_path_to_the_torch_beside_a_package_is_no_leftover_before_it_is_installed(
    builder: Builder, torch_root: Path, directory: str, leftover: bool
) -> None:
    source = SOURCE.format(name="clean", use=PARSE)
    flags = ("-std=c++17", "-shared", "-fPIC", f"-L{torch_root / 'lib'}", "-ltorch_cpu", "-lc10")
    words = (*flags, f"-Wl,-rpath,$ORIGIN/../{directory}")
    path = builder.build(f"pack/clean{TAIL}", source, *words, language="c++", compiler="g++")
    rules = [each.rule for each in verdict(path, torch_root).findings]
    assert ("rpath-missing-directory" in rules) == leftover


def test_the_fix_of_an_extension_without_libtorch_python_works(
    built: Built, torch_root: Path, tmp_path: Path
) -> None:
    (finding,) = verdict(built.path("no_torch_python"), torch_root).findings
    assert "importing it fails, even after `import torch`" in finding.message
    assert "at start" not in finding.message
    advised = finding.fix.removeprefix("Add ").partition(" to the link line")[0]
    assert shlex.split(advised) == [f"-L{torch_root / 'lib'}", "-ltorch_python"]
    source = SOURCE.format(name="fixed", use=WRAP)
    flags = ("-std=c++17", "-shared", "-fPIC", "-Wl,--no-as-needed", *shlex.split(advised))
    path = Builder(tmp_path).build(f"fixed{TAIL}", source, *flags, language="c++", compiler="g++")
    assert not [each for each in verdict(path, torch_root).findings if each.severity is Severity.ERROR]
    assert "find_library(TORCH_PYTHON_LIBRARY torch_python" in finding.fix
    assert finding.fix.endswith("CppExtension, which does so.")


@pytest.mark.parametrize("name", [name for name, each in EXTENSIONS.items() if each.rule])
def test_an_import_error_gives_the_findings_of_the_file(built: Built, torch_root: Path, name: str) -> None:
    before = 'Traceback (most recent call last):\n  File "<string>", line 1, in <module>\n    import mine\n'
    text = f"{before}ImportError: {built.said[name]}\n"
    (report,) = check_text(text, "-", torches=Torches(torch_root))
    assert report.findings == verdict(built.path(name), torch_root).findings
    elsewhere = text.replace(str(built.directory), "/nowhere/lib/python3.12/site-packages/mine")
    (report,) = check_text(elsewhere, "-", torches=Torches(torch_root))
    assert EXTENSIONS[name].rule in {each.rule for each in report.findings if each.severity is Severity.ERROR}
    assert "does not say which libtorch" in report.assumed[0]


def test_a_text_that_lacks_what_this_libtorch_has_is_from_another_one(built: Built, torch_root: Path) -> None:
    symbol = "_ZN5torch3jit11parseSchemaERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEEb"
    text = f"ImportError: {built.path('clean')}: undefined symbol: {symbol}\n"
    (report,) = check_text(text, "-", torches=Torches(torch_root))
    finding = report.findings[0]
    assert (finding.rule, finding.severity, finding.evidence) == (
        "undefined-symbol",
        Severity.ERROR,
        (symbol,),
    )
    assert "another libtorch" in finding.message


@pytest.mark.parametrize("name", ["clean", "other_abi", "other_abi_not_linked"])
def test_ldd_of_an_extension_is_checked_as_python_imports_it(
    built: Built, torch_root: Path, name: str
) -> None:
    done = subprocess.run(
        ["ldd", "-r", built.path(name)], capture_output=True, text=True, check=False, timeout=60
    )
    text = f"{built.path(name)}:\n{done.stdout}{done.stderr}"
    (report,) = check_text(text, "-", torches=Torches(torch_root))
    assert report.findings == verdict(built.path(name), torch_root).findings
    if name == "other_abi_not_linked":  # ldd misses nothing, and names what is undefined
        return
    assert "ldd loads an extension without torch" in report.not_checked[-1]
    (report,) = check_text(text.replace(str(built.directory), "/nowhere"), "-", torches=Torches(torch_root))
    assert not [each for each in report.findings if each.severity is Severity.ERROR]


def test_a_library_that_python_did_not_find() -> None:
    text = "ImportError: libtorch_python.so: cannot open shared object file: No such file or directory\n"
    (report,) = check_text(text, "-", LintOptions(), torches=Torches(Path("/nowhere")))
    assert [(each.rule, each.severity) for each in report.findings] == [("library-not-found", Severity.ERROR)]


def test_without_any_libtorch_missing_libraries_are_left_to_python(built: Built) -> None:
    report = check_binary(built.path("clean"), torches=Torches(Path("/nowhere")))
    assert [(each.rule, each.severity) for each in report.findings] == [
        ("library-not-found", Severity.WARNING)
    ]
    assert not report.assumed
    assert "no libtorch was found to check it with" in report.not_checked[0]


def test_a_library_that_import_torch_does_not_load(builder: Builder, built: Built, torch_root: Path) -> None:
    cuda = builder.library("libtorch_cuda.so")
    words = (f"-L{torch_root / 'lib'}", "-Wl,--no-as-needed", "-ltorch_cpu", cuda)
    extension = builder.library("mine.abi3.so", functions("PyInit_mine"), *words)
    cuda.unlink()
    found = [each for each in verdict(extension, torch_root).findings if each.rule == "library-not-found"]
    assert [(each.subject, each.severity) for each in found] == [("libtorch_cuda.so", Severity.ERROR)]


def environment(builder: Builder, prefix: str, abi: int) -> Path:
    """A virtual environment with a fake torch; returns its site-packages."""
    site = f"{prefix}/lib/python3.12/site-packages"
    builder.path(f"{prefix}/pyvenv.cfg").write_text("home = /usr/bin\n")
    builder.torch(f"{site}/torch/lib", abi=abi)
    for name in ("torch/__init__.py", "torch/include/torch/csrc/api/include/torch/all.h"):
        builder.path(f"{site}/{name}").touch()
    builder.path(f"{site}/torch/version.py").write_text("__version__ = '2.4.0'\n")
    return builder.directory / site


def test_the_torch_in_the_same_site_packages_is_preferred_to_the_one_of_find(builder: Builder) -> None:
    site = environment(builder, "venv", abi=0)
    use = "_ZN5torch3jit4loadERKSs"
    source = functions("PyInit_mine") + f"void {use}(void);\nvoid use(void) {{ {use}(); }}\n"
    libraries = (site / "torch/lib/libtorch_cpu.so", site / "torch/lib/libc10.so")
    for place in (f"{site}/mine/mine.abi3.so", f"{builder.directory}/venv/lib/mine.abi3.so"):
        extension = builder.library(place, source, *libraries)
        report = check_binary(extension)
        assert not [each for each in report.findings if each.severity is Severity.ERROR], report
        assert f"{site}/torch (the site-packages that it is in)" in report.assumed[0]
        with_another = check_binary(
            extension, torches=Torches(environment(builder, "other", abi=1) / "torch")
        )
        assert "abi-mismatch" in {each.rule for each in with_another.findings}


def test_the_torch_that_is_imported_counts_more_than_an_extensions_own_search_path(builder: Builder) -> None:
    site, other = environment(builder, "venv", abi=0), builder.torch("elsewhere/lib", abi=1)
    use = "_ZN5torch3jit4loadERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
    source = functions("PyInit_mine") + f"void {use}(void);\nvoid use(void) {{ {use}(); }}\n"
    words = (other / "libtorch_cpu.so", other / "libc10.so", f"-Wl,-rpath,{other}")
    report = check_binary(builder.library(f"{site}/mine.abi3.so", source, *words))
    assert "abi-mismatch" in {each.rule for each in report.findings}
    assert str(other) in report.assumed[1]


def test_an_extension_without_libtorch_needs_none(builder: Builder) -> None:
    report = check_binary(
        builder.library("mine.abi3.so", functions("PyInit_mine")), torches=Torches(Path("/nowhere"))
    )
    assert (report.kind, report.findings, report.assumed) == ("python extension", (), ())
    assert not said(builder.library("registers.cpython-312-x86_64-linux-gnu.so"), "library-not-found")


def test_the_command_names_the_libtorch(
    built: Built, torch_root: Path, torchlink: Callable[..., Result], tmp_path: Path
) -> None:
    done = torchlink("lint", built.path("other_abi"), "--libtorch", torch_root)
    assert (
        done.code,
        "abi-mismatch" in done.out,
        f"with the libtorch in {torch_root}" in done.out.replace("\n  ", " "),
    ) == (1, True, True)
    done = torchlink("lint", built.path("clean"), "--libtorch", torch_root, "--json")
    assert done.code == 0
    assert str(torch_root) in json.loads(done.out)["files"][0]["assumed"][0]
    assert torchlink("lint", built.path("clean"), "--libtorch", tmp_path / "gone").code == 2
