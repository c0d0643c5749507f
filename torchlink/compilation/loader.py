"""The reference loader as a program: found in the cache, or built and cached."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchlink.compilation import cache
from torchlink.compilation.recipe import PROGRAM, key, recipe
from torchlink.errors import BuildFailedError, ResourcesError, TorchlinkError, lacks_space
from torchlink.paths import ON_FULL_DISK, leave_cache

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torchlink.compilation.recipe import Recipe
    from torchlink.plan import LinkPlan
    from torchlink.toolchain.types import Compiler


@dataclass(frozen=True, slots=True)
class BuiltLoader:
    """A loader that is ready to run."""

    path: Path
    cached: bool  # it was not built in this run
    compile_seconds: float  # of this run: 0 if it was cached
    command: str  # that built it, for a POSIX shell in an empty directory
    remark: str = ""  # what went wrong although it was built, as a sentence


def build_loader(
    plan: LinkPlan,
    compiler: Compiler,
    via: str = "cxx",
    started: Callable[[], None] = lambda: None,
    program: str = "torchscript",
) -> BuiltLoader:
    """Return the loader for a plan: from the cache, else built under a lock and cached.

    Args:
        plan: what to build against.
        compiler: builds it.
        via: "cxx" for the compiler with the flags of the plan, "cmake" or "nim" for that target's project.
        started: called before something is built.
        program: "torchscript", or "aoti" for models that AOTInductor has compiled; a name of `recipe.PROGRAMS`.

    Raises:
        BuildFailedError: it does not compile, link or configure.
        FileError: the cache cannot be written.
        ToolMissingError: a program that is needed is missing.
        InexpressibleError: the target's syntax cannot carry a path of the plan.
    """
    return built(recipe(via, plan, compiler, program), plan, compiler, started)


def built(
    way: Recipe, plan: LinkPlan, compiler: Compiler, started: Callable[[], None] = lambda: None
) -> BuiltLoader:
    """Return what a recipe builds: from the cache, else built under a lock and cached.

    Raises:
        BuildFailedError: it does not compile, link or configure.
        FileError: the cache cannot be written.
    """
    name = key(plan, compiler, way.key_parts())
    return cached(name, lambda work: _build_in(work, way, name, plan, compiler), started)


def cached(
    name: str, build: Callable[[Path], BuiltLoader], started: Callable[[], None] = lambda: None
) -> BuiltLoader:
    """Return a cache entry; where there is none, have it built in a workspace under a lock.

    Args:
        name: of the entry.
        build: builds in a directory and publishes the entry.
        started: called before that.

    Raises:
        BuildFailedError: it does not compile, link or configure.
        FileError: the cache cannot be written.
    """
    entry = cache.find(name)
    if entry is None:
        with cache.lock(name):
            entry = cache.find(name)  # another process may have built it meanwhile
            if entry is None:
                started()
                return _build(build)
    return BuiltLoader(entry.program, cached=True, compile_seconds=0.0, command=str(entry.facts["command"]))


def _build(build: Callable[[Path], BuiltLoader]) -> BuiltLoader:
    """Build in a workspace; try again where somebody clears the cache meanwhile, or where its disk fills up."""
    for last in (False, False, True):
        with cache.workspace() as work:
            try:
                return build(work)
            except (TorchlinkError, OSError) as error:
                if lacks_space(error) and leave_cache(ON_FULL_DISK):
                    continue
                if isinstance(error, ResourcesError) or last or work.is_dir():
                    raise
    raise AssertionError  # the last round returned or raised


def _build_in(work: Path, way: Recipe, name: str, plan: LinkPlan, compiler: Compiler) -> BuiltLoader:
    from torchlink.atomic import fill
    from torchlink.compilation import recipe
    from torchlink.compilation.cmake import run_steps
    from torchlink.compilation.launcher import NONE, VARIABLE, build, launched
    from torchlink.compilation.recipe import source_dir
    from torchlink.projects.writing import encoded
    from torchlink.toolchain.compiler import cxx_name

    directory, finished = work / "work", work / "entry"
    files = {file: encoded(text) for file, text in way.files.items()}
    fill(directory, files)
    begun = time.time_ns()
    started = time.perf_counter()
    through = launched(way, plan, compiler, directory)
    failure = build(through, directory) if through else None
    try:
        if failure is not None:
            shutil.rmtree(directory)
            fill(directory, files)
        if failure is not None or through is None:
            run_steps(way.steps, directory, log_name=f"{name}.txt")
    except BuildFailedError as error:
        better = cxx_name(str(compiler.path))
        if better and any("undefined" in line for line in error.details):
            error.hint = f"Use {better}: {compiler.path.name} does not link the C++ library."
        raise
    seconds = round(time.perf_counter() - started, 3)
    finished.mkdir()
    (directory / way.program).rename(finished / PROGRAM)
    read = recipe.read_in(directory, source_dir(), through.links if through else {})
    (finished / recipe.LIST).write_bytes(os.fsencode("\n".join(read)))
    facts = {
        "libtorch": {"root": str(plan.libtorch.root), "version": plan.libtorch.version},
        "compiler": compiler.name,
        "via": way.via,
        "command": way.command,
        "compile_seconds": seconds,
        "headers": recipe.stamp(read, since=begun),
    }
    entry = cache.publish(name, finished, PROGRAM, facts)
    remark = (
        f"compiling with {through.name} failed ({failure}); the reference loader was compiled without it. "
        f"{VARIABLE}={NONE} switches compiler launchers off"
        if through and failure is not None
        else ""
    )
    return BuiltLoader(
        entry.program, cached=False, compile_seconds=seconds, command=way.command, remark=remark
    )
