"""A verification as JSON lines, one a model as it is done; and reports read again: JSON lines, or the JSON of `verify`.

{"schema": 1, "event": "begin", "libtorch": {…}, "shard": null, "models": 200}
{"schema": 1, "event": "model", "number": 17, "identity": "…", …}     an entry of `models`, its number from 0
{"schema": 1, "event": "end", "ok": false, "summary": {…}}
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import sys
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from torchlink import errors
from torchlink.bounds import load_json, read_whole
from torchlink.errors import FileError, MalformedFileError, TorchlinkError
from torchlink.report.find import libtorch_to_json
from torchlink.report.plain import encodable
from torchlink.report.verify import model_to_json, shard_to_json
from torchlink.status import not_about_the_file
from torchlink.verify.comparing.values import Comparison, OutputComparison
from torchlink.verify.result import ModelResult, TakenInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from torchlink.libtorch.facts import Libtorch
    from torchlink.verify.result import VerifyReport
    from torchlink.verify.tasks import ModelTask

LARGEST = 1 << 28  # bytes of a file of reports
LISTED = 8  # missing shards that an error names
HINT = "Name the JSON, or the JSON lines, of a `torchlink verify`."


def begin(report: VerifyReport, count: int) -> str:
    """The first line."""
    return _line(
        "begin", {"libtorch": libtorch_to_json(report.libtorch), **shard_to_json(report), "models": count}
    )


def model(number: int, result: ModelResult, identity: str) -> str:
    """The line of a model."""
    return _line("model", {"number": number, "identity": identity, **model_to_json(result)})


def end(report: VerifyReport) -> str:
    """The last line."""
    return _line("end", {"ok": report.ok and not report.interrupted, "summary": report.summary})


def _line(event: str, entries: Mapping[str, object]) -> str:
    return encodable(json.dumps({"schema": 1, "event": event, **entries}, ensure_ascii=False))


def identity_of(task: ModelTask, libtorch: Libtorch) -> str:
    """What must be the same for a result to hold still: the file's size and times, libtorch, the options."""
    try:
        status = os.stat(task.path)  # noqa: PTH116 - plain strings: there may be very many
        file: tuple[int, ...] = (status.st_size, status.st_mtime_ns, status.st_ino)
    except (OSError, ValueError):
        file = ()
    options = task.options._replace(verbose=False)
    known = repr((file, str(libtorch.root), libtorch.version, options, task.skip))
    return hashlib.sha256(known.encode("utf-8", "backslashreplace")).hexdigest()[:32]


class Recorded(NamedTuple):
    """A model of an earlier run."""

    identity: str
    entry: Mapping[str, Any]


def read_records(path: Path) -> list[Recorded]:
    """The models in a file of JSON lines; a last line that is not whole was being written when the run was killed.

    Raises:
        FileError: it cannot be read, or is none.
    """
    lines = _text(path).split("\n")
    found: list[Recorded] = []
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        record = _parsed(line)
        if record is None:
            if number == len(lines) - 1:
                break
            raise MalformedFileError(f"{path}: line {number + 1} is not torchlink's JSON.", hint=HINT)
        if record.get("event") == "model":
            entry = {
                key: value for key, value in record.items() if key not in ("event", "identity", "number")
            }
            del entry["schema"]
            found.append(Recorded(str(record.get("identity")), entry))
    return found


def _text(path: Path) -> str:
    try:
        return read_whole(path, LARGEST).decode("utf-8", "surrogateescape")
    except OSError as error:
        not_about_the_file(path, error)
        raise FileError(f"Cannot read {path}: {error.strerror}.", hint="Check the path.") from error


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        record = load_json(text, LARGEST)
    except ValueError:
        return None
    return record if isinstance(record, dict) and record.get("schema") == 1 else None


