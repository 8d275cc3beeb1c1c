"""Change by the cells of tiles: what is planted, measured, judged, and what the answer is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.warp
from sklearn.covariance import empirical_covariance
from sklearn.linear_model import Ridge

from quadrat import model as models
from quadrat.changes import cells, change, contrast, gains, planted
from quadrat.errors import InputError
from quadrat.legend import from_names
from quadrat.tiles.sets import open_tileset, read_points

SIDE, S, D, K = 28, 49, 12, 4  # tiles a side; cells, numbers of a cell, classes
AT_LEAST = 0.25


def county(seed: int, built: float = 0.02, replaced: float = 0.3) -> dict[str, Any]:
    """Two dates of a county as a network sees them: classes in patches, a season, other ground.

    A cell is its class, the ground of its tile, and noise; the later date is turned and stretched
    as by a season. In some tiles the ground of each class is other ground; in a few a rectangle
    became class 0.
    """
    rng = np.random.default_rng(seed)
    n = SIDE * SIDE
    rows, cols = (x.ravel() for x in np.mgrid[:SIDE, :SIDE])
    main = rng.choice(K, (SIDE // 2, SIDE // 2), p=[0.15, 0.45, 0.25, 0.15])
    main = main.repeat(2, 0).repeat(2, 1).ravel()
    edge = rng.integers(0, 8, n)  # columns of the second class of a tile
    ids = np.where(np.arange(S) % 7 < edge[:, None], rng.integers(0, K, n)[:, None], main[:, None])
    look = rng.normal(size=(K, D)) * 2

    def ground() -> np.ndarray:
        return rng.normal(size=(n, K, D)) + 0.0

    own, other = ground(), ground()
    cell = rng.normal(size=(n, S, D)) * 0.7
    pick = np.arange(n)[:, None]
    one = look[ids] + own[pick, ids] + cell + rng.normal(size=(n, S, D)) * 0.4
    new = rng.random(n) < replaced
    after, gained = ids.copy(), np.zeros(n)
    for i in np.flatnonzero(rng.random(n) < built):
        wide = rng.integers(3, 8)
        after[i, np.arange(S) % 7 < wide] = 0
        gained[i] = (after[i] == 0).mean() - (ids[i] == 0).mean()
    moved = after != ids
    kept = np.where(new[:, None, None], other[pick, after], own[pick, after])
    cell_2 = np.where((new[:, None] | moved)[:, :, None], rng.normal(size=(n, S, D)) * 0.7, cell)
    kept = np.where(moved[:, :, None], other[pick, after], kept)
    two = look[after] + kept + cell_2 + rng.normal(size=(n, S, D)) * 0.4
    turn = np.linalg.qr(rng.normal(size=(D, D)))[0] + 0.5 * np.eye(D)
    two = two @ turn + rng.normal(size=D)
    shares = np.eye(K, dtype=np.float32)[ids]
    return {
        "one": one.astype(np.float16), "two": two.astype(np.float16), "classes": shares,
        "place": (rows, cols), "gained": gained, "replaced": new,
    }  # fmt: skip


def between(made: dict[str, Any], fold: Any = None) -> gains.Gains:
    return gains.between(
        made["one"], made["two"], made["classes"], made["place"],
        fold=np.eye(K) if fold is None else fold, at_least=AT_LEAST,
    )  # fmt: skip


@pytest.fixture(scope="module")
def found() -> tuple[dict[str, Any], gains.Gains]:
    made = county(0)
    return made, between(made)


def test_planted_changes_find_the_real_ones(found: tuple[dict[str, Any], gains.Gains]) -> None:
    made, got = found
    real = made["gained"] >= AT_LEAST
    order = np.argsort(-got.probability[:, 0])
    length = int(np.flatnonzero(np.cumsum(real[order]) >= 0.8 * real.sum())[0]) + 1
    assert real.sum() >= 8
    assert 0.8 * real.sum() / length > 0.6
    # the share of tiles that show other ground, by binomial error and the pattern's own overlap
    assert abs(got.replaced - made["replaced"].mean()) < 0.12
    low, value, high = got.expected[0]
    assert low <= real.sum() <= high and low <= value <= high
    # what is stated errs on the side of caution: never fewer false ones than there are
    false = length - real[order[:length]].sum()
    stated = (1 - got.probability[order[:length], 0]).sum()
    assert false - 3 < stated < 0.7 * length
    listed = got.probability[:, 0] >= 0.5
    assert listed.sum() >= 3 and real[listed].mean() > 0.8
    big = np.flatnonzero(real & (got.probability[:, 0] > 0.5))
    assert np.abs(got.size[big, 0] - made["gained"][big]).mean() < 0.2


def test_probabilities_tell_any_two_tiles_apart(found: tuple[dict[str, Any], gains.Gains]) -> None:
    made, got = found
    for c in range(K):
        # a tile can gain so much of a class only where it had little enough of it
        room = made["classes"][:, :, c].mean(1) <= 1 - AT_LEAST
        assert not room.all() and (got.probability[~room, c] == 0).all()
        at = np.flatnonzero(room)
        order = at[np.argsort(-got.score[at, c], kind="stable")]
        p = got.probability[order, c]
        assert ((p >= 0) & (p <= 1)).all() and (np.diff(p) <= 0).all()
        assert len(np.unique(p[:100])) == 100


def test_a_class_is_judged_alike_whatever_the_others_are_joined_into(
    found: tuple[dict[str, Any], gains.Gains],
) -> None:
    made, apart = found
    assert K > 2
    fold = np.zeros((K, 2))
    fold[0, 0] = fold[1:, 1] = 1
    joined = between(made, fold)
    np.testing.assert_allclose(joined.score[:, 0], apart.score[:, 0], atol=1e-6)
    np.testing.assert_allclose(joined.expected[0], apart.expected[0], atol=1e-6)
    # what the others gained of each other is no change, and few tiles lost any of the first
    others = made["gained"] < 0
    assert joined.expected[1, 1] <= max(2.0, 2 * others.sum())


def test_of_a_class_that_the_earlier_date_lacks_nothing_is_said() -> None:
    made = county(1, built=0.0)
    made["classes"] = np.concatenate(
        [made["classes"], np.zeros((*made["classes"].shape[:2], 1), np.float32)], axis=2
    )
    got = between(made, np.eye(K + 1))
    assert got.told.tolist() == [True] * K + [False]
    assert (got.expected[K] == 0).all() and (got.probability[:, K] == 0).all()
    assert np.isfinite(got.expected).all()


def test_where_nothing_changed_nothing_is_called_changed() -> None:
    made = county(1, built=0.0)
    got = between(made)
    assert (got.expected[:, 0] == 0).all()
    assert (got.probability >= 0.5).any(axis=1).mean() < 0.01


def test_what_is_pasted_is_what_was_gained() -> None:
    rng = np.random.default_rng(2)
    classes = np.eye(3, dtype=np.float32)[rng.integers(0, 3, (30, S))]
    cells_ = np.concatenate([classes, rng.normal(size=(30, S, 2)).astype(np.float32)], axis=2)
    got = planted.pasted(cells_, classes, 200, rng)
    # the first numbers of a cell are its class: what it became stands in the cells themselves
    expected = (got.cells[:, :, :3] - classes[got.at]).mean(1)
    np.testing.assert_allclose(got.gained, expected, atol=1e-6)
    assert ((got.cells != cells_[got.at]).any(2).sum(1) <= S).all()
    other = planted.swapped(cells_, classes, 60, rng)
    np.testing.assert_array_equal(other.cells[:, :, :3], classes[other.at])
    assert np.bincount(other.at, minlength=30).max() <= 2  # each tile as often as any other


def test_distances_are_those_of_mahalanobis() -> None:
    rng = np.random.default_rng(3)
    one = rng.normal(size=(4000, 5)).astype(np.float32)
    two = one @ rng.normal(size=(5, 5)) + rng.normal(size=(4000, 5)) @ np.diag([1, 2, 3, 1, 0.5])
    two = two.astype(np.float32)
    classes = np.eye(2, dtype=np.float32)[rng.integers(0, 2, 4000)]
    sticks = contrast.fit(one, two, classes, rng)
    straight = Ridge(contrast.EXPECTED).fit(one, two)
    rest = two - straight.predict(one)
    np.testing.assert_allclose(one @ sticks.expected[:-1] + sticks.expected[-1],
                               straight.predict(one), atol=1e-3)  # fmt: skip
    cov = empirical_covariance(rest)
    cov = cov + contrast.SHRINK * np.trace(cov) / 5 * np.eye(5)
    wanted = np.sqrt(np.einsum("ij,jk,ik->i", rest, np.linalg.inv(cov), rest))
    got = np.linalg.norm(rest @ sticks.residual, axis=1)
    np.testing.assert_allclose(got, wanted, rtol=2e-3)


def test_points_are_what_the_label_raster_says(county: Any, county_tiles: Any) -> None:
    told = read_points(open_tileset(county_tiles.uri))
    assert told is not None
    table, points = told
    side = points.shape[1]
    grid, legend = county_tiles.grid, county_tiles.legend
    lookup = legend.lookup()
    rng = np.random.default_rng(0)
    with rasterio.open(county.labels[0]) as file:
        codes = file.read(1)
        for i in rng.choice(len(points), 20, replace=False):
            row, col = (int(table[n][i].as_py()) for n in ("row", "col"))
            t = (np.arange(side) + 0.5) / side * grid.tile_m
            x, y = np.meshgrid(col * grid.tile_m + t, -row * grid.tile_m - t)
            xs, ys = rasterio.warp.transform(grid.crs, file.crs, x.ravel(), y.ravel())
            r, c = rasterio.transform.rowcol(file.transform, xs, ys)
            wanted = [lookup.get(int(v), -2) for v in codes[np.array(r), np.array(c)]]
            assert (points[i].ravel() == wanted).mean() > 0.98  # a point on a border may differ


def convolved(out: str) -> tuple[models.Model, np.ndarray, np.ndarray]:
    """A model of one layer, by hand: 32 px squares -> 5 channels -> their mean -> 3 classes."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(5)
    kernel = (rng.normal(size=(5, 3, 32, 32)) / 1e5).astype(np.float32)
    last = rng.normal(size=(5, 3)).astype(np.float32)
    steps = [
        ("Cast", ["chips"], "wide", {"to": TensorProto.FLOAT}),
        ("Transpose", ["wide"], "planes", {"perm": [0, 3, 1, 2]}),
        ("Conv", ["planes", "kernel"], "map", {"strides": [32, 32]}),
        ("GlobalAveragePool", ["map"], "pool", {}),
        ("Flatten", ["pool"], "flat", {}),
        ("MatMul", ["flat", "last"], "logits", {}),
        ("Softmax", ["logits"], "probabilities", {}),
    ]
    graph = helper.make_graph(
        [helper.make_node(op, i, [o], name=o, **a) for op, i, o, a in steps], "g",
        [helper.make_tensor_value_info("chips", TensorProto.UINT8, ["N", 224, 224, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(v, n) for n, v in (("kernel", kernel), ("last", last))],
    )  # fmt: skip
    made = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
    info = models.ModelInfo(
        legend=from_names(["a", "b", "c"]), size_px=224, backbone={"name": "own"}
    )
    return models.save_model(out, made.SerializeToString(), info), kernel, last


def test_cells_are_the_places_whose_mean_the_last_layer_reads(
    county_tiles: Any, tmp_path: Path
) -> None:
    model, kernel, last = convolved(str(tmp_path / "own"))
    made = cells.kept(model, county_tiles, str(tmp_path / "m"))
    assert made is not None and made[1] == 49
    with_cells = made[0]
    rng = np.random.default_rng(6)
    chips = rng.integers(0, 256, (4, 224, 224, 3), np.uint8)
    chips[1:] //= np.array([2, 3, 4], np.uint8)[:, None, None, None]
    said = models.runner(with_cells, "fp32", features=True).predict(chips)
    squares = chips.reshape(4, 7, 32, 7, 32, 3).astype(np.float64)
    seen = np.einsum("naibjc,kcij->nabk", squares, kernel.astype(np.float64)).reshape(4, 49, 5)
    logits = seen.mean(1) @ last
    wanted = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(said.probabilities, wanted / wanted.sum(1, keepdims=True), atol=1e-4)
    got = said.features.reshape(4, -1, 49).transpose(0, 2, 1)
    # behind the main directions come those of the last layer, up to a constant
    main, classes = got[:, :, : cells.DIRECTIONS], got[:, :, cells.DIRECTIONS :]
    told = seen @ (last - last.mean(1, keepdims=True))
    np.testing.assert_allclose(classes - classes[:1, :1], told - told[:1, :1], atol=1e-3)
    # five channels have five main directions, which are orthonormal: distances are what they were
    assert not main[:, :, 5:].any()
    flat, own = main.reshape(-1, cells.DIRECTIONS), seen.reshape(-1, 5)
    a, b = rng.integers(0, len(flat), (2, 100))
    far = np.linalg.norm(own[a] - own[b], axis=1)
    np.testing.assert_allclose(np.linalg.norm(flat[a] - flat[b], axis=1), far, rtol=1e-3, atol=1e-3)


@pytest.mark.long
def test_built_ground_of_the_synthetic_county_is_listed_from_imagery(
    county: Any, county_tiles: Any, county_model: str, tmp_path: Path
) -> None:
    out = str(tmp_path / "out")
    got = change(
        [county_tiles.uri, county.imagery[1]], out, model=county_model, to_classes=["Developed"],
        min_probability=0.0, show=0,
    )  # fmt: skip
    assert got.method["kind"] == "planted changes" and got.reference > 0
    assert got.wanted == "any class to Developed"
    assert sum(f.value for f in got.net) == pytest.approx(0, abs=1e-6)
    for start, end, net in zip(got.areas[0], got.areas[1], got.net, strict=True):
        assert end.value == pytest.approx(start.value + net.value)
        assert net.low <= net.value <= net.high
    for i, row in enumerate(got.matrix):
        assert sum(e.value for e in row) == pytest.approx(got.areas[0][i].value)
    # every tile that could gain so much is in the list, and no two at the top are equal
    table = (tmp_path / "out" / "candidates.csv").read_text().splitlines()
    rows, points = read_points(county_tiles) or ({}, np.empty(0))
    had = (points == county_tiles.legend.id("Developed")).mean((1, 2))
    keys = list(zip(rows["row"].to_pylist(), rows["col"].to_pylist(), strict=True))
    listed = {tuple(map(int, line.split(",")[1:3])) for line in table[1:]}
    assert (had > 0.8).any()
    for key, share in zip(keys, had, strict=True):
        if not 0.7 < share < 0.8:  # points and cells do not weigh alike
            assert (key in listed) == (share < 0.75)


def test_a_series_is_a_chain_of_pairs(
    county: Any, county_tiles: Any, county_model: str, tmp_path: Path
) -> None:
    dates = [county_tiles.uri, county.imagery[1], county.imagery[0]]
    with pytest.raises(InputError, match="name the earliest date first"):
        change(dates, str(tmp_path / "wrong"), model=county_model, show=0)


def test_cells_need_imagery_and_tiles_enough(
    county_tiles: Any, county_model: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="--model"):
        change(["a", "b"], str(tmp_path / "o"), evidence_from="cells")
    with pytest.raises(InputError, match="--at-least"):
        change(["a", "b"], str(tmp_path / "o"), at_least=1.0)
