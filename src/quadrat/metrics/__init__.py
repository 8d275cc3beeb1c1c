"""Accuracy and calibration of a map against reference labels, with intervals. Numpy and scipy.

The field's words: **overall accuracy**; **producer's accuracy** of a class (recall: how much of the
class on the ground the map shows); **user's accuracy** (precision: how much of the class on the map
is on the ground). Confusion matrices have rows = truth (reference) and columns = prediction (map),
the same order everywhere. All figures of a matrix accept a stack `(..., K, K)` and work on the last
two axes, so that a bootstrap of thousands of matrices is one call.

Accuracy is that of all plots that have a main class, mixed ones too. Where class shares are known,
it is also given by *purity* (the share of the main class), and so is the error of the shares.

A figure that is not defined (the user's accuracy of a class that the map never shows) is NaN, in
JSON null; means are taken over the classes where it is defined.

It does not know tiles, files or models: it takes class ids and probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from quadrat import charts
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
from quadrat.metrics.conformal import conformal, coverage, fold_sets, in_set, set_sizes
from quadrat.metrics.ground import PURE, PurityBand, Shares, by_purity, share_figures
from quadrat.metrics.intervals import corrected, ratios
from quadrat.metrics.matrix import (
    CLASS_SCORES,
    SCORES,
    Floats,
    Ints,
    balanced,
    class_ids,
    confusion,
    f1,
    fold_mapped,
    fold_probabilities,
    macro_f1,
    overall,
    producers,
    reweight,
    users,
    weighted_f1,
)
from quadrat.shown import Chart, shown

__all__ = [
    "BINS", "CLASS_SCORES", "DRAWS", "PURE", "SCORES", "Calibration", "Estimate", "Metrics",
    "PurityBand", "Shares",
    "balanced", "block_ids", "block_sums", "bootstrap_sums", "calibration", "conformal",
    "confusion", "coverage", "estimates", "f1", "fold_mapped",
    "fold_probabilities", "fold_sets", "from_dict",
    "in_set", "interval", "macro_f1", "overall", "producers", "reweight", "set_sizes", "split_gap",
    "summarise", "users", "weighted_f1",
]  # fmt: skip


@shown
@dataclass(frozen=True)
class Metrics:
    """The accuracy of a map, every figure with its interval.

    Attributes:
        confusion: (K, K) int64; rows = truth, columns = prediction.
        blocks: blocks that intervals rest on; 0 when tiles were taken as independent.
        population: whether figures are weighted to a population's class shares.
        scores: figures of the whole map, by the names of `SCORES`.
        producers, users, f1: an estimate a class, in the legend's order.
        calibration: None when only predicted classes were given.
        pure: overall accuracy of pure plots alone (one class has `PURE` of the ground or more).
        purity: overall accuracy in bands of the main class's share; () where shares are unknown.
        shares: how far shares are off; None where they are unknown.
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
    pure: Estimate | None = None
    purity: tuple[PurityBand, ...] = ()
    shares: Shares | None = None

    @property
    def overall(self) -> Estimate:
        """Overall accuracy."""
        return self.scores["overall"]

    def plot(self, title: str = "Confusion matrix") -> Chart:
        """The confusion matrix as a picture for notebooks: counts, shaded by share of each row."""
        return Chart(charts.confusion(self.names, self.confusion.tolist(), title))

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
            "pure": None if self.pure is None else self.pure.to_dict(),
            "purity": [band.to_dict() for band in self.purity],
            "shares": None if self.shares is None else self.shares.to_dict(),
        }


