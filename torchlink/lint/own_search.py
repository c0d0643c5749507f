"""Trees of `lddtree` whose binary is here: the search of the binary itself counts, for lddtree's is not the loader's.

lddtree lets a RUNPATH be inherited like an RPATH, so it finds libraries that the loader does not. On the other hand
it heeds the LD_LIBRARY_PATH that it ran in, of which the text tells nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from torchlink.binary.bindings import Scope
from torchlink.binary.loader import resolve
from torchlink.binary.system import system_for
from torchlink.lint.checking import check_binary, kind_of
from torchlink.lint.context import LintContext
from torchlink.lint.missing import missing_names

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from torchlink.binary.opening import OpenFiles
    from torchlink.lint.context import LintOptions
    from torchlink.lint.finding import FileReport
    from torchlink.lint.rule import Rule
    from torchlink.lint.text_formats.listing import Listing

NOT_INHERITED = "runpath-not-inherited"


def check_itself(
    listing: Listing, path: Path, options: LintOptions, rules: Iterable[Rule], files: OpenFiles
) -> FileReport | str:
    """The report for the binary of a tree by its own search.

    Args:
        listing: what lddtree printed of it.
        path: the binary, which is of the build that the text says about.
        options: what it is checked against.
        rules: the rules to apply.
        files: keeps libraries open.

    Returns:
        The report; or a sentence, where lddtree found what the loader would not find without help that the text
        does not say about: then its word must do.
    """
    elf = files.open(path)[0]
    system = system_for(elf)
    closure = resolve(path, system=system, environment=options.environment, files=files)
    lost = missing_names(LintContext(closure, Scope(closure), options, kind_of(path, elf), system))
    from_text = {each.name: each.path for each in listing.libraries if each.path}
    beyond = {
        edges[0].name for rule, group in lost.items() for edges in group if rule != NOT_INHERITED
    } & from_text.keys()
    if beyond:
        return (
            f"The loader alone would not find {', '.join(sorted(beyond))}; lddtree did, through LD_LIBRARY_PATH "
            f"perhaps: `torchlink lint {path}` checks its own search."
        )
    report = check_binary(path, options, rules=rules, files=files)
    own = {edge.name: edge.path for edge in closure.edges}
    apart = [name for name, where in from_text.items() if name in own and not same(own[name], where)]
    if apart:
        sentence = (
            f"lddtree finds {', '.join(apart)} elsewhere than the loader does. {path} is here, so its own search is "
            "what was checked."
        )
        report = report._replace(not_checked=(*report.not_checked, sentence))
    return report


def same(one: str | None, other: str | None) -> bool:
    """Whether two paths lead to one file."""
    return one == other or bool(one and other and os.path.realpath(one) == os.path.realpath(other))
