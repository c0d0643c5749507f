"""Kinds of file that are identified by their first bytes.

Kinds of zip archive, by the names of their entries.

The kinds of file that are distinguished, and how to get a TorchScript model from each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torchlink.errors import ResourcesError, TorchlinkError
from torchlink.model.archive import Archive, open_archive

if TYPE_CHECKING:
    from pathlib import Path


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
    """The kind of a file that is not a zip archive.

    Args:
        head: its first bytes (up to 4096), not empty.
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
    """The kind of a text file; None if it is not text."""
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


# A larger pickle is not read just to describe its contents more precisely.
LARGEST_LOOK = 4 << 20
REBUILD = "torch._utils._rebuild_"  # how a pickle makes a tensor
SHOWN = 3
LONGEST_KEY = 100  # letters


def zip_kind(path: Path) -> tuple[ModelKind, str]:
    """The kind of a file that begins as a zip archive does.

    Raises:
        FileError: it cannot be read.
    """
    archive = open_archive(path)
    if archive is None:
        return (
            "truncated-zip",
            "a truncated zip archive (its table of contents, which stands at the end, is missing)",
        )
    names = archive.entries
    if "MAR-INF/MANIFEST.json" in names:
        return "torchserve", "a TorchServe model archive"
    if any(name.startswith("data/aotinductor/") for name in names):
        return "aoti-package", "an AOTInductor package"
    if any(name in names for name in (".data/extern_modules", ".data/python_version")):
        return "torch-package", "a torch.package archive"
    if "serialized_exported_program.json" in names or (
        "archive_format" in names and any(name.startswith("models/") for name in names)
    ):
        return "exported-program", "a program saved by torch.export"
    if "data.pkl" in names:
        return _pickled(archive)
    if "model.json" in names and "version" in names:
        return "torchscript", f"a TorchScript model ({_format(archive)})"
    return _other(list(names))


def _pickled(archive: Archive) -> tuple[ModelKind, str]:
    """The kind of an archive with a `data.pkl`: TorchScript, C++ torch::save or torch.save."""
    names = archive.entries
    if "constants.pkl" not in names:
        return _torch_save(archive)
    if not any(name.startswith("code/") for name in names):
        return "tensors", "an archive of tensors without code, as torch::save writes it in C++"
    mobile = ", with bytecode for the lite interpreter" if "bytecode.pkl" in names else ""
    return "torchscript", f"a TorchScript model ({_format(archive)}{mobile})"


def _format(archive: Archive) -> str:
    """The file format version, as a phrase."""
    for name in ("version", ".data/version"):
        if name in archive.entries and archive.entries[name].size < 32:
            return f"file format {archive.read(name).decode('ascii', 'replace').strip()}"
    return "file format unknown"


def _torch_save(archive: Archive) -> tuple[ModelKind, str]:
    """The contents of a current `torch.save` file: a module, a state_dict, or something else."""
    from torchlink.model.pickle_reader import read_pickle

    general: tuple[ModelKind, str] = ("pickle", "a plain pickle written by torch.save")
    if archive.entries["data.pkl"].size > LARGEST_LOOK:
        return general
    try:
        value = read_pickle(archive.read("data.pkl", LARGEST_LOOK))
    except ResourcesError:
        raise
    except TorchlinkError:
        return general
    name = _called(value)[:LONGEST_KEY]
    if isinstance(value, dict) and (key := _key_of_weights(value)) is not None:
        return (
            "checkpoint",
            f"a checkpoint saved by torch.save (a dict with the weights under the key {str(key)[:LONGEST_KEY]!r})",
        )
    if isinstance(value, dict) or name == "collections.OrderedDict":
        return "state-dict", "a dict saved by torch.save (a state_dict or checkpoint: weights, no program)"
    if name.startswith(REBUILD):
        return "tensors", "a tensor saved by torch.save"
    if isinstance(value, (list, tuple)) and any(_called(part).startswith(REBUILD) for part in value):
        return "tensors", f"a {type(value).__name__} of tensors saved by torch.save"
    return ("module-pickle", f"a Python object of class {name} pickled by torch.save") if name else general


def _key_of_weights(checkpoint: dict[object, object]) -> object:
    """The key of the first dict of tensors in a dict that has no tensors itself; None if there is none."""
    from torchlink.model.pickle_reader import Call

    known: set[int] = set()  # of values without tensors: a thousand keys may share one

    def tensors(value: object) -> bool:
        if id(value) in known:
            return False
        known.add(id(value))
        pairs = value.items if isinstance(value, Call) else value.items() if isinstance(value, dict) else ()
        return any(_called(part).startswith(REBUILD) for _, part in pairs)

    return (
        None
        if tensors(checkpoint)
        else next((key for key, part in checkpoint.items() if tensors(part)), None)
    )