def summarise(
    truth: ArrayLike,
    probabilities: ArrayLike,
    names: Sequence[str],
    *,
    groups: ArrayLike | None = None,
    population: Mapping[str, float] | ArrayLike | None = None,
    shares: tuple[ArrayLike, ArrayLike] | None = None,
    draws: int = DRAWS,
    level: float = 0.95,
    seed: int = 0,
) -> Metrics:
    """Accuracy and calibration of one map, with intervals (see `intervals`).

    Args:
        truth: (N,) main classes; -1 (none) is left out.
        probabilities: (N, K) probabilities of the main class, or (N,) predicted class ids.
        names: the K class names.
        groups: (N,) block ids (`block_ids`): tiles of a block err alike. None takes tiles as
            independent, which understates the width of the intervals on neighbouring tiles.
        population: the population's class shares (by name or in order) that figures are weighted
            to; None leaves the test set's own.
        shares: (N, K) reference shares of the classes and (N, K) expected ones.
        draws: bootstrap resamples; 0 gives no intervals where these come from it.

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
    block = groups_or_random(t, groups, seed)
    keep = t >= 0
    cells = np.zeros((int(keep.sum()), k * k))
    cells[np.arange(len(cells)), t[keep] * k + p[keep]] = 1.0
    sums = block_sums(cells, block[keep])
    weights = None if population is None else _population(population, names)
    figures = _figures(
        sums.reshape(-1, k, k),
        weights,
        independent=groups is None,
        draws=draws,
        level=level,
        seed=seed,
    )
    reliability = None
    if given.ndim == 2:
        reliability = calibration(t, given, groups=groups, draws=draws, level=level, seed=seed)
    pure: Estimate | None = None
    bands: tuple[PurityBand, ...] = ()
    told: Shares | None = None
    if shares is not None:
        known, expected = (np.asarray(s, np.float64) for s in shares)
        pure, bands = by_purity(t, p, known, block, level, independent=groups is None)
        told = share_figures(known, expected, names, block, level)
    classes: Any = {name: figures[name] for name in CLASS_SCORES}
    return Metrics(
        names=tuple(names),
        tiles=int(matrix.sum()),
        blocks=0 if groups is None else len(sums),
        level=level,
        confusion=matrix,
        population=weights is not None,
        scores={name: figures[name][0] for name in SCORES},
        **classes,
        calibration=reliability,
        pure=pure,
        purity=bands,
        shares=told,
    )


def _figures(
    sums: Floats, weights: Floats | None, *, independent: bool, draws: int, level: float, seed: int
) -> dict[str, tuple[Estimate, ...]]:
    """Every figure of the confusion matrices of blocks (B, K, K)."""
    right, rows, cols = np.diagonal(sums, axis1=1, axis2=2), sums.sum(2), sums.sum(1)
    figures: dict[str, tuple[Estimate, ...]] = {}
    if weights is None:
        parts = {
            "overall": (right.sum(1, keepdims=True), rows.sum(1, keepdims=True)),
            "producers": (right, rows),
            "users": (right, cols),
            "f1": (right, (rows + cols) / 2),
        }
        figures = {
            name: ratios(tops, bottoms, level, independent=independent)
            for name, (tops, bottoms) in parts.items()
        }
    scale = (lambda m: m) if weights is None else (lambda m: reweight(m, weights))
    whole, k = scale(sums.sum(0)), sums.shape[1]
    drawn = without = None
    if len(sums) > 1 and draws:
        flat = bootstrap_sums(sums.reshape(len(sums), -1), draws=draws, seed=seed)
        drawn, without = scale(flat.reshape(-1, k, k)), scale(sums.sum(0) - sums)
    rules = {name: score.rule for name, score in SCORES.items()} | CLASS_SCORES
    for name, rule in rules.items():
        if name in figures:
            continue
        values = np.atleast_1d(rule(whole))
        if drawn is None or without is None:
            figures[name] = estimates(values, None, level)
            continue
        stacks = (rule(stack).reshape(len(stack), -1) for stack in (drawn, without))
        columns = zip(values, *(stack.T for stack in stacks), strict=True)
        figures[name] = tuple(corrected(float(v), d, w, level) for v, d, w in columns)
    return figures


def _population(population: Mapping[str, float] | ArrayLike, names: Sequence[str]) -> Floats:
    if isinstance(population, Mapping):
        unknown = sorted(set(population) - set(names))
        if unknown:
            raise InputError(f"class shares name {unknown[0]!r}; the classes are {list(names)}")
        return np.array([float(population.get(n, 0.0)) for n in names])
    return np.asarray(population, np.float64)


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
            pure=None if data.get("pure") is None else figure(data["pure"]),
            purity=tuple(PurityBand.from_dict(b) for b in data.get("purity") or ()),
            shares=None if data.get("shares") is None else Shares.from_dict(data["shares"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"not accuracy figures: {error}; train or score again") from None
