"""A cause of a project's own, as small as the format allows."""

from __future__ import annotations

TEXT = """
title = "Mine"
stage = "load"
text = "Text."
[[match]]
certainty = "certain"
lines = ['PATTERN']
[[fix]]
for = "any"
text = "Fix it"
[[example]]
tool = "mine"
log = "x"
"""


def own_cause(pattern: str) -> str:
    """The text of a cause that one line shows."""
    return TEXT.replace("PATTERN", pattern)
