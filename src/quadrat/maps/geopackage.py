"""The map as a GeoPackage: styled polygons of tiles or of areas, and candidates of a change.

    tiles        a polygon a tile: class, certainty, shares, and how it changed
    areas        adjoining tiles of one class as one polygon, instead
    candidates   of a change: its list, the pictures, and columns where people sign off

It reads what `change` wrote as files, and does not know how change is found.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quadrat import geoparquet, products, raster, storage, vectors
from quadrat import grid as grids
from quadrat.errors import InputError, ScoresError
from quadrat.grid import Grid
from quadrat.maps import styles
from quadrat.maps.tilemap import TileMap, share_rows
from quadrat.scores import Scores
from quadrat.scores.columns import share
from quadrat.vectors import StyledLayer

VERDICT = "verdict"
VERDICTS = ("change", "no change", "cannot tell")
SIGNED = (VERDICT, "checked_by", "checked_on", "comment")
# where a picture lies: paths in the layer are relative to the GeoPackage's folder
TIP = (
    '<b>[% "from" %] &rarr; [% "to" %]</b>, [% round(100 * "probability") %]%<br>'
    '<img width="500" src="file:///[% regexp_replace(layer_property(@layer_id, \'source\'), '
    "'[^/\\\\\\\\]*$', '') || \"picture\" %]\">"
)
TRANSITIONS = pa.schema([("row", pa.int64()), ("col", pa.int64())])


def write(
    tiles: TileMap, scores: Scores, uri: str, *, change: str | None, dissolve: bool
) -> tuple[str, ...]:
    """Write the layers; their names.

    Args:
        change: the folder of a change on the same grid.
        dissolve: adjoining tiles of one class, and of one change, become one polygon.

    Raises:
        ScoresError: `change` holds no change, or one on another grid.
    """
    moved = {} if change is None else _changes(tiles, change)
    layers = [_areas(tiles, moved) if dissolve else _tiles(tiles, scores, moved)]
    if change is not None:
        layers.append(_candidates(change, tiles.grid, uri))
    vectors.write_layers(uri, layers)
    return tuple(layer.name for layer in layers)


def _tiles(tiles: TileMap, scores: Scores, moved: Mapping[str, Any]) -> StyledLayer:
    rows, cols = tiles.places
    at, names = tiles.frame.at, np.array(tiles.legend.names, object)
    columns: dict[str, Any] = {
        "row": rows.astype(np.int32),
        "col": cols.astype(np.int32),
        "class": names[tiles.classes.ravel()[at]],
        "probability": tiles.probability.ravel()[at],
        "entropy": tiles.entropy.ravel()[at],
    }
    if tiles.set_size is not None:
        columns["set_size"] = tiles.set_size.ravel()[at].astype(np.int32)
    if tiles.distance is not None:
        columns["distance"] = tiles.distance.ravel()[at]
    looks = _looks(tiles, moved)
    if scores.has_shares:
        shares = share_rows(scores, tiles.legend)
        for k, name in enumerate(tiles.legend.names):
            columns[share(name)] = shares[:, k]
            looks[f"share of {name}"[:30]] = styles.steps(share(name))
    shapes = np.array([r.tobytes() for r in tiles.grid.wkb(rows, cols)], object)
    return StyledLayer("tiles", tiles.grid.crs, shapes, {**columns, **moved}, looks)


def _looks(tiles: TileMap, moved: Mapping[str, Any]) -> dict[str, bytes]:
    counts = tiles.counts
    there = [c for c in tiles.legend.classes if counts[c.name]]
    looks = {"class": styles.categories("class", there), "certainty": styles.steps("probability")}
    return looks | ({"change": styles.steps("changed")} if moved else {})


def _areas(tiles: TileMap, moved: Mapping[str, Any]) -> StyledLayer:
    """Adjoining tiles of the same class, and of the same classes on both dates of a change."""
    at, names = tiles.frame.at, np.array(tiles.legend.names, object)
    same = [tiles.classes.ravel()[at].astype(np.int64)]
    same += [np.unique(moved[n].astype(str), return_inverse=True)[1] for n in moved if n in ENDS]
    key = np.full(tiles.classes.size, -1, np.int64)
    key[at] = np.unique(np.stack(same, 1), axis=0, return_inverse=True)[1].ravel()
    ids = _regions(key.reshape(tiles.frame.shape))
    shapes, found = raster.polygonize(ids, tiles.transform)
    own = ids.ravel()[at]
    one = np.zeros(int(own.max()) + 1, np.int64)
    one[own] = np.arange(len(own))  # a tile of each area
    count = np.bincount(own)
    hectares = raster.tile_hectares(tiles.grid, *tiles.places)

    def mean(values: NDArray[Any]) -> NDArray[np.float64]:
        total: NDArray[np.float64] = np.bincount(own, values.astype(np.float64)) / count
        return total[found]

    columns: dict[str, Any] = {
        "class": names[tiles.classes.ravel()[at]][one[found]],
        "tiles": count[found],
        "hectares": np.bincount(own, hectares)[found],
        "probability": mean(tiles.probability.ravel()[at]),
    }
    columns |= {n: mean(v) if n == "changed" else v[one[found]] for n, v in moved.items()}
    return StyledLayer("areas", tiles.grid.crs, shapes, columns, _looks(tiles, moved))


def _regions(key: NDArray[np.int64]) -> NDArray[np.int32]:
    """Numbers of the areas of one value, (R, C), from 0; -1 where the value is -1.

    Areas touch along sides, not at corners.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    places = np.arange(key.size).reshape(key.shape)
    ends = []
    for a, b in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        alike = (key[a] == key[b]) & (key[a] >= 0)
        ends.append(np.stack([places[a][alike], places[b][alike]]))
    i, j = np.concatenate(ends, axis=1)
    graph = coo_array((np.ones(len(i), np.int8), (i, j)), shape=(key.size, key.size))
    _, own = connected_components(graph, directed=False)
    ids = np.full(key.size, -1, np.int32)
    inside = key.ravel() >= 0
    ids[inside] = np.unique(own[inside], return_inverse=True)[1]
    return ids.reshape(key.shape)


