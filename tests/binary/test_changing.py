"""Files that are truncated while they are read, and files that claim to be larger than the disk."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import unmet

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="ELF files are built")

LARGE = 400 << 30
MEMORY = 200 << 20  # bytes, as `RLIMIT_DATA` counts them
SECONDS = 10
HEADER, SEGMENT, PAIR = "<Q", "<IIQQQQQQ", "<QQ"  # 64-bit, little-endian: the fields that are changed
PT_LOAD, PT_DYNAMIC = 1, 2
DT_STRTAB, DT_SYMTAB, DT_RELA, DT_RELASZ, DT_STRSZ, DT_GNU_HASH = 5, 6, 7, 8, 10, 0x6FFFFEF5

# A process of its own: a map of a file that is cut off would end it by SIGBUS.
CUT_OFF = """
import os, sys
from torchlink.binary.elf import ElfFile
from torchlink.errors import ResourcesError
elf = ElfFile.open(sys.argv[1])
elf.dynamic
os.truncate(sys.argv[1], int(sys.argv[2]))
try:
    print(len(list(elf.dynamic_symbols())), len(elf.exports()), elf.build_id)
except ResourcesError as error:
    print(error.exit_code, error.message)
"""
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[1]),) * 2)
from torchlink.cli.main import entry
entry(["lint", sys.argv[2]])
"""


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A library with a few thousand symbols, whose tables take many pages."""
    if shutil.which("gcc") is None or os.uname().machine != "x86_64":
        unmet("gcc for x86-64")
    (tmp_path / "many.c").write_text("".join(f"int a_rather_long_name_{each};\n" for each in range(3000)))
    built = tmp_path / "libmany.so"
    command = ["gcc", "-shared", "-fPIC", "-Wl,--hash-style=gnu", "many.c", "-o", str(built)]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    return built


@pytest.mark.parametrize("size", [0, 4096])
def test_a_file_truncated_while_it_is_read_is_an_error(library: Path, size: int) -> None:
    command = [sys.executable, "-c", CUT_OFF, str(library), str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"2 {library} changed while it was being read.\n"


def test_a_replaced_file_is_noticed_when_it_is_reopened(library: Path, tmp_path: Path) -> None:
    from torchlink.binary.data import Source
    from torchlink.binary.elf import ElfFile
    from torchlink.errors import ResourcesError

    with ElfFile.open(library) as elf:
        assert Source.close_all()
        assert elf.symbol_count > 3000
        Source.close_all()
        shutil.copy(library, tmp_path / "other")
        (tmp_path / "other").replace(library)
        with pytest.raises(ResourcesError, match="changed while it was being read"):
            elf.exports()


def grown(library: Path, changes: dict[int, Callable[[int, int], int]]) -> Path:
    """The library with its last segment up to the end of a huge hole, and its dynamic section changed.

    Args:
        library: what is changed.
        changes: tag → its value from where the last segment begins in memory, and how large that is.
    """
    content = bytearray(library.read_bytes())
    (start,) = struct.unpack_from(HEADER, content, 32)
    (count,) = struct.unpack_from("<H", content, 56)
    places = [start + 56 * number for number in range(count)]
    kinds = {place: struct.unpack_from(SEGMENT, content, place) for place in places}
    last = max(place for place in places if kinds[place][0] == PT_LOAD)
    kind, flags, offset, address, physical, _, _, alignment = kinds[last]
    size = LARGE - offset
    struct.pack_into(SEGMENT, content, last, kind, flags, offset, address, physical, size, size, alignment)
    dynamic = next(fields for fields in kinds.values() if fields[0] == PT_DYNAMIC)
    for place in range(dynamic[2], dynamic[2] + dynamic[5], 16):
        tag, _ = struct.unpack_from(PAIR, content, place)
        if tag in changes:
            struct.pack_into(PAIR, content, place, tag, changes[tag](address, size))
    if changes.get(DT_GNU_HASH) is None:
        struct.pack_into(HEADER, content, 40, LARGE // 2)  # the section headers are in the hole, too
        struct.pack_into("<H", content, 60, 0xFFFF)
    library.write_bytes(content)
    try:
        os.truncate(library, LARGE)
    except OSError:
        unmet("a file system with holes of 400 GB")
    return library


def far(address: int, size: int) -> int:
    """An address in the middle of the hole."""
    return address + size // 2


def huge(_: int, size: int) -> int:
    """A size that is a quarter of the hole, in whole entries."""
    return size // 4 // 24 * 24


CLAIMS: dict[str, dict[int, Callable[[int, int], int]]] = {
    "nothing": {},
    "symbols": {DT_SYMTAB: far},
    "names": {DT_STRTAB: far, DT_STRSZ: huge},
    "relocations": {DT_RELA: far, DT_RELASZ: huge},
    "all": {DT_SYMTAB: far, DT_STRTAB: far, DT_STRSZ: huge, DT_RELA: far, DT_RELASZ: huge, DT_GNU_HASH: far},
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_file_larger_than_the_disk_is_read_within_limits_or_refused(library: Path, claim: str) -> None:
    sparse = grown(library, CLAIMS[claim])
    command = [sys.executable, "-c", LIMITED, str(MEMORY), str(sparse)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert done.returncode in {0, 1, 2}
    assert "Traceback" not in done.stderr
    assert "fault" not in done.stderr
    if done.returncode == 2:
        assert "is a damaged ELF file" in done.stderr
    else:
        assert str(sparse) in done.stdout
