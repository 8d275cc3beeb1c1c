"""Vector files of every format and habit give the same polygons, against geopandas and shapely."""

from __future__ import annotations

import json
import os
import sqlite3
import struct
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from quadrat import vectors
from quadrat.errors import StorageError, VectorError
from quadrat.grid import Bounds
from quadrat.vectors import parquet

UTM = "EPSG:26917"
WEST = shapely.box(560_000, 4_104_000, 561_000, 4_105_000)
EAST = shapely.box(561_000, 4_104_000, 562_000, 4_105_000)
NEAR = Bounds(560_200, 4_104_200, 561_800, 4_104_800)


@pytest.fixture
def frame() -> geopandas.GeoDataFrame:
    """Two squares in degrees, with a class each."""
    data = {"class": ["Forest", "Developed"], "code": np.array([41, 22], np.int32)}
    return geopandas.GeoDataFrame(data, geometry=[WEST, EAST], crs=UTM).to_crs(4326)


def check(file: Path | str, **options: Any) -> None:
    """The file holds the two squares, to a centimetre."""
    shapes, columns = vectors.read_polygons(str(file), UTM, ("class",), **options)
    assert columns["class"] == ["Forest", "Developed"]
    window = shapely.box(*NEAR) if "near" in options else shapely.union_all([WEST, EAST])
    for shape, square in zip(shapes, (WEST, EAST), strict=True):
        got, want = shape.intersection(window), square.intersection(window)
        assert got.hausdorff_distance(want) < 0.05  # an edge bends between its ends


def without_triggers(base: sqlite3.Connection) -> None:
    """A GeoPackage's triggers call functions that only GDAL has."""
    found = base.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for (name,) in found:
        base.execute(f'DROP TRIGGER "{name}"')


def zipped(folder: Path, name: str, *, inside: str = "") -> Path:
    """An archive of all files of a folder."""
    out = folder.parent / name
    with zipfile.ZipFile(out, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, inside + str(path.relative_to(folder)))
        archive.writestr("__MACOSX/._a.shp", b"not one")
        archive.writestr("readme.json", b"{}")
    return out


WRITERS: dict[str, Callable[[Any, Path], Any]] = {
    "gpkg": lambda f, p: f.to_file(p),
    "geojson": lambda f, p: f.to_file(p),
    "fgb": lambda f, p: f.to_file(p, SPATIAL_INDEX="NO"),
    "shp": lambda f, p: f.to_file(p),
    "gdb": lambda f, p: f.to_file(p, driver="OpenFileGDB"),
    "kml": lambda f, p: f.to_file(p, driver="KML"),
    "gml": lambda f, p: f.to_file(p, driver="GML"),
    "geojsonl": lambda f, p: f.to_file(p, driver="GeoJSONSeq"),
    "parquet": lambda f, p: f.to_parquet(p),
}


