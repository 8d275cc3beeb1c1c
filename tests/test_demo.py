"""The synthetic county: the same by seed, georeferenced, asymmetric, with labels and changes that
agree with its pictures. Files are read with rasterio, json and csv alone."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.warp import transform

from quadrat import storage
from quadrat.county import NOTE, County, make_county
from quadrat.county.classes import CLASS_NAMES
from quadrat.county.county import shape
from quadrat.county.labelling import TAKEN_FOR
from quadrat.county.land import Land
from quadrat.county.palette import season
from quadrat.county.render import Painter
from quadrat.county.texture import TEXTURES, atlas
from quadrat.errors import InputError, LockedError, StorageError
from quadrat.grid import TileId
from quadrat.legend import load_legend

CODES = {code: c.name for c in load_legend("nlcd8").classes for code in c.codes}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> County:
    return make_county(str(tmp_path_factory.mktemp("county")), tiles=600, seed=0)


def rows_of(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def nine_points(demo: County, labels: str) -> tuple[list[TileId], list[set[str]]]:
    """Classes at the nine points of every tile, with rasterio's own index and exact projection."""
    a = demo.area
    ids = [TileId(r, c) for r in range(a.r0, a.r1) for c in range(a.c0, a.c1)]
    with rasterio.open(labels) as data:
        codes = data.read(1)
        found: list[set[str]] = [set() for _ in ids]
        for fy in (1 / 6, 3 / 6, 5 / 6):
            for fx in (1 / 6, 3 / 6, 5 / 6):
                x = [(t.col + fx) * 224 for t in ids]
                y = [-(t.row + fy) * 224 for t in ids]
                x, y = transform("EPSG:26917", data.crs, x, y)
                for i, (px, py) in enumerate(zip(x, y, strict=True)):
                    found[i].add(CODES[int(codes[data.index(px, py)])])
    return ids, found


def tile_pixels(path: str, tile: TileId) -> Any:
    with rasterio.open(path) as data:
        r, c = data.index(tile.col * 224 + 0.5, -tile.row * 224 - 0.5)
        return data.read(window=((r, r + 224), (c, c + 224)))


def test_the_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    a, b, other = (
        make_county(str(tmp_path / name), tiles=16, seed=seed, dates=1, workers=workers)
        for name, seed, workers in (("a", 5, 1), ("b", 5, 3), ("c", 6, 1))
    )
    for name in ("imagery", "labels"):
        for one, two, three in zip(
            getattr(a, name), getattr(b, name), getattr(other, name), strict=True
        ):
            assert Path(one).read_bytes() == Path(two).read_bytes()
            assert Path(one).read_bytes() != Path(three).read_bytes()
    assert Path(a.truth).read_bytes() == Path(b.truth).read_bytes()


@pytest.mark.parametrize("tiles", [16, 100, 600, 997, 10_000, 66_000, 1_000_000])
def test_a_county_is_as_large_as_asked(tiles: int) -> None:
    rows, cols = shape(tiles)
    assert tiles <= rows * cols <= tiles * 1.03 + 2
    assert rows < cols <= 2 * rows + 1  # wider than high: swapped rows and columns show


def test_windows_agree_where_they_meet() -> None:
    land = Land(3, 12, 14, 2, 224)
    painter = Painter(land, 1, atlas(3, 1.0), season(3, 1))
    whole = painter.window(-60, -60, 900, 700)
    for x, y, w, h in ((-60, -60, 34, 700), (-20, 100, 512, 256), (300, 402, 540, 238)):
        part = painter.window(x, y, w, h)
        np.testing.assert_array_equal(part, whole[y + 60 : y + 60 + h, x + 60 : x + 60 + w])


def test_textures_are_pictures_of_their_own() -> None:
    pages = atlas(0, 0.0)
    assert len(pages) == len(TEXTURES)
    level = pages & 31
    assert (level.reshape(len(pages), -1).std(1) > 0.4).all()
    # none is another's copy, and none is mirrored or turned onto itself
    for i, page in enumerate(pages):
        assert all((page == other).mean() < 0.6 for other in pages[i + 1 :])
        for turned in (page.T, page[::-1], page[:, ::-1], page[::-1, ::-1]):
            assert not np.array_equal(page, turned)


