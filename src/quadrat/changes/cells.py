"""The cells of tiles: what the network sees at each place of a tile, before it takes their mean.

A network's last map has 7 x 7 places on a tile of 224 pixels. Its mean tells what a tile is; its
places tell where in the tile ground became other ground. They are kept with the scores, from the
same pass over the imagery, in a few directions: the main ones of the first date's cells (principal
components), and those in which the model's last layer tells classes apart, where it is linear.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat import graphs, scores
from quadrat import grid as grids
from quadrat import model as models
from quadrat.changes.question import placed
from quadrat.graphs import check_sizes
from quadrat.legend import Legend
from quadrat.model import Model
from quadrat.scores import DateScores
from quadrat.tiles import Source, TileSet, read_part
from quadrat.tiles.rasters import RasterPart
from quadrat.tiles.sets import read_points

Rows = NDArray[np.float32]
Ints = NDArray[np.int64]
Chips = NDArray[np.uint8]

DIRECTIONS = 32  # principal components that are kept of a cell
MOST_CLASSES = 16  # directions of the last layer; of more classes the main ones are taken
SAMPLE = 400  # tiles that the directions are found on
PARTS = 12  # of the imagery, from which these are taken
LEAST_SIDE, SIDE = 3, 7  # cells along a side of a tile: fewer tell nothing, more are averaged
BATCH = 32
CHUNK = 2000  # tiles that are worked on together


@dataclass(frozen=True)
class CellMap:
    """Where a network's cells are.

    Attributes:
        name: the tensor (N, channels, places, places).
    """

    name: str
    channels: int
    places: int

    @property
    def step(self) -> int:
        """Places along a side of a cell."""
        return max(1, self.places // SIDE)

    @property
    def cells(self) -> int:
        """Cells of a tile."""
        return int(self.places // self.step) ** 2


def find(graph: bytes, size_px: int) -> CellMap | None:
    """The last map of a network; None where it has none of at least `LEAST_SIDE` squared places."""
    proto = graphs.parse(graph, "the model")
    shapes = check_sizes(proto, "the model", size_px)
    for name in graphs.before_pooling(proto):
        shape = shapes.get(name, ())
        if len(shape) == 4 and shape[2] == shape[3] >= LEAST_SIDE:
            return CellMap(name, int(shape[1]), int(shape[2]))
    return None


def kept(model: Model, first: Source, out: str, seed: int = 0) -> tuple[Model, int] | None:
    """The same model, whose kept features are the cells of a tile, and their number.

    None where it has no cells.

    Args:
        first: the tiles of the first date, on some of which the directions are found.
        out: where the model is written.
    """
    precision = models.resolve_precision(model)
    forms = {form: model.onnx(form) for form in model.info.forms}
    places = {form: find(graph, model.size_px) for form, graph in forms.items()}
    graph, place = forms[precision], places[precision]
    if place is None:
        return None
    chips = sample(first, SAMPLE, seed)
    if not len(chips):
        return None
    network = models.compile_network(
        _cut(graph, place), precision=precision, size_px=model.size_px, what="the model"
    )
    seen = np.concatenate(
        [_cells(network(chips[i : i + BATCH]), place.cells) for i in range(0, len(chips), BATCH)]
    )
    mean, directions = _main_directions(seen.reshape(-1, place.channels))
    directions = np.hstack([directions, _of_head(graph, place.channels)])
    for form, own in places.items():
        if own is None or own.channels != place.channels:
            return None
        forms[form] = _with_cells(forms[form], own, mean, directions)
    note = "Its kept features are cells, for quadrat change."
    info = dataclasses.replace(model.info, warnings=(*model.info.warnings, note), created="")
    return models.save_model(out, forms.pop("fp32"), info, forms), place.cells


def sample(source: Source, count: int, seed: int) -> Chips:
    """Chips of some tiles of a source, drawn from parts all over it, (n, H, W, 3)."""
    rng = np.random.default_rng(seed)
    parts = source.parts()
    chosen = [parts[i] for i in rng.permutation(len(parts))[:PARTS]]
    each, found = -(-count // max(len(chosen), 1)), []
    for part in chosen:
        if isinstance(part, RasterPart):
            mask = part.mask
            rest = np.flatnonzero(mask)
            thin = np.zeros(mask.size, bool)
            thin[rng.permutation(rest)[: 2 * each]] = True  # some may have no data
            part = replace(part, wanted=np.packbits(thin.reshape(mask.shape)).tobytes())
        chips = [batch.chips for batch in read_part(part) if len(batch.chips)]
        if chips:
            whole = np.concatenate(chips)
            found.append(whole[np.sort(rng.permutation(len(whole))[:each])])
    if not found:
        return np.empty((0, source.size_px, source.size_px, 3), np.uint8)
    return np.concatenate(found)


def _cut(graph: bytes, place: CellMap) -> bytes:
    proto = graphs.parse(graph, "the model")
    nodes = [*_averaged(place), graphs.node("Flatten", ["cells/mean"], "cells/all")]
    graphs.append(proto, nodes, [])
    return graphs.cut_after(proto, "cells/all")


def _averaged(place: CellMap) -> list[Any]:
    """Nodes from the map to `cells/mean`, a place of which is a cell."""
    if place.step == 1:
        return [graphs.node("Identity", [place.name], "cells/mean")]
    window = [place.step, place.step]
    return [
        graphs.node("AveragePool", [place.name], "cells/mean", kernel_shape=window, strides=window)
    ]


def _cells(rows: Rows, count: int) -> Rows:
    """Flattened maps (n, channels * S) as cells (n, S, channels), S their number."""
    cells: Rows = rows.reshape(len(rows), -1, count).transpose(0, 2, 1)
    return cells


def _main_directions(cells: Rows) -> tuple[Rows, Rows]:
    """Mean (C,) and principal directions (C, DIRECTIONS) of cells (M, C); zeros beyond C."""
    mean = cells.mean(0)
    away = cells - mean
    values, vectors = np.linalg.eigh((away.T @ away).astype(np.float64) / max(len(cells), 1))
    order = np.argsort(-values)[:DIRECTIONS]
    directions = np.zeros((cells.shape[1], DIRECTIONS), np.float32)
    directions[:, : len(order)] = vectors[:, order]
    return mean, directions


def _of_head(graph: bytes, channels: int) -> Rows:
    """Directions (C, n) of the last layer, where it is linear on the mean of the cells."""
    weights = graphs.linear_head(graphs.parse(graph, "the model"))
    if weights is None or len(weights) != channels:
        return np.zeros((channels, 0), np.float32)
    away = weights - weights.mean(1, keepdims=True)  # a shift of all logits tells nothing
    if away.shape[1] > MOST_CLASSES:
        left, values, _ = np.linalg.svd(away, full_matrices=False)
        away = left[:, :MOST_CLASSES] * values[:MOST_CLASSES]
    directions: Rows = away.astype(np.float32)
    return directions


def _with_cells(graph: bytes, place: CellMap, mean: Rows, directions: Rows) -> bytes:
    """The graph that computes, beside what it gives, the tensor `FEATURES` of cells."""
    proto = graphs.parse(graph, "the model")
    weights = np.ascontiguousarray(directions.T)[:, :, None, None]
    constants = [
        graphs.constant("cells/weights", weights.astype(np.float32)),
        graphs.constant("cells/offset", -(mean @ directions).astype(np.float32)),
    ]
    nodes = [
        *_averaged(place),
        graphs.node("Conv", ["cells/mean", "cells/weights", "cells/offset"], "cells/map"),
        graphs.node("Flatten", ["cells/map"], graphs.KEPT),
    ]
    graphs.append(proto, nodes, constants)
    return graphs.serialise(proto)


def read(day: DateScores, cells: int) -> NDArray[np.float16]:
    """The cells of a date's tiles, (N, S, D), as scored by the model that `kept` made.

    Args:
        cells: their number S in a tile.
    """
    found = _cells(scores.read_features(day), cells).astype(np.float16)
    return np.ascontiguousarray(found)


def classes(first: Source | None, day: DateScores, legend: Legend, cells: int) -> tuple[Rows, bool]:
    """Class shares of the first date's ground in each cell, (N, S, K), rows of 0 where unknown.

    They come from the points that a tile set keeps. Where it keeps none, each cell is given its
    tile's shares: the label source's, else the model's.

    Args:
        day: the first date, whose tiles these are, in its own legend.
        legend: that of the result, which the classes are folded into.
        cells: their number in a tile.

    Returns:
        The shares, and whether they are of each cell.
    """
    k, side = len(legend), round(cells**0.5)
    told = read_points(first) if isinstance(first, TileSet) else None
    if told is not None and isinstance(first, TileSet) and first.legend is not None:
        table, points = told
        keys = grids.tile_keys(table["row"].to_numpy(), table["col"].to_numpy())
        at = grids.places_of(keys, grids.tile_keys(day.rows, day.cols))
        to = placed(first.legend, legend)
        ids = np.where(points < 0, -1, to[np.maximum(points, 0)])[np.maximum(at, 0)]
        ids[at < 0] = -1
        return _shares_of_cells(ids, side, k), True
    rows = day.ground_shares if day.reference is None else day.reference
    known = np.asarray(~np.isnan(rows).any(1))
    rows = np.where(known[:, None], rows, 0).astype(np.float32)
    to = placed(day.legend, legend)
    into = (to[:, None] == np.arange(k)).astype(np.float32)  # no column for masked ground
    folded = rows @ into
    return np.repeat(folded[:, None, :], cells, axis=1), False


def _shares_of_cells(ids: Ints, side: int, k: int) -> Rows:
    """Shares (N, side * side, K) of classes at points (N, m, m); rows of 0 without any."""
    m = ids.shape[1]
    line = np.minimum((np.arange(m) + 0.5) * side / m, side - 0.5).astype(int)
    cell = (line[:, None] * side + line[None, :]).ravel()
    out = np.zeros((len(ids), side * side, k), np.float32)
    flat = ids.reshape(len(ids), -1)
    for c in range(k):
        hits = (flat == c).astype(np.float32)
        for s in range(side * side):
            out[:, s, c] = hits[:, cell == s].sum(1)
    total = out.sum(2, keepdims=True)
    shares: Rows = out / np.maximum(total, 1)
    return shares
