"""Scores -> maps: GeoTIFFs that open on the right ground, a picture with a legend, GeoJSON.

    arrays     certainty, smoothing: pure numpy
    outlines   the GeoJSON
    picture    the PNG

The map is cloud-optimised GeoTIFFs of one pixel a tile, two because a TIFF can hold a colour table
only where the class is its one band: the classes (uint8 with colours, 255 where there is no tile),
and beside them, `..._certainty.tif`, the probability of the class shown, the entropy in bits, and
the number of classes in the tile's conformal set (float32, NaN where there is no tile); on request
the classes' shares of the ground, a band each. It does not know models or imagery.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quadrat import legend as legends
from quadrat import metrics, raster, storage
from quadrat.errors import InputError, ScoresError
from quadrat.grid import Bounds, Grid
from quadrat.legend import Legend
from quadrat.maps.arrays import NO_TILE, Frame, frame, plurality, summarise
from quadrat.maps.outlines import geojson
from quadrat.maps.picture import picture
from quadrat.scores import Scores, columns, is_synthetic, open_scores
from quadrat.shown import shown

__all__ = [
    "NO_TILE",
    "MapResult",
    "TileMap",
    "frame",
    "map",
    "picture",
    "plurality",
    "summarise",
    "tile_map",
]

MOST_OUTLINES = 100_000
SETS = "classes in the conformal set"


@dataclass(frozen=True)
class TileMap:
    """A map in memory, one pixel a tile, rows south and columns east.

    Attributes:
        classes: (R, C) uint8, ids of `legend`; NO_TILE where there is no tile.
        probability: (R, C) float32, of the class shown; NaN where there is no tile.
        entropy: (R, C) float32, bits; NaN where there is no tile.
        set_size: (R, C) float32, classes in the tile's conformal set; None where scores have none.
        changed: tiles whose class smoothing changed.
    """

    legend: Legend
    grid: Grid
    frame: Frame
    classes: NDArray[np.uint8]
    probability: NDArray[np.float32]
    entropy: NDArray[np.float32]
    set_size: NDArray[np.float32] | None = None
    changed: int = 0

    @property
    def bounds(self) -> Bounds:
        """The ground of the map, in the grid's CRS."""
        return self.grid.range_bounds(self.frame.area)

    @property
    def transform(self) -> tuple[float, float, float, float, float, float]:
        """From (col, row) of a pixel's corner to x and y, in rasterio's order."""
        m = self.grid.tile_m
        return (m, 0.0, self.bounds.left, 0.0, -m, self.bounds.top)

    @property
    def counts(self) -> dict[str, int]:
        """Tiles of each class."""
        n = np.bincount(self.classes[self.classes != NO_TILE], minlength=len(self.legend))
        return dict(zip(self.legend.names, n.tolist(), strict=True))


@shown
@dataclass(frozen=True)
class MapResult:
    """What was written.

    Attributes:
        uri: the GeoTIFF of classes; `certainty`: of probability, entropy and sizes of sets;
            `shares`: of the classes' shares.
        counts: tiles of each class of `legend`.
        smoothed: tiles whose class smoothing changed.
        bounds: left, bottom, right, top in `crs`.
    """

    uri: str
    certainty: str
    shares: str | None
    png: str | None
    geojson: str | None
    legend: str
    tiles: int
    counts: Mapping[str, int]
    smoothed: int
    crs: str
    bounds: Bounds

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**vars(self), "counts": dict(self.counts), "bounds": list(self.bounds)}


def map(
    scores: str | Scores,
    out: str,
    *,
    shares: str | None = None,
    png: str | None = None,
    geojson: str | None = None,
    legend: str | None = None,
    smooth: float | None = None,
    title: str | None = None,
    limit: int = MOST_OUTLINES,
) -> MapResult:
    """Map scores: `out` (classes) and the GeoTIFF of certainty beside it, both cloud-optimised.

    Args:
        scores: a folder that `score` wrote, or what `open_scores` gave.
        out: the GeoTIFF to write (`map.tif`).
        shares: a GeoTIFF of the expected shares of the ground, one float32 band a class.
        png: a picture with legend, scale and title.
        geojson: the tiles' outlines with class, probability and entropy, in longitude and latitude.
        legend: a coarser legend (`nlcd3`, a TOML file) that the classes fold into: probabilities
            are summed before the most likely class is taken.
        smooth: a 3 x 3 plurality vote, with so many votes for the tile itself; None: no smoothing.
            Probability is then that of the class shown, entropy stays the model's.
        title: of the picture.
        limit: most outlines that a GeoJSON may get.

    Raises:
        ScoresError: no scores, pictures without a place, a tile twice, too many for `limit`, or no
            shares in the scores.
        LegendError: a class has no place in `legend`.
        InputError: `smooth` is not a number from 0 on, or two outputs have one name.
    """
    _check(out, shares, png, geojson, smooth)
    opened = open_scores(scores) if isinstance(scores, str) else scores
    tiles = tile_map(opened, legend=legend, smooth=smooth)
    count = len(tiles.frame.at)
    if geojson and count > limit:
        raise ScoresError(
            f"{count:,} outlines are more than --limit {limit:,}; raise it, or use the GeoTIFF"
        )
    certainty = _certainty_name(out)
    _write_rasters(tiles, out, certainty, _tags(opened, tiles.legend, smooth))
    if shares:
        _write_shares(opened, tiles, shares, _tags(opened, tiles.legend, None))
    if png:
        named = title or _title(tiles.legend, synthetic=is_synthetic(opened.info))
        storage.write_bytes(png, _png(tiles, named, smooth))
    if geojson:
        storage.write_bytes(geojson, outlines(tiles))
    return MapResult(
        uri=out,
        certainty=certainty,
        shares=shares,
        png=png,
        geojson=geojson,
        legend=tiles.legend.name,
        tiles=count,
        counts=tiles.counts,
        smoothed=tiles.changed,
        crs=tiles.grid.crs,
        bounds=tiles.bounds,
    )


