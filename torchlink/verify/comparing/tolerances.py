"""Tolerances of comparisons."""

from __future__ import annotations

from typing import NamedTuple

# dtype -> (rtol, atol), as torch.testing.assert_close takes them by default (torch/testing/_comparison.py); every other
# dtype is compared exactly. Quantized tensors come dequantized, as float32.
PRECISIONS = {
    "float16": (1e-3, 1e-5),
    "bfloat16": (1.6e-2, 1e-5),
    "float32": (1.3e-6, 1e-5),
    "float64": (1e-7, 1e-7),
    "complex32": (1e-3, 1e-5),
    "complex64": (1.3e-6, 1e-5),
    "complex128": (1e-7, 1e-7),
}
EXACT = (0.0, 0.0)


class Tolerances(NamedTuple):
    """The tolerated difference: |actual - expected| <= atol + rtol * |expected|; None: the default of the dtype."""

    atol: float | None = None
    rtol: float | None = None

    def or_else(self, others: Tolerances) -> Tolerances:
        """These tolerances, with those of `others` for each that is None."""
        atol = others.atol if self.atol is None else self.atol
        return Tolerances(atol, others.rtol if self.rtol is None else self.rtol)

    def of(self, *dtypes: str) -> tuple[float, float]:
        """`(atol, rtol)` for tensors of these dtypes: the larger ones if they differ."""
        found = [PRECISIONS.get(dtype, EXACT) for dtype in dtypes]
        return (
            max(atol for _, atol in found) if self.atol is None else self.atol,
            max(rtol for rtol, _ in found) if self.rtol is None else self.rtol,
        )


DEFAULT = Tolerances()
