"""One compiled model in one loader process: unpack, check, load, work out inputs, call, compare."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchlink.errors import (
    FULL,
    RESOURCES,
    FileError,
    ForwardFailedError,
    NoInputFitsError,
    TorchlinkError,
    UsageError,
    out_of_resources,
)
from torchlink.model.aoti import read_library, read_package, unpack
from torchlink.shown import visible
from torchlink.status import not_about_the_file
from torchlink.verify import failures
from torchlink.verify.aoti.fitness import check_symbols, check_target
from torchlink.verify.aoti.inputs import (
    asked_in_source,
    asked_of_loader,
    guesses,
    labels_of,
    leaves_of,
    places_of,
    refused,
)
from torchlink.verify.model_run import ModelRun
from torchlink.verify.session import LoaderDiedError
from torchlink.verify.specs import dimensions, encoded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torchlink.libtorch.facts import Libtorch
    from torchlink.model.aoti import CompiledModel
    from torchlink.verify.aoti.inputs import Asked
    from torchlink.verify.model_run import Failed
    from torchlink.verify.result import ModelResult, Request
    from torchlink.verify.session import Session

UNPACKED = "torchlink-model-"
COUNTED = re.compile(r"expected inputs vector size to be (?P<taken>\d+), but got (?P<given>\d+)")
NO_EXEC = "failed to map segment"  # what glibc says of a library on a file system that forbids programs
JUST_MADE = 60.0  # seconds in which a directory may not be locked yet by whoever has made it


def read_compiled(path: Path, kind: str, name: str | None) -> CompiledModel:
    """The contents of a compiled file; `name` is the model's name in a package.

    Raises:
        ModelError, UsageError, MalformedFileError: as `read_package` and `read_library`.
    """
    return read_package(path, name) if kind == "aoti-package" else read_library(path)


def check_compiled(path: Path, kind: str, name: str | None, libtorch: Libtorch, device: str) -> None:
    """Refuse a compiled model that cannot run here according to its metadata.

    Raises:
        CompiledForOtherError: it was compiled for something else.
    """
    check_target(read_compiled(path, kind, name), libtorch, device)


@contextmanager
def compiled_run(
    session: Session, request: Request, libtorch: Libtorch, result: ModelResult, linked: Sequence[Path]
) -> Iterator[CompiledRun]:
    """The run of one compiled model, which is unpacked into a directory of its own until it ends.

    Args:
        session: of the loader for compiled models.
        request: what is asked of the model.
        libtorch: what the loader was built against.
        result: the model's path and kind.
        linked: libtorch's libraries that the loader links.
    """
    try:
        place = tempfile.mkdtemp(prefix=UNPACKED)
    except OSError as error:
        if error.errno in RESOURCES | FULL:
            raise out_of_resources("Cannot make a directory to unpack the model to", error) from error
        raise FileError(
            f"Cannot make a directory to unpack the model to: {error.strerror or error}.",
            hint="Name one that you may write to with TMPDIR.",
        ) from error
    _sweep(Path(place).parent)
    try:
        with _held(Path(place)):
            yield CompiledRun(session, request, libtorch, result, linked, Path(place))
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _held(directory: Path) -> Iterator[bool]:
    """Lock a directory as one in use; False where another process has it locked, or locks are not to be had."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        try:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (ImportError, OSError):
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _sweep(place: Path) -> None:
    """Delete what a killed run of this user has left unpacked: directories that nobody holds any more."""
    for left in place.glob(f"{UNPACKED}*"):
        try:
            status = left.lstat()
            own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
            if own and time.time() - status.st_mtime > JUST_MADE:
                with _held(left) as free:
                    if free:
                        shutil.rmtree(left, ignore_errors=True)
        except OSError as error:
            not_about_the_file(left, error)


