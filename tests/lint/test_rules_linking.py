"""Rules about the link line: what is too much on it, and what is not there."""

from __future__ import annotations

import subprocess

import pytest

from tests.conftest import unmet
from tests.lint.builder import MAIN, Builder, calls, findings, functions, rules, said, subjects
from torchlink.binary.elf import ElfFile
from torchlink.lint.finding import Severity

pytestmark = pytest.mark.compile

HERE = "-Wl,-rpath,$ORIGIN"
REGISTERS = "_ZN5torch7Library4_defEv"


def test_a_library_that_no_relocation_needs(builder: Builder) -> None:
    idle = builder.library("libidle.so")
    (finding,) = findings(builder.program("app", MAIN, idle, HERE))
    assert (finding.rule, finding.subject, finding.severity) == (
        "unused-library",
        "libidle.so",
        Severity.WARNING,
    )
    assert "-Wl,--as-needed" in finding.fix
    repaired = builder.program("app", MAIN, "-Wl,--as-needed", idle, HERE)
    assert not said(repaired, "unused-library")


NOT_IDLE = {
    "it interposes": functions("malloc free"),
    "it registers operators when it is loaded": f"""
        void {REGISTERS}(void);
        __attribute__((constructor)) static void at_start(void) {{ {REGISTERS}(); }}
    """,
}


@pytest.mark.parametrize("context", NOT_IDLE)
def test_a_library_may_take_effect_by_being_loaded(builder: Builder, context: str) -> None:
    lib = builder.torch()
    library = builder.library("libthere.so", NOT_IDLE[context], lib / "libtorch_cpu.so", HERE + "/torch/lib")
    app = builder.program("app", calls("_ZN2at13globalContextEv"), library, lib / "libtorch_cpu.so",
                        f"{HERE}:$ORIGIN/torch/lib")  # fmt: skip
    assert not said(app, "unused-library")


def test_a_library_that_takes_the_place_of_anothers_functions_is_used(builder: Builder) -> None:
    asking = builder.library(
        "libask.so", 'char* getenv(const char*); int ask(void) { return getenv("HOME") != 0; }\n'
    )
    taking = builder.library("libtake.so", "char* getenv(const char* name) { return 0; }\n")
    idle = builder.library("libidle.so", "char* nobody_asks(const char* name) { return 0; }\n")
    source = "int ask(void); int main(void) { return ask(); }\n"
    app = builder.program("app", source, "-Wl,--no-as-needed", taking, idle, asking, HERE)
    assert subjects(said(app, "unused-library")) == ["libidle.so"]


def test_an_unused_library_that_is_loaded_anyway_is_a_note(builder: Builder) -> None:
    base = builder.library("libbase.so", functions("base"))
    outer = builder.library("libouter.so", functions("outer") + calls("base", main=False), base, HERE)
    (finding,) = findings(builder.program("app", calls("outer"), outer, base, HERE))
    assert (finding.rule, finding.subject, finding.severity) == (
        "unused-library",
        "libbase.so",
        Severity.NOTE,
    )
    assert "libouter.so needs it too, but" in finding.message


def test_load_bearing_libraries_and_libm_beside_libstdcxx_stay(builder: Builder) -> None:
    lib = builder.torch(cuda=True)
    stub = builder.library("torch/lib/libtorch.so")
    words = (stub, lib / "libtorch_cuda.so", f"{HERE}/torch/lib", "-lstdc++", "-lm", "-lpthread", "-lgcc_s")
    app = builder.program("app", MAIN, *words)
    assert {"libm.so.6", "libgcc_s.so.1", "libtorch.so"} <= set(ElfFile.open(app).dynamic.needed)
    assert not said(app, "unused-library")


def of_glibc(name: str) -> str:
    """The path of a part of this machine's glibc."""
    done = subprocess.run(["gcc", f"-print-file-name={name}"], text=True, capture_output=True, check=True)
    return done.stdout.strip() if "/" in done.stdout else unmet(f"{name} of glibc")


def test_libm_without_libstdcxx_was_linked_explicitly(builder: Builder) -> None:
    app = builder.program("app", MAIN, of_glibc("libm.so.6"))
    (finding,) = findings(app)
    assert (finding.rule, finding.subject) == ("unused-library", "libm.so.6")
    assert not findings(builder.program("app", MAIN, "-Wl,--as-needed", of_glibc("libm.so.6")))


