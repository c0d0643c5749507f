"""`torchlink docs`: the documentation's pages, in the browser or as Markdown."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, NamedTuple

from torchlink.cli import options
from torchlink.cli.declaration import Command, Option, Positional
from torchlink.cli.output import answer, note, say

if TYPE_CHECKING:
    from torchlink.pages import Page

EPILOG = """\b
Examples:
  torchlink docs                         # the list of pages
  torchlink docs rules/abi-mismatch
  torchlink docs languages/rust | less
  torchlink docs commands/verify --markdown > verify.md
"""


def all_pages() -> list[Page]:
    """Return every page of the documentation."""
    from torchlink.cli.command_pages import command_pages
    from torchlink.pages import pages

    return [*pages(), *command_pages()]


def complete_page(incomplete: str) -> list[str]:
    """Complete the name of a page for the shell."""
    return [page.name for page in all_pages() if page.name.startswith(incomplete)]


class DocsArguments(NamedTuple):
    """The command line of `torchlink docs`."""

    page: Annotated[
        str | None,
        Positional("[PAGE]", "A page: its name, or the last part of it.", complete=complete_page),
    ] = None
    markdown: Annotated[
        bool, Option("--markdown --print", "Print the page as Markdown, on a terminal, too.")
    ] = False
    json: options.Json = False


def docs(arguments: DocsArguments) -> int:
    """Open a page of the documentation in the browser, or print it as Markdown; without PAGE, list the pages.

    The pages come with torchlink: they are those of this version, and need no network. A page is printed where the
    output is not a terminal, and where the documentation has no address. The variable TORCHLINK_DOCS_URL sets one,
    for a copy of the site.
    """
    from torchlink.errors import UsageError
    from torchlink.pages import choose, nearest

    known = all_pages()
    if arguments.page is None:
        print_list(known, as_json=arguments.json)
        return 0
    page = choose(arguments.page, known)
    if page is None:
        near = nearest(arguments.page, [each.name for each in known])
        hints = [f"Did you mean {' or '.join(near)}?"] if near else []
        raise UsageError(
            f"There is no page {arguments.page!r}.",
            hint=" ".join([*hints, "`torchlink docs` lists the pages."]),
        )
    if arguments.json:
        print_json(page)
    elif arguments.markdown or not sys.stdout.isatty() or not opened(page):
        answer(page.text().rstrip("\n"))
    return 0


def opened(page: Page) -> bool:
    """Open a page in the browser, if the documentation has an address and there is a browser; return whether it did."""
    import webbrowser

    from torchlink.paths import page_address

    address = page_address(page.name)
    if "://" not in address:
        return False
    try:
        browser = webbrowser.get()
        say(f"torchlink: opening {address}", err=True)
        if browser.open(address):
            return True
    except (webbrowser.Error, OSError):
        pass
    note(f"no browser could be started; the page is {address}")
    return False


def print_list(known: list[Page], *, as_json: bool) -> None:
    """Print the name of every page, and what it is about."""
    if as_json:
        import json

        from torchlink.paths import page_address

        fields = [{"name": page.name, "title": page.about, "page": page_address(page.name)} for page in known]
        answer(json.dumps({"schema": 1, "pages": fields}, indent=2))
        return
    width = max(len(page.name) for page in known)
    for page in known:
        say(f"{page.name:<{width}}  {page.about}")


def print_json(page: Page) -> None:
    """Print a page as JSON."""
    import json

    from torchlink.paths import page_address

    fields = {
        "name": page.name,
        "title": page.about,
        "page": page_address(page.name),
        "markdown": page.text(),
    }
    answer(json.dumps({"schema": 1, "pages": [fields]}, indent=2))


COMMAND = Command(DocsArguments, docs, EPILOG)