def test_imagery_says_what_and_where_it_is(demo: County) -> None:
    corners = set()
    area = demo.grid.range_bounds(demo.area)
    for path in demo.imagery:
        with rasterio.open(path) as data:
            assert data.crs.to_epsg() == 26917
            assert (data.count, data.dtypes[0], data.res) == (3, "uint8", (1.0, 1.0))
            assert data.profile["tiled"] and data.profile["compress"] == "deflate"
            assert "Synthetic" in data.tags()["TIFFTAG_IMAGEDESCRIPTION"]
            b = data.bounds
            assert b.left < area.left and b.right > area.right
            assert b.bottom < area.bottom and b.top > area.top
            assert b.left % 224 and b.top % 224  # not on the grid of tiles
            # nothing but whole tiles: the margin holds none
            assert area.left - b.left < 224 and b.right - area.right < 224
            assert b.top - area.top < 224 and area.bottom - b.bottom < 224
            corners.add((b.left, b.top))
    assert len(corners) == 2  # the dates' files do not line up
    a = demo.area
    assert demo.tiles == (a.r1 - a.r0) * (a.c1 - a.c0) == 600
    assert json.loads(Path(demo.out, "demo.json").read_text())["note"] == NOTE


def test_labels_are_the_ground_at_the_cells_centres_but_for_stated_errors(demo: County) -> None:
    """Wrong cells lie beside another class, or in whole patches called something like it."""
    land = Land(0, demo.area.r1 - demo.area.r0, demo.area.c1 - demo.area.c0, 2, 224)
    area = demo.grid.range_bounds(demo.area)
    rng = np.random.default_rng(1)
    for date, path in enumerate(demo.labels):
        with rasterio.open(path) as data:
            assert data.crs.to_epsg() == 5070 and data.res == (30.0, 30.0) and data.nodata == 0
            assert data.transform.c % 224 and "Synthetic" in str(data.tags())
            codes = data.read(1)
            r, c = (rng.integers(0, n, 4000) for n in codes.shape)
            inside = codes[r, c] != 0
            x, y = data.xy(r[inside], c[inside])
            x, y = transform(data.crs, "EPSG:26917", list(x), list(y))
        px = np.floor(np.array(x) - area.left).astype(np.int32)
        py = np.floor(area.top - np.array(y)).astype(np.int32)
        seen = codes[r[inside], c[inside]]
        around = ((0, 0), (30, 0), (-30, 0), (0, 30), (0, -30))
        near = np.stack(
            [
                land.code_of[land.cells((px + dx).astype("i4"), (py + dy).astype("i4"), date).kind]
                for dx, dy in around
            ]
        )
        alike = np.array([TAKEN_FOR[int(code)] for code in near.ravel()]).reshape(near.shape)
        assert inside.sum() > 2500
        # the projection is straight over 240 m, which may cost a millimetre at an edge
        border = (near == seen).any(0)
        assert (border | (alike == seen).any(0)).mean() >= 0.999
        assert 0.93 < (near[0] == seen).mean() < 0.985
        assert 0.005 < (~border).mean() < 0.05
        assert set(np.unique(codes)) <= {0, *CODES}


def test_pictures_and_labels_show_the_same_ground(demo: County) -> None:
    """Water is blue, forest dark, bare ground bright where the labels say so; mirrored not."""
    with rasterio.open(demo.labels[0]) as labels, rasterio.open(demo.imagery[0]) as image:
        codes, pixels = labels.read(1), image.read().astype(int)
        r, c = np.nonzero(codes)
        x, y = transform(labels.crs, image.crs, *(list(v) for v in labels.xy(r, c)))
        row = np.floor(image.bounds.top - np.array(y)).astype(int)
        col = np.floor(np.array(x) - image.bounds.left).astype(int)

    def right(row: Any, col: Any) -> float:
        ok = (row >= 0) & (row < pixels.shape[1]) & (col >= 0) & (col < pixels.shape[2])
        red, _, blue = pixels[:, row[ok], col[ok]]
        water = codes[r[ok], c[ok]] == 11
        blueish = (blue > red + 25) & (red < 80)
        return float((water & blueish).sum() / water.sum())

    assert right(row, col) > 0.95
    height, width = pixels.shape[1:]
    for other in ((height - 1 - row, col), (row, width - 1 - col), (col, row)):
        assert right(*other) < 0.5
    inside = (row >= 0) & (row < height) & (col >= 0) & (col < width)
    bright, code = pixels.sum(0)[row[inside], col[inside]], codes[r[inside], c[inside]]
    assert bright[code == 31].mean() > 1.4 * bright[code == 41].mean()


