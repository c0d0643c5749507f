"""The contents of a bundle: companions, policy, owners, licences, and a correct manifest."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.bundle.conftest import moved, outside
from tests.conftest import run_clean, unmet
from torchlink.binary.elf import ElfFile
from torchlink.bundle.making import bundle
from torchlink.bundle.options import BundleOptions
from torchlink.bundle.owners import Owners
from torchlink.bundle.policy import Policy, companions_of
from torchlink.errors import BundleFailedError
from torchlink.lint.finding import Severity

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.binary.live import Workshop
    from tests.conftest import Result
    from torchlink.bundle.contents import BundleReport

# A library that opens another by its bare name, as cuDNN does with its parts.
OPENS = """
#include <dlfcn.h>
const char *names = "libcudnn_ops.so.9";
int begin(void) { return dlopen("libcudnn_ops.so.9", RTLD_NOW) ? 0 : 1; }
"""
CALLS = "int begin(void); int main(void) { return begin(); }\n"


def libraries(report: BundleReport) -> dict[str, str]:
    """File name -> why it is there."""
    return {
        Path(part.path).name: part.why.kind if part.at_start else f"{part.why.kind} later"
        for part in report.plan.libraries
        if part.why
    }


def cudnn(workshop: Workshop) -> Path:
    """A library called cuDNN with two parts, of which one needs the other."""
    graph = workshop.library("cudnn/libcudnn_graph.so.9", runpath="$ORIGIN")
    workshop.library("cudnn/libcudnn_ops.so.9", graph, runpath="$ORIGIN")
    return workshop.library("cudnn/libcudnn.so.9", source=OPENS, rpath="$ORIGIN")


def test_libraries_opened_at_run_time_are_bundled_with_what_they_need(
    workshop: Workshop, tmp_path: Path
) -> None:
    opener = cudnn(workshop)
    program = workshop.program("app", opener, source=CALLS, runpath=str(opener.parent))
    report = bundle(program, tmp_path / "out")
    assert libraries(report) == {
        "libcudnn.so.9": "needed",
        "libcudnn_graph.so.9": "opened later",
        "libcudnn_ops.so.9": "opened later",
    }
    assert [part.path for part in report.plan.patched] == ["app"]
    place = moved(tmp_path / "out", workshop.directory)
    assert outside(place / "app") == []
    assert run_clean(place / "app").returncode == 0


def test_a_companion_with_a_missing_library_is_left_out_and_reported(
    workshop: Workshop, tmp_path: Path
) -> None:
    mpi = workshop.library("cudnn/libnobody_has_this.so.40")
    workshop.library("cudnn/libcudnn_adv.so.9", mpi)
    opener = cudnn(workshop)
    mpi.unlink()
    program = workshop.program("app", opener, source=CALLS, runpath=str(opener.parent))
    report = bundle(program, tmp_path / "out")
    assert "libcudnn_adv.so.9" not in libraries(report)
    (left_out,) = (each for each in report.plan.left_out if each.name == "libcudnn_adv.so.9")
    assert left_out.by == "libcudnn.so.9"
    assert left_out.reason.endswith("it cannot be loaded here: libnobody_has_this.so.40 not found")
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert "libcudnn_adv.so.9" in [each["name"] for each in manifest["left_out"]]


def test_a_companion_with_a_missing_system_library_is_left_out_too(
    workshop: Workshop, tmp_path: Path
) -> None:
    """NVSHMEM's transports: libmlx5 is never bundled, and where it is not installed nothing can load them."""
    device = workshop.library("cudnn/libmlx5.so.99")
    driver = workshop.library("cudnn/libcuda.so.99")
    workshop.library("cudnn/libcudnn_rdma.so.9", device)
    workshop.library("cudnn/libcudnn_gpu.so.9", driver)
    opener = cudnn(workshop)
    program = workshop.program("app", opener, source=CALLS, runpath=str(opener.parent))
    assert {"libcudnn_rdma.so.9", "libcudnn_gpu.so.9"} <= set(libraries(bundle(program, tmp_path / "with")))
    for library in (device, driver):
        library.unlink()
    report = bundle(program, tmp_path / "without")
    assert "libcudnn_rdma.so.9" not in libraries(report)
    assert "libcudnn_gpu.so.9" in libraries(report), "drivers are installed where the bundle runs"
    assert "libcudnn_rdma.so.9" in [each.name for each in report.plan.left_out]
    assert report.lint
    assert not report.lint.fails(Severity.ERROR)


