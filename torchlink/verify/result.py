"""The result of a verification: one frozen report, which renderers turn into text or JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from torchlink.verify.comparing.tolerances import DEFAULT, Tolerances

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torchlink.compilation.loader import BuiltLoader
    from torchlink.errors import TorchlinkError
    from torchlink.libtorch.facts import Libtorch
    from torchlink.toolchain.emulator import Emulator
    from torchlink.verify.benching.figures import Bench, BenchRequest
    from torchlink.verify.comparing.expected import Expectation
    from torchlink.verify.comparing.references import ReferenceRun
    from torchlink.verify.comparing.values import Comparison
    from torchlink.verify.given import Given
    from torchlink.verify.outputs import Output

GIVEN = "given"


@dataclass(frozen=True, slots=True)
class Request:
    """What to do with every model."""

    device: str = "cpu"  # "cpu" | "cuda" | "cuda:1" | "mps" | "xpu" | "auto"
    inputs: Given | None = None  # None: work them out
    expected: Expectation | None = None
    tolerances: Tolerances = DEFAULT
    against: ReferenceRun | None = None  # another run to compare with
    record: Path | None = None  # directory for the recordings
    golden: Path | None = None  # directory of recordings to compare with
    force: bool = False  # overwrite in `record`
    libraries: tuple[Path, ...] = ()  # of operators, loaded before the model
    timeout: float | None = None  # seconds for a model, from loading it to the loader's end
    verbose: bool = False  # keep everything that libtorch lists in its exceptions
    method: str = "forward"
    save_outputs: Path | None = None  # file for the outputs
    model: str | None = None  # name of the model in a package of several
    memory_limit: int | None = None  # bytes of private memory that its process may use
    bench: BenchRequest | None = None  # how its calls are timed; None: they are not
    environment: Mapping[str, str] | None = None  # of its process

    @property
    def may_share(self) -> bool:
        """Whether a model may be run in a process that runs others.

        Only TorchScript's own operators run there, without a limit that the process keeps; and nothing is written, so
        that the model can be run again in a process of its own.
        """
        return not any((self.libraries, self.memory_limit, self.bench, self.save_outputs, self.record))


@dataclass(frozen=True, slots=True)
class TakenInput:
    """One argument that forward was given."""

    name: str  # as forward declares it
    text: str  # as `--input` takes it: "float32[1,3,224,224]=randn:1"
    why: str  # one sentence for all arguments: why they were chosen; GIVEN for --input


class Gpu(NamedTuple):
    """The device that a model ran on, where it is not the CPU."""

    name: str | None  # as its driver calls it; None where it does not say (only NVIDIA's is asked)
    memory_used_mb: float | None  # MiB that its free memory has lost since before the model was loaded
    kernel_ran: bool  # an arithmetic was done there, and was right
    outputs_there: bool  # all tensors that forward returned are on it


@dataclass(frozen=True, slots=True)
class ModelResult:
    """One model: loaded, run and compared, or the reason why not. Times are in milliseconds."""

    path: str
    kind: str  # "torchscript", or what the file is instead
    device: str | None  # "cpu", "cuda:0"; None if nothing was loaded
    error: TorchlinkError | None  # None exactly if the model is ok
    inputs: tuple[TakenInput, ...] = ()
    input_tries: int | None = None  # how often forward was run to find its inputs; None if they were given
    outputs: tuple[Output, ...] = ()  # in order
    outputs_left_out: int = 0  # the number of further outputs
    output: object = (
        None  # all of it in the marshalling of docs/values.md; large tensors by their first values
    )
    method: str = "forward"  # the method that was called
    saved: str | None = None  # the file written by --save-outputs
    expected: Comparison | None = None  # with the file of --expect
    against: Comparison | None = None  # with --against, or with --golden
    # The greatest difference between two calls with the same inputs if it exceeds the tolerances; else None, and
    # also None if nothing is compared or recorded.
    spread: float | None = None
    recording: str | None = None  # where --record has saved inputs and outputs
    load_ms: float | None = None
    forward_ms: float | None = None  # the first call, in which torch.jit optimises
    again_ms: tuple[float, ...] = ()  # later calls with the same inputs; none if the first took long
    peak_rss_mb: float | None = None  # MiB
    seconds: float | None = None  # what all of it took; None if nothing was loaded
    gpu: Gpu | None = None  # None on the CPU
    bench: Bench | None = None  # how long calls take; None without --bench
    printed: str = ""  # output of model and libtorch on stdout and stderr
    # The stage at which it failed: "read", "library", "load", "device", "describe", "input", "forward", "again",
    # "expect", "bench" or "end"; None if it did not fail.
    stage: str | None = None
    signal: str | None = None  # that killed its process: "SIGSEGV"; SIGKILL for a timeout
    skipped: str = ""  # why it was skipped, if the settings say so
    # How it failed in a process that had run other models, if it was then ok in its own.
    failed_first: str = ""
    # The entry of an earlier run's report that this was read from; JSON renderers output it unchanged.
    recorded: Mapping[str, Any] | None = None

    @property
    def ok(self) -> bool:
        """Whether it loaded, ran, and gave what was expected; a skipped one counts as ok."""
        return self.error is None

    @property
    def max_abs_error(self) -> float | None:
        """The greatest difference of any element from what was expected; None if nothing could be compared."""
        comparison = self.expected or self.against
        return None if comparison is None else comparison.max_abs_error


class Shard(NamedTuple):
    """A part of the models: every `of`-th one, from the `number`-th on."""

    number: int  # from 1
    of: int
    models: int  # in all parts


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """One run of `torchlink verify`."""

    libtorch: Libtorch
    loader: BuiltLoader | None  # None if there was nothing to run
    via: str  # "cxx" | "cmake" | "nim"
    models: tuple[ModelResult, ...]
    emulator: Emulator | None = None  # what ran the loader; None: this machine
    compiler: str | None = None  # what compiled it: `g++ 12.2.0`
    shard: Shard | None = None  # the part of all models that these are
    interrupted: bool = False  # before all were done

    @property
    def ok(self) -> bool:
        """Whether every model is ok."""
        return all(model.ok for model in self.models)

    @property
    def summary(self) -> dict[str, int]:
        """How many models are ok, have failed, and were skipped."""
        skipped = sum(bool(model.skipped) for model in self.models)
        failed = sum(not model.ok for model in self.models)
        return {"ok": len(self.models) - failed - skipped, "failed": failed, "skipped": skipped}

    @property
    def exit_code(self) -> int:
        """0 every model is ok, 1 one failed, 2 one could not be checked."""
        return max((model.error.exit_code for model in self.models if model.error), default=0)
