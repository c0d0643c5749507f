"""The other runs of a model for `--against`: in Python, with another libtorch, on another device.

Each runs in processes of its own, which are reused from one model to the next. A crash affects only the model that
causes it.
"""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from torchlink.errors import DeviceError, ReferenceFailedError, TorchlinkError, UsageError
from torchlink.paths import data_dir
from torchlink.verify import failures
from torchlink.verify.comparing.values import value_of
from torchlink.verify.devices import named_accelerator
from torchlink.verify.session import LoaderDiedError, Session
from torchlink.verify.specs import encoded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from torchlink.libtorch.facts import Libtorch


Build: TypeAlias = "Callable[[Libtorch, str], tuple[Path, Sequence[str]]]"

PYTHON = "python"
# A run that is still silent after so many seconds, and so many times what the loader took, will never answer.
PATIENCE, TIMES_SLOWER = 300.0, 30.0


@dataclass(frozen=True, slots=True)
class ReferenceCall:
    """A call made by the loader, to be repeated by another run."""

    path: Path  # the model
    kind: str  # "torchscript" | "aoti-package" | "aoti-library"
    device: str  # where it ran: "cpu", "cuda:0"
    libraries: Sequence[Path]
    method: str  # "forward" by default
    entry: str  # the model's name in an AOTInductor package; empty for the only one
    words: str  # the arguments as the loader reads them
    loading: Sequence[str]  # the commands that have brought the model into the loader
    inputs: Mapping[str, Any]  # as in the loader's `saved` event: `value` and `keywords`
    raw: Path  # with the tensors of `inputs`
    timeout: float | None
    spent: float = 0.0  # seconds that the loader took for the same

    @property
    def limit(self) -> float:
        """Seconds that the other run may take: without --timeout many times what the loader took."""
        return PATIENCE + TIMES_SLOWER * self.spent if self.timeout is None else self.timeout


class Benched(NamedTuple):
    """Calls to be timed with the same arguments."""

    warmup: int  # calls before those that count
    runs: int  # calls that count
    seconds: float  # after which there are no more of either; 0: no limit
    words: str  # the arguments as the loader reads them
    inputs: Mapping[str, Any]  # as in `Call`
    raw: Path


class Timings(NamedTuple):
    """How long another run took."""

    load_ms: float
    events: Sequence[Mapping[str, Any]]  # `benched`, for each of the calls
    settings: Mapping[str, Any]


