"""Rules about what a process must have once."""

from __future__ import annotations

import shutil

import pytest

from tests.lint.builder import MAIN, Builder, calls, findings, functions, rules, said
from torchlink.lint.finding import Severity

pytestmark = pytest.mark.compile

CONTEXT = "_ZN2at13globalContextEv"
C10_OWN = "_ZN3c1010TensorImpl17release_resourcesEv"
HERE = "-Wl,-rpath,$ORIGIN"


SECOND = {  # file name and SONAME
    "packed into a wheel": ("libc10-1a2b3c4d.so", "", "duplicate-libtorch"),
    "named by its path": ("libc10.so", None, "duplicate-libtorch"),
    "renamed": ("libtensors.so", "", "static-libtorch-copy"),
    "renamed, with a version as Debian has it": ("libother.so", "libc10.so.1.13", "duplicate-libtorch"),
}


@pytest.mark.parametrize("context", SECOND)
def test_two_copies_of_libc10_under_any_name(builder: Builder, context: str) -> None:
    file, soname, rule = SECOND[context]
    lib = builder.torch()
    second = builder.library(f"second/{file}", functions(C10_OWN), soname=soname)
    if soname and soname != file:
        second = second.rename(second.with_name(soname))
    user = builder.library("second/libuser.so", calls(C10_OWN, main=False), second, HERE)
    words = (lib / "libtorch_cpu.so", user, f"{HERE}/torch/lib:$ORIGIN/second")
    app = builder.program("app", calls(CONTEXT, "use_all"), *words)
    assert [each.rule for each in findings(app) if each.severity is Severity.ERROR] == [rule]
    search = f"{HERE}:$ORIGIN/../torch/lib"
    builder.library("second/libuser.so", calls(C10_OWN, main=False), lib / "libc10.so", search)
    app = builder.program("app", calls(CONTEXT, "use_all"), *words)
    assert not rules(app)


def test_two_libtorchs_are_two_findings_of_one_rule(builder: Builder) -> None:
    lib = builder.torch()
    shutil.copytree(lib, builder.directory / "second/lib")
    for name in ("libc10", "libtorch_cpu"):
        (builder.directory / "second/lib" / f"{name}.so").rename(
            builder.directory / f"second/lib/{name}-0a1b2c3d.so"
        )
    builder.library("second/lib/libc10-0a1b2c3d.so", functions(C10_OWN))
    cpu = builder.library("second/lib/libtorch_cpu-0a1b2c3d.so", functions(CONTEXT))
    user = builder.library("libuser.so", calls(CONTEXT, main=False), cpu, f"{HERE}/second/lib")
    app = builder.program(
        "app", calls(CONTEXT, "use_all"), lib / "libtorch_cpu.so", user, f"{HERE}:$ORIGIN/torch/lib"
    )
    (finding,) = said(app, "duplicate-libtorch")
    assert finding.subject == "libtorch_cpu"
    assert len(finding.evidence) == 2


def test_one_file_by_two_names_is_one_copy(builder: Builder) -> None:
    lib = builder.torch()
    builder.path("alias/x")
    (builder.directory / "alias/libc10.so").symlink_to(lib / "libc10.so")
    user = builder.library(
        "libuser.so", calls(C10_OWN, main=False), builder.directory / "alias/libc10.so", f"{HERE}/alias"
    )
    app = builder.program(
        "app", calls(CONTEXT, "use_all"), lib / "libtorch_cpu.so", user, f"{HERE}:$ORIGIN/torch/lib"
    )
    assert not findings(app)


def test_a_static_copy_inside_the_program(builder: Builder) -> None:
    lib = builder.torch()
    words = (lib / "libtorch_cpu.so", "-Wl,--export-dynamic", f"{HERE}/torch/lib")
    (finding,) = findings(builder.program("app", functions(C10_OWN) + calls(CONTEXT), *words))
    assert (finding.rule, finding.severity) == ("static-libtorch-copy", Severity.ERROR)
    assert finding.evidence == (C10_OWN,)
    assert not findings(builder.program("app", calls(CONTEXT), *words))


def openmp(builder: Builder, file: str, symbol: str = "GOMP_parallel") -> str:
    return str(builder.library(file, functions(f"{symbol} omp_get_max_threads")))


