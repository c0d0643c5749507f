"""Target `bazel`: the BUILD file of a `new_local_repository`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from torchlink.emit import cxx, quoting
from torchlink.errors import InexpressibleError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from torchlink.capi_plan import AnyPlan

RULES = "@bazel_tools//tools/build_defs/repo:local.bzl"
UNSAFE_OPTION = r"[\s'\"\\]"
UNSAFE = r"[\x00-\x1f\x7f\ud800-\udfff]"


def emit(plan: AnyPlan, phase: str = "both") -> str:
    """Return the text of the BUILD file; the comments at its top declare it in WORKSPACE or MODULE.bazel.

    Raises:
        InexpressibleError: a path cannot be written in a BUILD file, or headers are outside of libtorch.
    """
    name = plan.package
    root = _root(plan)
    fields: list[tuple[str, str]] = [("name", _string(name))]
    if phase != "link":
        places = [_below(root, directory) for directory in plan.all_include_dirs]
        outermost = [place for place in places if not any(place.startswith(f"{other}/") for other in places)]
        fields.append(("hdrs", f"glob({_list(map(_headers, outermost))})"))
        fields.append(("includes", _list(places)))
        if plan.defines:
            fields.append(("defines", _list(f"{macro}={value}" for macro, value in plan.defines)))
    if phase != "compile":
        fields.append(("linkopts", _list(map(_linkopt, cxx.by_c_driver(plan)))))
    declared = ("new_local_repository(", f"    name = {_string(name)},", f"    path = {_string(str(root))},")
    return "\n".join((
        f"# This file is {name}.BUILD, next to a BUILD file. In WORKSPACE:",
        "#",
        *(f"# {line}" for line in (*declared, f'    build_file = "//:{name}.BUILD",', ")")),
        "#",
        "# In MODULE.bazel the same, after:",
        "#",
        f'# new_local_repository = use_repo_rule("{RULES}", "new_local_repository")',
        "#",
        f'# Then: deps = ["@{name}"]',
        *((f"# In .bazelrc: build --cxxopt=-std=c++{plan.cxx_standard}",) if plan.cxx_standard else ()),
        "",
        "cc_library(",
        *(f"    {field} = {value}," for field, value in fields),
        '    visibility = ["//visibility:public"],',
        ")",
    ))  # fmt: skip


def _root(plan: AnyPlan) -> Path:
    from torchlink.plan import LinkPlan as OfLibtorch

    return plan.libtorch.root if isinstance(plan, OfLibtorch) else plan.include_dirs[0]


def _below(root: Path, directory: Path) -> str:
    if not directory.is_relative_to(root):
        raise InexpressibleError(
            f"{directory} is outside {root}, the only directory of a new_local_repository.",
            hint="Use --cpu, or a libtorch that contains its headers.",
        )
    return str(directory.relative_to(root))


def _headers(place: str) -> str:
    return "*.h" if place == "." else f"{place}/**"


def _list(values: Iterable[str]) -> str:
    texts = [_string(value) for value in values]
    if len(texts) < 2:
        return f"[{', '.join(texts)}]"
    return "\n        ".join(("[", *(f"{text}," for text in texts))) + "\n    ]"


def _linkopt(flag: str) -> str:
    """Quote for the shell-like splitting of `linkopts` and for its `$(variables)`."""
    quoting.expressible(
        flag, UNSAFE_OPTION, "in linkopts: bazel writes it into a file that gcc splits at blanks"
    )
    return shlex.quote(flag).replace("$", "$$")


def _string(text: str) -> str:
    quoting.expressible(text, UNSAFE, "in a BUILD file: it has a control character or is not UTF-8")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
