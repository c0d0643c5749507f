"""Target `json`: the whole plan as one object, for tools that write a syntax of their own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from torchlink.emit import cxx
from torchlink.remedies.notes import notes_on

if TYPE_CHECKING:
    from torchlink.capi_plan import AnyPlan


def emit(plan: AnyPlan, phase: str = "both") -> str:
    """Return the plan as indented JSON (`schema` 1): the flags of `cxx`, and what they are made from."""
    return json.dumps(to_json(plan, phase), indent=2)


def to_json(plan: AnyPlan, phase: str = "both") -> dict[str, object]:
    """Return the plan as a JSON object; `phase` limits it to what a compile or a link step needs."""
    result: dict[str, object] = {
        "schema": 1,
        "platform": plan.platform,
        **_subject(plan),
        "options": {
            **{name: value for name, value in plan.options._asdict().items() if name != "compiles"},
            "whole_archive": [str(archive) for archive in plan.whole_archives],
        },
    }
    if phase != "link":
        result["compile"] = {
            "flags": list(cxx.flags(plan, "compile")),
            "undefines": list(plan.undefines),
            "defines": dict(plan.defines),
            "include_dirs": [str(directory) for directory in plan.all_include_dirs],
            "cxx_standard": plan.cxx_standard,
        }
    if phase != "compile":
        result["link"] = {
            "flags": list(cxx.flags(plan, "link")),
            "library_dirs": [str(directory) for directory in plan.library_dirs],
            "libraries": [
                {"name": library.name, "file": str(library.file), "keep": library.keep}
                for library in plan.libraries
            ],
            "runtime_dirs": list(plan.runtime_dirs),
            "runtime_as_rpath": plan.runtime_as_rpath,
            "linker_dirs": [str(directory) for directory in plan.linker_dirs],
        }
    from torchlink.plan import LinkPlan as OfLibtorch

    result["notes"] = list(notes_on(plan)) if isinstance(plan, OfLibtorch) else []
    return result


def _subject(plan: AnyPlan) -> dict[str, object]:
    """Return the description of what is linked: libtorch, or the C API over it."""
    from torchlink.plan import LinkPlan as OfLibtorch

    if not isinstance(plan, OfLibtorch):
        return {"capi": {"directory": str(plan.include_dirs[0]), "version": plan.version}}
    libtorch = plan.libtorch
    return {
        "libtorch": {
            "root": str(libtorch.root),
            "version": libtorch.version,
            "cxx11_abi": libtorch.cxx11_abi,
            "platform": libtorch.platform,
            "arch": libtorch.arch,
            "accelerator": libtorch.accelerator,
            "accelerator_version": libtorch.accelerator_version,
            "found_by": libtorch.found_by,
        }
    }
