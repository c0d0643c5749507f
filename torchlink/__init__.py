"""torchlink: find libtorch, work out the words to build against it, prove them, lint what was built.

The public, typed API: what the command line does, a `setup.py`, a `noxfile.py` or a conan recipe can do in
one line.

    import torchlink
    libtorch = torchlink.find()
    words = torchlink.emit(torchlink.plan(libtorch), "cxx")

Every function raises `torchlink.errors.TorchlinkError` (with `.message`, `.hint` and `.code`) where the
command line would print an error.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torchlink.libtorch.facts import Libtorch
    from torchlink.lint.finding import LintReport
    from torchlink.plan import LinkPlan
    from torchlink.verify.result import VerifyReport

__version__ = "0.1.0"
__all__ = ["__version__", "emit", "find", "inspect", "lint", "plan", "verify"]


def find(libtorch: str | Path | None = None, python: str | None = None) -> Libtorch:
    """The libtorch that `torchlink find` takes.

    Args:
        libtorch: a root, a `lib` directory or a directory that contains `libtorch/`; the first usable place
            of the search order where omitted.
        python: an interpreter whose torch is meant.

    Raises:
        LibtorchNotFoundError: nothing usable was found; `details` lists the places.
        LibtorchUnusableError: the one that was named cannot serve.
        UsageError: both are named.
    """
    from pathlib import Path

    from torchlink.libtorch.choose import choose

    return choose(libtorch=None if libtorch is None else Path(libtorch), python=python)


def inspect(path: str | Path) -> Libtorch:
    """What the libtorch at `path` is, read from its files; it need not fit this machine.

    Raises:
        LibtorchUnusableError: there is no libtorch, or half of one.
    """
    from pathlib import Path

    from torchlink.libtorch.inspect import inspect as read

    return read(Path(path), found_by="path")


def plan(
    libtorch: Libtorch | None = None,
    *,
    cpu_only: bool = False,
    rpath: str = "absolute",
    headers: str = "system",
    aoti: bool = False,
    compiler: str | None = None,
) -> LinkPlan:
    """Everything a build needs to know, in no tool's syntax.

    Args:
        libtorch: what `find` or `inspect` returned; `find()` where omitted.
        cpu_only: link only what a CPU program needs, even on a CUDA build.
        rpath: "absolute", "none" or "origin=DIR" (DIR relative to the program's directory).
        headers: "system" (-isystem) or "after" (-idirafter: behind the system's own fmt, protobuf, …).
        aoti: the program loads AOTInductor packages.
        compiler: a C++ compiler command whose abilities the plan must respect; the preferred C++ standard
            is taken on trust where omitted.

    Raises:
        ToolUnfitError: the compiler is too old for this libtorch.
        LibtorchUnusableError: this libtorch cannot be linked.
    """
    from torchlink.plan import PlanOptions, make_plan
    from torchlink.toolchain.compiler import find_compiler

    options = PlanOptions(cpu_only=cpu_only, rpath=rpath, headers=headers, aoti=aoti)
    return make_plan(
        find() if libtorch is None else libtorch, options, find_compiler(compiler) if compiler else None
    )


def emit(plan: LinkPlan, target: str = "cxx", half: str = "both") -> str:
    """The words of `plan` in a target's syntax.

    Args:
        plan: what `torchlink.plan` returned.
        target: "cxx", "cmake", "nim", "pkg-config" or "json".
        half: "both", "compile" or "link".

    Raises:
        InexpressibleError: a path cannot be written in that syntax.
        UsageError: there is no such target.
    """
    from torchlink.emit import emit as write

    return write(plan, target, half)


def verify(
    models: str | Path | Sequence[str | Path] = (),
    libtorch: Libtorch | None = None,
    *,
    device: str = "cpu",
    inputs: str | Sequence[str] | None = None,
    expect: str | Path | None = None,
    atol: float = 1e-5,
    rtol: float = 1e-4,
    timeout: float | None = None,
    env: Sequence[str] = (),
    libraries: str | Path | Sequence[str | Path] = (),
    compiler: str | None = None,
    via: str = "cxx",
    cpu_only: bool = False,
) -> VerifyReport:
    """Build the reference loader with the words of the plan, run it on each model and report what came out.

    Args:
        models: a TorchScript file or several; the tiny bundled model where empty.
        libtorch: what `find` or `inspect` returned; `find()` where omitted.
        device: "cpu", "cuda" or "auto".
        inputs: forward's arguments in order, each as `--input` takes it: "float32[1,3,224,224]=randn:7"; worked out
            from the model where omitted.
        expect: a `.pt`, `.npy` or `.npz` file of the tensors that forward should return.
        atol: absolute tolerance of that comparison.
        rtol: relative tolerance of that comparison.
        timeout: seconds after which a model that is not through is stopped.
        env: environment variables that the loader is given besides those of docs/security.md: NAME or NAME=VALUE.
        libraries: shared libraries of operators that the models use, loaded before them.
        compiler: a C++ compiler command; $CXX, else c++, where omitted.
        via: how the loader is built: "cxx", "cmake" or "nim".
        cpu_only: link only what a CPU program needs, even on a CUDA build.

    Returns:
        `report.ok`, `report.exit_code` and for each model a `ModelResult`: its `error` (None where all went well),
        `inputs`, `outputs` (each an `Output`), times.

    Raises:
        BuildFailedError: the loader did not compile or link.
        ToolMissingError: there is no C++ compiler, no CMake, no Nim.
        UsageError: an option has no such value, or an input cannot be read.
        FileError: `expect` or a library cannot be read.
    """
    from torchlink.plan import PlanOptions
    from torchlink.verify.options import VerifyOptions
    from torchlink.verify.run import verify as prove

    if inputs is not None:
        inputs = (inputs,) if isinstance(inputs, str) else tuple(inputs)
    options = VerifyOptions(
        inputs=inputs,
        expect=None if expect is None else _paths(expect)[0],
        atol=atol,
        rtol=rtol,
        timeout=timeout,
        libraries=tuple(_paths(libraries)),
        device=device,
        env=tuple(env),
        via=via,
        plan=PlanOptions(cpu_only=cpu_only),
        compiler=compiler,
    )
    return prove(_paths(models), find() if libtorch is None else libtorch, options)


def _paths(named: str | Path | Sequence[str | Path]) -> list[Path]:
    """One path or several, as a list."""
    from os import PathLike
    from pathlib import Path

    return [Path(each) for each in ([named] if isinstance(named, (str, PathLike)) else named)]


def lint(
    paths: Sequence[str | Path] | str | Path,
    *,
    target: str | None = None,
    allowed_rpath: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    root: str | Path | None = None,
    libtorch: str | Path | None = None,
    python: str | None = None,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
) -> LintReport:
    """What is wrong or fragile in binaries that link libtorch; they are read, never run.

    Settings files are not read. `report.fails(Severity.ERROR)` tells whether there is an error.

    Args:
        paths: programs, libraries, Python extensions, wheels and directories; a `.txt` file is the output of
            `ldd`, `lddtree` or `readelf -d`.
        target: the oldest system they must run on: "debian:12", "manylinux_2_28", "glibc=2.31".
        allowed_rpath: prefixes that a search path entry must have; any is right where empty.
        environment: that they will run in; LD_LIBRARY_PATH and LD_PRELOAD count. Empty where omitted.
        root: an image or sysroot that they will run in.
        libtorch: that Python extensions are imported with; that of their site-packages, else what `find` takes,
            where neither this nor `python` names one.
        python: an interpreter, whose torch they are imported with.
        select: ids or globs of the only rules to apply; all where empty.
        ignore: ids or globs of rules to leave out.

    Raises:
        FileError: there is one path, and it cannot be judged. Of several it becomes a report of kind
            "unreadable".
        UsageError: there is no such target or rule.
    """
    from pathlib import Path

    from torchlink.lint.case import LintOptions
    from torchlink.lint.rules import choose
    from torchlink.lint.run import lint as judge
    from torchlink.lint.targets import parse_target
    from torchlink.lint.torches import Torches

    named = [paths] if isinstance(paths, (str, Path)) else paths
    wanted = LintOptions(
        floors=parse_target(target) if target else {},
        target=target,
        allowed_rpath=tuple(allowed_rpath),
        environment=environment or {},
    )
    return judge(
        [Path(path) for path in named],
        wanted,
        rules=choose(select, ignore),
        root=None if root is None else Path(root),
        torches=Torches(None if libtorch is None else Path(libtorch), python),
    )


class _Package(ModuleType):
    """Keeps the API's functions in place when a room of the same name (`torchlink.plan`) is imported."""

    def __setattr__(self, name: str, value: object) -> None:
        """Ignore the import system's binding of a room to a name of the API."""
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
