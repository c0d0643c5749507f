"""One model's work as it travels to a worker: what is asked, and the files or their places."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from torchlink.errors import FileError, TorchlinkError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torchlink.verify.options import VerifyOptions
    from torchlink.verify.remote.identity import Identity
    from torchlink.verify.tasks import ModelTask

T = TypeVar("T")
SHARED, SEND = "shared", "send"
WAYS = (SHARED, SEND)
LARGEST = 512 << 20  # bytes of all files of a model that are sent: they are in memory on the way
ONLY_SHARED = {  # directories and files that workers read or write in place
    "record": "the recordings would be written on the workers' machines",
    "golden": "the recordings are not sent with the models",
    "save_outputs": "the file would be written on a worker's machine",
}


class Sent(NamedTuple):
    """A file that a model's verification reads."""

    name: str  # as the user gave it
    path: str  # where it is, from the root on
    parts: tuple[
        tuple[str, bytes], ...
    ] = ()  # it and what lies beside it, by name; none: read it where it is


class Unit(NamedTuple):
    """What a worker gets."""

    torchlink: str  # the version
    run: str  # one call of verify: what workers keep is good for it alone
    task: ModelTask
    building: VerifyOptions  # with which the loader is built
    libtorch: Identity
    share: int  # how many models the worker's machine runs at once
    files: tuple[Sent, ...]
    names: tuple[tuple[str, str], ...]  # other paths: where it is, and as the user gave it

    @property
    def size(self) -> int:
        """Bytes that are sent."""
        return sum(len(data) for file in self.files for _, data in file.parts)


def check_way(way: str, options: VerifyOptions) -> None:
    """Refuse an unknown way of bringing the files, and what only works where they are shared."""
    if way not in WAYS:
        raise UsageError(f"--executor-files {way} is not known.", hint=f"Use one of {', '.join(WAYS)}.")
    asked = next((name for name in ONLY_SHARED if getattr(options, name)), None)
    if way == SEND and asked:
        option = f"--{asked.replace('_', '-')}"
        raise UsageError(
            f"{option} and --executor-files send cannot be combined: {ONLY_SHARED[asked]}.",
            hint="Use --executor-files shared, and paths at which all workers find the same files.",
        )


def read_by(task: ModelTask) -> list[str]:
    """The files that a model's verification reads, as they were named.

    Raises:
        TorchlinkError: an input cannot be read.
    """
    from torchlink.verify.inputs import OPENED, parse_argument

    options = task.options
    named = [task.path]

    def noted(name: str) -> Path:
        named.append(name)
        return Path(name).expanduser()

    token = OPENED.set(noted)
    try:
        for text in options.inputs or ():
            parse_argument(text)
    finally:
        OPENED.reset(token)
    named += [str(path) for path in (options.inputs_file, options.expect, *options.libraries) if path]
    return list(dict.fromkeys(named))


def packed(task: ModelTask, way: str) -> tuple[Sent, ...]:
    """The files of a model, or their places.

    Raises:
        FileError: one cannot be read, or they are too large to be sent.
    """
    names = read_by(task)
    if way == SHARED:
        return tuple(Sent(name, _absolute(name)) for name in names)
    paths = {name: [Path(name).expanduser()] for name in names}
    paths[task.path] += _beside(paths[task.path][0])
    files = []
    try:
        if sum(path.stat().st_size for each in paths.values() for path in each) > LARGEST:
            raise FileError(
                f"{task.path}: more than {LARGEST >> 20} MB of files, which is too large to be sent.",
                hint="Put it where all workers read it, and use --executor-files shared.",
            )
        for name, each in paths.items():
            files.append(Sent(name, _absolute(name), tuple((path.name, path.read_bytes()) for path in each)))
    except OSError as error:
        raise FileError(f"Cannot read {error.filename}: {error.strerror}.") from error
    return tuple(files)


def _beside(model: Path) -> list[Path]:
    """The files beside a compiled model that hold its weights."""
    from torchlink.verify.aoti.weights import ENDINGS

    if model.suffix not in (".pt2", ".so"):
        return []
    return [path for ending in ENDINGS if (path := model.with_name(model.stem + ending)).is_file()]


