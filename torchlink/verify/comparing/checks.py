"""Comparing a model's outputs with a file, another run or a recording, and recording them."""

from __future__ import annotations

import os
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from torchlink.errors import (
    DeviceError,
    FileError,
    InexpressibleError,
    MismatchError,
    NondeterministicError,
    ReferenceFailedError,
)
from torchlink.verify.comparing.expected import compare_expected
from torchlink.verify.comparing.golden import place_of, record
from torchlink.verify.comparing.references import ReferenceCall
from torchlink.verify.comparing.values import Comparison, compare_flat, compare_values, value_of
from torchlink.verify.specs import encoded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from torchlink.errors import TorchlinkError
    from torchlink.libtorch.facts import Libtorch
    from torchlink.verify.comparing.golden import Recording
    from torchlink.verify.comparing.values import OutputComparison
    from torchlink.verify.result import ModelResult, Request

SHOWN = 8  # outputs that an error names
REPRODUCIBLE = (
    "Make it reproducible (`model.eval()`, no random numbers, no state that a call leaves behind), or allow as much "
    "with --atol and --rtol."
)


class Called(NamedTuple):
    """The part of a loader that has called a model that the checks need."""

    ask: Callable[[str, str], Mapping[str, Any]]  # takes a command and the stage; raises an `error` event
    plain: Callable[[str], Mapping[str, Any]]  # takes a command; returns the answer, also an `error`
    again: Callable[[], bool]  # calls it once more with the same inputs; False if the time is up
    found: Callable[..., None]  # takes fields of the model's result as soon as they are known
    path: Path
    words: str  # the arguments as the loader reads them
    loading: tuple[str, ...]  # the commands that loaded the model into the loader
    libtorch: Libtorch
    recording: Recording | None = None  # to compare with
    entry: str = ""  # the model's name in an AOTInductor package


def check(called: Called, request: Request, result: ModelResult) -> None:
    """Compare and record what a model has returned, as requested.

    Raises:
        MismatchError: the outputs differ.
        NondeterministicError: two calls differ.
        ReferenceFailedError: the other run failed.
        DeviceError: the other run's device cannot be used.
    """
    from torchlink.compilation.cache import workspace

    with workspace() as work:
        errors = _Checks(called, request, result, work).errors()
    if errors:
        raise errors[0]


