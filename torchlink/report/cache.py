"""The contents of the cache, as text or JSON."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from torchlink.report.plain import plural, visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torchlink.compilation.cache import Kept
    from torchlink.compilation.loader import BuiltLoader

AGES = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def to_json(root: Path, kept: Sequence[Kept]) -> dict[str, object]:
    """Return the cache as one object; sizes are in bytes, times in seconds since the epoch."""
    return {
        "schema": 1,
        "path": str(root),
        "size": sum(entry.size for entry in kept),
        "entries": [
            {
                "kind": entry.kind,
                "path": str(entry.path),
                "size": entry.size,
                "modified": entry.modified,
                "about": entry.about,
            }
            for entry in kept
        ],
    }


def to_text(root: Path, kept: Sequence[Kept], kinds: Mapping[str, str], now: float | None = None) -> str:
    """Return the directory and the entries in it by kind.

    Args:
        root: the cache directory.
        kept: its entries.
        kinds: kind -> its description.
        now: seconds since the epoch; None: the current time.
    """
    now = time.time() if now is None else now
    total = sum(entry.size for entry in kept)
    lines = [
        f"{visible(str(root))}: {plural(len(kept), 'entry').replace('entrys', 'entries')}, {size_text(total)}"
    ]
    for kind, meaning in kinds.items():
        entries = [entry for entry in kept if entry.kind == kind]
        if entries:
            lines += ["", f"{kind}: {meaning}"]
        for entry in entries:
            columns = f"{visible(entry.path.name):<36} {size_text(entry.size):>9}"
            lines.append(f"  {columns} {age_text(now - entry.modified):>8}  {visible(entry.about)}".rstrip())
    return "\n".join(lines) + "\n"


def size_text(size: int) -> str:
    """Format a number of bytes as `1.4 MB`."""
    value = float(size)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def age_text(seconds: float) -> str:
    """Format an age in seconds as `3 min`; less than a second, or negative after a clock was set back, as `now`."""
    for length, unit in AGES:
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return "now"


def loaders_json(built: Mapping[str, BuiltLoader]) -> dict[str, object]:
    """Return the loaders that are in the cache now as one object."""
    return {
        "schema": 1,
        "loaders": [
            {
                "program": program,
                "path": str(loader.path),
                "cached": loader.cached,
                "compile_seconds": loader.compile_seconds,
                "command": loader.command,
            }
            for program, loader in built.items()
        ],
    }


def loaders_text(built: Mapping[str, BuiltLoader]) -> str:
    """Return a line for each of the loaders that are in the cache now."""
    return "".join(
        f"{program}: {visible(str(loader.path))} "
        f"({'already built' if loader.cached else f'built in {loader.compile_seconds:.1f} s'})\n"
        for program, loader in built.items()
    )
