"""The layers of staged vector files, their fields, and their features as the file has them.

The only home of pyogrio. It does not know what the fields mean or on which ground they are needed.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from quadrat import storage, text
from quadrat.errors import VectorError
from quadrat.vectors import parquet
from quadrat.vectors.formats import ENDINGS, FORMATS
from quadrat.vectors.stage import Staged, staged

T = TypeVar("T")
MOST_FEATURES = 50_000_000


@dataclass(frozen=True)
class VectorLayer:
    """The features of one layer.

    Attributes:
        name: the file, for messages.
        crs: authority code, WKT or PROJJSON text; "" where the file names none.
        shapes: (N,) shapely geometries of two dimensions, None where a feature has none.
        columns: the fields that were asked for, N values each, under the names asked for.
    """

    name: str
    crs: str
    shapes: NDArray[np.object_]
    columns: dict[str, list[Any]]


@dataclass(frozen=True)
class _Layer:
    """`own` is GDAL's name for it, `shown` the user's."""

    file: Staged
    own: str
    shown: str


def split(uri: str) -> tuple[str, str | None]:
    """The file and the layer of `file.gpkg|layername=plots`, as QGIS writes it.

    A member of a local archive, `zip://a.zip!b.shp` or `/vsizip/a.zip/b.shp`, is its layer `b`.
    """
    bare, _, layer = uri.partition("|layername=")
    inside = re.fullmatch(r"(?:zip://|/vsizip/)([^:]+?\.(?:zip|kmz))(?:[!/](.*))?", bare, re.I)
    if inside is None or (inside[2] and not inside[2].lower().endswith(ENDINGS)):
        return bare, layer or None
    return inside[1], layer or (PurePosixPath(inside[2]).stem if inside[2] else None)


def names(uri: str) -> list[str]:
    """Names of a file's layers with geometry; VectorError as `fields`."""
    bare, _ = split(uri)
    name = storage.redact(bare)
    with staged(bare) as files:
        return [x.shown for f in files for x in _layers(name, f)]


def fields(uri: str, layer: str | None = None) -> list[str]:
    """Names of a layer's fields without the geometry; reads no features.

    Raises:
        VectorError: the file cannot be read, has several layers and `layer` names none of them.
    """
    with _opened(uri, layer) as (name, chosen):
        return _fields(name, chosen)


def read(uri: str, wanted: Sequence[str] | None = (), layer: str | None = None) -> VectorLayer:
    """All features of a layer.

    Args:
        wanted: fields, in any case; None for all.

    Raises:
        VectorError: as `fields`; a field that is missing (those that exist are listed); geometry
            that is damaged or of a kind without an outline.
    """
    with _opened(uri, layer) as (name, chosen):
        there = _fields(name, chosen)
        own = [_field(name, f, there) for f in (there if wanted is None else wanted)]
        if chosen.file.format is FORMATS["parquet"]:
            crs, shapes, columns = parquet.read(str(chosen.file.path), name, own)
        else:
            crs, shapes, columns = _read(name, chosen, own)
        named = own if wanted is None else wanted
        return VectorLayer(name, crs, shapes, dict(zip(named, columns, strict=True)))


@contextmanager
def _opened(uri: str, layer: str | None) -> Iterator[tuple[str, _Layer]]:
    bare, named = split(uri)
    name = storage.redact(bare)
    with staged(bare) as files:
        yield name, _choose(name, [x for f in files for x in _layers(name, f)], layer or named)


def _choose(name: str, layers: Sequence[_Layer], wanted: str | None) -> _Layer:
    if not layers:
        raise VectorError(f"{name} has no layer with geometry; give a file of areas")
    names = [x.shown for x in layers]
    if wanted is None:
        if len(layers) == 1:
            return layers[0]
        raise VectorError(
            f"{name} has {len(layers)} layers ({', '.join(names[:20])}); name one of them, as in "
            f'"{storage.basename(name)}|layername={names[0]}", or with --layer'
        )
    match = text.match(wanted, names)
    if match is None:
        alike = [x for x in layers if wanted in (x.own, x.file.stem)]
        if len(alike) == 1:  # the only layer of a file
            return alike[0]
        raise VectorError(f"{name} has no layer {wanted!r}; {text.near(wanted, names)}")
    return layers[names.index(match)]


