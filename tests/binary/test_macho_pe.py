"""macOS and Windows binaries: made by LLVM's linkers where installed, and by hand after the formats' specifications."""

from __future__ import annotations

import shutil
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchlink.binary.macho import MachOFile
from torchlink.binary.pe import PeFile
from torchlink.errors import MalformedFileError

if TYPE_CHECKING:
    from pathlib import Path

FUZZ = settings(max_examples=300, deadline=None)
SOURCE = "int made(void) { return 1; }\nint other = 2;\n"


def text_command(order: str, command: int, text: str) -> bytes:
    """A load command that is a string behind a fixed head."""
    head = 12 if command == 0x8000001C else 24
    body = text.encode() + b"\0"
    body += bytes(-(head + len(body)) % 8)
    fixed = bytes(head - 12)
    return struct.pack(f"{order}III", command, head + len(body), head) + fixed + body


def macho(order: str = "<", cpu: int = 0x0100000C, *, old: bool = False) -> bytes:
    """A library with two libraries, an rpath and a minimum system."""
    minimum = (
        struct.pack(f"{order}IIII", 0x24, 16, 0x000A0D06, 0)
        if old
        else struct.pack(f"{order}IIIIII", 0x32, 24, 1, 0x000B0000, 0, 0)
    )
    commands = [
        text_command(order, 0xD, "@rpath/liba.dylib"),
        text_command(order, 0xC, "@rpath/libb.dylib"),
        text_command(order, 0x80000018, "/usr/lib/libSystem.B.dylib"),
        text_command(order, 0x8000001C, "@loader_path/../lib"),
        minimum,
    ]
    body = b"".join(commands)
    return struct.pack(f"{order}8I", 0xFEEDFACF, cpu, 0, 6, len(commands), len(body), 0, 0) + body


def fat(*binaries: bytes) -> bytes:
    """A fat file of thin ones, at 4096-byte boundaries."""
    head = struct.pack(">II", 0xCAFEBABE, len(binaries))
    body = b""
    for binary in binaries:
        offset = 4096 + len(body)
        head += struct.pack(">IIIII", struct.unpack_from("<I", binary, 4)[0], 0, offset, len(binary), 12)
        body += binary + bytes(-len(binary) % 4096)
    return head.ljust(4096, b"\0") + body


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_thin_mach_o_file_is_read(order: str) -> None:
    (only,) = MachOFile.from_buffer(macho(order), "liba.dylib").slices
    assert only.arch == "arm64"
    assert only.file_type == "dylib"
    assert only.install_name == "@rpath/liba.dylib"
    assert only.libraries == ("@rpath/libb.dylib", "/usr/lib/libSystem.B.dylib")
    assert only.rpaths == ("@loader_path/../lib",)
    assert only.minimum_macos == "11.0"


def test_a_fat_mach_o_file_has_a_slice_for_each_architecture() -> None:
    file = MachOFile.from_buffer(memoryview(fat(macho(), macho(cpu=0x01000007, old=True))), "liba.dylib")
    assert file.architectures == ("arm64", "x86_64")
    assert [each.minimum_macos for each in file.slices] == ["11.0", "10.13.6"]


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"MZ",
        b"\x7fELF" + bytes(60),
        b"\xca\xfe\xba\xbe\x00\x00\x00\x41" + bytes(40),  # a Java class
        macho()[:40],
        fat(macho())[:4100],
        macho()[:16] + b"\xff" * 4 + macho()[20:],
    ],
)
def test_a_file_that_is_not_mach_o_is_refused(blob: bytes) -> None:
    with pytest.raises(MalformedFileError, match="sample"):
        MachOFile.from_buffer(blob, "sample")


def test_a_library_of_the_macos_linker_is_read(tmp_path: Path) -> None:
    clang, linker = shutil.which("clang"), shutil.which("ld64.lld") or shutil.which("ld64.lld-14")
    if clang is None or linker is None:
        pytest.skip("clang and ld64.lld are not here")
    (tmp_path / "a.c").write_text(SOURCE)
    target = "--target=arm64-apple-macos11"
    subprocess.run([clang, target, "-c", "a.c", "-o", "a.o"], cwd=tmp_path, check=True, capture_output=True)
    words = "-arch arm64 -platform_version macos 11.0 12.0 -dylib -install_name @rpath/liba.dylib -rpath @loader_path"
    subprocess.run(
        [linker, *words.split(), "-o", "liba.dylib", "a.o"], cwd=tmp_path, check=True, capture_output=True
    )
    (only,) = MachOFile.open(tmp_path / "liba.dylib").slices
    assert (only.arch, only.file_type, only.install_name) == ("arm64", "dylib", "@rpath/liba.dylib")
    assert (only.rpaths, only.minimum_macos) == (("@loader_path",), "11.0")


