"""Models compiled by AOTInductor: the contents of a package (`.pt2`), and unpacking one of its models.

A package is a zip archive with `data/aotinductor/NAME/` for each of its models: the library `*.wrapper.so` (before 2.7
`*.so`), its metadata `*_metadata.json`, its source; and `data/weights/` for weights that are not in the library
(`torch/export/pt2_archive/_package.py`). A bare library is what `torch._inductor.aot_compile` writes.
"""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, NamedTuple

from torchlink.bounds import load_json, read_whole
from torchlink.errors import (
    FULL,
    RESOURCES,
    FileError,
    MalformedFileError,
    ModelError,
    UsageError,
    out_of_resources,
)
from torchlink.model.archive import DAMAGE, READABLE, Archive, open_archive
from torchlink.shown import shortened
from torchlink.status import not_about_the_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MODELS = "data/aotinductor/"
WEIGHTS, CONSTANTS = "data/weights/", "data/constants/"
DEFAULT = "model"  # the name of a single model
# The exports of every compiled model: torch/csrc/inductor/aoti_runtime/interface.h.
ENTRY_POINT = "AOTInductorModelContainerCreateWithDevice"
LARGEST_METADATA = 1 << 20  # bytes
LARGEST_SOURCE = 64 << 20
MOST_ENTRIES = 20_000  # a weight outside the library is one
GROWTH, ALLOWANCE = 16, 128 << 20  # limits on the unpacked size of a package
PIECE = 1 << 20
SHOWN = 8  # names of models
LIBRARIES = (".so", ".dylib", ".pyd", ".dll")


class CompiledModel(NamedTuple):
    """One compiled model, in a package or by itself."""

    path: Path  # the package, or the library
    name: str  # in the package; "" of a bare library
    library: str  # entry of the package, without its top directory; "" of a bare library
    metadata: Mapping[str, str]  # "AOTI_DEVICE_KEY": "cpu", …; empty if there is none
    source: str = ""  # text of `*.wrapper.cpp`; empty if there is none
    weights: Mapping[str, WeightPlace] = {}  # by their names in the module: those in `data/weights/`

    @property
    def label(self) -> str:
        """Its name in messages."""
        return f"{self.path} (model {self.name})" if self.name not in ("", DEFAULT) else str(self.path)


class WeightPlace(NamedTuple):
    """The location of a weight that is not in the library."""

    file: str  # in `data/weights/`: what torch.save wrote
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int  # in elements


def is_compiled_library(path: Path) -> bool:
    """Whether an ELF file is a model compiled by AOTInductor, judging by its exports."""
    from torchlink.binary.elf import ElfFile

    try:
        with ElfFile.open(path) as elf:
            return elf.find_symbol(ENTRY_POINT) is not None
    except (FileError, OSError):
        return False


def read_library(path: Path) -> CompiledModel:
    """A bare library, with the metadata file next to it if there is one.

    Raises:
        MalformedFileError: the metadata is not a JSON object of strings.
    """
    beside = path.with_name(f"{path.stem}_metadata.json")
    try:
        text = read_whole(beside, LARGEST_METADATA)
    except (OSError, FileError) as error:
        not_about_the_file(beside, error)
        return CompiledModel(path, "", "", {})
    return CompiledModel(path, "", "", _metadata(text, str(beside)))


def read_package(path: Path, wanted: str | None = None) -> CompiledModel:
    """One model of a package.

    Args:
        path: the package.
        wanted: the model's name; None: the only one, or the one called `model`.

    Raises:
        ModelError: there is no compiled library in it.
        UsageError: there is no such model, or it has several and none is named.
        MalformedFileError: it is damaged, or contains something that no package contains.
    """
    archive = open_archive(path)
    if archive is None:
        raise MalformedFileError(f"{path} is a truncated zip archive.", hint="Copy or download it again.")
    check_names(archive)
    names = sorted(
        {name[len(MODELS) :].partition("/")[0] for name in archive.entries if name.startswith(MODELS)}
    )
    name = _chosen(path, names, wanted)
    inside = f"{MODELS}{name}/"
    files = [entry for entry in archive.entries if entry.startswith(inside)]
    library = _library(path, name, files)
    stem = library.rpartition(".")[0]
    metadata: Mapping[str, str] = {}
    told = next(
        (entry for entry in (f"{stem}_metadata.json", f"{inside}metadata.json") if entry in archive.entries),
        None,
    )
    if told is not None:
        metadata = _metadata(archive.read(told, LARGEST_METADATA), f"{path}: {told}")
    source = f"{stem}.cpp"
    has_source = source in archive.entries and archive.entries[source].size <= LARGEST_SOURCE
    text = archive.read(source, LARGEST_SOURCE).decode("utf-8", "replace") if has_source else ""
    return CompiledModel(path, name, library, metadata, text, _weights(archive, inside))


def check_names(archive: Archive) -> None:
    """Reject entries that libtorch, which unpacks all of them, would write outside its own directory.

    Raises:
        MalformedFileError: there is such an entry, or two have the same name.
    """
    if len(archive.entries) > MOST_ENTRIES:
        raise MalformedFileError(
            f"{archive.path}: it has {len(archive.entries)} entries, far more than a package has.",
            hint="Do not load it: torch does not write such packages.",
        )
    try:
        with zipfile.ZipFile(archive.path) as file:
            names = [member.filename for member in file.infolist()]
    except DAMAGE as error:
        not_about_the_file(archive.path, error)
        raise MalformedFileError(f"{archive.path} is damaged.") from error
    hint = "Do not load it: torch does not write such packages."
    seen = set()
    for name in names:
        if (
            name.startswith(("/", "\\"))
            or ".." in name.replace("\\", "/").split("/")
            or "\0" in name
            or name[1:2] == ":"
        ):
            raise MalformedFileError(
                f"{archive.path}: its entry {shortened(name)!r} points outside the package.", hint=hint
            )
        if name in seen:
            raise MalformedFileError(f"{archive.path}: it has two entries {shortened(name)!r}.", hint=hint)
        seen.add(name)


