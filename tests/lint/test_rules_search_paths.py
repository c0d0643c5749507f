"""Rules about RPATH and RUNPATH: each kind of bad entry is one finding, and a good one is none."""

from __future__ import annotations

import shutil
import struct
from typing import TYPE_CHECKING

import pytest

from tests.lint.builder import Builder, calls, findings, functions, said, subjects
from torchlink.binary.elf import ElfFile
from torchlink.lint.finding import Severity
from torchlink.lint.search_dirs import begins

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.lint.finding import Finding

pytestmark = pytest.mark.compile

USE = "int inner(void); int use(void) { return inner(); }\n"
INNER = "int inner(void) { return 1; }\n"


def with_path(builder: Builder, search: str, *words: str) -> list[Finding]:
    """What lint says of a library whose search path is `$ORIGIN/lib`, where its library is, and `search`."""
    inner = builder.library("lib/libinner.so", INNER)
    return findings(builder.library("libuser.so", USE, inner, f"-Wl,-rpath,$ORIGIN/lib:{search}", *words))


RELATIVE = ["", "lib", "./lib", "../lib", "$ORIGN/lib", "RIGIN/lib", "/../lib"]


@pytest.mark.parametrize("entry", RELATIVE)
def test_an_entry_that_is_relative_to_the_current_directory(builder: Builder, entry: str) -> None:
    (finding,) = with_path(builder, f"{entry}")
    assert (finding.rule, finding.subject) == ("rpath-relative", entry or "(empty)")
    assert finding.severity is Severity.ERROR
    assert ("has expanded its $ORIGIN" in finding.message) == (entry in {"RIGIN/lib", "/../lib"})
    assert not with_path(builder, "$ORIGIN/lib/.")


def test_the_padding_of_a_cmake_build_tree_is_a_note(builder: Builder) -> None:
    (finding,) = with_path(builder, ":::")
    assert finding.severity is Severity.ERROR
    builder.path("CMakeCache.txt").touch()
    (finding,) = with_path(builder, ":::")
    assert (finding.rule, finding.severity) == ("rpath-relative", Severity.NOTE)
    assert "cmake --install" in finding.fix


def test_a_world_writable_entry(builder: Builder) -> None:
    open_to_all = builder.path("open/to/all/x").parent
    open_to_all.chmod(0o777)
    for entry in (open_to_all, open_to_all / "not" / "there"):
        (finding,) = with_path(builder, str(entry))
        assert (finding.rule, finding.subject) == ("rpath-world-writable", str(entry))
        assert finding.severity is Severity.ERROR
    open_to_all.chmod(0o755)
    assert not [each for each in with_path(builder, str(open_to_all)) if each.rule == "rpath-world-writable"]


BUILD_TREES = [
    "/home/somebody/lib",
    "/root/lib",
    "/srv/app/build/lib",
    "/srv/cmake-build-debug",
    "/__w/app/app/lib",
]


@pytest.mark.parametrize("entry", BUILD_TREES)
def test_an_entry_into_a_build_tree_or_home_directory(builder: Builder, entry: str) -> None:
    (finding,) = with_path(builder, entry)
    assert (finding.rule, finding.subject) == ("rpath-build-tree", entry)
    assert finding.severity is Severity.WARNING
    assert not with_path(builder, "$ORIGIN/lib/.")


def test_a_directory_where_cmake_has_built(builder: Builder) -> None:
    image = builder.directory / "image"
    builder.path("image/opt/project/CMakeCache.txt").touch()
    inner = builder.library("image/opt/project/lib/libinner.so", INNER)
    user = builder.library("image/opt/bin/libuser.so", USE, inner, "-Wl,-rpath,/opt/project/lib")
    assert subjects(said(user, "rpath-build-tree", root=image)) == ["/opt/project/lib"]


def installed(builder: Builder, search: str, *words: str) -> tuple[Path, Path]:
    """An image with /opt/lib/libinner.so, and a library in it that is searched for through `search`."""
    inner = builder.library("image/opt/lib/libinner.so", INNER)
    builder.path("image/opt/other/file").touch()
    user = builder.library("image/opt/bin/libuser.so", USE, inner, f"-Wl,-rpath,{search}", *words)
    return user, builder.directory / "image"


