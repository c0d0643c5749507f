"""Texts that tools printed, as they printed them."""

from pathlib import Path

TEXTS = Path(__file__).parent / "texts"


def recorded(name: str) -> str:
    """The text in `texts/NAME.txt`."""
    return (TEXTS / f"{name}.txt").read_text(encoding="utf-8")
