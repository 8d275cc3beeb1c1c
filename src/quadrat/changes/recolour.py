"""The later date through the earlier date's eyes: colours mapped in front of the model.

Colours are paired on tiles that both dates show; the map that is found (`radiometry`) goes before
the model's own graph as a table look-up, so that the later date is scored with the same engines and
formats as any imagery, and no second copy of it is written.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from quadrat import graphs, raster
from quadrat import model as models
from quadrat.changes import radiometry
from quadrat.changes.radiometry import Normalisation
from quadrat.errors import ScoresError
from quadrat.grid import TileRange
from quadrat.model import Model
from quadrat.raster import Imagery
from quadrat.tiles import RasterSource, Source, read_part

PATCHES = 8  # a side: colours are averaged over the 64 squares of a tile
MOST_TILES = 600
Place = tuple[int, int]  # row, col
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def normalisation(
    earlier: Imagery | Source,
    later: Imagery | Source,
    rows: Ints,
    cols: Ints,
    method: str,
    *,
    seed: int = 0,
) -> Normalisation:
    """The colour map from the later date to the earlier.

    Args:
        earlier, later: imagery, or tiles that were cut from it.
        rows, cols: (N,) tiles that both may show, of which MOST_TILES at most are read.

    Raises:
        ScoresError: no tile is whole in both.
    """
    at = np.arange(len(rows))
    if len(at) > MOST_TILES:
        at = np.sort(np.random.default_rng(seed).choice(at, MOST_TILES, replace=False))
    wanted = list(zip(rows[at].tolist(), cols[at].tolist(), strict=True))
    before, after = (_colours(ground, wanted) for ground in (earlier, later))
    both = [place for place in wanted if place in before and place in after]
    if not both:
        raise ScoresError(
            "the two dates' imagery has no whole tile in common; both must show the same ground"
        )
    a, b = (np.concatenate([colours[place] for place in both]) for colours in (before, after))
    return radiometry.fit(a, b, method)


def _colours(ground: Imagery | Source, wanted: list[Place]) -> dict[Place, Floats]:
    """Mean colours of the squares of each wanted tile that is whole, (64, 3) each."""
    if isinstance(ground, RasterSource):
        ground = ground.imagery
    if isinstance(ground, Imagery):
        read = ((place, _whole(ground, *place)) for place in wanted)
        return {place: _means(pixels) for place, pixels in read if pixels is not None}
    left, found = set(wanted), {}
    for part in ground.parts():
        for batch in read_part(part) if left else ():
            names = ("row", "col", "nodata")
            for i, (row, col, nodata) in enumerate(
                zip(*(batch.index[n].to_pylist() for n in names), strict=True)
            ):
                if (row, col) in left and not nodata:
                    left.discard((row, col))
                    found[row, col] = _means(batch.chips[i].transpose(2, 0, 1))
    return found


def _whole(imagery: Imagery, row: int, col: int) -> NDArray[np.uint8] | None:
    """A tile's pixels, (3, H, W); None where one has no data."""
    pixels, valid = raster.read_block(imagery, TileRange(row, row + 1, col, col + 1))
    return None if valid is not None and not valid.all() else pixels


def _means(pixels: NDArray[np.uint8]) -> Floats:
    """Mean colours of the PATCHES x PATCHES squares of (3, H, W) pixels, (64, 3)."""
    step = max(1, pixels.shape[1] // PATCHES)
    n = pixels.shape[1] // step
    cut = pixels[:, : n * step, : n * step].reshape(3, n, step, n, step)
    means: Floats = cut.mean((2, 4), dtype=np.float64).reshape(3, -1).T
    return means


def recoloured(model: Model, normal: Normalisation, out: str) -> Model:
    """The same model for imagery of the later date: colours are mapped before its first layer."""
    forms = {p: _with_table(model.onnx(p), normal.lut) for p in model.info.forms}
    note = (
        f"Reads imagery through a {normal.method} normalisation of colours to another date; "
        "do not use it for that other date."
    )
    info = dataclasses.replace(
        model.info,
        head={**model.info.head, "normalisation": normal.to_dict()},
        warnings=(*model.info.warnings, note),
        created="",
    )
    return models.save_model(out, forms.pop("fp32"), info, forms)


def _with_table(graph: bytes, lut: NDArray[np.uint8]) -> bytes:
    """The graph with a look-up of each channel in front."""
    proto = graphs.parse(graph, "the model")
    name = graphs.describe(proto, "the model", len(models.OUTPUTS)).input
    constants = [
        graphs.constant("colour/table", lut.reshape(-1)),
        graphs.constant("colour/shift", np.array([0, 256, 512], np.int32)),
    ]
    front = [
        graphs.node("Cast", [name], "colour/wide", to=graphs.KINDS["int32"]),
        graphs.node("Add", ["colour/wide", "colour/shift"], "colour/place"),
        graphs.node("Gather", ["colour/table", "colour/place"], "colour/mapped", axis=0),
    ]
    return graphs.put_before(proto, name, front, constants)
