"""A compiled network: chips in, checked rows out, whatever runtime computes it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quadrat.errors import ModelError
from quadrat.graphs import GraphInfo
from quadrat.model.runtimes import Chips, Compiled, Rows

# how far a row of probabilities may sum from 1: bf16 keeps 8 bits of each of them
TOLERANCE = {"fp32": 1e-3, "int8": 1e-3, "bf16": 1e-2}


@dataclass(frozen=True)
class Network:
    """Call it with chips `(N, H, W, 3) uint8` for rows `(N, D) float32`.

    Attributes:
        compiled: the graph as a runtime computes it.
        precision: the precision that it computes in: `fp32`, `bf16` or `int8`.
        info: input and output of the graph.
        classes: K of a network that gives probabilities; None for one that gives other rows.
        what: its name, for messages.
    """

    compiled: Compiled
    precision: str
    info: GraphInfo
    classes: int | None = None
    what: str = "the network"

    @property
    def runtime(self) -> str:
        """`openvino`, `onnxruntime` or `cuda`."""
        return self.compiled.runtime

    @property
    def batch(self) -> int:
        """Tiles that are computed together; the last ones of a call are padded, not dropped."""
        return self.compiled.batch

    def __call__(self, chips: Chips) -> Rows:
        """Rows for chips, in their order.

        Raises:
            ModelError: chips of another size or type; rows that are not finite, or that are no
                probabilities where the network gives these.
        """
        size = self.info.size_px
        if chips.ndim != 4 or chips.shape[3] != 3 or chips.dtype != np.uint8:
            raise ModelError(
                f"tiles must be uint8 of shape (N, {size}, {size}, 3), not {chips.dtype} of "
                f"{chips.shape}"
            )
        height, width = chips.shape[1:3]
        if size is not None and (height, width) != (size, size):
            raise ModelError(
                f"the model takes tiles of {size} x {size} px and was given {width} x {height}; "
                f"cut or pack the tiles at {size} px, or train a model on tiles of this size"
            )
        rows = self.compiled.compute(np.ascontiguousarray(chips))
        if len(rows):
            self._check(rows)
        return rows

    def _check(self, rows: Rows) -> None:
        finite = np.isfinite(rows).all(axis=1)
        if not finite.all():
            raise ModelError(
                f"{self.what} gives NaN or infinite numbers for {(~finite).sum()} of {len(rows)} "
                "tiles; its weights are damaged or its numbers overflow: train it again"
            )
        if self.classes is None:
            return
        if rows.shape[1] != self.classes:
            raise ModelError(
                f"{self.what} gives {rows.shape[1]} probabilities and its legend has "
                f"{self.classes} classes; train it again"
            )
        off = np.abs(rows.sum(axis=1, dtype=np.float64) - 1)
        wrong = (rows.min(axis=1) < 0) | (off > TOLERANCE[self.precision])
        if wrong.any():
            worst = rows[wrong.argmax()]
            raise ModelError(
                f"{self.what} gives what are no probabilities for {wrong.sum()} of {len(rows)} "
                f"tiles (from {worst.min():.3g} to {worst.max():.3g}, sum {worst.sum():.3g} "
                "instead of 1); its last layer must be a softmax: train or export it again"
            )
