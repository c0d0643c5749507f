"""Measure the calls of a model that has been proved: in its loader, then in the run that it is compared with."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from torchlink.errors import ForwardFailedError
from torchlink.verify.benching.figures import Batch, Bench, BenchRequest, Case, Figures, sized
from torchlink.verify.benching.settings import notes_on, settings_of
from torchlink.verify.comparing.references import Benched, ReferenceCall
from torchlink.verify.specs import encoded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torchlink.verify.comparing.references import ReferenceRun
    from torchlink.verify.specs import InputSpec


class Measured(NamedTuple):
    """The loader that has called a model, as far as measuring needs it."""

    ask: Callable[[str, str], Mapping[str, Any]]  # a command and the stage; an `error` event is raised
    found: Callable[[Bench], None]  # takes the figures as they are known
    positional: Sequence[InputSpec]  # that the model was called with
    keywords: Sequence[tuple[str, InputSpec]]
    names: Sequence[str]  # of the positional ones
    first_ms: float  # the first call of all
    device: str
    call: ReferenceCall  # without inputs
    environment: Mapping[str, str]  # of the loader
    emulated: str  # the command that runs the loader, where one does


def words_of(positional: Sequence[InputSpec], keywords: Sequence[tuple[str, InputSpec]]) -> str:
    """Arguments as the loader reads them."""
    words = [str(len(positional)), *(spec.to_wire() for spec in positional)]
    if keywords:
        words += [str(len(keywords)), *(f"{encoded(name)} {spec.to_wire()}" for name, spec in keywords)]
    return " ".join(words)


def measure(model: Measured, request: BenchRequest, reference: ReferenceRun | None) -> None:
    """Measure in the loader, and where there is another run in that.

    Raises:
        UsageError: the batch does not fit the model's arguments.
        ForwardFailedError: the model does not run with another size.
        ReferenceFailedError: the other run failed.
    """
    from torchlink.binary.platforms import host_cpu
    from torchlink.compilation.cache import workspace
    from torchlink.verify.scheduling import processors

    start = time.monotonic()
    settings = settings_of(model.ask("threads 0", "bench"))
    sizes = request.batch.sizes if request.batch else (None,)
    label = request.batch.label if request.batch else ""
    with workspace() as work:
        cases: list[Case] = []
        calls: list[Benched] = []
        if reference is not None and request.batch is not None:  # its first call of all is one like ours
            calls.append(_call(model, (0, 0, 0.0), (model.positional, model.keywords), work / "first"))
        for number, (size, arguments) in enumerate(zip(sizes, _arguments(model, request.batch), strict=True)):
            plan = (request.warmup, request.runs, request.seconds)
            try:
                event = model.ask(f"bench {_plan(plan)} {words_of(*arguments)}", "bench")
            except ForwardFailedError as error:
                if size is not None:
                    error.message = f"With --bench-batch {label}={size}: {error.message}"
                    error.hint = error.hint or "Give sizes that the model takes."
                if cases:
                    model.found(Bench(tuple(cases), settings, processors(), label))
                raise
            figures = figures_of(event, size)
            cases.append(Case(size, figures if size else figures._replace(first_ms=model.first_ms)))
            if reference is not None:
                raw = work / f"inputs{number}"
                calls.append(Benched(*plan, words_of(*arguments), _saved(model, raw), raw))
        bench = Bench(tuple(cases), settings, processors(), label)
        model.found(bench)
        if reference is not None:
            call = replace(model.call, spent=time.monotonic() - start)
            timings = reference.timings(call, calls, settings.threads)
            events = timings.events[len(calls) - len(cases) :]
            bench = bench._replace(
                cases=tuple(
                    case._replace(other=figures_of(event, case.size))
                    for case, event in zip(cases, events, strict=True)
                ),
                other=reference.name,
                other_settings=settings_of(timings.settings),
                other_load_ms=timings.load_ms,
            )
    notes = notes_on(bench, model.environment, model.device, model.emulated, host_cpu().flags)
    model.found(bench._replace(notes=tuple(notes)))


def _arguments(
    model: Measured, batch: Batch | None
) -> Iterator[tuple[Sequence[InputSpec], Sequence[tuple[str, InputSpec]]]]:
    if batch is None:
        yield model.positional, model.keywords
        return
    for size in batch.sizes:
        yield sized(model.positional, model.keywords, model.names, batch, size)


def _call(
    model: Measured,
    plan: tuple[int, int, float],
    arguments: tuple[Sequence[InputSpec], Sequence[tuple[str, InputSpec]]],
    raw: Path,
) -> Benched:
    """A call for the other run; the loader makes the tensors of its inputs."""
    words = words_of(*arguments)
    model.ask(f"bench {_plan((0, 0, 0.0))} {words}", "bench")
    return Benched(*plan, words, _saved(model, raw), raw)


def _saved(model: Measured, raw: Path) -> Mapping[str, Any]:
    return model.ask(f"save inputs {encoded(str(raw))}", "save")


def _plan(plan: tuple[int, int, float]) -> str:
    return f"{plan[0]} {plan[1]} {plan[2]:g}"


def figures_of(event: Mapping[str, Any], size: int | None) -> Figures:
    """What a loader, or Python, has measured."""
    peak = float(event["peak_rss_mb"])
    return Figures(
        float(event["first_ms"]),
        tuple(float(each) for each in event["times_ms"]),
        int(event["warmup"]),
        size or 1,
        peak if peak >= 0 else None,
    )
