"""How good a retrained network is: figures of validation and test tiles, with its temperatures.

It does not know how the network was trained, nor what is made of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat import metrics
from quadrat.finetuning.data import TileData
from quadrat.finetuning.feed import Ids
from quadrat.finetuning.loop import Training
from quadrat.heads.calibrate import HeldOut, Scaling, Scalings, fit_scalings, fit_temperature
from quadrat.heads.learning import LEVEL

FOLDS = 5


@dataclass(frozen=True)
class Judged:
    """Calibration and accuracy of a network, by its validation tiles.

    Attributes:
        scalings: the temperatures, fitted to all validation tiles.
        validation, test: figures (`Metrics.to_dict()`); `test` is None without test tiles.
        conformal: what makes sets of classes (`metrics.conformal`).
    """

    scalings: Scalings
    validation: dict[str, Any]
    test: dict[str, Any] | None
    conformal: dict[str, Any]


def judge(loop: Training, data: TileData, seed: int) -> Judged:
    """Judge the network of `loop` in the precision of its settings."""
    held = _held_out(loop, data)
    scalings = fit_scalings(held)
    p = _calibrated(held, seed)
    validation = _figures(loop, data, data.validation, p, scalings.shares(held.logits), seed=seed)
    test = None
    if len(data.test):
        logits = loop.logits(data.test).astype(np.float64)
        p_test, shares = scalings.probabilities(logits), scalings.shares(logits)
        test = _figures(loop, data, data.test, p_test, shares, seed=seed)
    sets = metrics.conformal(p, held.main, held.blocks, LEVEL)
    return Judged(scalings, validation, test, sets)


def _held_out(loop: Training, data: TileData) -> HeldOut:
    """The network's predictions for the validation tiles."""
    ids = data.validation
    return HeldOut(
        loop.logits(ids).astype(np.float64),
        loop.task.shares(ids).astype(np.float64),
        data.labels[ids],
        None if data.blocks is None else data.blocks[ids],
    )


def _calibrated(held: HeldOut, seed: int) -> NDArray[np.float64]:
    """Probabilities (N, K) by temperatures of tiles that are not their own: five folds.

    The model's temperature is fitted to all validation tiles; figures of calibration on the same
    tiles would flatter it.
    """
    fold = np.random.default_rng(seed).permutation(len(held.main)) % FOLDS
    out = np.zeros(held.logits.shape)
    for i in range(FOLDS):
        rest = fold != i
        temperature = fit_temperature(held.logits[rest], held.main[rest])
        out[~rest] = Scaling(temperature)(held.logits[~rest])
    return out


def _figures(
    loop: Training,
    data: TileData,
    ids: Ids,
    p: NDArray[np.float64],
    shares: NDArray[np.float64],
    *,
    seed: int,
) -> dict[str, Any]:
    """Figures of the tiles `ids`, of which the network gives `p` and `shares` (n, columns)."""
    groups = None if data.blocks is None else data.blocks[ids]
    known = loop.task.shares(ids)
    return metrics.summarise(
        data.labels[ids], p, data.names, groups=groups, shares=(known, shares), seed=seed
    ).to_dict()