def test_a_packaged_library_that_searches_the_current_directory_is_patched(
    workshop: Workshop, tmp_path: Path
) -> None:
    """As libcusparseLt's `$ORIGIN:`, whose empty entry means wherever the program is started."""
    library = workshop.library("site/mine/liba.so", runpath="$ORIGIN:")
    record = workshop.directory / "site/mine-1.0.dist-info/RECORD"
    record.parent.mkdir()
    record.write_text("mine/liba.so,,\n")
    (record.parent / "METADATA").write_text("Name: mine\nVersion: 1.0\n")
    program = workshop.program("app", library, runpath=str(library.parent))
    report = bundle(program, tmp_path / "out")
    (part,) = report.plan.libraries
    assert part.owner
    assert part.patch
    with ElfFile.open(tmp_path / "out/lib/liba.so") as elf:
        assert elf.dynamic.runpath == "$ORIGIN"
    assert report.lint
    assert "rpath-relative" not in [each.rule for file in report.lint.files for each in file.findings]


def test_a_missing_companion_is_reported(workshop: Workshop, tmp_path: Path) -> None:
    opener = workshop.library("cudnn/libcudnn.so.9", source=OPENS)
    program = workshop.program("app", opener, source=CALLS, runpath=str(opener.parent))
    report = bundle(program, tmp_path / "out", dry=True)
    assert any(note.startswith("libcudnn.so.9 opens libcudnn_*.so.*") for note in report.plan.notes)


def test_a_companion_elsewhere_is_found_through_a_search_path(workshop: Workshop, tmp_path: Path) -> None:
    """CUDA 12's packages have a directory each; torch's own search path names them all."""
    workshop.library("site/nvjitlink/lib/libnvJitLink.so.12")
    fft = workshop.library("site/cufft/lib/libcufft.so.11")
    path = "$ORIGIN/../../cufft/lib:$ORIGIN/../../nvjitlink/lib:$ORIGIN"
    torch = workshop.library("site/torch/lib/libtorch_cuda.so", fft, rpath=path)
    program = workshop.program("app", torch, runpath=str(torch.parent))
    report = bundle(program, tmp_path / "out")
    assert libraries(report)["libnvJitLink.so.12"] == "opened later"
    assert [part.path for part in report.plan.patched] == ["app"]
    assert outside(moved(tmp_path / "out", workshop.directory) / "app") == []


def test_the_driver_is_left_to_the_system_even_where_it_is_missing(
    workshop: Workshop, tmp_path: Path
) -> None:
    driver = workshop.library("stubs/libcuda.so.99")
    first = workshop.library("far/libfirst.so", driver)
    program = workshop.program("app", first, runpath=str(first.parent))
    for found in (True, False):
        environment = {"LD_LIBRARY_PATH": str(driver.parent)} if found else {}
        report = bundle(program, tmp_path / f"out{found}", BundleOptions(environment=environment))
        assert libraries(report) == {"libfirst.so": "needed"}
        left_out = next(each for each in report.plan.left_out if each.name == "libcuda.so.99")
        assert left_out.found is found
        assert "driver" in left_out.reason


def test_what_only_a_left_out_library_needs_is_left_out(workshop: Workshop, tmp_path: Path) -> None:
    deep = workshop.library("far/libdrivers.so")
    graphics = workshop.library("far/libGL.so.1", deep, runpath="$ORIGIN")
    program = workshop.program("app", graphics, runpath=str(deep.parent))
    assert libraries(bundle(program, tmp_path / "out")) == {}


