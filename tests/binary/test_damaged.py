"""Damaged files give one clear error: no traceback, no hang, no excessive memory use."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.binary.live import Workshop, usable
from tests.conftest import unmet
from torchlink.binary.bindings import Scope
from torchlink.binary.elf import ElfFile
from torchlink.binary.loader import OpenFiles, resolve
from torchlink.binary.system import LibraryCache
from torchlink.errors import FileError, MalformedFileError, TorchlinkError

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCE = """
extern int printf(const char *, ...);
int shared_number = 3;
__thread int own_number;
__attribute__((weak)) int maybe(void);
int made(void) { return printf("%d", shared_number + own_number + (maybe ? maybe() : 0)); }
int (*pointer)(void) = made;
"""
FUZZ = settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Small shared libraries and a program: both hash styles, versions, and 32 bits where the compiler can."""
    if not usable("gcc"):
        unmet("gcc")
    workshop = Workshop(tmp_path_factory.mktemp("samples"))
    script = workshop.directory / "versions.map"
    script.write_text("OLD_1 { global: made; }; NEW_2 { global: shared_number; pointer; } OLD_1;\n")
    versions = f"-Wl,--version-script,{script}"
    files = [
        workshop.library(
            "libgnu.so", "-lc", source=SOURCE, flags=["-Wl,--hash-style=gnu", versions], rpath="$ORIGIN"
        ),
        workshop.library("libsysv.so", "-lc", source=SOURCE, flags=["-Wl,--hash-style=sysv", versions]),
        workshop.program("app", source=SOURCE + "int main(void) { return made(); }\n", flags=["-no-pie"]),
    ]
    small = Workshop(workshop.directory, machine_flags=("-m32",))
    with contextlib.suppress(subprocess.CalledProcessError):  # a compiler without 32-bit libraries
        files.append(small.library("libsmall.so", "-lc", source=SOURCE, flags=[versions]))
    return files


def read_everything(blob: bytes) -> None:
    """Ask the reader everything that it can be asked."""
    elf = ElfFile.from_buffer(blob, "sample")
    questions: list[Callable[[], object]] = [
        lambda: elf.interpreter,
        lambda: elf.dynamic,
        lambda: elf.exec_stack,
        lambda: elf.build_id,
        lambda: elf.defines("made"),
        lambda: elf.find_symbol("shared_number"),
        lambda: list(elf.dynamic_symbols()),
        elf.relocated_symbols,
        lambda: list(elf.references()),
        lambda: list(elf.references(relocated=False)),
        elf.definitions,
        elf.preemptible,
        lambda: elf.provides(b"made", 0x7C9C0B2A, "OLD_1"),
        elf.version_needs,
        elf.version_definitions,
        lambda: elf.find_in_section(".rodata", b"%d", 4, 4),
    ]
    for question in questions:
        try:
            question()
        except MalformedFileError as error:
            assert "sample" in error.message  # noqa: PT017 - other errors may not happen at all