def test_no_turn_or_mirror_leaves_the_county_alike(demo: County) -> None:
    _, found = nine_points(demo, demo.labels[0])
    names = np.array(["/".join(sorted(f)) for f in found])
    field = names.reshape(demo.area.r1 - demo.area.r0, -1)[:24, :24]
    same = [
        (field == np.rot90(g, k)).mean()
        for g in (field, field.T)
        for k in range(4)
        if not (g is field and k == 0)
    ]
    assert len(same) == 7 and max(same) < 0.5


@pytest.mark.parametrize("seed", range(4))
def test_every_class_fills_whole_tiles(seed: int) -> None:
    land = Land(seed, 24, 25, 1, 224)
    y, x = np.mgrid[0 : 24 * 224 : 32, 0 : 25 * 224 : 32].astype(np.int32)
    cls = land.cells(np.ascontiguousarray(x), np.ascontiguousarray(y), 0).cls
    tiles = cls.reshape(24, 7, 25, 7).transpose(0, 2, 1, 3).reshape(600, 49)
    pure = tiles[(tiles == tiles[:, :1]).mean(1) > 0.98][:, 0]
    counts = np.bincount(pure, minlength=len(CLASS_NAMES))
    assert (counts >= 4).all(), counts


@pytest.mark.parametrize("seed", range(4))
def test_plots_are_as_mixed_as_in_layouts_of_real_counties(seed: int) -> None:
    """Of NLCD's layouts 40 to 60% of the plots are pure: nine tenths or more of one class."""
    land = Land(seed, 24, 25, 1, 224)
    y, x = np.mgrid[0 : 24 * 224 : 14, 0 : 25 * 224 : 14].astype(np.int32)
    cls = land.cells(np.ascontiguousarray(x), np.ascontiguousarray(y), 0).cls
    tiles = cls.reshape(24, 16, 25, 16).transpose(0, 2, 1, 3).reshape(600, 256)
    shares = (tiles[..., None] == np.arange(len(CLASS_NAMES))).mean(1)
    assert 0.4 <= (shares.max(1) >= 0.9).mean() <= 0.6
    assert (shares.mean(0) > 0.025).all()


def test_changes_are_real_and_listed(demo: County) -> None:
    changes = {(int(r["row"]), int(r["col"])): r for r in rows_of(demo.changes)}
    assert len(changes) == demo.changed
    assert 0.01 <= len(changes) / demo.tiles <= 0.035
    truth = {(int(r["row"]), int(r["col"])): r for r in rows_of(demo.truth)}
    names = list(CLASS_NAMES)
    for tile, row in truth.items():
        early, late = (
            np.array([float(row[f"share_{y}_{n}"]) for n in names]) for y in (2011, 2014)
        )
        moved = np.abs(late - early).sum() / 2
        change = changes.get(tile)
        assert (moved >= 0.1) <= (change is not None)
        if change:
            developed = names.index("Developed")
            assert float(change["built"]) == pytest.approx(
                late[developed] - early[developed], abs=2e-4
            )
            assert float(change["changed"]) >= moved - 1e-3
    parts = np.array([float(c["changed"]) for c in changes.values()])
    assert (parts > 0.9).any() and (parts < 0.5).any()  # whole tiles, and small parts
    built = [float(c["built"]) for c in changes.values()]
    assert sum(b > 0.1 for b in built) > len(built) / 2


def test_truth_has_every_tile_once_and_agrees_with_the_changes(demo: County) -> None:
    truth = {(int(r["row"]), int(r["col"])): r for r in rows_of(demo.truth)}
    assert len(truth) == demo.tiles
    assert {r["class_2011"] for r in truth.values()} <= set(CLASS_NAMES)
    for change in rows_of(demo.changes):
        row = truth[int(change["row"]), int(change["col"])]
        assert row["class_2011"] == change["from_class"]
        assert row["class_2014"] == change["to_class"]
    for row in truth.values():
        shares = {n: float(row[f"share_2011_{n}"]) for n in CLASS_NAMES}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-3)
        assert float(row["share_2011"]) == max(shares.values()) == shares[row["class_2011"]]
    ids, found = nine_points(demo, demo.labels[0])
    one = [(t, next(iter(f))) for t, f in zip(ids, found, strict=True) if len(f) == 1]
    agree = [truth[t.row, t.col]["class_2011"] == name for t, name in one]
    assert len(one) > 120 and 0.9 < np.mean(agree) < 1  # the labels have errors