def unpack(model: CompiledModel, place: Path) -> Path:
    """Write what one model of a package needs below `place/package`, with a link to the package next to it.

    Raises:
        MalformedFileError: an entry is damaged, or unpacked it is far larger than a package is.
        ResourcesError: the disk is full.
    """
    archive = open_archive(model.path)
    if archive is None:
        raise MalformedFileError(
            f"{model.path} is a truncated zip archive.", hint="Copy or download it again."
        )
    inside = (f"{MODELS}{model.name}/", WEIGHTS, CONSTANTS)
    needed = [
        entry
        for name, entry in archive.entries.items()
        if (name.startswith(inside) or "/" not in name) and not name.endswith("/")
    ]
    most = GROWTH * model.path.stat().st_size + ALLOWANCE
    size = sum(entry.size for entry in needed)
    if size > most:
        raise MalformedFileError(
            f"{model.path}: it would unpack to {size >> 20} MB, far more than a package of its size.",
            hint="Do not load it: torch does not write such packages.",
        )
    root = place / "package"
    root.mkdir()
    name = ""
    try:
        with zipfile.ZipFile(model.path) as file:
            for entry in needed:
                name = entry.name
                if entry.method not in READABLE:
                    raise MalformedFileError(f"{model.path} has no entry {name} that can be read.")
                target = root / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with file.open(archive.root + name) as source, target.open("xb") as written:
                    left = entry.size
                    while left > 0 and (piece := source.read(min(PIECE, left))):
                        written.write(piece)
                        left -= len(piece)
                    source.read(1)  # the checksum is compared at the end
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno in RESOURCES | FULL:
            raise out_of_resources(f"Cannot unpack {model.path} to {place}", error) from error
        raise MalformedFileError(f"{model.path}: the entry {name} is damaged.") from error
    (place / "package.pt2").symlink_to(model.path.absolute())
    return root


def _chosen(path: Path, names: list[str], wanted: str | None) -> str:
    listed = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
    if wanted is not None and wanted not in names:
        raise UsageError(
            f"{path}: no model {wanted} in this package, which has {listed}.",
            hint="Name one of these with --model.",
        )
    if wanted is not None:
        return wanted
    if len(names) > 1 and DEFAULT not in names:
        raise UsageError(
            f"{path}: {len(names)} models in this package: {listed}.", hint="Name one of them with --model."
        )
    return DEFAULT if DEFAULT in names else names[0]


def _library(path: Path, name: str, files: list[str]) -> str:
    """The compiled library among a model's entries: a model of Triton kernels has several, one of them the wrapper."""
    libraries = sorted(file for file in files if file.endswith(LIBRARIES))
    wrappers = [file for file in libraries if ".wrapper." in file.rpartition("/")[2]]
    if len(wrappers) == 1 or len(libraries) == 1:
        return (wrappers or libraries)[0]
    if libraries:
        raise ModelError(
            f"{path}: its model {name} has {len(libraries)} libraries, and none of them is its wrapper.",
            hint="Compile the package again.",
        )
    if any(file.endswith("_compile_flags.json") for file in files):
        raise ModelError(
            f"{path}: its model {name} is packaged as sources (package_cpp_only), which must be compiled first.",
            hint="Compile it without aot_inductor.package_cpp_only.",
        )
    raise ModelError(
        f"{path}: its model {name} has no compiled library.", hint="Copy or compile the package again."
    )


def _metadata(text: bytes, subject: str) -> dict[str, str]:
    try:
        value = load_json(text)
    except ValueError as error:
        raise MalformedFileError(
            f"{subject} is not JSON: {error}.", hint="Copy or compile the package again."
        ) from error
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise MalformedFileError(
            f"{subject} is not a JSON object of strings.", hint="Copy or compile the package again."
        )
    return value


def _weights(archive: Archive, inside: str) -> dict[str, WeightPlace]:
    """The weights that the model's `weights_config.json` lists.

    Raises:
        MalformedFileError: it is not such a list.
    """
    entry = f"{inside}weights_config.json"
    if entry not in archive.entries:
        return {}
    found = {}
    try:
        for name, (file, shape, strides, offset) in load_json(archive.read(entry)).items():
            numbers = (*shape, *strides, offset)
            if not isinstance(file, str) or not all(type(each) is int and each >= 0 for each in numbers):
                raise TypeError(name)  # noqa: TRY301 - one sentence for all that it is not
            found[str(name)] = WeightPlace(file, tuple(shape), tuple(strides), offset)
    except (ValueError, TypeError, AttributeError) as error:
        raise MalformedFileError(f"{archive.path}: {entry} is not a list of weights.") from error
    for name, place in found.items():
        if WEIGHTS + place.file not in archive.entries:
            raise MalformedFileError(
                f"{archive.path}: the weight {name} is missing: no such entry: {WEIGHTS}{place.file}.",
                hint="Copy or compile the package again.",
            )
    return found
