"""A torch module as an ONNX graph from chips, and how far the two are apart.

Quadrat scores without torch: a network is exported once. It does not know names, weights or caches.
"""

from __future__ import annotations

import contextlib
import copy
import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from quadrat import border
from quadrat.backbones.layers import averaging
from quadrat.errors import BackboneError

OPSET = 17
MAX_DIFFERENCE = 1e-3  # of a feature, as a part of the features' root mean square
BATCH = 8

Chips = NDArray[np.uint8]
Rows = NDArray[np.float32]
Compute = Callable[[bytes, Chips], Rows]


class FeatureParity(NamedTuple):
    """The difference between a graph and its torch module, and on how many chips."""

    tiles: int
    max_difference: float


class Featurizer(nn.Module):
    """Chips `(N, S, S, 3) uint8` -> features `(N, D) float32`."""

    def __init__(
        self, body: nn.Module, pixels: int, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        super().__init__()
        self.body = exportable(body)
        self.pixels, self.mean, self.std = pixels, mean, std
        self.eval()

    def forward(self, chips: Tensor) -> Tensor:
        """Chips to features."""
        x = prepared(chips.permute(0, 3, 1, 2), self.pixels, self.mean, self.std)
        rows: Tensor = self.body(x)
        return rows


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


def exportable(module: nn.Module) -> nn.Module:
    """A copy on the CPU, in float32, of layers that ONNX has."""
    made = copy.deepcopy(module).cpu().float()
    for name, part in list(made.named_modules()):
        if isinstance(part, nn.AdaptiveAvgPool2d) and part.output_size not in (1, (1, 1)):
            made.set_submodule(name, AveragePool(part))
    return made


def prepared(x: Tensor, pixels: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """`(N, 3, S, S)` pictures of 0 to 255 -> `(N, 3, pixels, pixels)` normalised.

    Shrinking averages whole blocks of pixels first, so that no pixel is left out; then bilinear.
    Only operations that every runtime of the exported model has.
    """
    x = x.float()
    side = int(x.shape[-1])
    block = side // pixels
    if block > 1:
        x = F.avg_pool2d(x, block, ceil_mode=False)
    if int(x.shape[-1]) != pixels:
        x = F.interpolate(x, size=(pixels, pixels), mode="bilinear", align_corners=False)
    shift = torch.tensor(mean, dtype=torch.float32, device=x.device).view(1, -1, 1, 1)
    scale = torch.tensor(std, dtype=torch.float32, device=x.device).view(1, -1, 1, 1)
    return (x - shift) / scale


def to_onnx(module: nn.Module, size_px: int, outputs: Sequence[str]) -> bytes:
    """The graph, input `chips`, any number of tiles of one size.

    Args:
        module: chips `(N, S, S, 3) uint8` -> one row a tile in each output.

    Raises:
        BackboneError: the network has an operation that ONNX lacks.
    """
    chips = torch.zeros(2, size_px, size_px, 3, dtype=torch.uint8)
    buffer: Any = io.BytesIO()  # a file, which the older exporter takes and its types do not say
    try:
        # What cannot be exported is raised, and need not be printed too.
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            # The tracer warns of sizes taken as constants: they are, the tile size is fixed.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module, (chips,), buffer, dynamo=False, opset_version=OPSET,
                input_names=["chips"], output_names=list(outputs),
                dynamic_axes={name: {0: "N"} for name in ("chips", *outputs)},
            )  # fmt: skip
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, TypeError) as error:
        raise BackboneError(
            f"the network cannot be exported to ONNX ({border.short(error)}); choose another, such "
            "as resnet50"
        ) from None
    return bytes(buffer.getvalue())


def check(
    name: str, module: nn.Module, onnx: bytes, chips: Chips, compute: Compute
) -> FeatureParity:
    """Compare the features of the graph with the torch module's.

    Args:
        compute: runs a graph on chips.

    Raises:
        BackboneError: features that are not finite; a difference above `MAX_DIFFERENCE`.
    """
    rows = []
    with torch.inference_mode():
        for start in range(0, len(chips), BATCH):
            some = np.ascontiguousarray(chips[start : start + BATCH])
            rows.append(module(torch.from_numpy(some)).numpy())
    ours = np.concatenate(rows)
    if not np.isfinite(ours).all():
        raise BackboneError(
            f"{name} gives NaN or infinite features for tiles; its weights are damaged or its "
            "normalisation is another: check --weights, --mean, --std and --range"
        )
    scale = float(np.sqrt(np.mean(ours.astype(np.float64) ** 2))) or 1.0
    parity = FeatureParity(len(chips), float(np.abs(ours - compute(onnx, chips)).max()) / scale)
    if not parity.max_difference <= MAX_DIFFERENCE:
        raise BackboneError(
            f"the exported graph of {name} differs from the network by up to "
            f"{parity.max_difference:.2g} of its features (at most {MAX_DIFFERENCE:g}); choose "
            "another backbone"
        )
    return parity
