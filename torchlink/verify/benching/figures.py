"""What `--bench` is asked for and what it has found; times are in milliseconds."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from torchlink.errors import UsageError
from torchlink.verify.specs import DictInput, FileInput, ListInput, TensorInput, TupleInput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torchlink.verify.options import BenchOptions
    from torchlink.verify.specs import InputSpec

WARMUP, RUNS = 10, 100  # calls, where nobody says how many
SECONDS = 5.0  # after which there are fewer; 1.25 for those before
MOST_CALLS = 1_000_000
MOST_THREADS = 4096
MOST_SIZE = 1 << 24
MOST_DIMENSION = 63
MOST_DIGITS = 10
ALL = "*"
EXAMPLE = "Write ARGUMENT:DIMENSION=SIZE,…, such as x:0=1,8,32."


class Batch(NamedTuple):
    """Arguments whose tensors get other sizes in one dimension."""

    arguments: tuple[str, ...]  # ("*",) for all that have the dimension
    dimension: int
    sizes: tuple[int, ...]

    @property
    def label(self) -> str:
        """As it is written, without the sizes: `x:0`."""
        return f"{','.join(self.arguments)}:{self.dimension}"


class BenchRequest(NamedTuple):
    """How calls are measured."""

    warmup: int = WARMUP
    runs: int = RUNS
    seconds: float = SECONDS  # 0: no limit
    threads: int | None = None  # None: as many as libtorch takes
    batch: Batch | None = None


class Figures(NamedTuple):
    """Calls of one model with the same arguments."""

    first_ms: float  # the first of them; of the model's own size the first in the process
    times_ms: tuple[float, ...]  # those that count, in order
    warmup: int  # calls before these
    samples: int = 1  # in a call
    peak_rss_mb: float | None = None  # MiB, of the process so far

    def percentile(self, share: float) -> float:
        """The time within which this share of the calls was done, by nearest rank."""
        ordered = sorted(self.times_ms)
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]

    @property
    def mean_ms(self) -> float:
        """Of the calls that count."""
        return sum(self.times_ms) / len(self.times_ms)

    @property
    def throughput(self) -> float:
        """Samples a second; where no batch size is known a call is one."""
        return self.samples * 1000 / max(self.mean_ms, 1e-9)


class Case(NamedTuple):
    """One size, here and in the other run."""

    size: int | None  # None: the inputs as they are
    here: Figures
    other: Figures | None = None


class Settings(NamedTuple):
    """What of a process's settings concerns its speed."""

    threads: int
    interop_threads: int | None = None
    backend: str = ""  # of libtorch's thread pool: "OpenMP"
    cpu_capability: str = ""  # "AVX2", "AVX512", "DEFAULT"
    openmp: tuple[str, ...] = ()  # files of OpenMP runtimes in the process
    build: Mapping[str, str] = {}  # of libtorch: {"BUILD_TYPE": "Release", "USE_MKLDNN": "1", …}
    mkl: bool | None = None  # whether there is one; None: not known


class Bench(NamedTuple):
    """All figures of a model."""

    cases: tuple[Case, ...]
    settings: Settings
    processors: int  # that the process may use
    batch: str = ""  # what the sizes are of: "x:0"
    other: str = ""  # what the other run is; empty where there is none
    other_settings: Settings | None = None
    other_load_ms: float | None = None
    notes: tuple[str, ...] = ()  # what may explain slow calls


def parse_batch(text: str) -> Batch:
    """`x:0=1,8,32`, `x,mask:0=8`, `*:0=8`.

    Raises:
        UsageError: it is written otherwise.
    """
    left, equals, right = text.rpartition("=")
    names, colon, dimension = left.rpartition(":")
    arguments = tuple(name.strip() for name in names.split(","))
    numbers = [_whole(part) for part in (dimension, *right.split(","))]
    if not (equals and colon and all(arguments)) or None in numbers:
        raise UsageError(f"--bench-batch {text}: not a batch.", hint=EXAMPLE)
    at, *sizes = (number or 0 for number in numbers)
    if not all(1 <= size <= MOST_SIZE for size in sizes) or at > MOST_DIMENSION:
        raise UsageError(f"--bench-batch {text}: a size or the dimension is out of range.", hint=EXAMPLE)
    return Batch(arguments, at, tuple(dict.fromkeys(sizes)))