def test_two_openmp_runtimes(builder: Builder) -> None:
    lib = builder.torch()
    own = openmp(builder, "torch/lib/libgomp-24e2ab19.so.1")
    builder.library(
        "torch/lib/libtorch_cpu.so", calls("GOMP_parallel", main=False) + functions(CONTEXT), own, HERE
    )
    other = openmp(builder, "other/libiomp5.so", "__kmpc_fork_call")
    words = (lib / "libtorch_cpu.so", f"{HERE}/torch/lib:$ORIGIN/other")
    app = builder.program("app", calls(CONTEXT, "__kmpc_fork_call"), other, *words)
    (finding,) = findings(app)
    assert (finding.rule, finding.severity) == ("duplicate-openmp", Severity.ERROR)
    assert finding.subject == "libgomp-24e2ab19.so.1 + libiomp5.so"
    assert not findings(
        builder.program("app", calls(CONTEXT, "GOMP_parallel"), own, *words[:1], f"{HERE}/torch/lib")
    )


def test_without_libtorch_two_openmp_runtimes_are_a_warning(builder: Builder) -> None:
    libraries = (openmp(builder, "libgomp.so.1"), openmp(builder, "libomp.so.5", "__kmpc_fork_call"))
    app = builder.program("app", calls("GOMP_parallel", "__kmpc_fork_call"), *libraries, HERE)
    assert [(each.rule, each.severity) for each in findings(app)] == [("duplicate-openmp", Severity.WARNING)]


MIXES = {
    ("libcudart.so.12", "libcublas.so.13"): {"cuda-major-mix"},
    ("libcudart.so.12", "libcudart.so.13"): {"cuda-major-mix"},
    ("libcudnn.so.8", "libcudnn.so.9"): {"cuda-major-mix"},
    ("libcudart.so.13", "libcublasLt.so.13"): set(),
    ("libcudart.so.13", "libcusparse.so.12"): set(),  # CUDA 13 has this one, and the next
    ("libcusparse.so.12", "libcusparseLt.so.0"): set(),
    ("libcudart-9335f6a2.so.12", "libcublas.so.12"): set(),
    ("libcudart-9335f6a2.so.11.0", "libcublas.so.12"): {"cuda-major-mix"},
}


@pytest.mark.parametrize("names", MIXES, ids=" ".join)
def test_cuda_libraries_of_one_major_version(builder: Builder, names: tuple[str, str]) -> None:
    libraries = [builder.library(name, functions(f"f{number}")) for number, name in enumerate(names)]
    app = builder.program("app", calls("f0", "f1"), *libraries, HERE)
    assert rules(app) == MIXES[names]
    assert not findings(builder.program("app", MAIN))


def test_two_copies_of_any_library(builder: Builder) -> None:
    source = "int count(void) { static int n; return ++n; }\n"
    first = builder.library("libfoo.so.1", source, "-Wl,-soname,libfoo.so.1")
    second = builder.library("wheel.libs/libfoo-9f3c21ab.so.1", source, "-Wl,-soname,libfoo-9f3c21ab.so.1")
    user = builder.library("libuser.so", "int count(void); int use(void) { return count(); }\n", second)
    call = "int use(void); int count(void); int main(void) { return use() + count(); }\n"
    words = ("-Wl,--no-as-needed", "-Wl,-rpath,$ORIGIN:$ORIGIN/wheel.libs", "-Wl,--disable-new-dtags")
    app = builder.program("app", call, first, user, *words, "-Wl,--allow-shlib-undefined")
    (finding,) = said(app, "duplicate-library")
    assert finding.subject == "libfoo.so.1"
    assert all(str(copy) in finding.message for copy in (first, second))
    user = builder.library("libuser.so", "int count(void); int use(void) { return count(); }\n", first)
    assert not said(builder.program("app", call, first, user, *words), "duplicate-library")


def test_libraries_that_share_only_a_name_are_not_copies(builder: Builder) -> None:
    first = builder.library("libfoo.so.1", "int one(void) { return 1; }\n", "-Wl,-soname,libfoo.so.1")
    second = builder.library("libfoo-9f3c21ab.so.1", "int two(void) { return 2; }\n")
    call = "int one(void); int two(void); int main(void) { return one() + two(); }\n"
    assert not said(builder.program("app", call, first, second, "-Wl,-rpath,$ORIGIN"), "duplicate-library")