ENTRIES = {
    "/opt/lib": [("rpath-absolute", "/opt/lib", Severity.NOTE)],
    "/opt/lib:/opt/other": [
        ("rpath-absolute", "/opt/lib", Severity.NOTE),
        ("rpath-unused", "/opt/other", Severity.NOTE),
    ],
    "/opt/lib:/opt/gone": [
        ("rpath-absolute", "/opt/lib", Severity.NOTE),
        ("rpath-missing-directory", "/opt/gone", Severity.NOTE),
    ],
    "$ORIGIN/../lib": [],
    "$ORIGIN/../lib:$ORIGIN/../other": [("rpath-unused", "$ORIGIN/../other", Severity.NOTE)],
    "${ORIGIN}/../lib:$ORIGIN/gone": [("rpath-missing-directory", "$ORIGIN/gone", Severity.NOTE)],
}


@pytest.mark.parametrize("search", ENTRIES)
def test_an_entry_is_one_finding(builder: Builder, search: str) -> None:
    user, image = installed(builder, search)
    found = [(each.rule, each.subject, each.severity) for each in findings(user, root=image)]
    assert sorted(found) == ENTRIES[search]


ALLOWED = {
    ("$ORIGIN/../lib", "$ORIGIN/.."): [],
    ("${ORIGIN}/../lib", "$ORIGIN/../"): [],
    ("$ORIGIN/../lib", "${ORIGIN}/../lib"): [],
    ("$ORIGIN/../bin/../lib", "$ORIGIN/.."): [],
    ("$ORIGIN/../lib", "$ORIGIN"): ["rpath-not-allowed"],
    ("$ORIGIN/../../opt/lib", "$ORIGIN/.."): ["rpath-not-allowed"],
    ("$ORIGIN/../../opt/lib", "/opt"): [],
    ("/opt/../opt/lib", "/opt"): [],
    ("/opt/lib/../../opt/lib", "/opt/lib/.."): [],
    ("/opt/lib", "/opt"): [],
    ("/opt/lib", "/opt/lib/"): [],
    ("/opt/lib", "/opt/li"): ["rpath-not-allowed"],
    ("/opt/lib", "$ORIGIN"): ["rpath-not-allowed"],
    ("$ORIGIN/../lib", "/opt"): [],  # it leads into /opt/lib
}


@pytest.mark.parametrize(("search", "prefix"), ALLOWED)
def test_an_entry_must_be_under_an_allowed_prefix(builder: Builder, search: str, prefix: str) -> None:
    user, image = installed(builder, search)
    found = findings(user, root=image, allowed_rpath=(prefix,))
    assert [each.rule for each in found] == ALLOWED[search, prefix]


def test_paths_below_a_prefix_with_parent_directories() -> None:
    assert all(
        begins(path, "$ORIGIN/..") for path in ("$ORIGIN", "$ORIGIN/", "$ORIGIN/lib/x", "$ORIGIN/../lib")
    )
    assert begins("$ORIGIN/../lib", "$ORIGIN/../..")
    assert not begins("$ORIGIN/../../lib", "$ORIGIN/..")
    assert not begins("$ORIGIN/lib", "$ORIGIN/../lib")
    assert not begins("/lib", "$ORIGIN/..")


def test_the_option_that_allows_an_entry_can_be_pasted(builder: Builder) -> None:
    inner = builder.library("image/opt/my lib/libinner.so", INNER)
    user = builder.library("image/opt/bin/libuser.so", USE, inner, "-Wl,-rpath,/opt/my lib")
    (finding,) = findings(user, root=builder.directory / "image")
    assert "--allowed-rpath '/opt/my lib'." in finding.fix
    (finding,) = findings(user, root=builder.directory / "image", allowed_rpath=("$ORIGIN",))
    assert "--allowed-rpath '/opt/my lib'." in finding.fix


def test_directories_of_the_system_are_not_reported(builder: Builder) -> None:
    inner = builder.library("image/usr/lib/libinner.so", INNER)
    user = builder.library("image/usr/bin/libuser.so", USE, inner, "-Wl,-rpath,/usr/lib")
    assert not findings(user, root=builder.directory / "image")


def test_an_entry_may_be_for_libraries_opened_by_name(builder: Builder) -> None:
    builder.path("plugins/file").touch()
    source = "void* dlopen(const char*, int); void* use(void) { return dlopen(0, 1); }\n"
    opening = builder.library("libuser.so", source, "-lc", "-Wl,-rpath,$ORIGIN/plugins")
    assert not findings(opening)
    silent = builder.library("libuser.so", "", "-Wl,-rpath,$ORIGIN/plugins")
    assert subjects(said(silent, "rpath-unused")) == ["$ORIGIN/plugins"]


def test_an_rpath_serves_indirect_dependencies(builder: Builder) -> None:
    inner = builder.library("inner/libinner.so", INNER)
    outer = builder.library("lib/libouter.so", USE, inner)
    words = ("-Wl,-rpath,$ORIGIN/lib:$ORIGIN/inner", "-Wl,--disable-new-dtags", outer)
    assert not findings(
        builder.library("libtop.so", "int use(void); int top(void) { return use(); }\n", *words)
    )


