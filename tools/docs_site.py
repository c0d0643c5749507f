"""Build the documentation's site: python tools/docs_site.py [DIRECTORY]. It needs the extra `docs`; see `make docs`.

DIRECTORY (default: build/docs) gets `pages/`, the Markdown of every page that `torchlink docs` prints, `mkdocs.yml`,
the one at the top with its pages filled in, and `site/`, the site. A broken link or anchor is an error
(`zensical build --strict`).
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from torchlink.cli.docs import all_pages
from torchlink.pages import INDEX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torchlink.pages import Page

TOP = Path(__file__).parent.parent
ANY = "/*"


def place(page: Page, pages: Sequence[Page]) -> str:
    """Return the file of a page; one with pages below it is the index of their directory."""
    below = any(other.name.startswith(f"{page.name}/") for other in pages)
    return f"{page.name}/{INDEX}" if below else f"{page.name}.md"


def filled(nav: Any, pages: Sequence[Page]) -> Any:
    """Return a part of `nav` with "NAME/*" replaced by the index and the pages of that directory."""
    if isinstance(nav, list):
        return [filled(each, pages) for each in nav]
    if isinstance(nav, dict):
        return {title: filled(each, pages) for title, each in nav.items()}
    if not nav.endswith(ANY):
        return nav
    name = nav.removesuffix(ANY)
    below = [page for page in pages if page.name.startswith(f"{name}/")]
    entries: list[Any] = [f"{name}/{INDEX}"]
    for group, members in itertools.groupby(below, key=lambda page: page.group):
        its = [{page.title: place(page, pages)} for page in members]
        entries += [{group: its}] if group else its
    return entries


def build(directory: Path) -> int:
    """Write the pages and build the site; return Zensical's exit code."""
    pages = all_pages()
    shutil.rmtree(directory, ignore_errors=True)
    for page in pages:
        file = directory / "pages" / place(page, pages)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(page.text(), encoding="utf-8")
    config = yaml.safe_load((TOP / "mkdocs.yml").read_text(encoding="utf-8"))
    config |= {"docs_dir": "pages", "site_dir": "site", "nav": filled(config["nav"], pages)}
    (directory / "mkdocs.yml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "-f", "mkdocs.yml"]
    return subprocess.run(command, cwd=directory, check=False).returncode


if __name__ == "__main__":
    sys.exit(build(Path(sys.argv[1]) if sys.argv[1:] else TOP / "build" / "docs"))
