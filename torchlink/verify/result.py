"""What a verification found: one frozen report, which renderers turn into text or JSON."""

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
    from torchlink.verify.comparing.expected import Expectation
    from torchlink.verify.comparing.references import Reference
    from torchlink.verify.comparing.values import Comparison
    from torchlink.verify.given import Given
    from torchlink.verify.outputs import Output

GIVEN = "given"


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of every model."""

    device: str = "cpu"  # "cpu" | "cuda" | "auto"
    inputs: Given | None = None  # None: work them out
    expected: Expectation | None = None
    tolerances: Tolerances = DEFAULT
    against: Reference | None = None  # another run to compare with
    record: Path | None = None  # where inputs and outputs are kept
    golden: Path | None = None  # where they were, to compare with
    force: bool = False  # overwrite in `record`
    libraries: tuple[Path, ...] = ()  # of operators, loaded before the model
    timeout: float | None = None  # seconds for a model, from loading it to the loader's end
    verbose: bool = False  # keep all that libtorch lists in its exceptions
    method: str = "forward"
    save_outputs: Path | None = None  # where what it returns is written
    model: str | None = None  # in a package of several
    memory_limit: int | None = None  # bytes of memory of its own that its process may have


@dataclass(frozen=True, slots=True)
class TakenInput:
    """One argument that forward was given."""

    name: str  # as forward declares it
    text: str  # as `--input` takes it: "float32[1,3,224,224]=randn:1"
    why: str  # one sentence for all arguments: why they were taken; GIVEN for --input


@dataclass(frozen=True, slots=True)
class ModelResult:
    """One model: loaded, run and compared, or why not. Times are in milliseconds."""

    path: str
    kind: str  # "torchscript", or what the file is instead
    device: str | None  # "cpu", "cuda:0"; None where nothing was loaded
    error: TorchlinkError | None  # None exactly when all went well
    inputs: tuple[TakenInput, ...] = ()
    input_tries: int | None = None  # how often forward was run to find its inputs; None where they were given
    outputs: tuple[Output, ...] = ()  # in order
    outputs_left_out: int = 0  # how many more there were
    output: object = (
        None  # all of it in the marshalling of docs/values.md; large tensors by their first values
    )
    method: str = "forward"  # that was called
    saved: str | None = None  # the file that --save-outputs has written
    expected: Comparison | None = None  # with the file of --expect
    against: Comparison | None = None  # with --against, or with --golden
    # The greatest difference between two calls with the same inputs, where the tolerances do not allow it; None where
    # they do, and where nothing is compared or recorded.
    spread: float | None = None
    recording: str | None = None  # where --record has kept inputs and outputs
    load_ms: float | None = None
    forward_ms: float | None = None  # the first call, in which torch.jit optimises
    again_ms: tuple[float, ...] = ()  # later calls with the same inputs; none where the first took long
    peak_rss_mb: float | None = None  # MiB
    printed: str = ""  # what model and libtorch wrote to stdout and stderr
    # What was done when it failed: "read", "library", "load", "device", "describe", "input", "forward", "again",
    # "expect" or "end"; None where it did not fail.
    stage: str | None = None
    signal: str | None = None  # that ended its process: "SIGSEGV"; of one that ran out of time, SIGKILL
    skipped: str = ""  # why it was not run, where that was asked for
    # The entry of an earlier run's report that this was read from; renderers of JSON give it as it was.
    recorded: Mapping[str, Any] | None = None

    @property
    def ok(self) -> bool:
        """Whether it loaded, ran, and gave what was expected; a skipped one is not wrong."""
        return self.error is None

    @property
    def max_abs_error(self) -> float | None:
        """The greatest difference of any element from what was expected; None where nothing could be compared."""
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
    loader: BuiltLoader | None  # None where there was nothing to run
    via: str  # "cxx" | "cmake" | "nim"
    models: tuple[ModelResult, ...]
    emulator: Emulator | None = None  # what ran the loader; None where this machine did
    compiler: str | None = None  # what compiled it: `g++ 12.2.0`
    shard: Shard | None = None  # which of all models these are
    interrupted: bool = False  # before all were done

    @property
    def ok(self) -> bool:
        """Whether every model is."""
        return all(model.ok for model in self.models)

    @property
    def summary(self) -> dict[str, int]:
        """How many models are ok, have failed, and were skipped."""
        skipped = sum(bool(model.skipped) for model in self.models)
        failed = sum(not model.ok for model in self.models)
        return {"ok": len(self.models) - failed - skipped, "failed": failed, "skipped": skipped}

    @property
    def exit_code(self) -> int:
        """0 all fine, 1 a verification failed, 2 a model could not be looked at."""
        return max((model.error.exit_code for model in self.models if model.error), default=0)
