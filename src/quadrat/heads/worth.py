"""Accuracy of a head: on the validation tiles, and on all held-out ground.

It does not know who fitted the head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from quadrat import metrics
from quadrat.errors import TrainError
from quadrat.heads import samples as sampling
from quadrat.heads.fit import Floats
from quadrat.heads.learning import Job, Learned, random_split
from quadrat.legend import Legend


@dataclass(frozen=True)
class Said:
    """Predictions for held-out tiles, and their reference.

    Attributes:
        main: (n,) main classes, -1 for none. reference: (n, columns) shares.
        probabilities, shares: (n, columns). blocks: (n,), None for pictures without a place.
    """

    main: sampling.Ints
    reference: Floats
    probabilities: Floats
    shares: Floats
    blocks: sampling.Ints | None

    def figures(self, names: tuple[str, ...], seed: int) -> dict[str, Any] | None:
        """Accuracy and calibration; None where no tile has a main class."""
        if not (self.main >= 0).any():
            return None
        return metrics.summarise(
            self.main, self.probabilities, names, groups=self.blocks,
            shares=(self.reference, self.shares), seed=seed,
        ).to_dict()  # fmt: skip


def _said(learned: Learned, legend: Legend) -> tuple[Said, tuple[str, ...]]:
    """Predictions for the validation tiles; the names of the columns."""
    samples, fitted = learned.samples, learned.fitted
    where = samples.validation
    names, p, shares = samples.names(legend), fitted.probabilities, fitted.shares
    if not samples.masks and (samples.y[where] == len(legend)).any():
        # ground without a class that training lacked counts as wrong
        names = (*names, sampling.MASKED)
        p, shares = (np.pad(rows, ((0, 0), (0, 1))) for rows in (p, shares))
    reference = samples.shares[where]
    if len(names) > len(legend):
        reference = np.concatenate([reference, 1 - reference.sum(axis=1, keepdims=True)], axis=1)
    blocks = None if samples.blocks is None else samples.blocks[where]
    return Said(samples.y[where], reference, p, shares, blocks), names


def validation(learned: Learned, legend: Legend, seed: int) -> dict[str, Any] | None:
    """Figures of all validation tiles that have a main class."""
    said, names = _said(learned, legend)
    return said.figures(names, seed)


def ground(learned: Learned, legend: Legend, seed: int) -> dict[str, Any] | None:
    """Figures of all held-out ground; None where no training tile was held out of a head."""
    held, scalings = learned.fitted.held_out, learned.fitted.scalings
    if held is None:
        return None
    one, names = _said(learned, legend)
    extra = len(names) - held.logits.shape[1]
    p, shares, reference = (
        np.pad(rows, ((0, 0), (0, extra)))
        for rows in (scalings.probabilities(held.logits), scalings.shares(held.logits),
                     held.targets)
    )  # fmt: skip
    return Said(
        np.concatenate([one.main, held.main]),
        np.concatenate([one.reference, reference]),
        np.concatenate([one.probabilities, p]),
        np.concatenate([one.shares, shares]),
        None if one.blocks is None or held.blocks is None
        else np.concatenate([one.blocks, held.blocks]),
    ).figures(names, seed)  # fmt: skip


def split_gap(job: Job, learned: Learned, figures: dict[str, Any] | None) -> dict[str, Any]:
    """Accuracy by a random split, and its excess over the figures."""
    if figures is None:
        raise TrainError("--split-gap compares with validation tiles, and there are none")
    truth, p = random_split(job, learned.samples)
    names = learned.samples.names(job.legend)
    known = truth < len(names)
    chance = metrics.summarise(truth[known], p[known], names, seed=job.settings.seed)
    gap = metrics.split_gap(chance, metrics.from_dict(figures))
    return {"random": chance.overall.to_dict(), "gap": gap.to_dict()}
