"""Whatever the search paths were, a bundle runs from another directory, and only what must change is changed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.binary.live import elf_files
from tests.bundle.conftest import loaded, moved, outside
from tests.conftest import run_clean, unmet
from torchlink.binary.elf import ElfFile
from torchlink.bundle.making import bundle
from torchlink.bundle.options import BundleOptions
from torchlink.bundle.planning import make_plan
from torchlink.errors import BundleFailedError, ToolMissingError

if TYPE_CHECKING:
    from tests.binary.live import Workshop


def names(report_directory: Path) -> list[str]:
    """The libraries of a bundle by file name, links too."""
    return sorted(
        path.name for path in (report_directory / "lib").rglob("*") if path.is_file() or path.is_symlink()
    )


def same(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def test_libraries_without_a_search_path_inherit_the_programs(workshop: Workshop, tmp_path: Path) -> None:
    last = workshop.library("far/liblast.so")
    first = workshop.library("far/libfirst.so", last)
    far = str(last.parent)
    program = workshop.program("app", first, rpath=far)
    report = bundle(program, tmp_path / "out")
    assert [Path(part.path).name for part in report.plan.patched] == ["app"]
    assert same(first, tmp_path / "out/lib/libfirst.so")
    place = moved(tmp_path / "out", workshop.directory)
    assert outside(place / "app") == []
    assert run_clean(place / "app").returncode == 0


def test_a_runpath_that_is_not_inherited_becomes_an_rpath(workshop: Workshop, tmp_path: Path) -> None:
    last = workshop.library("far/liblast.so")
    first = workshop.library("far/libfirst.so", last)
    program = workshop.program("app", first, runpath=str(last.parent))
    with pytest.raises(BundleFailedError, match=r"liblast\.so is missing"):
        bundle(program, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    bundle(program, tmp_path / "out", BundleOptions(environment={"LD_LIBRARY_PATH": str(last.parent)}))
    with ElfFile.open(tmp_path / "out/app") as elf:
        assert (elf.dynamic.rpath, elf.dynamic.runpath) == ("$ORIGIN/lib", None)
    assert outside(moved(tmp_path / "out", workshop.directory) / "app") == []


def test_a_library_with_an_absolute_runpath_is_rewritten_and_its_leaf_is_not(
    workshop: Workshop, tmp_path: Path
) -> None:
    leaf = workshop.library("leaf/libleaf.so")
    middle = workshop.library("middle/libmiddle.so", leaf, runpath=str(leaf.parent))
    program = workshop.program("app", middle, runpath=str(middle.parent))
    report = bundle(program, tmp_path / "out")
    assert [part.path for part in report.plan.patched] == ["app", "lib/libmiddle.so"]
    with ElfFile.open(tmp_path / "out/lib/libmiddle.so") as elf:
        assert elf.dynamic.runpath == "$ORIGIN"
    assert same(leaf, tmp_path / "out/lib/libleaf.so")
    assert outside(moved(tmp_path / "out", workshop.directory) / "app") == []


def test_files_that_work_unchanged_need_no_patchelf(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = workshop.library("lib/libtwo.so", runpath="$ORIGIN")
    one = workshop.library("lib/libone.so", two, runpath="$ORIGIN")
    program = workshop.program("app", one, runpath="$ORIGIN/lib")
    elsewhere = workshop.program("other", one, runpath=str(one.parent))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    report = bundle(program, tmp_path / "out")
    assert not report.plan.patched
    assert same(program, tmp_path / "out/app")
    with pytest.raises(ToolMissingError) as error:
        bundle(elsewhere, tmp_path / "second")
    assert "pip install 'torchlink[bundle]'" in error.value.hint
    assert not (tmp_path / "second").exists()
    assert bundle(elsewhere, tmp_path / "second", dry=True).plan.patched
    assert outside(moved(tmp_path / "out", workshop.directory) / "app") == []


def test_no_search_path_leads_out_of_the_bundle(workshop: Workshop, tmp_path: Path) -> None:
    """The libraries of CUDA wheels look two directories above themselves first."""
    path = "$ORIGIN/../../nvidia/part/lib:$ORIGIN"
    part = workshop.library("site/nvidia/part/lib/libpart.so.1")
    first = workshop.library("site/torch/lib/libfirst.so", part, rpath=path)
    program = workshop.program("app", first, runpath=str(first.parent))
    report = bundle(program, tmp_path / "out")
    assert [each.path for each in report.plan.patched] == ["app"]
    assert same(first, tmp_path / "out/lib/inner/libfirst.so")
    place = moved(tmp_path / "out")
    shutil.copytree(workshop.directory / "site/nvidia", place.parent / "nvidia")  # a decoy beside the bundle
    assert outside(place / "app") == []
    assert str(place / "lib/inner/libpart.so.1") in loaded(place / "app").objects


def test_two_search_paths_in_one_program_become_one(workshop: Workshop, tmp_path: Path) -> None:
    library = workshop.library("far/liba.so")
    program = workshop.program("app", library, runpath=str(library.parent))
    subprocess.run(["patchelf", "--force-rpath", "--add-rpath", "/nowhere", str(program)], check=True)
    bundle(program, tmp_path / "out", BundleOptions(environment={"LD_LIBRARY_PATH": str(library.parent)}))
    with ElfFile.open(tmp_path / "out/app") as elf:
        assert (elf.dynamic.rpath, elf.dynamic.runpath) == ("$ORIGIN/lib", None)


def test_links_and_sonames_are_kept(workshop: Workshop, tmp_path: Path) -> None:
    real = workshop.library("far/libfoo.so.1.2.3", soname="libfoo.so.1")
    (real.parent / "libfoo.so.1").symlink_to("libfoo.so.1.2.3")
    (real.parent / "libfoo.so").symlink_to("libfoo.so.1")
    bundle(workshop.program("app", real, runpath=str(real.parent)), tmp_path / "out")
    assert names(tmp_path / "out") == ["libfoo.so.1", "libfoo.so.1.2.3"]
    assert (tmp_path / "out/lib/libfoo.so.1").readlink() == Path("libfoo.so.1.2.3")
    place = moved(tmp_path / "out", workshop.directory)
    assert outside(place / "app") == []


def test_libraries_linked_from_several_directories_are_bundled_in_one(
    workshop: Workshop, tmp_path: Path
) -> None:
    """As Debian's alternatives: the name, the link and the file have three places and two names."""
    real = workshop.library("real/libblas-1.0.so", soname="libblas.so.3")
    for link, target in (
        ("alternatives/blas", real),
        ("far/libblas.so.3", workshop.directory / "alternatives/blas"),
    ):
        (workshop.directory / link).parent.mkdir()
        (workshop.directory / link).symlink_to(target)
    bundle(workshop.program("app", real, runpath=str(workshop.directory / "far")), tmp_path / "out")
    assert names(tmp_path / "out") == ["libblas-1.0.so", "libblas.so.3"]
    assert outside(moved(tmp_path / "out", workshop.directory) / "app") == []


