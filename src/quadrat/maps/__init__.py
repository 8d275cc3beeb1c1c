"""Scores -> maps: GeoTIFFs and GeoPackages that open named and coloured, a picture, GeoJSON.

    arrays      certainty, smoothing: pure numpy
    tilemap     a map in memory
    styles      looks in QGIS, names for GDAL and ArcGIS
    rasters     the GeoTIFFs
    geopackage  polygons of tiles or of adjoining tiles, candidates of a change
    outlines    the GeoJSON
    picture     the PNG

The map is cloud-optimised GeoTIFFs of one pixel a tile, each with its style (`.qml`) beside it: the
classes (uint8 with colours, 255 where there is no tile), and, in `..._certainty.tif`, the
probability of the class shown (float32, NaN where there is no tile). On request: the entropy, the
number of classes in the tile's conformal set, the classes' shares of the ground, a band each. It
does not know models or imagery.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from quadrat import storage
from quadrat.errors import InputError, ScoresError
from quadrat.grid import Bounds
from quadrat.legend import Legend
from quadrat.maps import geopackage, rasters
from quadrat.maps.arrays import NO_TILE, frame, plurality, summarise
from quadrat.maps.outlines import geojson
from quadrat.maps.picture import picture
from quadrat.maps.rasters import Facts
from quadrat.maps.tilemap import TileMap, from_arrays, tile_map
from quadrat.scores import Scores, is_synthetic, open_scores
from quadrat.shown import shown

__all__ = [
    "NO_TILE", "MapResult", "TileMap", "frame", "from_arrays", "map", "picture", "plurality",
    "summarise", "tile_map",
]  # fmt: skip

MOST_OUTLINES = 100_000
EXTRA: dict[str, Callable[[TileMap, str, Facts], tuple[str, ...]]] = {
    "entropy": rasters.write_entropy,
    "sets": rasters.write_sets,
    "distance": rasters.write_distance,
    "shares": rasters.write_shares,
}


@shown
@dataclass(frozen=True)
class MapResult:
    """What was written.

    Attributes:
        uri: the GeoTIFF of classes; `certainty`: of the probability of the class shown; `entropy`,
            `sets`, `distance`, `shares`: those asked for.
        styles: the files beside the GeoTIFFs: styles of QGIS, names of classes.
        layers: of the GeoPackage `gpkg`.
        counts: tiles of each class of `legend`.
        smoothed: tiles whose class smoothing changed.
        bounds: left, bottom, right, top in `crs`.
    """

    uri: str
    certainty: str
    entropy: str | None
    sets: str | None
    distance: str | None
    shares: str | None
    styles: tuple[str, ...]
    gpkg: str | None
    layers: tuple[str, ...]
    png: str | None
    geojson: str | None
    legend: str
    tiles: int
    counts: Mapping[str, int]
    smoothed: int
    crs: str
    bounds: Bounds

    @property
    def files(self) -> tuple[str, ...]:
        """All files that were written."""
        named = (self.uri, self.certainty, self.entropy, self.sets, self.distance, self.shares,
                 self.gpkg, self.png, self.geojson)  # fmt: skip
        return (*(uri for uri in named if uri), *self.styles)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        lists = {"styles": list(self.styles), "layers": list(self.layers)}
        return {**vars(self), **lists, "counts": dict(self.counts), "bounds": list(self.bounds)}


def map(
    scores: str | Scores,
    out: str,
    *,
    shares: str | None = None,
    entropy: str | None = None,
    sets: str | None = None,
    distance: str | None = None,
    gpkg: str | None = None,
    dissolve: bool = False,
    change: str | None = None,
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
        out: the GeoTIFF to write (`map.tif`). Each GeoTIFF gets a style for QGIS beside it
            (`map.qml`), this one also the classes' names (`map.tif.aux.xml`).
        shares: a GeoTIFF of the expected shares of the ground, one float32 band a class.
        entropy: a GeoTIFF of the entropy of the probabilities, bits.
        sets: a GeoTIFF of the number of classes in each tile's conformal set.
        distance: a GeoTIFF of how unlike the training tiles each tile is; above 1 is unlike them.
        gpkg: a GeoPackage with styles: a polygon a tile, its class, certainty and shares.
        dissolve: in the GeoPackage, adjoining tiles of one class become one polygon.
        change: a folder that `change` wrote: the GeoPackage also has how tiles changed, and the
            candidates, with their pictures' paths and columns to sign off.
        png: a picture with legend, scale and title.
        geojson: the tiles' outlines with class, probability and entropy, in longitude and latitude.
        legend: a coarser legend (`nlcd3`, a TOML file) that the classes fold into: probabilities
            are summed before the most likely class is taken.
        smooth: a 3 x 3 plurality vote, with so many votes for the tile itself; None: no smoothing.
            Probability is then that of the class shown, entropy stays the model's.
        title: of the picture.
        limit: most outlines that a GeoJSON may get.

    Raises:
        ScoresError: no scores, pictures without a place, a tile twice, too many for `limit`, no
            shares, sets or distances in the scores, or no change of the same grid.
        LegendError: a class has no place in `legend`.
        InputError: `smooth` is not a number from 0 on, two outputs have one name, or the
            GeoPackage has candidates that people signed off.
    """
    extra = {"entropy": entropy, "sets": sets, "distance": distance, "shares": shares}
    _check(out, extra, gpkg=gpkg, png=png, geojson=geojson, smooth=smooth)
    if gpkg is None and (dissolve or change is not None):
        raise InputError(
            f"--{'dissolve' if dissolve else 'change'} is for a GeoPackage; give --gpkg too"
        )
    if gpkg is not None:
        geopackage.keep_answers(gpkg)
    opened = open_scores(scores) if isinstance(scores, str) else scores
    tiles = tile_map(opened, legend=legend, smooth=smooth)
    count = len(tiles.frame.at)
    if geojson and count > limit:
        raise ScoresError(
            f"{count:,} outlines are more than --limit {limit:,}; raise it, or use the GeoTIFF"
        )
    certainty, facts = _certainty_name(out), Facts(opened, tiles.legend, smooth)
    styles = rasters.write_classes(tiles, out, facts)
    styles += rasters.write_certainty(tiles, certainty, facts)
    own = Facts(opened, tiles.legend)  # smoothing changes the class alone
    for name, uri in extra.items():
        styles += EXTRA[name](tiles, uri, own) if uri else ()
    layers: tuple[str, ...] = ()
    if gpkg:
        layers = geopackage.write(tiles, opened, gpkg, change=change, dissolve=dissolve)
    if png:
        named = title or _title(tiles.legend, synthetic=is_synthetic(opened.info))
        storage.write_bytes(png, _png(tiles, named, smooth))
    if geojson:
        storage.write_bytes(geojson, outlines(tiles))
    return MapResult(
        uri=out, certainty=certainty, **extra, styles=styles, gpkg=gpkg, layers=layers, png=png,
        geojson=geojson, legend=tiles.legend.name, tiles=count, counts=tiles.counts,
        smoothed=tiles.changed, crs=tiles.grid.crs, bounds=tiles.bounds,
    )  # fmt: skip


