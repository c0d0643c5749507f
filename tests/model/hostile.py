"""Small files that are made to hang or crash whoever reads them; each is written in a moment."""

from __future__ import annotations

import struct
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PROTO = b"\x80\x04"
OS = b"\x8c\x02os\x8c\x06system\x93"


def text(letters: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(letters)) + letters


def shared(depth: int = 60, opcode: bytes = b"\x86") -> bytes:
    """A tuple of twice a tuple of twice …: 2 ** depth leaves in a few bytes."""
    return b")" + b"".join(b"\x94h" + bytes([level]) + opcode for level in range(depth))


def nested(depth: int = 200_000) -> bytes:
    return b")" + b"\x85" * depth


def pickles() -> Iterator[tuple[str, bytes]]:
    """Pickles by what is hostile in them."""
    graph = shared()
    for name, part in (("shared", graph), ("nested", nested())):
        yield f"{name} tuple as callable", part + b")R."
        yield f"{name} tuple as the class of NEWOBJ", part + b")\x81."
        yield f"{name} tuple as key", b"}" + part + b"K\x01s."
        yield (
            f"{name} tuple as key of an OrderedDict",
            (b"ccollections\nOrderedDict\n)R(" + part + b"K\x01u."),
        )
        yield f"{name} tuple as member of a set", b"\x8f(" + part + b"\x90."
        yield f"{name} tuple as member of a frozenset", b"(" + part + b"\x91."
        yield f"{name} tuple as state", b"cos\nsystem\n)R" + part + b"b."
        yield f"{name} tuple as the value", part + b"."
        yield f"{name} tuple as persistent id", b"}" + part + b"QK\x01s."
        yield f"{name} tuple as module", part + part + b"\x93)R."
        yield f"{name} tuple as arguments of a tensor", b"ctorch._utils\n_rebuild_tensor_v2\n" + part + b"R."
    yield "one and a half million tuples as a key", b"}" + nested(1_500_000) + b"K\x01s."
    yield "calls of calls", b"cos\nsystem\n" + b")R" * 300_000 + b"."
    yield "persistent ids of persistent ids", b"N" + b"Q" * 300_000 + b"."
    yield "lists in lists", b"]" * 200_000 + b"a" * 199_999 + b"."
    yield "dicts in dicts", b"}" + b"K\x01}" * 200_000 + b"s" * 200_000 + b"."
    yield "shared lists", b"]" + b"".join(b"\x94](h%ch%ce" % (n, n) for n in range(60)) + b"."
    yield "a memo bomb", b"N" + b"\x94" * 3_000_000 + b"."
    yield "empty dicts", b"}" * 3_000_000 + b"."
    yield "records", b"cos\nsystem\n\x94" + b"h\x00)R" * 3_000_000 + b"."
    yield "wide letters", b"(" + (text("\U0001f600".encode() + b"a" * 2_000_000) * 7) + b"l."
    yield "one wide string", text("\U0001f600".encode() + b"a" * 15_000_000) + b"."
    yield "a number of 10 MB", b"\x8b" + struct.pack("<i", 10_000_000) + b"\x7f" * 10_000_000 + b"."
    yield "a number of digits", b"I" + b"9" * 5_000_000 + b"\n."
    yield "a long number of digits", b"L" + b"9" * 5_000_000 + b"L\n."
    for opcode in (b"\x8d", b"\x8e", b"\x96"):
        for length in (1 << 40, (1 << 63) - 1, (1 << 64) - 1):
            yield f"a lie of {length} bytes", opcode + struct.pack("<Q", length) + b"abc."
    yield "a lie about four bytes", b"\x8b\xff\xff\xff\x7fabc."
    yield "a negative length", b"\x8b\xff\xff\xff\xffabc."
    collide = b"".join(
        b"\x8a\x0a" + (n * ((1 << 61) - 1)).to_bytes(10, "little", signed=True) + b"N"
        for n in range(1, 60_000)
    )
    yield "keys of one hash", b"}(" + collide + b"u."
    yield (
        "a shared dict under many keys",
        (
            b"}\x94(" + b"".join(b"J" + struct.pack("<i", n) + b"N" for n in range(60_000)) + b"u"
            b"}(" + b"".join(b"J" + struct.pack("<i", n) + b"h\x00" for n in range(60_000)) + b"u."
        ),
    )
    yield (
        "long keys",
        (text(b"k" * 200_000) + b"\x94" + b"}h\x00" * 30 + b"](" + b"N" * 40_000 + b"e" + b"s" * 30 + b"."),
    )
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000"
    tensor += b"X\x03\x00\x00\x00cpuK\x04tQK\x00%s%s\x89}tR"
    huge = b"\x8a\x40" + b"\x7f" * 64
    for name, size in (
        ("a shape of large numbers", b"(" + huge * 60 + b"t"),
        ("a shape of many dimensions", b"(" + b"K\x02" * 100_000 + b"t"),
        ("a shape that is nested", b"(" + nested(100_000) + b"t"),
    ):
        yield name, tensor.replace(b"%s", size) + b"."
    one = tensor.replace(b"%s", b"K\x01\x85")
    yield "one tensor a hundred thousand times", b"](" + one + b"\x94" + b"h\x00" * 100_000 + b"e."


