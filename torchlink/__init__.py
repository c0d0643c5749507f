"""torchlink: find libtorch, print the flags to build against it, verify them, and lint the binaries.

This is the public, typed API, for use in a `setup.py`, a `noxfile.py` or a conan recipe.

    import torchlink
    libtorch = torchlink.find()
    flags = torchlink.emit(torchlink.plan(libtorch), "cxx")

Every function raises `torchlink.TorchlinkError` (with `.message`, `.hint` and `.code`; its subclasses are in
`torchlink.errors`) where the command line would print an error, and `TypeError` for an argument of the wrong type.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from concurrent.futures import Executor
    from pathlib import Path

    from torchlink.compilation.loader import BuiltLoader
    from torchlink.errors import TorchlinkError
    from torchlink.libtorch.facts import Libtorch
    from torchlink.lint.finding import FileReport, Finding, LintReport, Severity
    from torchlink.plan import LinkPlan, PlanLibrary
    from torchlink.verify.comparing.values import Comparison, OutputComparison
    from torchlink.verify.outputs import Output
    from torchlink.verify.result import ModelResult, TakenInput, VerifyReport

__version__ = "0.1.0"
__all__ = [
    "BuiltLoader",
    "Comparison",
    "FileReport",
    "Finding",
    "Libtorch",
    "LinkPlan",
    "LintReport",
    "ModelResult",
    "Output",
    "OutputComparison",
    "PlanLibrary",
    "Severity",
    "TakenInput",
    "TorchlinkError",
    "VerifyReport",
    "__version__",
    "emit",
    "find",
    "inspect",
    "lint",
    "notes",
    "plan",
    "verify",
]
# The modules of the API's classes, which are imported on first use to keep start-up short.
_CLASSES = {
    "BuiltLoader": "compilation.loader",
    "Comparison": "verify.comparing.values",
    "FileReport": "lint.finding",
    "Finding": "lint.finding",
    "Libtorch": "libtorch.facts",
    "LinkPlan": "plan",
    "LintReport": "lint.finding",
    "ModelResult": "verify.result",
    "Output": "verify.outputs",
    "OutputComparison": "verify.comparing.values",
    "PlanLibrary": "plan",
    "Severity": "lint.finding",
    "TakenInput": "verify.result",
    "TorchlinkError": "errors",
    "VerifyReport": "verify.result",
}
_A_LIBTORCH = "what torchlink.find or torchlink.inspect returns"
_A_BOOL = "a bool"
_AN_INT = "an int"


if not TYPE_CHECKING:  # a type checker would accept any attribute

    def __getattr__(name: str) -> object:
        """Import a class of the API."""
        if name not in _CLASSES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        found: object = getattr(import_module(f"{__name__}.{_CLASSES[name]}"), name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    """List the names of the module, including the classes."""
    return sorted({*globals(), *__all__})


def find(libtorch: str | Path | None = None, python: str | Path | None = None) -> Libtorch:
    """Return the libtorch that `torchlink find` chooses.

    Args:
        libtorch: a root, a `lib` directory or a directory that contains `libtorch/`; the first usable one in search
            order if omitted.
        python: an interpreter, whose torch is used.

    Raises:
        LibtorchNotFoundError: nothing usable was found; `details` lists the places.
        LibtorchUnusableError: the one that was named is not usable.
        UsageError: both are given.
    """
    from torchlink import arguments
    from torchlink.libtorch.choose import choose

    return choose(
        libtorch=None if libtorch is None else arguments.path(libtorch, "libtorch"),
        python=None if python is None else str(arguments.path(python, "python")),
    )


def inspect(path: str | Path) -> Libtorch:
    """Return the facts about the libtorch at `path`, read from its files; it may be for another machine.

    Raises:
        LibtorchUnusableError: there is no libtorch, or it is incomplete.
    """
    from torchlink import arguments
    from torchlink.libtorch.inspect import inspect as read

    return read(arguments.path(path, "path"), found_by="path")


def plan(
    libtorch: Libtorch | None = None,
    *,
    cpu_only: bool = False,
    rpath: str = "absolute",
    headers: str = "system",
    aoti: bool = False,
    embed_python: str | Path | None = None,
    python_extension: bool = False,
    tensors: bool = False,
    python: str | Path | None = None,
    plugin: bool = False,
    soname: str | None = None,
    whole_archive: Iterable[str | Path] = (),
    compiler: str | None = None,
) -> LinkPlan:
    """Return everything a build needs to know, in no tool's syntax.

    Args:
        libtorch: what `find` or `inspect` returned; `find()` if omitted.
        cpu_only: link only what a CPU program needs, even on a CUDA build.
        rpath: "absolute", "none" or "origin=DIR" (DIR relative to the program's directory).
        headers: "system" (-isystem) or "after" (-idirafter: after the system's own fmt, protobuf, …).
        aoti: the program loads AOTInductor packages.
        embed_python: the Python interpreter that the program embeds; "": the one that libtorch is installed for.
        python_extension: an extension module of Python instead of a program.
        tensors: torch.Tensor crosses between Python and that module.
        python: the interpreter that the module is for; if omitted, the one that libtorch is installed for.
        plugin: a shared library for dlopen instead of a program, without undefined symbols.
        soname: of the plugin.
        whole_archive: static libraries of which all objects are linked.
        compiler: a C++ compiler command that the plan must suit; if omitted, the preferred C++ standard is used
            unchecked.

    Raises:
        ToolUnfitError: the compiler is too old for this libtorch.
        LibtorchUnusableError: this libtorch cannot be linked.
        ToolMissingError: the interpreter to embed has no headers or no libpython.
        FileError: what is to be linked whole is no static library.
    """
    from torchlink import arguments
    from torchlink.plan import PlanOptions, make_plan
    from torchlink.toolchain.compiler import find_compiler

    options = PlanOptions(
        cpu_only=arguments.instance(cpu_only, bool, "cpu_only", _A_BOOL),
        rpath=arguments.text(rpath, "rpath"),
        headers=arguments.text(headers, "headers"),
        aoti=arguments.instance(aoti, bool, "aoti", _A_BOOL),
        embed_python=embed_python
        if embed_python is None or embed_python == ""
        else str(arguments.path(embed_python, "embed_python")),
        python_extension=arguments.instance(python_extension, bool, "python_extension", _A_BOOL),
        tensors=arguments.instance(tensors, bool, "tensors", _A_BOOL),
        python=None if python is None else str(arguments.path(python, "python")),
        plugin=arguments.instance(plugin, bool, "plugin", _A_BOOL),
        soname=None if soname is None else arguments.text(soname, "soname"),
        whole_archive=arguments.paths(whole_archive, "whole_archive"),
    )
    command = None if compiler is None else arguments.text(compiler, "compiler")
    return make_plan(_libtorch(libtorch), options, find_compiler(command) if command else None)


def emit(plan: LinkPlan, target: str = "cxx", phase: str = "both") -> str:
    """Return the flags of `plan` in a target's syntax.

    Args:
        plan: what `torchlink.plan` returned.
        target: "cxx", "cmake", "nim", "pkg-config", "json", "make", "rust", "go", "d", "zig", "fortran", "ocaml",
            "haskell", "crystal", "ada", "r", "ruby", "node", "qmake", "bazel", "nvcc", "julia" or "swift".
        phase: "both", "compile" or "link".

    Raises:
        InexpressibleError: a path cannot be written in that syntax.
        UsageError: the target is unknown.
    """
    from torchlink import arguments
    from torchlink.emit import emit as write
    from torchlink.plan import LinkPlan

    return write(
        arguments.instance(plan, LinkPlan, "plan", "what torchlink.plan returns"),
        arguments.text(target, "target"),
        arguments.text(phase, "phase"),
    )


def notes(plan: LinkPlan) -> tuple[str, ...]:
    """Return what the user should know about `plan`: one sentence for each fact, with the command that fixes it.

    Args:
        plan: what `torchlink.plan` returned.
    """
    from torchlink import arguments
    from torchlink.plan import LinkPlan
    from torchlink.remedies.notes import notes_on

    return notes_on(arguments.instance(plan, LinkPlan, "plan", "what torchlink.plan returns"))


def verify(
    models: str | Path | Iterable[str | Path] | None = None,
    libtorch: Libtorch | None = None,
    *,
    device: str = "cpu",
    inputs: str | Iterable[str] | None = None,
    inputs_file: str | Path | None = None,
    method: str = "forward",
    save_outputs: str | Path | None = None,
    force: bool = False,
    expect: str | Path | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    against: str | Path | None = None,
    record: str | Path | None = None,
    golden: str | Path | None = None,
    model: str | None = None,
    timeout: float | None = None,
    memory_limit: int | None = None,
    env: str | Iterable[str] = (),
    libraries: str | Path | Iterable[str | Path] = (),
    compiler: str | None = None,
    via: str = "cxx",
    cpu_only: bool = False,
    bench: bool = False,
    bench_runs: int | None = None,
    bench_warmup: int | None = None,
    bench_threads: int | None = None,
    bench_batch: str | None = None,
    headers: str = "system",
    cxx_standard: int | None = None,
    verbose: bool = False,
    exclude: str | Iterable[str] = (),
    jobs: int | None = None,
    executor: str | Callable[[], Executor] | None = None,
    executor_files: str = "shared",
) -> VerifyReport:
    """Build the reference loader with the flags of the plan, run it on each model and report the outputs.

    Args:
        models: a TorchScript file, AOTInductor package or library, a directory of them, a glob, or several of these;
            the bundled test model if omitted or None. Settings files are not read.
        libtorch: what `find` or `inspect` returned; `find()` if omitted.
        device: "cpu", "cuda", "cuda:1", "mps", "xpu" or "auto".
        inputs: forward's arguments, each as `--input` takes it: "float32[1,3,224,224]=randn:7", "mask=mask.npy"; worked
            out from the model if omitted.
        inputs_file: all of forward's arguments in one file, instead of `inputs`: .pt, .json, .npz or .safetensors.
        method: the method to call instead of forward.
        save_outputs: a file to write everything to that forward returns: .npz, .pt, .json or .safetensors.
        force: overwrite that file, and recordings in `record`.
        expect: a file with the expected outputs: `.pt`, `.npy`, `.npz`, `.safetensors` or `.json`.
        atol: absolute tolerance of comparisons; if omitted, that of torch.testing.assert_close for the dtype.
        rtol: relative tolerance of comparisons; if omitted, as for `atol`.
        against: another run to compare with: "python", "python=EXE", "cuda", or the path of a libtorch.
        record: a directory to save each model's inputs and outputs in.
        golden: a directory written with `record`, to compare with.
        model: the model to run in an AOTInductor package that contains several.
        timeout: seconds after which a model that has not finished is stopped.
        memory_limit: bytes of memory of its own that a loader process may have.
        env: environment variables passed to the loader in addition to those in docs/security.md: NAME or NAME=VALUE.
        libraries: shared libraries with operators that the models use, loaded before them.
        compiler: a C++ compiler command; $CXX, else c++, if omitted.
        via: how the loader is built: "cxx", "cmake" or "nim".
        cpu_only: link only what a CPU program needs, even on a CUDA build.
        bench: time calls; the figures are in each model's `bench`.
        bench_runs: the number of timed calls; if omitted, 100, or as many as are done in 5 seconds.
        bench_warmup: the number of calls before them; 10 if omitted.
        bench_threads: libtorch's number of threads.
        bench_batch: sizes of a dimension of an argument to time: "x:0=1,8,32".
        headers: "system" or "after", as for `plan`.
        cxx_standard: of the loader, such as 20; the newest that libtorch prefers and the compiler supports if
            omitted.
        verbose: keep all that libtorch lists in its exceptions.
        exclude: globs; models of directories and globs whose paths match are left out.
        jobs: how many models at once; as many as processors and memory allow if omitted.
        executor: run the models in its workers, not in processes of this one: "dask=ADDRESS",
            "PACKAGE.MODULE:FACTORY", or a function that returns a `concurrent.futures.Executor`, which is shut down
            at the end.
        executor_files: how workers get the models: "shared" (they read the same paths) or "send".

    Returns:
        `report.ok`, `report.exit_code`, `report.summary` and for each model, in their order, a `ModelResult`: its
        `error` (None on success), `stage`, `signal`, `inputs`, `outputs` (each an `Output`), `against`, times.

    Raises:
        BuildFailedError: the loader did not compile or link.
        ToolMissingError: there is no C++ compiler, no CMake, no Nim.
        UsageError: an argument has an invalid value, an input cannot be parsed, or the sequence of models is empty.
        ExecutorError: the executor cannot be opened.
        FileError: `expect` or a library cannot be read, or a directory or glob has no model.
        LibtorchNotFoundError: `against` names a directory without a libtorch.
    """
    from torchlink import arguments
    from torchlink.plan import PlanOptions
    from torchlink.verify.options import BenchOptions, VerifyOptions
    from torchlink.verify.verification import verify as prove

    files = () if models is None else arguments.paths(models, "models")
    options = VerifyOptions(
        inputs=None if inputs is None else arguments.texts(inputs, "inputs"),
        inputs_file=None if inputs_file is None else arguments.path(inputs_file, "inputs_file"),
        method=arguments.text(method, "method"),
        save_outputs=None if save_outputs is None else arguments.path(save_outputs, "save_outputs"),
        force=arguments.instance(force, bool, "force", _A_BOOL),
        expect=None if expect is None else arguments.path(expect, "expect"),
        atol=None if atol is None else arguments.number(atol, "atol"),
        rtol=None if rtol is None else arguments.number(rtol, "rtol"),
        against=None if against is None else arguments.text(os.fspath(against), "against"),
        record=None if record is None else arguments.path(record, "record"),
        golden=None if golden is None else arguments.path(golden, "golden"),
        model=None if model is None else arguments.text(model, "model"),
        timeout=None if timeout is None else arguments.number(timeout, "timeout"),
        memory_limit=None if memory_limit is None else arguments.count(memory_limit, "memory_limit"),
        libraries=arguments.paths(libraries, "libraries"),
        device=arguments.text(device, "device"),
        env=arguments.texts(env, "env"),
        via=arguments.text(via, "via"),
        plan=PlanOptions(
            cpu_only=arguments.instance(cpu_only, bool, "cpu_only", _A_BOOL),
            headers=arguments.text(headers, "headers"),
            cxx_standard=None if cxx_standard is None else arguments.count(cxx_standard, "cxx_standard"),
        ),
        compiler=None if compiler is None else arguments.text(compiler, "compiler"),
        bench=BenchOptions(
            arguments.instance(bench, bool, "bench", _A_BOOL),
            None if bench_runs is None else arguments.instance(bench_runs, int, "bench_runs", _AN_INT),
            None if bench_warmup is None else arguments.instance(bench_warmup, int, "bench_warmup", _AN_INT),
            None
            if bench_threads is None
            else arguments.instance(bench_threads, int, "bench_threads", _AN_INT),
            None if bench_batch is None else arguments.text(bench_batch, "bench_batch"),
        ),
        verbose=arguments.instance(verbose, bool, "verbose", _A_BOOL),
        exclude=arguments.texts(exclude, "exclude"),
    )
    at_once = None if jobs is None else arguments.count(jobs, "jobs")
    if models is not None and not files:
        raise _nothing_named("models", "Leave it out, or pass None, for the bundled model.")
    remote = None
    if executor is not None:
        from torchlink.verify.remote.dispatch import Remote

        if not callable(executor):
            executor = arguments.text(executor, "executor")
        remote = Remote(executor, arguments.text(executor_files, "executor_files"))
    return prove(files, _libtorch(libtorch), options, jobs=at_once, remote=remote)


def _libtorch(given: Libtorch | None) -> Libtorch:
    """Return the libtorch argument of a function; `find()` if omitted."""
    if given is None:
        return find()
    from torchlink import arguments
    from torchlink.libtorch.facts import Libtorch

    return arguments.instance(given, Libtorch, "libtorch", _A_LIBTORCH)


def _nothing_named(name: str, hint: str) -> TorchlinkError:
    """Return the error for an empty sequence: a glob without matches must not succeed."""
    from torchlink.errors import UsageError

    return UsageError(f"{name} is empty: nothing to check.", hint=hint)


def lint(
    paths: str | Path | Iterable[str | Path],
    *,
    target: str | None = None,
    allowed_rpath: str | Iterable[str] = (),
    environment: Mapping[str, str] | None = None,
    root: str | Path | None = None,
    libtorch: str | Path | None = None,
    python: str | Path | None = None,
    select: str | Iterable[str] = (),
    ignore: str | Iterable[str] = (),
) -> LintReport:
    """Report what is wrong or fragile in binaries that link libtorch; they are read, never run.

    Settings files are not read. `report.fails(Severity.ERROR)` is True where there is an error.

    Args:
        paths: programs, libraries, Python extensions, wheels and directories; a `.txt` file is the output of
            `ldd`, `lddtree` or `readelf -d`.
        target: the oldest system they must run on: "debian:12", "manylinux_2_28", "glibc=2.31".
        allowed_rpath: prefixes that a search path entry must have; any is allowed where empty.
        environment: the one they will run in; LD_LIBRARY_PATH and LD_PRELOAD are used. Empty if omitted.
        root: the image or sysroot they will run in.
        libtorch: the one Python extensions are imported with; where neither this nor `python` is given, that of their
            site-packages, else the one that `find` chooses.
        python: an interpreter, with whose torch Python extensions are imported.
        select: ids or globs of the rules to apply; all where empty.
        ignore: ids or globs of rules to skip.

    Raises:
        FileError: there is one path, and it cannot be checked. Of several it becomes a report of kind
            "unreadable".
        UsageError: the target or a rule is unknown, or the sequence of paths is empty.
    """
    from torchlink import arguments
    from torchlink.lint.context import LintOptions
    from torchlink.lint.importing import Torches
    from torchlink.lint.linting import lint as check_binary
    from torchlink.lint.rules import choose
    from torchlink.lint.targets import parse_target

    files = arguments.paths(paths, "paths")
    system = None if target is None else arguments.text(target, "target")
    wanted = LintOptions(
        floors=parse_target(system) if system else {},
        target=system,
        allowed_rpath=arguments.texts(allowed_rpath, "allowed_rpath"),
        environment={} if environment is None else arguments.settings(environment, "environment"),
    )
    rules = choose(arguments.texts(select, "select"), arguments.texts(ignore, "ignore"))
    image = None if root is None else arguments.path(root, "root")
    torches = Torches(
        None if libtorch is None else arguments.path(libtorch, "libtorch"),
        None if python is None else str(arguments.path(python, "python")),
    )
    if not files:
        raise _nothing_named("paths", "Name a binary, a wheel or a directory.")
    return check_binary(list(files), wanted, rules=rules, root=image, torches=torches)


class _Package(ModuleType):
    """Preserves the API's functions when a module of the same name (`torchlink.plan`) is imported."""

    def __setattr__(self, name: str, value: object) -> None:
        """Ignore the import system's binding of a module to a name of the API."""
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
