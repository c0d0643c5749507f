"""An image or sysroot: its own loader, cache and links are used, and nothing of this machine's."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.binary.live import LOADERS, Workshop, usable
from tests.conftest import unmet
from torchlink.binary.loader import resolve
from torchlink.binary.tree import Root


@pytest.fixture
def image(tmp_path: Path) -> Workshop:
    """A small image with a loader and a C library in Debian's places and `/lib` a link to `/usr/lib`."""
    if not usable("gcc") or not Path(LOADERS["x86_64"]).exists():
        unmet("gcc and glibc on x86_64")
    root = tmp_path / "image"
    (root / "usr/lib/x86_64-linux-gnu").mkdir(parents=True)
    (root / "usr/lib64").mkdir()
    (root / "lib").symlink_to("/usr/lib")
    (root / "lib64").symlink_to("usr/lib64")
    shutil.copy(LOADERS["x86_64"], root / "usr/lib64/ld-linux-x86-64.so.2")
    libc = next(
        each.file for each in resolve(Path(shutil.which("sleep") or "")).objects if each.name == "libc.so.6"
    )
    shutil.copy(libc, root / "usr/lib/x86_64-linux-gnu/libc.so.6")
    return Workshop(root)


def test_a_program_in_an_image_loads_the_images_libraries(image: Workshop) -> None:
    library = image.library("opt/app/lib/liba.so")
    app = image.program("opt/app/bin/app", library, runpath="$ORIGIN/../lib")
    closure = resolve(app, root=image.directory)
    assert [each.path for each in closure.objects] == [
        "/opt/app/bin/app",
        "/opt/app/bin/../lib/liba.so",
        closure.objects[2].path,
        "/lib64/ld-linux-x86-64.so.2",
    ]
    assert closure.objects[1].file == library
    assert closure.objects[2].real_path == "/usr/lib/x86_64-linux-gnu/libc.so.6"
    assert closure.objects[2].file == image.directory / "usr/lib/x86_64-linux-gnu/libc.so.6"


def test_libraries_of_this_machine_are_missing_in_an_image(image: Workshop) -> None:
    app = image.program("opt/app", "-lz")
    assert not resolve(app).missing
    assert [edge.name for edge in resolve(app, root=image.directory).missing] == ["libz.so.1"]


def test_a_program_outside_the_image_keeps_its_own_directories(image: Workshop, tmp_path: Path) -> None:
    outside = Workshop(tmp_path / "project")
    outside.directory.mkdir()
    library = outside.library("lib/liba.so")
    app = outside.program("app", library, "-lz", runpath="$ORIGIN/lib")
    closure = resolve(app, root=image.directory)
    assert closure.objects[1].file == library
    assert [edge.name for edge in closure.missing] == ["libz.so.1"]
    assert closure.objects[2].file.is_relative_to(image.directory)


def test_the_image_agrees_with_its_loader_after_chroot(image: Workshop) -> None:
    image.library("srv/liba.so")
    (image.directory / "usr/lib/libb.so").symlink_to("/srv/liba.so")
    stub = image.library("stub/libb.so")
    app = image.program("usr/bin/app", stub)
    shutil.rmtree(image.directory / "stub")
    done = subprocess.run(
        ["unshare", "-r", "chroot", image.directory, "/lib64/ld-linux-x86-64.so.2", "--list", "/usr/bin/app"],
        capture_output=True,
        text=True,
        check=False,
    )
    closure = resolve(app, root=image.directory)
    assert closure.objects[1].path in {"/lib/libb.so", "/usr/lib/libb.so"}
    assert closure.objects[1].real_path == "/srv/liba.so"
    if done.returncode != 0:
        pytest.skip("no user namespaces here")
    paths = [line.rpartition(" (0x")[0].rpartition("=> ")[2].strip() for line in done.stdout.splitlines()]
    assert [each.path for each in closure.objects[1:]] == [path for path in paths if "vdso" not in path]


def test_links_cannot_leave_the_image(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/out").symlink_to("../../../../etc")
    (tmp_path / "inner/absolute").symlink_to("/deep/er")
    (tmp_path / "inner/circle").symlink_to("circle")
    tree = Root(tmp_path / "inner")
    root = os.path.realpath(tmp_path / "inner")
    assert tree.on_host("/out/passwd") == f"{root}/etc/passwd"
    assert tree.on_host("/absolute/../file") == f"{root}/deep/file"
    assert tree.on_host("/a/../../b") == f"{root}/b"
    assert tree.on_host("/circle/x") == f"{root}/circle/x"
    assert tree.inside(f"{root}/usr/lib") == "/usr/lib"
    assert tree.inside(f"{root}-sibling/usr/lib") is None
