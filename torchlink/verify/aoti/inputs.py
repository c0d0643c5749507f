"""The inputs that a compiled model takes: the structure from its call spec, dtypes and sizes from its own checks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from torchlink.bounds import whole_number
from torchlink.verify.guessing.search import Guess
from torchlink.verify.specs import DictInput, InputSpec, ListInput, ScalarInput, TensorInput, TupleInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

LEAST = 2  # for a dynamic size: many kernels treat 0 and 1 as special cases
MOST_DIMENSIONS, MOST_INPUTS = 64, 10_000
OTHER_SIZES = (8, 16, 64)  # of dynamic dimensions, if the smallest does not work
# What `generate_input_output_runtime_checks` of torch/_inductor/codegen/cpp_wrapper_cpu.py writes into `*.wrapper.cpp`.
AT = r'"input_handles\[(?P<input>\d{1,6})\]: '
DTYPE = re.compile(
    r"aoti_torch_dtype_(?P<dtype>\w+)\(\);\s*if \([^)]*\) \{\s*std::stringstream ss;\s*ss << "
    + AT
    + "unmatched dtype"
)
SIZE = re.compile(AT + r'unmatched dim value at (?P<at>\d{1,3}), "\s*<< "expected: (?P<value>\d{1,18}),')
SMALLEST = re.compile(
    AT + r'dim value is too small at (?P<at>\d{1,3}), "\s*<< "expected it to be >= (?P<value>-?\d{1,18}),'
)
LARGEST = re.compile(
    AT + r'dim value is too large at (?P<at>\d{1,3}), "\s*<< "expected to be <= (?P<value>\d{1,20}),'
)
STRIDE = re.compile(AT + r'unmatched stride value at (?P<at>\d{1,3}), "\s*<< "expected: (?P<value>\d{1,18}),')
CONSTANT = re.compile(r"\bconstants_info_\[(\d{1,6})\]\.name = ")
COUNT = re.compile(r'\binputs_info_\[(?P<input>\d{1,6})\]\.name = "arg(?P<number>\d{1,9})_')


class Asked(NamedTuple):
    """One tensor that a compiled model takes."""

    dtype: str
    shape: tuple[int, ...]  # for a dynamic size the smallest that is allowed, at least 2
    strides: tuple[int, ...]  # in elements
    dynamic: Mapping[int, tuple[int, int | None]] = {}  # dimension -> smallest and largest size

    def tensor(self, size: int | None = None, fill: str = "ones") -> TensorInput:
        """An input that satisfies the checks.

        Args:
            size: of every dynamic dimension, within its bounds; None: the smallest.
            fill: what whole numbers are filled with.
        """
        shape = list(self.shape)
        for at, (low, high) in self.dynamic.items():
            if size is not None:
                shape[at] = max(low, size if high is None else min(size, high))
        return TensorInput(self.dtype, tuple(shape), fill if self.whole else "ones")

    @property
    def whole(self) -> bool:
        """Whether its values are integers, which may be indices."""
        return self.dtype.startswith(("int", "uint"))

    @property
    def contiguous(self) -> bool:
        """Whether its strides are those of a new tensor."""
        return self.strides == strides_of(self.shape)


def strides_of(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of a contiguous tensor, as libtorch counts them."""
    strides: list[int] = []
    next_ = 1
    for size in reversed(shape):
        strides.insert(0, next_)
        next_ *= max(size, 1)
    return tuple(strides)


def asked_in_source(source: str) -> tuple[Asked, ...] | None:
    """The tensors that a model takes, from the checks in its source; None if it has none."""
    dtypes = {int(found["input"]): found["dtype"] for found in DTYPE.finditer(source)}
    count = len(set(COUNT.findall(source)))
    if not dtypes and count == 0 and "inputs_info_" not in source and "input_handles" in source:
        return ()
    if count == 0 or set(dtypes) != set(range(count)) or count > MOST_INPUTS:
        return None
    sizes, low, high, strides = (_numbers(pattern, source) for pattern in (SIZE, SMALLEST, LARGEST, STRIDE))
    asked = []
    for number in range(count):
        spoken = [table.get(number, {}) for table in (sizes, low, high, strides)]
        rank = max((at + 1 for table in spoken for at in table), default=0)
        if rank > MOST_DIMENSIONS:
            return None
        fixed, least, most, steps = spoken
        dynamic = {at: (max(least.get(at, 0), 0), most.get(at)) for at in range(rank) if at not in fixed}
        shape = tuple(fixed[at] if at in fixed else _smallest(*dynamic[at]) for at in range(rank))
        asked.append(Asked(dtypes[number], shape, _strides(shape, steps), dynamic))
    return tuple(asked)


