"""The rule about accelerator libraries such as libtorch_cuda, which no symbol references."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from torchlink.libtorch.names import bare_name
from torchlink.lint.context import file_name
from torchlink.lint.finding import Severity, rule
from torchlink.lint.libtorch_names import accelerator_of, unlinked
from torchlink.lint.rules.symbols import kept_on_the_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlink.binary.closure import LoadedObject
    from torchlink.lint.context import LintContext
    from torchlink.lint.finding import Finding, Rule


class RequestedAccelerator(NamedTuple):
    """How to recognise a binary that uses an accelerator."""

    library: str  # bare name of what must be loaded
    name: str
    device: bytes  # as in torch::Device("cuda:0")
    symbols: bytes  # a pattern: functions that only its users call
    hooks: bytes  # called by at::hasCUDA, and together with all others by torch::manual_seed


ACCELERATORS = (
    RequestedAccelerator(
        "torch_cuda",
        "CUDA",
        b"cuda",
        rb"_ZNK?(5torch|3c10|2at)4cuda",
        b"_ZN2at6detail12getCUDAHooksEv",
    ),
    RequestedAccelerator(  # a ROCm build calls its devices cuda
        "torch_hip",
        "ROCm",
        b"cuda",
        rb"_ZNK?(5torch|3c10|2at)(4cuda|3hip)",
        b"_ZN2at6detail12getCUDAHooksEv",
    ),
    RequestedAccelerator(
        "torch_xpu",
        "XPU",
        b"xpu",
        rb"_ZNK?(5torch|3c10|2at)3xpu",
        b"_ZN2at6detail11getXPUHooksEv",
    ),
)
ANY_HOOKS = rb"_ZN2at6detail\d+get\w+HooksEv"


@rule("load-bearing-lost", Severity.ERROR, "CUDA is used, but the linker has dropped libtorch_cuda.")
def load_bearing_lost(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """libtorch_cuda registers itself when it is loaded: no symbol references it, so the linker drops it.

    Python extensions are left out, because Python has loaded it, and so are programs that contain its file name, as
    those load it with dlopen.
    """
    if context.is_extension or not context.complete:
        return
    siblings = {bare_name(name): name for name in context.torch_siblings}
    for accelerator in ACCELERATORS:
        if accelerator.library not in siblings:
            continue
        if accelerator.library in map(accelerator_of, unlinked(context)):
            continue  # the fix of `torch-library-not-linked` adds both
        library = siblings[accelerator.library]
        users = [each for each in context.own if not context.belongs_to_torch(each)]
        if any(each.elf.find_in_section(".rodata", library.encode(), 0, 0) for each in users):
            continue
        signs = {
            file_name(each.path): sign for each in users if (sign := sign_of_use(each, accelerator, context))
        }
        fix = f"Link with {kept_on_the_line(accelerator.library)}, as `torchlink flags --link` prints it."
        if signs:
            use = "uses" if len(signs) == 1 else "use"
            yield rule.finding(
                library,
                f"{', '.join(signs)} {use} {accelerator.name}, but nothing loads libtorch's {library}: no symbol "
                f"references it, so a linker with --as-needed drops it. {accelerator.name} is reported as not "
                "available, and moving a tensor to the device throws.",
                fix,
                tuple(signs.values()),
                severity=None if context.is_program else Severity.WARNING,
            )
        elif context.is_program:
            yield rule.finding(
                library,
                f"{context.name} does not load {library}, which this libtorch has: it runs on the CPU only. Whether "
                f"it is meant to use {accelerator.name} cannot be determined: a device given as a constant leaves no "
                "trace in the binary.",
                f"If it is meant for the CPU, ignore this. Otherwise l{fix[1:]}",
                severity=Severity.NOTE,
            )


def sign_of_use(each: LoadedObject, accelerator: RequestedAccelerator, context: LintContext) -> str | None:
    """Return the symbol, or else the device name, that shows that an object uses an accelerator."""
    imports = context.imports(each)
    used = min(filter(re.compile(accelerator.symbols).match, imports), default=None)
    if used is not None:
        return used.decode("utf-8", "replace")
    hooks = set(filter(re.compile(ANY_HOOKS).match, imports))
    if hooks == {accelerator.hooks}:
        return accelerator.hooks.decode()
    if any(device_in(each, section, accelerator.device) for section in (".rodata", ".text")):
        return f'the device name "{accelerator.device.decode()}"'
    return None


def device_in(each: LoadedObject, section: str, device: bytes) -> bool:
    """Whether a section contains a device name: as a whole string, or in .text as an instruction's immediate."""
    if section == ".text":  # compilers store short strings by immediates; three letters may occur by chance
        return len(device) > 3 and each.elf.find_in_section(section, device, 0, 0) is not None
    whole = (b"\0" + device + b"\0", b"\0" + device + b":")
    return any(each.elf.find_in_section(section, needle, 0, 0) is not None for needle in whole)


ACCELERATOR_RULES = (load_bearing_lost,)