class CompiledRun(ModelRun):
    """The steps for a compiled model."""

    def __init__(
        self,
        session: Session,
        request: Request,
        libtorch: Libtorch,
        result: ModelResult,
        linked: Sequence[Path],
        scratch: Path,
    ) -> None:
        super().__init__(session, request, libtorch, result)
        self.linked = linked
        self.scratch = scratch
        self.model: CompiledModel | None = None
        self.target = scratch  # what the loader loads
        self.device = request.device
        self.takes: dict[str, Any] | None = None  # the structure of the arguments
        self.places: tuple[int, ...] | None = None  # which of their values are tensors; None: all, or unknown

    @property
    def process_stays_unchanged(self) -> bool:
        """Never: its code is not TorchScript's own."""
        return False

    def ask(self, command: str, stage: str) -> dict[str, Any]:
        """Send a command; the model's error about a wrong input is reported with the argument's name."""
        try:
            return super().ask(command, stage)
        except ForwardFailedError as error:
            if self.stage == "input":
                raise self._unfit(error.message.removeprefix(failures.NOT_MADE)) from None
            counted = COUNTED.search(error.message)
            if counted:
                plural = "" if counted["taken"] == "1" else "s"
                raise self._unfit(
                    f"forward takes {counted['taken']} tensor{plural}, but the arguments have {counted['given']}"
                ) from None
            names = labels_of(self.takes, self.names, self.places) if self.takes else self.names
            said = refused(error.message, names)
            if said is not None and stage in ("forward", "again", "bench"):
                error.message = f"The model does not take this input: {said}."
                error.details = ()
            raise

    def _unfit(self, fact: str) -> UsageError:
        """The error for arguments of another structure than those of the export."""
        return UsageError(
            f"{visible(str(self.result.path))}: {fact}.",
            hint="Give --input values with the structure of the export's example inputs.",
        )

    def death(self, died: LoaderDiedError) -> TorchlinkError:
        """The error for a loader that died; a missing processor instruction is blamed on the compiled model."""
        error = super().death(died)
        if died.returncode == -signal.SIGILL:
            error.hint = (
                "Compile the model again on this machine: it uses an instruction that this processor lacks."
            )
        return error

    def load_file(self, path: Path) -> dict[str, Any]:
        """Check and unpack the model once, and load it, with its weights if they are in a file next to it."""
        if self.model is None:
            self.model = self._prepared(path)
        try:
            event = self.ask(f"load {self.device} {encoded(str(self.target))}", "load")
        except ForwardFailedError as error:
            error.hint = "Compile it again with the torch of this libtorch; a damaged one needs a fresh copy."
            if NO_EXEC in error.message:
                error.hint = "Name a directory whose file system allows programs (no noexec) with TMPDIR."
            raise
        described = self.ask("describe", "describe")
        self.takes = described["takes"]
        source = self.model.source
        self.places = places_of(source, leaves_of(self.takes)) if self.takes else None
        unset = described["unset_weights"]
        if unset:
            from torchlink.verify.aoti.weights import command, weights_of

            self.ask(command(weights_of(self.model, unset, self.target)), "load")
        return event

    def _prepared(self, path: Path) -> CompiledModel:
        self.stage = "load"
        model = read_compiled(path, self.result.kind, self.request.model)
        self.device = check_target(model, self.libtorch, self.request.device)
        self.target = library = model.path.absolute()
        if model.library:
            self.target = unpack(model, self.scratch)
            library = self.target / model.library
        check_symbols(model, library, self.libtorch, self.linked)
        return model

    def work_out(self, path: Path) -> None:
        """Call it with the inputs that its own checks require."""
        asked, where = self._asked()
        failed: list[Failed] = []
        for guess in guesses(self.takes, asked, self.names, where, self.places):
            if not all(each.contiguous for each in asked):
                self.ask(
                    f"strides {len(asked)} {' '.join(dimensions(each.strides) for each in asked)}", "describe"
                )
            if self.try_inputs(guess, path, failed) is None:
                return
        first = failed[0]
        self.result = replace(first.result, input_tries=len(failed))
        raise NoInputFitsError(
            "The model was loaded but not run: with "
            f"{', '.join(spec.to_text() for spec in first.inputs) or 'no inputs'} {first.error.message}",
            hint=f"Give its inputs with --input, in this order: {', '.join(self.names)}. {first.error.hint}".strip(),
            details=first.error.details,
        )

    def _asked(self) -> tuple[tuple[Asked, ...], str]:
        """The tensors that the model takes, and how that was determined."""
        asked = asked_in_source(self.model.source) if self.model is not None and self.model.source else None
        if asked is not None:
            return asked, "from the checks in the package's source"
        try:
            return asked_of_loader(
                self.ask("inputs", "describe")
            ), "from the model's errors about other inputs"
        except (TorchlinkError, LoaderDiedError) as error:
            if self.session.timed_out:
                raise
            said = f": {error.message}" if isinstance(error, TorchlinkError) else ""
            raise NoInputFitsError(
                f"The model was loaded but not run: its inputs could not be determined{said}",
                hint=f"Give them with --input, in this order: {', '.join(self.names)}.",
            ) from None
