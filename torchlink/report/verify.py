"""A verification as text to read in a terminal or a log, or as JSON."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from torchlink.lint.finding import Severity
from torchlink.report.ansi import BOLD, DIM, GREEN, RED, paint
from torchlink.report.libtorch import libtorch_to_json
from torchlink.report.lint_json import clean, finding_to_json
from torchlink.report.plain import plural, visible
from torchlink.verify.result import GIVEN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torchlink.lint.finding import Finding
    from torchlink.verify.result import ModelResult, VerifyReport

LABEL = 9  # columns
DETAILS = 12  # lines of an exception's text that are shown
PRINTED = 5  # lines of what a model printed that are shown
OUTPUTS = 40  # outputs that are shown
WAYS = {"cxx": "", "cmake": " through a CMake project", "nim": " through a Nim project"}


def to_json(report: VerifyReport, findings: Sequence[Finding] | None = None) -> dict[str, object]:
    """The JSON contract's object; with exit code 2 it has the first such `error`, too.

    Args:
        report: what to show.
        findings: what lint says of the loader; None where it was not linted.
    """
    loader = report.loader
    result: dict[str, object] = {
        "schema": 1,
        "ok": report.ok and not (findings and counts(findings)["error"]),
        "libtorch": libtorch_to_json(report.libtorch),
        "loader": None
        if loader is None
        else {
            "cached": loader.cached,
            "compile_seconds": loader.compile_seconds,
            "command": loader.command,
            "emulator": report.emulator.to_json() if report.emulator else None,
        },
        "lint": None
        if findings is None
        else {
            **counts(findings),
            "findings": clean([finding_to_json(finding) for finding in findings]),
        },
        "models": [model_to_json(model) for model in report.models],
    }
    unseen = next(
        (model.error for model in report.models if model.error and model.error.exit_code == 2), None
    )
    if unseen:
        result["error"] = unseen.to_json()
    return result


def counts(findings: Sequence[Finding]) -> dict[str, int]:
    """How many findings there are of each severity, the worst first."""
    return {
        severity.value: sum(finding.severity is severity for finding in findings)
        for severity in reversed(Severity)
    }


def model_to_json(model: ModelResult) -> dict[str, object]:
    """One entry of `models`."""
    return {
        "path": model.path,
        "kind": model.kind,
        "device": model.device,
        "ok": model.ok,
        "error": model.error.to_json() if model.error else None,
        "inputs": [{"name": taken.name, "input": taken.text, "why": taken.why} for taken in model.inputs],
        "outputs": [dict(output) for output in model.outputs],
        "max_abs_error": None if model.max_abs_error == float("inf") else model.max_abs_error,
        "load_ms": model.load_ms,
        "forward_ms": model.forward_ms,
        "peak_rss_mb": model.peak_rss_mb,
        "printed": model.printed,
    }


def to_text(
    report: VerifyReport,
    findings: Sequence[Finding] | None = None,
    *,
    color: bool = False,
    verbose: bool = False,
) -> str:
    """What was built, and each model with its inputs, outputs, times or error.

    Args:
        report: what to show.
        findings: what lint says of the loader; None where it was not linted.
        color: write ANSI colours; only for a terminal.
        verbose: show all lines of an exception's text.
    """
    libtorch = report.libtorch
    lines = [
        _row(
            "libtorch",
            visible(f"{libtorch.version or 'of unknown version'} in {libtorch.root} ({libtorch.found_by})"),
        ),
    ]
    if report.loader is not None:
        origin = (
            "from the cache" if report.loader.cached else f"built in {report.loader.compile_seconds:.1f} s"
        )
        lines.append(_row("loader", origin + WAYS[report.via]))
    if report.loader is not None and report.emulator is not None:
        command = shlex.join(report.emulator.command)
        lines.append(_row("run by", visible(f"{command}: emulated, for it is for {report.emulator.machine}")))
    if report.loader is not None and findings:
        lines += _lint(findings, str(report.loader.path), color=color)
    for model in report.models:
        lines += ["", *_model(model, color=color, verbose=verbose)]
    # Every model says "ok" above, so nothing else tells why the command fails.
    if report.ok and findings and counts(findings)["error"]:
        lines += ["", paint("exit 1: lint finds an error in the loader", RED, color=color)]
    return "\n".join(lines) + "\n"


def _lint(findings: Sequence[Finding], loader: str, *, color: bool) -> Iterator[str]:
    """The errors that lint finds in the loader, and how to see the rest."""
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    for finding in errors:
        yield _row("lint", paint(visible(f"{finding.rule}: {finding.message}"), RED, color=color))
        yield _row("", f"-> {visible(finding.fix)}")
    rest = len(findings) - len(errors)
    if rest:
        yield _row("lint", f"{plural(rest, 'finding')}: torchlink lint {visible(shlex.quote(loader))}")


def _model(model: ModelResult, *, color: bool, verbose: bool = False) -> Iterator[str]:
    verdict = paint("ok", GREEN, color=color) if model.ok else paint("FAILED", RED, color=color)
    yield f"{paint(visible(model.path), BOLD, color=color)}: {verdict}"
    if model.load_ms is not None:
        yield _row("loaded", f"on {visible(str(model.device))} in {model.load_ms:.1f} ms")
    for number, line in enumerate(_inputs(model)):
        yield _row("" if number else "input", visible(line))
    if model.forward_ms is not None:
        memory = "" if model.peak_rss_mb is None else f", peak memory {model.peak_rss_mb:.0f} MiB"
        yield _row("forward", f"{model.forward_ms:.1f} ms{memory}")
    shown = model.outputs[:OUTPUTS]
    for output in shown:
        yield from _output(output, color=color)
    more = len(model.outputs) - len(shown) + model.outputs_left_out
    if more:
        yield _row("", f"and {plural(more, 'more output')}")
    if model.max_abs_error is not None:
        yield _row("compared", f"greatest absolute difference {model.max_abs_error:.3g}")
    yield from _error(model, color=color, verbose=verbose)
    told = model.error.details if model.error else ()
    printed = [line for line in model.printed.splitlines() if line.strip() and line not in told]
    for number, line in enumerate(printed[-PRINTED:]):
        yield _row("printed" if number == 0 else "", paint(visible(line), DIM, color=color))


def _inputs(model: ModelResult) -> list[str]:
    """One line an argument; where torchlink worked them out, with the reason."""
    reasons = {taken.why for taken in model.inputs} - {GIVEN}
    if reasons:
        return "; ".join(reasons).split("; ")
    return [f"{taken.name} = {taken.text}" for taken in model.inputs]


def _output(output: Mapping[str, Any], *, color: bool) -> Iterator[str]:
    label = visible(str(output["label"]))
    if output["type"] != "tensor":
        value = "" if output["value"] is None else visible(_number(output["value"]))
        yield _row("output", f"{_name(label)}{visible(str(output['type']))} {value}")
        return
    shape = ",".join(map(str, output.get("shape", ())))
    where = f" on {output['device']}" if "device" in output else ""
    yield _row("output", _name(label) + visible(f"{output.get('dtype', 'tensor')}[{shape}]{where}"))
    if "note" in output:
        yield _row("", paint(visible(str(output["note"])), DIM, color=color))
    if output.get("values"):
        count = 1
        for size in output["shape"]:
            count *= size
        values = " ".join(_number(value) for value in output["values"])
        yield _row("", visible(values) + (" …" if count > len(output["values"]) else ""))
    if output.get("mean") is not None:
        yield _row(
            "", visible(", ".join(f"{name} {_number(output[name])}" for name in ("min", "max", "mean")))
        )
    if output.get("non_finite"):
        yield _row("", paint(visible(f"{output['non_finite']} values are not finite"), RED, color=color))


def _error(model: ModelResult, *, color: bool, verbose: bool) -> Iterator[str]:
    if model.error is None:
        return
    yield _row("error", paint(visible(model.error.message), RED, color=color))
    for line in model.error.details[0 if verbose else -DETAILS :]:
        yield _row("", visible(line))
    if model.error.hint:
        yield _row("", f"-> {visible(model.error.hint)}")


def _name(label: str) -> str:
    """Where an output stands; the only one needs no name."""
    return "" if label == "output" else f"{label.removeprefix('output').removeprefix('.')}: "


def _number(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"{_number(value[0])}{'' if str(value[1]).startswith('-') else '+'}{_number(value[1])}i"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _row(label: str, text: str) -> str:
    return f"  {label:<{LABEL}} {text}".rstrip()