def test_a_part_of_glibc_that_has_become_empty_is_a_note(builder: Builder) -> None:
    stub = of_glibc("libdl.so.2")
    (finding,) = findings(builder.program("app", MAIN, stub))
    assert (finding.rule, finding.subject, finding.severity) == (
        "unused-library",
        "libdl.so.2",
        Severity.NOTE,
    )
    assert not findings(builder.program("app", MAIN, "-Wl,--as-needed", stub))


def test_what_has_moved_from_libpthread_to_libc_is_used_on_older_systems(builder: Builder) -> None:
    script = builder.path("versions.map")
    script.write_text("GLIBC_2.2.5 { global: pthread_create; local: *; };\n")
    words = (f"-Wl,--version-script,{script}", "-Wl,-soname,libpthread.so.0")
    old = builder.library("old/libpthread.so.0", functions("pthread_create"), *words)
    app = builder.program("app", calls("pthread_create"), old)
    assert "libpthread.so.0" in ElfFile.open(app).dynamic.needed
    assert not findings(app)


def test_a_library_without_code_of_its_own_is_not_unused(builder: Builder) -> None:
    base = builder.library("libbase.so", functions("base"))
    builder.build(
        "libforward.so", "", "-shared", "-Wl,--no-as-needed", base, HERE, "-Wl,-soname,libforward.so"
    )
    assert not findings(builder.directory / "libforward.so")
    app = builder.program("app", MAIN, builder.directory / "libforward.so", HERE)
    assert not said(app, "unused-library")
    builder.build("libforward.so", functions("own"), "-shared", "-Wl,--no-as-needed", base, HERE)
    assert subjects(said(builder.directory / "libforward.so", "unused-library")) == ["libbase.so"]


def test_a_library_that_another_own_library_uses_without_linking_is_not_unused(builder: Builder) -> None:
    base = builder.library("libbase.so", functions("base"))
    user = builder.library("libuser.so", calls("base", main=False))
    app = builder.program("app", calls("use_all"), user, base, HERE)
    assert not said(app, "unused-library")
    assert subjects(said(builder.program("app", MAIN, base, HERE), "unused-library")) == ["libbase.so"]


def test_a_library_that_another_one_happens_to_load(builder: Builder) -> None:
    base = builder.library("libbase.so", functions("base"))
    outer = builder.library("libouter.so", functions("outer") + calls("base", main=False), base, HERE)
    both = builder.program("app", calls("base", "outer"), base, outer, HERE)
    assert not findings(both)
    builder.library("libouter.so", functions("outer base"))  # as it was when the program was linked
    app = builder.program("app", calls("base", "outer"), outer, HERE)
    builder.library("libouter.so", functions("outer") + calls("base", main=False), base, HERE)
    (finding,) = findings(app)
    assert (finding.rule, finding.subject) == ("indirect-library", "libbase.so")
    assert finding.evidence == ("base",)
    assert "as libouter.so needs it too" in finding.message


def test_a_weak_reference_needs_no_library(builder: Builder) -> None:
    base = builder.library("libbase.so", functions("base"))
    outer = builder.library("libouter.so", functions("outer") + calls("base", main=False), base, HERE)
    source = "__attribute__((weak)) void base(void); void outer(void);"
    app = builder.library(
        "libapp.so", source + "int f(void) { outer(); if (base) base(); return 0; }", outer, HERE
    )
    assert not said(app, "indirect-library")


def test_a_test_library_of_libtorch(builder: Builder) -> None:
    lib = builder.torch()
    test_library = builder.library("torch/lib/libtorchbind_test.so", functions("bind"))
    rpath = f"{HERE}/torch/lib"
    source = calls("_ZN2at13globalContextEv", "bind")
    (finding,) = findings(builder.program("app", source, lib / "libtorch_cpu.so", test_library, rpath))
    assert (finding.rule, finding.subject) == ("test-library-linked", "libtorchbind_test.so")
    idle = builder.program(
        "app", calls("_ZN2at13globalContextEv"), lib / "libtorch_cpu.so", test_library, rpath
    )
    assert rules(idle) == {"test-library-linked"}  # that it is unused as well is the same cause
    assert not findings(
        builder.program("app", calls("_ZN2at13globalContextEv"), lib / "libtorch_cpu.so", rpath)
    )


