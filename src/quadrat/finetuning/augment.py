"""Chips -> what the network sees: plain, or augmented at random, a whole batch at a time.

Cropping, mirroring and turning copy bytes; the resize works on bytes too; brightness, contrast,
saturation and the normalisation are one 3 x 3 matrix and one offset a tile. A batch costs about
0.6 ms a tile of 224 px on one core, so that training waits for the network alone.

The random choices are drawn apart from their use, for the whole batch, from (seed, epoch, step):
each of several processes draws all of them and uses its own, so that the number of processes does
not change what a tile looks like, and a resumed run sees what the unbroken one would have seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from quadrat.backbones.exporting import prepared

# Luma of ITU-R BT.601, by which contrast and saturation fade to grey.
GREY = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Draw:
    """Random choices for N tiles.

    Attributes:
        place: (N, 2) float64 in [0, 1): where the crop lies between its extremes: row, column.
        turn: (N,) quarter turns, 0 to 3.
        mirror: (N,) bool.
        jitter: (N, 3) float64 factors of brightness, contrast, saturation.
    """

    place: NDArray[np.float64]
    turn: NDArray[np.int64]
    mirror: NDArray[np.bool_]
    jitter: NDArray[np.float64]

    def rows(self, which: Any) -> Draw:
        """The choices of some of the tiles."""
        return Draw(self.place[which], self.turn[which], self.mirror[which], self.jitter[which])


def draw(n: int, key: tuple[int, ...], *, jitter: float, flips: bool) -> Draw:
    """Random choices for n tiles; the same for the same key.

    Args:
        key: (seed, epoch, step).
        jitter: largest relative change of brightness, contrast and saturation.
        flips: whether to mirror and turn.
    """
    rng = np.random.default_rng(key)
    place, turn, mirror = rng.random((n, 2)), rng.integers(0, 4, n), rng.random(n) < 0.5
    factors = rng.uniform(1 - jitter, 1 + jitter, (n, 3))
    if not flips:
        turn, mirror = np.zeros(n, np.int64), np.zeros(n, np.bool_)
    return Draw(place, turn, mirror, factors)


def augmented(
    chips: NDArray[np.uint8],
    draw: Draw,
    *,
    crop: float,
    pixels: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    device: torch.device | None = None,
) -> Tensor:
    """Random crops, `(N, 3, pixels, pixels) float32` normalised, channels last in memory.

    Args:
        chips: `(N, S, S, 3) uint8`.
        crop: side of the crop as a share of S.
        mean, std: per channel, in units of 0 to 255.
        device: where the arithmetic is done and the result lies.
    """
    side = chips.shape[1]
    inner = max(1, round(crop * side))
    cut = np.empty((len(chips), inner, inner, 3), np.uint8)
    for i, (r, c) in enumerate(np.floor(draw.place * (side - inner + 1)).astype(int)):
        piece = chips[i, r : r + inner, c : c + inner]
        piece = piece[:, ::-1] if draw.mirror[i] else piece
        cut[i] = np.rot90(piece, draw.turn[i])
    x = _to(cut, device)
    if inner != pixels:
        x = _resized(x, pixels)
    n, _, h, w = x.shape
    flat = x.permute(0, 2, 3, 1).reshape(n, h * w, 3).float()
    matrix, offset = _colour(draw.jitter, flat.mean(1), mean, std)
    y = torch.baddbmm(offset, flat, matrix)
    # What leaves 0..255 is cut off, as a camera would.
    # (Limits as long as a row of the batch: broadcasting three numbers is ten times slower.)
    low, high = (_normalised(v, mean, std, y.device).repeat(h * w) for v in (0.0, 255.0))
    y.view(n, -1).clamp_(low, high)
    return y.view(n, h, w, 3).permute(0, 3, 1, 2)


def plain(
    chips: NDArray[np.uint8],
    *,
    pixels: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    device: torch.device | None = None,
) -> Tensor:
    """Whole tiles, `(N, 3, pixels, pixels) float32` normalised, as the exported model sees them."""
    return prepared(_to(chips, device), pixels, mean, std)


def _to(chips: NDArray[np.uint8], device: torch.device | None) -> Tensor:
    x = torch.from_numpy(np.ascontiguousarray(chips))
    if device is not None and device.type != "cpu":
        x = x.pin_memory().to(device, non_blocking=True)
    return x.permute(0, 3, 1, 2)


def _resized(x: Tensor, pixels: int) -> Tensor:
    if x.device.type == "cpu":
        return F.interpolate(x, size=(pixels, pixels), mode="bilinear", antialias=True)
    return F.interpolate(x.float(), size=(pixels, pixels), mode="bilinear", antialias=True)


def _normalised(
    value: float, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> Tensor:
    return torch.tensor([(value - m) / s for m, s in zip(mean, std, strict=True)], device=device)


def _colour(
    jitter: NDArray[np.float64],
    average: Tensor,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> tuple[Tensor, Tensor]:
    """The matrix (N, 3, 3) and offset (N, 1, 3) that jitter and normalise a row of RGB.

    brightness: v -> b v; contrast: v -> c v + (1 - c) (luma of the tile's average colour);
    saturation: v -> s v + (1 - s) luma(v). All are linear in v but for one constant of the tile.
    """
    device = average.device
    b, c, s = (torch.tensor(jitter[:, i], dtype=torch.float32, device=device) for i in range(3))
    luma = torch.tensor(GREY, device=device)
    eye = torch.eye(3, device=device)
    saturate = s.view(-1, 1, 1) * eye + (1 - s).view(-1, 1, 1) * luma.view(3, 1).expand(3, 3)
    scale = torch.tensor(std, dtype=torch.float32, device=device)
    shift = torch.tensor(mean, dtype=torch.float32, device=device)
    matrix = (b * c).view(-1, 1, 1) * saturate / scale
    # a grey stays itself under saturation, so the contrast's constant passes unchanged
    constant = ((1 - c) * b * (average @ luma)).view(-1, 1, 1)
    return matrix, (constant - shift) / scale
