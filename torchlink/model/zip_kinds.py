"""Kinds of zip archive, by the names of their entries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.errors import ResourcesError, TorchlinkError
from torchlink.model.archive import Archive, open_archive

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.model.remedies import ModelKind

# A pickle larger than this is not read just to say more precisely what it holds.
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
    """What a `torch.save` of today holds: a module, a state_dict, or something else."""
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
    """The key of the first dict of tensors in a dict that has no tensors itself; None where there is none."""
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
    """The name of what a pickled value is made by; empty for a plain value."""
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