def _smallest(low: int, high: int | None) -> int:
    wanted = max(low, LEAST)
    return wanted if high is None else min(wanted, high)


def _strides(shape: tuple[int, ...], told: Mapping[int, int]) -> tuple[int, ...]:
    """The strides that the model checks; the others follow from the sizes."""
    strides: list[int] = []
    next_ = 1
    for at in range(len(shape) - 1, -1, -1):
        strides.insert(0, told.get(at, next_))
        next_ = strides[0] * max(shape[at], 1)
    return tuple(strides)


def _numbers(pattern: re.Pattern[str], source: str) -> dict[int, dict[int, int]]:
    """Input -> dimension -> number."""
    found: dict[int, dict[int, int]] = {}
    for match in pattern.finditer(source):
        text = match["value"]
        value = -1 if text.startswith("-") else whole_number(text)
        found.setdefault(int(match["input"]), {})[int(match["at"])] = value
    return found


def asked_of_loader(event: Mapping[str, Any]) -> tuple[Asked, ...]:
    """The same from the loader's `inputs` event."""
    return tuple(
        Asked(
            str(each["dtype"]),
            tuple(each["shape"]),
            tuple(each["strides"]),
            dict.fromkeys(each["dynamic"], (LEAST, None)),
        )
        for each in event["inputs"]
    )


def places_of(source: str, leaves: int) -> tuple[int, ...] | None:
    """Which of the arguments' values each tensor is; None if all are tensors, or if that is unknown.

    The other values were not tensors, and were fixed when the model was exported. The names of the inputs are numbered
    through all placeholders of the exported graph, the weights first.

    Args:
        source: text of `*.wrapper.cpp`.
        leaves: how many values the arguments have.
    """
    numbers = sorted({int(found["number"]) for found in COUNT.finditer(source)})
    if not numbers or len(numbers) == leaves:
        return None
    told = numbers[-1] - numbers[0] + 1 == leaves
    first = numbers[0] if told else len(set(CONSTANT.findall(source)))
    places = tuple(number - first for number in numbers)
    return places if places[0] >= 0 and places[-1] < leaves else None


# The errors of a compiled model about an unsuitable input: the same checks, at run time.
REFUSED = re.compile(
    r"input_handles\[(?P<input>\d+)\]: (?:unmatched (?P<what>dtype|dim value|stride value|device type)"
    r"|dim value is too (?P<size>small|large))(?: at (?P<at>\d+))?, "
    r"expected(?: it)?(?: to be)?:? ?(?:[<>]= )?(?P<wanted>-?\d+)(?:\((?P<name>[\w:]+)\))?,? but got: (?P<got>-?\d+)"
)
# c10::ScalarType by number.
SCALAR_TYPES = dict(
    enumerate(
        [
            "uint8",
            "int8",
            "int16",
            "int32",
            "int64",
            "float16",
            "float32",
            "float64",
            "complex32",
            "complex64",
            "complex128",
            "bool",
            "qint8",
            "quint8",
            "qint32",
            "bfloat16",
        ]
    )
)


