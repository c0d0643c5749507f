"""Symbol versions above those of the target: real programs of this machine against older systems."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tests.conftest import unmet
from tests.lint.builder import MAIN, Builder, calls, findings, functions, has, said
from torchlink.binary.elf import ElfFile
from torchlink.errors import UsageError
from torchlink.lint.finding import Severity
from torchlink.lint.targets import SYSTEMS, parse_target

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = "#include <iostream>\n#include <string>\nint main() { std::cout << std::string(40, 120) << 1.5; }\n"


def newest(path: Path, family: str) -> tuple[int, ...]:
    """The newest version of a family that a file needs."""
    with ElfFile.open(path) as elf:
        needs = [re.fullmatch(rf"{family}_([\d.]+)", need.version) for need in elf.version_needs()]
    versions = [tuple(map(int, need[1].split("."))) for need in needs if need]
    return max(versions) if versions else unmet(f"a compiler that makes programs need {family}")


def dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


@pytest.mark.compile
def test_glibc_newer_than_the_target(builder: Builder) -> None:
    app = builder.program("app", MAIN)
    version = newest(app, "GLIBC")
    older = (*version[:-1], version[-1] - 1)
    (finding,) = findings(app, target=f"glibc={dotted(older)}")
    assert (finding.rule, finding.severity) == ("floor-above-target", Severity.ERROR)
    assert finding.subject == f"GLIBC_{dotted(version)}"
    assert f"glibc={dotted(older)} has at most GLIBC_{dotted(older)}" in finding.message
    assert str(app) in finding.evidence[0]
    assert "__libc_start_main" in finding.evidence[0]
    assert not findings(app, target=f"glibc={dotted(version)}")
    assert not findings(app)


@pytest.mark.compile
def test_a_variable_that_sets_the_floor_is_named(builder: Builder) -> None:
    script = builder.path("libc.map")
    script.write_text("GLIBC_2.99 { global: flag; local: *; };\n")
    words = (f"-Wl,--version-script,{script}", "-Wl,-soname,libc.so.6")
    newer = builder.library("image/usr/lib/libc.so.6", "int flag = 1;\n", *words)
    source = "extern int flag; int main(void) { return flag; }\n"
    app = builder.program("image/opt/app", source, newer, "-fno-pic", "-no-pie", "-nostdlib", "-Wl,-e,main")
    (finding,) = said(app, "floor-above-target", root=builder.directory / "image", target="glibc=2.31")
    assert finding.evidence == ("/opt/app: GLIBC_2.99 (flag)",)
    assert "Build on a system whose glibc has at most GLIBC_2.31, or in a container image" in finding.fix
    (finding,) = said(app, "floor-above-target", root=builder.directory / "image", target="debian:11")
    assert "Build on debian:11 itself or in its container image" in finding.fix
    assert not said(app, "floor-above-target", root=builder.directory / "image", target="glibc=2.99")


@pytest.mark.compile
def test_libstdcxx_newer_than_the_target_is_one_finding(builder: Builder) -> None:
    app = builder.program("app", FORMAT, language="c++", compiler="g++")
    version = newest(app, "GLIBCXX")
    found = findings(app, target="glibcxx=3.4,cxxabi=1.2")
    assert [each.subject for each in found] == [f"GLIBCXX_{dotted(version)}"]
    assert any("CXXABI_1.3" in line for line in found[0].evidence)
    assert "-static-libstdc++" in found[0].fix
    assert not findings(app, target=f"glibcxx={dotted(version)}")
    static = builder.program(
        "app", FORMAT, "-static-libstdc++", "-static-libgcc", language="c++", compiler="g++"
    )
    assert not findings(static, target="glibcxx=3.4,cxxabi=1.2")


def libc(builder: Builder, file: str, version: str) -> Path:
    """A C library of its own, with one function in one symbol version."""
    script = builder.path("libc.map")
    script.write_text(f"GLIBC_2.2.5 {{ local: *; }};\n{version} {{ global: work; }} GLIBC_2.2.5;\n")
    return builder.library(file, functions("work"), "-Wl,-soname,libc.so.6", f"-Wl,--version-script,{script}")


@pytest.mark.compile
def test_the_object_that_sets_the_floor_is_named(builder: Builder) -> None:
    image = builder.directory / "image"
    old, new = (libc(builder, f"{name}/libc.so.6", f"GLIBC_{name}") for name in ("2.30", "2.38"))
    inner = builder.library("image/opt/libinner.so", functions("inner") + calls("work", main=False), new)
    source = "void work(void); void inner(void); void top(void) { work(); inner(); }\n"
    words = ("-Wl,-rpath,$ORIGIN", "-Wl,--unresolved-symbols=ignore-all")
    user = builder.library("image/opt/libuser.so", source, old, inner, *words)
    script_of_both = builder.path("both.map")
    script_of_both.write_text("GLIBC_2.30 { global: work; local: *; };\nGLIBC_2.38 { global: other; };\n")
    system = builder.path("image/usr/lib/libc.so.6")
    builder.library(
        "image/usr/lib/libc.so.6", functions("work other"), f"-Wl,--version-script,{script_of_both}"
    )
    assert system.exists()
    (finding,) = said(user, "floor-above-target", root=image, target="glibc=2.31")
    assert finding.subject == "GLIBC_2.38"
    assert finding.message.startswith("libinner.so needs GLIBC_2.38")
    assert [line for line in finding.evidence if "libuser" in line] == []
    assert not said(user, "floor-above-target", root=image, target="glibc=2.38")


@pytest.mark.compile
def test_a_runtime_that_is_shipped_is_not_the_systems(builder: Builder) -> None:
    script = builder.path("cxx.map")
    script.write_text("GLIBCXX_3.4.99 { global: work; local: *; };\n")
    brought = builder.library("lib/libstdc++.so.6", functions("work"), f"-Wl,--version-script,{script}")
    app = builder.program("app", calls("work"), brought, "-Wl,-rpath,$ORIGIN/lib")
    assert not said(app, "floor-above-target", target="glibcxx=3.4.30")
    assert not said(brought, "floor-above-target", target="glibcxx=3.4.30")


@pytest.mark.compile
def test_a_version_that_marks_a_linking_feature_counts_as_its_glibc(builder: Builder) -> None:
    app = builder.program("app", MAIN, "-Wl,-z,pack-relative-relocs")
    with ElfFile.open(app) as elf:
        if "GLIBC_ABI_DT_RELR" not in {need.version for need in elf.version_needs()}:
            unmet("a linker that packs relative relocations")
    assert [each.subject for each in findings(app, target="glibc=2.35")] == ["GLIBC_ABI_DT_RELR"]
    assert not findings(app, target="glibc=2.36")


TARGETS = {
    "glibc=2.31": (2, 31),
    "GLIBC=GLIBC_2.31": (2, 31),
    "glibcxx=3.4.28, glibc=2.31": (2, 31),
    "debian:12": (2, 36),
    "debian:bookworm": (2, 36),
    "ubuntu:22.04": (2, 35),
    "ubuntu-22.04": (2, 35),
    "Ubuntu:Jammy": (2, 35),
    "rhel:8": (2, 28),
    "alma:9": (2, 34),
    "rocky:9.4": (2, 34),
    "amazonlinux:2023": (2, 34),
    "manylinux_2_28": (2, 28),
    "manylinux_2_28_x86_64": (2, 28),
    "manylinux2014": (2, 17),
    "manylinux2014_aarch64": (2, 17),
    "manylinux_2_30": (2, 30),
}


@pytest.mark.parametrize("text", TARGETS)
def test_a_target_is_a_system_a_wheels_platform_or_versions(text: str) -> None:
    assert parse_target(text)["GLIBC"] == TARGETS[text]


REFUSED = {
    "debian": "Use one of: 8, jessie",
    "debian:99": "bookworm",
    "ubunt:22.04": "ubuntu:22.04",
    "amla:9": "alma:9",
    "manylinux_228": "manylinux_2_28",
    "glibc=new": "glibc=2.31",
    "glib=2.31": "glibc",
    "": "glibc=2.31",
    "musl": "debian:12",
}


@pytest.mark.parametrize("text", REFUSED)
def test_an_unknown_target_is_rejected_with_similar_ones(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_target(text)
    assert REFUSED[text] in error.value.hint


def test_newer_releases_have_newer_libraries() -> None:
    rows: dict[str, list[list[tuple[int, ...]]]] = {}
    for line in SYSTEMS.strip().splitlines():
        system, _, *versions = line.split()
        rows.setdefault(system, []).append(
            [tuple(map(int, each.split("."))) for each in versions if each != "-"]
        )
    for releases in rows.values():
        for older, newer in pairwise(releases):
            assert all(a <= b for a, b in zip(older, newer, strict=True))


@pytest.mark.compile
def test_a_target_with_a_different_c_library(builder: Builder) -> None:
    app = builder.program("app", MAIN)
    for target in ("alpine:3.20", "alpine:3.20.3", "musllinux_1_2", "musllinux_1_2_x86_64"):
        (finding,) = findings(app, target=target)
        assert (finding.rule, finding.subject) == ("floor-above-target", "glibc")
        assert f"{target} has musl" in finding.message
    user = builder.program("user", MAIN, builder.torch() / "libc10.so", "-Wl,-rpath,$ORIGIN/torch/lib")
    (finding,) = said(user, "floor-above-target", target="alpine:3.20")
    assert "no published libtorch is for musl" in finding.fix
    if not has("musl-gcc"):
        unmet("musl-tools")
    small = builder.build("small", MAIN, compiler="musl-gcc")
    assert not findings(small, target="alpine:3.20")
    (finding,) = findings(small, target="debian:12")
    assert finding.subject == "musl"


@pytest.mark.compile
def test_a_target_that_is_too_old_for_libtorch_itself(builder: Builder) -> None:
    lib = builder.torch()
    script = builder.path("libc.map")
    script.write_text(
        "GLIBC_2.27 { };\nGLIBC_2.28 { global: work; } GLIBC_2.27;\nGLIBC_2.34 { global: more; };\n"
    )
    words = ("-Wl,-soname,libc.so.6", f"-Wl,--version-script,{script}")
    newer = builder.library("newer/libc.so.6", functions("work more"), *words)
    cpu = functions("_ZN2at13globalContextEv") + calls("work", main=False)
    builder.library("torch/lib/libtorch_cpu.so", cpu, newer, lib / "libc10.so", "-Wl,-rpath,$ORIGIN")
    source = calls("_ZN2at13globalContextEv", "more")
    app = builder.program(
        "app", source, lib / "libtorch_cpu.so", newer, "-nostdlib", "-Wl,-rpath,$ORIGIN/torch/lib"
    )
    (finding,) = [each for each in findings(app, target="ubuntu:18.04") if each.rule == "floor-above-target"]
    assert finding.subject == "GLIBC_2.34"
    assert "This libtorch cannot run on ubuntu:18.04" in finding.fix
    assert "libtorch_cpu.so itself needs GLIBC_2.28" in finding.fix
    assert re.search(r"the newest torch that can is torch 2\.[56]\.\d", finding.fix)
    (finding,) = [each for each in findings(app, target="debian:10") if each.rule == "floor-above-target"]
    assert finding.fix.startswith("Build on debian:10 itself")
