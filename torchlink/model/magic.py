"""Kinds of file that tell by their first bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torchlink.model.remedies import ModelKind

# torch.serialization.MAGIC_NUMBER as pickle protocol 2 writes it: what torch.save wrote before 1.6.
LEGACY_TORCH_SAVE = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
TAR_MAGIC_AT = 257
TORCH_TAR_MEMBERS = (b"sys_info\0", b"pickle\0", b"storages\0", b"tensors\0")

PREFIXES: tuple[tuple[bytes, ModelKind, str], ...] = (
    (LEGACY_TORCH_SAVE, "pickle", "a plain pickle written by torch.save before PyTorch 1.6"),
    (b"\x93NUMPY", "numpy", "a NumPy array"),
    (b"\x7fELF", "shared-library", "an ELF program or shared library"),
    (b"\xcf\xfa\xed\xfe", "shared-library", "a Mach-O program or shared library"),
    (b"MZ", "shared-library", "a Windows program or DLL"),
    (b"\x1f\x8b", "compressed", "a gzip-compressed file"),
    (b"BZh", "compressed", "a bzip2-compressed file"),
    (b"\xfd7zXZ\0", "compressed", "an xz-compressed file"),
    (b"\x28\xb5\x2f\xfd", "compressed", "a zstd-compressed file"),
    (b"7z\xbc\xaf\x27\x1c", "compressed", "a 7z archive"),
    (b"Rar!", "compressed", "a RAR archive"),
    (b"\x89HDF\r\n\x1a\n", "other-framework", "an HDF5 file, as Keras writes it"),
    (b"GGUF", "other-framework", "a GGUF model of llama.cpp"),
    (b"version https://git-lfs.github.com/spec/", "lfs-pointer", "a Git LFS pointer, not the file itself"),
)
# FlatBuffers carry a four-letter identifier behind the root's offset.
FLATBUFFERS: dict[bytes, tuple[ModelKind, str]] = {
    b"PTMF": ("torchscript", "a TorchScript model (flatbuffer form)"),
    b"TFL3": ("other-framework", "a TensorFlow Lite model"),
    b"ET12": ("executorch", "an ExecuTorch program"),
}
# Field numbers and wire types of onnx.ModelProto that may follow ir_version.
ONNX_FIELDS = frozenset((0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42, 0x72))
LONGEST_PRODUCER = 64


def head_kind(head: bytes, size: int) -> tuple[ModelKind, str]:
    """The kind of a file that is no zip archive.

    Args:
        head: its first bytes (4096 where there are as many), not empty.
        size: the whole file's size in bytes.
    """
    for prefix, kind, detail in PREFIXES:
        if head.startswith(prefix):
            return kind, detail
    if head[4:8] in FLATBUFFERS:
        return FLATBUFFERS[head[4:8]]
    if head[TAR_MAGIC_AT : TAR_MAGIC_AT + 5] == b"ustar":
        if head.startswith(TORCH_TAR_MEMBERS):
            return "tar", "a tar archive written by a torch.save of long before PyTorch 1.6"
        return "compressed", "a tar archive"
    if _is_safetensors(head, size):
        return "safetensors", "a safetensors file"
    if _is_pickle(head, size):
        return "pickle", "a plain Python pickle"
    if _is_onnx(head):
        return "onnx", "an ONNX model"
    if not head.strip(b"\0"):
        return "zeros", "a file of zero bytes, as an unfinished download leaves it"
    return _text_kind(head) or ("unknown", "of no format that torchlink knows")


def _is_safetensors(head: bytes, size: int) -> bool:
    """A 64-bit length, then that much JSON."""
    return head[8:10] in (b'{"', b"{}", b"{ ") and int.from_bytes(head[:8], "little") <= size - 8


def _is_pickle(head: bytes, size: int) -> bool:
    """Whether it begins with a pickle's protocol, or is one of protocol 0 or 1: opcodes up to STOP."""
    if head[0] == 0x80 and len(head) > 1:
        return 2 <= head[1] <= 5
    if head[0] not in b"(]}cl" or size > len(head) or not head.rstrip(b"\r\n").endswith(b"."):
        return False
    import pickletools

    try:
        return any(opcode.name == "STOP" for opcode, _, _ in pickletools.genops(head))
    except (ValueError, IndexError, UnicodeError):
        return False


def _is_onnx(head: bytes) -> bool:
    """A protobuf whose first field is an ir_version of 1 to 31 and whose second is another of ModelProto's.

    A TensorFlow SavedModel begins alike, but its field 2 is a long message, not a short name of the producer.
    """
    if len(head) < 4 or head[0] != 0x08 or not 1 <= head[1] <= 31 or head[2] not in ONNX_FIELDS:
        return False
    return head[2] != 0x12 or (head[3] <= LONGEST_PRODUCER and head[4 : 4 + head[3]].isascii())


def _text_kind(head: bytes) -> tuple[ModelKind, str] | None:
    """The kind of a text file; None where it is none."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:64].lower()
    if start.startswith((b"<!doctype html", b"<html", b"<?xml")):
        return "web-page", "a web page"
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # otherwise only the last character is cut
            return None
        text = head[: error.start].decode("utf-8")
    return ("text", "a text file") if text.isprintable() or not set(text) & CONTROL else None


CONTROL = frozenset(map(chr, range(32))) - frozenset("\t\n\r\f\x1b")