@pytest.mark.parametrize("ending", WRITERS)
def test_every_format_is_read_and_nothing_is_written_beside_it(
    frame: geopandas.GeoDataFrame, tmp_path: Path, ending: str
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    WRITERS[ending](frame, folder / f"a.{ending}")
    (folder / "a.xsd").unlink(missing_ok=True)
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    assert vectors.is_vector(f"a.{ending}")
    assert "class" in vectors.fields(str(folder / f"a.{ending}"))
    check(folder / f"a.{ending}")
    check(folder / f"a.{ending}", near=NEAR)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


@pytest.mark.parametrize("ending", ["shp", "gdb", "gpkg", "kml"])
def test_archives_are_read(frame: geopandas.GeoDataFrame, tmp_path: Path, ending: str) -> None:
    (tmp_path / "in").mkdir()
    WRITERS[ending](frame, tmp_path / "in" / f"a.{ending}")
    check(zipped(tmp_path / "in", "a.zip", inside="deep/er/"))


def test_a_files_name_does_not_choose_how_it_is_read(
    frame: geopandas.GeoDataFrame, tmp_path: Path
) -> None:
    frame.to_file(tmp_path / "a.gpkg")
    for name in ("b.json", "a, b #1?.zip!c.gpkg", "GeoJSON: x.GPKG"):
        (tmp_path / name).write_bytes((tmp_path / "a.gpkg").read_bytes())
        check(tmp_path / name)
    frame.to_file(tmp_path / "p.shp")
    for path in sorted(tmp_path.glob("p.*")):
        path.rename(path.with_suffix(path.suffix.upper()))
    check(tmp_path / "p.SHP")


@pytest.mark.parametrize("encoding", ["WKB", "geoarrow"])
@pytest.mark.parametrize("column", ["geom", "where"])
def test_geoparquet_with_any_column_and_encoding(
    frame: geopandas.GeoDataFrame, tmp_path: Path, encoding: str, column: str
) -> None:
    file = tmp_path / "a.parquet"
    other = frame.rename_geometry(column).assign(middle=frame.representative_point())
    other.to_parquet(file, geometry_encoding=encoding, write_covering_bbox=encoding == "WKB")
    assert vectors.fields(str(file)) == ["class", "code"]
    check(file)


def test_geoarrow_with_holes_many_parts_gaps_and_interleaved_points(tmp_path: Path) -> None:
    ring = shapely.Polygon(WEST.exterior, [WEST.buffer(-200).exterior])
    many = shapely.MultiPolygon([WEST, shapely.affinity.translate(ring, 3000)])
    shapes = [many, None, shapely.MultiPolygon([EAST])]
    frame = geopandas.GeoDataFrame({"n": [1, 2, 3]}, geometry=shapes, crs=UTM)
    for interleaved in (True, False):
        made = frame.to_arrow(geometry_encoding="geoarrow", interleaved=interleaved)
        file = tmp_path / f"{interleaved}.parquet"
        pq.write_table(pa.table(made), file, row_group_size=2)
        got, columns = vectors.read_polygons(str(file), UTM, ("n",))
        assert columns["n"] == [1, 3]
        assert got[0].equals(many) and got[1].equals(shapes[2])


def test_curves_become_lines(tmp_path: Path) -> None:
    """A full circle of two arcs; its area is that of the circle."""
    points = np.array([[0, 500], [500, 0], [1000, 500], [500, 1000], [0, 500]], float)
    arc = struct.pack("<BII", 1, 8, 5) + (points + np.array([560_000, 4_104_000])).tobytes()
    curve = struct.pack("<BII", 1, 10, 1) + arc
    file = tmp_path / "c.gpkg"
    frame = geopandas.GeoDataFrame({"class": ["Forest"]}, geometry=[WEST], crs=UTM)
    frame.to_file(file)
    with closing(sqlite3.connect(file)) as base, base:
        without_triggers(base)
        base.execute("UPDATE c SET geom = ?", [b"GP\x00\x01" + struct.pack("<i", 26917) + curve])
        base.execute("UPDATE gpkg_geometry_columns SET geometry_type_name = 'CURVEPOLYGON'")
    (shape,), _ = vectors.read_polygons(str(file), UTM, ("class",))
    assert shape.area == pytest.approx(np.pi * 500**2, rel=1e-3)


@pytest.mark.parametrize("source", ["EPSG:4326", "EPSG:3857", "EPSG:5070"])
def test_a_polygon_around_the_world_covers_what_is_near(tmp_path: Path, source: str) -> None:
    whole = {
        "EPSG:4326": shapely.box(-180, -90, 180, 90),
        "EPSG:3857": shapely.box(-2e7, -2e7, 2e7, 2e7),
        "EPSG:5070": shapely.box(-1e7, -1e7, 1e7, 1e7),
    }[source]
    far = shapely.transform(whole, lambda p: p * 0.01 + whole.bounds[3] * 0.9)
    file = tmp_path / "w.gpkg"
    frame = geopandas.GeoDataFrame({"n": [1, 2]}, geometry=[whole, far], crs=source)
    frame.to_file(file)
    (shape,), columns = vectors.read_polygons(str(file), UTM, ("n",), near=NEAR)
    assert columns["n"] == [1]
    assert shape.covers(shapely.box(*NEAR)) and shape.area < 2 * shapely.box(*NEAR).area


@pytest.mark.parametrize("turn", [0, 360])
def test_ground_on_both_sides_of_the_antimeridian(tmp_path: Path, turn: float) -> None:
    """Longitudes of -180 to 180 and of 0 to 360; UTM zone 60 goes on beyond the line."""
    east = shapely.box(179.9, -17, 180, -16)
    west = shapely.box(-180 + turn, -17, -179.9 + turn, -16)
    frame = geopandas.GeoDataFrame({"n": [1, 2]}, geometry=[east, west], crs=4326)
    frame.to_file(tmp_path / "d.gpkg")
    near = Bounds(810_000, 8_130_000, 830_000, 8_150_000)
    shapes, columns = vectors.read_polygons(
        str(tmp_path / "d.gpkg"), "EPSG:32760", ("n",), near=near
    )
    assert columns["n"] == [1, 2]
    assert shapely.union_all(shapes).buffer(1).covers(shapely.box(*near))


def test_an_edge_is_straight_in_the_files_own_crs(tmp_path: Path) -> None:
    """A parallel of a degree bends by 400 m in UTM: a point north of the chord is inside."""
    box = shapely.box(-82, 36, -80, 37)
    geopandas.GeoSeries([box], crs=4326).to_file(tmp_path / "d.gpkg")
    (shape,), _ = vectors.read_polygons(str(tmp_path / "d.gpkg"), UTM)
    dense = geopandas.GeoSeries([shapely.segmentize(box, 0.001)], crs=4326).to_crs(UTM)[0]
    assert shape.symmetric_difference(dense).area / dense.area < 1e-6


def test_layers_are_chosen_by_name_and_never_guessed(
    frame: geopandas.GeoDataFrame, tmp_path: Path
) -> None:
    file = tmp_path / "two.gpkg"
    frame.to_file(file, layer="plots 2020")
    frame.iloc[:1].to_file(file, layer="counties")
    with closing(sqlite3.connect(file)) as base, base:  # a table without geometry is no layer
        base.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, t TEXT)")
        base.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier) "
            "VALUES ('notes', 'attributes', 'notes')"
        )
    with pytest.raises(VectorError, match=r"2 layers \(plots 2020, counties\); name one.*layer"):
        vectors.read_polygons(str(file), UTM)
    check(file, layer="Plots 2020")
    check(f"{file}|layername=plots 2020")
    with pytest.raises(VectorError, match="no layer 'plot 2020'; did you mean plots 2020"):
        vectors.fields(str(file), "plot 2020")
    (tmp_path / "in").mkdir()
    frame.to_file(tmp_path / "in" / "plots.shp")
    frame.iloc[:1].to_file(tmp_path / "in" / "towns.shp")
    both = zipped(tmp_path / "in", "both.zip")
    with pytest.raises(VectorError, match=r"2 layers \(plots, towns\)"):
        vectors.fields(str(both))
    check(both, layer="plots")
    check(f"zip://{both}!plots.shp")
    check(f"/vsizip/{both}/plots.shp")
    (tmp_path / "in" / "plots.shp").unlink()
    frame.to_file(tmp_path / "in" / "all.gpkg", layer="other name")
    check(f"zip://{zipped(tmp_path / 'in', 'more.zip')}!deep/all.gpkg")
    assert not vectors.is_vector(f"/vsizip/{both}/codes.tif")
    frame.to_file(tmp_path / "one.geojson")
    check(tmp_path / "one.geojson", layer="one")
    with pytest.raises(VectorError, match="no layer 'two'"):
        vectors.fields(str(tmp_path / "one.geojson"), "two")


