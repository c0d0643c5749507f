"""One model in one loader process: load, work out inputs, call forward, compare."""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from torchlink.errors import (
    ForwardFailedError,
    NoInputFitsError,
    ResourcesError,
    RunFailedError,
    TorchlinkError,
    UsageError,
)
from torchlink.verify import failures
from torchlink.verify.operators import UnknownOperatorError, all_unknown, unloadable
from torchlink.verify.outputs import output_from
from torchlink.verify.result import GIVEN, Gpu, ModelResult, TakenInput
from torchlink.verify.session import LoaderDiedError
from torchlink.verify.specs import encoded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torchlink.libtorch.facts import Libtorch
    from torchlink.verify.benching.figures import Bench
    from torchlink.verify.comparing.golden import Recording
    from torchlink.verify.graph import Description
    from torchlink.verify.guessing.search import Guess
    from torchlink.verify.result import Request
    from torchlink.verify.session import Session
    from torchlink.verify.specs import InputSpec

# The signals that a model's own code may die of for an unsuitable input; SIGKILL is the kernel's, out of memory.
CRASHES = frozenset(
    -number for number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGBUS)
)
FORWARD = "forward"
LONG = 2000.0  # milliseconds; a forward that takes longer is not called again
SPARE = 4  # times the last call that must be left of --timeout for another one; the loader has it, too
MOST_LEFT = 1e12  # milliseconds, where there is no limit
MOST_CALLS_AGAIN = 3  # torch.jit profiles in the first call and optimises in the second
MOST_CRASHES = 3  # each costs a start and a load
# How often forward is run with inputs that are worked out: seconds count from the third try on.
LEAST_TRIES, MOST_TRIES, MOST_SECONDS = 3, 500, 5.0


def run_model(session: Session, path: Path, kind: str, request: Request, libtorch: Libtorch) -> ModelResult:
    """Verify one TorchScript file; any error is in the result."""
    return proved(ModelRun(session, request, libtorch, ModelResult(str(path), kind, None, None)), path)


def proved(run: ModelRun, path: Path) -> ModelResult:
    """The result of all steps, with any error."""
    session, request = run.session, run.request
    start = time.monotonic()
    if request.timeout is not None:
        session.limit(request.timeout)
    if request.memory_limit is not None:
        session.limit_memory(request.memory_limit)
    try:
        run.look(path)
        run.load(path)
        run.call(path)
        run.save()
        run.check(path)
        run.call_again()
        run.look_at_device()
        run.bench(path)
        run.stage = "end"
        session.finish(thoroughly=bool(request.libraries), keep=run.process_stays_unchanged)
    except ResourcesError:
        raise
    except TorchlinkError as error:
        run.result = replace(run.result, error=error, stage=run.stage)
    except LoaderDiedError as died:
        run.result = replace(run.result, error=run.death(died), stage=run.stage, signal=run.signal)
    seconds = round(time.monotonic() - start, 3)
    return replace(run.result, printed=run.result.printed or session.printed, seconds=seconds)


class Failed(NamedTuple):
    """Inputs that were worked out and that forward rejected."""

    error: TorchlinkError
    inputs: tuple[InputSpec, ...]
    result: ModelResult


