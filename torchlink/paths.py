"""Where torchlink keeps things: the cache, and the data files that come with the package."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_dir() -> Path:
    """The directory of everything that can be deleted at any time.

    `TORCHLINK_CACHE_DIR` wins; otherwise the platform's user cache directory (`~/.cache/torchlink` on Linux).
    It may not exist yet.
    """
    override = os.environ.get("TORCHLINK_CACHE_DIR")
    if override:
        return Path(override).expanduser().absolute()
    platform: str = sys.platform  # mypy would call the rest unreachable on the platform it runs on
    if platform == "linux":
        # The XDG rule, as platformdirs has it, without the 5 ms that importing it costs every start.
        base = os.environ.get("XDG_CACHE_HOME", "")
        return (Path(base) if base.strip() else Path.home() / ".cache") / "torchlink"
    from platformdirs import user_cache_path

    return user_cache_path("torchlink", appauthor=False)


def data_dir(kind: str) -> Path:
    """The directory of a kind of data files: `templates` or `examples`.

    In a wheel they lie inside the package; in a checkout (and an editable install) at the top level.
    """
    package = Path(__file__).parent
    packed = package / "_data" / kind
    return packed if packed.is_dir() else package.parent / kind