def pe(
    names: tuple[bytes, ...] = (b"a", b"made", b"z"), libraries: tuple[bytes, ...] = (b"c10.dll", b"b.dll")
) -> bytes:
    """A DLL of one section at address 0x1000 and file offset 0x400 with exports, imports and a delayed import."""
    base, section = 0x1000, bytearray(40 + 20 * (len(libraries) + 1) + 64)

    def put(blob: bytes) -> int:
        section.extend(blob)
        return base + len(section) - len(blob)

    addresses = [put(name + b"\0") for name in names]
    table = put(b"".join(struct.pack("<I", address) for address in addresses))
    section[:40] = struct.pack("<10I", 0, 0, 0, 0, 1, len(names), len(names), table, table, table)
    for number, library in enumerate(libraries):
        section[40 + 20 * number : 60 + 20 * number] = struct.pack("<5I", 0, 0, 0, put(library + b"\0"), 0)
    delayed = 40 + 20 * (len(libraries) + 1)
    section[delayed : delayed + 32] = struct.pack("<8I", 1, put(b"late.dll\0"), 0, 0, 0, 0, 0, 0)
    directories = [(0, 0)] * 16
    directories[0], directories[1], directories[13] = (base, 40), (base + 40, 40), (base + delayed, 64)
    optional = struct.pack("<H", 0x20B) + bytes(106) + struct.pack("<I", 16)
    optional += b"".join(struct.pack("<II", *directory) for directory in directories)
    coff = struct.pack("<HHIIIHH", 0x8664, 1, 0, 0, 0, len(optional), 0x2022)
    header = b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0" + coff + optional
    header += struct.pack("<8sIIII16s", b".rdata", len(section), base, len(section), 0x400, bytes(16))
    return header.ljust(0x400, b"\0") + bytes(section)


def test_a_dll_is_read() -> None:
    file = PeFile.from_buffer(memoryview(pe()), "a.dll")
    assert (file.machine, file.is_dll) == ("x86_64", True)
    assert file.imports == ("c10.dll", "b.dll")
    assert file.delayed_imports == ("late.dll",)
    assert file.exports() == ["a", "made", "z"]
    assert [file.defines(name) for name in ("a", "made", "z", "", "m", "zz")] == [True] * 3 + [False] * 3


@pytest.mark.parametrize(
    "blob", [b"", b"MZ", b"MZ" + bytes(100), b"\x7fELF" + bytes(60), pe()[:80], pe()[:200]]
)
def test_a_file_that_is_not_pe_is_refused(blob: bytes) -> None:
    with pytest.raises(MalformedFileError, match="sample"):
        PeFile.from_buffer(blob, "sample")


def test_a_library_of_the_windows_linker_is_read(tmp_path: Path) -> None:
    clang, linker = shutil.which("clang"), shutil.which("lld-link") or shutil.which("lld-link-14")
    if clang is None or linker is None:
        pytest.skip("clang and lld-link are not here")
    (tmp_path / "a.c").write_text(SOURCE)
    (tmp_path / "b.c").write_text("int made(void); int user(void) { return made(); }\n")
    target = "--target=x86_64-pc-windows-msvc"
    for name in ("a", "b"):
        words = [clang, target, "-c", f"{name}.c", "-o", f"{name}.obj"]
        subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)
    common = [linker, "/dll", "/noentry", "/nodefaultlib"]
    first = [*common, "/out:a.dll", "/export:made", "/export:other,data", "a.obj"]
    subprocess.run(first, cwd=tmp_path, check=True, capture_output=True)
    second = [*common, "/out:b.dll", "/export:user", "b.obj", "a.lib"]
    subprocess.run(second, cwd=tmp_path, check=True, capture_output=True)
    with PeFile.open(tmp_path / "a.dll") as made, PeFile.open(tmp_path / "b.dll") as user:
        assert made.exports() == ["made", "other"]
        assert made.imports == ()
        assert user.imports == ("a.dll",)
        assert user.defines("user")
        assert not user.defines("made")


@given(data=st.data())
@FUZZ
def test_damaged_files_give_one_clear_error(data: st.DataObject) -> None:
    blob = bytearray(data.draw(st.sampled_from([macho(), fat(macho(), macho(old=True)), pe()])))
    for position in data.draw(st.lists(st.integers(0, len(blob) * 8 - 1), max_size=10)):
        blob[position // 8] ^= 1 << position % 8
    cut = bytes(blob[: data.draw(st.integers(0, len(blob)))] if data.draw(st.booleans()) else blob)
    for reader in (MachOFile, PeFile):
        try:
            file = reader.from_buffer(cut, "sample")
            if isinstance(file, PeFile):
                for question in (lambda: file.imports, lambda: file.delayed_imports, file.exports):  # noqa: B023
                    try:
                        question()
                    except MalformedFileError as error:
                        assert "sample" in error.message  # noqa: PT017 - other errors may not happen at all
                file.defines("made")
        except MalformedFileError as error:
            assert "sample" in error.message  # noqa: PT017 - as above