def read_report(path: Path) -> dict[str, Any]:
    """The JSON object of a `torchlink verify`, also where a file has it as JSON lines.

    Raises:
        FileError: it cannot be read, or is none.
    """
    text = _text(path)
    report = _parsed(text)
    if report is None or "event" in report:
        report = _of_lines(text)
    if report is None:
        raise MalformedFileError(f"{path}: not a report of torchlink verify.", hint=HINT)
    if "models" not in report and isinstance(report.get("error"), dict):
        error = report["error"]
        raise MalformedFileError(
            f"{path}: this verification could not run: {error.get('message')}",
            hint="Run it again, and merge its new output.",
        )
    models = report.get("models")
    if not (isinstance(models, list) and all(isinstance(each, dict) and "path" in each for each in models)):
        raise MalformedFileError(f"{path}: not a report of torchlink verify.", hint=HINT)
    return report


def _of_lines(text: str) -> dict[str, Any] | None:
    """What a file of JSON lines comes to as the JSON of `verify`."""
    records = [record for line in text.split("\n") if line.strip() and (record := _parsed(line))]
    if not records or records[0].get("event") != "begin":
        return None
    first = records[0]
    models = {
        record["number"]: {
            key: value
            for key, value in record.items()
            if key not in ("schema", "event", "identity", "number")
        }
        for record in records
        if record.get("event") == "model" and isinstance(record.get("number"), int)
    }
    whole = len(models) == first.get("models")
    report = {
        "schema": 1,
        "ok": whole and all(entry.get("error") is None for entry in models.values()),
        "libtorch": first.get("libtorch"),
        "loader": None,
        "lint": None,
        "models": [models[number] for number in sorted(models)],
    }
    shard = {"shard": first["shard"]} if first.get("shard") else {}
    return {**report, **shard, **({} if whole else {"interrupted": True})}


def merged(reports: Sequence[tuple[Path, dict[str, Any]]]) -> dict[str, Any]:
    """One report of several: shards of one run in the order of that run, others one after the other.

    Raises:
        FileError: a shard is missing or there twice, or they are of different libtorchs.
    """
    (first_path, first), *others = reports
    for path, other in others:
        if _libtorch(other) != _libtorch(first):
            raise FileError(
                f"{path} is of libtorch {_libtorch(other)[0]}, {first_path} of {_libtorch(first)[0]}.",
                hint="Merge reports of one libtorch.",
            )
    models = _joined(reports)
    lints = [report["lint"] for _, report in reports if isinstance(report.get("lint"), dict)]
    result: dict[str, Any] = {
        "schema": 1,
        "ok": all(report.get("ok") is True for _, report in reports),
        "libtorch": first.get("libtorch"),
        "loader": next((report["loader"] for _, report in reports if report.get("loader")), None),
        "lint": lints[0] if lints else None,
        "models": models,
        "summary": summary_of(models),
    }
    if any(report.get("interrupted") for _, report in reports):
        result["interrupted"] = True
    error = next((report["error"] for _, report in reports if report.get("error")), None)
    return {**result, **({"error": error} if error else {})}


def _libtorch(report: Mapping[str, Any]) -> tuple[object, object]:
    libtorch = report.get("libtorch")
    found = libtorch if isinstance(libtorch, dict) else {}
    return found.get("version"), found.get("accelerator")


def _joined(reports: Sequence[tuple[Path, dict[str, Any]]]) -> list[Any]:
    """The models of all reports, those of shards interleaved as they were dealt out."""
    shards: dict[int, list[Any]] = {}
    plain: list[Any] = []
    of, total = 0, None
    for path, report in reports:
        shard = report.get("shard")
        if not isinstance(shard, dict):
            plain += report["models"]
            continue
        number, parts = shard.get("number"), shard.get("of")
        if not (type(number) is int and type(parts) is int and 1 <= number <= parts):
            raise MalformedFileError(f"{path}: its shard number is invalid.", hint=HINT)
        if number in shards:
            raise FileError(f"{path}: shard {number}/{parts} is given twice.", hint="Name each report once.")
        if of not in (0, parts):
            raise FileError(
                f"{path}: one of {parts} shards, but others are of {of}.", hint="Merge the shards of one run."
            )
        if shards and shard.get("models") != total:
            raise FileError(
                f"{path}: a shard of {shard.get('models')} models, but others are of {total}.",
                hint="Merge the shards of one run.",
            )
        of, total = parts, shard.get("models")
        shards[number] = report["models"]
    if len(shards) < of:  # the number of shards is the file's own: it may be any
        missing = itertools.islice((str(each) for each in range(1, of + 1) if each not in shards), LISTED)
        more = of - len(shards) - LISTED
        raise FileError(
            f"The report of shard {', '.join(missing)}{f' and {more} more' if more > 0 else ''} of {of} is missing.",
            hint="Name the reports of all shards.",
        )
    longest = max(map(len, shards.values()), default=0)
    dealt = [
        shards[number][turn]
        for turn in range(longest)
        for number in sorted(shards)
        if turn < len(shards[number])
    ]
    return [*dealt, *plain]


