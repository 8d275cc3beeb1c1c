"""Accuracy and calibration of a map against reference labels, with intervals. Pure numpy.

The field's words: **overall accuracy**; **producer's accuracy** of a class (recall: how much of the
class on the ground the map shows); **user's accuracy** (precision: how much of the class on the map
is on the ground). Confusion matrices have rows = truth (reference) and columns = prediction (map),
the same order everywhere. All figures of a matrix accept a stack `(..., K, K)` and work on the last
two axes, so that a bootstrap of thousands of matrices is one call.

A figure that is not defined (the user's accuracy of a class that the map never shows) is NaN, in
JSON null; means are taken over the classes where it is defined.

It does not know tiles, files or models: it takes class ids and probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from quadrat.errors import InputError
from quadrat.metrics.bootstrap import (
    DRAWS,
    Estimate,
    block_ids,
    block_sums,
    bootstrap_sums,
    estimates,
    groups_or_random,
    interval,
    number,
)
from quadrat.metrics.calibration import BINS, Calibration, calibration
from quadrat.metrics.matrix import (
    CLASS_SCORES,
    SCORES,
    Floats,
    Ints,
    balanced,
    class_ids,
    confusion,
    f1,
    fold_confusion,
    fold_probabilities,
    macro_f1,
    overall,
    producers,
    reweight,
    users,
    weighted_f1,
)
from quadrat.shown import shown

__all__ = [
    "BINS", "CLASS_SCORES", "DRAWS", "SCORES", "Calibration", "Estimate", "Metrics",
    "balanced", "block_ids", "block_sums", "bootstrap_sums", "calibration", "confusion",
    "estimates", "f1", "fold_confusion", "fold_probabilities", "from_dict", "interval", "macro_f1",
    "overall", "producers", "reweight", "split_gap", "summarise", "users",
    "weighted_f1",
]  # fmt: skip


@shown
@dataclass(frozen=True)
class Metrics:
    """The accuracy of a map, every figure with its interval.

    Attributes:
        confusion: (K, K) int64; rows = truth, columns = prediction.
        blocks: blocks that the bootstrap drew from; 0 when tiles were taken as independent.
        population: whether figures are weighted to a population's class shares.
        scores: figures of the whole map, by the names of `SCORES`.
        producers, users, f1: an estimate a class, in the legend's order.
        calibration: None when only predicted classes were given.
    """

    names: tuple[str, ...]
    tiles: int
    blocks: int
    level: float
    confusion: Ints
    population: bool
    scores: Mapping[str, Estimate]
    producers: tuple[Estimate, ...]
    users: tuple[Estimate, ...]
    f1: tuple[Estimate, ...]
    calibration: Calibration | None

    @property
    def overall(self) -> Estimate:
        """Overall accuracy."""
        return self.scores["overall"]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        classes = [
            {
                "name": name,
                "tiles": int(self.confusion[i].sum()),
                "mapped": int(self.confusion[:, i].sum()),
                "producers": self.producers[i].to_dict(),
                "users": self.users[i].to_dict(),
                "f1": self.f1[i].to_dict(),
            }
            for i, name in enumerate(self.names)
        ]
        return {
            "tiles": self.tiles,
            "blocks": self.blocks,
            "level": self.level,
            "population": self.population,
            **{name: figure.to_dict() for name, figure in self.scores.items()},
            "classes": classes,
            "confusion": self.confusion.tolist(),
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
        }


def summarise(
    truth: ArrayLike,
    probabilities: ArrayLike,
    names: Sequence[str],
    *,
    groups: ArrayLike | None = None,
    shares: Mapping[str, float] | ArrayLike | None = None,
    draws: int = DRAWS,
    level: float = 0.95,
    seed: int = 0,
) -> Metrics:
    """Accuracy and calibration of one map, with bootstrap intervals.

    Args:
        truth: (N,) class ids; -1 (no label) is left out.
        probabilities: (N, K) class probabilities, or (N,) predicted class ids.
        names: the K class names.
        groups: (N,) block ids (`block_ids`); whole blocks are drawn. None takes tiles as
            independent, which understates the width of the intervals on neighbouring tiles.
        shares: the population's class shares (by name or in order) that figures are weighted to;
            None leaves the test set's own.
        draws: bootstrap resamples; 0 gives no intervals.

    Raises:
        InputError: nothing labelled, shapes that differ, ids outside the legend.
    """
    k = len(names)
    given = np.asarray(probabilities)
    pred = given.argmax(1) if given.ndim == 2 and given.shape[1] else given
    if given.ndim == 2 and given.shape[1] != k:
        raise InputError(f"{given.shape[1]} probabilities a tile for {k} classes: {names}")
    t, p = class_ids(truth, k, "truth"), class_ids(pred, k, "prediction")
    matrix = confusion(t, p, k)
    if not matrix.sum():
        raise InputError("no tile has a reference label; accuracy needs some: give labels")
    keep = t >= 0
    block = groups_or_random(t, groups, seed)[keep]
    weights = None if shares is None else _shares(shares, names)
    cells = np.zeros((int(keep.sum()), k * k))
    cells[np.arange(len(cells)), t[keep] * k + p[keep]] = 1.0
    sums = block_sums(cells, block)
    drawn = None
    if len(sums) > 1 and draws:
        drawn = bootstrap_sums(sums, draws=draws, seed=seed).reshape(-1, k, k)
    scale = (lambda m: m) if weights is None else (lambda m: reweight(m, weights))
    whole, stack = scale(matrix), None if drawn is None else scale(drawn)

    def figures_of(rule: Callable[[ArrayLike], Floats]) -> tuple[Estimate, ...]:
        return estimates(rule(whole), None if stack is None else rule(stack), level)

    reliability = None
    if given.ndim == 2:
        reliability = calibration(t, given, groups=groups, draws=draws, level=level, seed=seed)
    return Metrics(
        names=tuple(names),
        tiles=int(matrix.sum()),
        blocks=0 if groups is None else len(sums),
        level=level,
        confusion=matrix,
        population=weights is not None,
        scores={name: figures_of(score.rule)[0] for name, score in SCORES.items()},
        **{name: figures_of(rule) for name, rule in CLASS_SCORES.items()},
        calibration=reliability,
    )


def _shares(shares: Mapping[str, float] | ArrayLike, names: Sequence[str]) -> Floats:
    if isinstance(shares, Mapping):
        unknown = sorted(set(shares) - set(names))
        if unknown:
            raise InputError(f"class shares name {unknown[0]!r}; the classes are {list(names)}")
        return np.array([float(shares.get(n, 0.0)) for n in names])
    return np.asarray(shares, np.float64)


def split_gap(random: Metrics, spatial: Metrics) -> Estimate:
    """How much overall accuracy a random split promises above a spatial one.

    The difference of two independent estimates: half-widths add in squares.
    """
    a, b = random.overall, spatial.overall
    value = a.value - b.value
    low = np.hypot(a.value - a.low, b.high - b.value)
    high = np.hypot(a.high - a.value, b.value - b.low)
    return Estimate(value, float(value - low), float(value + high))


def from_dict(data: Mapping[str, Any]) -> Metrics:
    """The Metrics that `Metrics.to_dict` gave; InputError when the values are not such."""
    figure = Estimate.from_dict
    try:
        classes, known = data["classes"], data.get("calibration")
        return Metrics(
            names=tuple(str(c["name"]) for c in classes),
            tiles=int(data["tiles"]),
            blocks=int(data["blocks"]),
            level=float(data["level"]),
            confusion=np.asarray(data["confusion"], np.int64),
            population=bool(data["population"]),
            scores={n: figure(data[n]) for n in SCORES if n == "overall" or n in data},
            producers=tuple(figure(c["producers"]) for c in classes),
            users=tuple(figure(c["users"]) for c in classes),
            f1=tuple(figure(c["f1"]) for c in classes),
            calibration=None
            if known is None
            else Calibration(
                edges=np.array([number(v) for v in known["edges"]]),
                count=np.asarray(known["count"], np.int64),
                confidence=np.array([number(v) for v in known["confidence"]]),
                accuracy=np.array([number(v) for v in known["accuracy"]]),
                ece=figure(known["ece"]),
                nll=figure(known["nll"]),
                brier=figure(known["brier"]),
            ),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"not accuracy figures: {error}; train or score again") from None
