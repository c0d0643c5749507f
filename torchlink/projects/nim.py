"""Nim projects: the files of a project for a link plan; nothing is written here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torchlink.emit import nim
from torchlink.emit.quoting import comment
from torchlink.emit.templates import render
from torchlink.paths import data_dir

if TYPE_CHECKING:
    from torchlink.plan import LinkPlan


PROGRAM = ("main.nim", "torchmodel.nim", "torchmodel.cpp")  # from examples/nim, unchanged
COMMAND = "torchlink flags --nim"  # run by its config.nims
# Names that Nimble rejects: Windows devices, and what ends in "pkg".
REJECTED_NAME = re.compile(r"(con|prn|aux|nul|com\d|lpt\d|.*pkg)")


def project(plan: LinkPlan, name: str) -> dict[str, str]:
    """Return a project for this machine: file name -> text, with this libtorch's paths in nim.cfg.

    Args:
        plan: whose flags go into nim.cfg.
        name: of the Nimble package, for example the directory's name.
    """
    return {"nim.cfg": nim_cfg(plan), **_common(name, local_paths=True)}


def build_files(plan: LinkPlan, name: str) -> dict[str, str]:
    """Return the files of Nim's own tools for any project: the flags for this machine, and the Nimble package."""
    return {
        "nim.cfg": nim_cfg(plan),
        f"{package_name(name)}.nimble": render("nim/package.nimble.j2", {}),
    }


def nim_cfg(plan: LinkPlan) -> str:
    """Return the text of nim.cfg with the flags of a plan."""
    values = {"flags": nim.emit(plan), "version": comment(plan.libtorch.version or "of an unknown version")}
    return render("nim/nim.cfg.j2", values)


def shared_project(name: str, options: tuple[str, ...] = ()) -> dict[str, str]:
    """Return a project for a shared repository: it contains no paths, its config.nims runs torchlink.

    Args:
        name: of the Nimble package.
        options: options for `torchlink flags`, such as `--cpu`.
    """
    template = (data_dir("templates") / "nim" / "config.nims").read_text(encoding="utf-8")
    config = template.replace(COMMAND, " ".join((COMMAND, *options)))
    return {"config.nims": config, **_common(name, local_paths=False)}


def loader_project(plan: LinkPlan) -> dict[str, str]:
    """Return the reference loader as a Nim program (`nim cpp loader.nim`), with the flags that users get."""
    sources = (data_dir("templates") / "loader").iterdir()
    return {
        "nim.cfg": f"{nim.emit(plan)}\n",
        **{
            file.name: file.read_text(encoding="utf-8")
            for file in sorted(sources)
            if file.suffix in {".nim", ".cpp", ".h"}
        },
    }


def package_name(name: str) -> str:
    """Return a valid name for Nimble: ASCII letters, digits and single underscores, beginning with a letter."""
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    fit = plain if plain[:1].isalpha() else f"app_{plain}".rstrip("_")
    return f"{fit}_app" if REJECTED_NAME.fullmatch(fit) else fit


def _common(name: str, *, local_paths: bool) -> dict[str, str]:
    return {
        f"{package_name(name)}.nimble": render("nim/package.nimble.j2", {}),
        **{file: _example(file) for file in PROGRAM},
        ".gitignore": render("nim/gitignore.j2", {"local_paths": local_paths}),
    }


def _example(file: str) -> str:
    return (data_dir("examples") / "nim" / file).read_text(encoding="utf-8")
