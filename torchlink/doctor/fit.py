"""What fits what: every libtorch with every compiler, by the rules that make the words; nothing is compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.doctor.facts import Fit
from torchlink.errors import ResourcesError, TorchlinkError
from torchlink.libtorch.floor import shortfall
from torchlink.plan import DEFAULTS, make_plan
from torchlink.toolchain.fit import check_compiler, cxx_standard
from torchlink.toolchain.library_dirs import linked

if TYPE_CHECKING:
    from collections.abc import Callable

    from torchlink.doctor.facts import FoundCompiler
    from torchlink.libtorch.facts import Libtorch
    from torchlink.libtorch.floor import Shortfall
    from torchlink.toolchain.facts import Compiler


# What a CPU program loads; what these lack stops it, too.
CPU_HALF = ("libtorch_cpu.", "libc10.", "libtorch.")


def missing_for_cpu(libtorch: Libtorch) -> tuple[str, ...]:
    """The libraries that are nowhere and without which not even a CPU program starts."""
    return tuple(
        missing.name for missing in libtorch.missing_libraries if missing.needed_by.startswith(CPU_HALF)
    )


def fit(libtorch: Libtorch, found: FoundCompiler, short: Shortfall | None = None) -> Fit:
    """Check one pair; `short` is what this system lacks for the libtorch."""
    compiler, missing = found.compiler, missing_for_cpu(libtorch)
    if compiler is None:
        return Fit(libtorch, found, abi=False, cxx_standard=None, error=found.error, missing=missing)

    def standard(target: Compiler = compiler) -> int:
        return cxx_standard(libtorch, target)

    abi = _error(lambda: check_compiler(libtorch, compiler))
    wrong_standard = _error(standard)
    plan = _error(lambda: make_plan(libtorch, DEFAULTS, compiler))
    short = short or (None if abi else shortfall(libtorch, linked(compiler)))
    return Fit(
        libtorch,
        found,
        abi=abi is None,
        cxx_standard=None if wrong_standard else standard(),
        error=abi or wrong_standard or plan or (short.error if short else None),
        missing=missing,
    )


def _error(judge: Callable[[], object]) -> TorchlinkError | None:
    try:
        judge()
    except ResourcesError:
        raise
    except TorchlinkError as error:
        return error
    return None
