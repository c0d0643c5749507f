"""The arguments that a user gives to a model: read from the command line, and bound to the schema of its method.

Mismatches with the schema are found here, before anything runs, and reported with the model's names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torchlink.errors import UsageError
from torchlink.shown import shortened, visible
from torchlink.verify.schema_types import Type, parse_type
from torchlink.verify.specs import (
    DictInput,
    FileInput,
    InputSpec,
    ListInput,
    ScalarInput,
    TensorInput,
    TupleInput,
    spec_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torchlink.verify.graph import Argument

Keywords = tuple[tuple[str, InputSpec], ...]
PLAIN: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (float, int),
    "complex": (complex, float, int),
    "number": (int, float, complex),
    "Scalar": (int, float, complex),
    "bool": (bool,),
    "str": (str,),
    "NoneType": (),
}


class Given(NamedTuple):
    """Arguments as given, before the schema is known."""

    positional: tuple[InputSpec, ...] = ()
    keywords: Keywords = ()
    file: Path | None = None  # the file of --inputs, if that gave them
    whole: FileInput | None = None  # entries by name, from --inputs: in order if no name is an argument


class Bound(NamedTuple):
    """Arguments that fit a schema."""

    positional: tuple[InputSpec, ...]
    keywords: Keywords = ()


def read_given(inputs: Sequence[str] | None, file: Path | None) -> Given | None:
    """The arguments of --input or --inputs; None without either.

    Raises:
        UsageError: both are given, an input cannot be read, or a name is given twice.
        FileError: a file cannot be read.
    """
    if file is not None:
        if inputs:
            raise UsageError(
                "--input and --inputs cannot be combined.",
                hint="Put every argument into the file of --inputs.",
            )
        return _all_of(file)
    if inputs is None:
        return None
    from torchlink.verify.inputs import parse_argument

    parsed = [parse_argument(text) for text in inputs]
    keywords = tuple((name, spec) for name, spec in parsed if name is not None)
    names = [name for name, _ in keywords]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UsageError(f"--input {twice}=… is given twice.", hint="Give each argument once.")
    return Given(tuple(spec for name, spec in parsed if name is None), keywords)


def _all_of(file: Path) -> Given:
    """All arguments from one file: a list or tuple in order, a dict by name, anything else as the only one."""
    from torchlink.model.values import read_values

    content = read_values(file.expanduser())
    if isinstance(content.value, (list, tuple)):
        return Given(tuple(map(spec_of, content.value)), file=file)
    spec = spec_of(content.value)
    if isinstance(spec, DictInput):
        return Given(file=file, whole=FileInput(content.path, spec, content.named))
    return Given((spec,), file=file)


def bind(given: Given, schema: Sequence[Argument] | None, method: str, model: Path) -> Bound:
    """The arguments in the order and with the types of the schema.

    Args:
        given: the user's arguments.
        schema: the method's arguments, self left out; None if unknown.
        method: its name.
        model: the file, for messages.

    Raises:
        UsageError: they do not fit: a wrong count, name or type, or one is missing.
    """
    if schema is None:
        return _unchecked(given)
    return _Binding(schema, method, model, given.file).bound(given)


def _unchecked(given: Given) -> Bound:
    if given.whole is not None and isinstance(given.whole.spec, DictInput):
        return Bound(tuple(spec for _, spec in given.whole.spec.items))
    return Bound(given.positional, given.keywords)


class _Binding:
    """One method of one model."""

    def __init__(self, schema: Sequence[Argument], method: str, model: Path, file: Path | None) -> None:
        self.schema = schema
        self.method = method
        self.model = visible(str(model))
        self.source = "--input" if file is None else visible(str(file))

    @property
    def declared(self) -> str:
        """`forward(x: Tensor, n: int = 2)`."""
        shown = [
            f"{argument.name}: {argument.type}" + (f" = {argument.default}" if argument.has_default else "")
            for argument in self.schema
        ]
        return f"{self.method}({', '.join(shown)})"

    def wrong(self, fact: str) -> UsageError:
        return UsageError(
            f"{self.model}: {fact}.",
            hint=f"Give {self.source} the arguments of {visible(shortened(self.declared, 400))}.",
        )

    def bound(self, given: Given) -> Bound:
        positional, keywords = self.in_places(given)
        names = [argument.name for argument in self.schema]
        ordinary = [argument for argument in self.schema if not argument.kwarg_only]
        if len(positional) > len(ordinary):
            counted = f"{len(ordinary)} argument{'' if len(ordinary) == 1 else 's'}"
            if len(ordinary) < len(self.schema):
                counted += " by position"
            raise self.wrong(f"{self.method} takes {counted}, but {self.source} gives {len(positional)}")
        taken = set(names[: len(positional)])
        for name, _ in keywords:
            if name not in names:
                raise self.wrong(
                    f"{self.method} has no argument {visible(name)!r}{self.nearest(name, names)}"
                )
            if name in taken:
                raise self.wrong(f"argument {name} is given by position and by name")
        given_names = taken | {name for name, _ in keywords}
        missing = [
            f"{argument.name} ({argument.type})"
            for argument in self.schema
            if argument.name not in given_names and not argument.has_default
        ]
        if missing:
            arguments, are = ("arguments", "are") if len(missing) > 1 else ("argument", "is")
            raise self.wrong(f"{arguments} {', '.join(missing)} of {self.method} {are} missing")
        types = {argument.name: argument for argument in self.schema}
        return Bound(
            tuple(
                self.fitted(spec, argument) for spec, argument in zip(positional, self.schema, strict=False)
            ),
            tuple((name, self.fitted(spec, types[name])) for name, spec in keywords),
        )

    def in_places(self, given: Given) -> tuple[tuple[InputSpec, ...], Keywords]:
        """The arguments by position and by name; entries of a file by name if the names are arguments."""
        if given.whole is None or not isinstance(given.whole.spec, DictInput):
            return given.positional, given.keywords
        entries = given.whole.spec.items
        names = [argument.name for argument in self.schema]
        keys = [key.value for key, _ in entries]
        if any(key in names for key in keys):
            return (), tuple((str(key.value), spec) for key, spec in entries)
        if set(keys) == {"positional", "keywords"}:  # as --record writes it
            return self.recorded(dict(zip(keys, (spec for _, spec in entries), strict=True)))
        if not all(isinstance(key, str) for key in keys):
            return (given.whole.spec,), ()
        first = parse_type(self.schema[0].type) if self.schema else Type("other")
        only = [argument for argument in self.schema if not argument.has_default]
        if len(only) <= 1 and _inner(first).kind == "dict":
            return (given.whole.spec,), ()
        if given.whole.named:
            return tuple(spec for _, spec in entries), ()
        if len(only) <= 1 and first.kind == "Any":
            return (given.whole.spec,), ()
        return (), tuple((str(key.value), spec) for key, spec in entries)

    def recorded(self, parts: Mapping[object, InputSpec]) -> tuple[tuple[InputSpec, ...], Keywords]:
        """The arguments in a file of --record."""
        positional, keywords = parts["positional"], parts["keywords"]
        if not isinstance(positional, (ListInput, TupleInput)) or not isinstance(keywords, DictInput):
            raise self.wrong("'positional' must be a list or tuple, and 'keywords' a dict")
        return positional.items, tuple((str(key.value), spec) for key, spec in keywords.items)

    @staticmethod
    def nearest(name: str, names: Sequence[str]) -> str:
        from difflib import get_close_matches

        close = get_close_matches(name, names, 1)
        return f" (did you mean {close[0]!r}?)" if close else ""

    def fitted(self, spec: InputSpec, argument: Argument) -> InputSpec:
        """The value converted to the argument's type."""
        try:
            return fit(spec, parse_type(argument.type))
        except _MisfitError as misfit:
            where = f"argument {argument.name}{misfit.place}"
            expected = argument.type if not misfit.place else misfit.expected
            raise self.wrong(
                f"{where} of {self.method} takes {expected}, but {misfit.given} is given"
            ) from None


