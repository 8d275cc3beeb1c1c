"""Good inputs of every reader, and ways to spoil them. See hostile.py.

Every spoiler takes a copy of the good inputs and a random generator, changes one input in
its place, and names the command that reads it. What a digest covers is digested again, so that the
spoiled values reach the reader and not only the digest's check.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SIZE = 16  # pixels a tile
NAMES = ("reddish", "greenish", "bluish")
LEGEND = """name = "three"
ignore = [9]
[[classes]]
name = "reddish"
color = "#aa0000"
codes = [1, 2]
[[classes]]
name = "greenish"
color = "#00aa00"
codes = [3]
[[classes]]
name = "bluish"
codes = [4]
"""
LEFT, TOP = 560000 // SIZE * SIZE, 4105008 // SIZE * SIZE
WORDS = ("", "\0", "\ud800", "../../x", "/etc/passwd", "a" * 5000, "nan", "=1+1", "\x1b[2J", "é")
NUMBERS = (0, -1, 1e308, 2**31, 2**63, 10**40, 0.5, float("nan"), float("inf"), -0.0)
Random = np.random.Generator
Spoiler = Callable[[Path, Random], list[str]]


def make_good(root: Path) -> None:
    """Imagery, labels, a tile set, a model, scores of two dates, pictures, a table of plots."""
    from PIL import Image

    from quadrat import backbones, graphs, legend, model, scoring, tiles
    from quadrat.grid import Grid
    from quadrat.heads import export_logistic

    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        blocks = rng.integers(0, 200, (3, 8, 8)).repeat(SIZE, 1).repeat(SIZE, 2)
        noise = rng.integers(0, 50, blocks.shape)
        write_raster(root / f"{name}.tif", (blocks + noise).astype(np.uint8), tiled=False)
    codes = rng.integers(1, 5, (1, 8, 8)).repeat(4, 1).repeat(4, 2).astype(np.uint8)
    write_raster(root / "labels.tif", codes, pixel=SIZE / 4)
    (root / "legend.toml").write_text(LEGEND)
    write_zones(root)
    three = legend.load_legend(str(root / "legend.toml"))
    tiles.tile(
        [str(root / "a.tif")], str(root / "tiles"), tile_m=SIZE, labels=str(root / "labels.tif"),
        legend=three, rule="majority", split="random",
    )  # fmt: skip
    graph = backbones.feature_graph("mean_colour", size_px=SIZE)
    weights = np.zeros((3, graph.dim))
    weights[range(3), range(3)] = 9.0
    head = export_logistic(weights, np.zeros(3), np.zeros(graph.dim), np.ones(graph.dim))
    info = model.ModelInfo(three, SIZE, grid=Grid("EPSG:26917", float(SIZE), 1.0))
    joined = graphs.join_graphs(graph.onnx, head, size_px=SIZE)
    made = model.save_model(str(root / "model"), joined, info)
    scoring.score(made.uri, str(root / "tiles"), str(root / "scores_a"))
    scoring.score(made.uri, [str(root / "b.tif")], str(root / "scores_b"))
    for i, kind in enumerate(("png", "jpg", "tif", "png")):
        folder = root / "pictures" / NAMES[i % 3]
        folder.mkdir(parents=True, exist_ok=True)
        picture = rng.integers(0, 255, (SIZE, SIZE, 3)).astype(np.uint8)
        Image.fromarray(picture).save(folder / f"{i}.{kind}")
    row, col = -(TOP // SIZE), LEFT // SIZE
    rows = [f"{row + i % 8},{col + i // 8},{NAMES[i % 3]}" for i in range(32)]
    (root / "plots.csv").write_text("\n".join(["row,col,label", *rows]) + "\n")


def write_raster(path: Path, values: Any, pixel: float = 1.0, **options: Any) -> None:
    import rasterio
    from affine import Affine

    given = {"crs": "EPSG:26917", "transform": Affine(pixel, 0, LEFT, 0, -pixel, TOP), **options}
    count, height, width = values.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=values.dtype,
        **given,
    ) as out:  # fmt: skip
        out.write(values)


def write_zones(root: Path) -> None:
    """The same polygons as GeoJSON, GeoPackage and shapefile."""
    import pyogrio
    import shapely

    boxes = np.array(
        [shapely.box(LEFT + 64 * i, TOP - 128, LEFT + 64 * i + 64, TOP) for i in (0, 1)]
    )
    values = [np.array(["reddish", "bluish"], object), np.array([1, 4])]
    for name in ("zones.geojson", "zones.gpkg", "zones.shp"):
        pyogrio.raw.write(
            root / name, shapely.to_wkb(boxes), values, ["class", "code"], layer="zones",
            geometry_type="Polygon", crs="EPSG:26917",
        )  # fmt: skip
    import pyarrow as pa

    from quadrat import geoparquet

    wkb = pa.array(list(shapely.to_wkb(boxes)), pa.binary())
    table = pa.table({"class": list(values[0]), "code": values[1], "geometry": wkb})
    geoparquet.write_part(str(root / "zones.parquet"), table, "EPSG:26917")


TILE = ["--tile-m", str(SIZE), "--split", "none"]
CUT = ["--labels", "labels.tif", "--legend", "legend.toml", "--rule", "majority"]
ZONES = ["tile", "a.tif", *TILE, "--legend", "legend.toml", "--labels"]
# what reads each input, in the folder of the inputs; `--out` is added
READERS: dict[str, tuple[list[str], ...]] = {
    "a.tif": (["tile", "a.tif", *TILE], ["score", "model", "a.tif"]),
    "labels.tif": (["tile", "a.tif", *TILE, *CUT],),
    "legend.toml": (["tile", "a.tif", *TILE, *CUT],),
    "zones.geojson": (
        [*ZONES, "zones.geojson"],
        ["tile", "a.tif", *TILE, "--within", "zones.geojson"],
    ),
    "zones.gpkg": ([*ZONES, "zones.gpkg"],),
    "zones.shp": ([*ZONES, "zones.shp"],),
    "zones.parquet": ([*ZONES, "zones.parquet"],),
    "tiles/tileset.json": (["score", "model", "tiles"], ["unpack", "tiles"]),
    "tiles/parts/part-00000.parquet": (["score", "model", "tiles"], ["unpack", "tiles"]),
    "scores_a/scores.json": (["map", "scores_a"], ["area", "scores_a", "--split", "all"]),
    "scores_a/parts/part-00000.parquet": (
        ["map", "scores_a"],
        ["area", "scores_a", "--split", "all"],
        ["change", "scores_a", "scores_b"],
    ),
    "model/model.json": (["score", "model", "tiles"],),
    "model/model.onnx": (["score", "model", "tiles"],),
    "plots.csv": (["area", "scores_a", "--reference", "plots.csv"],),
    "pictures/reddish/0.png": (["pack", "pictures", "--size-px", str(SIZE)],),
    "pictures/greenish/1.jpg": (["pack", "pictures", "--size-px", str(SIZE)],),
    "pictures/bluish/2.tif": (["pack", "pictures", "--size-px", str(SIZE)],),
}


def pick(values: Any, rng: Random) -> Any:
    return values[int(rng.integers(len(values)))]


def spoil_bytes(root: Path, rng: Random) -> list[str]:
    """Any file: bytes turned, cut off, doubled, zeroed, or replaced by noise or nothing."""
    name = pick([n for n in READERS if (root / n).exists()], rng)
    data = bytearray((root / name).read_bytes())
    at, n = int(rng.integers(len(data))), int(rng.integers(1, 64))
    how = int(rng.integers(7))
    if how == 0:
        for i in rng.integers(0, len(data), int(rng.integers(1, 9))):
            data[i] ^= 1 << int(rng.integers(8))
    elif how == 1:
        del data[at:]
    elif how == 2:
        data[at:at] = data[max(0, at - n) : at] * int(rng.integers(1, 50))
    elif how == 3:
        data[at : at + n] = bytes(n)
    elif how == 4:
        data[at : at + n] = rng.bytes(n)
    elif how == 5:
        data = bytearray(rng.bytes(int(rng.integers(0, 4000))))
    else:
        data[: min(n, 8)] = b"\xff" * min(n, 8)
    (root / name).write_bytes(data)
    digest_again(root, name)
    return pick(READERS[name], rng)


def digest_again(root: Path, name: str) -> None:
    """State the file's present SHA-256 and rows where a manifest lists it."""
    data = (root / name).read_bytes()
    sha = hashlib.sha256(data).hexdigest()
    if name == "model/model.onnx":
        stated = json.loads((root / "model/model.json").read_text())
        stated["forms"]["fp32"]["sha256"] = sha
        (root / "model/model.json").write_text(json.dumps(stated))
    elif "/parts/" in name:
        from quadrat import geoparquet
        from quadrat.errors import QuadratError

        try:
            rows = geoparquet.count(str(root / name))
        except (QuadratError, ValueError):
            rows = 64
        folder = root / name.split("/")[0]
        manifest = next(p for p in (folder / "tileset.json", folder / "scores.json") if p.exists())
        values = json.loads(manifest.read_text())
        values["parts"] = [{"name": "part-00000", "tiles": rows, "sha256": sha}]
        manifest.write_text(json.dumps(state_digest(values)))