def _layers(name: str, file: Staged) -> list[_Layer]:
    if file.format is FORMATS["parquet"]:
        return [_Layer(file, file.stem, file.stem)]
    import pyogrio

    listed = _call(name, file, pyogrio.list_layers)
    own = [str(n) for n, kind in listed if kind is not None]
    one = file.format.name in ("shapefile", "FlatGeobuf", "GeoJSON", "GeoJSON lines")
    return [_Layer(file, n, file.stem if one else n) for n in own]


def _fields(name: str, layer: _Layer) -> list[str]:
    if layer.file.format is FORMATS["parquet"]:
        return parquet.fields(str(layer.file.path), name)
    return [str(f) for f in _info(name, layer)["fields"]]


def _info(name: str, layer: _Layer) -> Any:
    """What pyogrio says of a layer, after a check that the expected driver opened it."""
    import pyogrio

    info = _call(name, layer.file, pyogrio.read_info, layer=layer.own)
    form = layer.file.format
    if info["driver"] not in form.drivers:
        raise VectorError(f"{name} is read as {info['driver']}, not {form.name}; convert it")
    return info


def _field(name: str, wanted: str, there: Sequence[str]) -> str:
    match = text.match(wanted, there)
    if match is None:
        listed = ", ".join(there) if there else "none"
        raise VectorError(f"{name} has no field {wanted!r}; it has {listed}: choose one of them")
    return match


def _read(
    name: str, layer: _Layer, own: Sequence[str]
) -> tuple[str, NDArray[np.object_], list[list[Any]]]:
    import pyogrio

    count = _info(name, layer)["features"]
    # a count that is a lie must not ask for memory: a feature has a byte at least
    if count > min(MOST_FEATURES, layer.file.size):
        raise VectorError(f"{name} says that it has {count:,} features; it is damaged or too large")
    # not by Arrow, which does not turn curves into lines
    meta, _, shapes, columns = _call(
        name, layer.file, pyogrio.raw.read, layer=layer.own, columns=list(own), force_2d=True
    )
    shapes = np.empty(0, object) if shapes is None else shapes
    values = dict(zip([str(f) for f in meta["fields"]], columns, strict=True))
    if layer.file.format is FORMATS["geojsonl"] and len(shapes) < _records(layer.file):
        raise VectorError(f"{name} has records that are no features; it is cut short or damaged")
    return (
        str(meta["crs"] or ""),
        parquet.from_wkb(name, shapes),
        [values[f].tolist() for f in own],
    )


def _records(file: Staged) -> int:
    """Number of records of a file of GeoJSON lines; GDAL skips silently what it cannot read."""
    with file.path.open("rb") as lines:
        marked = lines.read(1) == b"\x1e"
        lines.seek(0)
        return sum(line.count(b"\x1e") if marked else bool(line.strip()) for line in lines)


def _call(name: str, file: Staged, function: Callable[..., T], **options: Any) -> T:
    """Call a function of pyogrio on a staged file; its errors become VectorError, one line each.

    Its warnings are dropped: they are GDAL's remarks on details of the format.
    """
    import pyogrio

    kept = {} if function is pyogrio.list_layers else dict(file.format.options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return function(f"{file.format.prefix}{file.path}", **kept, **options)
        except Exception as error:  # noqa: BLE001 - a damaged file makes GDAL's wrapper raise anything
            shown = str(error).replace(str(file.path), name)
            shown = shown.replace(str(file.path.with_suffix("")), name.rsplit(".", 1)[0])
            line = " ".join(shown.split())[:160]
            raise VectorError(
                f"{name} cannot be read as {file.format.name} ({line}); save it again"
            ) from None
