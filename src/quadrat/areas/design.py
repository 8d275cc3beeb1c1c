"""How answered plots were drawn, and what that says of the error of a mean. Pure numpy.

A mean over all ground is the sum of weight times value, where a plot's weight is the ground that
it stands for. Values may be any: shares of a class, or what a model's prediction leaves of them.
Formulas are those of Cochran 1977, Sampling Techniques, and Wolter 2007, Introduction to Variance
Estimation; degrees of freedom are Satterthwaite's (1946).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

UNSEEN = 0.5  # share of a surprising plot's variance that is added for one that the sample missed


@dataclass(frozen=True)
class SurveyDesign:
    """The design of n answered plots.

    Attributes:
        stratum: (n,) int64. sizes: (H,) tiles in each stratum of the frame.
        clusters: (n,) ids of blocks that were drawn whole, of `blocks` in the frame; or None.
        path: (n,) places along the path of a systematic sample, or None.
    """

    stratum: Ints
    sizes: Floats
    clusters: Ints | None = None
    blocks: int = 0
    path: Ints | None = None

    def __len__(self) -> int:
        return len(self.stratum)

    @property
    def counts(self) -> Ints:
        """Answered plots in each stratum, (H,)."""
        return np.bincount(self.stratum, minlength=len(self.sizes)).astype(np.int64)

    @property
    def weights(self) -> Floats:
        """The part of the ground that each plot stands for, (n,); they sum to 1."""
        per = self.sizes / self.sizes.sum() / np.maximum(self.counts, 1)
        each: Floats = per[self.stratum]
        return each


def sums(place: Ints, values: Floats, size: int) -> Floats:
    """Sums of the rows of `values` (n, ...) at each place, (size, ...)."""
    out = np.zeros((size, *values.shape[1:]))
    np.add.at(out, place, values)
    return out


def mean(design: SurveyDesign, values: Floats) -> Floats:
    """Mean over all ground of `values` (n, V), (V,)."""
    means: Floats = design.weights @ values
    return means


def variance(design: SurveyDesign, values: Floats) -> tuple[Floats, Floats]:
    """Variance of `mean(design, values)` and its degrees of freedom, (V,) each.

    A systematic sample takes half the squared differences of plots that follow each other on its
    path, which sees that neighbours are alike (Wolter 2007, section 8.2).
    """
    if design.clusters is not None:
        return _between_clusters(design, values)
    counts, sizes = design.counts, design.sizes
    if design.path is not None:
        order = np.lexsort((design.path, design.stratum))
        here = design.stratum[order]
        steps = np.diff(values[order], axis=0)
        within = here[1:] == here[:-1]
        squares = sums(here[1:][within], steps[within] ** 2, len(sizes)) / 2
        freedom = np.maximum(counts - 1, 1) * 2 / 3
    else:
        means = sums(design.stratum, values, len(sizes)) / np.maximum(counts, 1)[:, None]
        squares = sums(design.stratum, (values - means[design.stratum]) ** 2, len(sizes))
        freedom = np.maximum(counts - 1, 1).astype(np.float64)
    spread = squares / np.maximum(counts - 1, 1)[:, None]
    left = np.clip(1 - counts / np.maximum(sizes, 1), 0, 1)
    weight = (sizes / sizes.sum()) ** 2 * left / np.maximum(counts, 1)
    each = weight[:, None] * spread
    total = each.sum(0)
    below = (each**2 / freedom[:, None]).sum(0)
    most = float(max(counts.sum() - (counts > 0).sum(), 1))
    effective = np.divide(total**2, below, out=np.full(len(total), most), where=below > 0)
    return total, np.clip(effective, 1.0, most)


def _between_clusters(design: SurveyDesign, values: Floats) -> tuple[Floats, Floats]:
    """Between blocks, whose means count by their tiles (a ratio of two sums over blocks)."""
    ids, place = np.unique(np.asarray(design.clusters), return_inverse=True)
    m = len(ids)
    each = sums(place.reshape(-1), values - values.mean(0), m)
    left = 1 - m / max(design.blocks, m + 1) if design.blocks else 1.0
    total = left * m / max(m - 1, 1) * (each**2).sum(0) / len(values) ** 2
    return total, np.full(values.shape[1], float(max(m - 1, 1)))


def standard_error(design: SurveyDesign, values: Floats) -> tuple[Floats, Floats, Floats]:
    """Standard error of `mean(design, values)` for an interval that holds, (V,) each.

    Where few plots make most of the variance, as with rare classes and with omissions in a large
    stratum, many samples hold none of them: then the estimate is low and its error seems small.
    So the interval's error counts half the variance of one more plot, as surprising as the
    surprising ones are, where a plot stands for most ground; and the degrees of freedom are what
    the fourth moment leaves.

    Returns:
        the standard error by the design, the interval's, and its degrees of freedom.
    """
    total, freedom = variance(design, values)
    if design.clusters is not None:
        _, place = np.unique(np.asarray(design.clusters), return_inverse=True)
        parts = sums(place.reshape(-1), values - values.mean(0), int(place.max()) + 1)
        each, most = parts / len(values), np.ones(1)
        surprising = (each**4).sum(0)
    else:
        counts, sizes = design.counts, design.sizes
        means = sums(design.stratum, values, len(sizes)) / np.maximum(counts, 1)[:, None]
        residual = values - means[design.stratum]
        left = np.clip(1 - counts / np.maximum(sizes, 1), 0, 1)[design.stratum]
        each = (design.weights * np.sqrt(left))[:, None] * residual
        most = design.weights**2 * left
        surprising = (residual**4).sum(0)
    squares = (each**2).sum(0)
    own = squares if design.clusters is not None else (residual**2).sum(0)
    more = UNSEEN * most.max() * np.divide(surprising, own, out=np.zeros_like(own), where=own > 0)
    rest = (each**4).sum(0) - squares**2 / len(each)
    moment = np.divide(2 * squares**2, rest, out=freedom.copy(), where=rest > 1e-300)
    return np.sqrt(total), np.sqrt(total + more), np.clip(np.minimum(freedom, moment), 2.0, None)


def simple_variance(design: SurveyDesign, values: Floats) -> Floats:
    """Variance that as many plots drawn at random from all tiles would have, (V,)."""
    n, w, total = len(design), design.weights, float(design.sizes.sum())
    centre = w @ values
    spread = (w @ (values - centre) ** 2) * n / max(n - 1, 1)
    variance: Floats = spread / n * max(1 - n / total, 0.0)
    return variance
