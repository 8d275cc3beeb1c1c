"""One STAC item a product: tile sets, scores, maps, changes, models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from quadrat import dates, geoparquet, parts, products, raster, storage
from quadrat import grid as grids
from quadrat.catalogues import fields
from quadrat.errors import InputError
from quadrat.grid import Bounds, Grid, TileRange
from quadrat.legend import LandClass
from quadrat.model import DISTANCE, open_model
from quadrat.parts import PartRecord
from quadrat.scores import SYNTHETIC, is_synthetic, open_scores
from quadrat.tiles import open_tileset

MAP_ENDINGS = (".tif", ".tiff")
BANDS = ("red", "green", "blue")


@dataclass(frozen=True)
class Told:
    """What the user says of all products; see `quadrat.stac`."""

    licence: str
    doi: str | None
    citation: str | None
    date: str | None


@dataclass(frozen=True)
class Entry:
    """What a product's item says.

    Attributes:
        when: a date, a year, a period or a time; "" where the product does not know.
        ground: CRS and bounds; None for what has no place.
        version: a digest of the content.
    """

    title: str
    description: str
    when: str
    ground: tuple[str, Bounds] | None
    version: str
    assets: Mapping[str, Mapping[str, Any]]
    properties: Mapping[str, Any]
    extensions: tuple[str, ...] = ()


def item(name: str, uri: str, out: str, told: Told) -> dict[str, Any]:
    """The item of a product, for the collection in the folder `out`.

    Raises:
        InputError: it is no product that can be listed, or has no date.
    """
    below = storage.join(out, "items")
    entry = _reader(uri)(uri, below)
    times = fields.when(entry.when) or fields.when(told.date or "")
    if times is None and "T" in entry.when:
        times = {"datetime": entry.when.replace("+00:00", "Z")}
    if times is None:
        raise InputError(f"{storage.redact(uri)} does not know its date; give --date")
    citing = fields.citing(told.doi, told.citation)
    place: dict[str, Any] = {"geometry": None}
    extensions = [fields.VERSIONED, fields.FILE, *entry.extensions]
    properties: dict[str, Any] = {
        "title": entry.title, "description": entry.description, **times,
        "license": told.licence, "version": entry.version[:16], **entry.properties, **citing,
    }  # fmt: skip
    if entry.ground is not None:
        shape, box = fields.outline(*entry.ground)
        place = {"geometry": shape, "bbox": box}
        properties |= fields.projection(*entry.ground)
        extensions.append(fields.PROJECTION)
    extensions += [fields.SCIENTIFIC] if citing else []
    up = {"href": "../collection.json", "type": "application/json"}
    links = [{"rel": rel, **up} for rel in ("root", "parent", "collection")]
    return {
        "type": "Feature",
        "stac_version": fields.VERSION,
        "stac_extensions": extensions,
        "id": name,
        "collection": "quadrat",
        **place,
        "properties": properties,
        "links": [*links, *fields.doi_link(told.doi)],
        "assets": dict(entry.assets),
    }


def _reader(uri: str) -> Callable[[str, str], Entry]:
    if uri.lower().endswith(MAP_ENDINGS):
        return _map
    kinds = products.kinds_of(uri) if storage.is_dir(uri) else frozenset()
    found = [READERS[k] for k in READERS if k in kinds]
    if len(found) != 1:
        raise InputError(
            f"{storage.redact(uri)} is no product that a catalogue lists; name a tile set, scores, "
            "a change, a model, or a map.tif"
        )
    return found[0]


def _part_assets(
    uri: str, below: str, records: Iterable[PartRecord], manifest: str
) -> dict[str, dict[str, Any]]:
    told = fields.asset(storage.join(uri, manifest), below, "What the parts are", ["metadata"])
    listed = {
        r.name: fields.asset(
            parts.place(uri, r.name), below, f"{r.rows:,} tiles, GeoParquet", ["data"],
            sha256=r.sha256,
        )
        for r in records
    }  # fmt: skip
    return {"manifest": told, **listed}


def _ground(grid: Grid | None, uri: str, records: Iterable[PartRecord]) -> Any:
    """CRS and bounds of the tiles of parts; None where they have no place."""
    if grid is None:
        return None
    seen = []
    for record in records:
        table = geoparquet.read_part(
            parts.place(uri, record.name), ["row", "col"], rows=record.rows
        )
        rows, cols = (table[c].to_numpy() for c in ("row", "col"))
        if len(rows):
            seen.append((rows.min(), rows.max() + 1, cols.min(), cols.max() + 1))
    if not seen:
        return None
    low, high = np.min(seen, axis=0), np.max(seen, axis=0)
    area = TileRange(int(low[0]), int(high[1]), int(low[2]), int(high[3]))
    return grid.crs, grid.range_bounds(area)


def _said(what: str, info: Mapping[str, Any]) -> str:
    return f"{what} {SYNTHETIC}" if is_synthetic(info) else what


def _tiles(uri: str, below: str) -> Entry:
    opened = open_tileset(uri)
    days = sorted({str(i["date"]) for i in _imagery(opened.provenance) if i.get("date")})
    about = {"provenance": opened.provenance}
    return Entry(
        title=f"Tiles of {dates.period(days)}" if days else "Tiles",
        description=_said(
            f"{opened.tiles:,} square tiles of {opened.size_px} pixels with labels and splits.",
            about,
        ),
        when=dates.period(days),
        ground=_ground(opened.grid, uri, opened.records),
        version=opened.digest,
        assets=_part_assets(uri, below, opened.records, "tileset.json"),
        properties={},
    )


def _imagery(provenance: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [i for i in provenance.get("imagery") or () if isinstance(i, Mapping)]


def _scores(uri: str, below: str) -> Entry:
    opened = open_scores(uri)
    period = dates.period(str(d) for d in opened.info.get("dates") or ())
    return Entry(
        title=f"Scores of {period}" if period else "Scores",
        description=_said(
            f"Class probabilities and shares of {opened.tiles:,} tiles, legend "
            f"{opened.legend.name}: {', '.join(opened.legend.names)}.",
            opened.info,
        ),
        when=period,
        ground=_ground(opened.grid, uri, opened.records),
        version=opened.digest,
        assets=_part_assets(uri, below, opened.records, "scores.json"),
        properties={},
    )


def _map(uri: str, below: str) -> Entry:
    info = raster.info(uri)
    tags = dict(info.tags)
    names = {int(k[6:]): v for k, v in tags.items() if k.startswith("CLASS_") and k[6:].isdigit()}
    if not names:
        raise InputError(f"{storage.redact(uri)} is no map of quadrat map; name one that it wrote")
    pixels: dict[str, Any] = {
        "proj:shape": [info.height, info.width],
        "proj:transform": [*info.transform, 0.0, 0.0, 1.0],
        "data_type": info.dtype,
        "nodata": "nan" if info.nodata is not None and np.isnan(info.nodata) else info.nodata,
        "bands": [{"name": n or f"band {i}"} for i, n in enumerate(info.names, 1)],
    }
    extensions: tuple[str, ...] = ()
    if info.names == ("class",):
        colours = raster.colour_table(uri)
        known = {
            i: LandClass(name, "#{:02x}{:02x}{:02x}".format(*colours[i][:3]))
            for i, name in sorted(names.items()) if i in colours
        }  # fmt: skip
        pixels["classification:classes"] = fields.classes(known)
        extensions = (fields.CLASSIFICATION,)
    assets = {"map": fields.asset(uri, below, "Map, one pixel a tile", ["data"], **pixels)}
    for key, place in (("style", f"{uri.rsplit('.', 1)[0]}.qml"), ("names", f"{uri}.aux.xml")):
        if storage.exists(place):
            title = "Style for QGIS" if key == "style" else "Names of classes for GDAL, ArcGIS"
            assets[key] = fields.asset(place, below, title, ["metadata"])
    shown = "; ".join(info.names)
    synthetic = f" {SYNTHETIC}" if tags.get("SYNTHETIC") == "yes" else ""
    return Entry(
        title=f"Map: {shown}"[:100],
        description=f"Map of {shown}, legend {tags.get('LEGEND', '')}.{synthetic}",
        when=tags.get("DATES", ""),
        ground=(info.crs, info.bounds),
        version=storage.digest_file(uri),
        assets=assets,
        properties={},
        extensions=extensions,
    )


def _change(uri: str, below: str) -> Entry:
    told = storage.read_json(storage.join(uri, "change.json"))
    table = storage.join(uri, "transitions.parquet")
    names = [n for n in storage.list_names(uri) if n.endswith((".json", ".md", ".csv", ".parquet",
             ".geojson")) and n != products.PLAN]  # fmt: skip
    assets = {
        n.replace(".", "-"): fields.asset(
            storage.join(uri, n), below, n, ["metadata" if n == "change.json" else "data"],
            sha256=storage.digest_file(storage.join(uri, n)),
        )
        for n in names
    }  # fmt: skip
    grid = grids.from_dict(told["grid"]) if told.get("grid") else None
    ground = None
    if grid is not None:
        found = geoparquet.read_part(table, ["row", "col"])
        rows, cols = (found[c].to_numpy() for c in ("row", "col"))
        area = TileRange(int(rows.min()), int(rows.max()) + 1, int(cols.min()), int(cols.max()) + 1)
        ground = grid.crs, grid.range_bounds(area)
    notes = [n for n in told.get("notes", ()) if n == SYNTHETIC]
    days = [str(d) for d in told["dates"]]
    return Entry(
        title=f"Change, {' to '.join((days[0], days[-1]))}",
        description=" ".join(
            [f"Change of {told['tiles']:,} tiles between {', '.join(days)}; "
             f"{told['candidates']:,} candidates.", *notes]
        ),
        when=dates.period(days),
        ground=ground,
        version=storage.digest_json({k: a.get("file:checksum") for k, a in assets.items()}),
        assets=assets,
        properties={},
    )  # fmt: skip


def _output(name: str, k: int, classes: list[dict[str, Any]]) -> dict[str, Any]:
    """What the model extension says of an output: of K classes, or of one number."""
    one = name == DISTANCE
    form = {
        "shape": [-1, 1 if one else k],
        "dim_order": ["batch", "distance" if one else "class"],
        "data_type": "float32",
    }
    task = "scene-classification" if name == "probabilities" else "regression"
    about = {"name": name, "tasks": [task], "result": form}
    return about if one else about | {"classification:classes": classes}


def _model(uri: str, below: str) -> Entry:
    model = open_model(uri)
    info, backbone = model.info, model.info.backbone
    k, side = len(model.legend), model.size_px
    network, bands = str(backbone.get("name", "network")), [{"name": band} for band in BANDS]
    listed = fields.classes(dict(enumerate(model.legend.classes)))
    outputs = [_output(name, k, listed) for name in info.outputs]
    assets = {
        f"model-{precision}": fields.asset(
            storage.join(uri, "model.onnx" if precision == "fp32" else f"model.{precision}.onnx"),
            below, f"ONNX graph, {precision}", ["mlm:model"], sha256=sha256,
            **{"mlm:artifact_type": "onnx", "bands": bands},
        )
        for precision, sha256 in info.forms.items()
    }  # fmt: skip
    assets["manifest"] = fields.asset(
        storage.join(uri, "model.json"), below, "What the model says of itself", ["metadata"]
    )
    licence = f" Its backbone's licence: {backbone['licence']}." if backbone.get("licence") else ""
    gives = ", ".join(info.outputs)
    return Entry(
        title=f"Model on {network}",
        description=f"Chips of {side} pixels to {gives} of {k} classes.{licence}",
        when=info.created,
        ground=None,
        version=model.digest,
        assets=assets,
        properties={
            "bands": bands,  # STAC wants them of an asset, MLM of the item
            "mlm:name": fields.slug(f"quadrat-{network}"),
            "mlm:architecture": network,
            "mlm:framework": "ONNX",
            "mlm:tasks": ["scene-classification"],
            "mlm:pretrained": True,
            "mlm:pretrained_source": str(backbone.get("source", network)),
            "mlm:input": [
                {
                    "name": "chips",
                    "bands": [*BANDS],
                    "input": {
                        "shape": [-1, side, side, 3],
                        "dim_order": ["batch", "height", "width", "bands"],
                        "data_type": "uint8",
                    },
                    # normalisation is a part of the graph
                    "pre_processing_function": None,
                }
            ],
            "mlm:output": outputs,
        },
        extensions=(fields.MLM,),
    )


READERS: Mapping[str, Callable[[str, str], Entry]] = {
    "tiles": _tiles,
    "scores": _scores,
    "change": _change,
    "models": _model,
}
