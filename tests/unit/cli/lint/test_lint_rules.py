"""What lint says of its rules: the list, and the page of one, as the wheel carries it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.conftest import REPOSITORY
from torchlink.cli import lint, plain
from torchlink.lint.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Result


def test_every_rule_is_listed(torchlink: Callable[..., Result]) -> None:
    done = torchlink("lint", "--list-rules")
    assert (done.code, done.err) == (0, "")
    assert [line.split()[:2] for line in done.out.splitlines()] == [
        [rule.id, rule.severity.value] for rule in RULES
    ]
    listed = json.loads(torchlink("lint", "--list-rules", "--json").out)
    assert (listed["schema"], len(listed["rules"])) == (1, len(RULES))


@pytest.mark.parametrize("rule", [rule.id for rule in RULES])
def test_the_page_of_a_rule_is_that_of_the_docs(torchlink: Callable[..., Result], rule: str) -> None:
    done = torchlink("lint", "--explain", rule)
    page = (REPOSITORY / "docs/rules" / f"{rule}.md").read_text(encoding="utf-8")
    assert (done.code, done.out, done.err) == (0, page, "")


def test_a_page_as_json(torchlink: Callable[..., Result]) -> None:
    (page,) = json.loads(torchlink("lint", "--explain", "abi-mismatch", "--json").out)["rules"]
    assert (page["id"], page["severity"]) == ("abi-mismatch", "error")
    assert page["page"].startswith("# abi-mismatch")


def test_a_rule_that_is_none_is_one_error(torchlink: Callable[..., Result]) -> None:
    done = torchlink("lint", "--explain", "abi-mismtch")
    assert (done.code, done.out) == (2, "")
    assert "Did you mean 'abi-mismatch'?" in done.err


@pytest.mark.parametrize("words", [(), ("-v",), ("--list-rules", "--explain", "abi-mismatch")])
def test_what_asks_for_nothing_or_two_things_is_a_usage_error(
    torchlink: Callable[..., Result], words: tuple[str, ...]
) -> None:
    done = torchlink("lint", *words)
    assert (done.code, done.out) == (2, "")
    assert len(done.err.splitlines()) == 2


def test_the_quick_path_reads_them() -> None:
    assert plain.read(lint.COMMAND, ["--list-rules"])
    assert plain.read(lint.COMMAND, ["--explain", "abi-mismatch"])