class _MisfitError(Exception):
    """A value that a type does not accept."""

    def __init__(self, given: str, wanted: Type, place: str = "") -> None:
        super().__init__(given)
        self.given = given
        self.expected = type_text(wanted)
        self.place = place


def fit(spec: InputSpec, wanted: Type) -> InputSpec:
    """A value converted to a type: lists to tuples and vice versa, the single tensor of a file or container.

    Raises:
        _MisfitError: it cannot be converted.
    """
    kind = wanted.kind
    if kind in ("Any", "other"):
        return spec.alone if isinstance(spec, FileInput) else spec
    if kind in ("optional", "union"):
        return _fit_any(spec, wanted)
    if isinstance(spec, FileInput):
        fitted = fit(spec.spec if kind == "dict" else spec.alone, wanted)
        return FileInput(spec.path, fitted)
    fitting = spec
    if kind == "Tensor":
        while isinstance(fitting, (ListInput, TupleInput)) and len(fitting.items) == 1:
            fitting = fitting.items[0]
        if isinstance(fitting, TensorInput):
            return fitting
    elif kind in PLAIN and isinstance(spec, ScalarInput):
        return _fit_scalar(spec, wanted)
    else:
        made = _fit_container(spec, wanted)
        if made is not None:
            return made
    raise _MisfitError(described(spec), wanted)