def test_fields_are_found_in_any_case_and_listed_where_missing(
    frame: geopandas.GeoDataFrame, tmp_path: Path
) -> None:
    frame.to_file(tmp_path / "a.gpkg")
    shapes, columns = vectors.read_polygons(str(tmp_path / "a.gpkg"), UTM, ("CODE", "class"))
    assert columns == {"CODE": [41, 22], "class": ["Forest", "Developed"]} and len(shapes) == 2
    with pytest.raises(VectorError, match="no field 'use'; it has class, code"):
        vectors.read_polygons(str(tmp_path / "a.gpkg"), UTM, ("use",))


def geojson(path: Path, *shapes: Any, crs: str | None = None) -> str:
    """A collection of shapes as GeoJSON text, written as it is."""
    features = [
        {
            "type": "Feature",
            "properties": {"class": "Forest"},
            "geometry": shapely.geometry.mapping(s),
        }
        for s in shapes
    ]
    said = {"crs": {"type": "name", "properties": {"name": crs}}} if crs else {}
    path.write_text(json.dumps({"type": "FeatureCollection", **said, "features": features}))
    return str(path)


def test_projected_geojson_needs_its_crs(tmp_path: Path) -> None:
    bare = geojson(tmp_path / "bare.geojson", WEST)
    with pytest.raises(
        VectorError, match=r"no degrees \(x 560000 to 561000.*give the file its CRS"
    ):
        vectors.read_polygons(bare, UTM)
    named = geojson(tmp_path / "named.geojson", WEST, crs="urn:ogc:def:crs:EPSG::26917")
    (shape,), _ = vectors.read_polygons(named, UTM)
    assert shape.equals(WEST)