def _called(value: object) -> str:
    """The name of the callable that makes a pickled value; empty for a plain value."""
    from torchlink.model.pickle_reader import Call

    return value.name if isinstance(value, Call) else ""


def _other(names: list[str]) -> tuple[ModelKind, str]:
    """The kind of an archive that PyTorch did not write."""
    if names and all(name.endswith(".npy") for name in names):
        return "numpy", "an archive of NumPy arrays"
    if "model.weights.h5" in names:
        return "other-framework", "a Keras model"
    shown = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
    return "zip", f"a zip archive of other files ({shown})" if names else "an empty zip archive"


ModelKind = Literal[
    "torchscript",
    "aoti-package",
    "aoti-library",
    "exported-program",
    "torch-package",
    "executorch",
    "module-pickle",
    "tensors",
    "state-dict",
    "checkpoint",
    "pickle",
    "tar",
    "torchserve",
    "zip",
    "truncated-zip",
    "safetensors",
    "onnx",
    "numpy",
    "shared-library",
    "compressed",
    "other-framework",
    "lfs-pointer",
    "web-page",
    "text",
    "zeros",
    "empty",
    "directory",
    "special",
    "unknown",
]

SCRIPT_IT = 'torch.jit.script(model.eval()).save("model.pt")'
COMPILE_IT = (
    "torch._inductor.aoti_compile_and_package(torch.export.export(model.eval(), example_inputs), "
    'package_path="model.pt2")'
)


def in_python(before: str = "") -> str:
    """The two lines of Python that make a model that can be loaded, each complete.

    Args:
        before: statements that give `model`.
    """
    return f"In Python, for AOTInductor: `{before}{COMPILE_IT}`, or for TorchScript: `{before}{SCRIPT_IT}`."


LOAD_IT = in_python("model = torch.load({file}, weights_only=False); ")
FETCH_AGAIN = "Copy or download it again, and compare the sizes."
NAME_A_MODEL = f"Name a model file. {in_python()}"

# {file} is the file's path as a Python literal, {path} as it was given.
REMEDIES: dict[str, str] = {
    "torchscript": "",
    "aoti-package": "",
    "aoti-library": "",
    "exported-program": "In Python, for AOTInductor: `torch._inductor.aoti_compile_and_package(torch.export.load("
    '{file}), package_path="model.pt2")`, or for TorchScript: `torch.jit.trace(torch.export.load({file}).module(), '
    'example_inputs).save("model.pt")`.',
    "torch-package": "It was saved under the names PACKAGE and NAME. "
    + in_python("model = torch.package.PackageImporter({file}).load_pickle(PACKAGE, NAME); "),
    "executorch": f"It is meant for ExecuTorch's runtime. Save the original model again. {in_python()}",
    "module-pickle": LOAD_IT,
    "tensors": f"It holds tensors: give it to --expect, or to --input as @{{path}}. {NAME_A_MODEL}",
    "state-dict": "It holds the weights without the program: build the model first. "
    + in_python("model.load_state_dict(torch.load({file})); "),
    "checkpoint": "It holds weights among other things, and no program: build the model first. "
    + in_python("model.load_state_dict(torch.load({file})[KEY]); "),
    "pickle": LOAD_IT,
    "tar": LOAD_IT,
    "torchserve": "Unpack it with `unzip {path}` and name the .pt file inside.",
    "zip": "Unpack it with `unzip {path}` and name the model inside.",
    "truncated-zip": FETCH_AGAIN,
    "safetensors": "It holds weights without a program: build the model first. "
    + in_python("model.load_state_dict(safetensors.torch.load_file({file})); "),
    "onnx": f"Run it with ONNX Runtime, or save the original PyTorch model. {in_python()}",
    "numpy": f"It holds arrays: give it to --expect or to --input as @{{path}}. {NAME_A_MODEL}",
    "shared-library": f"A library that AOTInductor compiled exports AOTInductorModelContainerRun. {NAME_A_MODEL}",
    "compressed": "Decompress it first.",
    "other-framework": f"Only PyTorch models can be loaded. {NAME_A_MODEL}",
    "lfs-pointer": "Fetch the file itself with `git lfs pull`.",
    "web-page": "The download gave a web page instead of the file: use the direct link to the file.",
    "text": NAME_A_MODEL,
    "zeros": FETCH_AGAIN,
    "empty": f"The save or the download did not finish. {FETCH_AGAIN}",
    "directory": f"Name the model file in it. {NAME_A_MODEL}",
    "special": NAME_A_MODEL,
    "unknown": NAME_A_MODEL,
}


def remedy(kind: ModelKind, path: str) -> str:
    """What to do about a file of this kind, as sentences."""
    return REMEDIES[kind].replace("{file}", repr(path)).replace("{path}", path)
