"""The search rules one by one: the model against the live glibc loader, on libraries built by the tests."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.binary.live import LOADERS, Workshop, modelled, trace, trace_program, usable
from tests.conftest import unmet
from torchlink.binary.data import Data
from torchlink.binary.elf import ElfFile
from torchlink.binary.elf_dynamic import DT_AUXILIARY, DT_RPATH, read_dynamic
from torchlink.binary.elf_layout import PT_DYNAMIC, Image
from torchlink.binary.loader import resolve
from torchlink.binary.platforms import host_hwcaps
from torchlink.binary.search import DROPPED
from torchlink.binary.system import LibraryCache, system_for

if TYPE_CHECKING:
    from torchlink.binary.closure import Closure


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    if not usable("gcc") or os.uname().machine != "x86_64" or not os.path.exists(LOADERS["x86_64"]):  # noqa: PTH110
        unmet("gcc and glibc on x86_64")
    return Workshop(tmp_path)


def check(
    file: Path, environment: dict[str, str] | None = None, *, cwd: Path | None = None, program: bool = True
) -> Closure:
    """The model must say what the live loader does; returns the closure for a closer look."""
    before = Path.cwd()
    if cwd is not None:
        os.chdir(cwd)
    try:
        closure = resolve(file, environment=environment, secure=False)
    finally:
        os.chdir(before)
    live = trace_program(file, environment, cwd) if program else trace(file, environment=environment, cwd=cwd)
    mine = modelled(closure)
    assert bool(live.error) == bool(mine.error), (live, mine)
    if not live.error:
        assert mine == live
    return closure


def found_via(closure: Closure, name: str) -> str:
    """How the first request for a name was served."""
    return next(str(edge.found_via) for edge in closure.edges if edge.name == name)


def test_rpath_is_searched_for_the_objects_own_needed(workshop: Workshop) -> None:
    library = workshop.library("far/liba.so")
    closure = check(workshop.program("app", library, rpath=str(library.parent)))
    assert found_via(closure, "liba.so") == f"RPATH {library.parent} of {workshop.directory / 'app'}"


def test_runpath_is_searched_for_the_objects_own_needed(workshop: Workshop) -> None:
    library = workshop.library("far/liba.so")
    closure = check(workshop.program("app", library, runpath="$ORIGIN/far"))
    assert found_via(closure, "liba.so") == f"RUNPATH $ORIGIN/far of {workshop.directory / 'app'}"


def test_rpath_is_inherited_by_libraries_of_libraries(workshop: Workshop) -> None:
    deep = workshop.library("far/libdeep.so")
    middle = workshop.library("far/libmiddle.so", deep)
    assert not check(workshop.program("app", middle, rpath="$ORIGIN/far")).missing


def test_runpath_is_not_inherited(workshop: Workshop) -> None:
    deep = workshop.library("far/libdeep.so")
    middle = workshop.library("far/libmiddle.so", deep)
    closure = check(workshop.program("app", middle, runpath="$ORIGIN/far"))
    assert [edge.name for edge in closure.missing] == ["libdeep.so"]
    assert closure.missing[0].needed_by == f"{workshop.directory}/far/libmiddle.so"
    assert {tried.found_via.kind for tried in closure.missing[0].tried} == {"default"}


def test_a_library_with_runpath_ignores_the_rpath_of_its_loaders(workshop: Workshop) -> None:
    deep = workshop.library("far/libdeep.so")
    middle = workshop.library("far/libmiddle.so", deep, runpath="/nowhere")
    closure = check(workshop.program("app", middle, rpath="$ORIGIN/far"))
    assert [edge.name for edge in closure.missing] == ["libdeep.so"]


def test_the_rpath_of_a_loading_object_with_runpath_is_skipped_but_not_that_of_its_own(
    workshop: Workshop,
) -> None:
    deepest = workshop.library("far/libdeepest.so")
    deep = workshop.library("near/libdeep.so", deepest)
    middle = workshop.library("near/libmiddle.so", deep, runpath="$ORIGIN")
    assert not check(workshop.program("app", middle, rpath="$ORIGIN/near:$ORIGIN/far")).missing


def test_rpath_is_ignored_in_an_object_that_has_runpath_too(workshop: Workshop) -> None:
    library = workshop.library("far/liba.so")
    app = workshop.program(
        "app", library, runpath="/nowhere", flags=[f"-Wl,--auxiliary,{library.parent}", "-shared"]
    )
    # Linkers write one or the other; the auxiliary entry becomes a DT_RPATH by hand.
    blob = bytearray(app.read_bytes())
    image = Image(Data(bytes(blob), "app", "ELF file"))
    segment = image.segment(PT_DYNAMIC)
    assert segment is not None
    for offset in range(segment.offset, segment.offset + segment.file_size, 16):
        if struct.unpack_from("<Q", blob, offset) == (DT_AUXILIARY,):
            struct.pack_into("<Q", blob, offset, DT_RPATH)
    app.write_bytes(blob)
    dynamic = read_dynamic(Image(Data(bytes(blob), "app", "ELF file")))
    assert dynamic.rpath == str(library.parent)
    assert dynamic.runpath == "/nowhere"
    assert [edge.name for edge in check(app, program=False).missing] == ["liba.so"]


def test_ld_library_path_comes_after_rpath_and_before_runpath(workshop: Workshop) -> None:
    library = workshop.library("one/liba.so")
    workshop.library("two/liba.so")
    environment = {"LD_LIBRARY_PATH": str(workshop.directory / "two")}
    by_rpath = check(workshop.program("by_rpath", library, rpath="$ORIGIN/one"), environment)
    by_runpath = check(workshop.program("by_runpath", library, runpath="$ORIGIN/one"), environment)
    assert by_rpath.objects[1].path == f"{workshop.directory}/one/liba.so"
    assert by_runpath.objects[1].path == f"{workshop.directory}/two/liba.so"
    assert by_runpath.objects[1].found_via.kind == "LD_LIBRARY_PATH"


@pytest.mark.parametrize("text", ["/nowhere:", ":/nowhere", "/nowhere::/none", "/nowhere;"])
def test_an_empty_element_of_ld_library_path_is_the_current_directory(workshop: Workshop, text: str) -> None:
    library = workshop.library("here/liba.so")
    closure = check(workshop.program("app", library), {"LD_LIBRARY_PATH": text}, cwd=library.parent)
    assert not closure.missing


def test_an_empty_ld_library_path_is_ignored(workshop: Workshop) -> None:
    library = workshop.library("here/liba.so")
    assert check(workshop.program("app", library), {"LD_LIBRARY_PATH": ""}, cwd=library.parent).missing


@pytest.mark.parametrize("text", ["/nowhere:", "::", ""])
def test_an_empty_element_of_runpath_is_the_current_directory_but_an_empty_runpath_is_none(
    workshop: Workshop, text: str
) -> None:
    library = workshop.library("here/liba.so")
    check(workshop.program("app", library, runpath=text), cwd=library.parent)


def test_relative_directories_are_relative_to_the_current_one(workshop: Workshop) -> None:
    deep = workshop.library("here/sub/libdeep.so")
    library = workshop.library("here/sub/liba.so", deep, runpath="$ORIGIN")
    app = workshop.program("app", library, runpath="sub//")
    check(app, cwd=workshop.directory / "here")
    check(app, cwd=workshop.directory)


def test_origin_of_a_library_is_where_it_was_reached(workshop: Workshop) -> None:
    deep = workshop.library("links/libdeep.so")
    library = workshop.library("real/liba.so", deep, runpath="$ORIGIN")
    (workshop.directory / "links" / "liba.so").symlink_to(library)
    check(workshop.program("through_link", workshop.directory / "links" / "liba.so", runpath="$ORIGIN/links"))
    assert check(workshop.program("direct", library, runpath="$ORIGIN/real")).missing


def test_origin_of_a_program_is_its_real_directory(workshop: Workshop) -> None:
    library = workshop.library("lib/liba.so")
    app = workshop.program("bin/app", library, runpath="$ORIGIN/../lib")
    link = workshop.directory / "elsewhere" / "deeper" / "app"
    link.parent.mkdir(parents=True)
    link.symlink_to(app)
    assert not check(link).missing


def test_origin_through_a_symlinked_directory(workshop: Workshop) -> None:
    library = workshop.library("real/lib/liba.so")
    workshop.program("real/bin/app", library, runpath="$ORIGIN/../lib")
    (workshop.directory / "alias").symlink_to("real")
    assert not check(workshop.directory / "alias" / "bin" / "app").missing


def test_a_needed_name_loaded_before_as_a_soname_is_not_searched_for(workshop: Workshop) -> None:
    first = workshop.library("one/libother.so", soname="liba.so")
    stub = workshop.library("stub/liba.so")
    user = workshop.library("one/libuser.so", stub)
    (workshop.directory / "one" / "libother.so").rename(workshop.directory / "one" / "first.so")
    app = workshop.program(
        "app", f"{workshop.directory}/one/first.so", user, rpath="$ORIGIN/one:$ORIGIN/stub"
    )
    assert not first.exists()
    check(app)


def test_a_file_loaded_under_another_name_is_loaded_once(workshop: Workshop) -> None:
    library = workshop.library("lib/liba.so", soname=None)
    (workshop.directory / "lib" / "libalias.so").symlink_to("liba.so")
    shutil.copy(library, workshop.directory / "lib" / "libcopy.so")
    app = workshop.program("app", "-Llib", "-la", "-lalias", "-lcopy", flags=["-Llib"], rpath="$ORIGIN/lib")
    closure = check(app)
    assert [edge.path for edge in closure.edges[:3]] == [
        f"{workshop.directory}/lib/liba.so",
        f"{workshop.directory}/lib/liba.so",
        f"{workshop.directory}/lib/libcopy.so",
    ]


def test_a_needed_name_with_a_slash_is_a_path(workshop: Workshop) -> None:
    library = workshop.library("lib/liba.so", soname=None)
    assert not check(workshop.program("absolute", library)).missing
    relative = workshop.program("relative", "lib/liba.so")
    assert not check(relative, cwd=workshop.directory).missing
    assert check(relative, cwd=workshop.directory / "lib").missing


def test_tokens_in_a_needed_name_are_expanded(workshop: Workshop) -> None:
    library = workshop.library("lib/liba.so", soname="$ORIGIN/lib/liba.so")
    assert not check(workshop.program("app", library)).missing


def test_lib_and_platform_have_the_values_that_the_loader_reports(workshop: Workshop) -> None:
    library = workshop.library("lib/x86_64-linux-gnu/liba.so")
    for text in (
        "$ORIGIN/$LIB",
        "${ORIGIN}/${LIB}",
        "$ORIGIN/lib/$PLATFORM-linux-gnu",
        "$ORIGIN/$LIBRARY",
        "$ORIGIN/$",
    ):
        check(workshop.program("app", library, runpath=text))


def test_a_library_for_another_machine_is_skipped(workshop: Workshop) -> None:
    small = Workshop(workshop.directory, machine_flags=("-m32",))
    try:
        small.library("small/liba.so")
    except subprocess.CalledProcessError:
        unmet("gcc -m32")
    library = workshop.library("wide/liba.so")
    closure = check(workshop.program("app", library, rpath="$ORIGIN/small:$ORIGIN/wide"))
    assert closure.objects[1].path == f"{workshop.directory}/wide/liba.so"
    assert [tried.reason for tried in closure.edges[0].tried] == ["is for x86"]


def test_a_32_bit_program_has_its_own_default_directories(workshop: Workshop) -> None:
    small = Workshop(workshop.directory, machine_flags=("-m32",))
    try:
        library = small.library("small/liba.so")
        app = small.program("app", library, runpath="$ORIGIN/small")
    except subprocess.CalledProcessError:
        unmet("gcc -m32")
    assert {each.elf.machine for each in check(app).objects} == {"x86"}


@pytest.mark.parametrize(
    "content", [b"", b"short", b"not an ELF file, but long enough to be read as a header" * 4]
)
def test_a_file_that_is_not_elf_stops_the_loader(workshop: Workshop, content: bytes) -> None:
    library = workshop.library("good/liba.so")
    app = workshop.program("app", library, rpath="$ORIGIN/bad:$ORIGIN/good")
    (workshop.directory / "bad").mkdir()
    (workshop.directory / "bad" / "liba.so").write_bytes(content)
    assert check(app).edges[0].fatal


def test_a_directory_in_a_librarys_place_stops_the_loader(workshop: Workshop) -> None:
    library = workshop.library("good/liba.so")
    app = workshop.program("app", library, rpath="$ORIGIN/bad:$ORIGIN/good")
    (workshop.directory / "bad" / "liba.so").mkdir(parents=True)
    assert check(app).edges[0].fatal == "is a directory"


def test_a_program_in_a_librarys_place_stops_the_loader(workshop: Workshop) -> None:
    library = workshop.library("lib/liba.so")
    app = workshop.program("app", library, rpath="$ORIGIN/lib")
    workshop.program("lib/liba.so", flags=["-pie", "-fPIE"])
    assert check(app).edges[0].fatal


def test_dangling_and_circular_links_are_skipped(workshop: Workshop) -> None:
    library = workshop.library("good/liba.so")
    for name, target in (("dangling", "/nowhere/liba.so"), ("circle", "liba.so")):
        (workshop.directory / name).mkdir()
        (workshop.directory / name / "liba.so").symlink_to(target)
    assert not check(workshop.program("one", library, rpath="$ORIGIN/dangling:$ORIGIN/good")).missing
    # At an odd error glibc leaves out the rest of that list of directories.
    check(workshop.program("two", library, rpath="$ORIGIN/circle:$ORIGIN/good"))
    check(
        workshop.program("three", library, rpath="$ORIGIN/circle"), {"LD_LIBRARY_PATH": str(library.parent)}
    )


def test_nodeflib_excludes_the_default_directories_and_their_cache_entries(workshop: Workshop) -> None:
    library = workshop.library("lib/liba.so", "-lz", flags=["-Wl,-z,nodefaultlib"])
    closure = check(workshop.program("app", library, runpath="$ORIGIN/lib"))
    assert [edge.name for edge in closure.missing] == ["libz.so.1"]


def test_hwcaps_subdirectories_come_first_in_every_directory(workshop: Workshop) -> None:
    if "x86-64-v2" not in host_hwcaps():
        unmet("a processor of level x86-64-v2")
    library = workshop.library("lib/liba.so")
    workshop.library("lib/glibc-hwcaps/x86-64-v2/liba.so")
    workshop.library("lib/glibc-hwcaps/x86-64-v1/liba.so")
    workshop.library("other/glibc-hwcaps/x86-64-v3/liba.so")
    closure = check(workshop.program("app", library, runpath="$ORIGIN/lib:$ORIGIN/other"))
    assert closure.objects[1].path == f"{workshop.directory}/lib/glibc-hwcaps/x86-64-v2/liba.so"
    check(workshop.program("other_first", library, runpath="$ORIGIN/other:$ORIGIN/lib"))


def searched_below(app: Path, directory: Path) -> list[str]:
    """The directories that the live loader searches below one, in its order, itself the last."""
    done = subprocess.run(
        [app], env={"LD_DEBUG": "libs"}, capture_output=True, text=True, check=False, timeout=60
    )
    lines = (line.partition("search path=")[2].partition("\t")[0] for line in done.stderr.splitlines())
    line = next(line for line in lines if line.startswith(f"{directory}/"))
    return list(dict.fromkeys(path.removeprefix(str(directory)).strip("/") for path in line.split(":")))


@pytest.mark.parametrize("machine_flags", [(), ("-m32",)], ids=["64", "32"])
def test_legacy_hardware_subdirectories_are_searched_as_the_live_loader_does(
    workshop: Workshop, machine_flags: tuple[str, ...]
) -> None:
    small = Workshop(workshop.directory, machine_flags=machine_flags)
    try:
        library = small.library("lib/liba.so")
    except subprocess.CalledProcessError:
        unmet("gcc -m32")
    app = small.program("app", library, runpath=str(workshop.directory / "lib"))
    # Files of another kind of processor must not be taken either.
    own = ["tls/haswell/avx512_1/x86_64", "haswell/x86_64", "xeon_phi", "i686/sse2", "sse2", "atomics"]
    library.unlink()
    live = [path for path in searched_below(app, workshop.directory / "lib") if path]
    for directory in dict.fromkeys([*reversed(live), *own]):
        small.library(f"lib/{directory}/liba.so")
    for directory in [*live, ""]:
        closure = check(app)
        assert [each.path for each in closure.objects[1:2]] == (
            [f"{workshop.directory}/lib/{directory}/liba.so"] if directory else [closure.objects[1].path]
        )
        if directory:
            (workshop.directory / "lib" / directory / "liba.so").unlink()
    assert [edge.name for edge in check(app).missing] == ["liba.so"]


def test_cache_entries_for_legacy_hardware_are_used_as_by_the_live_loader(
    workshop: Workshop,
) -> None:
    if not os.access("/sbin/ldconfig", os.X_OK):
        unmet("ldconfig")
    # A copy of the loader that reads a cache of the tests' own.
    loader = workshop.directory / "loader"
    loader.write_bytes(
        Path(LOADERS["x86_64"]).read_bytes().replace(b"/etc/ld.so.cache\0", b"./ca/ld.so.cache\0")
    )
    loader.chmod(0o755)
    cache = workshop.directory / "ca" / "ld.so.cache"
    cache.parent.mkdir()
    (workshop.directory / "conf").write_text(f"{workshop.directory}/lib\n")
    library = workshop.library("lib/liba.so")
    app = workshop.program("app", library, flags=[f"-Wl,--dynamic-linker={loader}"])
    places = [
        "tls",
        "avx512_1",
        "haswell",
        "x86_64",
        "xeon_phi",
        "haswell/x86_64",
        "glibc-hwcaps/x86-64-v2",
        "",
    ]
    for place in reversed(places):
        workshop.library(f"lib/{place}/liba.so")
        subprocess.run(
            ["/sbin/ldconfig", "-X", "-C", cache, "-f", workshop.directory / "conf"], check=True, timeout=60
        )
        with ElfFile.open(app) as elf:
            system = system_for(elf)._replace(cache=LibraryCache(cache.read_bytes()))
        mine = modelled(resolve(app, system=system, secure=False))
        assert mine.objects[:1] == trace_program(app, cwd=workshop.directory).objects[:1], place


def test_a_loader_since_2_37_searches_no_legacy_hardware_subdirectories(workshop: Workshop) -> None:
    library = workshop.library("lib/liba.so")
    workshop.library("lib/tls/liba.so")
    app = workshop.program("app", library, runpath=str(library.parent))
    with ElfFile.open(app) as elf:
        system = system_for(elf)
    for release, file in (((2, 36), "lib/tls/liba.so"), ((2, 37), "lib/liba.so")):
        closure = resolve(app, system=system._replace(release=release), secure=False)
        assert closure.objects[1].path == f"{workshop.directory}/{file}"


def test_the_search_is_breadth_first(workshop: Workshop) -> None:
    late = workshop.library("late/libz9.so")
    workshop.library("early/libz9.so")
    left = workshop.library("lib/libleft.so", late, runpath="$ORIGIN/../late")
    inner = workshop.library("lib/libinner.so", late, runpath="$ORIGIN/../early")
    right = workshop.library("lib/libright.so", inner, runpath="$ORIGIN")
    check(workshop.program("one", right, left, rpath="$ORIGIN/lib"))
    check(workshop.program("two", left, right, rpath="$ORIGIN/lib"))


def test_a_missing_library_is_reported_for_each_object_that_needs_it(workshop: Workshop) -> None:
    gone = workshop.library("gone/libgone.so")
    first = workshop.library("lib/libfirst.so", gone)
    second = workshop.library("lib/libsecond.so", gone, runpath="$ORIGIN/nowhere")
    app = workshop.program("app", first, second, rpath="$ORIGIN/lib")
    gone.unlink()
    closure = check(app)
    assert [edge.needed_by.rpartition("/")[2] for edge in closure.missing] == ["libfirst.so", "libsecond.so"]


def test_preloaded_objects_come_before_the_needed_ones(workshop: Workshop) -> None:
    library = workshop.library("lib/liba.so")
    extra = workshop.library("extra/libextra.so", library)
    app = workshop.program("app", library, rpath="$ORIGIN/lib")
    closure = check(app, {"LD_PRELOAD": f"{extra} "})
    assert [each.path for each in closure.objects[1:3]] == [str(extra), str(library)]
    assert closure.objects[1].found_via.kind == "preload"
    assert check(app, {"LD_PRELOAD": "libnowhere.so"}).edges[0].optional


def test_filters_and_auxiliary_objects_come_before_their_owner(workshop: Workshop) -> None:
    workshop.library("lib/libaux.so")
    workshop.library("lib/libreal.so")
    owner = workshop.library("lib/libowner.so", flags=["-Wl,--auxiliary,libaux.so"], runpath="$ORIGIN")
    filtered = workshop.library("lib/libfilter.so", flags=["-Wl,--filter,libreal.so"], runpath="$ORIGIN")
    absent = workshop.library("lib/libabsent.so", flags=["-Wl,--auxiliary,libnowhere.so"], runpath="$ORIGIN")
    check(workshop.program("app", owner, filtered, rpath="$ORIGIN/lib"))
    closure = resolve(workshop.program("lenient", absent, rpath="$ORIGIN/lib"))
    assert [(edge.name, edge.missing) for edge in closure.edges if edge.path is None] == [
        ("libnowhere.so", False)
    ]


def test_a_library_is_traced_as_by_ldd(workshop: Workshop) -> None:
    deep = workshop.library("lib/libdeep.so")
    library = workshop.library("lib/liba.so", deep, "-lz", runpath="$ORIGIN")
    check(library, program=False)
    workshop.library("lib/libself.so", library, library)
    check(workshop.library("lib/libdeep.so", library, runpath="$ORIGIN"), program=False)


def test_libraries_that_need_each_other_are_resolved(workshop: Workshop) -> None:
    first = workshop.library("lib/liba.so")
    second = workshop.library("lib/libb.so", first, runpath="$ORIGIN")
    workshop.library("lib/liba.so", second, runpath="$ORIGIN")
    check(workshop.program("app", first, runpath="$ORIGIN/lib"))


def test_a_static_program_needs_nothing(workshop: Workshop) -> None:
    app = workshop.program(
        "app", flags=["-static", "-nostdlib"], source="void _start(void) { for (;;) {} }\n"
    )
    closure = resolve(app)
    assert [each.path for each in closure.objects] == [str(app)]
    assert closure.edges == ()


def test_a_set_uid_program_ignores_the_environment_and_most_of_origin(workshop: Workshop) -> None:
    library = workshop.library("lib/liba.so")
    app = workshop.program("app", library, rpath="$ORIGIN/lib:$ORIGIN")
    environment = {"LD_LIBRARY_PATH": str(library.parent), "LD_PRELOAD": str(library)}
    assert not resolve(app, environment=environment).missing
    app.chmod(0o4755)
    closure = resolve(app, environment=environment)
    assert [edge.name for edge in closure.missing] == ["liba.so"]
    tried = closure.missing[0].tried
    assert {each.found_via.kind for each in tried if each.reason != DROPPED} == {"default"}
    assert [str(each.found_via) for each in tried if each.reason == DROPPED] == [
        f"RPATH $ORIGIN/lib of {app}",
        f"RPATH $ORIGIN of {app}",
        f"LD_LIBRARY_PATH {library.parent}",
    ]
