"""A verification as text to read in a terminal or a log, or as JSON."""

from __future__ import annotations

import shlex
from math import inf, isfinite, prod
from typing import TYPE_CHECKING

from torchlink.lint.finding import Severity
from torchlink.report.find import libtorch_to_json
from torchlink.report.lint_json import clean, finding_to_json
from torchlink.report.plain import BOLD, DIM, GREEN, RED, paint, plural, visible
from torchlink.shown import quoted, shortened
from torchlink.verify.comparing.values import number as difference
from torchlink.verify.result import GIVEN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torchlink.lint.finding import Finding
    from torchlink.verify.comparing.values import Comparison
    from torchlink.verify.outputs import Output
    from torchlink.verify.result import Gpu, ModelResult, VerifyReport

LABEL = 9  # columns
DETAILS = 12  # lines of an exception's text that are shown
PRINTED = 5  # lines of what a model printed that are shown
LONGEST_INPUT = 400  # characters of an argument that are shown
OUTPUTS = 40  # outputs that are shown
BRIEF = 3  # outputs that a line has room for
NAMED = 5  # models that the last line names
WAYS = {"cxx": "", "cmake": " through a CMake project", "nim": " through a Nim project"}


def to_json(report: VerifyReport, findings: Sequence[Finding] | None = None) -> dict[str, object]:
    """The object of the JSON contract; with exit code 2 it also has the first such `error`.

    Args:
        report: what to show.
        findings: lint's findings for the loader; None if it was not linted.
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
        "summary": report.summary,
        **shard_to_json(report),
    }
    if report.interrupted:
        result |= {"ok": False, "interrupted": True}
    unseen = next(
        (model.error for model in report.models if model.error and model.error.exit_code == 2), None
    )
    if unseen:
        result["error"] = unseen.to_json()
    return result


def shard_to_json(report: VerifyReport) -> dict[str, object]:
    """`shard`, if the report covers only a part of the models."""
    return {"shard": report.shard._asdict()} if report.shard else {}


def counts(findings: Sequence[Finding]) -> dict[str, int]:
    """The number of findings of each severity, the most severe first."""
    return {
        severity.value: sum(finding.severity is severity for finding in findings)
        for severity in reversed(Severity)
    }


def model_to_json(model: ModelResult) -> dict[str, object]:
    """One entry of `models`; an entry of an earlier run unchanged."""
    if model.recorded is not None:
        return dict(model.recorded)
    return {
        "path": model.path,
        "kind": model.kind,
        "method": model.method,
        "device": model.device,
        "ok": None if model.skipped else model.ok,
        "stage": model.stage,
        "signal": model.signal,
        **({"skipped": model.skipped} if model.skipped else {}),
        **({"failed_first": model.failed_first} if model.failed_first else {}),
        "error": model.error.to_json() if model.error else None,
        "inputs": [{"name": taken.name, "input": taken.text, "why": taken.why} for taken in model.inputs],
        "input_tries": model.input_tries,
        "outputs": [output_to_json(output) for output in model.outputs],
        "output": model.output,
        "saved_outputs": model.saved,
        "max_abs_error": None if model.max_abs_error == float("inf") else model.max_abs_error,
        "expected": comparison_to_json(model.expected) if model.expected else None,
        "against": comparison_to_json(model.against) if model.against else None,
        "nondeterministic": _difference(model.spread),
        "recording": model.recording,
        "load_ms": model.load_ms,
        "forward_ms": model.forward_ms,
        "again_ms": list(model.again_ms),
        "peak_rss_mb": model.peak_rss_mb,
        "seconds": model.seconds,
        "gpu": model.gpu._asdict() if model.gpu else None,
        "bench": _bench(model),
        "printed": model.printed,
    }


def _bench(model: ModelResult) -> dict[str, object] | None:
    """A model's `bench`."""
    if model.bench is None:
        return None
    from torchlink.report.verify_bench import bench_to_json

    return bench_to_json(model.bench)


