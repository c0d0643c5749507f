"""Whether a compiled model can run here: what it was compiled for, and which symbols it needs of libtorch.

A package says for which device, platform, machine and instruction set it was compiled (`torch/_inductor/codecache.py`,
`get_device_information`), but not by which torch: its library's symbols show that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.binary.bindings import Scope
from torchlink.binary.loader import OpenFiles, resolve
from torchlink.binary.platforms import host_cpu
from torchlink.errors import (
    CompiledForOtherError,
    MalformedFileError,
    ModelError,
    ResourcesError,
    TorchlinkError,
)
from torchlink.libtorch.machine import KERNEL_NAMES, PLATFORM_NAMES, is_foreign
from torchlink.remedies.remedy import remedy_for
from torchlink.shown import shortened

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torchlink.binary.closure import Closure, LoadedObject
    from torchlink.libtorch.facts import Libtorch
    from torchlink.model.aoti import CompiledModel

PLATFORMS = {"darwin": "macos", "win32": "windows"}  # sys.platform, where our name differs
ACCELERATORS = {"cuda": ("cuda", "rocm"), "xpu": ("xpu",)}
# Instruction sets as torch/_inductor/cpu_vec_isa.py names them -> flags of /proc/cpuinfo that they need. Names that
# are not listed count only if they are themselves flags.
ISA_FLAGS = {
    "AVX2": ("avx2", "fma"),
    "AVX512": ("avx512f", "avx512dq", "avx512vl", "avx512bw"),
    "AVX512_VNNI": ("avx512_vnni",),
    "AVX512_BF16": ("avx512_bf16",),
    "AMX_TILE": ("amx_tile",),
    "AMX_FP16": ("amx_fp16",),
    "ASIMD": ("asimd",),
    "SVE": ("sve",),
}
SHOWN = 5  # symbols in the message; the details have more
MOST = 40
C_INTERFACE = "aoti_torch_"
COMPILE_AGAIN = "Compile it again with the torch of this libtorch"


def check_target(model: CompiledModel, libtorch: Libtorch, device: str) -> str:
    """Refuse a model that was compiled for another system or device; returns the device to load it on.

    Args:
        model: with its metadata; a bare library may have none.
        libtorch: what will run it.
        device: "cpu", "cuda", "cuda:1", "auto".

    Raises:
        CompiledForOtherError: device, platform, machine or instruction set is another.
    """
    told = model.metadata
    compiled = told.get("AOTI_DEVICE_KEY", "").lower()
    wanted = device.partition(":")[0]
    if compiled in ACCELERATORS and libtorch.accelerator not in ACCELERATORS[compiled]:
        raise CompiledForOtherError(
            f"{model.label}: compiled for the device {compiled}, but this libtorch is a "
            f"{libtorch.accelerator.upper()} build.",
            hint="Name a libtorch built for that device with --libtorch, or compile the model again on the CPU.",
        )
    if compiled and wanted not in ("auto", compiled):
        raise CompiledForOtherError(
            f"{model.label}: compiled for the device {compiled}, but requested to run on {wanted}.",
            hint=f"Run it with --device {compiled}, or compile it again from a model on {wanted}.",
        )
    platform = told.get("AOTI_PLATFORM", "")
    platform = PLATFORMS.get(platform, platform)
    machine = told.get("AOTI_MACHINE", "")
    machine = KERNEL_NAMES.get(machine, machine)
    wrong = platform and platform != libtorch.platform, machine and machine != libtorch.arch
    if any(wrong):
        target = " ".join(filter(None, (machine, PLATFORM_NAMES.get(platform, platform))))
        raise CompiledForOtherError(
            f"{model.label}: compiled for {shortened(target)}, but this libtorch is for {libtorch.arch} "
            f"{PLATFORM_NAMES[libtorch.platform]}.",
            hint="Compile it again on a machine of this kind, or name a libtorch of its machine with --libtorch.",
        )
    lacking = lacking_instructions(told.get("AOTI_CPU_ISA", "")) if not is_foreign(libtorch) else ()
    if lacking:
        raise CompiledForOtherError(
            f"{model.label}: compiled for a processor with {', '.join(lacking)}, which this one does not have.",
            hint="Compile it again on this machine, or with ATEN_CPU_CAPABILITY=avx2 (or default) set.",
        )
    return device if wanted != "auto" or not compiled else compiled


def lacking_instructions(isa: str) -> tuple[str, ...]:
    """Which of the instruction sets, as the metadata lists them, this machine's processor lacks."""
    flags = host_cpu().flags
    if not flags:  # the system does not report them
        return ()
    names = isa.upper().split()
    return tuple(name for name in names if name in ISA_FLAGS and not set(ISA_FLAGS[name]) <= flags)


