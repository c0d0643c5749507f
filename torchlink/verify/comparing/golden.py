"""Recordings of a model: the inputs and outputs of one call, in files that a user can open, and reading them back.

`DIR/<path of the model>/<method>/` contains `inputs.pt`, `outputs.pt` and `golden.json`. The path is the one from DIR's
parent directory, so that a checkout may be anywhere, with `..` and `%` written as `%2E%2E` and `%25`: two models
never share a directory.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torchlink.errors import FileError, InexpressibleError, MalformedFileError, WouldOverwriteError
from torchlink.verify.comparing.tolerances import Tolerances
from torchlink.verify.comparing.values import Opaque
from torchlink.verify.tasks import RECORDED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torchlink.verify.specs import InputSpec

INPUTS, OUTPUTS = "inputs.pt", "outputs.pt"
FILES = frozenset({RECORDED, INPUTS, OUTPUTS})
SCHEMA = 1
STRIDES = re.compile(r"-|\d{1,18}(x\d{1,18}){0,63}", re.ASCII)


class Recording(NamedTuple):
    """The recording of a model."""

    place: Path
    torch: str  # the version of the libtorch that ran it
    positional: tuple[InputSpec, ...]
    keywords: tuple[tuple[str, InputSpec], ...]
    outputs: Any
    tolerances: Tolerances  # in effect when it was recorded
    strides: tuple[str, ...] = ()  # of a compiled model's tensors, as the loader reads them; none: contiguous

    @property
    def name(self) -> str:
        """Its name in reports."""
        return f"{self.place} (libtorch {self.torch})"


def place_of(directory: Path, model: Path, call: str) -> Path:
    """The directory of a model's recording.

    Args:
        directory: that of `--record` or `--golden`.
        model: the model's file.
        call: the method, or the name of the model in an AOTInductor package.
    """
    there = os.path.relpath(model.absolute(), directory.absolute().parent)
    return directory.joinpath(*map(_component, Path(there).parts), _component(call))


def _component(name: str) -> str:
    safe = name.replace("%", "%25").replace("/", "%2F")
    return safe.replace(".", "%2E") if safe in (".", "..") else safe


def check_free(place: Path, *, force: bool) -> None:
    """Check that a recording may be written.

    Raises:
        WouldOverwriteError: a file that must not be overwritten is in the way.
    """
    try:
        there = {entry.name for entry in os.scandir(place)}
    except FileNotFoundError:
        return
    except OSError as error:
        raise WouldOverwriteError(
            f"{place}: cannot be overwritten: {error.strerror}.", hint="Name another directory with --record."
        ) from error
    if there - FILES:
        raise WouldOverwriteError(
            f"{place}: contains files that are not part of a recording: {', '.join(sorted(there - FILES)[:3])}.",
            hint="Name another directory with --record.",
        )
    if there and not force:
        raise WouldOverwriteError(
            f"{place}: already contains a recording.",
            hint="Overwrite it with --force, or name another directory.",
        )


def record(
    place: Path, positional: Any, keywords: Any, outputs: Any, about: dict[str, Any], *, force: bool
) -> None:
    """Write a recording: all of it or nothing.

    Args:
        place: the model's directory.
        positional: the values of the arguments.
        keywords: those given by name.
        outputs: what was returned.
        about: further facts to record.
        force: overwrite an existing recording.

    Raises:
        WouldOverwriteError: a file that must not be overwritten is in the way.
        FileError: it cannot be written.
        InexpressibleError: an argument or an output cannot be written.
    """
    from torchlink.atomic import publish, unwritable, workspace
    from torchlink.model.writing import write_values

    check_free(place, force=force)
    with workspace(place) as work:
        filled = work / "recording"
        try:
            filled.mkdir()
            for name, value in (
                (INPUTS, {"positional": positional, "keywords": keywords}),
                (OUTPUTS, outputs),
            ):
                with (filled / name).open("wb") as file:
                    write_values(plain(value), filled / name, file)
                    file.flush()
                    os.fsync(file.fileno())
            opaque = [
                {"at": at, "type": part.type, "text": part.text} for at, part in _opaque_parts(outputs, ())
            ]
            text = json.dumps({"schema": SCHEMA, **about, "opaque": opaque}, indent=1)
            (filled / RECORDED).write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise unwritable(place, error) from error
        check_free(place, force=force)
        publish(filled, place)


def plain(value: Any) -> Any:
    """A value that files can store; opaque parts become None."""
    if isinstance(value, Opaque):
        return None
    if isinstance(value, dict):
        if any(isinstance(key, Opaque) for key in value):
            raise InexpressibleError(
                "A dict whose keys are not strings, numbers or bools cannot be recorded.",
                hint="Leave this model out of what is recorded.",
            )
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value] if isinstance(value, list) else tuple(map(plain, value))
    return value


def _opaque_parts(value: Any, at: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Opaque]]:
    """The parts that `plain` loses, each with its position: one number for each level."""
    if isinstance(value, Opaque):
        yield at, value
    elif isinstance(value, (dict, list, tuple)):
        for index, part in enumerate(value.values() if isinstance(value, dict) else value):
            yield from _opaque_parts(part, (*at, index))


def _with_opaque(value: Any, at: Sequence[int], part: Opaque) -> Any:
    """The value with an opaque part put back."""
    if not at:
        if value is not None:
            raise ValueError(value)
        return part
    parts: list[Any] = list(value.values() if isinstance(value, dict) else value)
    parts[at[0]] = _with_opaque(parts[at[0]], at[1:], part)
    if isinstance(value, dict):
        return dict(zip(value, parts, strict=True))
    return parts if isinstance(value, list) else tuple(parts)


def read_recording(directory: Path, model: Path, call: str) -> Recording:
    """Read the recording of a model.

    Raises:
        FileError: there is none, or it cannot be read.
        MalformedFileError: it is damaged.
    """
    from torchlink.bounds import load_json, read_whole
    from torchlink.model.values import read_values
    from torchlink.verify.specs import spec_of

    place = place_of(directory, model, call)
    if not directory.is_dir():
        raise FileError(
            f"--golden: no such directory: {directory}.", hint=f"Record one with --record {directory}."
        )
    if not (place / RECORDED).is_file():
        raise FileError(
            f"{directory}: contains no recording of {model}: no such file: {place / RECORDED}.",
            hint=f"Record one with --record {directory}.",
        )
    try:
        about = load_json(read_whole(place / RECORDED))
        torch = str(about["torch"])
        tolerances = Tolerances(_tolerance(about["atol"]), _tolerance(about["rtol"]))
        strides = tuple(map(_strides, about["strides"]))
        opaque = tuple(map(_opaque, about["opaque"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise MalformedFileError(
            f"{place / RECORDED}: damaged.", hint=f"Record it again with --record {directory} --force."
        ) from error
    inputs = read_values(place / INPUTS).value
    if not (isinstance(inputs, dict) and set(inputs) == {"positional", "keywords"}):
        raise MalformedFileError(f"{place / INPUTS}: not the inputs of a recording.")
    positional, keywords = inputs["positional"], inputs["keywords"]
    if not isinstance(positional, (list, tuple)) or not isinstance(keywords, dict):
        raise MalformedFileError(f"{place / INPUTS}: not the inputs of a recording.")
    outputs = read_values(place / OUTPUTS).value
    try:
        for at, part in opaque:
            outputs = _with_opaque(outputs, at, part)
    except (ValueError, TypeError, IndexError) as error:
        raise MalformedFileError(
            f"{place / RECORDED}: damaged.", hint=f"Record it again with --record {directory} --force."
        ) from error
    return Recording(
        place,
        torch,
        tuple(map(spec_of, positional)),
        tuple((str(name), spec_of(value)) for name, value in keywords.items()),
        outputs,
        tolerances,
        strides,
    )


def _opaque(entry: Any) -> tuple[tuple[int, ...], Opaque]:
    at = tuple(entry["at"])
    if not all(type(index) is int and index >= 0 for index in at):
        raise ValueError(at)
    return at, Opaque(str(entry["type"]), str(entry["text"]))


def _strides(value: object) -> str:
    if isinstance(value, str) and STRIDES.fullmatch(value):
        return value
    raise ValueError(value)


def _tolerance(value: object) -> float | None:
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0):
        return None if value is None else float(value)
    raise ValueError(value)