def test_the_user_can_override_the_policy(workshop: Workshop, tmp_path: Path) -> None:
    blas = workshop.library("far/libblas_of_nobody.so.3")
    graphics = workshop.library("far/libGL.so.1")
    added = workshop.library("plugins/libplugin.so", blas, runpath=str(blas.parent))
    program = workshop.program("app", graphics, runpath=str(blas.parent))
    report = bundle(program, tmp_path / "out", BundleOptions(include=("libGL.*",), add=(added,)))
    assert libraries(report) == {
        "libGL.so.1": "needed",
        "libplugin.so": "added later",
        "libblas_of_nobody.so.3": "needed later",
    }
    assert outside(moved(tmp_path / "out") / "app") == []
    left = bundle(program, tmp_path / "left", BundleOptions(exclude=("libblas*",), add=(added,)))
    assert libraries(left) == {"libplugin.so": "added later"}
    blas.unlink()
    with pytest.raises(BundleFailedError, match=r"libblas_of_nobody\.so\.3 is missing"):
        bundle(program, tmp_path / "third", BundleOptions(add=(added,)))


def test_a_glob_that_matches_no_library_is_reported(
    workshop: Workshop, tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    library = workshop.library("far/liba.so")
    program = workshop.program("app", library, runpath=str(library.parent))
    fitting = ("--exclude", "liba*", "--include", "libc.so.6")
    done = torchlink("bundle", program, tmp_path / "out", *fitting, "--dry-run")
    assert (done.code, done.err) == (0, "")
    done = torchlink("bundle", program, tmp_path / "out", *fitting, "--exclude", "zzz*", "--dry-run")
    assert done.err == "torchlink: 'zzz*' matches none of the libraries that app needs.\n"
    assert "zzz" not in done.out


def test_the_policy_matches_versions_but_not_similar_names() -> None:
    policy = Policy()
    for name in ("libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2", "libcuda.so.1", "libnvidia-ml.so.1"):
        assert policy.reason(name), name
    for name in (
        "libcudart.so.13",
        "libc10.so",
        "libcupti.so.13",
        "libmkl_rt.so.2",
        "libnvrtc.so.13",
        "libz.so.1",
    ):
        assert policy.reason(name) is None, name
    assert dict(companions_of(["libnvrtc.so.13"]))
    assert not dict(companions_of(["libtorch_cpu.so", "libfoo.so"]))


def test_the_manifest_is_correct_and_contains_no_path_of_this_machine(
    workshop: Workshop, tmp_path: Path
) -> None:
    real = workshop.library("far/libfoo.so.1.2", soname="libfoo.so.1")
    (real.parent / "libfoo.so.1").symlink_to(real.name)
    program = workshop.program("app", real, runpath=str(real.parent))
    bundle(program, tmp_path / "out")
    text = (tmp_path / "out/manifest.json").read_text()
    assert str(tmp_path) not in text
    manifest = json.loads(text)
    assert manifest["schema"] == 1
    found = {
        str(path.relative_to(tmp_path / "out"))
        for path in (tmp_path / "out").rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }
    listed = {entry["path"]: entry for entry in manifest["files"]}
    assert found == listed.keys() | {link for entry in listed.values() for link in entry["links"]}
    for path, entry in listed.items():
        content = (tmp_path / "out" / path).read_bytes()
        assert (entry["sha256"], entry["size"]) == (hashlib.sha256(content).hexdigest(), len(content))
    library = listed["lib/libfoo.so.1.2"]
    assert library["patched"] is None
    assert library["sha256"] == library["source_sha256"] == hashlib.sha256(real.read_bytes()).hexdigest()
    assert listed["app"]["patched"]["search_path"] == "$ORIGIN/lib"
    assert listed["app"]["source_sha256"] == hashlib.sha256(program.read_bytes()).hexdigest()
    bundle(program, tmp_path / "again")
    assert (tmp_path / "again/manifest.json").read_text() == text


def test_licences_come_from_the_packages(workshop: Workshop, tmp_path: Path) -> None:
    site = workshop.directory / "site-packages"
    one = workshop.library("site-packages/nvidia/part/lib/libpart.so.1")
    two = workshop.library("site-packages/other/lib/libother.so.1")
    loose = workshop.library("loose/lib/libloose.so")
    for name, owned, licence in (
        ("nvidia_part_cu13-1.2", one, "nvidia_part_cu13-1.2.dist-info/licenses/third party/License.txt"),
        ("other-3.0", two, "other/LICENSE.txt"),
    ):
        info = site / f"{name}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Name: {name.partition('-')[0].replace('_', '-')}\nVersion: 9\n\nName: no\n"
        )
        (info / "RECORD").write_text(f"{owned.relative_to(site)},sha256=x,1\n{licence},,\n")
        (site / licence).parent.mkdir(parents=True, exist_ok=True)
        (site / licence).write_text("the terms")
    (workshop.directory / "loose/NOTICE").write_text("the notice")
    path = f"{one.parent}:{two.parent}:{loose.parent}"
    report = bundle(workshop.program("app", one, two, loose, runpath=path), tmp_path / "out")
    texts = tmp_path / "out/licenses"
    assert {str(file.relative_to(texts)) for file in texts.rglob("*") if file.is_file()} == {
        "nvidia-part-cu13/third party/License.txt",
        "other/other/LICENSE.txt",
        "libloose.so/NOTICE",
    }
    assert report.unlicensed == ()
    owners = {part.path: part.owner.name for part in report.plan.libraries if part.owner}
    assert owners == {"lib/libpart.so.1": "nvidia-part-cu13", "lib/libother.so.1": "other"}


