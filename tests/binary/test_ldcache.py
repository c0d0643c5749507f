"""ld.so.cache is read as ldconfig writes it, glibc-hwcaps included."""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path

import pytest

from tests.binary.live import Workshop, usable
from tests.conftest import unmet
from torchlink.binary.platforms import PLATFORMS
from torchlink.binary.system import MAGIC, LibraryCache

LDCONFIG = "/sbin/ldconfig"
ENTRY = re.compile(r"^\t(\S+) \(([^)]*)\) => (\S+)$")


def ldconfig(*arguments: str | Path) -> str:
    done = subprocess.run([LDCONFIG, *map(str, arguments)], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Path]:
    """A cache of the tests' own over a directory with a library in three hardware versions."""
    if not usable("gcc") or not Path(LDCONFIG).exists():
        unmet("gcc and ldconfig")
    workshop = Workshop(tmp_path)
    for file in (
        "liba.so.1",
        "glibc-hwcaps/x86-64-v2/liba.so.1",
        "glibc-hwcaps/x86-64-v3/liba.so.1",
        "libb.so",
    ):
        workshop.library(f"lib/{file}")
    (tmp_path / "conf").write_text(f"{tmp_path}/lib\n")
    ldconfig("-X", "-C", tmp_path / "cache", "-f", tmp_path / "conf")
    return tmp_path / "cache", tmp_path / "lib"


def test_every_entry_that_ldconfig_prints_is_found(made: tuple[Path, Path]) -> None:
    for file in (made[0], Path("/etc/ld.so.cache")):
        if not file.exists():
            continue
        cache = LibraryCache(file.read_bytes())
        first: dict[str, str] = {}
        for line in ldconfig("-p", "-C", file).splitlines():
            match = ENTRY.match(line)
            if match and re.fullmatch(r"libc6,x86-64", match[2]):
                first.setdefault(match[1], match[3])
        assert first
        flags = PLATFORMS["x86_64"].cache_flags
        assert {name: cache.lookup(name, flags, tuple) for name in first} == first
        assert cache.lookup("libnowhere.so", flags, tuple) is None


@pytest.mark.parametrize(
    ("hwcaps", "place"),
    [
        (("x86-64-v4", "x86-64-v3", "x86-64-v2"), "glibc-hwcaps/x86-64-v3/"),
        (("x86-64-v2",), "glibc-hwcaps/x86-64-v2/"),
        ((), ""),
    ],
)
def test_the_best_hardware_variant_is_chosen(
    made: tuple[Path, Path], hwcaps: tuple[str, ...], place: str
) -> None:
    cache = LibraryCache(made[0].read_bytes())
    flags = PLATFORMS["x86_64"].cache_flags
    assert cache.lookup("liba.so.1", flags, lambda: hwcaps) == f"{made[1]}/{place}liba.so.1"


def test_entries_for_another_machine_are_skipped(made: tuple[Path, Path]) -> None:
    cache = LibraryCache(made[0].read_bytes())
    assert cache.lookup("libb.so", PLATFORMS["aarch64"].cache_flags, tuple) is None


def test_a_big_endian_cache_and_the_old_format_in_front_are_read() -> None:
    header = MAGIC + struct.pack(">IIBxxxI", 1, 20, 3, 0) + bytes(12)
    blob = header + struct.pack(">iIIIQ", 0x403, 72, 77, 0, 0) + b"liba\0/lib/liba\0"
    flags = PLATFORMS["s390x"].cache_flags
    assert LibraryCache(blob).lookup("liba", flags, tuple) == "/lib/liba"
    assert LibraryCache(b"ld.so-1.7.0\0" + bytes(4) + blob).lookup("liba", flags, tuple) == "/lib/liba"


@pytest.mark.parametrize("blob", [b"", b"ld.so-1.7.0\0" + bytes(64), MAGIC, MAGIC + b"\xff" * 100])
def test_a_file_that_is_not_a_cache_has_no_entries(blob: bytes) -> None:
    assert LibraryCache(blob).lookup("liba", (3,), tuple) is None
