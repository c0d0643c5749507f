"""A place without a usable libtorch comes with the reason."""

from __future__ import annotations

import os
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.libtorch.trees import Fake, make
from torchlink.errors import FileError
from torchlink.libtorch.layout import Layout, NoLibtorch
from torchlink.libtorch.names import library_name
from torchlink.libtorch.resolve import resolve
from torchlink.libtorch.tree import open_zip

pytestmark = pytest.mark.compile


def touch(root: Path, *names: str) -> Path:
    """Empty files below a directory."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    root.mkdir(exist_ok=True)
    return root


def reason(path: Path) -> str:
    """Why a path is refused."""
    found = resolve(path)
    assert isinstance(found, NoLibtorch)
    return found.reason


def test_refused_places_say_why(tmp_path: Path) -> None:
    empty = touch(tmp_path / "empty")
    assert reason(empty) == "nothing of libtorch is there"
    assert reason(tmp_path / "nowhere") == "no such file or directory"
    bare = touch(tmp_path / "bare", "lib/libc10.so", "lib/libtorch_cpu.so")
    assert reason(bare) == "no headers: include/ATen is missing"
    headers = touch(tmp_path / "headers", "include/ATen/ATen.h", "include/c10/c10.h")
    assert "incomplete install" in reason(headers)
    lua = touch(tmp_path / "lua", "lib/libTH.so", "lib/libluaT.so", "lib/libtorch.so", "include/TH/TH.h")
    assert "Lua's Torch7" in reason(lua)
    static = touch(tmp_path / "static", "lib/libc10.a", "lib/libtorch_cpu.a", "include/ATen/ATen.h")
    assert "static build" in reason(static)
    namespace = touch(tmp_path / "site/torch", "mine.py")
    assert "only named torch" in reason(namespace)
    package = touch(tmp_path / "site2/torch", "__init__.py")
    assert "Python package named torch" in reason(package)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_libraries_that_cannot_be_listed_are_not_called_missing(tmp_path: Path) -> None:
    root = touch(
        tmp_path / "torch", "lib/libc10.so", "lib/libtorch_cpu.so", "include/ATen/x.h", "include/c10/x.h"
    )
    (root / "lib").chmod(0)
    try:
        assert reason(root) == f"{root / 'lib'} cannot be read: permission denied"
    finally:
        (root / "lib").chmod(0o755)


def test_a_file_that_is_not_an_archive_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt", "broken.whl")
    assert reason(tmp_path / "notes.txt") == "a file, but neither a wheel nor a zip"
    assert "neither a wheel nor a zip" in reason(tmp_path / "broken.whl")
    with ZipFile(tmp_path / "other.whl", "w") as archive:
        archive.writestr("six.py", "")
    assert "an archive without a libtorch" in reason(tmp_path / "other.whl")


def test_a_zip_is_known_by_its_content_and_a_debian_package_comes_with_how_to_unpack_it(
    tmp_path: Path,
) -> None:
    with ZipFile(tmp_path / "other.bin", "w") as archive:
        archive.writestr("six.py", "")
    assert "an archive without a libtorch" in reason(tmp_path / "other.bin")
    (tmp_path / "libtorch-dev.deb").write_bytes(
        b"!<arch>\ndebian-binary   1342943816  0     0     100644  4         "
    )
    assert "`dpkg -x FILE DIR`" in reason(tmp_path / "libtorch-dev.deb")


def test_what_is_not_a_file_is_named_and_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert reason(tmp_path / "pipe") == "a FIFO, not a directory"
    assert reason(Path("/dev/zero")) == "a character device, not a directory"
    with pytest.raises(FileError, match="is a FIFO"):
        open_zip(tmp_path / "pipe")


@pytest.mark.parametrize(
    "named",
    [
        "torch",
        "torch/lib",
        "torch/include",
        ".",
        "torch/share/cmake/Torch",
        "torch/share/cmake",
        "torch/lib/libc10.so",
    ],
)
def test_a_root_is_understood_by_many_names(tmp_path: Path, named: str) -> None:
    make(tmp_path / "torch")
    found = resolve(tmp_path / named)
    assert isinstance(found, Layout)
    assert found.tree.root == tmp_path / "torch"


@pytest.mark.parametrize(
    ("root", "named"),
    [
        ("project/libtorch", "project"),
        ("venv/lib/python3.12/site-packages/torch", "venv"),
        ("venv/lib64/python3.13t/site-packages/torch", "venv"),
        ("venv/lib/python3/dist-packages/torch", "venv"),
        ("a dir/lib/python3.12/site-packages/torch", "a dir/lib/python3.12/site-packages"),
    ],
)
def test_a_directory_around_a_libtorch_is_understood(tmp_path: Path, root: str, named: str) -> None:
    make(tmp_path / root)
    found = resolve(tmp_path / named)
    assert isinstance(found, Layout)
    assert found.tree.root == tmp_path / root


def test_debians_directories_are_understood(tmp_path: Path) -> None:
    usr = make(tmp_path / "usr", Fake(version=None, declared=None), library_dir="lib/x86_64-linux-gnu")
    for named in (tmp_path, usr, usr / "lib", usr / "lib/x86_64-linux-gnu"):
        found = resolve(named)
        assert isinstance(found, Layout)
        assert (found.tree.root, found.library_dir, found.kind) == (usr, "lib/x86_64-linux-gnu", "system")


def test_libraries_beside_headers_without_a_lib_directory_are_understood(tmp_path: Path) -> None:
    make(tmp_path, Fake(version=None, declared=None), library_dir="flat")
    found = resolve(tmp_path / "flat")
    assert isinstance(found, Layout)
    assert (found.library_dir, found.include) == ("", "../include")


@pytest.mark.parametrize(
    ("file", "bare"),
    [
        ("libc10.so", "c10"),
        ("libtorch_cpu.so.1.13", "torch_cpu"),
        ("libtorch_cpu.so.1.13.0", "torch_cpu"),
        ("libgomp-a34b3233.so.1", "gomp-a34b3233"),
        ("libopenblasp-r0-bbd0e64a.3.28.so", "openblasp-r0-bbd0e64a.3.28"),
        ("libtorch.dylib", "torch"),
        ("torch_cpu.dll", "torch_cpu"),
        ("libiomp5md.dll", "libiomp5md"),
        ("c10.lib", "c10"),
        ("libc10.a", None),
        ("libc10.so.debug", None),
        ("libshm", None),
    ],
)
def test_file_names_give_bare_names(file: str, bare: str | None) -> None:
    assert library_name(file) == bare
