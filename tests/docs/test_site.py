"""The site is built from the pages without a warning, has every page, and fetches nothing from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import pytest

from tests.conftest import REPOSITORY, installed
from torchlink.cli.docs import all_pages

if TYPE_CHECKING:
    from pathlib import Path

FETCHED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "use": "href"}


class Page(HTMLParser):
    """The links, anchors and fetched files of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.anchors |= {value for name in ("id", "name") if (value := values.get(name))}
        link = values.get("href")
        if tag == "a" and link:
            self.links.append(link)
        address = values.get(FETCHED.get(tag, ""))
        if address and values.get("rel") not in {"next", "prev", "canonical"}:
            self.fetched.append(address)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    installed("zensical")
    installed("yaml")
    from tools import docs_site

    place = tmp_path_factory.mktemp("docs")
    assert docs_site.build(place) == 0
    return place / "site"


@pytest.fixture(scope="module")
def read(site: Path) -> dict[str, Page]:
    """Every page of the site by its directory."""
    found = {}
    for file in site.rglob("index.html"):
        page = Page()
        page.feed(file.read_text(encoding="utf-8"))
        found[file.parent.relative_to(site).as_posix()] = page
    return found


def test_every_page_is_on_the_site(read: dict[str, Page]) -> None:
    for page in all_pages():
        assert ("." if page.name == "index" else page.name) in read


def test_every_page_can_be_reached_from_the_navigation(site: Path) -> None:
    config = (site.parent / "mkdocs.yml").read_text(encoding="utf-8")
    from tools.docs_site import place

    pages = all_pages()
    for page in pages:
        assert re.search(rf"[ '\"]{re.escape(place(page, pages))}['\"]?$", config, re.MULTILINE), page.name


def test_every_link_and_anchor_has_a_target(site: Path, read: dict[str, Page]) -> None:
    broken = []
    for directory, page in read.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = (site / directory / unquote(parts.path)).resolve()
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                broken.append((directory, link))
                continue
            other = read.get(target.parent.relative_to(site.resolve()).as_posix())
            if parts.fragment and other and unquote(parts.fragment) not in other.anchors:
                broken.append((directory, link))
    assert not broken


def test_nothing_is_fetched_from_elsewhere(site: Path, read: dict[str, Page]) -> None:
    for directory, page in read.items():
        assert not [address for address in page.fetched if urlsplit(address).netloc], directory
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_a_broken_link_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed("zensical")
    installed("yaml")
    from tools import docs_site
    from torchlink.pages import Page as Source

    pages = [Source("index", "T", "T", lambda: "# T\n\n[gone](gone.md) [no anchor](#nothing)\n")]
    monkeypatch.setattr(docs_site, "all_pages", lambda: pages)
    assert docs_site.build(tmp_path / "out") != 0


def test_make_and_ci_build_the_site() -> None:
    assert "docs_site.py" in (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    assert "make docs" in (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