def comparison_to_json(comparison: Comparison) -> dict[str, object]:
    """A model's `expected` or `against`; an infinite difference is a string, one that cannot be computed is null."""
    return {
        "to": comparison.to,
        "ok": comparison.ok,
        "max_abs_error": _difference(comparison.max_abs_error),
        "max_rel_error": _difference(comparison.max_rel_error),
        "error": comparison.failed or None,
        "outputs": [
            {
                "label": output.label,
                "ok": output.ok,
                "problem": output.problem or None,
                "note": output.note or None,
                "max_abs_error": _difference(output.max_abs_error),
                "worst_at": output.worst_at,
                "max_rel_error": _difference(output.max_rel_error),
                "worst_rel_at": output.worst_rel_at,
                "mismatched": output.mismatched,
                "elements": output.elements,
                "atol": output.atol,
                "rtol": output.rtol,
            }
            for output in comparison.outputs
        ],
    }


def _difference(value: float | None) -> float | str | None:
    return "Infinity" if value == inf else value


def output_to_json(output: Output) -> dict[str, object]:
    """One entry of a model's `outputs`; numbers that are not finite are strings, complex ones pairs."""
    entry: dict[str, object] = {"label": output.label, "path": list(output.path), "type": output.type}
    if output.type != "tensor":
        return entry | {"value": _json(output.value)}
    about = {"device": output.device, "dtype": output.dtype}
    entry |= {name: value for name, value in about.items() if value is not None}
    if output.shape is not None:
        entry |= {"shape": list(output.shape), "values": [_json(value) for value in output.values]}
        entry |= {"min": output.min, "max": output.max, "mean": output.mean, "non_finite": output.non_finite}
    return entry | ({"note": output.note} if output.note else {})


def _json(value: object) -> object:
    if isinstance(value, complex):
        return [_json(value.real), _json(value.imag)]
    return str(value) if isinstance(value, float) and not isfinite(value) else value


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
        findings: lint's findings for the loader; None if it was not linted.
        color: write ANSI colours; only for a terminal.
        verbose: show all lines of an exception's text.
    """
    models = [model_to_text(model, color=color, verbose=verbose) for model in report.models]
    return "".join([head(report, findings, color=color), *models, tail(report, findings, color=color)])


def head(report: VerifyReport, findings: Sequence[Finding] | None = None, *, color: bool = False) -> str:
    """What was built; the arguments are those of `to_text`."""
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
        lines.append(
            _row(
                "run by", visible(f"{command}: emulated, because the loader is for {report.emulator.machine}")
            )
        )
    if report.loader is not None and findings:
        lines += _lint(findings, str(report.loader.path), color=color)
    return "\n".join(lines) + "\n"


def model_to_text(model: ModelResult, *, color: bool = False, verbose: bool = False) -> str:
    """One model, after an empty line."""
    return "\n".join(["", *_model(model, color=color, verbose=verbose)]) + "\n"


def tail(report: VerifyReport, findings: Sequence[Finding] | None = None, *, color: bool = False) -> str:
    """The number of models that are ok, and why the command fails although all are."""
    lines: list[str] = []
    if len(report.models) > 1 or report.interrupted:
        good = report.ok and not report.interrupted
        lines += [
            "",
            paint(
                counted(report.models, interrupted=report.interrupted), GREEN if good else RED, color=color
            ),
        ]
    if report.ok and findings and counts(findings)["error"]:
        lines += ["", paint("exit 1: lint finds an error in the loader", RED, color=color)]
    return "\n".join(lines) + "\n" if lines else ""


def models_to_text(models: Sequence[ModelResult], *, interrupted: bool = False, color: bool = False) -> str:
    """Models of earlier runs as a table with the totals."""
    width = max((len(visible(model.path)) for model in models), default=0)
    good = not interrupted and all(model.ok for model in models)
    totals = counted(models, interrupted=interrupted)
    return "".join(
        [
            f"{titles(width)}\n",
            *(model_line(model, width, color=color) for model in models),
            f"\n{paint(totals, GREEN if good else RED, color=color)}\n",
        ]
    )


def counted(models: Sequence[ModelResult], *, interrupted: bool = False) -> str:
    """How many models are ok, and which are not: `2 of 3 models ok, 1 FAILED: c.pt`."""
    failed = [model.path for model in models if not model.ok]
    skipped, count = sum(bool(model.skipped) for model in models), len(models)
    more = [f"and {len(failed) - NAMED} more"] if len(failed) > NAMED else []
    names = ", ".join([*map(visible, failed[:NAMED]), *more])
    parts = [f"{count - len(failed) - skipped} of {count} models ok"]
    parts += [f"{skipped} skipped"] if skipped else []
    parts += [f"{len(failed)} FAILED: {names}"] if failed else []
    return ", ".join([*(["interrupted"] if interrupted else []), *parts])


def titles(width: int) -> str:
    """The line above those of `model_line`."""
    return f"{'':<7} {'model':<{width}} {'load':>9} {'forward':>9} {'later':>9} {'memory':>9}  output"


def model_line(model: ModelResult, width: int, *, color: bool = False, verbose: bool = False) -> str:
    """One of many models on one line, and below it why it failed.

    Args:
        model: what to show.
        width: columns for its path.
        color: write ANSI colours.
        verbose: show all lines of an exception's text.
    """
    verdict, paints = ("skipped", DIM) if model.skipped else ("ok", GREEN) if model.ok else ("FAILED", RED)
    times = [model.load_ms, model.forward_ms, min(model.again_ms, default=None)]
    cells = [f"{'' if each is None else _time(each):>9}" for each in times]
    cells.append(f"{'' if model.peak_rss_mb is None else f'{model.peak_rss_mb:.0f} MiB':>9}")
    said = visible(model.skipped) if model.skipped else _brief_outputs(model)
    line = f"{paint(f'{verdict:<7}', paints, color=color)} {visible(model.path):<{width}} {' '.join(cells)}  {said}"
    lines = [line.rstrip(), *_error(model, color=color, verbose=verbose)]
    if model.failed_first:
        first = f"It failed first, in a process that had run other models: {model.failed_first}"
        lines.append(_row("note", visible(first)))
    return "\n".join(lines) + "\n"


def _brief_outputs(model: ModelResult) -> str:
    """The first outputs, by type and shape; an earlier run's are in its JSON."""
    if model.recorded is not None:
        return ""
    shown = [
        visible(
            f"{output.dtype or 'tensor'}[{','.join(map(str, output.shape or ()))}]"
            if output.type == "tensor"
            else output.type
        )
        for output in model.outputs[:BRIEF]
    ]
    more = len(model.outputs) - len(shown) + model.outputs_left_out
    return ", ".join([*shown, *([f"and {more} more"] if more else [])])


