"""Nim projects: a link plan in, the files of a project out. Nothing is written here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torchlink.emit import nim
from torchlink.emit.quoting import comment
from torchlink.emit.templates import render
from torchlink.paths import data_dir

if TYPE_CHECKING:
    from torchlink.plan import LinkPlan


PROGRAM = ("main.nim", "torchmodel.nim", "torchmodel.cpp")  # of examples/nim, as they are
QUESTION = "torchlink flags --nim"  # what its config.nims asks
# What Nimble's own check refuses besides other characters: devices of Windows, names that end in "pkg".
UNFIT_NAME = re.compile(r"(con|prn|aux|nul|com\d|lpt\d|.*pkg)")


def project(plan: LinkPlan, name: str) -> dict[str, str]:
    """A project for this machine: file name -> text, with a nim.cfg that names this libtorch's paths.

    Args:
        plan: whose words nim.cfg holds.
        name: what to call the Nimble package, for example the directory's name.
    """
    values = {"flags": nim.emit(plan), "version": comment(plan.libtorch.version or "of an unknown version")}
    return {"nim.cfg": render("nim/nim.cfg.j2", values), **_common(name, local_paths=True)}


def shared_project(name: str, options: tuple[str, ...] = ()) -> dict[str, str]:
    """A project for a shared repository: its config.nims asks torchlink at every compile, no path is in it.

    Args:
        name: what to call the Nimble package.
        options: further plain options for `torchlink flags`, such as `--cpu`.
    """
    config = _example("config.nims").replace(QUESTION, " ".join((QUESTION, *options)))
    return {"config.nims": config, **_common(name, local_paths=False)}


def loader_project(plan: LinkPlan) -> dict[str, str]:
    """The reference loader as a Nim program (`nim cpp loader.nim`), with the flags that users get."""
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
    """A name that Nimble takes: ASCII letters, digits and single underscores, the first a letter."""
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    fit = plain if plain[:1].isalpha() else f"app_{plain}".rstrip("_")
    return f"{fit}_app" if UNFIT_NAME.fullmatch(fit) else fit


def _common(name: str, *, local_paths: bool) -> dict[str, str]:
    return {
        f"{package_name(name)}.nimble": render("nim/package.nimble.j2", {}),
        **{file: _example(file) for file in PROGRAM},
        ".gitignore": render("nim/gitignore.j2", {"local_paths": local_paths}),
    }


def _example(file: str) -> str:
    return (data_dir("examples") / "nim" / file).read_text(encoding="utf-8")