class ModelRun:
    """The steps; they fill in `result`, and `stage` names the current one."""

    def __init__(self, session: Session, request: Request, libtorch: Libtorch, result: ModelResult) -> None:
        self.session = session
        self.request = request
        self.libtorch = libtorch
        self.result = result
        self.stage = "load"
        self.signal: str | None = None  # that killed the process last
        self.names: list[str] = []  # of forward's arguments
        self.schema: dict[str, Any] | None = None  # the same with their types, if the loader reports them
        self.taken: tuple[Sequence[InputSpec], Sequence[tuple[str, InputSpec]]] = (
            (),
            (),
        )  # the arguments of the last call of forward
        self.crashes = 0
        self.arguments = ""  # of the last call of forward, as the loader reads them
        self.loading: list[str] = []  # the commands that loaded the model, for another loader to repeat
        self.recording: Recording | None = None  # to compare with

    @property
    def process_stays_unchanged(self) -> bool:
        """Whether the model's process may be one that other models can be run in."""
        return self.result.device == "cpu" and self.request.may_share

    def ask(self, command: str, stage: str) -> dict[str, Any]:
        """Send a command; an `error` event is raised as an error."""
        self.stage = stage
        if stage == "load" or command.startswith("strides "):
            self.loading.append(command)
        event = self.session.ask(command)
        if event["event"] == "error":
            self.stage = str(event["stage"])
            if self.request.memory_limit is not None and failures.MEMORY.search(str(event["message"])):
                raise failures.memory_limit(self.request.memory_limit, self.stage)
            raise failures.exception(
                str(event["stage"]),
                str(event["message"]),
                self.libtorch,
                verbose=self.request.verbose,
                device=self.request.device,
            )
        return event

    def death(self, died: LoaderDiedError) -> TorchlinkError:
        """The error for a loader that died in the current stage."""
        if died.garbled:
            self.session.kill()
            return failures.garbled(died.printed)
        self.signal = failures.signal_name(-died.returncode) if died.returncode < 0 else None
        if self.session.timed_out and self.request.timeout is not None:
            return failures.timeout(self.request.timeout, self.stage)
        if self.request.memory_limit is not None and failures.MEMORY.search(died.printed):
            return failures.memory_limit(self.request.memory_limit, self.stage)
        return failures.death(died.returncode, died.printed, self.stage, self.libtorch)

    def look(self, path: Path) -> None:
        """Read what it is compared with, and check that a recording can be written, before any work is done."""
        call = self.request.model or self.request.method
        if self.request.golden is not None:
            from torchlink.verify.comparing.golden import read_recording

            self.recording = read_recording(self.request.golden, path, call)
        if self.request.record is not None:
            from torchlink.verify.comparing.golden import check_free, place_of

            check_free(place_of(self.request.record, path, call), force=self.request.force)

    def load(self, path: Path) -> None:
        """Load the libraries of operators, and the model."""
        self.loading = []
        if self.request.bench is not None and self.request.bench.threads is not None:
            self.ask(f"threads {self.request.bench.threads}", "bench")
        for library in self.request.libraries:
            try:
                self.ask(f"library {encoded(str(library.absolute()))}", "library")
            except RunFailedError as error:
                raise unloadable(library, error, self.libtorch) from None
        event = self.load_file(path)
        self.schema = event.get("schema")
        self.names = [str(name) for name in event["arguments"]]
        if self.request.method != FORWARD:
            self.select(path)
        self.result = replace(self.result, device=str(event["device"]), load_ms=float(event["load_ms"]))

    def load_file(self, path: Path) -> dict[str, Any]:
        """Have the loader load the model; returns its answer."""
        try:
            return self.ask(f"load {self.request.device} {encoded(str(path.absolute()))}", "load")
        except UnknownOperatorError as error:
            raise all_unknown(error, path, self.request.libraries) from None
        except ForwardFailedError as error:
            raise _of_damage(path, error) or error from None

    def call(self, path: Path) -> None:
        """Call forward with the inputs that were given, else with the first that fit.

        A guess that crashes the process is treated as one that raises: the next is tried in a new process.
        """
        if self.recording is not None:
            why, strides = f"recorded in {self.recording.place}", self.recording.strides
            if strides:
                self.ask(f"strides {len(strides)} {' '.join(strides)}", "describe")
            self._forward(self.recording.positional, why, self.recording.keywords)
            return
        if self.request.inputs is not None:
            from torchlink.verify.given import bind
            from torchlink.verify.graph import arguments_of

            schema = None if self.schema is None else arguments_of(self.schema)
            self.stage = "input"
            bound = bind(self.request.inputs, schema, self.request.method, path)
            self._forward(bound.positional, GIVEN, bound.keywords)
            return
        self.work_out(path)

    def work_out(self, path: Path) -> None:
        """Call forward with inputs that are worked out from the model."""
        from torchlink.verify.graph import parse_description
        from torchlink.verify.guessing.search import guesses

        description = parse_description(self.ask("describe", "describe"))
        failed: list[Failed] = []
        search = guesses(description)
        guess = next(search, None)
        start = time.monotonic()
        while guess is not None:
            error = self.try_inputs(guess, path, failed)
            if error is None:
                return
            enough = len(failed) >= MOST_TRIES or time.monotonic() - start > MOST_SECONDS
            if enough and len(failed) >= LEAST_TRIES:
                break
            try:
                guess = search.send(error.message if isinstance(error, ForwardFailedError) else "")
            except StopIteration:
                break
        if failed:  # show the inputs that belong to the error shown
            self.result = replace(failed[0].result, input_tries=len(failed))
        if failed and len(failed) == self.crashes:
            raise failed[-1].error
        raise _nothing_fits(description, failed)

    def try_inputs(self, guess: Guess, path: Path, failed: list[Failed]) -> TorchlinkError | None:
        """Run forward with a guess; if it does not fit, return the error, which is also added to `failed`."""
        try:
            self._forward(guess.inputs, guess.why, tries=len(failed) + 1)
        except ForwardFailedError as error:
            printed = self.session.cut()
            failed.append(Failed(error, guess.inputs, replace(self.result, printed=printed)))
        except LoaderDiedError as died:
            self.crashes += 1
            if self.session.timed_out or died.returncode not in CRASHES or self.crashes > MOST_CRASHES:
                raise
            result = replace(self.result, printed=self.session.printed)
            failed.append(Failed(self.death(died), guess.inputs, result))
            self.session.restart()
            self.load(path)
        else:
            return None
        return failed[-1].error

    def save(self) -> None:
        """Write the outputs to a file, if requested."""
        if self.request.save_outputs is not None:
            from torchlink.verify.saving import save_outputs

            save_outputs(lambda command: self.ask(command, "save"), self.request.save_outputs)
            self.result = replace(self.result, saved=str(self.request.save_outputs))

    def select(self, path: Path) -> None:
        """Have the loader call a method other than forward from now on."""
        self.stage = "method"
        event = self.session.ask(f"method {encoded(self.request.method)}")
        if event["event"] == "error":
            said = str(event["message"]).removeprefix("the model has ")
            raise UsageError(f"{path} has {said}.", hint="Name one of its methods with --method.")
        self.result = replace(self.result, method=self.request.method)
        self.schema = event["schema"]
        self.names = [str(argument["name"]) for argument in event["schema"]["arguments"]]

    def check(self, path: Path) -> None:
        """Compare and record, if requested."""
        if not any((self.request.expected, self.request.against, self.request.golden, self.request.record)):
            return
        from torchlink.verify.comparing.checks import Called, check

        def compare(command: str) -> Mapping[str, Any]:
            self.stage = "compare"
            return self.session.ask(command)

        def found(**fields: Any) -> None:
            self.result = replace(self.result, **fields)

        called = Called(
            self.ask,
            compare,
            self._again,
            found,
            path,
            self.arguments,
            tuple(self.loading),
            self.libtorch,
            self.recording,
            self.request.model or "",
        )
        check(called, self.request, self.result)

    def look_at_device(self) -> None:
        """Which GPU the model ran on, what it took there, and whether the outputs are there."""
        device = self.result.device
        if device in (None, "cpu"):
            return
        event = self.ask("gpu", "device")
        devices = {output.device for output in self.result.outputs if output.device is not None}
        used = event["memory_used_mb"]
        gpu = Gpu(event["name"], used, event["kernel_ran"] is True, devices == {device})
        self.result = replace(self.result, gpu=gpu)

    def bench(self, path: Path) -> None:
        """Measure how long calls take, where that was asked for."""
        if self.request.bench is None:
            return
        from torchlink.verify.benching.measuring import Measured, measure
        from torchlink.verify.comparing.references import ReferenceCall

        def found(bench: Bench) -> None:
            self.result = replace(self.result, bench=bench)

        call = ReferenceCall(
            path,
            self.result.kind,
            self.result.device or "cpu",
            self.request.libraries,
            self.result.method,
            self.request.model or "",
            self.arguments,
            tuple(self.loading),
            {},
            path,
            self.request.timeout,
        )
        positional, keywords = self.taken
        extra = [f"argument {number + 1}" for number in range(len(self.names), len(positional))]
        measured = Measured(
            self.ask,
            found,
            positional,
            keywords,
            (*self.names, *extra),
            self.result.forward_ms or 0.0,
            self.result.device or "cpu",
            call,
            self.request.environment or {},
            self.session.emulator,
        )
        measure(measured, self.request.bench, self.request.against)

    def call_again(self) -> None:
        """Call forward as a program would, more than once: the first call takes longer than later ones."""
        spent = (self.result.forward_ms or 0.0) + sum(self.result.again_ms)
        if spent < LONG:
            self._again(MOST_CALLS_AGAIN - len(self.result.again_ms), LONG - spent)

    def _again(self, count: int = 1, most: float = LONG) -> bool:
        """Call forward with the same inputs so often, or for so many milliseconds; False if too little time is left."""
        took = (self.result.forward_ms or 0.0, *self.result.again_ms)[-1]
        left = min(self.session.left * 1000, MOST_LEFT)
        if took > left / SPARE:  # a model that finished in time must not fail because of this
            return False
        event = self.ask(f"again {count} {most!r} {left!r} {self.arguments}", "again")
        again = tuple(float(each) for each in event["forward_ms"])
        self.result = replace(self.result, again_ms=(*self.result.again_ms, *again))
        return True

    def _forward(
        self,
        inputs: Sequence[InputSpec],
        why: str,
        keywords: Sequence[tuple[str, InputSpec]] = (),
        tries: int | None = None,
    ) -> None:
        extra = [f"argument {number + 1}" for number in range(len(self.names), len(inputs))]
        named = [*zip([*self.names, *extra], inputs, strict=False), *keywords]
        self.taken = (inputs, keywords)
        words = [str(len(inputs)), *(spec.to_wire() for spec in inputs)]
        if keywords:
            words += [str(len(keywords)), *(f"{encoded(name)} {spec.to_wire()}" for name, spec in keywords)]
        self.arguments = " ".join(words)
        taken = tuple(TakenInput(name, spec.to_text(), why) for name, spec in named)
        self.result = replace(self.result, inputs=taken, input_tries=tries)
        event = self.ask(f"forward {self.arguments}", "forward")
        peak = float(event["peak_rss_mb"])
        self.result = replace(
            self.result,
            outputs=tuple(output_from(output) for output in event["outputs"]),
            outputs_left_out=int(event["outputs_left_out"]),
            output=event.get("value"),
            forward_ms=float(event["forward_ms"]),
            peak_rss_mb=peak if peak >= 0 else None,
        )


