"""Estimators of a mean over all ground from interpreted plots. Pure numpy.

    direct           plots alone, by their weights (Horvitz-Thompson; Stehman 2014)
    post-stratified  plots grouped by what the map says of them
    ratio            as the map's total, times what plots are to what the map says of them
    difference       the map's total, plus the mean of plots less what the map says of them
    regression       the same with a coefficient that makes the error small

All but the first use what the map says of every tile, which takes out the part of the sampling
error that the map explains (Särndal, Swensson and Wretman 1992, Model Assisted Survey Sampling;
McRoberts 2011, Remote Sensing of Environment 115). None is biased by a wrong map. The coefficients
of `regression` minimise the design's variance (Montanari 1987, International Statistical Review
55), so that a useless map costs nothing but chance. They are cross-fitted: a plot's residual is
from coefficients that other plots gave, and so the standard error is not of residuals that were
made small.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quadrat.areas import design as designs
from quadrat.areas.design import SurveyDesign, sums
from quadrat.areas.estimate import pool_small

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FOLDS = 10
RIDGE = 1e-9


@dataclass(frozen=True)
class Auxiliary:
    """What the map says of the plots and of all ground, for V figures.

    Attributes:
        shares: (n, V) the map's share of each figure in the plots. means: (H, V) the same over all
            tiles of each stratum.
        mapped: (n, V) whether the map's class is the figure's. mapped_means: (H, V).
        group: (n,) the map's class (or transition) of each plot. group_sizes: (G,) tiles of each.
    """

    shares: Floats
    means: Floats
    mapped: Floats
    mapped_means: Floats
    group: Ints
    group_sizes: Floats


@dataclass(frozen=True)
class Linear:
    """Estimates as means of values that plots have.

    Attributes:
        value: (V,). values: (n, V) whose weighted mean is the estimate, and whose variance is its.
    """

    value: Floats
    values: Floats


def direct(design: SurveyDesign, y: Floats, _: Auxiliary) -> Linear:
    """The plots alone, by their weights."""
    return Linear(designs.mean(design, y), y)


def difference(design: SurveyDesign, y: Floats, aux: Auxiliary) -> Linear:
    """The map's mean, and what plots differ from it."""
    values = y + aux.means[design.stratum] - aux.shares
    return Linear(designs.mean(design, values), values)


def ratio(design: SurveyDesign, y: Floats, aux: Auxiliary) -> Linear:
    """The map's mean times a ratio; the plots alone where they hold none of what is mapped."""
    top, bottom = designs.mean(design, y), designs.mean(design, aux.shares)
    total = (design.sizes / design.sizes.sum()) @ aux.means
    some = bottom > 1e-12
    factor = np.divide(top, bottom, out=np.zeros_like(top), where=some)
    scale = np.divide(total, bottom, out=np.ones_like(top), where=some)
    value = np.where(some, factor * total, top)
    values = np.where(some, value + scale * (y - factor * aux.shares), y)
    return Linear(value, values)


def post_stratified(design: SurveyDesign, y: Floats, aux: Auxiliary) -> Linear:
    """Means of the plots in each class of the map, by the classes' tiles (Cochran 1977, 5A.9).

    Classes with fewer than two plots are taken together.
    """
    sizes = aux.group_sizes
    place = pool_small(np.bincount(aux.group, minlength=len(sizes)), sizes)
    group = place[aux.group]
    total = np.bincount(place, weights=sizes, minlength=len(sizes)) / sizes.sum()
    w = design.weights
    seen = np.bincount(group, weights=w, minlength=len(sizes))
    held = np.bincount(group, minlength=len(sizes))
    means = sums(group, w[:, None] * y, len(sizes)) / np.maximum(seen, 1e-300)[:, None]
    value = total @ means
    # of n plots of a class the mean takes one degree of freedom
    scale = np.divide(total, seen, out=np.zeros(len(sizes)), where=seen > 0)
    scale *= np.sqrt(held / np.maximum(held - 1, 1))
    values = value + scale[group][:, None] * (y - means[group])
    return Linear(value, values)


def regression(design: SurveyDesign, y: Floats, aux: Auxiliary) -> Linear:
    """The map's shares and classes with coefficients that other plots gave."""
    x = np.stack([aux.shares, aux.mapped], axis=2)  # (n, V, P)
    centre = np.stack([aux.means, aux.mapped_means], axis=2)  # (H, V, P)
    fold = folds(design)
    slopes = _slopes(design, y, x, fold)  # (F, V, P)
    values = y + np.einsum("nvp,nvp->nv", slopes[fold], centre[design.stratum] - x)
    return Linear(designs.mean(design, values), values)


def folds(design: SurveyDesign, seed: int = 0) -> Ints:
    """A fold for each plot, dealt within strata; whole blocks where blocks were drawn."""
    rng = np.random.default_rng(seed)
    if design.clusters is not None:
        ids, place = np.unique(np.asarray(design.clusters), return_inverse=True)
        return (rng.permutation(len(ids)) % FOLDS)[place.reshape(-1)]
    order = np.lexsort((rng.random(len(design)), design.stratum))
    fold = np.empty(len(design), np.int64)
    fold[order] = np.arange(len(design)) % FOLDS
    return fold


def _slopes(design: SurveyDesign, y: Floats, x: Floats, fold: Ints) -> Floats:
    """Coefficients from all plots but those of each fold, (F, V, P).

    Least squares within strata, plots weighted by what they add to the variance.
    """
    h, k = len(design.sizes), int(fold.max()) + 1
    cell = fold * h + design.stratum
    p = x.shape[2]

    def without(values: Floats) -> Floats:
        each = sums(cell, values, k * h).reshape(k, h, *values.shape[1:])
        rest: Floats = each.sum(0) - each
        return rest

    n = without(np.ones(len(y)))  # (F, H)
    xx = without(x[..., :, None] * x[..., None, :])
    xy = without(x * y[..., None])
    sx, sy = without(x), without(y)
    m = np.maximum(n, 1)[:, :, None, None]
    xx -= sx[..., :, None] * sx[..., None, :] / m[..., None]
    xy -= sx * sy[..., None] / m
    left = np.clip(1 - design.counts / np.maximum(design.sizes, 1), 0, 1)
    share = (design.sizes / design.sizes.sum()) ** 2 * left
    weight = share / np.maximum(n * (n - 1), 1) * (n > 1)
    top = np.einsum("fh,fhvp->fvp", weight, xy)
    bottom = np.einsum("fh,fhvpq->fvpq", weight, xx)
    size = np.trace(bottom, axis1=2, axis2=3)[..., None, None]
    bottom = bottom + (RIDGE * size + 1e-30) * np.eye(p)
    slopes: Floats = np.linalg.solve(bottom, top[..., None])[..., 0]
    return np.where(np.isfinite(slopes), slopes, 0.0)


Rule = Callable[[SurveyDesign, Floats, Auxiliary], Linear]
# `--estimator` -> its function; the names are `choices.ESTIMATORS`.
ESTIMATORS: Mapping[str, Rule] = {
    "regression": regression,
    "difference": difference,
    "ratio": ratio,
    "post-stratified": post_stratified,
    "direct": direct,
}