def test_entries_of_the_own_libraries_count_and_are_named(builder: Builder) -> None:
    inner = builder.library("lib/libinner.so", INNER)
    outer = builder.library("lib/libouter.so", USE, inner, "-Wl,-rpath,$ORIGIN:/home/somebody/lib")
    source = "int use(void); int main(void) { return use(); }\n"
    (finding,) = findings(builder.program("app", source, outer, "-Wl,-rpath,$ORIGIN/lib"))
    assert finding.rule == "rpath-build-tree"
    assert "RUNPATH of libouter.so" in finding.message


def test_entries_of_libtorchs_own_libraries_may_be_unused(builder: Builder) -> None:
    elsewhere = ("-Wl,-rpath,$ORIGIN/../../nvidia/cudnn/lib",)
    companion = builder.library("torch/lib/libcompanion.so", "", *elsewhere)
    assert subjects(said(companion, "rpath-missing-directory")) == ["$ORIGIN/../../nvidia/cudnn/lib"]
    builder.torch("torch/lib")
    assert not findings(companion)
    user = builder.program("torch/lib/app", "int main(void) { return 0; }\n", *elsewhere)
    assert subjects(said(user, "rpath-missing-directory")) == ["$ORIGIN/../../nvidia/cudnn/lib"]


def add_runpath(path: Path, text_of: int) -> None:
    """Write a DT_RUNPATH into a spare entry of the dynamic section, with the text of another tag.

    Older linkers wrote both tags, and some tools still do.
    """
    content = bytearray(path.read_bytes())
    with ElfFile.open(path) as elf:
        value = elf.dynamic.tags[text_of]
        entries = [struct.pack("<QQ", *each) for each in elf.dynamic.tags.items()]
    end = content.index(entries[-1]) + 16
    assert content[end : end + 32] == bytes(32)
    content[end : end + 16] = struct.pack("<QQ", 29, value)
    path.write_bytes(content)


def test_rpath_and_runpath_in_one_object(builder: Builder) -> None:
    inner = builder.library("lib/libinner.so", INNER)
    words = ("-Wl,-rpath,$ORIGIN/lib", "-Wl,--disable-new-dtags")
    user = builder.library("libuser.so", USE, inner, *words)
    assert not findings(user)
    same = builder.path("libsame.so")
    shutil.copy(user, same)
    add_runpath(same, 15)
    (finding,) = findings(same)
    assert (finding.rule, finding.subject, finding.severity) == (
        "rpath-and-runpath",
        "libsame.so",
        Severity.NOTE,
    )
    add_runpath(user, 14)  # the text of the SONAME: a relative directory
    assert [each.severity for each in said(user, "rpath-and-runpath")] == [Severity.WARNING]
    assert subjects(said(user, "rpath-relative")) == ["libuser.so"]


ODD = [
    "/" + "a/" * 3000,
    "/" + "x" * 5000,
    "$ORIGIN/" + "../" * 2000,
    "/\udcff\udc80/lib",
    "$LIB/$PLATFORM",
    "$ORIGIN" * 50,
]


@pytest.mark.parametrize("entry", ODD, ids=range(len(ODD)))
def test_any_entry_can_be_checked(builder: Builder, entry: str) -> None:
    inner = builder.library("lib/libinner.so", INNER)
    user = builder.library("libuser.so", USE, inner, f"-Wl,-rpath,{entry}")
    assert {each.rule for each in findings(user)} <= {
        "library-not-found",
        "rpath-relative",
        "rpath-missing-directory",
        "rpath-unused",
        "cpu-dependent-search",  # of $PLATFORM
    }


def test_the_directory_of_libtorch_that_flags_sets_is_a_note(builder: Builder) -> None:
    lib = builder.torch()
    app = builder.program(
        "app", calls("_ZN2at13globalContextEv"), lib / "libtorch_cpu.so", f"-Wl,-rpath,{lib}"
    )
    (finding,) = said(app, "rpath-build-tree")
    assert finding.severity is Severity.NOTE
    assert "--rpath origin=lib" in finding.fix
    assert f"--allowed-rpath {lib}" in finding.fix
    assert not said(app, "rpath-build-tree", allowed_rpath=(str(lib),))
    other = builder.library("other/libother.so", functions("other"))
    app = builder.program("app", calls("other"), other, f"-Wl,-rpath,{other.parent}")
    (finding,) = said(app, "rpath-build-tree")
    assert finding.severity is Severity.WARNING
    assert "in a temporary directory" in finding.message
    assert "--rpath origin=DIR" in finding.fix
