"""Every rule there is, in the order in which reports explain them. One module a family."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.lint.rules.accelerators import ACCELERATOR_RULES
from torchlink.lint.rules.copies import COPIES
from torchlink.lint.rules.floor import FLOOR
from torchlink.lint.rules.interposing import INTERPOSING
from torchlink.lint.rules.linking import LINKING
from torchlink.lint.rules.loading import LOADING
from torchlink.lint.rules.machine import C_LIBRARY, MACHINE
from torchlink.lint.rules.needed_paths import NEEDED_PATHS
from torchlink.lint.rules.search_paths import SEARCH_PATHS
from torchlink.lint.rules.symbols import SYMBOLS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torchlink.lint.finding import Rule

RULES: tuple[Rule, ...] = (
    *LOADING,
    *C_LIBRARY,
    *NEEDED_PATHS,
    *ACCELERATOR_RULES,
    *LINKING,
    *SYMBOLS,
    *INTERPOSING,
    *COPIES,
    *SEARCH_PATHS,
    *FLOOR,
    *MACHINE,
)


def choose(select: Sequence[str] = (), ignore: Sequence[str] = ()) -> tuple[Rule, ...]:
    """The rules that are to be heard.

    Args:
        select: ids or globs; all rules where empty.
        ignore: ids or globs.

    Raises:
        UsageError: a pattern fits no rule: it would silently do nothing.
    """
    if not select and not ignore:
        return RULES
    from torchlink.errors import UsageError
    from torchlink.lint.policy.allow import matching, selected
    from torchlink.settings import nearest

    names = [rule.id for rule in RULES]
    for pattern in (*select, *ignore):
        if not any(matching(name, (pattern,)) for name in names):
            hint = nearest(pattern, names) or f"The rules are: {', '.join(sorted(names))}."
            raise UsageError(f"There is no rule {pattern!r}.", hint=hint)
    return tuple(rule for rule in RULES if selected(rule.id, select, ignore))
