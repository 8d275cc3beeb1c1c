"""The grid: the same ground has the same name, whatever file it came in."""

import numpy as np
import pytest
import shapely

from quadrat.errors import GridError
from quadrat.grid import Bounds, Grid, TileId, TileRange, from_dict

GRID = Grid("EPSG:26917")


def test_tile_of_224_m_at_1_m_has_224_pixels() -> None:
    assert GRID.size_px == 224


def test_rows_run_south_and_columns_east_from_the_origin() -> None:
    assert GRID.tile_at(1, -1) == TileId(0, 0)
    assert GRID.tile_at(225, -1) == TileId(0, 1)
    assert GRID.tile_at(1, -225) == TileId(1, 0)
    assert GRID.tile_at(1, 1) == TileId(-1, 0)
    assert GRID.bounds(TileId(-1, 2)) == Bounds(448, 0, 672, 224)


def test_a_point_lies_in_the_bounds_of_its_tile() -> None:
    rng = np.random.default_rng(1)
    for x, y in rng.uniform(-5e6, 5e6, (500, 2)):
        left, bottom, right, top = GRID.bounds(GRID.tile_at(x, y))
        assert left <= x < right and bottom < y <= top


def test_covering_is_exact_at_the_lattice_and_grows_for_a_metre_more() -> None:
    exact = GRID.range_bounds(TileRange(-10, -7, 3, 8))
    assert GRID.covering(exact) == TileRange(-10, -7, 3, 8)
    left, bottom, right, top = exact
    assert GRID.covering(Bounds(left - 1, bottom, right, top + 1)) == TileRange(-11, -7, 2, 8)


def test_outlines_are_the_bounds_by_shapely() -> None:
    rows, cols = np.array([-18325, 4]), np.array([2500, -3])
    shapes = shapely.from_wkb([bytes(b) for b in GRID.wkb(rows, cols)])
    for shape, r, c in zip(shapes, rows, cols, strict=True):
        assert shape.is_valid and shape.exterior.is_ccw
        assert shape.bounds == GRID.bounds(TileId(int(r), int(c)))


def test_a_tile_that_is_no_whole_number_of_pixels_is_refused_with_the_cure() -> None:
    with pytest.raises(GridError, match=r"whole number.*--tile-m"):
        Grid("EPSG:26917", 224, 0.6)
    for bad in ((0, 1), (224, -1), (float("nan"), 1), (1e9, 1)):
        with pytest.raises(GridError):
            Grid("EPSG:26917", *bad)


def test_plain_values_give_the_same_grid_back() -> None:
    assert from_dict(GRID.to_dict()) == GRID
    with pytest.raises(GridError):
        from_dict({"crs": "EPSG:26917", "tile_m": "many"})