def summary_of(models: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many entries are ok, have failed, and were skipped."""
    failed = sum(entry.get("error") is not None for entry in models)
    skipped = sum(bool(entry.get("skipped")) for entry in models)
    return {"ok": len(models) - failed - skipped, "failed": failed, "skipped": skipped}


def _comparison(entry: object) -> Comparison | None:
    """An entry's `expected` or `against`."""
    if not isinstance(entry, dict):
        return None
    outputs = tuple(_compared(each) for each in _list(entry.get("outputs")) if isinstance(each, dict))
    return Comparison(str(entry.get("to")), outputs, str(entry.get("error") or ""))


def _compared(entry: Mapping[str, Any]) -> OutputComparison:
    return OutputComparison(
        str(entry.get("label")),
        str(entry.get("problem") or ""),
        max_abs_error=_difference(entry.get("max_abs_error")),
        max_rel_error=_difference(entry.get("max_rel_error")),
        mismatched=int(_number(entry.get("mismatched")) or 0),
        elements=int(_number(entry.get("elements")) or 0),
        note=str(entry.get("note") or ""),
    )


def _difference(value: object) -> float | None:
    return inf if value == "Infinity" else _number(value)


def result_of(entry: Mapping[str, Any]) -> ModelResult:
    """An entry of `models` as what renderers take; JSON has it as it was."""
    error = entry.get("error")
    return ModelResult(
        str(entry.get("path")),
        str(entry.get("kind")),
        _text_or_none(entry.get("device")),
        _error(error) if isinstance(error, dict) else None,
        inputs=tuple(_inputs(entry.get("inputs"))),
        load_ms=_number(entry.get("load_ms")),
        forward_ms=_number(entry.get("forward_ms")),
        again_ms=tuple(filter(None, map(_number, _list(entry.get("again_ms"))))),
        peak_rss_mb=_number(entry.get("peak_rss_mb")),
        seconds=_number(entry.get("seconds")),
        expected=_comparison(entry.get("expected")),
        against=_comparison(entry.get("against")),
        spread=_difference(entry.get("nondeterministic")),
        recording=_text_or_none(entry.get("recording")),
        printed=str(entry.get("printed") or ""),
        stage=_text_or_none(entry.get("stage")),
        signal=_text_or_none(entry.get("signal")),
        skipped=str(entry.get("skipped") or ""),
        failed_first=str(entry.get("failed_first") or ""),
        recorded=entry,
    )


def _inputs(entries: object) -> Iterator[TakenInput]:
    for each in _list(entries):
        if isinstance(each, dict):
            yield TakenInput(*(str(each.get(key)) for key in ("name", "input", "why")))


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _number(value: object) -> float | None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    return (
        float(value) if abs(value) <= sys.float_info.max else None
    )  # an int may be larger; not finite: null


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _error(entry: Mapping[str, Any]) -> TorchlinkError:
    """An error as it was reported, of the class that has its code; of a model a device fails only while it runs."""
    code = entry.get("code")
    classes = [
        each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, TorchlinkError)
    ]
    kind = next((each for each in classes if each.code == code), TorchlinkError)
    if kind is errors.DeviceError:
        kind = errors.DeviceFailedError
    details = tuple(str(line) for line in _list(entry.get("details")))
    return kind(str(entry.get("message")), hint=str(entry.get("hint") or ""), details=details)
