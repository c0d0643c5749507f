"""The documentation's pages: one for each cause, rule, command and language, from the data that commands print."""

from __future__ import annotations

import re

import pytest

from tests.docs.blocks import blocks_of
from torchlink.cli.commands import COMMANDS, declared
from torchlink.cli.declaration import CommandGroup, fields_of
from torchlink.cli.docs import all_pages
from torchlink.explain import causes
from torchlink.lint.rules import RULES
from torchlink.projects.kinds import kinds

PAGES = {page.name: page for page in all_pages()}
ORIGINALS = ("multipy", "nim-torch-1.1", "pybind-torch", "torch-serving", "torchserve")


def test_names_are_unique_and_every_page_begins_with_its_title() -> None:
    assert len(PAGES) == len(all_pages())
    for page in PAGES.values():
        text = page.text()
        assert text.startswith("# "), page.name
        assert page.title
        assert page.about
        assert text.endswith("\n"), page.name


def test_there_is_a_page_for_each_cause_rule_command_and_original() -> None:
    for cause in causes.ids():
        assert f"causes/{cause}" in PAGES
    for rule in RULES:
        assert PAGES[f"rules/{rule.id}"].about == rule.title
    for name in COMMANDS:
        assert f"commands/{name}" in PAGES
    for name in ORIGINALS:
        assert f"originals/{name}" in PAGES


@pytest.mark.parametrize("name", causes.ids())
def test_the_page_of_a_cause_has_what_explain_prints(name: str) -> None:
    cause = causes.load(name)
    text = PAGES[f"causes/{name}"].text()
    assert text.startswith(f"# {cause.title}\n\n*{cause.stage}*: `{name}`\n")
    assert cause.text.strip() in text
    for fix in cause.fixes:
        assert fix.text.strip().rstrip(".:") in text
    shown = [line for block in blocks_of(name, text) for line in block.lines]
    for example in cause.examples:
        assert set(example.log.strip("\n").splitlines()) <= set(shown)
    index = PAGES["causes"].text()
    assert f"- [{cause.title}]({name}.md)" in index


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_of_a_command_has_all_of_its_help(name: str) -> None:
    text = PAGES[f"commands/{name}"].text()
    found = declared(name)
    commands = list(found.commands.values()) if isinstance(found, CommandGroup) else [found]
    for command in commands:
        for field in fields_of(command.arguments):
            for option in field.names:
                assert re.search(rf"^`?.*`{re.escape(option)}[ `]", text, re.MULTILINE), option
        shown = text.replace("`", "").replace("[security](../security.md)", "")
        for line in command.epilog.replace("\b", "").splitlines():
            assert not line.startswith("  ") or line.strip() in shown
        first = (command.run.__doc__ or "").split("\n")[0]
        assert first.replace("`", "").strip() in text.replace("`", "")


def test_each_kind_of_project_is_on_the_page_of_its_language() -> None:
    texts = {name: page.text() for name, page in PAGES.items() if name.startswith("languages/")}
    assert len(texts) == len({kind.language for kind in kinds()})
    for kind in kinds():
        (text,) = [text for text in texts.values() if f"\ntorchlink new {kind.name} app\n" in text]
        for command in kind.commands:
            assert command.replace("{name}", kind.usual_name or "app") in text
        assert kind.summary in text


def test_the_blocks_of_a_page_are_whole() -> None:
    for page in PAGES.values():
        assert blocks_of(page.name, page.text()) is not None
