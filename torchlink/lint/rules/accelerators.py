"""The rule about the library that no symbol names: libtorch_cuda and its like."""

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
    """How a binary says that it wants one."""

    library: str  # bare name of what must be loaded
    name: str
    device: bytes  # as in torch::Device("cuda:0")
    symbols: bytes  # a pattern: functions that only users of it call
    hooks: bytes  # asked by at::hasCUDA, and with all others by torch::manual_seed


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


@rule("load-bearing-lost", Severity.ERROR, "Uses CUDA, but the linker has dropped libtorch_cuda.")
def load_bearing_lost(rule: Rule, context: LintContext) -> Iterator[Finding]:
    """libtorch_cuda registers itself when it is loaded, so the linker sees no use of it and drops it.

    Python has it loaded; a program that opens it by name loads it itself.
    """
    if context.is_extension or not context.complete:
        return
    siblings = {bare_name(name): name for name in context.torch_siblings}
    for accelerator in ACCELERATORS:
        if accelerator.library not in siblings:
            continue
        if accelerator.library in map(
            accelerator_of, unlinked(context)
        ):  # `torch-library-not-linked` brings both
            continue
        library = siblings[accelerator.library]
        users = [each for each in context.own if not context.belongs_to_torch(each)]
        if any(each.elf.find_in_section(".rodata", library.encode(), 0, 0) for each in users):
            continue
        said = {
            file_name(each.path): words for each in users if (words := mentions(each, accelerator, context))
        }
        fix = f"Link with {kept_on_the_line(accelerator.library)}, as `torchlink flags --link` prints it."
        if said:
            use = "uses" if len(said) == 1 else "use"
            yield rule.finding(
                library,
                f"{', '.join(said)} {use} {accelerator.name}, but nothing loads libtorch's {library}: no symbol names "
                f"it, so a linker with --as-needed drops it. {accelerator.name} counts as not available, and "
                "moving anything to the device throws.",
                fix,
                tuple(said.values()),
                severity=None if context.is_program else Severity.WARNING,
            )
        elif context.is_program:
            yield rule.finding(
                library,
                f"{context.name} does not load {library}, which this libtorch has: it computes on the CPU "
                "only. Whether "
                f"it is to use {accelerator.name} cannot be seen: a device named by a constant leaves no trace.",
                f"Nothing, if it is for the CPU. Otherwise l{fix[1:]}",
                severity=Severity.NOTE,
            )


def mentions(each: LoadedObject, accelerator: RequestedAccelerator, context: LintContext) -> str | None:
    """The symbol, or else the device name, by which an object says that it uses an accelerator."""
    imports = context.imports(each)
    named = min(filter(re.compile(accelerator.symbols).match, imports), default=None)
    if named is not None:
        return named.decode("utf-8", "replace")
    asked = set(filter(re.compile(ANY_HOOKS).match, imports))
    if asked == {accelerator.hooks}:
        return accelerator.hooks.decode()
    if any(device_in(each, section, accelerator.device) for section in (".rodata", ".text")):
        return f'the device name "{accelerator.device.decode()}"'
    return None


def device_in(each: LoadedObject, section: str, device: bytes) -> bool:
    """Whether a device name stands in a section: as a whole string, or in .text as the value of an instruction."""
    if section == ".text":  # compilers build short strings in place; three letters may be there by chance
        return len(device) > 3 and each.elf.find_in_section(section, device, 0, 0) is not None
    whole = (b"\0" + device + b"\0", b"\0" + device + b":")
    return any(each.elf.find_in_section(section, needle, 0, 0) is not None for needle in whole)


ACCELERATOR_RULES = (load_bearing_lost,)
