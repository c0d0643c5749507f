"""Rules about the machine: files for another one, text relocations, executable stacks."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from tests.conftest import unmet
from tests.lint.builder import MAIN, Builder, calls, findings, functions, has, said, subjects
from torchlink.binary.elf import ElfFile
from torchlink.binary.system import system_for
from torchlink.libtorch.machine import this_machine
from torchlink.lint.finding import Severity

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.compile

OTHER = "riscv64" if this_machine().arch == "aarch64" else "aarch64"
INNER = functions("inner")


def for_another_machine(builder: Builder, file: str, source: str, *words: str | Path) -> Path:
    """The same library for a machine that this one is not."""
    if not has("clang", "ld.lld"):
        unmet("clang and lld")
    found_via = ("-nostdlib", "-fuse-ld=lld", f"--target={OTHER}-linux-gnu", *words)
    return builder.library(file, source, *found_via, compiler="clang")


def test_a_library_for_another_machine_where_ours_was_looked_for(builder: Builder) -> None:
    inner = builder.library("lib/libinner.so", INNER)
    app = builder.program("app", calls("inner"), inner, "-Wl,-rpath,$ORIGIN/lib")
    assert not findings(app)
    for_another_machine(builder, "lib/libinner.so", INNER)
    (finding,) = findings(app)
    assert (finding.rule, finding.subject) == ("wrong-architecture", str(inner))
    assert finding.severity is Severity.ERROR
    assert f"is for {OTHER}, but app is for {this_machine().arch}" in finding.message


def test_a_program_whose_header_names_another_machine_is_one_finding(builder: Builder) -> None:
    app = builder.program("app", MAIN, "-lm")
    assert not [each for each in findings(app) if each.severity is Severity.ERROR]
    with app.open("r+b") as file:
        file.seek(18)
        file.write(struct.pack("=H", 243 if OTHER == "riscv64" else 183))
    (finding,) = findings(app)
    assert (finding.rule, finding.subject) == ("wrong-architecture", "app")
    assert finding.severity is Severity.ERROR
    assert "libm.so.6, libc.so.6" in finding.message


def test_a_library_for_another_machine_that_the_loader_skips(builder: Builder) -> None:
    inner = builder.library("lib/libinner.so", INNER)
    passed = for_another_machine(builder, "cross/libinner.so", INNER)
    app = builder.program("app", calls("inner"), inner, "-Wl,-rpath,$ORIGIN/cross:$ORIGIN/lib")
    (finding,) = findings(app)
    assert (finding.rule, finding.subject) == ("wrong-architecture", str(passed))
    assert finding.severity is Severity.WARNING
    assert f"loads {inner} instead" in finding.message


def test_a_binary_for_another_machine_is_checked_as_far_as_possible(builder: Builder) -> None:
    library = for_another_machine(builder, "libuser.so", calls("inner", main=False))
    (finding,) = said(library, "wrong-architecture")
    assert (finding.subject, finding.severity) == ("libuser.so", Severity.WARNING)
    assert "--root" in finding.fix


def test_only_libtorch_is_reported_missing_for_another_machine(builder: Builder) -> None:
    libc = for_another_machine(builder, "stubs/libc.so.6", functions("puts"))
    c10 = for_another_machine(builder, "stubs/libc10.so", INNER)
    user = for_another_machine(
        builder, "far/away/from/libuser.so", calls("inner", "puts", main=False), c10, libc
    )
    found = findings(user)
    assert {each.rule: each.subject for each in found} == {
        "wrong-architecture": "libuser.so",
        "library-not-found": "libc10.so",
    }
    assert [each.evidence for each in found if each.rule == "wrong-architecture"] == [
        ("not checked: libc.so.6",)
    ]
    image = builder.directory / "image"
    for file in ("usr/lib/libc.so.6", "usr/lib/libc10.so"):
        builder.path(f"image/{file}").write_bytes((builder.directory / "stubs" / file[8:]).read_bytes())
    assert not findings(user, root=image)


def test_text_relocations(builder: Builder) -> None:
    source = '__asm__(".text\\n.quad in_here\\n"); int in_here(void) { return 0; }\n'
    if this_machine().arch not in {"x86_64", "aarch64"}:
        unmet("a machine whose assembler takes .quad")
    library = builder.library("libtext.so", source, "-Wl,-z,notext")
    (finding,) = findings(library)
    assert (finding.rule, finding.subject) == ("text-relocations", "libtext.so")
    app = builder.program("app", calls("in_here"), library, "-Wl,-rpath,$ORIGIN")
    assert subjects(said(app, "text-relocations")) == ["libtext.so"]
    assert not findings(builder.library("libtext.so", source.replace(".text", ".data"), "-Wl,-z,notext"))


def test_an_executable_stack(builder: Builder) -> None:
    library = builder.library("libstack.so", INNER, "-z", "execstack")
    (finding,) = findings(library)
    assert (finding.rule, finding.subject) == ("executable-stack", "libstack.so")
    app = builder.program("app", calls("inner"), library, "-Wl,-rpath,$ORIGIN")
    assert subjects(said(app, "executable-stack")) == ["libstack.so"]
    assert subjects(said(builder.program("app", MAIN, "-z", "execstack"), "executable-stack")) == ["app"]
    assert not findings(builder.library("libstack.so", INNER, "-z", "noexecstack"))


def test_an_assembly_file_without_a_note_makes_the_stack_executable(builder: Builder) -> None:
    assembled = builder.build("part.o", ".globl part\npart: ret\n", "-c", language="assembler")
    library = builder.library("libstack.so", INNER, assembled)
    if this_machine().arch == "x86_64":
        assert subjects(said(library, "executable-stack")) == ["libstack.so"]
    note = '.section .note.GNU-stack,"",%progbits\n'
    assembled = builder.build("part.o", f".globl part\npart: ret\n{note}", "-c", language="assembler")
    assert not findings(builder.library("libstack.so", INNER, assembled))


def test_a_library_for_one_kind_of_processor_only_and_platform_in_a_search_path(builder: Builder) -> None:
    inner = builder.library("lib/tls/libinner.so", INNER)
    app = builder.program("app", calls("inner"), inner, "-Wl,-rpath,$ORIGIN/lib")
    with ElfFile.open(app) as elf:
        if not system_for(elf).searches_legacy:
            unmet("glibc up to 2.36")
    (finding,) = findings(app)
    assert (finding.rule, finding.subject) == ("cpu-dependent-search", str(inner))
    assert "glibc before 2.37" in finding.message
    plain = builder.library("lib/libinner.so", INNER)
    assert not findings(app)
    app = builder.program("app", calls("inner"), plain, "-Wl,-rpath,$ORIGIN/lib:$ORIGIN/$PLATFORM")
    (finding,) = said(app, "cpu-dependent-search")
    assert finding.subject == "$ORIGIN/$PLATFORM"
