"""Rules about the link line: what is too much on it, and what is not there."""

from __future__ import annotations

import subprocess

import pytest

from tests.conftest import unmet
from tests.lint.bench import MAIN, Bench, calls, findings, functions, rules, said, subjects
from torchlink.binary.elf import ElfFile
from torchlink.lint.finding import Severity

pytestmark = pytest.mark.compile

HERE = "-Wl,-rpath,$ORIGIN"
REGISTERS = "_ZN5torch7Library4_defEv"


def test_a_library_that_no_relocation_needs(bench: Bench) -> None:
    idle = bench.library("libidle.so")
    (finding,) = findings(bench.program("app", MAIN, idle, HERE))
    assert (finding.rule, finding.subject, finding.severity) == (
        "unused-library",
        "libidle.so",
        Severity.WARNING,
    )
    assert "-Wl,--as-needed" in finding.fix
    repaired = bench.program("app", MAIN, "-Wl,--as-needed", idle, HERE)
    assert not said(repaired, "unused-library")


NOT_IDLE = {
    "it interposes": functions("malloc free"),
    "it registers operators when it is loaded": f"""
        void {REGISTERS}(void);
        __attribute__((constructor)) static void at_start(void) {{ {REGISTERS}(); }}
    """,
}


@pytest.mark.parametrize("context", NOT_IDLE)
def test_a_library_may_work_by_being_there(bench: Bench, context: str) -> None:
    lib = bench.torch()
    library = bench.library("libthere.so", NOT_IDLE[context], lib / "libtorch_cpu.so", HERE + "/torch/lib")
    app = bench.program("app", calls("_ZN2at13globalContextEv"), library, lib / "libtorch_cpu.so",
                        f"{HERE}:$ORIGIN/torch/lib")  # fmt: skip
    assert not said(app, "unused-library")


def test_a_library_that_takes_the_place_of_anothers_functions_is_used(bench: Bench) -> None:
    asking = bench.library(
        "libask.so", 'char* getenv(const char*); int ask(void) { return getenv("HOME") != 0; }\n'
    )
    taking = bench.library("libtake.so", "char* getenv(const char* name) { return 0; }\n")
    idle = bench.library("libidle.so", "char* nobody_asks(const char* name) { return 0; }\n")
    source = "int ask(void); int main(void) { return ask(); }\n"
    app = bench.program("app", source, "-Wl,--no-as-needed", taking, idle, asking, HERE)
    assert subjects(said(app, "unused-library")) == ["libidle.so"]


def test_an_unused_library_that_is_loaded_anyway_is_a_note(bench: Bench) -> None:
    base = bench.library("libbase.so", functions("base"))
    outer = bench.library("libouter.so", functions("outer") + calls("base", main=False), base, HERE)
    (finding,) = findings(bench.program("app", calls("outer"), outer, base, HERE))
    assert (finding.rule, finding.subject, finding.severity) == (
        "unused-library",
        "libbase.so",
        Severity.NOTE,
    )
    assert "libouter.so brings it anyway" in finding.message


def test_load_bearing_libraries_and_libm_beside_libstdcxx_stay(bench: Bench) -> None:
    lib = bench.torch(cuda=True)
    stub = bench.library("torch/lib/libtorch.so")
    words = (stub, lib / "libtorch_cuda.so", f"{HERE}/torch/lib", "-lstdc++", "-lm", "-lpthread", "-lgcc_s")
    app = bench.program("app", MAIN, *words)
    assert {"libm.so.6", "libgcc_s.so.1", "libtorch.so"} <= set(ElfFile.open(app).dynamic.needed)
    assert not said(app, "unused-library")


def of_glibc(name: str) -> str:
    """The path of a part of this machine's glibc."""
    done = subprocess.run(["gcc", f"-print-file-name={name}"], text=True, capture_output=True, check=True)
    return done.stdout.strip() if "/" in done.stdout else unmet(f"{name} of glibc")


def test_libm_without_libstdcxx_was_asked_for(bench: Bench) -> None:
    app = bench.program("app", MAIN, of_glibc("libm.so.6"))
    (finding,) = findings(app)
    assert (finding.rule, finding.subject) == ("unused-library", "libm.so.6")
    assert not findings(bench.program("app", MAIN, "-Wl,--as-needed", of_glibc("libm.so.6")))