def pickle_files(directory: Path) -> Iterator[tuple[str, Path]]:
    """Archives as torch.save and torch.jit.save write them, with each pickle."""
    for number, (name, data) in enumerate(pickles()):
        path = directory / f"{number}.pt"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr("m/data.pkl", PROTO + data)
            stored = zipfile.ZipInfo("m/data/0")
            archive.writestr(stored, b"\0" * 16)
        yield name, path


def npy(header: bytes, version: int = 1) -> bytes:
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header


def npy_files(directory: Path) -> Iterator[tuple[str, Path]]:
    """NumPy files whose headers lie."""
    whole = b"{'descr': '<f4', 'fortran_order': False, 'shape': %s, }\n"
    digits = b"9" * 4_000
    shapes = {
        "huge sizes": b"(" + b", ".join([digits] * 2) + b",)",
        "a huge size": b"(" + b"9" * 9_000 + b",)",
        "many dimensions": b"(" + b"2," * 4_000 + b")",
        "nested parentheses": b"(" * 4_000 + b")" * 4_000,
        "nested brackets": b"[" * 4_000 + b"]" * 4_000,
        "nested minus": b"(" + b"-" * 9_000 + b"1,)",
        "nested powers": b"(" + b"9**" * 2_000 + b"9,)",
        "large sizes": b"(" + b"9223372036854775807," * 60 + b")",
    }
    for number, (name, shape) in enumerate(shapes.items()):
        for version in (1, 2, 3):
            path = directory / f"{number}-{version}.npy"
            path.write_bytes(npy(whole % shape, version) + b"\0" * 64)
            yield f"{name}, version {version}", path
    path = directory / "quotes.npy"
    path.write_bytes(npy(b"{" + b"'descr':[" * 1_000 + b"}\n"))
    yield "repeated fields", path
    path = directory / "lie.npy"
    path.write_bytes(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{")
    yield "a header of 4 GB", path


def lying_deflate(path: Path, name: str, size: int, *, says: int) -> None:
    """A zip archive whose entry unpacks to `size` zero bytes and says that it has fewer."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("m/data.pkl", PROTO + b"N.")
        archive.writestr("m/constants.pkl", PROTO + b").")
        with archive.open(name, "w") as file:
            for _ in range(size >> 20):
                file.write(b"\0" * (1 << 20))
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack("<I", size), struct.pack("<I", says)))


def zip_files(directory: Path) -> Iterator[tuple[str, Path]]:
    """Archives that unpack to much more than they are."""
    bomb = directory / "bomb.pt"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("m/data.pkl", PROTO + b"N.")
        archive.writestr("m/constants.pkl", PROTO + b").")
        for number in range(8):
            archive.writestr(f"m/code/{number}.py", b"\0" * (60 << 20))
    yield "a bomb in code/", bomb
    lie = directory / "lie.pt"
    lying_deflate(lie, "m/code/a.py", 512 << 20, says=100)
    yield "a are in code/", lie
    lie = directory / "pickle.pt"
    lying_deflate(lie, "m/data.pkl2", 512 << 20, says=100)
    lie.write_bytes(lie.read_bytes().replace(b"m/data.pkl\0", b"m/data.pk2\0"))
    yield "a lie elsewhere", lie
    many = directory / "many.pt"
    with zipfile.ZipFile(many, "w") as archive:
        archive.writestr("m/data.pkl", PROTO + b"N.")
        for number in range(12_000):
            archive.writestr(f"m/code/{number}.py", b"x")
    yield "many entries in code/", many
    huge = directory / "huge.pt"
    with zipfile.ZipFile(huge, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("m/data.pkl", b"\x80\x02" + b"N" * (63 << 20) + b".")
    yield "a pickle of 63 MB", huge
    arrays = directory / "arrays.npz"
    with zipfile.ZipFile(arrays, "w") as archive:
        for number in range(12_000):
            archive.writestr(
                f"{number}.npy", npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (), }\n")
            )
    yield "many arrays", arrays


FAMILIES: dict[str, Callable[[Path], Iterator[tuple[str, Path]]]] = {
    "pickle": pickle_files,
    "npy": npy_files,
    "zip": zip_files,
}
