"""Labels against plain loops over the raster, and against polygons by shapely."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from rasterio.warp import transform

from conftest import Writer
from quadrat import labels
from quadrat.errors import LabelError, RasterError
from quadrat.grid import Grid, TileId, TileRange
from quadrat.labels import LabelSource, Rule, lattice_for, open_labels
from quadrat.legend import from_dict, load_legend

GRID, NLCD = Grid("EPSG:26917"), load_legend("nlcd6")
CODES = np.array([21, 24, 41, 90, 31, 52, 71, 95, 82, 11])


def codes_raster(side: int, seed: int = 0, coarse: int = 12) -> np.ndarray:
    rng = np.random.default_rng(seed)
    blocks = rng.choice(CODES, (-(-side // coarse), -(-side // coarse)))
    return np.kron(blocks, np.ones((coarse, coarse)))[None, :side, :side].astype(np.uint8)


def expected(file: str, row: int, col: int, share: tuple[float, ...]) -> list[int]:
    """Codes at the lattice points of a tile: every point projected and looked up by itself."""
    left, bottom, right, top = GRID.bounds(TileId(row, col))
    found = []
    with rasterio.open(file) as data:
        values = data.read(1)
        for v in share:
            for u in share:
                x, y = left + u * (right - left), top - v * (top - bottom)
                (px,), (py,) = transform("EPSG:26917", data.crs, [x], [y])
                r, c = data.index(px, py)
                found.append(int(values[r, c]))
    return found


def tiles_inside(n: int = 8) -> tuple[np.ndarray, np.ndarray]:
    rows, cols = np.mgrid[-18322 : -18322 + n, 2503 : 2503 + n]
    return rows.ravel(), cols.ravel()


@pytest.mark.parametrize("crs", ["EPSG:26917", "EPSG:5070"])
def test_nine_points_as_a_plain_loop_finds_them(write_raster: Writer, crs: str) -> None:
    left, top = (560100.0, 4104900.0) if crs == "EPSG:26917" else (1513000.0, 1700100.0)
    if crs == "EPSG:5070":
        (left,), (top,) = transform("EPSG:26917", crs, [560100.0], [4104900.0])
        left, top = left - 600, top + 600
    file = write_raster("l.tif", codes_raster(160), crs=crs, left=left, top=top, pixel=30.0)
    rows, cols = tiles_inside()
    source = open_labels(file, NLCD, GRID, rule=Rule("nine-point"))
    got = labels.label_tiles(source, GRID, rows, cols)
    nine = labels.label_tiles(replace(source, lattice=3), GRID, rows, cols)
    assert np.array_equal(got.label, nine.label)
    lookup = NLCD.lookup()
    agreed = 0
    for i, (r, c) in enumerate(zip(rows, cols, strict=True)):
        classes = {lookup[k] for k in expected(file, r, c, (1 / 6, 3 / 6, 5 / 6))}
        want = classes.pop() if len(classes) == 1 else -1
        agreed += want >= 0
        assert got.label[i] == want
    assert 5 < agreed < 60  # both outcomes were seen


def test_fractions_and_majority_as_a_plain_loop_finds_them(write_raster: Writer) -> None:
    file = write_raster("l.tif", codes_raster(120), left=560100.0, top=4104900.0, pixel=30.0)
    rows, cols = tiles_inside(6)
    source = open_labels(file, NLCD, GRID, rule=Rule("majority", 0.6))
    got = labels.label_tiles(source, GRID, rows, cols)
    n = source.lattice
    assert n == 15
    share = tuple((2 * i + 1) / (2 * n) for i in range(n))
    for i, (r, c) in enumerate(zip(rows, cols, strict=True)):
        classes = [NLCD.lookup()[k] for k in expected(file, r, c, share)]
        want = np.bincount(np.array(classes) + 1, minlength=7)[1:] / n**2
        assert got.fractions[i] == pytest.approx(want, abs=1e-6)
        assert got.label[i] == (want.argmax() if want.max() >= 0.6 else -1)


def test_unknown_codes_are_listed_and_outside_is_not_covered(write_raster: Writer) -> None:
    values = np.full((1, 60, 60), 77, np.uint8)
    values[:, :, 30:] = 41
    file = write_raster("l.tif", values, left=560000.0, top=4105024.0, pixel=30.0)
    rows, cols = np.array([-18326, -18326, -18326]), np.array([2500, 2506, 2600])
    got = labels.label_tiles(open_labels(file, NLCD, GRID), GRID, rows, cols)
    assert got.label.tolist() == [-1, NLCD.id("Forest"), -1]
    assert got.unknown == {77: 15 * 15}
    assert got.covered.tolist() == [0, 1, 0]
    assert np.isnan(got.fractions[[0, 2]]).all() and got.fractions[1].sum() == 1


MASKED, NOTHING = 11, 0  # nlcd6: open water has no class; 0 is background


@pytest.mark.parametrize(
    ("codes", "label", "fractions"),
    [
        ([41] * 5 + [21] * 4, "Forest", {"Forest": 5 / 9, "Developed": 4 / 9}),
        ([41] * 4 + [21] * 4 + [52], None, {"Forest": 4 / 9, "Developed": 4 / 9, "Shrub": 1 / 9}),
        ([41] * 4 + [MASKED] * 5, None, {"Forest": 4 / 9}),
        ([41] * 4 + [21] * 3 + [MASKED] * 2, "Forest", {"Forest": 4 / 9, "Developed": 3 / 9}),
        ([41] * 6 + [NOTHING] * 3, "Forest", None),  # 3 unknown points cannot outweigh 6
        ([41] * 4 + [21] * 2 + [NOTHING] * 3, None, None),  # they could: 2 + 3 > 4
        ([NOTHING] * 9, None, None),
    ],
)
def test_the_largest_share_is_the_label_and_ties_are_none(
    write_raster: Writer, codes: list[int], label: str | None, fractions: dict | None
) -> None:
    """A tile of 3 x 3 cells, so that shares are ninths that can be counted."""
    cells = np.repeat(np.repeat(np.array(codes, np.uint8).reshape(3, 3), 75, 0), 75, 1)
    grid = Grid("EPSG:26917", 225.0)
    file = write_raster("l.tif", cells[None], left=2500 * 225.0, top=18000 * 225.0)
    got = labels.label_tiles(
        open_labels(file, NLCD, grid), grid, np.array([-18000]), np.array([2500])
    )
    assert got.label[0] == (-1 if label is None else NLCD.id(label))
    if fractions is None:
        assert np.isnan(got.fractions).all() and got.covered[0] < labels.KNOWN
    else:
        want = [fractions.get(name, 0.0) for name in NLCD.names]
        assert got.fractions[0] == pytest.approx(want, abs=1e-6)


def test_main_classes_of_shares() -> None:
    shares = np.array([[0.6, 0.4], [0.5, 0.5], [0.3, 0.2], [0.4, 0.35], [np.nan, np.nan]])
    assert labels.main_classes(shares).tolist() == [0, -1, 2, 0, -1]


def test_the_rasters_nodata_and_background_say_nothing(write_raster: Writer) -> None:
    values = np.zeros((1, 60, 60), np.uint8)
    values[:, :, 30:] = 255
    file = write_raster("l.tif", values, pixel=30.0, nodata=255)
    got = labels.label_tiles(
        open_labels(file, NLCD, GRID), GRID, np.array([-18325, -18325]), np.array([2501, 2506])
    )
    assert got.label.tolist() == [-1, -1] and not got.covered.any() and not got.unknown


@pytest.mark.parametrize("ending", ["gpkg", "parquet"])
def test_polygons_with_a_class_field(tmp_path: Path, ending: str) -> None:
    a = shapely.box(*GRID.range_bounds(TileRange(-18326, -18324, 2500, 2501)))
    b = shapely.box(*GRID.range_bounds(TileRange(-18326, -18324, 2501, 2503)))
    frame = geopandas.GeoDataFrame(
        {"use": ["Forest", "Developed"]}, geometry=[a, b], crs="EPSG:26917"
    ).to_crs("EPSG:4326")
    file = str(tmp_path / f"p.{ending}")
    frame.to_file(file) if ending == "gpkg" else frame.to_parquet(file)
    source = open_labels(file, NLCD, GRID, rule=Rule("majority"), field="use")
    rows, cols = np.array([-18326, -18325, -18326]), np.array([2500, 2502, 2504])
    got = labels.label_tiles(source, GRID, rows, cols)
    assert got.label.tolist() == [NLCD.id("Forest"), NLCD.id("Developed"), -1]
    assert got.fractions[0, NLCD.id("Forest")] > 0.97
    with pytest.raises(LabelError, match="has no field 'kind'; it has use"):
        open_labels(file, NLCD, GRID, field="kind")


def test_real_nlcd_with_a_crs_without_a_code(real_data: Path) -> None:
    file = str(real_data / "nlcd" / "augusta_nlcd.tif")
    with rasterio.open(file) as data:
        middle = data.xy(200, 300)
        (x,), (y,) = transform(data.crs, "EPSG:26917", [middle[0]], [middle[1]])
    tile = GRID.tile_at(x, y)
    rows, cols = (g.ravel() for g in np.mgrid[tile.row : tile.row + 12, tile.col : tile.col + 12])
    rule = Rule("nine-point")
    got = labels.label_tiles(open_labels(file, NLCD, GRID, rule=rule), GRID, rows, cols)
    lookup = NLCD.lookup()
    for i in range(0, 144, 7):
        codes = expected(file, rows[i], cols[i], (1 / 6, 3 / 6, 5 / 6))
        classes = {lookup[c] for c in codes}
        assert got.label[i] == (classes.pop() if len(classes) == 1 else -1)
    assert not got.unknown


def test_the_lattice_holds_the_nine_points() -> None:
    for cell in (0.5, 5, 10, 30, 60, 250):
        n = lattice_for(224, cell)
        points = {(2 * i + 1) / (2 * n) for i in range(n)}
        assert n % 2 and n % 3 == 0 and n <= 45
        assert all(min(abs(p - q) for p in points) < 1e-12 for q in (1 / 6, 3 / 6, 5 / 6))


def test_wrong_label_sources_are_refused(write_raster: Writer, tmp_path: Path) -> None:
    with pytest.raises(RasterError, match="whole-number codes"):
        open_labels(write_raster("f.tif", np.zeros((1, 9, 9), np.float32)), NLCD, GRID)
    with pytest.raises(RasterError, match="no CRS"):
        open_labels(write_raster("n.tif", np.zeros((1, 9, 9), np.uint8), crs=None), NLCD, GRID)
    for bands in (2, 3):
        with pytest.raises(RasterError, match=f"has {bands} bands"):
            open_labels(write_raster("p.tif", np.zeros((bands, 9, 9), np.uint8)), NLCD, GRID)
    with pytest.raises(RasterError, match="uint64"):
        open_labels(write_raster("u.tif", np.zeros((1, 9, 9), np.uint64)), NLCD, GRID)
    with pytest.raises(LabelError, match="does not exist"):
        open_labels(str(tmp_path / "no.gpkg"), NLCD, GRID)
    with pytest.raises(LabelError, match="largest, nine-point, majority"):
        Rule("best")


def test_codes_of_any_size_are_themselves(write_raster: Writer) -> None:
    """A table indexed by code would need 20 GB; narrow integers would wrap."""
    codes = [-(2**40), -1, 0, 255, 65_536, 9_999_999_999, 2**62]
    legend = from_dict(
        {"name": "wide", "classes": [{"name": f"c{i}", "codes": [c]} for i, c in enumerate(codes)]}
    )
    values = np.repeat(np.array([*codes, 7], np.int64), 56)[None, None].repeat(56, axis=1)
    file = write_raster("wide.tif", values)
    grid = Grid("EPSG:26917", 56.0)
    cols = np.arange(10000, 10008)
    got = labels.label_tiles(open_labels(file, legend, grid), grid, np.full(8, -73304), cols)
    assert got.label.tolist() == [0, 1, 2, 3, 4, 5, 6, -1]
    assert list(got.unknown) == [7]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("Forest", 1), ("forest ", 1), ("41", 1), (41, 1), (41.0, 1), (11, 6), (Decimal(41), 1),
        (41.7, None), ("41.7", None), ("4_1", None), (True, None), (None, None), ([41], None),
        (float("nan"), None), (float("inf"), None), (Decimal("41.7"), None), (10**30, None),
    ],
)  # fmt: skip
def test_a_polygons_value_is_a_class_or_a_whole_code(value: Any, found: int | None) -> None:
    source = LabelSource("p.gpkg", NLCD, Rule(), 3, field="use")
    if found is None:
        with pytest.raises(LabelError, match=r"p\.gpkg: use = .* is no class of legend nlcd6"):
            labels._class_of(value, source, NLCD.lookup())
    else:
        want = NLCD.id("Forest") if found == 1 else len(NLCD)
        assert labels._class_of(value, source, NLCD.lookup()) == want