def _lint(findings: Sequence[Finding], loader: str, *, color: bool) -> Iterator[str]:
    """The errors that lint finds in the loader, and how to see the rest."""
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    for finding in errors:
        yield _row("lint", paint(visible(f"{finding.rule}: {finding.message}"), RED, color=color))
        yield _row("", f"-> {visible(finding.fix)}")
    rest = len(findings) - len(errors)
    if rest:
        yield _row("lint", f"{plural(rest, 'finding')}: torchlink lint {quoted(loader)}")


def _model(model: ModelResult, *, color: bool, verbose: bool = False) -> Iterator[str]:
    verdict = paint("ok", GREEN, color=color) if model.ok else paint("FAILED", RED, color=color)
    yield f"{paint(visible(model.path), BOLD, color=color)}: {verdict}"
    if model.load_ms is not None:
        yield _row("loaded", f"on {visible(str(model.device))} in {model.load_ms:.1f} ms")
    for number, line in enumerate(_inputs(model)):
        yield _row("" if number else "input", visible(line))
    if model.forward_ms is not None:
        memory = "" if model.peak_rss_mb is None else f", peak memory {model.peak_rss_mb:.0f} MiB"
        then = f" first, {_time(min(model.again_ms))} later" if model.again_ms else ""
        yield _row("forward", f"{_time(model.forward_ms)}{then}{memory}")
    if model.gpu is not None:
        yield _row("gpu", visible(_gpu(model.gpu, str(model.device))))
    shown = model.outputs[:OUTPUTS]
    for output in shown:
        yield from _output(output, color=color)
    more = len(model.outputs) - len(shown) + model.outputs_left_out
    if more:
        yield _row("", f"and {plural(more, 'more output')}")
    if model.saved is not None:
        yield _row("saved", visible(model.saved))
    yield from _compared(model, color=color)
    yield from _timed(model)
    yield from _error(model, color=color, verbose=verbose)
    told = model.error.details if model.error else ()
    printed = [line for line in model.printed.splitlines() if line.strip() and line not in told]
    for number, line in enumerate(printed[-PRINTED:]):
        yield _row("printed" if number == 0 else "", paint(visible(line), DIM, color=color))


def _timed(model: ModelResult) -> Iterator[str]:
    """How long its calls take."""
    if model.bench is None:
        return
    from torchlink.report.verify_bench import bench_lines

    for number, line in enumerate(bench_lines(model.bench)):
        yield _row("" if number else "bench", visible(line))


