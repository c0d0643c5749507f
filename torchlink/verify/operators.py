"""Models that use operators or classes that libtorch itself lacks, and the libraries that register them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torchlink.errors import FileError, ForwardFailedError, MalformedFileError, RunFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from torchlink.libtorch.facts import Libtorch

OPERATOR = re.compile(r"Unknown builtin op: (?P<namespace>\w+)::(?P<name>[\w.]+\w)")
CLASS = re.compile(r"__torch__\.torch\.classes\.(?P<namespace>\w+)\.(?P<name>\w+)")
UNKNOWN_CLASS = re.compile(
    r"Unknown type name|Can't find class|class.* not (found|registered)", re.IGNORECASE
)
# How the code of a saved model calls an operator, and names a class, of a namespace that is not aten's.
USED = re.compile(rb"\bops\.(\w+)\.\w+\(|\b__torch__\.torch\.classes\.(\w+)\.\w")
MOST_CODE = 32 << 20  # bytes of a model's code that are searched
# The dynamic loader's error about a library that another one needs.
NEEDED = re.compile(r"(?:Error in dlopen: )?(?P<name>[^\s:]+): cannot open shared object file")
# The libraries that register the operators of well-known packages, as those packages install them.
LIBRARIES = {
    "torchvision": "torchvision/_C.so of the torchvision package, or libtorchvision.so",
    "image": "torchvision/image.so of the torchvision package",
    "torchaudio": "torchaudio/lib/_torchaudio.so of the torchaudio package",
    "torchtext": "torchtext/lib/libtorchtext.so of the torchtext package",
    "torch_scatter": "torch_scatter/_*_cpu.so of the torch-scatter package",
    "torch_sparse": "torch_sparse/_*_cpu.so of the torch-sparse package",
    "torch_cluster": "torch_cluster/_*_cpu.so of the torch-cluster package",
    "torch_spline_conv": "torch_spline_conv/_*_cpu.so of the torch-spline-conv package",
    "pyg": "libpyg.so of the pyg-lib package",
    "fbgemm": "fbgemm_gpu/fbgemm_gpu_py.so of the fbgemm-gpu package",
    "tensorrt": "torch_tensorrt/lib/libtorchtrt_runtime.so of the torch-tensorrt package",
    "torch_ipex": "libintel-ext-pt-cpu.so of the intel-extension-for-pytorch package",
}
# Namespaces of libtorch itself: a missing operator is newer, or was left out when it was built.
OWN = frozenset(
    ("aten", "prim", "prims", "quantized", "_quantized", "onednn", "mkldnn", "inductor", "static_runtime")
)
XNNPACK = frozenset(("prepacked", "xnnpack"))


class UnknownOperatorError(ForwardFailedError):
    """A model uses a missing operator or class of `namespace`, which is not one of libtorch's."""

    namespace = ""


def unknown_operator(message: str) -> ForwardFailedError | None:
    """The error for a model that cannot be loaded because of a missing operator or class; None for other errors.

    Args:
        message: the text of the exception.
    """
    found, what = OPERATOR.search(message), "operator"
    if found is None and UNKNOWN_CLASS.search(message):
        found, what = CLASS.search(message), "class"
    if found is None:
        return None
    namespace, name = found["namespace"], f"{found['namespace']}::{found['name']}"
    details = tuple(line for line in message.splitlines() if line.strip())
    if namespace in OWN:
        return ForwardFailedError(
            f"The model uses the {what} {name}, which this libtorch does not have.",
            hint="A model saved by a newer torch needs a libtorch at least as new: name another with --libtorch.",
            details=details,
        )
    if namespace in XNNPACK:
        return ForwardFailedError(
            f"The model uses the {what} {name} of XNNPACK, but this libtorch was built without it.",
            hint="Save the model before optimize_for_mobile, or name a libtorch built with XNNPACK with --libtorch.",
            details=details,
        )
    brings = LIBRARIES.get(namespace)
    error = UnknownOperatorError(
        f"The model uses the {what} {name}, which is not part of libtorch: "
        + (
            f"the library that contains it is {brings}."
            if brings
            else f"the library that registers {namespace} is missing."
        ),
        hint="Name that library with --library LIB.so, built against this libtorch; your own program must "
        "link or load it as well.",
        details=details,
    )
    error.namespace = namespace
    return error


def all_unknown(error: UnknownOperatorError, model: Path, libraries: Sequence[Path]) -> ForwardFailedError:
    """The same error with what libtorch does not report: the model's other namespaces, and libraries that did not help.

    Args:
        error: of the first missing operator.
        model: the TorchScript file.
        libraries: operator libraries that were loaded before it.
    """
    others = set(_namespaces(model)) - OWN - XNNPACK - {error.namespace}
    others = {name for name in others if not any(_mentions(library, name) for library in libraries)}
    if others:
        registers = "the library that registers" if len(others) == 1 else "the libraries that register"
        error.message += f" It needs {registers} {' and '.join(sorted(others))}, too."
        error.hint = error.hint.replace("Name that library with", "Name each of them with", 1)
    if libraries:
        given = ", ".join(library.name for library in libraries)
        error.hint = f"What was given ({given}) does not register {error.namespace}. {error.hint}"
    return error


def _namespaces(model: Path) -> Iterator[str]:
    """The namespaces of operators and classes in a model's code, as far as it can be read."""
    from torchlink.model.archive import open_archive

    archive, left = open_archive(model), MOST_CODE
    for name, entry in archive.entries.items() if archive else ():
        left -= entry.size if name.startswith("code/") and name.endswith(".py") else 0
        if archive is None or left < 0:
            return
        if name.startswith("code/") and name.endswith(".py"):
            try:
                code = archive.read(name)
            except (FileError, MalformedFileError):
                continue
            for found in USED.finditer(code):
                yield (found[1] or found[2]).decode()


def _mentions(library: Path, namespace: str) -> bool:
    """Whether a library contains a namespace's name as a C string, as one that registers operators in it does."""
    import mmap

    from torchlink.binary.data import open_descriptor

    try:
        with (
            open(open_descriptor(library), "rb") as file,  # noqa: PTH123 - a FIFO must not be waited for
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            return content.find(namespace.encode() + b"\0") >= 0
    except (OSError, ValueError):
        return False


def unloadable(library: Path, error: RunFailedError, libtorch: Libtorch) -> RunFailedError:
    """The error for a given operator library that cannot be loaded, with the reason found in the files.

    Args:
        library: as given.
        error: the dynamic loader's.
        libtorch: what the loader was built against.
    """
    from torchlink.binary.elf import ElfFile

    try:
        machine = ElfFile.open(library).machine
    except (FileError, MalformedFileError):
        machine = None
    if machine is not None and libtorch.platform == "linux" and machine != libtorch.arch:
        return RunFailedError(
            f"{library} is for {machine}, but the libtorch in {libtorch.root} is for {libtorch.arch}.",
            hint=f"Name one that was built for {libtorch.arch}.",
        )
    error.message = f"{library}: {error.message[:1].lower()}{error.message[1:]}"
    needed = NEEDED.search(error.message)
    if needed and needed["name"] != str(library.absolute()):
        error.hint = (
            f"It needs {needed['name']}, which is not found: link it with an rpath to its directory, or name that "
            f"file with --library before {library.name}."
        )
    return error
