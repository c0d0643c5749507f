"""Who takes the place of libtorch's own functions, against the live loader's bindings and on fake libraries."""

from __future__ import annotations

import re
import shlex
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import unmet
from tests.lint.builder import C10, CPU, MAIN, NEW_STRING, Builder, calls, findings, functions
from torchlink.binary.elf import ElfFile
from torchlink.lint.finding import Severity
from torchlink.lint.symbol_families import BLAS, family
from torchlink.lint.text.tool_output import check_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Result
    from torchlink.lint.finding import Finding

pytestmark = pytest.mark.compile

RULE = "interposed-symbols"
USES_TORCH = "_ZN2at13globalContextEv"
MINIZ = ("mz_version", "mz_crc32", "tinfl_decompress")
PROTOBUF = ("_ZN6google8protobuf7Message4swapEv", "_ZN6google8protobuf7Message5parseEv")


def bindings(program: Path, library: str, taker: str) -> set[str]:
    """The symbols of one library that the live loader binds to another, all of them at start."""
    done = subprocess.run(
        [program],
        env={"LD_DEBUG": "bindings", "LD_BIND_NOW": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-500:]
    pattern = rf"binding file \S*/{library} \[0\] to \S*{re.escape(taker)} \[0\]: normal symbol `([^']+)'"
    return set(re.findall(pattern, done.stderr))


def interposed(path: Path, **found_via: Any) -> list[Finding]:
    """What the rule says of a file of which all libraries were found."""
    found = findings(path, **found_via)
    assert all(each.rule != "library-not-found" for each in found)
    return [each for each in found if each.rule == RULE]


@pytest.fixture
def flags(torchlink: Callable[..., Result], torch_root: Path) -> list[str]:
    """What torchlink links a program against the real libtorch with."""
    return shlex.split(torchlink("flags", "--link", "--libtorch", torch_root).out)


def program(builder: Builder, name: str, *words: str | Path, uses: tuple[str, ...] = (USES_TORCH,)) -> Path:
    """A program against a real libtorch with everything on its line in that order."""
    declared = "".join(f"void {each}(void);\n" for each in uses)
    called = "".join(f"if (count > 9) {each}();" for each in uses)
    source = f"{declared}int main(int count, char **words) {{ {called} return 0; }}\n"
    return builder.build(
        name, source, "-Wl,--no-as-needed", *words, "-Wl,--unresolved-symbols=ignore-in-shared-libs"
    )


def test_an_openblas_before_libtorch_interposes_what_the_live_loader_binds(
    builder: Builder, flags: list[str]
) -> None:
    linked = subprocess.run(
        ["c++", "-x", "c++", "-", "-o", builder.path("probe"), "-lopenblas"],
        input=MAIN.replace("(void)", "()"),
        text=True,
        capture_output=True,
        check=False,
        timeout=120,
    )
    if linked.returncode:
        unmet("OpenBLAS (libopenblas-dev)")
    uses = (USES_TORCH, "sgemm_", "cblas_sgemm")
    before = program(builder, "before", "-lopenblas", *flags, uses=uses)
    live = bindings(before, "libtorch_cpu.so", "libopenblas.so.0")
    assert live, "this libtorch_cpu.so has no BLAS of its own"
    (found,) = interposed(before)
    assert found.severity is Severity.WARNING
    assert found.subject == "libopenblas.so.0"
    assert (
        f"interposes {len(live)} symbols that libtorch_cpu.so defines for itself ({len(live)} of {BLAS})"
        in found.message
    )
    assert taken(found) <= live
    assert "with torchlink's flags before -lopenblas: g++ … $(torchlink flags --link) -lopenblas" in found.fix

    after = program(builder, "after", *flags, "-lopenblas", uses=uses)
    assert interposed(after) == []
    assert bindings(after, "libtorch_cpu.so", "libopenblas.so.0") == set()


def taken(finding: Finding) -> set[str]:
    """The symbols that a finding shows as taken."""
    return {line.removeprefix("interposed: ") for line in finding.evidence if line.startswith("interposed: ")}


def test_a_part_of_a_family_is_an_error_and_the_other_order_fixes_it(
    builder: Builder, flags: list[str], torch_root: Path
) -> None:
    with ElfFile.open(torch_root / "lib" / "libtorch_cpu.so") as elf:
        own = sorted(each.name.decode() for each in elf.preemptible() if family(each.name) == "miniz")
    assert len(own) > 9
    part = builder.library("libpart.so", functions(" ".join(own[:9])))
    here = f"-Wl,-rpath,{builder.directory}"
    first = program(builder, "first", part, *flags, here)
    assert bindings(first, "libtorch_cpu.so", "libpart.so") == set(own[:9])
    (found,) = interposed(first)
    assert found.severity is Severity.ERROR
    assert "interposes 9 symbols that libtorch_cpu.so defines for itself (9 of miniz)" in found.message
    assert f"The rest binds to libtorch_cpu.so itself ({len(own) - 9} of miniz)" in found.message
    assert f"kept by libtorch_cpu.so: {own[9]}" in found.evidence
    assert found.fix.startswith("Link first with torchlink's flags before -lpart: ")

    (report,) = check_text(ldd(first), "-")
    (from_text,) = (each for each in report.findings if each.rule == RULE)
    assert (from_text.severity, from_text.message) == (found.severity, found.message)

    second = program(builder, "second", *flags, part, here)
    assert interposed(second) == []
    assert bindings(second, "libtorch_cpu.so", "libpart.so") == set()
    assert all(each.rule != RULE for report in check_text(ldd(second), "-") for each in report.findings)


def ldd(path: Path) -> str:
    """What ldd says of a file."""
    return subprocess.run(["ldd", path], capture_output=True, text=True, check=True, timeout=60).stdout


def torch(builder: Builder, *names: str, words: tuple[str, ...] = (), source: str = "") -> list[str | Path]:
    """A fake libtorch whose libtorch_cpu.so has functions with these names and calls them; how to link it."""
    c10 = builder.library("torch/lib/libc10.so", functions(C10.format(string=NEW_STRING)))
    own = functions(" ".join((*CPU.format(string=NEW_STRING, show_config="").split(), *names)))
    user = f"void libtorch_uses_them(void) {{ {' '.join(f'{name}();' for name in names)} }}\n"
    builder.library("torch/lib/libtorch_cpu.so", own + source + user, c10, "-Wl,-rpath,$ORIGIN", *words)
    lib = builder.directory / "torch" / "lib"
    return [f"-L{lib}", f"-Wl,-rpath,{lib}:$ORIGIN", "-ltorch_cpu", "-lc10"]


def test_a_family_that_is_interposed_as_a_whole_is_a_warning(builder: Builder) -> None:
    link = torch(builder, *MINIZ)
    other = builder.library("libother.so", functions(" ".join(MINIZ)))
    (found,) = interposed(builder.program("app", calls(USES_TORCH), other, *link))
    assert found.severity is Severity.WARNING
    assert "It defines everything that libtorch_cpu.so uses of miniz" in found.message
    two = [
        builder.library(f"lib{number}.so", functions(each))
        for number, each in enumerate((MINIZ[0], " ".join(MINIZ[1:])))
    ]
    halves = interposed(builder.program("halves", calls(USES_TORCH), *two, *link))
    assert [(each.subject, each.severity) for each in halves] == [
        ("lib0.so", Severity.WARNING),
        ("lib1.so", Severity.WARNING),
    ]


def test_a_cxx_library_is_recognised_by_its_namespace(builder: Builder) -> None:
    link = torch(builder, *PROTOBUF, "_ZN6google10LogMessage5flushEv")
    old = builder.library("libprotobuf.so.9", functions(PROTOBUF[0]))
    (found,) = interposed(builder.program("app", calls(USES_TORCH), old, *link))
    assert found.severity is Severity.ERROR
    assert "(1 of google::protobuf): libtorch's own calls go to it" in found.message
    assert "itself (1 of google::protobuf)" in found.message  # glog, in google:: too, is another family
    assert "before -lprotobuf" in found.fix


@pytest.mark.parametrize("found_via", ["-Bsymbolic", "protected", "not called"])
def test_what_libtorch_binds_to_itself_is_not_interposed(builder: Builder, found_via: str) -> None:
    source = ""
    if found_via == "protected":
        source = "".join(
            f'__attribute__((visibility("protected"))) void {each}(void) {{}}\n' for each in MINIZ
        )
        source += f"void calls_them(void) {{ {' '.join(f'{each}();' for each in MINIZ)} }}\n"
        link = torch(builder, source=source)
    elif found_via == "not called":
        link = torch(builder, source=functions(" ".join(MINIZ)))
    else:
        link = torch(builder, *MINIZ, words=("-Wl,-Bsymbolic",))
    other = builder.library("libother.so", functions(MINIZ[0]))
    assert interposed(builder.program("app", calls(USES_TORCH), other, *link)) == []


@pytest.mark.parametrize(
    "names",
    [
        "malloc free _Znwm _ZdlPv",  # an allocator
        "xerbla_",  # LAPACK's manual says so
        "_ZNSt6vectorIiE4pushEv _ZStlsv _ZN9__gnu_cxx3foov __cxa_throw",  # a C++ runtime
        ".gomp_critical_user_x",
    ],
)
def test_replaceable_and_process_wide_symbols_are_not_reported(builder: Builder, names: str) -> None:
    listed = names.split()
    if names.startswith("."):
        code = f'int x __asm__("{names}") = 1; int use(void) {{ return x; }}\n'
        link, other = (
            torch(builder, source=code),
            builder.library("libother.so", code.replace("use", "other")),
        )
    else:
        link = torch(builder, *listed, "sgemm_")
        other = builder.library("libother.so", functions(names))
    assert interposed(builder.program("app", calls(USES_TORCH), other, *link)) == []


def test_copies_of_inline_functions_are_not_reported(builder: Builder) -> None:
    name = "_ZN2at6Tensor4sizeEv"
    weak = f"__attribute__((weak)) void {name}(void) {{}}\n"
    link = torch(builder, source=f"{weak}void calls_it(void) {{ {name}(); }}\n")
    other = builder.library("libother.so", weak)
    assert interposed(builder.program("app", calls(USES_TORCH), other, *link)) == []


def test_variables_with_copy_relocations_are_not_reported(builder: Builder) -> None:
    name = "_ZN2at6globalE"
    link = torch(builder, source=f"int {name} = 1; int uses_it(void) {{ return {name}; }}\n")
    source = f"extern int {name}; int main(void) {{ return {name} + {USES_TORCH}(); }}\n"
    app = builder.program("app", f"int {USES_TORCH}(void);\n{source}", "-no-pie", "-fno-pie", *link)
    with ElfFile.open(app) as elf:
        assert any(each.copied for each in elf.references())
    assert interposed(app) == []


def test_the_loader_is_breadth_first_and_the_user_is_to_be_relinked(builder: Builder) -> None:
    link = torch(builder, *MINIZ)
    here = "-Wl,-rpath,$ORIGIN"
    other = builder.library("libother.so", functions(MINIZ[0]))
    deep = builder.library("libdeep.so", calls(MINIZ[0], main=False), other, here)
    assert interposed(builder.program("app", calls(USES_TORCH, "use_all"), deep, *link)) == []

    both = builder.library("libboth.so", calls(USES_TORCH, main=False), other, *link, here)
    (found,) = interposed(builder.program("top", calls("use_all"), both, here))
    assert found.fix.startswith("Link libboth.so with torchlink's flags before -lother")
    (found,) = interposed(both)
    assert found.message.endswith("This happens if nothing has loaded libtorch before.")
    # A library that uses nothing of libtorch would lose it to --as-needed again.
    kept = builder.library("libidle.so", "", other, *link, here)
    (found,) = interposed(builder.program("idle", MAIN, kept, here))
    assert "-Wl,--push-state,--no-as-needed $(torchlink flags --link) -Wl,--pop-state -lother" in found.fix


def test_a_library_that_the_system_loads_needs_the_program_relinked(builder: Builder) -> None:
    link = torch(builder, *MINIZ)
    other = builder.library("usr/lib/libother.so", functions(MINIZ[0]))
    deep = builder.library("usr/lib/libdeep.so", "", other)
    system = builder.library("usr/lib/libsystem.so", "", deep)
    torch_lib = "-Wl,-rpath,$ORIGIN/torch/lib"
    inner = builder.library("libinner.so", calls(USES_TORCH, main=False), *link[:1], *link[2:], torch_lib)
    mine = builder.library("libmine.so", "", inner, "-Wl,-rpath,$ORIGIN")
    app = builder.program("app", MAIN, system, mine, "-Wl,-rpath,$ORIGIN")
    (found,) = interposed_but_libc(app, builder.directory)
    assert found.fix.startswith("Link app with torchlink's flags before -lsystem: ")
    assert "--no-as-needed $(torchlink flags --link)" in found.fix


def interposed_but_libc(path: Path, root: Path) -> list[Finding]:
    """The same in an image that has no C library."""
    return [each for each in findings(path, root=root) if each.rule == RULE]


def test_dependencies_of_libtorch_are_not_reported(builder: Builder) -> None:
    other = builder.library("torch/lib/libother.so", functions(MINIZ[0]))
    link = torch(builder, *MINIZ, words=(str(other),))
    assert interposed(builder.program("app", calls(USES_TORCH), other, *link)) == []


def test_the_fix_for_a_static_library_in_the_program_works(builder: Builder) -> None:
    link = torch(builder, *MINIZ)
    builder.build("miniz.o", functions(MINIZ[0]), "-c")
    subprocess.run(["ar", "rcs", "libminiz.a", "miniz.o"], cwd=builder.directory, check=True, timeout=60)
    words = (builder.directory / "libminiz.a", *link)
    (found,) = interposed(builder.program("app", calls(MINIZ[0], USES_TORCH), *words))
    assert (found.subject, found.severity) == ("app", Severity.ERROR)
    assert found.message.startswith(
        "app itself interposes 1 symbol that libtorch_cpu.so defines for itself (1 of miniz)"
    )
    cure = "-Wl,--exclude-libs,ALL"
    assert cure in found.fix
    assert interposed(builder.program("app", calls(MINIZ[0], USES_TORCH), cure, *words)) == []


def test_the_test_programs_of_a_wheel_are_torchs_own(builder: Builder) -> None:
    link = torch(builder, *MINIZ)
    app = builder.program(
        "torch/bin/test_jit", f"{functions(MINIZ[0])}{calls(USES_TORCH)}", "-rdynamic", *link
    )
    assert interposed(app) != []  # in the `bin` of a prefix, which holds the user's programs too
    builder.path("torch/version.py").touch()
    assert interposed(app) == []


def test_a_preloaded_library_counts(builder: Builder) -> None:
    link = torch(builder, *MINIZ)
    other = builder.library("libother.so", functions(MINIZ[0]))
    app = builder.program("app", calls(USES_TORCH), *link)
    assert interposed(app) == []
    (found,) = interposed(app, environment={"LD_PRELOAD": str(other)})
    assert found.fix.startswith("Unset LD_PRELOAD")


def test_an_extension_gets_a_note_because_torch_is_imported_first(builder: Builder) -> None:
    link = torch(builder, *MINIZ)
    other = builder.library("libother.so", functions(MINIZ[0]))
    mine = builder.library("mine.abi3.so", calls(USES_TORCH, main=False), other, *link, "-Wl,-rpath,$ORIGIN")
    (found,) = interposed(mine)
    assert found.severity is Severity.NOTE
    assert found.message.endswith("This happens if mine.abi3.so is imported before torch.")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *(
            (each, BLAS)
            for each in ("sgemm_", "cblas_dgemm", "cblas_zdotc_sub", "zheevd_", "ilaenv_", "dlamch_")
        ),
        *(
            (each, BLAS)
            for each in ("dsytrf_aa_2stage_", "scnrm2_", "idamax_", "izmax1_", "LAPACKE_dgesv", "xerbla_")
        ),
        ("cblas_sgemm_batch", "cblas_sgemm_batch"),
        ("cblas_sgemm_pack_get_size", "MKL's packed gemm"),
        ("mkl_blas_avx2_sgemm", "MKL"),
        ("vmdAcos", "MKL"),
        ("XERBLA", "MKL"),
        ("DftiComputeForward", "MKL"),
        ("tinfl_decompress", "miniz"),
        ("uv__io_poll", "uv_*"),
        ("Sleef_sind4_u10avx2", "Sleef_*"),
        ("aoti_torch_empty", "c10 and torch"),
        ("hasTestEnvVar", "hasTestEnvVar"),
        ("_ZN6google8protobuf7Message5ClearEv", "google::protobuf"),
        ("_ZTVN6google8protobuf7MessageE", "google::protobuf"),
        ("_ZThn16_N6google8protobuf2io6Stream4SkipEi", "google::protobuf"),
        ("_ZN6google10LogMessage5flushEv", "google::"),
        ("_ZNK3fmt3v126detail6buffer4growEv", "fmt::"),
        ("_ZN2at4_ops3add4callERKNS_6TensorE", "c10 and torch"),
        ("_ZZN3c1010TensorImpl3fooEvE4once", "c10 and torch"),
        ("_Z3addRKN2at6TensorE", "_Z3addRKN2at6TensorE"),
        ("_ZNSt6vectorIN2at6TensorESaIS1_EE9push_backERKS1_", None),
        ("_ZTISt9exception", None),
        ("_ZN10__cxxabiv115__forced_unwindD1Ev", None),
        ("_Znwm", None),
        ("malloc", None),
        ("__asan_init", None),
    ],
)
def test_the_family_of_a_name(name: str, expected: str | None) -> None:
    assert family(name.encode()) == expected