def _whole(text: str) -> int | None:
    """A number of few digits."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < MOST_DIGITS else None


def bench_request(options: BenchOptions) -> BenchRequest | None:
    """What the options ask for; None without `--bench`.

    Raises:
        UsageError: an option has no such value, or is there without `--bench`.
    """
    counts = (
        ("--bench-runs", options.runs, 1, MOST_CALLS),
        ("--bench-warmup", options.warmup, 0, MOST_CALLS),
        ("--bench-threads", options.threads, 1, MOST_THREADS),
    )
    if not options.bench:
        alone = [name for name, value, *_ in counts if value is not None]
        alone += ["--bench-batch"] if options.batch is not None else []
        if alone:
            raise UsageError(f"{alone[0]} goes with --bench.", hint="Add --bench.")
        return None
    for name, value, least, most in counts:
        if value is not None and not least <= value <= most:
            raise UsageError(f"{name} {value}: out of range.", hint=f"Give {least} to {most}.")
    return BenchRequest(
        WARMUP if options.warmup is None else options.warmup,
        RUNS if options.runs is None else options.runs,
        SECONDS if options.runs is None else 0.0,
        options.threads,
        None if options.batch is None else parse_batch(options.batch),
    )


def sized(
    positional: Sequence[InputSpec],
    keywords: Sequence[tuple[str, InputSpec]],
    names: Sequence[str],
    batch: Batch,
    size: int,
) -> tuple[list[InputSpec], list[tuple[str, InputSpec]]]:
    """The arguments with this size where the batch names them.

    Args:
        positional: arguments.
        keywords: with their names.
        names: of the positional ones.
        batch: what to change.
        size: in that dimension.

    Raises:
        UsageError: there is no such argument, or it has no tensor with that dimension.
    """
    taken = [*zip(names, positional, strict=False), *keywords]
    known = [name for name, _ in taken]
    every = batch.arguments == (ALL,)
    changed = dict.fromkeys(() if every else batch.arguments, False)
    unknown = next((name for name in changed if name not in known), None)
    if unknown is not None:
        raise UsageError(
            f"--bench-batch {batch.label}: the model was given no argument {unknown}.",
            hint=f"Its arguments are {', '.join(known) or 'none'}; * means all of them.",
        )
    result: list[InputSpec] = []
    for name, spec in taken:
        if not every and name not in changed:
            result.append(spec)
            continue
        other = _sized(spec, batch.dimension, size)
        changed[name] = other != spec
        result.append(other)
    missing = not any(changed.values()) if every else not all(changed.values())
    if missing:
        name = ALL if every else next(name for name, done in changed.items() if not done)
        which = "no argument has" if every else f"the argument {name} has no"
        raise UsageError(
            f"--bench-batch {batch.label}: {which} {'a ' if every else ''}tensor with a dimension {batch.dimension}.",
            hint="Dimensions count from 0; look at the inputs that verify prints without --bench.",
        )
    count = len(positional)
    return result[:count], list(zip((name for name, _ in keywords), result[count:], strict=True))


def _sized(spec: InputSpec, dimension: int, size: int) -> InputSpec:
    """All tensors of an argument that have the dimension, with this size in it."""
    match spec:
        case TensorInput():
            return replace(spec, sized=(dimension, size)) if len(spec.shape) > dimension else spec
        case FileInput():
            other = _sized(spec.alone, dimension, size)
            return spec if other == spec.alone else other
        case ListInput() | TupleInput():
            return replace(spec, items=tuple(_sized(item, dimension, size) for item in spec.items))
        case DictInput():
            return replace(
                spec, items=tuple((key, _sized(item, dimension, size)) for key, item in spec.items)
            )
        case _:
            return spec