def test_two_files_of_one_name_are_kept_apart(workshop: Workshop, tmp_path: Path) -> None:
    one = workshop.library("one/libx.so", soname="libx.so.1")
    two = workshop.library("two/libx.so", soname="libx.so.2")
    (one.parent / "libx.so.1").symlink_to("libx.so")
    (two.parent / "libx.so.2").symlink_to("libx.so")
    program = workshop.program("app", one, two, runpath=f"{one.parent}:{two.parent}")
    bundle(program, tmp_path / "out")
    place = moved(tmp_path / "out", workshop.directory)
    assert outside(place / "app") == []
    assert len(loaded(place / "app").objects) == 4


def test_a_needed_entry_that_is_a_path_becomes_a_name(workshop: Workshop, tmp_path: Path) -> None:
    library = workshop.library("far/libplain.so", soname=None)
    program = workshop.program("app", library)
    report = bundle(program, tmp_path / "out")
    assert report.plan.binary.patch
    assert report.plan.binary.patch.needed == ((str(library), "libplain.so"),)
    assert outside(moved(tmp_path / "out", workshop.directory) / "app") == []


def test_names_with_spaces_survive(workshop: Workshop, tmp_path: Path) -> None:
    library = workshop.library("far away/lib with space.so")
    program = workshop.program("my app", library, runpath=str(library.parent))
    bundle(program, tmp_path / "out here")
    assert outside(moved(tmp_path / "out here", workshop.directory) / "my app") == []


def test_a_shared_library_can_be_bundled(workshop: Workshop, tmp_path: Path) -> None:
    inner = workshop.library("far/libinner.so")
    plugin = workshop.library("plugin.so", inner, runpath=str(inner.parent))
    opens = "#include <dlfcn.h>\nint main(int n, char **a) { return dlopen(a[1], RTLD_NOW) ? 0 : 1; }\n"
    host = workshop.program("host", source=opens)
    bundle(plugin, tmp_path / "out")
    host = Path(shutil.copy(host, tmp_path / "host"))
    place = moved(tmp_path / "out", workshop.directory)
    assert run_clean(host, place / "plugin.so").returncode == 0


