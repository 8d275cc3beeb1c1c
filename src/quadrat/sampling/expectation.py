"""What a sample is planned on: how much plots of a stratum are expected to differ.

Either the map's accuracy is stated, or a pilot says it, or the map's own shares are believed. Every
figure of a plan says which.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quadrat import grid as grids
from quadrat import storage
from quadrat.errors import InputError
from quadrat.sampling.allocation import Expectation
from quadrat.sampling.answers import PlotAnswers
from quadrat.sampling.files import PlotSample
from quadrat.sampling.frame import SamplingFrame
from quadrat.sampling.strata import Strata

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
HELD_OUT = ("test", "validation")
LEAST_PILOT = 30  # plots; a smaller pilot is not used
HIDDEN = 0.1  # share of the expected change that is assumed to be missed in each stratum


@dataclass(frozen=True)
class Pilot:
    """Plots whose reference is known before the sample is planned.

    Attributes:
        places: (n,) where they are in the frame.
        values: (n,) the target's share of each plot.
        words: whose plots they are.
        weights: (n,) what a plot counts; all alike where it is None.
    """

    places: NDArray[np.int64]
    values: Floats
    words: str
    weights: Floats | None = None

    def mean(self, values: Floats) -> float:
        """Mean of values of the plots, (n,), by their weights."""
        return float(np.average(values, weights=self.weights))


def expect(
    strata: Strata,
    share: Floats,
    mapped: Flags,
    *,
    accuracy: float | None = None,
    pilot: Pilot | None = None,
    hidden: float = 0.0,
) -> Expectation:
    """What is expected of one target.

    Args:
        share: (N,) the target's share (or probability) of each tile, as the map says it.
        accuracy: the part of plots that the map is right on, where it is stated.
        mapped: (N,) tiles that the map says are of the target.
        hidden: part of the target's ground that any stratum may hold, whatever the map says.
    """
    if accuracy is not None:
        return _stated(strata, accuracy, mapped)
    doubt = np.clip(share * (1 - share), 0.0, 0.25)
    factor = 1.0
    assumes = (
        "the map's own shares: a plot is of the class with the probability that its share says, "
        "the most that plots can differ; a pilot makes the sample smaller"
    )
    if pilot is not None:
        if len(pilot.places) < LEAST_PILOT:
            raise InputError(
                f"a pilot of {len(pilot.places)} plots tells too little; give at least "
                f"{LEAST_PILOT}, or state --accuracy"
            )
        error = pilot.mean(np.square(pilot.values - share[pilot.places]))
        factor = error / max(pilot.mean(doubt[pilot.places]), 1e-9)
        assumes = (
            f"{pilot.words}: {len(pilot.places):,} plots differ from the map's shares by "
            f"{np.sqrt(error):.3f} (root mean square), as all plots are taken to, in proportion "
            "to their doubt"
        )
    sizes = np.maximum(strata.sizes, 1)
    mean = np.bincount(strata.of, weights=doubt, minlength=len(sizes)) / sizes
    total = float(share.mean())
    if pilot is not None:
        total = max(total + pilot.mean(pilot.values - share[pilot.places]), 1e-6)
    if hidden:
        floor = np.minimum(hidden * total * len(share) / sizes, 0.5)
        mean = np.maximum(mean, floor * (1 - floor))
        assumes += f"; each stratum may hide {hidden:.0%} of the change that the map expects"
    return Expectation(total, np.sqrt(mean * factor), assumes)


def _stated(strata: Strata, accuracy: float, mapped: Flags) -> Expectation:
    """Each plot is one class; errors fall on other classes in proportion to their ground."""
    if not 0 < accuracy < 1:
        raise InputError(f"--accuracy {accuracy:g} is no share between 0 and 1; give 0.85, say")
    part = float(mapped.mean())
    missed = (1 - accuracy) * part / max(1 - part * part, 1e-9)
    p = np.where(mapped, accuracy, missed)
    sizes = np.maximum(strata.sizes, 1)
    mean = np.bincount(strata.of, weights=p, minlength=len(sizes)) / sizes
    return Expectation(
        float(p.mean()), np.sqrt(mean * (1 - mean)),
        f"the map is right on {accuracy:.0%} of the plots of every class, and a plot is one class",
    )  # fmt: skip


def from_answers(
    frame: SamplingFrame,
    sample: PlotSample,
    answers: PlotAnswers,
    target: int | None,
    gained: Flags,
) -> Pilot:
    """An earlier sample's answered plots as a pilot.

    Args:
        target: the class whose area is planned; None for a change.
        gained: (K,) classes whose gain is the change.

    Raises:
        InputError: the earlier sample has other classes, or too few of its plots lie in the frame.
    """
    if sample.legend.names != frame.legend.names or len(sample.dates) != len(frame.dates):
        raise InputError(
            f"the pilot {storage.redact(sample.uri)} has other classes or dates than "
            f"{storage.redact(frame.uri)}; take a sample of the same map"
        )
    counted = answers.counted
    named = np.eye(len(frame.legend))[answers.main] * (answers.main >= 0)[..., None]
    shares = np.where(np.isnan(answers.shares), named, answers.shares)  # (J, n, D, K)
    if target is None:
        each = np.maximum(shares[:, :, -1] - shares[:, :, 0], 0.0)[..., gained].sum(-1)
    else:
        each = shares[:, :, -1, target]
    values = (each * counted).sum(0) / np.maximum(counted.sum(0), 1)
    keys = grids.tile_keys(sample.rows, sample.cols)
    at = grids.places_of(grids.tile_keys(frame.rows, frame.cols), keys)
    kept = np.flatnonzero((at >= 0) & counted.any(0))
    words = f"the plots of {storage.basename(sample.uri)} that were interpreted"
    return Pilot(at[kept], values[kept], words, 1 / sample.probability[kept])


def from_labels(frame: SamplingFrame, target: int) -> Pilot | None:
    """The label source's shares of held-out tiles as a pilot; None where the scores keep none."""
    if frame.label_shares is None or frame.split is None:
        return None
    known = np.isin(frame.split, HELD_OUT) & np.isfinite(frame.label_shares).all(1)
    places = np.flatnonzero(known)
    if len(places) < LEAST_PILOT:
        return None
    return Pilot(
        places, frame.label_shares[places, target],
        "the label source on held-out tiles (interpreters are taken to differ as much)",
    )  # fmt: skip