class ReferenceRun(ABC):
    """Another run of the same model with the same inputs; thread-safe."""

    def __init__(self) -> None:
        self.name = ""  # in reports, as far as known
        self.threads: int | None = None  # that a model may use; None: no limit
        self._lock = threading.Lock()
        self._idle: dict[str, deque[Session]] = {}  # by the kind of model that they run
        self._open: set[Session] = set()
        self._stopped = False
        # A process ends with the thread that started it, and the calling threads are short-lived.
        self._starter = ThreadPoolExecutor(1)

    @abstractmethod
    def outputs(self, call: ReferenceCall, raw: Path) -> Any:
        """Return what the model returns in the other run.

        Args:
            call: the call to repeat.
            raw: a file to write tensors to.

        Raises:
            ReferenceFailedError: it did not run.
        """

    @abstractmethod
    def _started(self, kind: str) -> Session:
        """A new process for a kind of model."""

    @abstractmethod
    def timings(self, call: ReferenceCall, calls: Sequence[Benched], threads: int) -> Timings:
        """Time calls of a model in a process that has run nothing before.

        Args:
            call: the model; its inputs do not count.
            calls: with what, one after the other.
            threads: that libtorch uses.

        Raises:
            ReferenceFailedError: it did not run there.
        """

    def prepare(self, kinds: Iterable[str], threads: int | None) -> None:
        """Prepare for models of these kinds, before any is run.

        Args:
            kinds: of the models.
            threads: that a model may use; None: no limit.
        """
        self.threads = threads
        self._prepared(kinds)

    @abstractmethod
    def _prepared(self, kinds: Iterable[str]) -> None:
        """Build or start what is needed."""

    def _new(self, make: Callable[[], Session]) -> Session:
        """Start a process that `stop` and `close` will end."""

        def start() -> Session:
            session = make()
            with self._lock:
                self._open.add(session)
                if self._stopped:
                    session.kill()
            return session

        return self._starter.submit(start).result()

    def _drop(self, session: Session) -> None:
        with self._lock:
            self._open.discard(session)
        session.close()

    @contextlib.contextmanager
    def _session(self, kind: str, call: ReferenceCall) -> Iterator[Session]:
        """A process for one model of a kind, reused for the next one if it survives.

        Raises:
            ReferenceFailedError: it ended, or ran out of time.
        """
        with self._lock:
            idle = self._idle.setdefault(kind, deque())
            session = idle.pop() if idle else None
        session = session or self._started(kind)
        kept = False
        try:
            session.limit(call.limit)
            yield session
            kept = self._through(session)
        except LoaderDiedError as died:
            raise self._death(session, died, call) from None
        except ReferenceFailedError:  # the process has answered
            with contextlib.suppress(LoaderDiedError):
                kept = self._through(session)
            raise
        finally:
            if kept:
                idle.append(session)
            else:
                self._drop(session)

    @contextlib.contextmanager
    def _fresh(self, start: Callable[[], Session], call: ReferenceCall) -> Iterator[Session]:
        """A process of its own, which is ended with the block.

        Raises:
            ReferenceFailedError: it ended, or ran out of time.
        """
        session = start()
        try:
            session.limit(call.limit)
            yield session
        except LoaderDiedError as died:
            raise self._death(session, died, call) from None
        finally:
            self._drop(session)

    def _through(self, session: Session) -> bool:
        """Finish with a model; returns whether the process can run another one."""
        session.unlimited()
        if session.printed:
            session.cut()
        return True

    def _death(self, session: Session, died: LoaderDiedError, call: ReferenceCall) -> ReferenceFailedError:
        lines = tuple(line for line in died.printed.splitlines() if line.strip())[-failures.PRINTED_LINES :]
        if session.timed_out:
            took = "" if call.timeout is not None else f"; the loader took {call.spent:.3g} s"
            return ReferenceFailedError(
                f"{self.name} did not finish within {call.limit:g} s{took}.",
                hint="Raise --timeout." if call.timeout is not None else "Give it longer with --timeout.",
                details=lines,
            )
        how = (
            f"was killed by {failures.signal_name(-died.returncode)}"
            if died.returncode < 0
            else f"ended with exit status {died.returncode}"
        )
        return ReferenceFailedError(f"{self.name} {how} while it ran the model.", details=lines)

    def stop(self) -> None:
        """Kill the processes from another thread; threads that wait for one see it die."""
        with self._lock:
            self._stopped = True
            for session in self._open:
                session.kill()

    def close(self) -> None:
        """End the processes."""
        self.stop()
        self._starter.shutdown()
        for session in list(self._open):
            self._drop(session)