def _absolute(name: str) -> str:
    return os.path.abspath(os.path.expanduser(name))  # noqa: PTH100, PTH111 - a link stays


def with_values(options: VerifyOptions) -> VerifyOptions:
    """Options in which the variables to be passed on have the values that they have here."""
    values = (
        name if "=" in name else f"{name}={os.environ[name]}" for name in options.env if _is_there(name)
    )
    return options._replace(env=tuple(values))


def _is_there(variable: str) -> bool:
    return "=" in variable or variable in os.environ


def anchored(task: ModelTask) -> tuple[ModelTask, tuple[tuple[str, str], ...]]:
    """A task whose other paths start from the root, and what they were called."""
    options = with_values(task.options)
    changed: dict[str, Any] = {}
    names = []
    for name in ONLY_SHARED:
        path = getattr(options, name)
        if path is not None:
            changed[name] = Path(_absolute(str(path)))
            names.append((str(changed[name]), str(path)))
    against = options.against
    if against and against not in ("python", "cuda"):
        head, equals, path = against.partition("=") if against.startswith("python=") else ("", "", against)
        if os.sep in path or not equals:
            changed["against"] = head + equals + _absolute(path)
            names.append((_absolute(path), path))
    return task._replace(options=options._replace(**changed)), tuple(names)


@contextlib.contextmanager
def placed(unit: Unit) -> Iterator[Mapping[str, Path]]:
    """Where the files are on this machine, by their names.

    Raises:
        FileError: they cannot be written, or what is shared is not there.
    """
    if not any(file.parts for file in unit.files):
        for file in unit.files:
            if not os.path.lexists(file.path):
                raise FileError(
                    f"{file.name}: not there on the worker {machine()}, which looked for {file.path}.",
                    hint="Put it where all workers read it under this path, or use --executor-files send.",
                )
        yield {file.name: Path(file.path) for file in unit.files}
        return
    try:
        directory = tempfile.TemporaryDirectory(prefix="torchlink-sent-")
    except OSError as error:
        raise FileError(f"The worker {machine()} cannot write files: {error.strerror}.") from error
    with directory as base:
        places = {}
        for number, file in enumerate(unit.files):
            own = Path(base, str(number))
            try:
                own.mkdir()
                for name, data in file.parts:
                    (own / Path(name).name).write_bytes(data)
            except OSError as error:
                raise FileError(f"The worker {machine()} cannot write files: {error.strerror}.") from error
            places[file.name] = own / Path(file.parts[0][0]).name
        yield places


def moved(task: ModelTask, places: Mapping[str, Path]) -> ModelTask:
    """A task with the paths that its files have on this machine."""
    options = task.options
    return task._replace(
        path=str(places[task.path]),
        options=options._replace(
            inputs_file=None if options.inputs_file is None else places[str(options.inputs_file)],
            expect=None if options.expect is None else places[str(options.expect)],
            libraries=tuple(places[str(library)] for library in options.libraries),
        ),
    )


def named_as(value: T, names: Mapping[str, str]) -> T:
    """A result in which paths are called as the user called them."""
    found = {here: name for here, name in names.items() if here != name}
    if not found:
        return value
    longest_first = sorted(found, key=len, reverse=True)
    pattern = re.compile(rf"(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")
    renamed: T = _renamed(value, lambda text: pattern.sub(lambda match: found[match.group()], text))
    return renamed


def _renamed(value: Any, change: Any) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, TorchlinkError):
        value.message, value.hint = change(value.message), change(value.hint)
        value.details = tuple(map(change, value.details))
        value.args = (value.message,)
        return value
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_renamed(each, change) for each in value))
    if isinstance(value, (tuple, list)):
        return type(value)(_renamed(each, change) for each in value)
    if isinstance(value, dict):
        return {key: _renamed(each, change) for key, each in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        changed = {
            each.name: _renamed(getattr(value, each.name), change) for each in fields(value) if each.init
        }
        return replace(value, **changed)
    return value


def version() -> str:
    """The version of this torchlink; the package, which imports all rooms, cannot be imported by one."""
    return str(sys.modules[__name__.partition(".")[0]].__version__)


def machine() -> str:
    """This worker, for messages."""
    import socket

    return f"{socket.gethostname()} (process {os.getpid()})"
