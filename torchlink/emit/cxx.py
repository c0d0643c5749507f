"""Target `cxx`: the flags of a C++ compiler's command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.emit import quoting

if TYPE_CHECKING:
    from torchlink.plan import LinkPlan, PlanLibrary


def emit(plan: LinkPlan, phase: str = "both") -> str:
    """One quoted line: for a POSIX shell, or for cmd.exe where the plan is for Windows."""
    quote = quoting.windows if plan.platform == "windows" else quoting.shell
    return " ".join(quote(word) for word in words(plan, phase))


def response_file(plan: LinkPlan, phase: str = "both") -> str:
    """The text of a file for `c++ @PATH`, one word a line."""
    quote = quoting.windows if plan.platform == "windows" else quoting.response_file
    return "".join(f"{quote(word)}\n" for word in words(plan, phase))


def words(plan: LinkPlan, phase: str = "both") -> tuple[str, ...]:
    """The argument words, unquoted; they work at the end of a command, behind its sources and objects.

    The standard is the last compile word, because projects and other tools put a lower one before it.
    """
    windows = plan.platform == "windows"
    compile_words = _msvc_compile(plan) if windows else _compile(plan)
    link_words = _msvc_link(plan) if windows else _link(plan)
    if phase == "compile":
        return compile_words
    if phase == "link":
        return link_words
    # What follows /link is for the linker alone; a link step by itself calls link.exe.
    return (*compile_words, "/link", *link_words) if windows else (*compile_words, *link_words)


def _compile(plan: LinkPlan) -> tuple[str, ...]:
    flag = "-idirafter" if plan.options.headers == "after" else "-isystem"
    return (
        *(f"-U{name}" for name in plan.undefines),
        *(f"-D{name}={value}" for name, value in plan.defines),
        *(word for directory in plan.all_include_dirs for word in (flag, str(directory))),
        f"-std=c++{plan.cxx_standard}",
    )


def _link(plan: LinkPlan) -> tuple[str, ...]:
    return (
        *(f"-L{directory}" for directory in plan.library_dirs),
        *(("-Wl,--disable-new-dtags",) if plan.runtime_as_rpath else ()),
        *(word for entry in plan.runtime_dirs for word in _to_linker("-rpath", entry)),
        *(word for directory in plan.linker_dirs for word in _to_linker("-rpath-link", str(directory))),
        *(word for library in plan.libraries for word in _library(plan, library)),
    )


def _to_linker(*words: str) -> tuple[str, ...]:
    """Words for the linker; `-Wl,` would split one at a comma."""
    if any("," in word for word in words):
        return tuple(part for word in words for part in ("-Xlinker", word))
    return (f"-Wl,{','.join(words)}",)


def _library(plan: LinkPlan, library: PlanLibrary) -> tuple[str, ...]:
    by_name = library.file.name in {f"lib{library.name}.so", f"lib{library.name}.dylib"}
    word = f"-l{library.name}" if by_name else str(library.file)
    if not library.keep or plan.platform != "linux":
        return (word,)
    # One word where possible: CMake and others fold repeated flags together.
    if "," in word:
        return ("-Wl,--push-state,--no-as-needed", word, "-Wl,--pop-state")
    return (f"-Wl,--push-state,--no-as-needed,{word},--pop-state",)


def _msvc_compile(plan: LinkPlan) -> tuple[str, ...]:
    # /MD: libtorch's own C runtime, whose std::string crosses the DLL boundary; /EHsc: its headers throw.
    return (
        "/MD",
        "/EHsc",
        *(word for directory in plan.all_include_dirs for word in ("/I", str(directory))),
        f"/std:c++{plan.cxx_standard}",
    )


def _msvc_link(plan: LinkPlan) -> tuple[str, ...]:
    symbols = dict.fromkeys(library.symbol for library in plan.libraries if library.symbol)
    return (
        *(f"/LIBPATH:{directory}" for directory in plan.library_dirs),
        *(library.file.name for library in plan.libraries),
        *(f"/INCLUDE:{symbol}" for symbol in symbols),
    )
