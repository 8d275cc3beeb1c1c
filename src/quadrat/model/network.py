"""A compiled network: chips in, checked rows out, whatever runtime computes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from quadrat.errors import ModelError
from quadrat.graphs import GraphInfo
from quadrat.model import views
from quadrat.model.blocks import Chips, Compiled, Rows
from quadrat.model.bundle import DISTANCE

# tolerance of the sum of a row of shares: bf16 has 8 bits of precision
TOLERANCE = {"fp32": 1e-3, "int8": 1e-3, "bf16": 1e-2, "fp16": 1e-2}


class Prediction(NamedTuple):
    """What a model says of N tiles.

    Attributes:
        probabilities: (N, K) float32, that a class is the main class of the tile.
        shares: (N, K) float32, the expected part of the tile's ground that a class has; None for a
            model without that output.
        features: (N, D) float32, what the model's last layer reads; None where not asked for.
        distance: (N, 1) float32, how unlike the training tiles it is: 99% of tiles of their ground
            stay within 1; None for a model without that output.
    """

    probabilities: Rows
    shares: Rows | None
    features: Rows | None = None
    distance: Rows | None = None

    @property
    def mapped(self) -> NDArray[np.bool_]:
        """Which tiles are not mostly ground that the legend has no class for, (N,)."""
        rest: NDArray[np.bool_] = 1 - self.probabilities.sum(axis=1) <= self.probabilities.max(
            axis=1, initial=0.0
        )
        return rest

    def take(self, keep: NDArray[np.bool_]) -> Prediction:
        """Of some of the tiles."""
        rest = (None if rows is None else rows[keep] for rows in self[1:])
        return Prediction(self.probabilities[keep], *rest)


@dataclass(frozen=True)
class Network:
    """Call it with chips `(N, H, W, 3) uint8` for rows `(N, D) float32`, one output's.

    Attributes:
        compiled: the graph as a runtime computes it.
        precision: the precision that it computes in: `fp32`, `bf16`, `int8` or `fp16`.
        info: input and outputs of the graph.
        classes: K of a network that gives probabilities; None for one that gives other rows.
        open: whether rows of probabilities and shares may sum to less than 1, the rest being
            ground that has no class.
        what: its name, for messages.
        features: whether the last output is what the model's last layer reads.
    """

    compiled: Compiled
    precision: str
    info: GraphInfo
    classes: int | None = None
    open: bool = False
    what: str = "the network"
    features: bool = False

    @property
    def runtime(self) -> str:
        """`openvino`, `onnxruntime` or `cuda`."""
        return self.compiled.runtime

    @property
    def batch(self) -> int:
        """Tiles that are computed together; the last ones of a call are padded, not dropped."""
        return self.compiled.batch

    def __call__(self, chips: Chips) -> Rows:
        """Rows of the first output for chips, in their order: features, or probabilities.

        Raises:
            ModelError: chips of another size or type; rows that are not finite, or that are no
                probabilities where the network gives these.
        """
        rows = self._rows(chips)
        return rows if self.classes is None else rows[:, : self.classes]

    def predict(self, chips: Chips, seen: int = 1) -> Prediction:
        """What a model says of chips; ModelError as for a call.

        Args:
            seen: views of each tile (see `views`), whose mean is given.
        """
        views.check(seen)
        rows = self._rows(chips)
        for view in range(1, seen):
            rows = rows + self._rows(views.seen(chips, view))
        rows = rows / np.float32(seen) if seen > 1 else rows
        outputs, far = self._outputs, int(self._has_distance)
        k = self.classes or (rows.shape[1] - far) // outputs
        end = k * outputs
        return Prediction(
            rows[:, :k],
            rows[:, k:end] if outputs > 1 else None,
            rows[:, end + far :] if self.features else None,
            rows[:, end : end + far] if far else None,
        )

    @property
    def _outputs(self) -> int:
        """Outputs of a number a class."""
        return len(self.info.outputs) - self.features - self._has_distance

    @property
    def _has_distance(self) -> bool:
        return DISTANCE in self.info.outputs

    def _rows(self, chips: Chips) -> Rows:
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
        k, count = self.classes, self._outputs
        given = rows.shape[1] - self._has_distance
        if given <= k * count if self.features else given != k * count:
            raise ModelError(
                f"{self.what} gives {given // count} probabilities and its legend has {k} classes; "
                "train it again"
            )
        for start in range(0, k * count, k):
            self._check_shares(rows[:, start : start + k])

    def _check_shares(self, rows: Rows) -> None:
        off = rows.sum(axis=1, dtype=np.float64) - 1
        off = np.maximum(off, 0.0) if self.open else np.abs(off)
        wrong = (rows.min(axis=1) < 0) | (off > TOLERANCE[self.precision])
        if wrong.any():
            worst = rows[wrong.argmax()]
            raise ModelError(
                f"{self.what} gives what are no probabilities for {wrong.sum()} of {len(rows)} "
                f"tiles (from {worst.min():.3g} to {worst.max():.3g}, sum {worst.sum():.3g} "
                "instead of 1); its last layer must be a softmax: train or export it again"
            )
