"""Every rule has a page, every page a rule, and reports carry both."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from torchlink.lint import rule_docs
from torchlink.lint.rules import RULES

PAGES = Path(__file__).parent.parent.parent.parent / "docs" / "rules"
IDS = [rule.id for rule in RULES]


def test_every_rule_has_a_page_and_every_page_a_rule() -> None:
    assert sorted(page.stem for page in PAGES.glob("*.md") if page.name != "README.md") == sorted(IDS)
    assert len(set(IDS)) == len(IDS)


@pytest.mark.parametrize("rule", RULES, ids=IDS)
def test_a_page_says_what_why_and_how_to_fix_it_in_three_languages(rule: object) -> None:
    (document,) = [each for each in rule_docs() if each.id == getattr(rule, "id", "")]
    page = (PAGES / f"{document.id}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {document.id}\n\n*{document.severity.value}*: {document.title}\n")
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == ["What it finds", "Why it hurts", "How to fix it"]
    assert {"sh", "cmake", "nim"} <= set(re.findall(r"^```(\w+)$", page, re.MULTILINE))
    assert page.count("```") % 2 == 0
    assert document.help == page


def test_the_index_lists_every_rule_with_its_severity_and_title() -> None:
    index = (PAGES / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[([\w-]+)\]\(\1\.md\) \| (\w+) \| (.+) \|$", index, re.MULTILINE)
    assert sorted(rows) == sorted((rule.id, rule.severity.value, rule.title) for rule in RULES)


def test_links_between_pages_have_a_target() -> None:
    for page in PAGES.glob("*.md"):
        for target in re.findall(r"\]\(([\w-]+\.md)\)", page.read_text(encoding="utf-8")):
            assert (PAGES / target).is_file(), f"{page.name} links {target}"


def test_ids_are_kebab_case_and_titles_one_sentence() -> None:
    for rule in RULES:
        assert re.fullmatch(r"[a-z]+(-[a-z0-9]+)*", rule.id)
        assert re.fullmatch(r"[A-Z][^.!?]*\.", rule.title.replace("$ORIGIN", "ORIGIN")), rule.title
