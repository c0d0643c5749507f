"""The open sizes to try, in order: the usual ones first, then those that the model's errors point to."""

from __future__ import annotations

import math
import re
from collections import deque
from itertools import islice, product
from typing import TYPE_CHECKING, NamedTuple

from torchlink.verify.guessing.values import (
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

    from torchlink.verify.guessing.values import Sizes

MOST_USUAL = 80
SIDES = (20, 40, 80, 100, 160, 200, 320, 400, 480, 640)  # of images that are not square, and of spectrograms
USUAL: dict[str, tuple[int, ...]] = {
    **dict.fromkeys((HEIGHT, WIDTH), IMAGE_SIZES),
    DEPTH: VOLUME_SIZES,
    LENGTH: LENGTHS,
    SAMPLES: SAMPLE_SIZES,
}
NEAR = 0.12  # a usual side is preferred to one that is closer by no more than this, in the logarithm
MOST_GROWTH = 32  # of a side, from one try to the next
LARGEST = {**dict.fromkeys((HEIGHT, WIDTH), 1024), DEPTH: 128, LENGTH: 4096, SAMPLES: 1 << 20}  # sides
LOOSE = 0.8  # how far the area of images that are not square may lie outside the bounds that squares have set
BEFORE_TWO = 3  # sizes that are tried before a batch of two
# libtorch's errors about a size that does not fit a layer: the actual and the required size.
EXACT = (
    re.compile(r"\(\d+x(?P<got>\d+) and (?P<want>\d+)x\d+\)"),
    re.compile(r"m1: \[\d+ x (?P<got>\d+)\], m2: \[(?P<want>\d+) x \d+\]"),  # libtorch up to 1.7
    re.compile(r"size of tensor a \((?P<got>\d+)\) must match the size of tensor b \((?P<want>\d+)\)"),
)
RESHAPED = re.compile(r"shape '\[(?P<shape>[-\d, ]+)\]' is invalid for input of size (?P<got>\d+)")
TOO_SMALL = re.compile(
    r"[Kk]ernel size can't be greater|[Oo]utput size is too small|should be at least|too small"
)


class Amounts(NamedTuple):
    """The size that reached a layer, and the size that it takes."""

    got: int
    want: int


def amounts(message: str) -> Amounts | None:
    """The sizes in an error; None if it has none."""
    for pattern in EXACT:
        found = pattern.search(message)
        if found:
            return Amounts(int(found["got"]), int(found["want"]))
    found = RESHAPED.search(message)
    if found is None:
        return None
    known = [int(size) for size in re.findall(r"-?\d+", found["shape"])]
    return Amounts(int(found["got"]), math.prod(size for size in known if size > 0))


class Narrowing:
    """An iterator over the sizes to try; the model's error about one narrows down the next.

    Most models that take one size only flatten an image or a sequence, or add positions: the larger the input, the more
    reaches the layer that refuses it. The sides of images are equal until that is ruled out.
    """

    def __init__(self, open_: frozenset[str]) -> None:
        self.letters = [letter for letter in open_ if letter != BATCH]
        self.left = deque(_plan(open_))
        self.base = self.left[0]
        self.tried: set[int] = set()  # sides
        self.low: tuple[int, Amounts | None] | None = None  # the longest side that was too short
        self.high: tuple[int, Amounts] | None = None  # the shortest that was too long
        kinds = (IMAGE | {DEPTH}, {LENGTH}, {SAMPLES})
        self.useful = any(kind.issuperset(self.letters) for kind in kinds) and bool(self.letters)

    def __iter__(self) -> Iterator[Sizes]:
        rectangles: deque[Sizes] | None = None
        while self.left:
            side = self._next_side()
            if side is not None:
                self.tried.add(side)
                yield {**self.base, **dict.fromkeys(self.letters, side)}
                continue
            if rectangles is None and self.useful and self.low and self.high and set(self.letters) == IMAGE:
                rectangles = deque(self._rectangles())
            if rectangles:
                yield rectangles.popleft()
                continue
            sizes = self.left.popleft()
            if self.letters and sizes[BATCH] == 1 and len({sizes[letter] for letter in self.letters}) == 1:
                if sizes[self.letters[0]] in self.tried:
                    continue
                self.tried.add(sizes[self.letters[0]])
            yield sizes

    def told(self, sizes: Sizes, message: str) -> None:
        """Record the model's error about these sizes; those of a non-square image give no bound."""
        sides = {sizes[letter] for letter in self.letters}
        if not self.useful or len(sides) != 1:
            return
        side, found = sides.pop(), amounts(message)
        if found and found.want == side:  # the position embedding is on the left: `positions + x`
            found = Amounts(found.want, found.got)
        for known in (self.low, self.high):
            if known and found and known[1] == found and not 0.7 < side / known[0] < 1.5:
                self.useful = False  # another input size changes nothing at the layer that rejects it
        if found is None:
            if TOO_SMALL.search(message) and (self.low is None or self.low[0] < side):
                self.low = (side, None)
        elif found.got < found.want and (self.low is None or self.low[0] < side):
            self.low = (side, found)
        elif found.got > found.want and (self.high is None or self.high[0] > side):
            self.high = (side, found)
        if self.low and self.high:
            self.useful = self.useful and self.low[0] < self.high[0]

    def _next_side(self) -> int | None:
        """The side that the errors so far point to; None if they point to none."""
        if not self.useful or not (self.low or self.high):
            return None
        low = self.low[0] if self.low else 0
        largest = min(LARGEST[letter] for letter in self.letters)
        high = self.high[0] if self.high else min(MOST_GROWTH * low, largest) + 1
        target = self._target()
        usual = [side for side in USUAL[self.letters[0]] if low < side < high and side not in self.tried]
        if target is None:  # too small, and nothing else is known
            return next(iter(usual), None)
        near = min(usual, key=lambda side: abs(math.log(side / target)), default=0)
        if near and abs(math.log(near / target)) < NEAR:
            return near
        side = min(max(round(target), low + 1), high - 1)
        return side if low < side < high and side not in self.tried else None

    def _target(self) -> float | None:
        """The side that is needed, as far as the errors show."""
        low, high, root = self.low, self.high, 1 / len(self.letters)
        if high and low and low[1] and low[1].got >= 0:
            # What arrives grows as the sides do, less what the layers take off the edges.
            first, last = low[1].got ** root, high[1].got ** root
            share = (high[1].want ** root - first) / (last - first) if last > first else 0.5
            return float(low[0] + share * (high[0] - low[0]))
        side, known = high or low or (0, None)
        return float(side * (known.want / known.got) ** root) if known and known.got > 0 else None

    def _rectangles(self) -> list[Sizes]:
        """Images of about the size that square ones could not match, the least elongated first."""
        target = self._target()
        low, high = self.low[0] if self.low else 1, self.high[0] if self.high else LARGEST[HEIGHT]
        area = target**2 if target else low * high
        sides = [each for each in product((*IMAGE_SIZES, *SIDES), repeat=2) if each[0] != each[1]]
        inside = [each for each in sides if LOOSE * low**2 < math.prod(each) < high**2 / LOOSE]
        inside.sort(
            key=lambda each: 8 * abs(math.log(math.prod(each) / area)) + abs(math.log(each[0] / each[1]))
        )
        return [{**self.base, HEIGHT: height, WIDTH: width} for height, width in inside]


def _plan(open_: frozenset[str]) -> Iterator[Sizes]:
    """The usual sizes, a batch of two early among them, then every size."""
    single, *more = [list(_usual(open_, batch)) for batch in (BATCHES if BATCH in open_ else BATCHES[:1])]
    yield from single[:BEFORE_TWO]
    for other in more:
        yield other[0]
    yield from single[BEFORE_TWO:]
    yield from (sizes for sizes in _every(single[0], open_) if sizes not in single)
    for other in more:
        yield from other[1:]


def _usual(open_: frozenset[str], batch: int) -> Iterator[dict[str, int]]:
    """Square images, sequences and signals of usual sizes; sizes that are not open keep their first value."""
    kinds: tuple[Sequence[int], ...] = (
        (VOLUME_SIZES if DEPTH in open_ else IMAGE_SIZES)[: None if open_ & {*IMAGE, DEPTH} else 1],
        LENGTHS[: None if LENGTH in open_ else 1],
        SAMPLE_SIZES[: None if SAMPLES in open_ else 1],
    )
    for image, length, sample in islice(product(*kinds), MOST_USUAL):
        yield {HEIGHT: image, WIDTH: image, DEPTH: image, LENGTH: length, SAMPLES: sample, BATCH: batch}


def _every(base: Sizes, open_: frozenset[str]) -> Iterator[dict[str, int]]:
    """Every size of one kind up to a bound, and images that are not square."""
    if {HEIGHT, WIDTH} <= open_:
        for height, width in product(IMAGE_SIZES, IMAGE_SIZES):
            if height != width:
                yield {**base, HEIGHT: height, WIDTH: width}
    if open_ & IMAGE:
        for size in range(1, LARGEST_IMAGE + 1):
            yield {**base, HEIGHT: size, WIDTH: size, DEPTH: size}
    if LENGTH in open_:
        for length in range(1, LARGEST_LENGTH + 1):
            yield {**base, LENGTH: length}
    if SAMPLES in open_:
        for samples in range(1, LARGEST_IMAGE + 1):
            yield {**base, SAMPLES: samples}


def in_words(open_: frozenset[str], sizes: Sizes) -> str:
    """The chosen sizes, for a reason: "64x64 pixels, a length of 8"; empty if none was open."""
    words = []
    places = [sizes[letter] for letter in (DEPTH, HEIGHT, WIDTH) if letter in open_]
    if places:
        words.append("x".join(map(str, places)) + (" voxels" if DEPTH in open_ else " pixels"))
    if LENGTH in open_:
        words.append(f"a length of {sizes[LENGTH]}")
    if SAMPLES in open_:
        words.append(f"{sizes[SAMPLES]} samples")
    return " and ".join(words)