def _check(
    out: str, shares: str | None, png: str | None, geojson: str | None, smooth: float | None
) -> None:
    for name in (out, shares):
        if name and not name.lower().endswith((".tif", ".tiff")):
            raise InputError(f"{name} is no name for a GeoTIFF; end it with .tif")
    names = [n for n in (out, _certainty_name(out), shares, png, geojson) if n]
    if len({storage.normalise(n) for n in names}) < len(names):
        raise InputError(f"two outputs of the map have the name {out}; give each its own")
    if smooth is not None and not (np.isfinite(smooth) and smooth >= 0):
        raise InputError(f"--smooth {smooth} cannot be; give the tile itself 0 or more votes")


def _certainty_name(out: str) -> str:
    stem, ending = out.rsplit(".", 1)
    return f"{stem}_certainty.{ending}"


def tile_map(scores: Scores, *, legend: str | None = None, smooth: float | None = None) -> TileMap:
    """The map of scores in memory; arguments and errors as in `map`. 18 bytes a tile."""
    if scores.grid is None:
        raise ScoresError(
            f"{storage.redact(scores.uri)} are scores of pictures without a place; "
            "score imagery or tiles cut from it to get a map"
        )
    shown = legends.load_legend(legend) if legend else scores.legend
    rows, cols, probabilities, sizes = [], [], [], []
    for table, fine, p in _parts(scores, shown, ()):
        probabilities.append(p)
        rows.append(table["row"].to_numpy())
        cols.append(table["col"].to_numpy())
        if scores.threshold is not None:
            inside = metrics.in_set(fine, scores.threshold)
            if shown.names != scores.legend.names:
                inside = metrics.fold_sets(inside, legends.fold(scores.legend, shown), len(shown))
            sizes.append(inside.sum(axis=1, dtype=np.float32))
    if not rows:
        raise ScoresError(f"{storage.redact(scores.uri)} holds no tiles; score some first")
    return from_arrays(
        np.concatenate(rows), np.concatenate(cols), np.concatenate(probabilities),
        shown, scores.grid, smooth, np.concatenate(sizes) if sizes else None,
    )  # fmt: skip


def _parts(
    scores: Scores, shown: Legend, more: Sequence[str]
) -> Iterator[tuple[pa.Table, NDArray[np.float32], NDArray[np.float32]]]:
    """The tiles of each part that the legend maps, with their probabilities.

    Args:
        more: columns to read beside rows, columns and probabilities.

    Yields:
        The table (n rows), and the probabilities (n, K) of the scores' classes and (n, k) of the
        legend's.
    """
    same = shown.names == scores.legend.names
    to = None if same else legends.fold(scores.legend, shown)
    for name in scores.names:
        table = scores.part(name, ["row", "col", *scores.probability_columns, *more])
        fine = p = scores.probabilities(table)
        if to is not None:
            p, kept = metrics.fold_mapped(fine, to, len(shown))
            table, fine = table.filter(pa.array(kept)), fine[kept]
        yield table, fine, p


def from_arrays(
    rows: NDArray[Any],
    cols: NDArray[Any],
    probabilities: NDArray[Any],
    legend: Legend,
    grid: Grid,
    smooth: float | None = None,
    sizes: NDArray[np.float32] | None = None,
) -> TileMap:
    """The map of tiles (N,) with the probabilities (N, K) of the legend's classes.

    Args:
        sizes: (N,) classes in each tile's conformal set.
    """
    where = frame(rows, cols)
    cls, entropy = summarise(probabilities)
    before = where.place(cls, NO_TILE)
    classes = before if smooth is None else plurality(before, len(legend), smooth)
    own = classes.ravel()[where.at]
    shown = np.take_along_axis(probabilities, own[:, None].astype(np.int64), 1)[:, 0]
    return TileMap(
        legend=legend,
        grid=grid,
        frame=where,
        classes=classes,
        probability=where.place(shown.astype(np.float32), np.nan),
        entropy=where.place(entropy, np.nan),
        set_size=None if sizes is None else where.place(sizes, np.nan),
        changed=int((classes != before).sum()),
    )


