"""Maps as cloud-optimised GeoTIFFs, each with a style for QGIS and names for GDAL and ArcGIS."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quadrat import dates, raster, storage
from quadrat.errors import ScoresError
from quadrat.legend import LandClass, Legend
from quadrat.maps import styles
from quadrat.maps.arrays import NO_TILE
from quadrat.maps.tilemap import TileMap, share_rows
from quadrat.scores import Scores, is_synthetic


@dataclass(frozen=True)
class Facts:
    """What a reader of a GeoTIFF alone needs to know of the scores behind it."""

    scores: Scores
    legend: Legend
    smooth: float | None = None

    @property
    def tags(self) -> dict[str, str]:
        """What the numbers mean and where they are from."""
        tags = {f"CLASS_{i}": name for i, name in enumerate(self.legend.names)}
        tags["LEGEND"], info = self.legend.name, self.scores.info
        if is_synthetic(info):
            tags["SYNTHETIC"] = "yes"
        votes = None if self.smooth is None else f"{self.smooth:g} votes for the centre"
        tags["SMOOTHED"] = "no" if votes is None else f"3x3 plurality, {votes}"
        if period := dates.period(str(d) for d in info.get("dates") or ()):
            tags["DATES"] = period
        level = (info.get("conformal") or {}).get("level")
        if level is not None:
            tags["SETS"] = f"conformal, hold the main class of {float(level):.0%} of tiles"
        for key in ("model", "source"):
            about = info.get(key)
            if isinstance(about, Mapping) and about.get("digest"):
                tags[f"{key.upper()}_DIGEST"] = str(about["digest"])
        return tags


def write_classes(tiles: TileMap, uri: str, facts: Facts) -> tuple[str, ...]:
    """The GeoTIFF of classes (uint8, colour table); the URIs of its style and its names."""
    colours = {i: (*c.rgb, 255) for i, c in enumerate(tiles.legend.classes)}
    colours[NO_TILE] = (0, 0, 0, 0)
    raster.write_cog(
        uri, tiles.classes[None], tiles.grid.crs, tiles.transform, nodata=NO_TILE,
        colormap=colours, band_names=("class",), tags=facts.tags, overview_resampling="mode",
    )  # fmt: skip
    counts = dict(enumerate(tiles.counts.values()))
    there = {i: c for i, c in enumerate(tiles.legend.classes) if counts[i]}
    names = styles.pam(there, counts, tiles.legend.names)
    return _beside(uri, styles.palette(there), names)


def write_certainty(tiles: TileMap, uri: str, facts: Facts) -> tuple[str, ...]:
    """The probability of the class shown, one float32 band; the URI of its style."""
    named = {"probability of the class shown": tiles.probability}
    return _write_bands(tiles, uri, named, facts, styles.ramp(1, 0, 1, "%"))


def write_entropy(tiles: TileMap, uri: str, facts: Facts) -> tuple[str, ...]:
    """The entropy of the probabilities, bits, one float32 band; the URI of its style."""
    most = math.log2(max(2, len(facts.scores.legend)))
    look = styles.ramp(1, 0, most, "bits")
    return _write_bands(tiles, uri, {"entropy, bits": tiles.entropy}, facts, look)


def write_sets(tiles: TileMap, uri: str, facts: Facts) -> tuple[str, ...]:
    """Classes in each tile's conformal set, one float32 band; the URI of its style.

    Raises:
        ScoresError: the scores have no sets.
    """
    if tiles.set_size is None:
        raise ScoresError(
            f"{storage.redact(facts.scores.uri)} has no conformal sets: its model was not "
            "calibrated; train and score again"
        )
    sizes = np.unique(tiles.set_size[~np.isnan(tiles.set_size)]).astype(int).tolist()
    ramp = styles.RAMP[::-1]  # one class is sure, and bright
    there = {
        n: LandClass(f"{n} class{'es' * (n != 1)}", ramp[min(max(n - 1, 0), len(ramp) - 1)])
        for n in sizes
    }
    named = {"classes in the conformal set": tiles.set_size}
    return _write_bands(tiles, uri, named, facts, styles.palette(there))


def write_distance(tiles: TileMap, uri: str, facts: Facts) -> tuple[str, ...]:
    """How unlike the training tiles a tile is, one float32 band; the URI of its style.

    Raises:
        ScoresError: the scores have no distances.
    """
    if tiles.distance is None:
        raise ScoresError(
            f"{storage.redact(facts.scores.uri)} has no distances from the training tiles: its "
            "model gives none; train and score again"
        )
    named = {"distance from the training tiles; above 1 is unlike them": tiles.distance}
    return _write_bands(tiles, uri, named, facts, styles.ramp(1, 0, 2))


def write_shares(tiles: TileMap, uri: str, facts: Facts) -> tuple[str, ...]:
    """Shares of the ground, a float32 band a class; the URI of a style of the largest one.

    Raises:
        ScoresError: the scores have no shares.
    """
    rows = share_rows(facts.scores, tiles.legend)
    names = tiles.legend.names
    bands = {n: tiles.frame.place(rows[:, k], np.nan) for k, n in enumerate(names)}
    largest = int(rows.mean(axis=0).argmax()) + 1
    return _write_bands(tiles, uri, bands, facts, styles.ramp(largest, 0, 1, "%"))


def _write_bands(
    tiles: TileMap,
    uri: str,
    bands: Mapping[str, NDArray[np.float32]],
    facts: Facts,
    style: bytes,
) -> tuple[str, ...]:
    raster.write_cog(
        uri, np.stack(list(bands.values())), tiles.grid.crs, tiles.transform, nodata=float("nan"),
        band_names=tuple(bands), tags=facts.tags, overview_resampling="average",
    )  # fmt: skip
    return _beside(uri, style, None)


def _beside(uri: str, style: bytes, names: bytes | None) -> tuple[str, ...]:
    """Write what programs look for beside a GeoTIFF; statistics of an earlier one there go."""
    beside = {f"{uri.rsplit('.', 1)[0]}.qml": style}
    if names is None:
        storage.remove(f"{uri}.aux.xml")
    else:
        beside[f"{uri}.aux.xml"] = names
    for place, text in beside.items():
        storage.write_bytes(place, text)
    return tuple(beside)