ENDS = ("first_class", "last_class")


def _changes(tiles: TileMap, change: str) -> dict[str, Any]:
    """Each tile's classes on the first and last date, and the probability that it changed.

    Tiles that the change does not know have none.
    """
    summary = _summary(change)
    table = geoparquet.read_part(storage.join(change, "transitions.parquet"), schema=TRANSITIONS)
    if summary.get("grid") not in (None, tiles.grid.to_dict()):
        raise ScoresError(
            f"{storage.redact(change)} and the scores lie on different grids; map the scores in "
            "the folder of the change"
        )
    days = len(summary["dates"])
    rows, cols = tiles.places
    known = grids.tile_keys(table["row"].to_numpy(), table["col"].to_numpy())
    at = grids.places_of(known, grids.tile_keys(rows, cols))
    stayed = np.prod(
        [1 - table[f"changed_{t}"].to_numpy().astype(np.float64) for t in range(1, days)], axis=0
    )
    first, last = (
        np.array([*table[f"class_{t}"].to_pylist(), None], object)[at] for t in (1, days)
    )
    changed = np.append(1 - stayed, np.nan)[at]
    return {ENDS[0]: first, ENDS[1]: last, "changed": changed}


def _summary(change: str) -> Mapping[str, Any]:
    """`change.json`."""
    place = storage.join(change, products.PRODUCTS["change"].manifest)
    if not storage.exists(place):
        raise ScoresError(f"{storage.redact(change)} holds no change; make it with quadrat change")
    data = storage.read_json(place)
    if not isinstance(data, dict) or not isinstance(data.get("dates"), list):
        raise ScoresError(f"{storage.redact(place)} is damaged; run quadrat change again")
    return data


def _candidates(change: str, grid: Grid, uri: str) -> StyledLayer:
    """The ranked list, each with its picture's path and empty columns to sign off."""
    table = geoparquet.read_part(storage.join(change, "candidates.parquet"))
    columns = {
        n: table[n].to_numpy(zero_copy_only=False) for n in table.column_names if n != "geometry"
    }
    folder = storage.join(change, "pictures")
    pictures = {n.split("_")[0]: n for n in storage.list_names(folder, ".jpg")}
    found = [pictures.get(f"{rank:05d}") for rank in table["rank"].to_pylist()]
    columns["picture"] = [n and _from(uri, storage.join(folder, n)) for n in found]
    shapes = np.array(table["geometry"].to_pylist(), object)
    empty = {name: np.full(len(table), None, object) for name in SIGNED}
    look = {"to sign off": styles.checklist(VERDICT, VERDICTS, TIP)}
    return StyledLayer("candidates", grid.crs, shapes, columns | empty, look)


def _from(uri: str, file: str) -> str:
    """The path of a file from the folder of another, with `/`; its own URI where there is none."""
    if not (storage.is_local(uri) and storage.is_local(file)):
        return file
    folder = storage.local_path(uri).absolute().parent
    target = storage.local_path(file).absolute()
    if folder.anchor != target.anchor:  # another drive
        return target.as_posix()
    return PurePath(os.path.relpath(target, folder)).as_posix()


def keep_answers(uri: str) -> None:
    """InputError where the file that is there has candidates that people signed off."""
    if not storage.exists(uri) or "candidates" not in vectors.names(uri):
        return
    there = [n for n in vectors.fields(uri, "candidates") if n in SIGNED]
    read = vectors.read(uri, there, "candidates").columns
    signed = sum(any(v not in (None, "") for v in row) for row in zip(*read.values(), strict=True))
    if signed:
        what = "a candidate" if signed == 1 else f"{signed:,} candidates"
        raise InputError(
            f"{storage.redact(uri)} has {what} that people signed off; give --gpkg another name"
        )