class LoaderReference(ReferenceRun):
    """The model in a reference loader: with another libtorch, or on another device.

    Args:
        name: its name in reports.
        libtorch: what the loader is built against.
        build: makes the loader for a kind of model: the program, and the command that runs it.
        passed: variables of `--env`.
        device: where it runs the model; None: the device of the first run.
    """

    def __init__(
        self,
        name: str,
        libtorch: Libtorch,
        build: Build,
        passed: Sequence[str],
        device: str | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.device = device
        self._libtorch = libtorch
        self._build = build
        self._passed = passed
        self._building = threading.Lock()
        self._programs: dict[str, tuple[Path, Sequence[str]]] = {}

    def _prepared(self, kinds: Iterable[str]) -> None:
        """Build the loaders."""
        for kind in kinds:
            self._program(kind)

    def _program(self, kind: str) -> tuple[Path, Sequence[str]]:
        with self._building:
            if kind not in self._programs:
                self._programs[kind] = self._build(self._libtorch, kind)
            return self._programs[kind]

    def _started(self, kind: str) -> Session:
        program, emulator = self._program(kind)
        session = self._new(lambda: Session(program, self._passed, emulator))
        if not emulator:
            with contextlib.suppress(LoaderDiedError):  # the model then reports the reason
                session.serve_many(data_dir("templates") / "loader" / "warm.pt", self.threads or 0)
        return session

    def _through(self, session: Session) -> bool:
        """Each model gets a process forked from this one; if it cannot fork, it is not reused."""
        session.unlimited()
        return session.forks

    def outputs(self, call: ReferenceCall, raw: Path) -> Any:
        """As in `Reference`; random inputs are the same in every loader."""
        if call.kind != "torchscript" and self.device:
            raise DeviceError(
                f"{call.path}: an AOTInductor package is compiled for one device and runs only there.",
                hint=f"Compile it for {self.device} too, and verify each --against python.",
            )
        commands = self._bringing(call)
        commands += [f"forward {call.words}", f"save outputs {encoded(str(raw))}"]
        with self._session(call.kind, call) as session:
            if session.forks:
                session.next_model()
                session.limit(call.limit)
            for command in commands:
                answer = session.ask(command)
                if answer["event"] == "error":
                    raise self._refused(answer)
            return value_of(answer["value"], raw)

    def timings(self, call: ReferenceCall, calls: Sequence[Benched], threads: int) -> Timings:
        """As for every reference."""
        program, emulator = self._program(call.kind)
        with self._fresh(
            lambda: self._new(lambda: Session(program, self._passed, emulator)), call
        ) as session:

            def ask(command: str) -> Mapping[str, Any]:
                answer = session.ask(command)
                if answer["event"] == "error":
                    raise self._refused(answer)
                return answer

            settings = ask(f"threads {threads}")
            answers = [ask(command) for command in self._bringing(call)]
            load = next(float(each["load_ms"]) for each in answers if each["event"] == "loaded")
            events = [ask(f"bench {each.warmup} {each.runs} {each.seconds:g} {each.words}") for each in calls]
            return Timings(load, events, settings)

    def _bringing(self, call: ReferenceCall) -> list[str]:
        """The commands that bring the model in."""
        commands = [f"library {encoded(str(library.absolute()))}" for library in call.libraries]
        commands += [self._loading(command) for command in call.loading]
        return commands + ([f"method {encoded(call.method)}"] if call.method != "forward" else [])

    def _loading(self, command: str) -> str:
        """A command that loads the model, for the device of this run."""
        word, _, rest = command.partition(" ")
        return f"load {self.device} {rest.partition(' ')[2]}" if self.device and word == "load" else command

    def _refused(self, answer: Mapping[str, Any]) -> TorchlinkError:
        """The error for a model that this loader cannot load or run."""
        error = failures.exception(str(answer["stage"]), str(answer["message"]), self._libtorch)
        if isinstance(error, DeviceError):
            return error
        hint = error.hint.replace("--libtorch", "--against")  # it is that option that names this libtorch
        return ReferenceFailedError(f"{self.name}: {error.message}", hint, error.details)


def reference_for(against: str, libtorch: Libtorch, build: Build, passed: Sequence[str]) -> ReferenceRun:
    """The run that `--against` names.

    Args:
        against: the option's value.
        libtorch: the one that runs the models.
        build: makes a loader for a libtorch and a kind of model.
        passed: variables of `--env`.

    Raises:
        UsageError: the value is invalid.
        ToolMissingError: there is no such interpreter.
        LibtorchNotFoundError: there is no libtorch at the path.
        LibtorchUnusableError: that libtorch cannot be used.
    """
    if against.partition("=")[0] == PYTHON:
        from torchlink.verify.comparing.python import PythonReference, python_of

        return PythonReference(python_of(against, libtorch), passed)
    if named_accelerator(against):
        return LoaderReference(against, libtorch, build, passed, against)
    path = Path(against).expanduser()
    if not path.exists():
        raise UsageError(
            f"--against {against}: no such file or directory.",
            hint="Use python, python=EXE, cuda, mps, xpu, or the path of a libtorch.",
        )
    from torchlink.libtorch.choose import choose

    other = choose(libtorch=path)
    return LoaderReference(f"libtorch {other.version or ''} of {other.root}", other, build, passed)
