"""Which stored tensor belongs to which output: by key where both have keys, else by position."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torchlink.errors import MismatchError

if TYPE_CHECKING:
    from collections.abc import Sequence

STEP = re.compile(r"""\[('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\]]*)\]""")
WORDS = {"True": "true", "False": "false"}
SHOWN = 5


def positions(outputs: Sequence[str], stored: Sequence[str], source: str) -> tuple[int, ...] | MismatchError:
    """For each output, the number of the stored tensor that it is compared with.

    Args:
        outputs: labels of the tensors that forward returned, as the loader writes them: `output.boxes[1]`.
        stored: labels of the tensors of the file: `['boxes'][1]`.
        source: the file's name.

    Returns:
        The numbers, or what is wrong where keys or counts differ.
    """
    named = [as_output(label) for label in stored]
    distinct = len(set(outputs)) == len(outputs) and len(set(named)) == len(named)
    if distinct and set(outputs) == set(named):
        return tuple(map(named.index, outputs))
    if distinct and has_keys(stored) and any("." in label for label in outputs):
        only_stored = [label for label in named if label not in outputs]
        only_returned = [label for label in outputs if label not in named]
        return MismatchError(
            f"forward did not return what {source} names: "
            + "; ".join(
                f"{_listed(labels)} {where}"
                for labels, where in ((only_stored, "is missing"), (only_returned, "is not in the file"))
                if labels
            )
            + ".",
            hint="Save exactly what forward returns, under the same keys.",
        )
    if len(outputs) != len(stored):
        return MismatchError(
            f"forward returned {_count(len(outputs))}, and {source} holds {len(stored)}.",
            hint="Save exactly the tensors that forward returns, in their order.",
        )
    return tuple(range(len(outputs)))


def as_output(label: str) -> str:
    """A stored tensor's label as the loader would write it: `['boxes'][1]` is `output.boxes[1]`."""
    return "output" + "".join(
        f"[{WORDS.get(text, text)}]" if key is None else f".{key}" for text, key in _steps(label)
    )


def has_keys(labels: Sequence[str]) -> bool:
    """Whether stored tensors were named by whoever saved them.

    Numbers that count them are no names: C++'s `torch::save` of a vector writes `'0'`, `'1'`, …, and
    `numpy.savez` of unnamed arrays `'arr_0'`, `'arr_1'`, ….
    """
    keys = [[key for _, key in _steps(label) if key is not None] for label in labels]
    counted = [[[f"{prefix}{number}"] for number in range(len(keys))] for prefix in ("", "arr_")]
    return any(keys) and keys not in counted


def _steps(label: str) -> list[tuple[str, str | None]]:
    """The keys and indices that lead to a stored tensor: each as written, and what a string key means."""
    import ast

    written: list[str] = STEP.findall(label)
    return [(text, str(ast.literal_eval(text)) if text[:1] in ("'", '"') else None) for text in written]


def _listed(labels: Sequence[str]) -> str:
    """The first few labels."""
    return ", ".join(labels[:SHOWN]) + (f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else "")


def _count(number: int) -> str:
    return "1 tensor" if number == 1 else f"{number} tensors"