def test_a_part_of_glibc_that_has_become_empty_is_a_note(bench: Bench) -> None:
    stub = of_glibc("libdl.so.2")
    (finding,) = findings(bench.program("app", MAIN, stub))
    assert (finding.rule, finding.subject, finding.severity) == (
        "unused-library",
        "libdl.so.2",
        Severity.NOTE,
    )
    assert not findings(bench.program("app", MAIN, "-Wl,--as-needed", stub))


def test_what_has_moved_from_libpthread_to_libc_is_used_on_older_systems(bench: Bench) -> None:
    script = bench.path("versions.map")
    script.write_text("GLIBC_2.2.5 { global: pthread_create; local: *; };\n")
    words = (f"-Wl,--version-script,{script}", "-Wl,-soname,libpthread.so.0")
    old = bench.library("old/libpthread.so.0", functions("pthread_create"), *words)
    app = bench.program("app", calls("pthread_create"), old)
    assert "libpthread.so.0" in ElfFile.open(app).dynamic.needed
    assert not findings(app)


def test_a_library_without_code_of_its_own_is_there_for_what_it_links(bench: Bench) -> None:
    base = bench.library("libbase.so", functions("base"))
    bench.build("libforward.so", "", "-shared", "-Wl,--no-as-needed", base, HERE, "-Wl,-soname,libforward.so")
    assert not findings(bench.directory / "libforward.so")
    app = bench.program("app", MAIN, bench.directory / "libforward.so", HERE)
    assert not said(app, "unused-library")
    bench.build("libforward.so", functions("own"), "-shared", "-Wl,--no-as-needed", base, HERE)
    assert subjects(said(bench.directory / "libforward.so", "unused-library")) == ["libbase.so"]


def test_what_an_own_library_forgot_to_link_stays_linked_in_the_program(bench: Bench) -> None:
    base = bench.library("libbase.so", functions("base"))
    user = bench.library("libuser.so", calls("base", main=False))
    app = bench.program("app", calls("use_all"), user, base, HERE)
    assert not said(app, "unused-library")
    assert subjects(said(bench.program("app", MAIN, base, HERE), "unused-library")) == ["libbase.so"]


def test_a_library_that_another_one_happens_to_bring(bench: Bench) -> None:
    base = bench.library("libbase.so", functions("base"))
    outer = bench.library("libouter.so", functions("outer") + calls("base", main=False), base, HERE)
    both = bench.program("app", calls("base", "outer"), base, outer, HERE)
    assert not findings(both)
    bench.library("libouter.so", functions("outer base"))  # as it was when the program was linked
    app = bench.program("app", calls("base", "outer"), outer, HERE)
    bench.library("libouter.so", functions("outer") + calls("base", main=False), base, HERE)
    (finding,) = findings(app)
    assert (finding.rule, finding.subject) == ("indirect-library", "libbase.so")
    assert finding.evidence == ("base",)
    assert "libouter.so brings it" in finding.message


def test_a_weak_reference_needs_no_library(bench: Bench) -> None:
    base = bench.library("libbase.so", functions("base"))
    outer = bench.library("libouter.so", functions("outer") + calls("base", main=False), base, HERE)
    source = "__attribute__((weak)) void base(void); void outer(void);"
    app = bench.library(
        "libapp.so", source + "int f(void) { outer(); if (base) base(); return 0; }", outer, HERE
    )
    assert not said(app, "indirect-library")


def test_a_test_library_of_libtorch(bench: Bench) -> None:
    lib = bench.torch()
    test_library = bench.library("torch/lib/libtorchbind_test.so", functions("bind"))
    rpath = f"{HERE}/torch/lib"
    source = calls("_ZN2at13globalContextEv", "bind")
    (finding,) = findings(bench.program("app", source, lib / "libtorch_cpu.so", test_library, rpath))
    assert (finding.rule, finding.subject) == ("test-library-linked", "libtorchbind_test.so")
    idle = bench.program(
        "app", calls("_ZN2at13globalContextEv"), lib / "libtorch_cpu.so", test_library, rpath
    )
    assert rules(idle) == {"test-library-linked"}  # that it is unused as well is the same cause
    assert not findings(
        bench.program("app", calls("_ZN2at13globalContextEv"), lib / "libtorch_cpu.so", rpath)
    )


