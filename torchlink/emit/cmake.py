"""Target `cmake`: a snippet with one imported target, for projects that do not `find_package(Torch)`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.emit import cmake_syntax as syntax
from torchlink.emit.quoting import comment

if TYPE_CHECKING:
    from torchlink.capi_plan import AnyPlan

TARGET = "torchlink::torch"
MODULE_LINES = (
    "# A Python extension module: add_library(app MODULE app.cpp), and",
    '# set_target_properties(app PROPERTIES PREFIX "" CXX_VISIBILITY_PRESET hidden)',
)
NO_UNDEFINED = {"linux": "LINKER:-z,defs", "macos": "LINKER:-undefined,error"}  # the default on Windows


def emit(plan: AnyPlan, phase: str = "both") -> str:
    """Return CMake text (3.13 and newer) that defines `torchlink::torch`, or `torchlink::torchmodel` for the C API.

    Raises:
        InexpressibleError: CMake cannot pass on a path of the plan.
    """
    properties = {
        **(_compile_properties(plan) if phase != "link" else {}),
        **(_link_properties(plan) if phase != "compile" else {}),
    }
    target = f"torchlink::{plan.package}"
    lines = [
        f"# {_described(plan)}",
        *(MODULE_LINES if plan.options.python_extension else ()),
        *(("# Then: add_library(app SHARED app.cpp)",) if plan.options.plugin else ()),
        f"# {'     ' if plan.options.plugin else 'Then:'} target_link_libraries(app PRIVATE {target})",
        *(_search_path(plan) if phase != "compile" else ()),
        f"if(NOT TARGET {target})",
        f"  add_library({target} INTERFACE IMPORTED)",
        f"  set_target_properties({target} PROPERTIES",
        *(f"    {name} {value}" for name, value in properties.items()),
        "  )",
        "endif()",
    ]
    return "\n".join(lines)


def _described(plan: AnyPlan) -> str:
    from torchlink.plan import LinkPlan as OfLibtorch

    if not isinstance(plan, OfLibtorch):
        return f"The C API of torchlink, version {plan.version}"
    return f"libtorch {comment(plan.libtorch.version or 'of unknown version')}"


def _compile_properties(plan: AnyPlan) -> dict[str, str]:
    properties = {}
    if plan.cxx_standard:
        properties["INTERFACE_COMPILE_FEATURES"] = syntax.quote(f"cxx_std_{plan.cxx_standard}")
    defines = [f"{name}={value}" for name, value in plan.defines]
    if plan.options.plugin:
        properties["INTERFACE_POSITION_INDEPENDENT_CODE"] = "ON"
    options = []
    if plan.undefines:  # -U must come first, and CMake puts definitions before all options
        options = [*(f"-U{name}" for name in plan.undefines), *(f"-D{define}" for define in defines)]
    elif defines:
        properties["INTERFACE_COMPILE_DEFINITIONS"] = syntax.quote(";".join(defines))
    options += plan.compile_flags
    after = plan.options.headers == "after"
    if after and plan.all_include_dirs:
        options.append(include_after(plan))
    if options:
        properties["INTERFACE_COMPILE_OPTIONS"] = syntax.quote(";".join(options))
    if after or not plan.all_include_dirs:
        return properties
    directories = syntax.path_list(plan.all_include_dirs)
    properties["INTERFACE_INCLUDE_DIRECTORIES"] = directories
    properties["INTERFACE_SYSTEM_INCLUDE_DIRECTORIES"] = directories
    return properties


def include_after(plan: AnyPlan) -> str:
    """Return the compile options that put the include directories after the compiler's own."""
    directories = (syntax.path(directory).replace('"', '\\"') for directory in plan.all_include_dirs)
    return ";".join(f'SHELL:-idirafter "{directory}"' for directory in directories)


def _link_properties(plan: AnyPlan) -> dict[str, str]:
    libraries = [library for library in plan.libraries if not library.keep]
    if plan.options.rpath == "absolute" or plan.platform == "windows":
        items = [syntax.path(library.file) for library in libraries]
    else:  # CMake adds the directory of a library that it recognises to the program's search path
        items = [syntax.unlisted(library) for library in libraries]
    whole = [syntax.whole(archive, plan.platform) for archive in plan.whole_archives]
    runtime = [f"-l{name}" for name in plan.runtime_libraries] if plan.is_c else []
    items = [*whole, *kept_items(plan), *items, *runtime, *plan.program_flags, *search_items(plan)]
    if (
        plan.options.soname and plan.platform == "linux"
    ):  # the last one counts; CMake's own is the target's name
        items.append(syntax.linker_flag("-soname", plan.options.soname))
    properties = {"INTERFACE_LINK_LIBRARIES": syntax.quote(";".join(items))}
    if plan.whole_archives:
        properties["INTERFACE_LINK_DEPENDS"] = syntax.path_list(plan.whole_archives)
    if plan.link_flags:
        properties["INTERFACE_LINK_OPTIONS"] = syntax.quote(";".join(plan.link_flags))
    if plan.options.plugin and plan.platform in NO_UNDEFINED:
        properties["INTERFACE_LINK_OPTIONS"] = syntax.quote(NO_UNDEFINED[plan.platform])
    return properties


def kept_items(plan: AnyPlan) -> list[str]:
    """Return the required libraries as items for `target_link_libraries`."""
    if plan.platform == "linux":
        return [syntax.kept(library) for library in plan.libraries if library.keep]
    # Apple's linker drops no library; Microsoft's keeps one if a symbol in it is named with -INCLUDE.
    files = [syntax.path(library.file) for library in plan.libraries if library.keep]
    return [*files, *(f"-INCLUDE:{library.symbol}" for library in plan.libraries if library.symbol)]


def search_items(plan: AnyPlan) -> list[str]:
    """Return the search path entries that CMake does not add itself, as items for `target_link_libraries`."""
    if plan.options.rpath != "absolute":
        companions: list[str] = []
    else:
        own = set(map(str, plan.library_dirs))
        companions = [entry for entry in plan.runtime_dirs if entry not in own]
    items = [syntax.linker_flag("-rpath", entry) for entry in companions]
    items += [syntax.linker_flag("-rpath-link", str(directory)) for directory in plan.linker_dirs]
    return ["-Wl,--disable-new-dtags", *items] if plan.runtime_as_rpath else items


def _search_path(plan: AnyPlan) -> list[str]:
    """Return lines that set the run-time search path of the targets defined after them."""
    if plan.platform == "windows":
        return []
    if plan.options.rpath == "absolute":
        return ["set(CMAKE_INSTALL_RPATH_USE_LINK_PATH TRUE)"]
    return [
        f"list(APPEND {variable} {syntax.quote(entry)})"
        for variable in ("CMAKE_BUILD_RPATH", "CMAKE_INSTALL_RPATH")
        for entry in plan.runtime_dirs
    ]
