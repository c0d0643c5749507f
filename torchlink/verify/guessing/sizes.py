"""Plans of which open sizes to try, and in which order."""

from __future__ import annotations

from itertools import islice, product
from typing import TYPE_CHECKING

from torchlink.verify.guessing.templates import (
    BATCH,
    BATCHES,
    DEPTH,
    HEIGHT,
    IMAGE,
    IMAGE_SIZES,
    LARGEST_IMAGE,
    LARGEST_LENGTH,
    LENGTH,
    LENGTHS,
    SAMPLE_SIZES,
    SAMPLES,
    VOLUME_SIZES,
    WIDTH,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torchlink.verify.guessing.templates import Sizes

FIRST = 3  # assignments that are tried of every combination
MOST_USUAL = 80


def first(open_: frozenset[str]) -> Iterator[Sizes]:
    """The first few of the usual ones; at least one."""
    return islice(usual(open_), FIRST)


def usual(open_: frozenset[str]) -> Iterator[Sizes]:
    """Square images, sequences and signals of usual sizes, one sample; then some with two samples."""
    for batch in BATCHES if BATCH in open_ else BATCHES[:1]:
        for sizes in islice(_products(open_, _scales(open_), LENGTHS, SAMPLE_SIZES), MOST_USUAL):
            yield {**sizes, BATCH: batch}


def every(open_: frozenset[str]) -> Iterator[Sizes]:
    """Every size of one kind up to a bound, then images that are not square."""
    base: Sizes = next(usual(open_))
    if open_ & IMAGE:
        for size in range(1, LARGEST_IMAGE + 1):
            yield {**base, HEIGHT: size, WIDTH: size, DEPTH: size}
        if {HEIGHT, WIDTH} <= open_:
            for height, width in product(IMAGE_SIZES, IMAGE_SIZES):
                yield {**base, HEIGHT: height, WIDTH: width}
    if LENGTH in open_:
        for length in range(1, LARGEST_LENGTH + 1):
            yield {**base, LENGTH: length}
    if SAMPLES in open_:
        for samples in range(1, LARGEST_IMAGE + 1):
            yield {**base, SAMPLES: samples}


def in_words(open_: frozenset[str], sizes: Sizes) -> str:
    """The chosen sizes, for a reason: "64x64 pixels, a length of 8"; empty where none was open."""
    words = []
    places = [sizes[letter] for letter in (DEPTH, HEIGHT, WIDTH) if letter in open_]
    if places:
        words.append("x".join(map(str, places)) + (" voxels" if DEPTH in open_ else " pixels"))
    if LENGTH in open_:
        words.append(f"a length of {sizes[LENGTH]}")
    if SAMPLES in open_:
        words.append(f"{sizes[SAMPLES]} samples")
    return " and ".join(words)


def _scales(open_: frozenset[str]) -> Sequence[int]:
    return VOLUME_SIZES if DEPTH in open_ else IMAGE_SIZES


def _products(
    open_: frozenset[str], images: Sequence[int], lengths: Sequence[int], samples: Sequence[int]
) -> Iterator[dict[str, int]]:
    """The sizes of each kind that is open; those of other kinds stay at their first."""
    kinds = (
        images if open_ & {HEIGHT, WIDTH, DEPTH} else images[:1],
        lengths if LENGTH in open_ else lengths[:1],
        samples if SAMPLES in open_ else samples[:1],
    )
    for image, length, sample in product(*kinds):
        yield {HEIGHT: image, WIDTH: image, DEPTH: image, LENGTH: length, SAMPLES: sample}