@given(data=st.data())
@FUZZ
def test_flipped_bits_never_break_the_reader(samples: list[Path], data: st.DataObject) -> None:
    blob = bytearray(data.draw(st.sampled_from(samples)).read_bytes())
    for position in data.draw(st.lists(st.integers(0, len(blob) * 8 - 1), min_size=1, max_size=12)):
        blob[position // 8] ^= 1 << position % 8
    try:
        read_everything(bytes(blob))
    except TorchlinkError as error:
        assert error.message  # noqa: PT017 - as above


@given(data=st.data())
@FUZZ
def test_wild_numbers_never_break_the_reader(samples: list[Path], data: st.DataObject) -> None:
    """Words of the header, the program headers and the dynamic section become huge, negative or cyclic."""
    blob = bytearray(data.draw(st.sampled_from(samples)).read_bytes())
    wide = blob[4] == 2
    interesting = [range(16, 1024)]
    offset, count = (
        struct.unpack_from("<Q" if wide else "<I", blob, 32 if wide else 28)[0],
        blob[56 if wide else 44],
    )
    size = 56 if wide else 32
    for number in range(count):
        (kind,) = struct.unpack_from("<I", blob, offset + number * size)
        place = offset + number * size
        start = (
            struct.unpack_from("<Q", blob, place + 8)[0]
            if wide
            else struct.unpack_from("<I", blob, place + 4)[0]
        )
        if kind == 2:
            interesting.append(range(start, start + 512))
    for where in data.draw(st.lists(st.sampled_from(interesting), min_size=1, max_size=6)):
        position = data.draw(st.sampled_from(where)) & ~7
        value = data.draw(
            st.sampled_from((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x6FFFFEF5, 2**63, 2**64 - 1, 2**64 - 4096))
            | st.integers(0, 2**64 - 1)
            | st.integers(0, len(blob))
        )
        struct.pack_into("<Q", blob, min(position, len(blob) - 8), value)
    try:
        read_everything(bytes(blob))
    except TorchlinkError as error:
        assert error.message  # noqa: PT017 - as above


@given(data=st.data())
@FUZZ
def test_cut_off_files_never_break_the_reader(samples: list[Path], data: st.DataObject) -> None:
    blob = data.draw(st.sampled_from(samples)).read_bytes()
    try:
        read_everything(blob[: data.draw(st.integers(0, len(blob) - 1))])
    except TorchlinkError as error:
        assert error.message  # noqa: PT017 - as above


@given(data=st.data())
@settings(FUZZ, max_examples=100)
def test_a_damaged_library_never_breaks_the_closure(
    samples: list[Path], data: st.DataObject, tmp_path: Path
) -> None:
    app, library = tmp_path / "app", tmp_path / "liba.so"
    if not app.exists():
        workshop = Workshop(tmp_path)
        workshop.library("liba.so", "-lc", source=SOURCE)
        workshop.program("app", library, runpath="$ORIGIN")
    blob = bytearray(data.draw(st.sampled_from(samples)).read_bytes())
    for position in data.draw(st.lists(st.integers(0, len(blob) * 8 - 1), max_size=6)):
        blob[position // 8] ^= 1 << position % 8
    library.write_bytes(blob)
    closure = resolve(app)
    scope = Scope(closure)
    for ask in (scope.unused_needed, scope.used_but_not_needed, scope.undefined_symbols):
        try:
            ask(closure.subject.path)
        except MalformedFileError as error:
            assert "liba.so" in error.message  # noqa: PT017 - as above


@given(
    noise=st.binary(max_size=400),
    flips=st.lists(st.integers(0, 2**20), max_size=8),
    cut=st.integers(0, 2**20),
)
@settings(FUZZ, max_examples=200)
def test_a_damaged_cache_never_breaks_the_search(noise: bytes, flips: list[int], cut: int) -> None:
    header = b"glibc-ld.so.cache1.1" + struct.pack("<IIBxxxI", 2, 30, 2, 48 + 48 + 30) + bytes(12)
    entries = b"".join(struct.pack("<iIIIQ", 0x303, 96, 102, 0, hwcap) for hwcap in (1 << 62, 0))
    blob = bytearray(header + entries + b"liba\0\0/lib/liba\0".ljust(30, b"\0"))
    blob += struct.pack("<II IIII", 0xEAA42174, 1, 1, 0, 128, 8) + noise
    for flip in flips:
        blob[flip // 8 % len(blob)] ^= 1 << flip % 8
    LibraryCache(bytes(blob[: cut % len(blob)] if cut % 2 else blob)).lookup(
        "liba", (0x303,), lambda: ("x86-64-v3",)
    )


def test_a_name_that_is_not_utf8_survives(samples: list[Path]) -> None:
    blob = samples[0].read_bytes().replace(b"libgnu.so", b"lib\xff\xfe\x80.so")
    assert ElfFile.from_buffer(blob, "sample").dynamic.soname == os.fsdecode(b"lib\xff\xfe\x80.so")


def test_a_file_that_is_not_regular_is_refused_without_blocking(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket"))
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text(
        "no binary, but more than sixty bytes of text, so that a header would fit in it\n"
    )
    (tmp_path / "circle").symlink_to("circle")
    names = ("fifo", "socket", "empty", "text", "circle", "nowhere", "empty/below", ".", "with\0nul")
    for name in names:
        for opener in (ElfFile.open, resolve):
            with pytest.raises(FileError) as caught:
                opener(tmp_path / name)
            assert caught.value.exit_code == 2
            assert caught.value.message.count("\n") == 0
    with pytest.raises(FileError, match="character device"):
        ElfFile.open(Path("/dev/null"))
    listener.close()


def test_an_interpreter_that_is_a_fifo_does_not_block(
    samples: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "i")
    app = tmp_path / "app"
    app.write_bytes(
        samples[2].read_bytes().replace(b"/lib64/ld-linux-x86-64.so.2\0", b"./i\0".ljust(28, b"\0"))
    )
    monkeypatch.chdir(tmp_path)
    closure = resolve(app)
    assert [edge.name for edge in closure.edges if edge.fatal] == ["./i"]


def test_many_closures_do_not_use_up_the_file_descriptors(samples: list[Path], tmp_path: Path) -> None:
    files = OpenFiles()
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    for number in range(300):
        library = tmp_path / f"lib{number}.so"
        library.write_bytes(samples[0].read_bytes())
        resolve(library, files=files)
    assert len(list(descriptors.iterdir())) - before < 250


def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\x7fELF")
    (tmp_path / "secret").chmod(0)
    if os.access(tmp_path / "secret", os.R_OK):
        pytest.skip("root may read everything")
    with pytest.raises(FileError, match="Permission denied"):
        resolve(tmp_path / "secret")
