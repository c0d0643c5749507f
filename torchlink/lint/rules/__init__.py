"""Every rule there is, in the order in which reports explain them. One module a family."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchlink.lint.rules.copies import COPIES
from torchlink.lint.rules.loading import LOADING
from torchlink.lint.rules.symbols import SYMBOLS

if TYPE_CHECKING:
    from torchlink.lint.rule import Rule

RULES: tuple[Rule, ...] = (*LOADING, *SYMBOLS, *COPIES)
