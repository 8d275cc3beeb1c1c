"""Feature-space alignment: the model's last layer, fitted anew to a later date.

What a season does to one class and not to another (worn ground among shrubs, bare fields) no map
of colours takes out, and six probabilities that are near 0 and 1 hold too little to tell it from a
change. The features before the last layer hold it. Nearly all ground keeps its class, so the later
date's features with the classes of the earlier date are a training set with few wrong labels; a
strongly regularised last layer fitted to it knows the season, and a changed tile still looks like
what it became. Each tile is scored by a layer that never saw it or its block (cross-fitting): a
layer that had would only repeat the class it was told.

This is self-training (pseudo-labels; Lee 2013) under the label noise of few changes. Nothing is
known of the later date's classes.

The first date's layer is fitted alike to its own labels, where the model learned from these: its
scores of a tile then come from a layer that never saw it, and all labels can say what they mean.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from quadrat import features, graphs, grid, metrics
from quadrat import model as models
from quadrat.backbones import FeatureGraph
from quadrat.engines import Engine
from quadrat.errors import ModelError, ScoresError
from quadrat.heads import fit as heads
from quadrat.model import Model
from quadrat.tiles import Source

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEAST_TILES = 300  # fewer tell too little of a season: the probabilities' recalibration has to do
FOLDS = 5
BLOCK = 4  # tiles a side of the blocks that are left out together
STRENGTH = (
    0.3  # of the regularisation: 60 times training's, for labels that are wrong here and there
)
STEPS = 60
MOST_TILES = 8000  # that one fit sees
FLOOR = 1e-6  # of a probability: a class that a fold never saw stays possible


def feature_graph(model: Model, precision: str) -> FeatureGraph:
    """The model's network up to its last layer: chips -> features.

    Raises:
        ModelError: its graph has no last layer that could be fitted anew.
    """
    proto = graphs.parse(model.onnx(precision), f"the model {model.uri}")
    name = graphs.before_head(proto)
    if name is None:
        raise ModelError(f"{model.uri} has no last layer to fit anew; use --no-align")
    data = graphs.cut_after(proto, name)
    one = np.zeros((1, model.size_px, model.size_px, 3), np.uint8)
    shape = models.compile_network(data, precision=precision, size_px=model.size_px)(one).shape
    if len(shape) != 2:
        raise ModelError(f"{model.uri} has no layer of features; use --no-align")
    return FeatureGraph(
        onnx=data, name=PurePosixPath(model.uri).name, size_px=model.size_px, dim=shape[1],
        weights_sha256="", licence="", mean=None, std=None, any_size=False,
    )  # fmt: skip


def read_features(
    source: Source,
    model: Model,
    rows: Ints,
    cols: Ints,
    *,
    engine: Engine | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Features of the tiles (rows, cols), (N, D) float32, from the cache or computed now."""
    precision = models.resolve_precision(model)
    found = features.featurize(
        source, feature_graph(model, precision), precision=precision, engine=engine,
        on_progress=on_progress,
    )  # fmt: skip
    kept = grid.tile_keys(*(found.index[c].to_numpy() for c in ("row", "col")))
    at = grid.places_of(kept, grid.tile_keys(rows, cols))
    if (at < 0).any():
        lost = int(np.flatnonzero(at < 0)[0])
        raise ScoresError(f"{source.uri} has no tile ({rows[lost]}, {cols[lost]}); score it again")
    return np.asarray(found.values[at])


def folds_of(rows: Ints, cols: Ints, seed: int = 0) -> Ints:
    """A fold for each tile, (N,): blocks dealt at random."""
    _, place = np.unique(metrics.block_ids(rows, cols, BLOCK), return_inverse=True)
    deal = np.random.default_rng(seed).permutation(int(place.max()) + 1) % FOLDS
    fold: Ints = deal[place].astype(np.int64)
    return fold


def cross_fitted(
    x: NDArray[np.float32], classes: Ints, k: int, folds: Ints, *, seed: int = 0
) -> Floats:
    """Probabilities of each tile by a layer fitted to the other folds, (N, K).

    Args:
        x: (N, D) features. classes: (N,) presumed class ids, -1 where nothing is presumed.
        folds: (N,) fold of each tile.
    """
    out = np.full((len(x), k), 1.0 / k)
    rng = np.random.default_rng(seed)
    settings = heads.Settings(reg=STRENGTH, max_iter=STEPS, seed=seed)
    for fold in np.unique(folds):
        seen = np.flatnonzero((folds != fold) & (classes >= 0))
        if len(seen) > MOST_TILES:
            seen = np.sort(rng.choice(seen, MOST_TILES, replace=False))
        if len(np.unique(classes[seen])) < 2:
            continue
        head, _ = heads.fit(x[seen], classes[seen], k, settings)
        left = np.flatnonzero(folds == fold)
        out[left] = softmax(head.logits(x[left]), axis=1)
    out = np.maximum(out, FLOOR)
    result: Floats = out / out.sum(1, keepdims=True)
    return result
