"""Vector files, read once and rightly: polygons and points, with fields, in the CRS that is needed.

The only home of pyogrio. It does not know what the polygons are for.

    formats   which formats are read, by their first bytes
    stage     a file or an archive under names of our own: nothing is written beside an input
    layers    the layer that is meant, its fields and features
    parquet   GeoParquet and GeoArrow
    shapes    polygons and points checked, cut and projected
    write     layers of polygons written
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat import storage
from quadrat.errors import VectorError
from quadrat.grid import Bounds
from quadrat.vectors.formats import ENDINGS
from quadrat.vectors.layers import VectorLayer, fields, names, read, split
from quadrat.vectors.shapes import lines_and_points, points, polygons
from quadrat.vectors.stage import members
from quadrat.vectors.write import StyledLayer, write_layer, write_layers

__all__ = [
    "StyledLayer", "VectorLayer", "at_layer", "digest", "fields", "fingerprint", "is_vector",
    "names", "points", "polygons", "read", "read_drawn", "read_points",
    "read_polygons", "split", "write_layer", "write_layers",
]  # fmt: skip


def is_vector(uri: str) -> bool:
    """Whether a URI names a vector file or an archive of some, by its ending."""
    return split(uri)[0].lower().split("?")[0].rstrip("/").endswith(ENDINGS)


def read_polygons(
    uri: str,
    crs: str,
    wanted: Sequence[str] = (),
    *,
    layer: str | None = None,
    near: Bounds | None = None,
) -> tuple[NDArray[np.object_], dict[str, list[Any]]]:
    """Polygons of a file in another CRS, (N,), and the fields that are wanted, N values each.

    Args:
        layer: its name, where a file has several; it may also end the URI, as in
            `file.gpkg|layername=plots`.
        near: the area that is needed, in `crs`; what lies elsewhere is left out.

    Raises:
        VectorError: the file, layer, field, CRS or shapes cannot be used, naming the cure.
    """
    features = read(uri, wanted, layer)
    shapes, at = polygons(features, crs, near)
    return shapes, {name: [values[i] for i in at] for name, values in features.columns.items()}


def read_drawn(
    uri: str, crs: str, wanted: Sequence[str], *, near: Bounds
) -> tuple[NDArray[np.object_], dict[str, list[Any]]]:
    """Lines, points and outlines of any features of a file, (N,), as a map shows them.

    Args:
        near: the area that is needed, in `crs`; what lies elsewhere is left out.

    Raises:
        VectorError: as `read_polygons`, but of any kind of shape.
    """
    features = read(uri, wanted)
    shapes, at = lines_and_points(features, crs, near)
    return shapes, {name: [values[i] for i in at] for name, values in features.columns.items()}


def read_points(
    uri: str, crs: str, *, layer: str | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64], dict[str, list[Any]]]:
    """Points of a file in another CRS, x and y (N,) each, and all its fields."""
    features = read(uri, None, layer)
    return *points(features, crs), features.columns


def at_layer(layer: str | None, *uris: str | None) -> list[str | None]:
    """The URIs, those of vector files of several layers with the layer's name.

    Raises:
        VectorError: a layer is given and there is no such file.
    """
    named, used = list(uris), layer is None
    for i, uri in enumerate(uris):
        if layer is None or uri is None or not is_vector(uri) or split(uri)[1] is not None:
            continue
        there = names(uri)
        if len(there) > 1 or layer in there:
            named[i], used = f"{uri}|layername={layer}", True
    if not used:
        raise VectorError(f"--layer {layer} is for vector files of several layers; none is given")
    return named


def fingerprint(uri: str) -> str:
    """A text that changes when a file or one of its siblings does; reads no content."""
    bare, layer = split(uri)
    return " ".join([storage.fingerprint(m) for m in members(bare)] + ([layer] if layer else []))


def digest(uri: str) -> str:
    """SHA-256 of the content of a file and of those that belong to it."""
    bare, layer = split(uri)
    return storage.digest_json([*(storage.digest_file(m) for m in members(bare)), layer])
