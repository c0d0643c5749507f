"""The ELF reader agrees with pyelftools on real files of every class and byte order."""

from __future__ import annotations

import mmap
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from elftools.elf.elffile import ELFFile

from tests.binary.live import Workshop, elf_files, usable
from tests.conftest import program, unmet
from torchlink.binary.elf import ElfFile
from torchlink.binary.elf_hash import gnu_hash, sysv_hash
from torchlink.binary.elf_layout import layout_of
from torchlink.binary.elf_symbols import MANY

if TYPE_CHECKING:
    from pathlib import Path

SAMPLE = 60  # files compared by default; TORCHLINK_TEST_ALL_ELF=1 takes every one (minutes)
LARGEST = 4 << 20  # bytes; pyelftools takes its time
BINDINGS = {
    "STB_LOCAL": "local",
    "STB_GLOBAL": "global",
    "STB_WEAK": "weak",
    "STB_LOOS": "unique",
    "STB_GNU_UNIQUE": "unique",
}


@pytest.fixture(scope="module")
def system_files() -> list[Path]:
    """Every k-th ELF file of the system."""
    files = list(elf_files("/usr/bin", "/usr/sbin", "/usr/lib", "/usr/lib32", "/usr/libx32"))
    if os.environ.get("TORCHLINK_TEST_ALL_ELF") == "1":
        return files
    small = [file for file in files if file.stat().st_size <= LARGEST]
    return small[:: max(1, len(small) // SAMPLE)] or unmet("ELF files in /usr")


def peer_facts(elf: ELFFile) -> dict[str, Any]:
    """What pyelftools says of a file, in this reader's terms."""
    facts: dict[str, Any] = {"bits": elf.elfclass, "type": elf["e_type"], "interpreter": None}
    for segment in elf.iter_segments():
        if segment["p_type"] == "PT_INTERP":
            facts["interpreter"] = segment.get_interp_name()
        if segment["p_type"] == "PT_GNU_STACK":
            facts["exec_stack"] = bool(segment["p_flags"] & 1)
        if segment["p_type"] == "PT_DYNAMIC":
            tags = list(segment.iter_tags())
            facts["needed"] = tuple(tag.needed for tag in tags if tag.entry.d_tag == "DT_NEEDED")
            for name in ("soname", "rpath", "runpath"):
                values = [getattr(tag, name) for tag in tags if tag.entry.d_tag == f"DT_{name.upper()}"]
                facts[name] = values[-1] if values else None
            facts["flags_1"] = ([tag.entry.d_val for tag in tags if tag.entry.d_tag == "DT_FLAGS_1"] or [0])[
                -1
            ]
    if "needed" not in facts:
        return facts
    table = elf.get_section_by_name(".dynsym")
    if table is not None:
        facts["symbols"] = [
            (
                symbol.name,
                symbol["st_value"],
                symbol["st_size"],
                symbol["st_shndx"] != "SHN_UNDEF",
                BINDINGS[symbol["st_info"]["bind"]],
            )
            for symbol in table.iter_symbols()
        ][1:]
        facts["exported"] = {
            (symbol.name, symbol["st_info"]["bind"] == "STB_GLOBAL")
            for symbol in table.iter_symbols()
            if symbol["st_shndx"] != "SHN_UNDEF" and symbol["st_info"]["bind"] != "STB_LOCAL" and symbol.name
        }
    needs = elf.get_section_by_name(".gnu.version_r")
    if needs is not None:
        facts["needs"] = [
            (need.name, version.name) for need, versions in needs.iter_versions() for version in versions
        ]
    definitions = elf.get_section_by_name(".gnu.version_d")
    if definitions is not None:
        facts["definitions"] = [next(iter(names)).name for _, names in definitions.iter_versions()]
    facts["relocated"] = {
        relocation["r_info_sym"]
        for section in elf.iter_sections()
        if section["sh_type"] in {"SHT_RELA", "SHT_REL"} and section["sh_flags"] & 2
        for relocation in section.iter_relocations()
    } - {0}
    return facts


def own_facts(elf: ElfFile, asked: dict[str, Any]) -> dict[str, Any]:
    """The same facts from the reader under test."""
    dynamic = elf.dynamic
    facts = {
        "bits": elf.bits,
        "type": {"dyn": "ET_DYN", "exec": "ET_EXEC"}[elf.type],
        "interpreter": elf.interpreter,
        "exec_stack": elf.exec_stack,
        "needed": dynamic.needed,
        "soname": dynamic.soname,
        "rpath": dynamic.rpath,
        "runpath": dynamic.runpath,
        "flags_1": dynamic.flags_1,
        "symbols": [
            (symbol.name, symbol.value, symbol.size, symbol.defined, symbol.binding)
            for symbol in elf.dynamic_symbols()
        ],
        "exported": {(each.name.decode(), each.strong) for each in elf.definitions()},
        "needs": [(need.library, need.version) for need in elf.version_needs()],
        "definitions": [definition.version for definition in elf.version_definitions()],
        "relocated": {symbol.number for symbol in elf.relocated_symbols()},
    }
    return {name: facts[name] for name in asked}


def test_the_reader_agrees_with_pyelftools(system_files: list[Path]) -> None:
    different: list[object] = []
    for file in system_files:
        with file.open("rb") as stream, ElfFile.open(file) as elf:
            peers = peer_facts(ELFFile(stream))
            own = own_facts(elf, peers)
            different.extend(
                (str(file), name, own[name], peers[name]) for name in peers if own[name] != peers[name]
            )
    assert different == []


def test_every_exported_symbol_is_found_by_its_name_and_others_are_not(system_files: list[Path]) -> None:
    for file in system_files[::4]:
        with ElfFile.open(file) as elf:
            symbols = list(elf.dynamic_symbols())
            exported = {
                symbol.name
                for symbol in symbols
                if symbol.defined
                and symbol.binding != "local"
                and symbol.visibility in {"default", "protected"}
            }
            for name in sorted(exported)[:200]:
                assert elf.defines(name), (file, name)
            for symbol in symbols[:200]:
                if (
                    symbol.name not in exported
                    and symbol.binding != "local"
                    and symbol.visibility == "default"
                ):
                    assert not elf.defines(symbol.name), (file, symbol)
            assert not elf.defines("no_such_symbol_anywhere")


def test_the_default_version_is_the_one_found() -> None:
    libc = next((file for file in elf_files("/usr/lib/x86_64-linux-gnu") if file.name == "libc.so.6"), None)
    if libc is None:
        unmet("glibc")
    with ElfFile.open(libc) as elf:
        symbol = elf.find_symbol("memcpy")
        assert symbol is not None
        assert (symbol.version, symbol.hidden_version, symbol.binding) == ("GLIBC_2.14", False, "global")
        hashed = gnu_hash(b"memcpy")
        assert elf.provides(b"memcpy", hashed, "GLIBC_2.2.5")
        assert not elf.provides(b"memcpy", hashed, "GLIBC_9.9")


@pytest.mark.parametrize("style", ["gnu", "sysv", "both"])
@pytest.mark.parametrize("strip", [False, True])
def test_symbols_are_found_through_either_hash_table_and_without_section_headers(
    tmp_path: Path, style: str, *, strip: bool
) -> None:
    if not usable("gcc"):
        unmet("gcc")
    source = "extern int taken(void); int made(void) { return taken(); } int other = 1;\n"
    file = Workshop(tmp_path).library("liba.so", source=source, flags=[f"-Wl,--hash-style={style}"])
    blob = bytearray(file.read_bytes())
    if strip:
        blob[40:48] = bytes(8)  # where the section headers are
        blob[58:64] = bytes(6)  # their size, number and names
    elf = ElfFile.from_buffer(bytes(blob), "liba.so")
    assert elf.defines("made")
    assert elf.defines("other")
    assert not elf.defines("taken")
    assert {symbol.name for symbol in elf.dynamic_symbols()} >= {"made", "other", "taken"}
    assert [reference.name for reference in elf.references()] == [b"taken"]
    assert [reference.name for reference in elf.references(relocated=False)] == [b"taken"]


@pytest.mark.parametrize("machine", ["", "-m32"])
def test_only_symbols_that_the_loader_looks_up_can_be_preempted(tmp_path: Path, machine: str) -> None:
    if not usable("gcc"):
        unmet("gcc")
    visibilities = "default", "protected", "hidden"
    source = "".join(
        f'__attribute__((visibility("{each}"))) int {each}_one(void) {{ return 0; }}\n'
        for each in visibilities
    )
    source += (
        "__attribute__((weak)) int weak_one(void) { return 0; } int idle(void) { return 0; } int data = 1;\n"
    )
    source += f"int user(void) {{ return weak_one() + data{''.join(f' + {each}_one()' for each in visibilities)}; }}\n"
    workshop = Workshop(tmp_path, machine_flags=(machine,) if machine else ())
    with ElfFile.open(workshop.library("liba.so", source=source)) as elf:
        found = {each.name: each.strong for each in elf.preemptible()}
        assert found == {b"default_one": True, b"weak_one": False, b"data": True}
    with ElfFile.open(workshop.library("libb.so", source=source, flags=["-Wl,-Bsymbolic"])) as elf:
        assert elf.preemptible() == []


def test_a_library_without_exports_still_has_references(tmp_path: Path) -> None:
    if not usable("gcc"):
        unmet("gcc")
    source = "extern int taken(void); static int hidden(void) { return taken(); } static int (*keep)(void) "
    source += "__attribute__((used)) = hidden;\n"
    file = Workshop(tmp_path).library("liba.so", source=source)
    for stripped in (False, True):
        blob = bytearray(file.read_bytes())
        if stripped:
            blob[40:48], blob[58:64] = bytes(8), bytes(6)
        elf = ElfFile.from_buffer(bytes(blob), "liba.so")
        assert [reference.name for reference in elf.references(relocated=False)] == [b"taken"]


def test_a_static_program_has_no_references(tmp_path: Path) -> None:
    static = tmp_path / "static"
    command = [program("gcc"), "-static", "-x", "c", "-", "-o", str(static)]
    subprocess.run(command, input="int main(void) { return 0; }", text=True, check=True)
    with ElfFile.open(static) as elf:
        assert not elf.dynamic.present
        assert list(elf.references()) == list(elf.references(relocated=False)) == []


def test_packed_relative_relocations_are_skipped(tmp_path: Path) -> None:
    if not usable("gcc"):
        unmet("gcc")
    source = "extern int taken(void); static int table[4]; int *where[] = {table, table + 1, table + 2}; "
    source += "int made(void) { return taken(); }\n"
    try:
        file = Workshop(tmp_path).library("liba.so", source=source, flags=["-Wl,-z,pack-relative-relocs"])
    except subprocess.CalledProcessError:
        unmet("a linker with -z pack-relative-relocs")
    with ElfFile.open(file) as elf:
        assert {symbol.name for symbol in elf.relocated_symbols()} == {"taken"}


def test_buffers_of_every_kind_are_read(tmp_path: Path) -> None:
    if not usable("gcc"):
        unmet("gcc")
    file = Workshop(tmp_path).library("liba.so")
    blob = file.read_bytes()
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        for buffer in (blob, memoryview(blob), mapped):
            assert ElfFile.from_buffer(buffer, "liba.so").dynamic.soname == "liba.so"


def test_other_machines_and_byte_orders_are_named() -> None:
    def header(bits: int, order: str, machine: int) -> bytes:
        layout = layout_of(bits, order)
        fields = (3, machine, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        ident = b"\x7fELF" + bytes((bits // 32, 1 if order == "little" else 2, 1)) + bytes(9)
        return ident + layout.header.pack(*fields)

    names = {
        (64, "little", 183): "aarch64",
        (64, "little", 62): "x86_64",
        (32, "little", 62): "x32",
        (32, "little", 3): "x86",
        (32, "little", 40): "arm",
        (64, "little", 21): "ppc64le",
        (64, "big", 21): "ppc64",
        (64, "big", 22): "s390x",
        (64, "little", 243): "riscv64",
        (64, "little", 999): "machine-999",
    }
    for (bits, order, number), name in names.items():
        elf = ElfFile.from_buffer(header(bits, order, number), "sample")
        assert (elf.machine, elf.bits, elf.byteorder, elf.type) == (name, bits, order, "dyn")


def test_the_hashes_are_those_of_the_specification() -> None:
    assert gnu_hash(b"") == 5381
    assert gnu_hash(b"printf") == 0x156B2BB8
    assert sysv_hash(b"printf") == 0x077905A6
    long = b"_ZN" + b"verylongname" * 200

    def step(name: bytes) -> int:
        value = 5381
        for byte in name:
            value = (value * 33 + byte) % 2**32
        return value

    assert [gnu_hash(name) for name in (long, long[:1024], long[:7])] == [
        step(long),
        step(long[:1024]),
        step(long[:7]),
    ]


def test_single_and_bulk_look_ups_agree(
    system_files: list[Path],
) -> None:
    """Only how the tables are read differs."""
    looked_up = 0
    for file in system_files:
        with ElfFile.open(file) as elf:
            defined = [(each.name, each.version) for each in elf.definitions()]
            pairs = [
                *defined,
                *((name, None) for name, _ in defined),
                *((b"no" + name, None) for name, _ in defined),
            ]
            wanted = [(gnu_hash(name), name, version, number) for number, (name, version) in enumerate(pairs)]
            alone = [each for each in wanted if not elf.provides(each[1], each[0], each[2])]
            assert elf.unresolved(wanted) == alone, file
            looked_up += len(wanted) > len(alone) > MANY
    assert looked_up > 3
