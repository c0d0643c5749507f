"""Every cause by its own examples: real logs that must give exactly it, and near misses that must not."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from torchlink.explain import causes
from torchlink.explain.explanation import Explanation, explain

if TYPE_CHECKING:
    from torchlink.explain.causes import Example

CAUSES = {name: causes.load(name) for name in causes.ids()}
EXAMPLES = [
    pytest.param(name, example, id=f"{name}-{number}")
    for name, cause in CAUSES.items()
    for number, example in enumerate(cause.examples)
]
NEAR_MISSES = [
    pytest.param(name, example, id=f"{name}-{number}")
    for name, cause in CAUSES.items()
    for number, example in enumerate(cause.near_misses)
]


def explained(log: str) -> Explanation:
    return explain([("log", io.BytesIO(log.encode()))])


@pytest.mark.parametrize("name", CAUSES)
def test_each_cause_has_an_example_and_a_near_miss(name: str) -> None:
    cause = CAUSES[name]
    assert cause.examples
    assert cause.near_misses
    assert cause.fixes
    assert set(cause.hides) <= set(CAUSES)
    assert all(example.cause in {"", *CAUSES} for example in cause.near_misses)


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_an_example_gives_exactly_its_cause(name: str, example: Example) -> None:
    assert [found.cause.id for found in explained(example.log).causes] == [name]


@pytest.mark.parametrize(("name", "example"), NEAR_MISSES)
def test_a_near_miss_does_not(name: str, example: Example) -> None:
    found = [found.cause.id for found in explained(example.log).causes]
    assert name not in found
    assert found == ([example.cause] if example.cause else [])


@pytest.mark.parametrize(
    "line",
    [
        "expected one thing, expected another: RuntimeError: expected scalar type Float but found Double",
        "RuntimeError: Expected object of scalar type Float but got scalar type Double (expected, as it were)",
        "not expected, could not find it, failed to find it: " * 400
        + "RuntimeError: expected scalar type Float but found Double",
    ],
    ids=["later", "earlier", "in a long line"],
)
def test_the_words_of_a_message_may_occur_elsewhere_in_its_line(line: str) -> None:
    assert [found.cause.id for found in explained(f"{line}\n").causes] == ["input-dtype-mismatch"]