def refused(said: str, names: Sequence[str]) -> str | None:
    """A sentence from a model's error about a wrong input; None for any other error.

    Args:
        said: the error message.
        names: of its tensors, as far as known.
    """
    found = REFUSED.search(said)
    if found is None:
        return None
    number, wanted, got = int(found["input"]), found["wanted"], found["got"]
    name = names[number] if number < len(names) else f"tensor {number + 1}"
    if found["what"] == "dtype":
        dtypes = [SCALAR_TYPES.get(whole_number(each), f"dtype {each}") for each in (wanted, got)]
        return f"{name} must be {dtypes[0]}, and is {dtypes[1]}"
    if found["what"] == "dim value":
        return f"{name} must have size {wanted} in dimension {found['at']}, and has {got}"
    if found["what"] == "stride value":
        return (
            f"{name} must have stride {wanted} in dimension {found['at']}, and has {got}: the model was compiled for "
            "another memory format"
        )
    if found["size"]:
        least = "at least" if found["size"] == "small" else "at most"
        return f"{name} must have size {least} {wanted} in dimension {found['at']}, and has {got}"
    return f"{name} is on another device than the model was compiled for"


def labels_of(tree: Mapping[str, Any], names: Sequence[str], places: Sequence[int] | None) -> list[str]:
    """The place of each of the model's tensors in the arguments: `argument 2[0]`, `options['scale']`."""
    labels = [
        label for part, name in zip(arguments_of(tree), names, strict=False) for label in _labels(part, name)
    ]
    return labels if places is None else [labels[place] for place in places if place < len(labels)]


def _labels(tree: Mapping[str, Any], label: str) -> Iterator[str]:
    if tree["kind"] == "leaf":
        yield label
        return
    for key, part in zip(tree.get("keys") or range(len(tree["parts"])), tree["parts"], strict=False):
        yield from _labels(part, f"{label}[{key!r}]")


def leaves_of(tree: Mapping[str, Any]) -> int:
    """The number of values in a structure."""
    return 1 if tree["kind"] == "leaf" else sum(map(leaves_of, tree["parts"]))


def guesses(
    tree: Mapping[str, Any] | None,
    asked: Sequence[Asked],
    names: Sequence[str],
    where: str,
    places: Sequence[int] | None = None,
) -> Iterator[Guess]:
    """Arguments to try, the most likely first: positional ones, then keyword arguments in the model's order.

    Args:
        tree: `((args…), {kwargs…})` as the loader describes it; None if every argument is a tensor.
        asked: the tensors that the model takes.
        names: of the arguments.
        where: where that was found.
        places: as `places_of` returns them.
    """
    seen = set()
    plans: list[tuple[int | None, str]] = [(None, "ones"), (None, "zeros")]
    if any(each.dynamic for each in asked):
        plans += [(size, "ones") for size in OTHER_SIZES] + [(0, "ones")]
    for size, fill in plans:
        tensors: Iterator[InputSpec] = iter([each.tensor(size, fill) for each in asked])
        if places is not None:
            by_place = dict(zip(places, tensors, strict=True))
            tensors = (by_place.get(place, ScalarInput(None)) for place in range(max(places) + 1))
        inputs = (
            tuple(tensors) if tree is None else tuple(arranged(part, tensors) for part in arguments_of(tree))
        )
        if inputs not in seen:
            seen.add(inputs)
            yield Guess(inputs, _why(inputs, asked, names, where))


def arguments_of(tree: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The trees of the arguments, positional ones first."""
    return [part for group in tree["parts"] for part in group["parts"]]


def arranged(tree: Mapping[str, Any], tensors: Iterator[InputSpec]) -> InputSpec:
    """An argument of this structure; values that were not tensors at export are None once tensors run out."""
    kind = tree["kind"]
    if kind == "leaf":
        return next(tensors, ScalarInput(None))
    parts = tuple(arranged(part, tensors) for part in tree["parts"])
    if kind == "dict":
        return DictInput(tuple(zip(map(ScalarInput, tree["keys"]), parts, strict=True)))
    return ListInput(parts) if kind == "list" else TupleInput(parts)


def _why(inputs: Sequence[InputSpec], asked: Sequence[Asked], names: Sequence[str], where: str) -> str:
    said = "; ".join(f"{name} = {spec.to_text()}" for name, spec in zip(names, inputs, strict=False))
    dynamic = sum(len(each.dynamic) for each in asked)
    sizes = {0: "", 1: "; one size is dynamic"}.get(dynamic, f"; {dynamic} sizes are dynamic")
    return f"{said or 'the model takes no inputs'}: {where}{sizes}"