def test_a_program_that_needs_nothing_is_copied_unchanged(workshop: Workshop, tmp_path: Path) -> None:
    program = workshop.program("app")
    report = bundle(program, tmp_path / "out")
    assert not report.plan.libraries
    assert same(program, tmp_path / "out/app")
    assert not (tmp_path / "out/lib").exists()
    static = workshop.program("still", flags=["-static"])
    bundle(static, tmp_path / "second")
    assert run_clean(tmp_path / "second/still").returncode == 0


def test_the_systems_libraries_except_glibc_are_bundled(workshop: Workshop, tmp_path: Path) -> None:
    """libstdc++ and libgcc_s are younger than glibc on many systems; they have no search path of their own."""
    source = "#include <iostream>\n#include <stdexcept>\nint main(int n, char**) {"
    source += ' try { if (n) throw std::runtime_error("x"); } catch (std::exception& e) { std::cout << e.what(); } }\n'
    (workshop.directory / "app.cpp").write_text(source)
    program = workshop.directory / "app"
    subprocess.run(["g++", workshop.directory / "app.cpp", "-o", program], check=True)
    report = bundle(program, tmp_path / "out")
    assert [each.name for each in report.plan.left_out][:1] != []
    assert {"libstdc++.so.6", "libgcc_s.so.1"} <= set(names(tmp_path / "out"))
    assert [floor.library for floor in report.plan.floors] == ["GLIBC"]
    place = moved(tmp_path / "out")
    assert outside(place / "app") == []
    assert run_clean(place / "app").stdout == "x"
    kept = bundle(program, tmp_path / "kept", BundleOptions(keep_system_cxx=True))
    assert not kept.plan.libraries
    assert [floor.library for floor in kept.plan.floors] == ["GLIBC", "GLIBCXX"]


def test_a_non_pie_program_with_many_symbols_is_rewritten_correctly(
    workshop: Workshop, tmp_path: Path
) -> None:
    """There patchelf moves tables to the front, and an older one spreads them over two segments."""
    library = workshop.library("far/liba.so")
    exported = "".join(f"int a_long_name_to_fill_the_table_{number};\n" for number in range(3000))
    words = ["-no-pie", "-rdynamic"]
    source = f"{exported}int main(void) {{ return 0; }}\n"
    program = workshop.program("app", library, runpath=str(library.parent), flags=words, source=source)
    bundle(program, tmp_path / "out")
    place = moved(tmp_path / "out", workshop.directory)
    assert outside(place / "app") == []
    assert run_clean(place / "app").returncode == 0


def test_musl_programs_are_bundled(workshop: Workshop, tmp_path: Path) -> None:
    if shutil.which("musl-gcc") is None:
        unmet("musl-gcc")
    workshop.compiler = "musl-gcc"
    library = workshop.library("far/libanswer.so", source="int answer(void) { return 42; }\n")
    source = "int answer(void); int main(void) { return answer(); }\n"
    program = workshop.program("app", library, runpath=str(library.parent), source=source)
    report = bundle(program, tmp_path / "out")
    assert {each.reason for each in report.plan.left_out} == {"musl, which is also the loader"}
    shutil.rmtree(workshop.directory)
    place = (tmp_path / "out").rename(
        tmp_path / "an other place"
    )  # musl splits a path at a colon in $ORIGIN, too
    assert run_clean(place / "app").returncode == 42


def test_programs_of_the_system_load_from_their_bundle_what_was_planned(tmp_path: Path) -> None:
    """Real programs with real search paths, against the live loader."""
    if shutil.which("patchelf") is None:
        unmet("patchelf")
    seen = 0
    for program in [*elf_files("/usr/bin")][::7]:
        try:
            plan = make_plan(program, BundleOptions())
        except BundleFailedError:  # a package that is installed without all that it needs
            continue
        if len(plan.libraries) < 3 or plan.size > 30 << 20:
            continue
        bundle(program, tmp_path / "out")
        planned = {Path(part.path).name for part in plan.libraries}
        inside = str(tmp_path / "out")
        objects = loaded(tmp_path / "out" / program.name).objects
        assert {Path(path).resolve().name for path in objects if path.startswith(inside)} == planned, program
        assert not {Path(path).name for path in objects if not path.startswith(inside)} & planned, program
        shutil.rmtree(tmp_path / "out")
        seen += 1
        if seen == 25:
            break
    assert seen or not Path("/usr/bin").is_dir()
