"""Every rule there is, in the order in which reports explain them. One module a family."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.lint.rules.accelerators import ACCELERATOR_RULES
from torchlink.lint.rules.copies import COPIES
from torchlink.lint.rules.floor import FLOOR
from torchlink.lint.rules.linking import LINKING
from torchlink.lint.rules.loading import LOADING
from torchlink.lint.rules.machine import MACHINE
from torchlink.lint.rules.search_paths import SEARCH_PATHS
from torchlink.lint.rules.symbols import SYMBOLS

if TYPE_CHECKING:
    from torchlink.lint.rule import Rule

RULES: tuple[Rule, ...] = (
    *LOADING,
    *ACCELERATOR_RULES,
    *LINKING,
    *SYMBOLS,
    *COPIES,
    *SEARCH_PATHS,
    *FLOOR,
    *MACHINE,
)
