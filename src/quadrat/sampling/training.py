"""A sample to train with: the most informative tiles that may train, and none to estimate with.

The plots of a sample are for one purpose. Tiles that a split holds out are not drawn, nor those of
samples for estimation that are named: whoever estimates areas by plots on which the model was
trained measures its memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from quadrat import grid as grids
from quadrat import scores, storage
from quadrat.errors import InputError
from quadrat.sampling import informative
from quadrat.sampling.files import TRAINING, PlotSample, open_sample
from quadrat.sampling.frame import SamplingFrame, described

PLOTS = 200
# Options of probability samples, and what they are when nobody gave them.
DESIGN = {
    "design": "stratified", "strata": False, "allocation": "proportional", "minimum": None,
    "area": None, "half_width": None, "accuracy": None, "reserve": 0, "pilot": None,
}  # fmt: skip
HELD_OUT = ("validation", "test")


def refuse(**given: object) -> None:
    """InputError where an option of probability samples was given; see `DESIGN`."""
    wrong = next((n for n, value in given.items() if value != DESIGN[n]), None)
    if wrong is not None:
        raise InputError(
            f"--{wrong.replace('_', '-')} is for probability samples; --for training takes "
            "--plots, --within, --legend, --apart-from and --seed"
        )


def draw(
    frame: SamplingFrame, out: str, *, plots: int | None, apart_from: Sequence[str], seed: int
) -> PlotSample:
    """The most informative tiles of scores as a sample to train with, before it is written.

    Args:
        apart_from: samples whose tiles are left out.

    Raises:
        InputError: a frame of change, samples on another grid, too few tiles.
    """
    if frame.kind != "scores":
        raise InputError(
            f"{storage.redact(frame.uri)} is a change; plots to train with are drawn from the "
            "scores of the date that the model is trained on"
        )
    free = ~np.isin(frame.split, HELD_OUT) if frame.split is not None else np.ones(len(frame), bool)
    apart = [_apart(uri, frame, free) for uri in apart_from]
    frame = frame.take(np.flatnonzero(free))
    day = scores.read(frame.uri).folded(frame.legend)
    at = grids.places_of(
        grids.tile_keys(day.rows, day.cols), grids.tile_keys(frame.rows, frame.cols)
    )
    kept = scores.open_scores(frame.uri).features > 0
    chosen = informative.choose(
        day.probabilities[at], PLOTS if plots is None else plots, np.random.default_rng(seed),
        features=scores.read_features(day)[at] if kept else None, rows=frame.rows, cols=frame.cols,
    )  # fmt: skip
    n = len(chosen)
    info: Mapping[str, Any] = {
        "chosen_by": "gradients of the last layer" if kept else "probabilities",
        "candidates": len(frame), "apart_from": apart,
    }  # fmt: skip
    return PlotSample(
        uri=storage.normalise(out), purpose=TRAINING, design="", seed=seed, grid=frame.grid,
        legend=frame.legend, dates=frame.dates, strata=(), rows=frame.rows[chosen],
        cols=frame.cols[chosen], stratum=np.full(n, -1, np.int64),
        probability=np.full(n, np.nan), reserve=np.zeros(n, bool), source=described(frame),
        info=info,
    )  # fmt: skip


def _apart(uri: str, frame: SamplingFrame, free: np.ndarray[Any, np.dtype[np.bool_]]) -> str:
    """Take a sample's tiles out of `free`, (N,); gives the sample's digest."""
    other = open_sample(uri)
    if other.grid != frame.grid:
        raise InputError(f"{storage.redact(uri)} lies on another grid than these scores")
    there = grids.places_of(
        grids.tile_keys(frame.rows, frame.cols), grids.tile_keys(other.rows, other.cols)
    )
    free[there[there >= 0]] = False
    return other.digest