def _gpu(gpu: Gpu, device: str) -> str:
    """Which one, and what is known to have happened there."""
    used = None if gpu.memory_used_mb is None else f"{gpu.memory_used_mb:.0f} MiB of its memory used"
    ran = "a kernel ran" if gpu.kernel_ran else "no kernel ran"
    outputs = f"the outputs are on {device}" if gpu.outputs_there else f"not all outputs are on {device}"
    return ", ".join(filter(None, [gpu.name or device, used, ran, outputs]))


def _compared(model: ModelResult, *, color: bool) -> Iterator[str]:
    """What the model was compared with, and where it is recorded."""
    for comparison in (model.expected, model.against):
        if comparison is not None and not comparison.failed:
            yield _row("compared", _comparison(comparison, color=color))
            for note in comparison.notes:
                yield _row("", visible(note))
    if model.spread is not None and model.ok:
        fact = f"nondeterministic: two calls differ by up to {difference(model.spread)}"
        yield _row("", paint(fact, RED, color=color))
    if model.recording is not None:
        yield _row("recorded", visible(model.recording))


def _comparison(comparison: Comparison, *, color: bool) -> str:
    """The difference of two runs in one line; the details are in the model's error."""
    wrong = sum(not output.ok for output in comparison.outputs)
    absolute, relative = comparison.max_abs_error, comparison.max_rel_error
    apart = f"greatest difference {difference(absolute)} absolute, {difference(relative)} relative"
    fact = f"with {comparison.to}: "
    if wrong:
        fact += f"{wrong} of {len(comparison.outputs)} outputs differ, "
    line = visible(fact + ("not comparable" if absolute is None else apart))
    return paint(line, RED, color=color) if wrong else line


def _inputs(model: ModelResult) -> list[str]:
    """One line per argument, with the reason if torchlink worked it out."""
    reasons = {taken.why for taken in model.inputs} - {GIVEN}
    if reasons:
        tries = model.input_tries or 1
        runs = [f"found in {tries} runs of forward"] if tries > 1 and model.ok else []
        return [*"; ".join(reasons).split("; "), *runs]
    return [f"{taken.name} = {shortened(taken.text, LONGEST_INPUT)}" for taken in model.inputs]


def _output(output: Output, *, color: bool) -> Iterator[str]:
    label = visible(output.label)
    if output.type != "tensor":
        value = "" if output.value is None else visible(_number(output.value))
        yield _row("output", f"{_name(label)}{visible(output.type)} {value}")
        return
    shape = ",".join(map(str, output.shape or ()))
    where = f" on {output.device}" if output.device is not None else ""
    yield _row("output", _name(label) + visible(f"{output.dtype or 'tensor'}[{shape}]{where}"))
    if output.note:
        yield _row("", paint(visible(output.note), DIM, color=color))
    if output.values:
        values = " ".join(_number(value) for value in output.values)
        yield _row("", visible(values) + (" …" if prod(output.shape or ()) > len(output.values) else ""))
    if output.mean is not None:
        summary = (("min", output.min), ("max", output.max), ("mean", output.mean))
        yield _row("", ", ".join(f"{name} {_number(value)}" for name, value in summary))
    if output.non_finite:
        yield _row("", paint(f"{output.non_finite} values are not finite", RED, color=color))


def _error(model: ModelResult, *, color: bool, verbose: bool) -> Iterator[str]:
    if model.error is None:
        return
    yield _row("error", paint(visible(model.error.message), RED, color=color))
    for line in model.error.details[0 if verbose else -DETAILS :]:
        yield _row("", visible(line))
    if model.error.hint:
        yield _row("", f"-> {visible(model.error.hint)}")


def _name(label: str) -> str:
    """The label of an output; a single output needs none."""
    return "" if label == "output" else f"{label.removeprefix('output').removeprefix('.')}: "


def _number(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, complex):
        imaginary = _number(value.imag)
        return f"{_number(value.real)}{'' if imaginary.startswith('-') else '+'}{imaginary}i"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _time(milliseconds: float) -> str:
    return f"{milliseconds:.1f} ms" if milliseconds >= 1 else f"{milliseconds:.2g} ms"


def _row(label: str, text: str) -> str:
    return f"  {label:<{LABEL}} {text}".rstrip()