def test_only_polygons_are_areas(tmp_path: Path) -> None:
    line, point = shapely.LineString([(0, 0), (1, 1)]), shapely.Point(0, 0)
    area = shapely.box(-81, 36, -80, 37)
    with pytest.raises(
        VectorError, match=r"2 features of 3 that are no polygons \(LineString, Point"
    ):
        vectors.read_polygons(geojson(tmp_path / "a.geojson", line, area, point), UTM)
    mixed = shapely.GeometryCollection([area, shapely.LineString([(-81, 36), (-79, 35)])])
    (shape,), _ = vectors.read_polygons(geojson(tmp_path / "b.geojson", mixed), "EPSG:4326")
    assert shape.equals(area)
    with pytest.raises(VectorError, match="no polygons"):
        vectors.read_polygons(geojson(tmp_path / "c.geojson"), UTM)


def test_a_bow_tie_is_mended_without_losing_ground(tmp_path: Path) -> None:
    bow = shapely.Polygon([(-81, 36), (-80, 37), (-80, 36), (-81, 37)])
    (shape,), _ = vectors.read_polygons(geojson(tmp_path / "a.geojson", bow), "EPSG:4326")
    assert shape.is_valid and shape.area == pytest.approx(0.5)


def test_points_with_their_fields(tmp_path: Path) -> None:
    shapes = geopandas.points_from_xy([560_112, 560_336], [4_104_912, 4_104_688])
    frame = geopandas.GeoDataFrame({"label": ["Forest", "Shrub"]}, geometry=shapes, crs=UTM)
    frame.to_crs(4326).to_file(tmp_path / "p.gpkg")
    x, y, columns = vectors.read_points(str(tmp_path / "p.gpkg"), UTM)
    assert columns == {"label": ["Forest", "Shrub"]}
    assert np.allclose(x, frame.geometry.x, atol=1e-3) and np.allclose(
        y, frame.geometry.y, atol=1e-3
    )
    with pytest.raises(VectorError, match="no point"):
        vectors.read_points(geojson(tmp_path / "a.geojson", shapely.box(0, 0, 1, 1)), UTM)