class _Checks:
    """The steps."""

    def __init__(self, called: Called, request: Request, result: ModelResult, work: Path) -> None:
        self.called = called
        self.request = request
        self.result = result
        self.work = work
        self.given: Mapping[str, Any] | None = None  # the inputs
        self.failed: list[TorchlinkError] = []  # comparisons that could not be made
        self.unequal = ""  # how two calls differ
        self.tolerances = request.tolerances
        if called.recording is not None:
            self.tolerances = request.tolerances.or_else(called.recording.tolerances)

    def errors(self) -> list[TorchlinkError]:
        """Compare, call the model again, record; returns the errors."""
        outputs = self.saved("outputs")
        expected, against = self.expected(outputs), self.against(outputs)
        self.again(outputs)
        errors = list(self.failed)
        if expected is not None and not expected.ok:
            errors.append(self.with_inputs(self.wrong(expected, "holds")))
        if against is not None and not against.ok:
            errors.append(self.wrong(against, "holds" if self.called.recording else "gives"))
        if self.request.record is not None and not errors:
            errors += self.record(self.request.record, outputs)
        return errors

    def saved(self, what: str) -> Any:
        """The loader's outputs as a value; their tensors are written to a file."""
        raw = self.work / what
        event = self.called.ask(f"save {what} {encoded(str(raw))}", "save")
        return value_of(event["value"], raw)

    def compared(self, actual: Any, wanted: Any) -> Iterator[OutputComparison]:
        """Compare part by part, or leaf by leaf for an AOTInductor package."""
        how = compare_values if self.result.kind == "torchscript" else compare_flat
        return how(actual, wanted, self.tolerances, self.called.plain)

    def expected(self, outputs: Any) -> Comparison | None:
        """Compare with the file of --expect."""
        if self.request.expected is None:
            return None
        try:
            found = compare_expected(
                outputs, self.request.expected, self.tolerances, self.called.plain, self.work / "expected"
            )
        except MismatchError as error:
            self.failed.append(self.with_inputs(error))
            return None
        self.called.found(expected=found)
        return found

    def against(self, outputs: Any) -> Comparison | None:
        """Compare with the run of --against, or with a recording."""
        if self.called.recording is not None:
            wanted = self.called.recording.outputs
            found = Comparison(self.called.recording.name, tuple(self.compared(outputs, wanted)))
            self.called.found(against=found)
            return found
        reference = self.request.against
        if reference is None:
            return None
        call = ReferenceCall(
            self.called.path,
            self.result.kind,
            self.result.device or "cpu",
            self.request.libraries,
            self.result.method,
            self.called.entry,
            self.called.words,
            self.called.loading,
            self.inputs(),
            self.work / "inputs",
            self.request.timeout,
            ((self.result.load_ms or 0.0) + (self.result.forward_ms or 0.0)) / 1000,
        )
        try:
            wanted = reference.outputs(call, self.work / "reference")
        except (ReferenceFailedError, DeviceError) as error:
            self.failed.append(error)
            self.called.found(against=Comparison(reference.name, failed=error.message))
            return None
        found = Comparison(reference.name, tuple(self.compared(outputs, wanted)))
        self.called.found(against=found)
        return found

    def inputs(self) -> Mapping[str, Any]:
        """The loader's description of the inputs; their tensors are written to a file."""
        if self.given is None:
            self.given = self.called.ask(f"save inputs {encoded(str(self.work / 'inputs'))}", "save")
        return self.given

    def record(self, directory: Path, outputs: Any) -> Iterator[TorchlinkError]:
        """Record inputs and outputs, unless a second call gave other numbers."""
        if self.unequal:
            yield NondeterministicError(
                "The model is nondeterministic: two calls with the same inputs differ "
                f"({self.unequal}), so nothing was recorded.",
                hint=REPRODUCIBLE,
            )
            return
        inputs, raw, model = self.inputs(), self.work / "inputs", self.called.path
        call = self.called.entry or self.result.method
        place = place_of(directory, model, call)
        about = {
            "torch": self.called.libtorch.version,
            "model": os.path.relpath(model.absolute(), directory.absolute().parent),
            "kind": self.result.kind,
            "method": self.result.method,
            "device": self.result.device,
            "inputs": [
                {"name": each.name, "input": each.text, "why": each.why} for each in self.result.inputs
            ],
            "strides": next(
                (each.split()[2:] for each in reversed(self.called.loading) if each.startswith("strides ")),
                [],
            ),
            "atol": self.request.tolerances.atol,
            "rtol": self.request.tolerances.rtol,
        }
        try:
            record(
                place,
                tuple(value_of(each, raw) for each in inputs["value"]),
                {name: value_of(each, raw) for name, each in (inputs.get("keywords") or {}).items()},
                outputs,
                about,
                force=self.request.force,
            )
        except (FileError, InexpressibleError) as error:
            yield error
            return
        self.called.found(recording=str(place))

    def again(self, outputs: Any) -> None:
        """Call the model once more with the same inputs: a model that differs from itself cannot be compared."""
        if not self.called.again():
            return
        second = Comparison("", tuple(self.compared(self.saved("again"), outputs)))
        if not second.ok:
            greatest = second.max_abs_error
            self.called.found(spread=inf if greatest is None else greatest)
            self.unequal = next(output.sentence() for output in second.outputs if not output.ok)

    def wrong(self, comparison: Comparison, gives: str) -> MismatchError:
        """The error for outputs that differ from the expected ones."""
        wrong = [output.sentence() for output in comparison.outputs if not output.ok]
        more = (f"and {len(wrong) - SHOWN} more",) if len(wrong) > SHOWN else ()
        details = (*wrong[:SHOWN], *more)
        if self.unequal and comparison.comparable:
            return NondeterministicError(
                "The model is nondeterministic: two calls with the same inputs differ "
                f"({self.unequal}), so it cannot be compared with {comparison.to}.",
                hint=REPRODUCIBLE,
                details=details,
            )
        return MismatchError(
            f"The outputs differ from what {comparison.to} {gives}.",
            hint="If the difference is due to rounding, raise --atol and --rtol."
            if comparison.comparable
            else "Compare the types and shapes that forward returns for these inputs.",
            details=details,
        )

    def with_inputs(self, error: MismatchError) -> MismatchError:
        """Add that the inputs were worked out: the file of expected values may have been made with others."""
        if self.request.inputs is None and self.result.inputs:
            taken = ", ".join(f"{each.name} = {each.text}" for each in self.result.inputs)
            error.message += f" The inputs were worked out by torchlink: {taken}."
            error.hint = "Give the inputs that the file was made with, with --input."
        return error
