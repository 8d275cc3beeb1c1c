"""A trained network as the graph of a model bundle, and the proof that the two agree.

It does not know bundles or tiles' files: chips in, bytes out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quadrat import graphs
from quadrat.backbones import exporting
from quadrat.errors import TrainError
from quadrat.finetuning.networks import TorchNetwork
from quadrat.heads.calibrate import Scalings
from quadrat.heads.distance import Distance
from quadrat.model import CLASS_OUTPUTS
from quadrat.records import Record

MAX_DIFFERENCE = 1e-3  # of a probability
MAX_FURTHER = 1e-2  # of a distance
MIN_SAME = 0.999  # share of tiles with the same label
BATCH = 32


@dataclass(frozen=True)
class Parity(Record):
    """The difference between the exported graph and the torch module on tiles.

    Attributes:
        max_difference: the largest difference of a probability.
        same_labels: share of tiles with the same label.
    """

    tiles: int
    max_difference: float
    same_labels: float


class Scorer(nn.Module):
    """The graph of a bundle: chips `(N, S, S, 3) uint8` -> probabilities and shares.

    Attributes:
        scalings: what the network's logits say.
        classes: columns of each output, `(N, classes) float32`; the logits may have more.
    """

    def __init__(self, network: TorchNetwork, scalings: Scalings, classes: int) -> None:
        super().__init__()
        self.network = exporting.exportable(network.module)
        self.pixels, self.mean, self.std = network.pixels, network.mean, network.std
        self.scalings, self.classes = scalings, classes
        self.eval()  # itself too: the exporter gives all parts the mode of the whole afterwards

    def forward(self, chips: Tensor) -> tuple[Tensor, Tensor]:
        """Chips to probabilities and shares."""
        x = exporting.prepared(chips.permute(0, 3, 1, 2), self.pixels, self.mean, self.std)
        logits = self.network(x)
        probabilities, shares = (
            torch.softmax(logits / scaling.temperature, 1)[:, : self.classes]
            for scaling in (self.scalings.probabilities, self.scalings.shares)
        )
        return probabilities, shares


def to_onnx(scorer: Scorer, size_px: int) -> bytes:
    """The graph, input `chips`, the outputs of a model, any number of tiles of one size.

    Raises:
        BackboneError: the network has an operation that ONNX lacks.
    """
    return exporting.to_onnx(scorer, size_px, CLASS_OUTPUTS)


@dataclass(frozen=True)
class Graph:
    """A model's graph, and the distance that it gives, if any."""

    onnx: bytes
    distance: Distance | None


def with_distance(onnx: bytes, distance: Distance | None) -> Graph:
    """The graph with a third output, where there are distances and a layer that reads features."""
    more = None if distance is None else graphs.add_head(onnx, distance.export())
    return Graph(onnx, None) if more is None else Graph(more, distance)


def check(
    scorer: Scorer,
    onnx: bytes,
    chips: NDArray[np.uint8],
    distances: NDArray[np.float64] | None = None,
) -> Parity:
    """Compare the exported graph with the torch module on tiles.

    Args:
        distances: (N,) of the tiles; None for a graph without them.

    Raises:
        TrainError: they differ by more than `MAX_DIFFERENCE`, their distances by more than
            `MAX_FURTHER`, or they agree on less than `MIN_SAME`.
        ModelError: the graph cannot be run at all.
    """
    from quadrat.model import compile_network

    run = compile_network(
        onnx, runtime="onnxruntime", workers=1, classes=scorer.classes, open_rows=True
    )
    largest, further, same = 0.0, 0.0, 0
    with torch.inference_mode():
        for start in range(0, len(chips), BATCH):
            some = np.ascontiguousarray(chips[start : start + BATCH])
            ours = [rows.numpy() for rows in scorer(torch.from_numpy(some))]
            theirs = run.predict(some)
            for mine, other in zip(ours, (theirs.probabilities, theirs.shares), strict=True):
                if other is not None:
                    largest = max(largest, float(np.abs(mine - other).max()))
            if theirs.distance is not None and distances is not None:
                off = np.abs(theirs.distance[:, 0] - distances[start : start + BATCH])
                further = max(further, float(off.max()))
            same += int((ours[0].argmax(1) == theirs[0].argmax(1)).sum())
    parity = Parity(len(chips), largest, same / max(1, len(chips)))
    if not (parity.max_difference <= MAX_DIFFERENCE and parity.same_labels >= MIN_SAME):
        raise TrainError(
            f"the exported graph differs from the trained network: probabilities by up to "
            f"{parity.max_difference:.2g} (at most {MAX_DIFFERENCE:g}), the same label on "
            f"{parity.same_labels:.2%} of {parity.tiles} tiles (at least {MIN_SAME:.1%}); "
            "no model was written; train another network, such as resnet50"
        )
    if not further <= MAX_FURTHER:
        raise TrainError(
            f"the exported graph gives distances that differ by up to {further:.2g} from the "
            "trained network's; no model was written; train another network, such as resnet50"
        )
    return parity
