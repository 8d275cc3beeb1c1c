"""What interpreters add to the error of an area.

A plot's reading differs between interpreters. What differs by chance from plot to plot is in the
sampling error already; what one sees more of than another everywhere is not, and no number of plots
makes it smaller (McRoberts et al. 2018, ISPRS Journal of Photogrammetry and Remote Sensing 142).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quadrat.areas import design as designs
from quadrat.areas.design import SurveyDesign
from quadrat.areas.interpreted import Interpretation

Floats = NDArray[np.float64]

LEAST = 10  # plots that two interpreters must share


def component(found: Interpretation, weights: Floats) -> tuple[Floats, int]:
    """Standard error between interpreters of V rows, (V,), and how many were compared.

    From plots that two or more read: the variance between the interpreters' mean differences, less
    what plots explain, over their number. 0 where they were not compared.

    Args:
        weights: (C, V) of the cells in each row.
    """
    none = np.zeros(weights.shape[1])
    readings = found.readings @ weights  # (J, m, V)
    read = ~np.isnan(readings[..., 0]) if readings.shape[-1] else np.zeros(readings.shape[:2], bool)
    both = np.flatnonzero(read.sum(0) >= 2)
    if len(both) < LEAST:
        return none, 1
    design = found.design
    part = SurveyDesign(
        np.zeros(len(both), np.int64), np.array([design.sizes.sum()]),
        None if design.clusters is None else design.clusters[both], design.blocks,
    )  # fmt: skip
    # each plot by its own weight: strata are read at other rates than they were drawn
    w = design.weights[both]
    w = w / w.sum() * len(both)
    middle = np.nanmean(readings[:, both], axis=0)
    effects, noise = [], []
    for each in range(len(readings)):
        mine = read[each, both]
        if mine.sum() < LEAST:
            continue
        off = np.where(mine[:, None], readings[each, both] - middle, 0.0) * w[:, None]
        off *= len(both) / mine.sum()
        effects.append(designs.mean(part, off))
        noise.append(designs.variance(part, off)[0])
    j = len(effects)
    if j < 2:
        return none, 1
    spread = np.square(np.stack(effects)).sum(0) / (j - 1)
    spread -= np.stack(noise).sum(0) / (j - 1)
    return np.sqrt(np.maximum(spread, 0.0) / j), j


def joined(se: Floats, freedom: Floats, between: Floats, readers: int) -> tuple[Floats, Floats]:
    """Standard error of both and its degrees of freedom (Satterthwaite 1946), (V,) each."""
    total = se**2 + between**2
    below = se**4 / freedom + between**4 / max(readers - 1, 1)
    effective = np.divide(total**2, below, out=freedom.copy(), where=below > 0)
    return np.sqrt(total), np.maximum(effective, 1.0)
