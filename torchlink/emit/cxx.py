"""Target `cxx`: flags for a C++ compiler's command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.emit import quoting

if TYPE_CHECKING:
    from torchlink.capi_plan import AnyPlan
    from torchlink.plan import PlanLibrary


def emit(plan: AnyPlan, phase: str = "both") -> str:
    """Return one quoted line: for a POSIX shell, or for cmd.exe where the plan is for Windows."""
    quote = quoting.windows if plan.platform == "windows" else quoting.shell
    return " ".join(quote(flag) for flag in flags(plan, phase))


def response_file(plan: AnyPlan, phase: str = "both") -> str:
    """Return the text of a response file for `c++ @PATH`, one flag per line."""
    quote = quoting.windows if plan.platform == "windows" else quoting.response_file
    return "".join(f"{quote(flag)}\n" for flag in flags(plan, phase))


def flags(plan: AnyPlan, phase: str = "both") -> tuple[str, ...]:
    """Return the flags, unquoted; they belong at the end of a command, after its sources and objects.

    The standard is the last compile flag, because projects and other tools put a lower one before it.
    """
    windows = plan.platform == "windows"
    compile_flags = _msvc_compile(plan) if windows else _compile(plan)
    link_flags = _msvc_link(plan) if windows else _link(plan)
    if phase == "compile":
        return compile_flags
    if phase == "link":
        return link_flags
    # Everything after /link is for the linker; a separate link step calls link.exe.
    return (*compile_flags, "/link", *link_flags) if windows else (*compile_flags, *link_flags)


def _compile(plan: AnyPlan) -> tuple[str, ...]:
    option = "-idirafter" if plan.options.headers == "after" else "-isystem"
    return (
        *(f"-U{name}" for name in plan.undefines),
        *(f"-D{name}={value}" for name, value in plan.defines),
        *(flag for directory in plan.all_include_dirs for flag in (option, str(directory))),
        *plan.compile_flags,
        *(("-fPIC",) if plan.options.plugin else ()),
        *((f"-std=c++{plan.cxx_standard}",) if plan.cxx_standard else ()),
    )


def _link(plan: AnyPlan) -> tuple[str, ...]:
    return (
        *module_flags(plan),
        *plan.link_flags,
        *(_shared(plan) if plan.options.plugin else ()),
        *(f"-L{directory}" for directory in plan.library_dirs),
        *(("-Wl,--disable-new-dtags",) if plan.runtime_as_rpath else ()),
        *(flag for entry in plan.runtime_dirs for flag in _for_linker("-rpath", entry)),
        *(flag for directory in plan.linker_dirs for flag in _for_linker("-rpath-link", str(directory))),
        *(flag for archive in plan.whole_archives for flag in _whole(plan, str(archive))),
        *(flag for library in plan.libraries for flag in library_flags(plan, library)),
        *((f"-l{name}" for name in plan.runtime_libraries) if plan.is_c else ()),
        *plan.program_flags,
    )


def module_flags(plan: AnyPlan) -> tuple[str, ...]:
    """Return the flags that make a Python extension module, whose undefined symbols the interpreter has."""
    if not plan.options.python_extension:
        return ()
    return ("-bundle", "-undefined", "dynamic_lookup") if plan.platform == "macos" else ("-shared",)


def _shared(plan: AnyPlan) -> tuple[str, ...]:
    """Make a shared library; an undefined symbol is an error of the linker rather than of dlopen."""
    name = plan.options.soname
    if plan.platform == "macos":
        own = ("-Wl,-install_name,@rpath/" + name,) if name else ()
        return ("-dynamiclib", "-Wl,-undefined,error", *own)
    return ("-shared", "-Wl,-z,defs", *((f"-Wl,-soname,{name}",) if name else ()))


def _whole(plan: AnyPlan, archive: str) -> tuple[str, ...]:
    """Link all objects of a static library, and of no other: the linker's state is restored."""
    if plan.platform == "macos":
        return _for_linker("-force_load", archive)
    if "," in archive:
        return ("-Wl,--push-state,--whole-archive", archive, "-Wl,--pop-state")
    return (f"-Wl,--push-state,--whole-archive,{archive},--pop-state",)


def _for_linker(*arguments: str) -> tuple[str, ...]:
    """Pass arguments to the linker; `-Wl,` would split one at a comma."""
    if any("," in argument for argument in arguments):
        return tuple(flag for argument in arguments for flag in ("-Xlinker", argument))
    return (f"-Wl,{','.join(arguments)}",)


def by_c_driver(plan: AnyPlan) -> tuple[str, ...]:
    """Return the link flags for a driver that adds no C++ runtime: cc, such as cc, gfortran, rustc and ghc."""
    runtime = () if plan.is_c else tuple(f"-l{name}" for name in plan.runtime_libraries)
    return (*flags(plan, "link"), *runtime)


def linker_arguments(plan: AnyPlan) -> tuple[str, ...]:
    """Return the link flags as the linker itself gets them, for tools that pass on one argument at a time."""
    arguments: list[str] = []
    for flag in by_c_driver(plan):
        if flag.startswith("-Wl,"):
            arguments += flag.split(",")[1:]
        elif flag != "-Xlinker":
            arguments.append(flag)
    return tuple(arguments)


def linked_by_name(plan: AnyPlan, library: PlanLibrary) -> bool:
    """Whether `-lNAME` finds a library and nothing more is needed, so that a tool's own field for names can have it."""
    kept = library.keep and plan.platform == "linux"
    return not kept and library.file.name in {f"lib{library.name}.so", f"lib{library.name}.dylib"}


def library_flags(plan: AnyPlan, library: PlanLibrary) -> tuple[str, ...]:
    """Return the flags of one library."""
    by_name = library.file.name in {f"lib{library.name}.so", f"lib{library.name}.dylib"}
    flag = f"-l{library.name}" if by_name else str(library.file)
    if not library.keep or plan.platform != "linux":
        return (flag,)
    # One flag where possible: CMake and others merge repeated flags.
    if "," in flag:
        return ("-Wl,--push-state,--no-as-needed", flag, "-Wl,--pop-state")
    return (f"-Wl,--push-state,--no-as-needed,{flag},--pop-state",)


def _msvc_compile(plan: AnyPlan) -> tuple[str, ...]:
    # /MD: libtorch's C runtime, whose std::string crosses the DLL boundary; /EHsc: its headers throw exceptions.
    return (
        "/MD",
        "/EHsc",
        *(flag for directory in plan.all_include_dirs for flag in ("/I", str(directory))),
        f"/std:c++{plan.cxx_standard}",
    )


def _msvc_link(plan: AnyPlan) -> tuple[str, ...]:
    symbols = dict.fromkeys(library.symbol for library in plan.libraries if library.symbol)
    return (
        *(("/DLL",) if plan.options.plugin else ()),
        *(f"/LIBPATH:{directory}" for directory in plan.library_dirs),
        *(f"/WHOLEARCHIVE:{archive}" for archive in plan.whole_archives),
        *(library.file.name for library in plan.libraries),
        *(f"/INCLUDE:{symbol}" for symbol in symbols),
    )