def test_several_test_libraries_are_one_finding(builder: Builder) -> None:
    lib = builder.torch()
    names = ("libtorchbind_test.so", "libjitbackend_test.so", "libaoti_custom_ops.so")
    several = [builder.library(f"torch/lib/{name}") for name in names]
    words = (lib / "libtorch_cpu.so", f"{HERE}/torch/lib")
    (finding,) = findings(builder.program("app", calls("_ZN2at13globalContextEv"), *several, *words))
    assert (finding.rule, finding.subject) == ("test-library-linked", " + ".join(names))
    assert "-ltorchbind_test -ljitbackend_test -laoti_custom_ops:" in finding.fix


EXTENSION = functions("PyInit_mine")


def test_an_extension_that_links_libpython(builder: Builder) -> None:
    python = builder.library("libpython3.99.so.1.0", functions("Py_Initialize"))
    source = EXTENSION + calls("Py_Initialize", main=False)
    linked = builder.library("mine.so", source, python, HERE)
    (finding,) = findings(linked)
    assert (finding.rule, finding.subject) == ("extension-links-libpython", "libpython3.99.so.1.0")
    python.unlink()
    (finding,) = findings(linked)
    assert "not found" in finding.message
    assert not findings(builder.library("mine.so", source))


def test_an_extension_is_recognised_by_its_exports_not_by_its_file_name(builder: Builder) -> None:
    python = builder.library("libpython3.99.so.1.0", functions("Py_Initialize PyErr_Clear"))
    source = EXTENSION + calls("PyErr_Clear", main=False)
    built = builder.library("libmine_as_built.so", source, python, HERE)
    assert [each.rule for each in findings(built)] == ["extension-links-libpython"]
    assert not findings(builder.library("libmine_as_built.so", source))
    embeds = builder.library("libembeds.so", EXTENSION + calls("Py_Initialize", main=False), python, HERE)
    assert not findings(embeds)  # it starts an interpreter of its own


def test_an_extension_that_uses_python_alone_and_links_all_of_libtorch(builder: Builder) -> None:
    lib = builder.torch()
    words = ("-shared", "-Wl,--no-as-needed", lib / "libtorch_cpu.so", "-Wl,-soname,libtorch.so", HERE)
    stub = builder.build("torch/lib/libtorch.so", "", *words)
    everything = (stub, lib / "libtorch_cpu.so", lib / "libc10.so")
    source = EXTENSION + calls("PyModule_Create2", main=False)
    (finding,) = findings(builder.library("mine.so", source, *everything, f"{HERE}/torch/lib"))
    assert finding.rule == "extension-links-whole-libtorch"
    assert finding.evidence == ("libtorch.so", "libtorch_cpu.so", "libc10.so")
    assert not findings(builder.library("mine.so", source, "-Wl,--as-needed", *everything))


def test_an_extension_that_links_all_of_libtorch(builder: Builder) -> None:
    lib = builder.torch(cuda=True)
    everything = [lib / name for name in ("libtorch_cpu.so", "libc10.so", "libtorch_cuda.so")]
    source = EXTENSION + calls("_ZN2at13globalContextEv", main=False)
    rpath = f"{HERE}/torch/lib"
    (finding,) = findings(builder.library("mine.so", source, *everything, rpath))
    assert (finding.rule, finding.severity) == ("extension-links-whole-libtorch", Severity.WARNING)
    assert finding.evidence == ("libc10.so", "libtorch_cuda.so")
    (finding,) = findings(builder.library("mine.so", source, *everything[:2], rpath))
    assert finding.severity is Severity.NOTE  # it costs nothing where every torch has them
    assert not findings(builder.library("mine.so", source, "-Wl,--as-needed", *everything, rpath))


def test_unused_dependencies_of_nvidias_libraries_are_not_reported(builder: Builder) -> None:
    link = builder.library("libnvJitLink.so.13", functions("link"))
    assert not findings(builder.library("libcusolver.so.12", "", link, HERE))
    assert not findings(builder.library("libcudnn_adv.so.9", "", link, HERE))
    assert rules(builder.library("libcuda_kernels.so", "", link, HERE)) == {"unused-library"}


def test_the_driver_is_a_warning_for_a_program_and_a_note_for_a_library(builder: Builder) -> None:
    driver = builder.library("libcuda.so.1", functions("cuInit"))
    library = builder.library("libuser.so", calls("cuInit", main=False), driver)
    program = builder.program("app", calls("cuInit"), driver)
    driver.unlink()
    assert [each.severity for each in findings(library)] == [Severity.NOTE]
    assert [each.severity for each in findings(program)] == [Severity.WARNING]
