"""One compiled model in one loader process: unpack, check, load, work out inputs, call, compare."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchlink.errors import FileError, ForwardFailedError, ModelError, NoInputFitsError, TorchlinkError
from torchlink.model.aoti import read_library, read_package, unpack
from torchlink.verify.aoti.fitness import check_symbols, check_target
from torchlink.verify.aoti.inputs import asked_in_source, asked_of_loader, guesses
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


def read_compiled(path: Path, kind: str, name: str | None) -> CompiledModel:
    """What a compiled file holds; `name` is the model's in a package.

    Raises:
        ModelError, UsageError, MalformedFileError: as `read_package` and `read_library`.
    """
    return read_package(path, name) if kind == "aoti-package" else read_library(path)


def check_compiled(path: Path, kind: str, name: str | None, libtorch: Libtorch, device: str) -> None:
    """Refuse a compiled model that cannot run here, as far as its metadata tells.

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
    with tempfile.TemporaryDirectory(prefix=UNPACKED, ignore_cleanup_errors=True) as scratch:
        yield CompiledRun(session, request, libtorch, result, linked, Path(scratch))


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

    def load_file(self, path: Path) -> dict[str, Any]:
        """Check and unpack the model once, and load it; its weights, too, where they are beside it."""
        if self.model is None:
            self.model = self._prepared(path)
        try:
            event = self.ask(f"load {self.device} {encoded(str(self.target))}", "load")
        except ForwardFailedError as error:
            error.hint = "Compile it again with the torch of this libtorch; a damaged one needs a fresh copy."
            raise
        self._give_weights(self.model)
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

    def _give_weights(self, model: CompiledModel) -> None:
        """Hand over the weights that the package keeps beside the library."""
        if not model.weights:
            return
        from torchlink.model.tensors import read_expected

        words = [f"weights {len(model.weights)}"]
        for name, place in model.weights.items():
            file = self.target / "data" / "weights" / place.file
            try:
                (stored,) = read_expected(file)
            except (FileError, ValueError) as error:
                raise ModelError(
                    f"{model.label}: its weight {name} cannot be read: {error}",
                    hint="Compile the package again.",
                ) from error
            from torchlink.model.stored import ITEM_SIZES, bounded

            size = ITEM_SIZES[stored.dtype]
            end = stored.offset + size * (
                sum((n - 1) * s for n, s in zip(stored.shape, stored.strides, strict=True)) + 1
            )
            part = replace(
                stored, shape=place.shape, strides=place.strides, offset=stored.offset + size * place.offset
            )
            bounded(part, end)
            words += [
                encoded(name),
                part.dtype,
                dimensions(part.shape),
                str(part.offset),
                dimensions(part.strides),
                encoded(str(file)),
            ]
        self.ask(" ".join(words), "load")

    def work_out(self, path: Path) -> None:
        """Call it with the inputs that its own checks ask for."""
        described = self.ask("describe", "describe")
        asked, where = self._asked()
        failed: list[Failed] = []
        for guess in guesses(described["takes"], asked, self.names, where):
            if not all(each.contiguous for each in asked):
                self.ask(
                    f"strides {len(asked)} {' '.join(dimensions(each.strides) for each in asked)}", "describe"
                )
            if self.try_inputs(guess, path, failed) is None:
                return
        first = failed[0]
        self.result = replace(first.result, input_tries=len(failed))
        raise NoInputFitsError(
            f"The model was loaded but not run: with {', '.join(spec.to_text() for spec in first.inputs) or 'no inputs'} "
            f"{first.error.message}",
            hint=f"Give its inputs with --input, in this order: {', '.join(self.names)}. {first.error.hint}".strip(),
            details=first.error.details,
        )

    def _asked(self) -> tuple[tuple[Asked, ...], str]:
        """The tensors that the model takes, and where that was read."""
        asked = asked_in_source(self.model.source) if self.model is not None and self.model.source else None
        if asked is not None:
            return asked, "from the checks in the package's source"
        try:
            return asked_of_loader(self.ask("inputs", "describe")), "from what the model says of other inputs"
        except (TorchlinkError, LoaderDiedError) as error:
            if self.session.timed_out:
                raise
            said = f": {error.message}" if isinstance(error, TorchlinkError) else ""
            raise NoInputFitsError(
                f"The model was loaded but not run: it does not tell which inputs it takes{said}",
                hint=f"Give them with --input, in this order: {', '.join(self.names)}.",
            ) from None