def state_digest(values: Any) -> Any:
    """The manifest with the digest that follows from the rest of it, where that can be computed."""
    from quadrat.scores import files
    from quadrat.tiles import sets

    try:
        home: Any = sets if values["format"] == sets.FORMAT else files
        from quadrat import grid, legend, parts

        ground = grid.from_dict(values["grid"]) if values["grid"] else None
        classes = legend.from_dict(values["legend"]) if values["legend"] else None
        extra = [values["size_px"], values["encoding"]] if home is sets else []
        head = home._head(ground, classes, *extra) if home is sets else home._head(classes, ground)
        records = [parts.PartRecord(p["name"], p["tiles"], p["sha256"]) for p in values["parts"]]
        return {**values, "digest": parts.digest(head, records)}
    except Exception:  # noqa: BLE001 - a manifest that is beyond digesting is a case too
        return values


def hostile_value(rng: Random) -> Any:
    deep: Any = []
    for _ in range(500):
        deep = [deep]
    made = ([], {}, None, True, deep, {"a": deep}, [1] * 3000, pick(WORDS, rng), pick(NUMBERS, rng))
    return pick([pick(NUMBERS, rng), pick(WORDS, rng), *made], rng)


def spoil_values(value: Any, rng: Random) -> Any:
    """One value somewhere inside replaced, removed, or named otherwise."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = pick(list(value), rng)
        how = rng.random()
        if how < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if how < 0.15:
            return {(pick(WORDS, rng) if k == key else k): v for k, v in value.items()}
        return {k: (spoil_values(v, rng) if k == key else v) for k, v in value.items()}
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = int(rng.integers(len(value)))
        if rng.random() < 0.15:
            return value[:at] + [value[at]] * 3 + value[at + 1 :]
        return [spoil_values(v, rng) if i == at else v for i, v in enumerate(value)]
    return hostile_value(rng)


def spoil_json(root: Path, rng: Random) -> list[str]:
    """A manifest, a model's description or GeoJSON: one value of it."""
    name = pick([n for n in READERS if n.endswith("json")], rng)
    values = spoil_values(json.loads((root / name).read_text()), rng)
    if rng.random() < 0.7 and isinstance(values, dict):
        values = state_digest(values)
    text = json.dumps(values)
    if rng.random() < 0.05:
        text = pick(
            ["[" * 100_000, '{"a":' * 50_000, "1" * 5000, text + text, "\ufeff" + text], rng
        )
    (root / name).write_text(text)
    return pick(READERS[name], rng)


