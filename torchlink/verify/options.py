"""The options of a verification."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from torchlink.plan_options import PlanOptions


class BenchOptions(NamedTuple):
    """How the calls of a model are measured, as the command line gives it."""

    bench: bool = False
    runs: int | None = None  # calls; None: 100, or as many as are done in 5 seconds
    warmup: int | None = None  # calls before these; None: 10
    threads: int | None = None  # that libtorch may use, here and in the run that it is compared with
    batch: str | None = None  # "x:0=1,8,32": sizes that a dimension of an argument gets, one after the other


class VerifyOptions(NamedTuple):
    """How models are verified, as the command line gives it."""

    inputs: tuple[str, ...] | None = None  # forward's arguments as `--input` takes them; None: work them out
    inputs_file: Path | None = None  # all of forward's arguments in one file, in place of `inputs`
    method: str = "forward"  # the method that is called
    save_outputs: Path | None = None  # file for the outputs: .npz, .pt, .json or .safetensors
    force: bool = False  # overwrite that file, and recordings in `record`
    expect: Path | None = None  # a file of the tensors that forward should return: .pt, .npy or .npz
    atol: float | None = (
        None  # absolute tolerance of comparisons; that of torch.testing.assert_close where None
    )
    rtol: float | None = None  # relative tolerance of comparisons, likewise
    against: str | None = (
        None  # another run to compare with: "python", "python=EXE", "cuda", the path of a libtorch
    )
    record: Path | None = None  # a directory to keep inputs and outputs in
    golden: Path | None = None  # such a directory, to compare with
    timeout: float | None = (
        None  # seconds for a model, from loading it to the loader's end; no limit where None
    )
    memory_limit: int | None = None  # bytes of memory of its own that a loader process may have
    libraries: tuple[Path, ...] = ()  # of operators that the models use; loaded before each model
    bench: BenchOptions = BenchOptions()
    device: str = "cpu"  # "cpu", "cuda", "cuda:1", "mps", "xpu", or "auto": the first of these that is usable
    env: tuple[str, ...] = ()  # further variables of the loader: NAME or NAME=VALUE
    via: str = "cxx"  # how the loader is built: by the compiler, or through a project for "cmake" or "nim"
    plan: PlanOptions = PlanOptions()
    compiler: str | None = None  # command of the C++ compiler; $CXX, else c++, where None
    model: str | None = None  # in an AOTInductor package of several models: the one to run
    verbose: bool = False  # keep everything that libtorch lists in its exceptions
    exclude: tuple[str, ...] = ()  # globs of paths: models of directories and patterns that are left out


DEFAULTS = VerifyOptions()
