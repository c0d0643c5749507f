"""The plan of a program that uses the C API over libtorch instead of libtorch itself.

It has what emitters read of a `LinkPlan`, so that every target writes both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torchlink.plan import DEFAULTS, LinkPlan, PlanLibrary, runtime_dirs

if TYPE_CHECKING:
    from pathlib import Path

    from torchlink.plan import PlanOptions
    from torchlink.toolchain.types import Compiler

C_API = "torchmodel"


class CApiPlan(NamedTuple):
    """The flags of a program that uses the C API of `torchlink capi`."""

    options: PlanOptions
    include_dirs: tuple[Path, ...]
    library_dirs: tuple[Path, ...]
    libraries: tuple[PlanLibrary, ...]
    runtime_dirs: tuple[str, ...]
    version: str  # of the API
    runtime_libraries: tuple[str, ...] = ()  # the C++ runtime, where the library is an archive
    runtime_as_rpath: bool = False
    linker_dirs: tuple[Path, ...] = ()
    whole_archives: tuple[Path, ...] = ()
    compile_flags: tuple[str, ...] = ()
    link_flags: tuple[str, ...] = ()
    program_flags: tuple[str, ...] = ()
    platform: str = "linux"
    defines: tuple[tuple[str, str], ...] = ()
    undefines: tuple[str, ...] = ()
    cxx_standard: None = None
    compiler: Compiler | None = None  # of the archive

    @property
    def all_include_dirs(self) -> tuple[Path, ...]:
        """The directory of the header."""
        return self.include_dirs

    @property
    def is_c(self) -> bool:
        """True: the program is C, or calls C."""
        return True

    @property
    def package(self) -> str:
        """What the program uses, as a name for targets and variables."""
        return C_API


AnyPlan = LinkPlan | CApiPlan


def c_api_plan(
    directory: Path,
    options: PlanOptions = DEFAULTS,
    archive_plan: LinkPlan | None = None,
    linker_dirs: tuple[Path, ...] = (),
) -> CApiPlan:
    """Decide the flags of a program that uses a C API.

    Args:
        directory: what `torchlink capi` wrote, an absolute path.
        options: `rpath` is where the program finds the C API.
        archive_plan: where the C API is an archive, the plan of the libtorch that it is linked with; None: it is a
            shared library, which finds libtorch itself.
        linker_dirs: where the linker looks for what a shared library needs, if it does not find that itself.

    Raises:
        InexpressibleError: the directory cannot be written in a search path.
        UsageError: an option has an unknown value.
    """
    if archive_plan is None:
        return CApiPlan(
            options=options,
            include_dirs=(directory,),
            library_dirs=(directory,),
            libraries=(PlanLibrary(C_API, directory / f"lib{C_API}.so", keep=False),),
            runtime_dirs=runtime_dirs("linux", options, (directory,)),
            version="1",
            linker_dirs=linker_dirs,
        )
    return CApiPlan(
        options=options,
        include_dirs=(directory,),
        library_dirs=archive_plan.library_dirs,
        libraries=(PlanLibrary(C_API, directory / f"lib{C_API}.a", keep=False), *archive_plan.libraries),
        runtime_dirs=archive_plan.runtime_dirs,
        version="1",
        runtime_libraries=archive_plan.runtime_libraries,
        runtime_as_rpath=archive_plan.runtime_as_rpath,
        linker_dirs=archive_plan.linker_dirs,
        compiler=archive_plan.compiler,
    )
