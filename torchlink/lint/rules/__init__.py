"""Every rule, in the order of the documentation; one module per family."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.lint.rules.copies import COPIES
from torchlink.lint.rules.floor import FLOOR
from torchlink.lint.rules.interposing import INTERPOSING
from torchlink.lint.rules.linking import LINKING
from torchlink.lint.rules.loading import LOADING
from torchlink.lint.rules.machine import C_LIBRARY, MACHINE
from torchlink.lint.rules.search_paths import SEARCH_PATHS
from torchlink.lint.rules.symbols import SYMBOLS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torchlink.lint.finding import Rule

RULES: tuple[Rule, ...] = (
    *LOADING,
    *C_LIBRARY,
    *LINKING,
    *SYMBOLS,
    *INTERPOSING,
    *COPIES,
    *SEARCH_PATHS,
    *FLOOR,
    *MACHINE,
)


def choose(select: Sequence[str] = (), ignore: Sequence[str] = ()) -> tuple[Rule, ...]:
    """Return the rules that are selected and not ignored.

    Args:
        select: ids or globs; empty means all rules.
        ignore: ids or globs.

    Raises:
        UsageError: a pattern matches no rule, and would silently do nothing.
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
            raise UsageError(f"No such rule: {pattern!r}.", hint=hint)
    return tuple(rule for rule in RULES if selected(rule.id, select, ignore))