def _check(
    out: str,
    extra: Mapping[str, str | None],
    *,
    gpkg: str | None,
    png: str | None,
    geojson: str | None,
    smooth: float | None,
) -> None:
    for name in (out, *extra.values()):
        if name and not name.lower().endswith((".tif", ".tiff")):
            raise InputError(f"{name} is no name for a GeoTIFF; end it with .tif")
    if gpkg and not gpkg.lower().endswith(".gpkg"):
        raise InputError(f"{gpkg} is no name for a GeoPackage; end it with .gpkg")
    every = (out, _certainty_name(out), *extra.values(), gpkg, png, geojson)
    names = [n for n in every if n]
    if len({storage.normalise(n) for n in names}) < len(names):
        raise InputError(f"two outputs of the map have the name {out}; give each its own")
    if smooth is not None and not (np.isfinite(smooth) and smooth >= 0):
        raise InputError(f"--smooth {smooth} cannot be; give the tile itself 0 or more votes")


def _certainty_name(out: str) -> str:
    stem, ending = out.rsplit(".", 1)
    return f"{stem}_certainty.{ending}"


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
    at, names = tiles.frame.at, tiles.legend.names
    rows, cols = tiles.places
    properties = [
        {
            "row": int(r),
            "col": int(c),
            "class": names[k],
            "probability": round(float(p), 4),
            "entropy": round(float(e), 4),
            **_more(tiles, n),
        }
        for r, c, k, p, e, n in zip(
            rows, cols, tiles.classes.ravel()[at], tiles.probability.ravel()[at],
            tiles.entropy.ravel()[at], at, strict=True,
        )
    ]  # fmt: skip
    return geojson(tiles.grid, rows, cols, properties)


def _more(tiles: TileMap, at: int) -> dict[str, float]:
    """What the scores may say of a tile beside its class."""
    found: dict[str, float] = {}
    if tiles.set_size is not None:
        found["set_size"] = int(tiles.set_size.flat[at])
    if tiles.distance is not None:
        found["distance"] = round(float(tiles.distance.flat[at]), 4)
    return found