def _fit_container(spec: InputSpec, wanted: Type) -> InputSpec | None:
    """A list, tuple or dict converted to a type; None if it is not of that kind."""
    kind, parts = wanted.kind, wanted.parts
    if kind == "dict" and isinstance(spec, DictInput):
        count = len(spec.items)
        written = [f" (key {visible(shortened(key.to_text(), 24))})" for key, _ in spec.items]
        keys = _fit_parts([key for key, _ in spec.items], [parts[0]] * count, written)
        places = [f"[{key.to_text()}]" for key, _ in spec.items]
        values = _fit_parts([value for _, value in spec.items], [parts[1]] * count, places)
        pairs = zip(keys, values, strict=True)
        return DictInput(tuple((key, value) for key, value in pairs if isinstance(key, ScalarInput)))
    if not isinstance(spec, (ListInput, TupleInput)):
        return None
    if kind == "list":
        return ListInput(_fit_parts(spec.items, [parts[0]] * len(spec.items)))
    if kind == "tuple" and len(spec.items) == len(parts):
        return TupleInput(_fit_parts(spec.items, parts))
    return None


def _fit_any(spec: InputSpec, wanted: Type) -> InputSpec:
    """A value converted to one of several types."""
    is_none = isinstance(spec, ScalarInput) and spec.value is None
    if is_none and (
        wanted.kind == "optional" or any(part.kind in ("NoneType", "optional") for part in wanted.parts)
    ):
        return spec
    first: _MisfitError | None = None
    for part in wanted.parts:
        try:
            return fit(spec, part)
        except _MisfitError as misfit:
            first = first or misfit
    if first is not None and first.place and len(wanted.parts) == 1:
        raise first
    raise _MisfitError(described(spec), wanted)


def _fit_parts(
    items: Sequence[InputSpec], wanted: Sequence[Type], places: Sequence[str] = ()
) -> tuple[InputSpec, ...]:
    fitted = []
    for index, (item, part) in enumerate(zip(items, wanted, strict=True)):
        try:
            fitted.append(fit(item, part))
        except _MisfitError as misfit:
            misfit.place = (places[index] if places else f"[{index}]") + misfit.place
            raise
    return tuple(fitted)


def _fit_scalar(spec: ScalarInput, wanted: Type) -> ScalarInput:
    value = spec.value
    if value is None and wanted.kind == "NoneType":
        return spec
    if isinstance(value, bool) is not (wanted.kind == "bool") or not isinstance(value, PLAIN[wanted.kind]):
        raise _MisfitError(described(spec), wanted)
    if wanted.kind == "float" and isinstance(value, int):
        return ScalarInput(float(value))
    if wanted.kind == "complex" and isinstance(value, (int, float)):
        return ScalarInput(complex(value))
    return spec


def described(spec: InputSpec) -> str:
    """A value described for a message: `a tensor (float32[1,3])`, `a float (0.5)`."""
    match spec:
        case FileInput():
            return f"{described(spec.alone)} (of {visible(str(spec.path))})"
        case TensorInput():
            return f"a tensor ({spec.dtype}[{','.join(map(str, spec.shape))}])"
        case ListInput() | TupleInput() | DictInput():
            kind = type(spec).__name__.removesuffix("Input").lower()
            return f"a {kind} of {len(spec.items)}"
        case ScalarInput():
            if spec.value is None:
                return "None"
            kind = type(spec.value).__name__
            article = "an" if kind == "int" else "a"
            return f"{article} {kind} ({visible(shortened(spec.to_text(), 24))})"
    return "something else"


def type_text(kind: Type) -> str:
    """A type in TorchScript's notation: `Dict[str, Tensor]`."""
    if not kind.parts:
        return kind.kind
    return f"{kind.kind.capitalize()}[{', '.join(map(type_text, kind.parts))}]"


def _inner(kind: Type) -> Type:
    return kind.parts[0] if kind.kind == "optional" and kind.parts else kind