HOSTILE = {
    "vrt.gpkg": b'<OGRVRTDataSource><OGRVRTLayer name="a"><SrcDataSource>SECRET'
    b"</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>",
    "both.kml": b'<kml xmlns="http://www.opengis.net/kml/2.2"/>'
    b'<OGRVRTDataSource><OGRVRTLayer name="a"><SrcDataSource>SECRET</SrcDataSource>'
    b"</OGRVRTLayer></OGRVRTDataSource>",
    "pipeline.geojson": b'{"type": "gdal_streamed_alg", '
    b'"command_line": "gdal vector filter --input SECRET --of stream --output streamed"}',
    "wfs.gml": b"<OGRWFSDataSource><URL>http://127.0.0.1:1/</URL></OGRWFSDataSource>",
    "laugh.kml": b'<!DOCTYPE kml [<!ENTITY a "aaaaaaaaaa">]><kml>&a;</kml>',
    "table.geojson": b"class,WKT\nForest,POLYGON((0 0,1 0,1 1,0 0))\n",
    "topology.json": b'{"type": "Topology", "objects": {}, "arcs": []}',
    "cut.gpkg": b"SQLite format 3\x00" + bytes(200),
    "cut.fgb": b"fgb\x03fgb\x00" + bytes(range(256)),
    "cut.zip": b"PK\x03\x04" + bytes(100),
    "cut.parquet": b"PAR1" + bytes(100) + b"PAR1",
    "empty.geojson": b"",
    "deep.geojson": b'{"type":"FeatureCollection","features":' + b"[" * 100_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_vector_file_is_refused_in_one_line(
    frame: geopandas.GeoDataFrame, tmp_path: Path, name: str
) -> None:
    """Nothing that a file says leads to another file: the layer would have been readable."""
    frame.to_file(tmp_path / "secret.gpkg")
    file = tmp_path / name
    file.write_bytes(HOSTILE[name].replace(b"SECRET", str(tmp_path / "secret.gpkg").encode()))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(VectorError) as error:
        vectors.read_polygons(str(file), UTM)
    assert name in str(error.value) and "\n" not in str(error.value)
    assert sorted(tmp_path.iterdir()) == before


def test_a_database_that_is_open_elsewhere_is_read_with_its_log(
    frame: geopandas.GeoDataFrame, tmp_path: Path
) -> None:
    file = tmp_path / "a.gpkg"
    frame.iloc[::-1].to_file(file)
    base = sqlite3.connect(file)
    base.execute("PRAGMA journal_mode=WAL")
    without_triggers(base)
    base.execute("UPDATE a SET class = CASE class WHEN 'Forest' THEN 'Shrub' ELSE class END")
    base.commit()
    before = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    assert "a.gpkg-wal" in before
    _, columns = vectors.read_polygons(str(file), UTM, ("class",))
    assert columns["class"] == ["Developed", "Shrub"]
    assert {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()} == before
    base.close()


@pytest.mark.parametrize(
    "ending", ["shp", "shx", "dbf", "fgb", "gpkg", "geojson", "geojsonl", "kml"]
)
@pytest.mark.parametrize("share", [0.5, 0.98])
def test_a_file_that_is_cut_short_loses_no_polygon_unsaid(
    tmp_path: Path, ending: str, share: float
) -> None:
    main = "shp" if ending in ("shx", "dbf") else ending
    shapes = [shapely.box(i / 10, 0, i / 10 + 0.1, 1) for i in range(100)]
    frame = geopandas.GeoDataFrame({"class": ["Forest"] * 100}, geometry=shapes, crs=4326)
    WRITERS[main](frame, tmp_path / f"a.{main}")
    data = (tmp_path / f"a.{ending}").read_bytes()
    (tmp_path / f"a.{ending}").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(VectorError):
        vectors.read_polygons(str(tmp_path / f"a.{main}"), UTM, ("class",))


def test_a_small_parquet_file_cannot_ask_for_all_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million rows that all name one value of a megabyte: a terabyte in a few kilobytes."""
    monkeypatch.setattr(parquet, "MOST_BYTES", 64 << 20)
    monkeypatch.setattr(parquet, "MOST_CHUNK", 8 << 20)
    data = pa.DictionaryArray.from_arrays(np.zeros(10**6, np.int32), [b"\0" * 10**6])
    about = {"version": "1.1.0", "primary_column": "g", "columns": {"g": {
        "encoding": "WKB", "geometry_types": []}}}  # fmt: skip
    table = pa.table({"g": data}).replace_schema_metadata({"geo": json.dumps(about)})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd")
    assert (tmp_path / "a.parquet").stat().st_size < 100_000
    with pytest.raises(VectorError, match="over 64 MiB"):
        vectors.read(str(tmp_path / "a.parquet"))


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(VectorError, match="does not exist"):
        vectors.fields(str(tmp_path / "no.gpkg"))
    with pytest.raises(VectorError, match="no file geodatabase"):
        vectors.fields(str(tmp_path))
    os.mkfifo(tmp_path / "pipe.gpkg")
    with pytest.raises(VectorError, match="no regular file"):
        vectors.fields(str(tmp_path / "pipe.gpkg"))
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as inner:
        inner.writestr("a.txt", "x")
    with zipfile.ZipFile(tmp_path / "out.zip", "w") as outer:
        outer.write(tmp_path / "in.zip", "a.gpkg")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("a.geojson", bytes(300 << 20), compresslevel=1)
    with pytest.raises(VectorError, match="unpacks to 314,572,800 bytes"):
        vectors.fields(str(tmp_path / "bomb.zip"))
    for name, says in (("in.zip", "holds no vector file"), ("out.zip", "archive in an archive")):
        with pytest.raises(VectorError, match=says):
            vectors.fields(str(tmp_path / name))


def test_a_digest_and_a_stamp_know_the_files_that_belong_to_it(
    frame: geopandas.GeoDataFrame, tmp_path: Path
) -> None:
    file = str(tmp_path / "a.shp")
    frame.to_file(file)
    before = vectors.fingerprint(file), vectors.digest(file)
    data = bytearray((tmp_path / "a.dbf").read_bytes())
    data[-20] ^= 1
    (tmp_path / "a.dbf").write_bytes(data)
    after = vectors.fingerprint(file), vectors.digest(file)
    assert before[0] != after[0] and before[1] != after[1]
    with pytest.raises(StorageError, match="does not exist"):
        vectors.fingerprint(str(tmp_path / "b.shp"))


def test_a_remote_file_is_read_with_its_siblings(
    frame: geopandas.GeoDataFrame, tmp_path: Path
) -> None:
    import fsspec

    frame.to_file(tmp_path / "a.shp")
    frame.to_file(tmp_path / "a.gpkg")
    memory = fsspec.filesystem("memory")
    for path in tmp_path.iterdir():
        memory.pipe_file(f"/box/{path.name}", path.read_bytes())
    check("memory://box/a.shp")
    check("memory://box/a.gpkg")