def _write_rasters(tiles: TileMap, out: str, certainty: str, tags: Mapping[str, str]) -> None:
    colours = {i: (*c.rgb, 255) for i, c in enumerate(tiles.legend.classes)}
    colours[NO_TILE] = (0, 0, 0, 0)
    raster.write_cog(
        out, tiles.classes[None], tiles.grid.crs, tiles.transform, nodata=NO_TILE,
        colormap=colours, band_names=("class",), tags=tags, overview_resampling="mode",
    )  # fmt: skip
    bands = {"probability of the class shown": tiles.probability, "entropy, bits": tiles.entropy}
    if tiles.set_size is not None:
        bands[SETS] = tiles.set_size
    _write_bands(tiles, certainty, bands, tags)


def _write_bands(
    tiles: TileMap, uri: str, bands: Mapping[str, NDArray[np.float32]], tags: Mapping[str, str]
) -> None:
    raster.write_cog(
        uri, np.stack(list(bands.values())), tiles.grid.crs, tiles.transform, nodata=float("nan"),
        band_names=tuple(bands), tags=tags, overview_resampling="average",
    )  # fmt: skip


def _write_shares(scores: Scores, tiles: TileMap, uri: str, tags: Mapping[str, str]) -> None:
    """The classes' shares of the ground, a band each; NaN where there is no tile."""
    if not scores.has_shares:
        raise ScoresError(
            f"{storage.redact(scores.uri)} has no shares of the ground: its model gives none; "
            "train and score again"
        )
    same, found = tiles.legend.names == scores.legend.names, []
    for table, _, _ in _parts(scores, tiles.legend, scores.share_columns):
        rows = columns.to_rows(table, scores.share_columns)
        if not same:
            to = legends.fold(scores.legend, tiles.legend)
            rows = metrics.fold_probabilities(rows, to, len(tiles.legend))
        found.append(rows)
    every = np.concatenate(found)
    bands = {n: tiles.frame.place(every[:, k], np.nan) for k, n in enumerate(tiles.legend.names)}
    _write_bands(tiles, uri, bands, tags)


def _tags(scores: Scores, legend: Legend, smooth: float | None) -> dict[str, str]:
    """What a reader of the file alone needs: what the numbers mean and where they are from."""
    tags = {f"CLASS_{i}": name for i, name in enumerate(legend.names)}
    tags["LEGEND"] = legend.name
    if is_synthetic(scores.info):
        tags["SYNTHETIC"] = "yes"
    tags["SMOOTHED"] = "no" if smooth is None else f"3x3 plurality, {smooth:g} votes for the centre"
    level = (scores.info.get("conformal") or {}).get("level")
    if level is not None:
        tags["SETS"] = f"conformal, hold the main class of {float(level):.0%} of tiles"
    for key in ("model", "source"):
        about = scores.info.get(key)
        if isinstance(about, Mapping) and about.get("digest"):
            tags[f"{key.upper()}_DIGEST"] = str(about["digest"])
    return tags


def _title(legend: Legend, *, synthetic: bool) -> str:
    name = legend.title or f"Land use ({legend.name})"
    return f"Synthetic imagery: {name}" if synthetic else name


def _png(tiles: TileMap, title: str, smooth: float | None) -> bytes:
    m = tiles.grid.tile_m
    note = f"{len(tiles.frame.at):,} tiles of {m:g} x {m:g} m, {tiles.grid.crs[:40]}, grid north up"
    if smooth is not None:
        note += f"; 3 x 3 plurality, {smooth:g} votes for the tile itself"
    return picture(tiles.classes, tiles.legend, tile_m=m, title=title, note=note)


def outlines(tiles: TileMap) -> bytes:
    """GeoJSON of the tiles with class, probability and entropy, in the order of the scores."""
    area, at, names = tiles.frame.area, tiles.frame.at, tiles.legend.names
    rows, cols = at // (area.c1 - area.c0) + area.r0, at % (area.c1 - area.c0) + area.c0
    properties = [
        {
            "row": int(r),
            "col": int(c),
            "class": names[k],
            "probability": round(float(p), 4),
            "entropy": round(float(e), 4),
            **({} if tiles.set_size is None else {"set_size": int(tiles.set_size.flat[n])}),
        }
        for r, c, k, p, e, n in zip(
            rows, cols, tiles.classes.ravel()[at], tiles.probability.ravel()[at],
            tiles.entropy.ravel()[at], at, strict=True,
        )
    ]  # fmt: skip
    return geojson(tiles.grid, rows, cols, properties)