def test_several_test_libraries_are_one_finding(bench: Bench) -> None:
    lib = bench.torch()
    names = ("libtorchbind_test.so", "libjitbackend_test.so", "libaoti_custom_ops.so")
    several = [bench.library(f"torch/lib/{name}") for name in names]
    words = (lib / "libtorch_cpu.so", f"{HERE}/torch/lib")
    (finding,) = findings(bench.program("app", calls("_ZN2at13globalContextEv"), *several, *words))
    assert (finding.rule, finding.subject) == ("test-library-linked", " + ".join(names))
    assert "-ltorchbind_test -ljitbackend_test -laoti_custom_ops out" in finding.fix


EXTENSION = functions("PyInit_mine")


def test_an_extension_that_links_libpython(bench: Bench) -> None:
    python = bench.library("libpython3.99.so.1.0", functions("Py_Initialize"))
    source = EXTENSION + calls("Py_Initialize", main=False)
    linked = bench.library("mine.so", source, python, HERE)
    (finding,) = findings(linked)
    assert (finding.rule, finding.subject) == ("extension-links-libpython", "libpython3.99.so.1.0")
    python.unlink()
    (finding,) = findings(linked)
    assert "not found" in finding.message
    assert not findings(bench.library("mine.so", source))


def test_an_extension_is_one_by_what_it_exports_whatever_its_file_is_called(bench: Bench) -> None:
    python = bench.library("libpython3.99.so.1.0", functions("Py_Initialize PyErr_Clear"))
    source = EXTENSION + calls("PyErr_Clear", main=False)
    built = bench.library("libmine_as_built.so", source, python, HERE)
    assert [each.rule for each in findings(built)] == ["extension-links-libpython"]
    assert not findings(bench.library("libmine_as_built.so", source))
    embeds = bench.library("libembeds.so", EXTENSION + calls("Py_Initialize", main=False), python, HERE)
    assert not findings(embeds)  # it starts an interpreter of its own


def test_an_extension_that_uses_python_alone_and_links_all_of_libtorch(bench: Bench) -> None:
    lib = bench.torch()
    words = ("-shared", "-Wl,--no-as-needed", lib / "libtorch_cpu.so", "-Wl,-soname,libtorch.so", HERE)
    stub = bench.build("torch/lib/libtorch.so", "", *words)
    everything = (stub, lib / "libtorch_cpu.so", lib / "libc10.so")
    source = EXTENSION + calls("PyModule_Create2", main=False)
    (finding,) = findings(bench.library("mine.so", source, *everything, f"{HERE}/torch/lib"))
    assert finding.rule == "extension-links-whole-libtorch"
    assert finding.evidence == ("libtorch.so", "libtorch_cpu.so", "libc10.so")
    assert not findings(bench.library("mine.so", source, "-Wl,--as-needed", *everything))


def test_an_extension_that_links_all_of_libtorch(bench: Bench) -> None:
    lib = bench.torch(cuda=True)
    everything = [lib / name for name in ("libtorch_cpu.so", "libc10.so", "libtorch_cuda.so")]
    source = EXTENSION + calls("_ZN2at13globalContextEv", main=False)
    rpath = f"{HERE}/torch/lib"
    (finding,) = findings(bench.library("mine.so", source, *everything, rpath))
    assert (finding.rule, finding.severity) == ("extension-links-whole-libtorch", Severity.WARNING)
    assert finding.evidence == ("libc10.so", "libtorch_cuda.so")
    (finding,) = findings(bench.library("mine.so", source, *everything[:2], rpath))
    assert finding.severity is Severity.NOTE  # it costs nothing where every torch has them
    assert not findings(bench.library("mine.so", source, "-Wl,--as-needed", *everything, rpath))


def test_what_nvidia_links_into_its_libraries_is_not_the_users_to_leave_out(bench: Bench) -> None:
    link = bench.library("libnvJitLink.so.13", functions("link"))
    assert not findings(bench.library("libcusolver.so.12", "", link, HERE))
    assert not findings(bench.library("libcudnn_adv.so.9", "", link, HERE))
    assert rules(bench.library("libcuda_kernels.so", "", link, HERE)) == {"unused-library"}


def test_the_driver_is_a_warning_for_a_program_and_a_note_for_a_library(bench: Bench) -> None:
    driver = bench.library("libcuda.so.1", functions("cuInit"))
    library = bench.library("libuser.so", calls("cuInit", main=False), driver)
    program = bench.program("app", calls("cuInit"), driver)
    driver.unlink()
    assert [each.severity for each in findings(library)] == [Severity.NOTE]
    assert [each.severity for each in findings(program)] == [Severity.WARNING]
