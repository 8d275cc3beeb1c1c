"""A trained network as the graph of a model bundle, and the proof that the two agree.

It does not know bundles or tiles' files: chips in, bytes out.
"""

from __future__ import annotations

import copy
import io
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quadrat import border
from quadrat.backbones.layers import averaging
from quadrat.errors import TrainError
from quadrat.finetuning.augment import prepared
from quadrat.finetuning.networks import TorchNetwork
from quadrat.heads.calibrate import Scalings
from quadrat.model import OUTPUTS
from quadrat.records import Record

OPSET = 17
MAX_DIFFERENCE = 1e-3  # of a probability
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
        self.network = copy.deepcopy(network.module).cpu().float()
        for name, part in list(self.network.named_modules()):
            if isinstance(part, nn.AdaptiveAvgPool2d) and part.output_size not in (1, (1, 1)):
                self.network.set_submodule(name, AveragePool(part))
        self.pixels, self.mean, self.std = network.pixels, network.mean, network.std
        self.scalings, self.classes = scalings, classes
        self.eval()  # itself too: the exporter gives all parts the mode of the whole afterwards

    def forward(self, chips: Tensor) -> tuple[Tensor, Tensor]:
        """Chips to probabilities and shares."""
        x = prepared(chips.permute(0, 3, 1, 2), self.pixels, self.mean, self.std)
        logits = self.network(x)
        probabilities, shares = (
            torch.softmax(logits / scaling.temperature, 1)[:, : self.classes]
            for scaling in (self.scalings.probabilities, self.scalings.shares)
        )
        return probabilities, shares


class AveragePool(nn.Module):
    """`AdaptiveAvgPool2d` as two products with constant matrices, which ONNX has for any size."""

    def __init__(self, pool: nn.AdaptiveAvgPool2d) -> None:
        super().__init__()
        size = pool.output_size
        self.rows, self.columns = size if isinstance(size, tuple) else (size, size)

    def forward(self, x: Tensor) -> Tensor:
        """Averages over the output's cells, `(N, C, H, W)` -> `(N, C, rows, columns)`."""
        height, width = int(x.shape[-2]), int(x.shape[-1])
        rows = torch.from_numpy(averaging(height, self.rows or height))
        columns = torch.from_numpy(averaging(width, self.columns or width))
        return rows @ x @ columns.T


def to_onnx(scorer: Scorer, size_px: int) -> bytes:
    """The graph, input `chips`, the outputs of a model, any number of tiles of one size.

    Raises:
        TrainError: the network has an operation that ONNX lacks.
    """
    chips = torch.zeros(2, size_px, size_px, 3, dtype=torch.uint8)
    buffer: Any = io.BytesIO()  # a file, which the older exporter takes and its types do not say
    try:
        with warnings.catch_warnings():
            # The tracer warns of sizes taken as constants: they are, the tile size is fixed.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                scorer, (chips,), buffer, dynamo=False, opset_version=OPSET,
                input_names=["chips"], output_names=list(OUTPUTS),
                dynamic_axes={name: {0: "N"} for name in ("chips", *OUTPUTS)},
            )  # fmt: skip
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, TypeError) as error:
        raise TrainError(
            f"the network cannot be exported to ONNX ({border.short(error)}); "
            "train another, such as resnet50"
        ) from None
    return bytes(buffer.getvalue())


def check(scorer: Scorer, onnx: bytes, chips: NDArray[np.uint8]) -> Parity:
    """Compare the exported graph with the torch module on tiles.

    Raises:
        TrainError: they differ by more than `MAX_DIFFERENCE` or agree on less than `MIN_SAME`.
        ModelError: the graph cannot be run at all.
    """
    from quadrat.model import compile_network

    run = compile_network(
        onnx, runtime="onnxruntime", workers=1, classes=scorer.classes, open_rows=True
    )
    largest, same = 0.0, 0
    with torch.inference_mode():
        for start in range(0, len(chips), BATCH):
            some = np.ascontiguousarray(chips[start : start + BATCH])
            ours = [rows.numpy() for rows in scorer(torch.from_numpy(some))]
            theirs = run.predict(some)
            for mine, other in zip(ours, (theirs.probabilities, theirs.shares), strict=True):
                if other is not None:
                    largest = max(largest, float(np.abs(mine - other).max()))
            same += int((ours[0].argmax(1) == theirs[0].argmax(1)).sum())
    parity = Parity(len(chips), largest, same / max(1, len(chips)))
    if not (parity.max_difference <= MAX_DIFFERENCE and parity.same_labels >= MIN_SAME):
        raise TrainError(
            f"the exported graph differs from the trained network: probabilities by up to "
            f"{parity.max_difference:.2g} (at most {MAX_DIFFERENCE:g}), the same label on "
            f"{parity.same_labels:.2%} of {parity.tiles} tiles (at least {MIN_SAME:.1%}); "
            "no model was written; train another network, such as resnet50"
        )
    return parity
