"""The documentation's pages as Markdown: those of `docs/`, and those made from data that commands print."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, NamedTuple

from torchlink.paths import data_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

INDEX = "README.md"  # in a directory of `docs/`: the page of the directory's name
MARK = re.compile(r"[*`]|\[([^]]*)\]\([^)]*\)")


class Page(NamedTuple):
    """One page."""

    name: str  # "rules/abi-mismatch": its place on the site, and what `torchlink docs` takes
    title: str
    about: str  # what a list of pages says
    # Markdown; its links lead to files: `NAME.md`, or `NAME/README.md` if there are pages below NAME
    text: Callable[[], str]
    group: str = ""  # the heading above it in the site's navigation; "": none


def pages() -> list[Page]:
    """Return every page but those of commands, which the command line itself makes."""
    from torchlink.pages.languages import language_pages

    return [*written_pages(data_dir("docs")), *cause_pages(), *language_pages()]


def cause_pages() -> Iterator[Page]:
    """Yield the index of causes and the page of each, by stage."""
    from torchlink.explain import causes, page

    found = page.headings()
    titles = {each.id: each.title for each in found}
    yield Page("causes", "Errors and their causes", "Errors and their causes", lambda: page.index(found))
    for each in found:
        yield Page(
            f"causes/{each.id}",
            each.title,
            each.title,
            lambda name=each.id: page.render(causes.load(name), titles),  # type: ignore[misc]
            page.HEADINGS[each.stage],
        )


def written_pages(docs: Path) -> Iterator[Page]:
    """Yield the pages that are files, in the order of their names, those of subdirectories last."""
    files = [(_name(file.relative_to(docs).as_posix()), file) for file in docs.rglob("*.md")]
    for name, file in sorted(files, key=lambda each: (each[0].count("/"), each[0])):
        yield Page(name, *titles_of(file), lambda file=file: file.read_text(encoding="utf-8"))  # type: ignore[misc]


def _name(path: str) -> str:
    """Return the name of the page in a file."""
    return path.removesuffix(f"/{INDEX}").removesuffix(".md")


def titles_of(file: Path) -> tuple[str, str]:
    """Return the first heading of a file without marks, and what it is about: below a rule's id its sentence."""
    with file.open(encoding="utf-8") as lines:
        first, _, third = (next(lines, "").strip() for _ in range(3))
    title = MARK.sub(r"\1", first.removeprefix("# "))
    severity, colon, sentence = third.partition(": ")
    return title, sentence if colon and severity.startswith("*") else title


def nearest(wanted: str, known: Iterable[str]) -> list[str]:
    """Return the names closest to one that there is not: alike, or with the wanted text as a part."""
    ends: dict[str, list[str]] = {}
    for name in known:
        ends.setdefault(name.rpartition("/")[2], []).append(name)
    last = wanted.strip("/").removesuffix(".md").lower().rpartition("/")[2]
    alike = [name for end in difflib.get_close_matches(last, ends, cutoff=0.75) for name in ends[end]]
    inside = [name for end, names in ends.items() if last and last in end for name in names]
    return list(dict.fromkeys([*alike, *inside]))[:4]


def choose(wanted: str, known: Sequence[Page]) -> Page | None:
    """Return the page of a name, with or without `.md` and slashes, or of its last part if that is unique."""
    text = wanted.strip("/").removesuffix(".md").removesuffix("/README")
    for page in known:
        if page.name == text:
            return page
    ends = [page for page in known if text and page.name.rpartition("/")[2] == text]
    return ends[0] if len(ends) == 1 else None