def test_conda_and_unpacked_libtorchs_own_their_files(tmp_path: Path) -> None:
    env, unpacked, zipped = tmp_path / "env", tmp_path / "pkgs/blas-1", tmp_path / "libtorch"
    directories = (env / "conda-meta", env / "lib", unpacked / "info/licenses")
    for directory in (*directories, zipped / "lib", zipped / "include/torch"):
        directory.mkdir(parents=True)
    (env / "lib/libblas.so").touch()
    record = {
        "name": "blas",
        "version": "1",
        "files": ["lib/libblas.so"],
        "extracted_package_dir": str(unpacked),
    }
    (env / "conda-meta/blas-1-0.json").write_text(json.dumps(record))
    (unpacked / "info/licenses/COPYING").touch()
    owner = Owners().of(env / "lib/libblas.so")
    assert owner
    assert (owner.kind, owner.name, owner.version, owner.path) == ("conda", "blas", "1", "lib/libblas.so")
    assert [name for name, _ in owner.licences] == ["COPYING"]
    (zipped / "lib/libc10.so").touch()
    (zipped / "build-version").write_text("2.9.0+cpu\n")
    owner = Owners().of(zipped / "lib/libc10.so")
    assert owner
    assert (owner.kind, owner.version, owner.path) == ("libtorch", "2.9.0+cpu", "lib/libc10.so")
    assert Owners().of(tmp_path / "nowhere/liba.so") is None


def test_the_debian_package_of_a_library_is_found() -> None:
    libraries = sorted(Path("/usr/lib").glob("*/libstdc++.so.6.*"))
    if not Path("/var/lib/dpkg/status").exists() or not libraries:
        unmet("dpkg and libstdc++")
    owner = Owners().of(Path(os.path.realpath(libraries[0])))
    assert owner
    assert (owner.kind, owner.name) == ("deb", "libstdc++6")
    assert owner.version
    assert [name for name, _ in owner.licences] == ["copyright"]


def test_the_command_line_reports_everything(
    workshop: Workshop, tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    opener = cudnn(workshop)
    program = workshop.program("app", opener, source=CALLS, runpath=str(opener.parent))
    dry = torchlink("bundle", program, tmp_path / "out", "--dry-run")
    assert dry.code == 0
    assert not (tmp_path / "out").exists()
    for words in ("would be app", "libcudnn_ops.so.9", "RPATH now $ORIGIN/lib", "part of glibc"):
        assert words in dry.out
    done = torchlink("bundle", program, tmp_path / "out", "--json")
    assert (done.code, done.err) == (0, "")
    document = json.loads(done.out)
    assert (document["schema"], document["dry_run"]) == (1, False)
    assert "error" not in {each["severity"] for each in document["findings"]}
    assert "lib/libcudnn.so.9" in {each["path"] for each in document["findings"]}
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert document["files"] == manifest["files"]
    place = moved(tmp_path / "out", workshop.directory)
    again = torchlink("bundle", place / "app", tmp_path / "second")
    assert again.code == 0, again.err
    assert "\nlint: " in again.out
    shutil.rmtree(place)
    assert run_clean(tmp_path / "second/app").returncode == 0