def spoil_parquet(root: Path, rng: Random) -> list[str]:
    """A part of a tile set or of scores, or GeoParquet polygons: columns, types, values, rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = pick([n for n in READERS if n.endswith(".parquet")], rng)
    table = pq.read_table(root / name)
    at = int(rng.integers(table.num_columns))
    field, n = table.schema.field(at), len(table)
    columns: list[Any] = [
        pa.array([None] * n, field.type),
        pa.array([pick((1, -1, 2**31, 2**62), rng)] * n),
        pa.array([pick(NUMBERS[:5], rng) * 1.0] * n),
        pa.array([float("nan")] * n, pa.float32()),
        pa.array(["\x1b[2Jx" * int(rng.integers(1, 9))] * n),
        pa.array([b"\xff" * int(rng.integers(0, 99))] * n, pa.binary()),
        pa.array([[1, 2]] * n),
        pa.array([{"a": 1}] * n),
        table.column(at).combine_chunks().dictionary_encode() if field.type != pa.null() else None,
        pa.nulls(n),
    ]
    how = int(rng.integers(14))
    if how < 10 and columns[how] is not None:
        table = table.set_column(at, field.name, columns[how])
    elif how == 10:
        table = table.drop_columns([field.name])
    elif how == 11:
        table = table.append_column(field.name, table.column(at))
    elif how == 12:
        table = pa.concat_tables([table, table.slice(int(rng.integers(n)))])
    else:
        table = table.take(pa.array(np.zeros(int(pick((0, 1, 3_000_000), rng)), np.int64)))
        table = table.drop_columns([c for c in ("image", "geometry") if c in table.column_names])
    pq.write_table(table, root / name)
    digest_again(root, name)
    return pick(READERS[name], rng)


def spoil_onnx(root: Path, rng: Random) -> list[str]:
    """The model's graph: operators, attributes, shapes, names, weights."""
    import onnx

    path = root / "model/model.onnx"
    proto = onnx.load(path)
    nodes, weights = proto.graph.node, proto.graph.initializer
    node, how = pick(nodes, rng), int(rng.integers(10))
    if how == 0:
        node.op_type = pick(("Loop", "If", "Scan", "Random", "Identity", "Resize", "Einsum"), rng)
    elif how == 1:
        node.attribute.append(onnx.helper.make_attribute(pick(("a", "axis", "é"), rng), 2**62))
    elif how == 2 and node.attribute:
        chosen = pick(node.attribute, rng)
        node.attribute.append(onnx.helper.make_attribute(chosen.name, [-1, 2**40]))
        node.attribute.remove(chosen)
    elif how == 3:
        weight = pick(weights, rng)
        weight.dims[:] = [int(d) for d in rng.choice([0, -1, 1, 2**20, 2**40], 3)]
    elif how == 4:
        weight = pick(weights, rng)
        weight.raw_data = rng.bytes(len(weight.raw_data))
    elif how == 5:
        weight = pick(weights, rng)
        weight.data_location = onnx.TensorProto.EXTERNAL
        weight.external_data.add(key="location", value="../../../etc/passwd")
    elif how == 6:
        for each in (node.input, node.output):
            if each and rng.random() < 0.5:
                each[0] = pick([n.output[0] for n in nodes], rng)
    elif how == 7:
        shape = pick([*proto.graph.input, *proto.graph.output], rng).type.tensor_type.shape
        shape.dim.add().dim_value = int(pick((0, -5, 2**40), rng))
    elif how == 8:
        pick(weights, rng).data_type = int(rng.integers(0, 25))
    else:
        proto.opset_import[0].version = int(pick((0, 1, 7, 99, 2**40), rng))
    path.write_bytes(proto.SerializeToString())
    digest_again(root, "model/model.onnx")
    return READERS["model/model.onnx"][0]