def check_symbols(model: CompiledModel, library: Path, libtorch: Libtorch, linked: Sequence[Path]) -> None:
    """Refuse a compiled library that would not load: of another machine, with libraries or symbols missing.

    Args:
        model: for the messages.
        library: the model's library on disk.
        libtorch: what will run it.
        linked: libtorch's libraries that its program links.

    Raises:
        CompiledForOtherError: a symbol, a symbol version or a library is not available, or the machine differs.
        ModelError: it is not a shared library.
    """
    if libtorch.platform != "linux":
        return
    files = OpenFiles()
    before = _loaded(linked, files)
    try:
        closure = resolve(library, files=files, loaded=before)
    except ResourcesError:
        raise
    except (MalformedFileError, TorchlinkError) as error:
        raise ModelError(
            f"{model.label}: its library is not an ELF file: {error.message}",
            hint="Compile the package again.",
        ) from error
    machine = closure.subject.elf.machine
    if machine != libtorch.arch:
        raise CompiledForOtherError(
            f"{model.label}: its library is for {machine}, but this libtorch is for {libtorch.arch}.",
            hint="Compile it again on a machine of this kind.",
        )
    _check_libraries(model, closure, libtorch)
    _check_versions(model, closure)
    _check_names(model, closure, before, libtorch)


def _loaded(linked: Sequence[Path], files: OpenFiles) -> tuple[LoadedObject, ...]:
    """The objects in the loader's process before the model's library is loaded."""
    found: dict[str, LoadedObject] = {}
    for library in linked:
        for each in resolve(library, files=files, loaded=tuple(found.values())).objects:
            found.setdefault(each.path, each)
    return tuple(found.values())


def _check_libraries(model: CompiledModel, closure: Closure, libtorch: Libtorch) -> None:
    own = [edge for edge in closure.edges_of(closure.subject.path) if edge.missing]
    if not own:
        return
    names = [edge.name for edge in own]
    missing = [each for each in libtorch.missing_libraries if each.name in names]
    raise CompiledForOtherError(
        f"{model.label}: needs {', '.join(names[:SHOWN])}, which is not found.",
        hint=remedy_for(libtorch, missing).text
        or f"{COMPILE_AGAIN}, or name the one that it was compiled for with --libtorch.",
    )


def _check_versions(model: CompiledModel, closure: Closure) -> None:
    lacking = [
        each
        for each in Scope(closure).missing_versions()
        if each.object == closure.subject.path and not each.weak
    ]
    if lacking:
        first = lacking[0]
        raise CompiledForOtherError(
            f"{model.label}: needs {first.version} of {first.library}, and {first.provider} is older.",
            hint="Compile it again on a system as old as this one, or install a newer C and C++ library.",
        )


def _check_names(
    model: CompiledModel, closure: Closure, before: Sequence[LoadedObject], libtorch: Libtorch
) -> None:
    others = [each for each in before if closure.object(each.path) is None]
    names = [
        each.symbol
        for each in Scope(closure).undefined_symbols(closure.subject.path)
        if not any(other.elf.find_symbol(each.symbol) is not None for other in others)
    ]
    if not names:
        return
    ours = f"libtorch {libtorch.version or ''} in {libtorch.root}".replace("  ", " ")
    listed = ", ".join(map(shortened, names[:SHOWN]))
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    raise CompiledForOtherError(
        f"{model.label}: compiled for another libtorch: the {ours} does not define {listed}{more}.",
        hint=_why(names, libtorch),
        details=tuple(map(shortened, names[:MOST])) if more else (),
    )


def _why(names: Sequence[str], libtorch: Libtorch) -> str:
    """A hint that depends on the kinds of missing symbols."""
    modern = any("__cxx11" in name or "B5cxx11" in name for name in names)
    if libtorch.cxx11_abi == 0 and modern:
        return f"{COMPILE_AGAIN}: that has C++ ABI 0, and the model has C++ ABI 1 (_GLIBCXX_USE_CXX11_ABI=1)."
    interface = [name for name in names if name.startswith(C_INTERFACE)]
    if interface:
        return (
            f"{COMPILE_AGAIN}, or name the one that it was compiled for with --libtorch: missing functions of "
            f"libtorch's C interface ({C_INTERFACE}…) come with a newer one, or with a build for another device."
        )
    return (
        f"{COMPILE_AGAIN}, or name the one that it was compiled for, or the missing library with --library."
    )
