"""Python as the other run of `--against`: the same file loaded by the interpreter that a libtorch belongs to."""

from __future__ import annotations

import json
import os
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchlink.errors import (
    ReferenceFailedError,
    RunFailedError,
    ToolMissingError,
    ToolUnfitError,
    UsageError,
)
from torchlink.libtorch.machine import is_foreign
from torchlink.paths import data_dir
from torchlink.process import which
from torchlink.verify import failures
from torchlink.verify.comparing.references import PYTHON, ReferenceRun, Timings
from torchlink.verify.comparing.values import value_of
from torchlink.verify.session import LoaderDiedError, Session

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torchlink.libtorch.facts import Libtorch
    from torchlink.verify.comparing.references import Benched, ReferenceCall

LINES = 12  # of a Python exception's text that are kept
IMPORT = 300.0  # seconds for importing torch from a cold disk
LINES = 12  # of a Python exception's text that are shown
# What an interpreter may need to start and to find its packages, besides what every program gets.
PYTHON_VARIABLES = (
    *("PYTHONHOME", "PYTHONUSERBASE", "PYTHONNOUSERSITE", "PYENV_VERSION", "PYENV_ROOT", "VIRTUAL_ENV"),
    *("CONDA_PREFIX", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"),
)


class PythonSession(Session):
    """A Python process that runs `templates/verify/run_in_python.py`."""

    def __init__(self, python: Path, passed: Sequence[str]) -> None:
        runner = data_dir("templates") / "verify" / "run_in_python.py"
        super().__init__(python, passed, arguments=(str(runner),), environment=python_environment())

    def cut(self) -> str:
        """Return what the model has printed; Python has no markers."""
        text, self._printed = self._printed, ""
        return text


def python_environment() -> dict[str, str]:
    """The variables that an interpreter needs to find its packages; no directory relative to the current one."""
    kept = {name: os.environ[name] for name in PYTHON_VARIABLES if name in os.environ}
    path = [
        entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if Path(entry).is_absolute()
    ]
    if path:
        kept["PYTHONPATH"] = os.pathsep.join(path)
    return {**kept, "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}


class PythonReference(ReferenceRun):
    """The model loaded by Python.

    Args:
        python: the interpreter.
        passed: variables of `--env`.
    """

    def __init__(self, python: Path, passed: Sequence[str]) -> None:
        super().__init__()
        self.python = python
        self.passed = passed
        self.name = f"python ({python})"

    def _prepared(self, kinds: Iterable[str]) -> None:
        """Import torch.

        Raises:
            ToolUnfitError: the interpreter cannot.
        """
        del kinds  # one Python runs all
        self._idle[PYTHON] = deque([self._started(PYTHON)])

    def _started(self, kind: str) -> Session:
        del kind  # one Python runs all
        try:
            session = self._new(lambda: PythonSession(self.python, self.passed))
        except RunFailedError as error:
            raise ToolMissingError(
                f"{self.python}: cannot be started.",
                hint="Name another one: --against python=EXE.",
                details=error.details,
            ) from None
        session.limit(IMPORT)
        try:
            answer = session.ask(json.dumps({"do": "import", "threads": self.threads}))
        except LoaderDiedError as died:
            answer = {"event": "error", "message": f"it {_ending(died)}", "printed": died.printed}
        except BaseException:
            self._drop(session)
            raise
        if answer["event"] == "error":
            self._drop(session)
            lines = str(answer.get("printed") or answer["message"]).splitlines()
            raise ToolUnfitError(
                f"{self.python}: cannot import torch: {str(answer['message']).splitlines()[0]}",
                hint="Name an interpreter that can: --against python=EXE.",
                details=tuple(lines[-LINES:]) if len(lines) > 1 else (),
            )
        session.unlimited()
        self.name = f"python (torch {answer['torch']})"
        return session

    def outputs(self, call: ReferenceCall, raw: Path) -> Any:
        """As in `Reference`; the tensors of the inputs are exactly the bytes that the loader used."""
        load = _load(call)
        run = {
            "do": "run",
            "method": call.method,
            "inputs": call.inputs["value"],
            "keywords": call.inputs.get("keywords") or {},
            "from": str(call.raw),
            "to": str(raw),
        }
        with self._session(PYTHON, call) as session:
            for asked in (load, run):
                answer = session.ask(json.dumps(asked))
                if answer["event"] == "error":
                    raise self._raised(answer)
            return value_of(answer["value"], raw)

    def timings(self, call: ReferenceCall, calls: Sequence[Benched], threads: int) -> Timings:
        """As for every reference."""
        with self._fresh(lambda: self._started(PYTHON), call) as session:

            def ask(**asked: Any) -> Mapping[str, Any]:
                answer = session.ask(json.dumps(asked))
                if answer["event"] == "error":
                    raise self._raised(answer)
                return answer

            settings = ask(do="settings", threads=threads)
            loaded = ask(**_load(call))
            events = [
                ask(
                    do="bench",
                    method=call.method,
                    inputs=each.inputs["value"],
                    keywords=each.inputs.get("keywords") or {},
                    warmup=each.warmup,
                    runs=each.runs,
                    seconds=each.seconds,
                    **{"from": str(each.raw)},
                )
                for each in calls
            ]
            return Timings(float(loaded["load_ms"]), events, settings)

    def _raised(self, answer: Mapping[str, Any]) -> ReferenceFailedError:
        """The error for what Python raised."""
        lines = [line for line in str(answer["message"]).splitlines() if line.strip()]
        stages = {"library": "a library of operators", "load": "the model", "input": "the inputs"}
        what = stages.get(str(answer["stage"]))
        sentence = failures.decisive_sentence(str(answer["message"])) or "no message"
        did = f"could not load {what}" if what else "could not run the model"
        return ReferenceFailedError(
            f"{self.name} {did}: {answer['error']}: {sentence}",
            details=tuple(lines[-LINES:]) if len(lines) > 1 else (),
        )


def _load(call: ReferenceCall) -> dict[str, Any]:
    """What Python is asked, to load a model."""
    return {
        "do": "load",
        "kind": call.kind,
        "path": str(call.path.absolute()),
        "device": call.device,
        "libraries": [str(library.absolute()) for library in call.libraries],
        "model": call.entry,
    }


def _ending(died: LoaderDiedError) -> str:
    if died.returncode < 0:
        return f"was killed by {failures.signal_name(-died.returncode)}"
    return f"ended with exit status {died.returncode}"


def python_of(named: str, libtorch: Libtorch) -> Path:
    """The interpreter for `--against python` or `python=EXE`.

    Raises:
        UsageError: this libtorch does not belong to an interpreter.
        ToolMissingError: there is no interpreter at that path.
    """
    _, equals, exe = named.partition("=")
    hint = "Name an interpreter that can import torch: --against python=EXE."
    if equals:
        found = which(str(Path(exe).expanduser())) if exe else None
        if found is None:
            raise ToolMissingError(f"--against {named}: no such interpreter: {exe or '(empty)'}.", hint=hint)
        return Path(found)
    if libtorch.python is None:
        raise UsageError(
            f"--against python: the libtorch in {libtorch.root} does not belong to a Python.", hint=hint
        )
    if is_foreign(libtorch):
        raise UsageError(
            f"--against python: the libtorch in {libtorch.root} and its Python are for {libtorch.platform} "
            f"{libtorch.arch} and cannot run here.",
            hint=hint,
        )
    return libtorch.python
