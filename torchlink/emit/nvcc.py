"""Target `nvcc`: flags for CUDA's compiler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.emit import cxx, quoting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torchlink.capi_plan import AnyPlan

UNSAFE = r"[^\w+./=:@%~-]"
WHERE = "on nvcc's command line: nvcc splits at commas and gives its commands to a shell without quotes"


def emit(plan: AnyPlan, phase: str = "both") -> str:
    """Return a line for a shell; the architectures are those of $TORCH_CUDA_ARCH_LIST, else libtorch's own.

    Raises:
        InexpressibleError: nvcc would change a path.
        UsageError: $TORCH_CUDA_ARCH_LIST has an unknown architecture.
    """
    words: list[str] = []
    if phase != "link":
        words += [*_architectures(plan), *_compile(plan)]
    if phase != "compile":
        words += _link(plan)
    return " ".join(quoting.shell(word) for word in words)


def _architectures(plan: AnyPlan) -> tuple[str, ...]:
    from torchlink.plan import LinkPlan as OfLibtorch
    from torchlink.toolchain.cuda_architectures import architectures

    return architectures(plan.libtorch if isinstance(plan, OfLibtorch) else None)


def _compile(plan: AnyPlan) -> Iterator[str]:
    if not plan.is_c:
        yield "--expt-relaxed-constexpr"  # the headers call constexpr functions in device code
    flags = iter(cxx.flags(plan, "compile"))
    for flag in flags:
        if flag == "-idirafter":
            yield from ("-Xcompiler", f"-idirafter,{_checked(next(flags))}")
        else:
            yield _checked(flag)


def _link(plan: AnyPlan) -> Iterator[str]:
    for flag in cxx.flags(plan, "link"):
        if flag.startswith("-Wl,"):
            words = flag.split(",")[1:]
            yield from ("-Xlinker", ",".join(_checked(word) for word in words))
        else:
            yield _checked(flag)


def _checked(word: str) -> str:
    """Return a word for nvcc; of the loader's variables, `$ORIGIN` is written by torchlink itself."""
    variable = "$ORIGIN" if word.startswith("$ORIGIN") else ""
    quoting.expressible(word[len(variable) :], UNSAFE, WHERE)
    return word