def _of_damage(path: Path, error: ForwardFailedError) -> ForwardFailedError | None:
    """The error for a file that cannot be loaded because it is damaged; None if no damage is found."""
    from torchlink.model.archive import open_archive

    archive = open_archive(path)
    entry = archive.damaged() if archive else None
    if entry is None:
        return None
    return ForwardFailedError(
        f"{path} is damaged: its entry {entry} does not match its checksum.",
        hint="Copy or download the model again.",
        details=(error.message, *error.details),
    )


def _nothing_fits(description: Description, failed: Sequence[Failed]) -> NoInputFitsError:
    """The error after the last try: that of the most likely inputs, which came first."""
    arguments = description.arguments
    declared = ", ".join(f"{argument.name}: {argument.type}" for argument in arguments)
    if not failed:
        return NoInputFitsError(
            f"The model was loaded but not run: no input could be worked out for forward({declared}).",
            hint="Name every argument, for example: --input 'float32[1,3,224,224]' --input 3",
        )
    first = failed[0]
    tried = " ".join(f"--input {_shell(spec.to_text())}" for spec in first.inputs)
    sentences = {each.error.message for each in failed}
    if len(failed) > 1 and len(sentences) == 1:
        return NoInputFitsError(
            f"The model was loaded but not run: with each of {len(failed)} different inputs {first.error.message}",
            hint="The model raises this itself, for any input: see the line of its code above. "
            + first.error.hint,
            details=first.error.details,
        )
    said = f"With the most likely, {tried}, {first.error.message}"
    if isinstance(first.error, RunFailedError):
        said = f"With the most likely, {tried}: {first.error.message[0].lower()}{first.error.message[1:]}"
    names = ", then ".join(f"{argument.name} ({argument.type})" for argument in arguments)
    return NoInputFitsError(
        f"The model was loaded but not run: none of the {len(failed)} inputs that were tried fits "
        f"forward({declared}). {said}",
        hint=f"Give the inputs of the model's training or export with --input, one for each argument: {names}.",
        details=first.error.details,
    )


def _shell(text: str) -> str:
    import shlex

    return shlex.quote(text)