def test_outlines_of_changes_hold_their_tiles(demo: County) -> None:
    features = json.loads(Path(demo.changes_geojson).read_text())["features"]
    assert len(features) == demo.changed > 0
    for feature in features:
        p = feature["properties"]
        x, y = (p["col"] + 0.5) * 224, -(p["row"] + 0.5) * 224
        (lon,), (lat,) = transform("EPSG:26917", "EPSG:4326", [x], [y])
        ring = np.array(feature["geometry"]["coordinates"][0])
        assert ring[:, 0].min() < lon < ring[:, 0].max()
        assert ring[:, 1].min() < lat < ring[:, 1].max()
        area2 = np.sum(ring[:-1, 0] * ring[1:, 1] - ring[1:, 0] * ring[:-1, 1])
        assert area2 > 0  # counter-clockwise, as RFC 7946 wants


def test_seasons_shift_colours_class_by_class(demo: County) -> None:
    """Colour alone does not carry over from one date to the other."""
    ids, found = nine_points(demo, demo.labels[0])
    listed = {(int(r["row"]), int(r["col"])) for r in rows_of(demo.changes)}
    chosen = [
        (t, next(iter(f)))
        for t, f in zip(ids, found, strict=True)
        if len(f) == 1 and (t.row, t.col) not in listed
    ][::2]
    colour = np.array(
        [[tile_pixels(p, t).mean((1, 2)) for p in demo.imagery] for t, _ in chosen]
    )  # (tiles, dates, bands)
    name = np.array([n for _, n in chosen])
    shift = {n: (colour[name == n, 1] - colour[name == n, 0]).mean(0) for n in set(name)}
    assert np.abs(shift["Forest"]).max() > 15
    red = [s[0] for n, s in shift.items() if n != "Water"]
    assert max(red) - min(red) > 25, shift
    classes = sorted(set(name))
    centres = np.array([colour[name == n, 0].mean(0) for n in classes])
    right = [
        np.mean(np.array(classes)[((colour[:, d, None] - centres) ** 2).sum(-1).argmin(1)] == name)
        for d in (0, 1)
    ]
    assert right[0] > 0.7 and right[1] < 0.5, right


def test_several_dates_and_one() -> None:
    one, four = Land(0, 30, 40, 1, 224), Land(0, 30, 40, 4, 224)
    assert (one.events.new_class == -1).all()
    happened = four.events.since[four.events.new_class >= 0]
    assert set(np.unique(happened)) == {1, 2, 3}
    looks = [season(0, d) for d in range(4)]
    assert [round(s.autumn) for s in looks] == [0, 1, 0, 1] and len(set(looks)) == 4


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    made = make_county(
        str(tmp_path),
        tiles=16,
        dates=3,
        on_progress=lambda done, total: calls.append((done, total)),
    )
    assert calls[-1] == (3 * made.tiles, 3 * made.tiles)
    assert [d for d, _ in calls] == sorted(d for d, _ in calls)
    assert len(made.imagery) == len(made.years) == 3
    assert json.loads(json.dumps(made.to_dict()))["tiles"] == made.tiles


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"tiles": 3}, "tiles"),
        ({"tiles": 3_000_000}, "tiles"),
        ({"dates": 0}, "dates"),
        ({"dates": 11}, "dates"),
        ({"seed": -1}, "seed"),
        ({"workers": 0}, "workers"),
    ],
)
def test_what_cannot_be_made_is_said(tmp_path: Path, options: dict[str, int], word: str) -> None:
    with pytest.raises(InputError, match=word):
        make_county(str(tmp_path / "x"), **options)
    assert not (tmp_path / "x").exists()


def test_one_writer_and_local_folders_only(tmp_path: Path) -> None:
    with storage.lock(str(tmp_path)), pytest.raises(LockedError):
        make_county(str(tmp_path), tiles=16)
    with pytest.raises(StorageError, match="local"):
        make_county("memory://county", tiles=16)


@pytest.fixture(autouse=True)
def _no_leftovers(tmp_path: Path) -> Iterator[None]:
    yield
    assert not list(tmp_path.rglob(".part-*"))
