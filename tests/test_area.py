"""Areas against the published worked example and by simulation of sampling."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
from scipy.stats import binomtest

from geodesy import geodesic
from made_scores import GRID, certain, square, write_scores
from quadrat.areas import ACRES, area, estimate, from_confusion, reference, tables
from quadrat.areas.estimate import Sample
from quadrat.cli import run
from quadrat.errors import InputError, LabelError, ScoresError
from quadrat.grid import Grid, TileId
from quadrat.legend import load_legend

# Olofsson et al. 2014, table 8 and section 5: rows = map, columns = reference; mapped pixels of
# 30 m. Published: areas in ha with 95% half-widths, and the accuracies below.
CLASSES = ("Deforestation", "Forest gain", "Stable forest", "Stable non-forest")
COUNTS = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
MAPPED_HA = np.array([200_000, 150_000, 3_200_000, 6_450_000]) * 0.09
AREAS = [(21_158, 6_158), (11_686, 3_756), (285_770, 15_510), (581_386, 16_282)]
USERS = [(0.88, 0.07), (0.73, 0.10), (0.93, 0.04), (0.96, 0.02)]
PRODUCERS = [(0.75, 0.21), (0.85, None), (0.93, 0.03), (0.96, 0.02)]


def test_the_published_worked_example() -> None:
    got = from_confusion(COUNTS.T, MAPPED_HA, CLASSES)
    for row, mapped, (hectares, half) in zip(got.rows, MAPPED_HA, AREAS, strict=True):
        assert row.adjusted is not None and row.se_ha is not None
        assert row.raw_ha == pytest.approx(mapped)
        assert row.adjusted.value == pytest.approx(hectares, abs=0.6)
        assert 1.96 * row.se_ha == pytest.approx(half, abs=0.6)
        assert row.adjusted.high - row.adjusted.value == pytest.approx(half, abs=1.0)
    assert got.rows[0].adjusted is not None
    assert got.rows[0].adjusted.value / 0.09 == pytest.approx(235_086, abs=1)  # pixels
    found = got.accuracy
    assert found is not None
    assert found.overall.value == pytest.approx(0.947, abs=6e-4)
    assert (found.overall.high - found.overall.low) / 2 == pytest.approx(0.018, abs=6e-4)
    for figures, published in ((found.users, USERS), (found.producers, PRODUCERS)):
        for figure, (value, half) in zip(figures, published, strict=True):
            assert figure.value == pytest.approx(value, abs=6e-3)
            if half is not None:  # the other one's upper end is cut at 1
                assert (figure.high - figure.low) / 2 == pytest.approx(half, abs=6e-3)


def test_markdown_and_csv_carry_both_units_and_agree() -> None:
    got = from_confusion(COUNTS.T, MAPPED_HA, CLASSES)
    text = got.to_markdown()
    assert "| Deforestation | 0 | 69 |" not in text  # reference counts are by map class
    assert "21,158" in text and f"{21_157.76 * ACRES:,.0f}" in text
    table = list(csv.DictReader(io.StringIO(tables.csv_text(got))))
    assert [r["name"] for r in table] == list(CLASSES)
    assert {r["adjusted"] for r in table} == {"yes"}
    for row, (hectares, _) in zip(table, AREAS, strict=True):
        assert float(row["area_ha"]) == pytest.approx(hectares, abs=0.6)
        assert float(row["area_ac"]) == pytest.approx(float(row["area_ha"]) * 2.47105381467)
        assert float(row["low_ha"]) < float(row["area_ha"]) < float(row["high_ha"])


def population(rng: np.random.Generator, n: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """A map that over-states a rare class and misses part of a common one."""
    truth = rng.choice(3, n, p=[0.06, 0.30, 0.64])
    error = np.array([[0.7, 0.1, 0.2], [0.05, 0.8, 0.15], [0.08, 0.04, 0.88]])
    mapped = (rng.random(n)[:, None] < error[truth].cumsum(1)).argmax(1)
    return truth, mapped


@pytest.mark.parametrize("share", [0.02, 0.3])
def test_intervals_contain_the_truth_in_95_of_100_samples(share: float) -> None:
    """One closed population; samples of map classes; a large share needs the correction."""
    rng = np.random.default_rng(11)
    truth, mapped = population(rng)
    sizes = np.bincount(mapped, minlength=3).astype(float)
    true_share = np.bincount(truth, minlength=3) / len(truth)
    each = np.maximum((share * sizes).astype(int), 60)
    hits, raw_gap, gap, draws = np.zeros(3), np.zeros(3), np.zeros(3), 500
    for _ in range(draws):
        at = np.concatenate(
            [rng.choice(np.flatnonzero(mapped == h), each[h], replace=False) for h in range(3)]
        )
        sample = Sample(mapped[at], np.eye(3)[truth[at]], sizes, counted=True)
        value = estimate.mean(sample, sample.values)
        se = estimate.standard_error(sample, sample.values)
        hits += np.abs(value - true_share) <= 1.96 * se
        gap += (value - true_share) / draws
        raw_gap += (sizes / sizes.sum() - true_share) / draws
    assert np.all((hits / draws >= 0.93) & (hits / draws <= 0.97)), hits / draws
    assert np.abs(gap).max() < 0.002 < 0.02 < np.abs(raw_gap).max()  # unbiased; the map is not


def test_intervals_of_change_contain_the_truth_in_95_of_100_samples() -> None:
    """Two maps with mistakes; samples of each of their transitions; change and net change."""
    rng = np.random.default_rng(5)
    first, shown_a = population(rng, 8000)
    last = np.where(rng.random(8000) < 0.05, 0, first)
    wrong = rng.random(8000) < 0.08
    shown_b = np.where(wrong, rng.integers(0, 3, 8000), last)
    truth, mapped = first * 3 + last, shown_a * 3 + shown_b
    sizes = np.bincount(mapped, minlength=9).astype(float)
    net = np.zeros((3, 3))
    net[:, 0], net[0] = net[:, 0] + 1, net[0] - 1
    moved = 1 - np.eye(3)
    weights = np.stack([net.ravel(), moved.ravel()], axis=1)
    true = weights[truth].mean(0)
    hits, draws = np.zeros(2), 500
    for _ in range(draws):
        at = np.concatenate(
            [
                rng.choice(inside, min(len(inside), max(50, len(inside) // 5)), replace=False)
                for inside in (np.flatnonzero(mapped == h) for h in range(9))
                if len(inside)
            ]
        )
        sample = Sample(mapped[at], np.eye(9)[truth[at]], sizes, counted=True)
        values = sample.values @ weights
        se = estimate.standard_error(sample, values)
        hits += np.abs(estimate.mean(sample, values) - true) <= 1.96 * se
    assert np.all((hits / draws >= 0.93) & (hits / draws <= 0.97)), hits / draws


def test_block_samples_need_the_variance_between_blocks() -> None:
    """Reference tiles come 25 to a block and err together: single-tile errors are too small."""
    rng = np.random.default_rng(4)
    blocks, size = 400, 25
    rate = rng.beta(0.6, 1.4, blocks)  # share of class 1 on ground mapped as class 0
    truth = (rng.random((blocks, size)) < rate[:, None]).astype(int)
    true_share = truth.mean()
    hits = {"blocks": 0, "tiles": 0}
    draws = 500
    for _ in range(draws):
        at = rng.choice(blocks, 40, replace=False)
        values = np.eye(2)[truth[at].ravel()]
        stratum = np.zeros(len(values), np.int64)
        for name, clusters in (("blocks", np.repeat(at, size)), ("tiles", None)):
            sample = Sample(stratum, values, np.array([blocks * size, 0.0]), clusters=clusters)
            se = estimate.standard_error(sample, values)[1]
            hits[name] += abs(estimate.mean(sample, values)[1] - true_share) <= 1.96 * se
    assert 0.93 <= hits["blocks"] / draws <= 0.985
    assert hits["tiles"] / draws < 0.7


def test_shares_of_tiles_may_stand_for_classes() -> None:
    # Half the plots of a stratum are 40% class 1: the mean is 0.2 and the spread known
    values = np.array([[0.6, 0.4], [1.0, 0.0]] * 50)
    sample = Sample(np.zeros(100, np.int64), values, np.array([10.0, 0.0]))
    assert estimate.mean(sample, values) == pytest.approx([0.8, 0.2])
    se = np.std(values[:, 1], ddof=1) / 10
    assert estimate.standard_error(sample, values) == pytest.approx([se, se])


def test_a_census_has_no_error() -> None:
    truth, mapped = population(np.random.default_rng(0), 500)
    sizes = np.bincount(mapped, minlength=3).astype(float)
    sample = Sample(mapped, np.eye(3)[truth], sizes, counted=True)
    assert estimate.mean(sample, sample.values) == pytest.approx(np.bincount(truth) / 500)
    assert estimate.standard_error(sample, sample.values) == pytest.approx([0, 0, 0])


def test_small_strata_are_pooled() -> None:
    assert estimate.pool_small([9, 1, 1, 5], [10, 10, 10, 10]).tolist() == [0, 1, 1, 3]
    assert estimate.pool_small([9, 1, 0, 5], [10, 9, 0, 20]).tolist() == [0, 3, 2, 3]
    with pytest.raises(InputError, match="at least 2"):
        estimate.pool_small([1, 0], [5, 5])


def test_bad_matrices_are_said() -> None:
    with pytest.raises(InputError, match="counts"):
        from_confusion(-COUNTS, MAPPED_HA, CLASSES)
    with pytest.raises(InputError, match="one a class"):
        from_confusion(COUNTS, MAPPED_HA, CLASSES[:3])
    with pytest.raises(LabelError, match="Forest gain"):
        from_confusion(COUNTS.T * np.array([1, 0, 1, 1]), MAPPED_HA, CLASSES)
    with pytest.raises(InputError, match="level"):
        from_confusion(COUNTS.T, MAPPED_HA, CLASSES, level=95)


# -- the verb, on scores ---------------------------------------------------------------------------

WRONG = np.array([  # rows = truth: what the map shows, in six classes
    [0.80, 0.04, 0.04, 0.04, 0.04, 0.04], [0.02, 0.84, 0.02, 0.02, 0.08, 0.02],
    [0.02, 0.02, 0.90, 0.02, 0.02, 0.02], [0.00, 0.02, 0.04, 0.90, 0.00, 0.04],
    [0.04, 0.20, 0.04, 0.04, 0.60, 0.08], [0.02, 0.02, 0.02, 0.20, 0.04, 0.70],
])  # fmt: skip


def county(
    tmp_path: Path, seed: int = 0, side: int = 60, change: float = 0.05
) -> tuple[str, str, np.ndarray, np.ndarray]:
    """Two dates of scores with a test split tile by tile; the true classes of all tiles."""
    rng = np.random.default_rng(seed)
    n = side * side
    a = rng.choice(6, n, p=[0.05, 0.2, 0.15, 0.4, 0.1, 0.1])
    b = np.where((rng.random(n) < change) & (a != 2), 2, a)
    rows, cols = square(side)
    split = np.where(rng.random(n) < 0.3, "test", "train")
    uris = []
    for name, truth in (("2011", a), ("2016", b)):
        shown = (rng.random(n)[:, None] < WRONG[truth].cumsum(1)).argmax(1)
        known = np.where(rng.random(n) < 0.97, truth, -1)
        uris.append(
            write_scores(
                str(tmp_path / name),
                rows,
                cols,
                certain(shown),
                truth=known,
                split=split,
                date=name,
            )
        )
    return uris[0], uris[1], a, b


def test_one_date_recovers_the_true_areas(tmp_path: Path) -> None:
    scores, _, truth, _ = county(tmp_path)
    got = area(scores, out=str(tmp_path / "area"))
    one = geodesic(Grid("EPSG:26917"), TileId(-18296, 2533))  # in the middle of the square
    assert got.adjusted and got.total_ha == pytest.approx(3600 * one, rel=1e-5)
    assert [r.name for r in got.rows] == list(load_legend("nlcd6").names)
    true_ha = np.bincount(truth, minlength=6) * one
    raw_off = np.array([r.raw_ha for r in got.rows]) - true_ha
    for row, true in zip(got.rows, true_ha, strict=True):
        assert row.adjusted is not None and row.se_ha is not None
        assert abs(row.adjusted.value - true) < 4 * row.se_ha
    adjusted = np.array([r.adjusted.value for r in got.rows if r.adjusted]) - true_ha
    assert np.abs(adjusted).sum() < 0.6 * np.abs(raw_off).sum()
    assert sum(r.adjusted.value for r in got.rows if r.adjusted) == pytest.approx(got.total_ha)
    assert sum(r.tiles for r in got.rows) == 3600
    for kind in ("md", "csv", "png", "json"):
        assert (tmp_path / "area" / f"area.{kind}").stat().st_size > 200
    assert (tmp_path / "area" / "area.png").read_bytes()[:4] == b"\x89PNG"
    assert json.loads((tmp_path / "area" / "area.json").read_text())["adjusted"] is True


def test_change_and_net_change_recover_the_truth(tmp_path: Path) -> None:
    first, second, a, b = county(tmp_path)
    got = area(first, second, legend="nlcd3")
    fold = np.array([2, 1, 0, 2, 2, 2])
    rows = {r.name: r for r in got.rows}
    true = ((fold[a] == 2) & (fold[b] == 0)).sum() * 224**2 / 1e4
    new = rows["Undeveloped → Developed"]
    assert new.adjusted is not None and new.se_ha is not None
    assert abs(new.adjusted.value - true) < 3 * new.se_ha
    assert new.raw_ha > 1.5 * true  # the two maps' mistakes
    net = rows["Developed, net"].adjusted
    assert net is not None
    gain = ((fold[b] == 0).sum() - (fold[a] == 0).sum()) * 224**2 / 1e4
    assert net.low < gain < net.high
    assert sum(r.adjusted.value for r in got.rows if r.kind == "net" and r.adjusted) == (
        pytest.approx(0, abs=1e-6)
    )
    everything = [r for r in got.rows if r.kind in ("transition", "stable")]
    assert sum(r.tiles for r in everything) == 3600


def mean_ha(rows: np.ndarray, cols: np.ndarray, crs: str = "EPSG:26917") -> float:
    """Mean ground of the tiles by pyproj, hectares."""
    tiles = [TileId(int(r), int(c)) for r, c in zip(rows, cols, strict=True)]
    return float(np.mean([geodesic(Grid(crs), t) for t in tiles]))


def test_hectares_are_of_the_ground_and_uneven_tiles_are_told_of(tmp_path: Path) -> None:
    rows, cols = square(6)
    rows = rows - rows.min() - 20500 + 120 * (rows - rows.min())  # 135 km of northing
    cols = cols - cols.min() - 39230
    p = certain(np.arange(36) % 6)
    scores = write_scores(str(tmp_path / "s"), rows, cols, p, grid=Grid("EPSG:3857"))
    got = area(scores, unadjusted=True)
    assert got.total_ha == pytest.approx(36 * mean_ha(rows, cols, "EPSG:3857"), rel=1e-6)
    assert got.tile_ha == pytest.approx(0.62 * 5.0176, rel=0.02)
    assert any("ha of ground in EPSG:3857" in note for note in got.notes)
    flat = write_scores(str(tmp_path / "f"), rows, cols, p, grid=Grid("EPSG:5070"))
    even = area(flat, unadjusted=True)
    assert even.tile_ha == pytest.approx(5.0176, rel=1e-6) and not even.notes


def test_without_reference_labels_area_is_refused_or_marked(tmp_path: Path) -> None:
    rows, cols = square(6)
    scores = write_scores(str(tmp_path / "s"), rows, cols, certain(np.arange(36) % 6))
    with pytest.raises(LabelError, match=r"no tile has a reference label.*--unadjusted"):
        area(scores)
    got = area(scores, unadjusted=True, out=str(tmp_path / "out"))
    assert not got.adjusted and all(r.adjusted is None for r in got.rows)
    assert got.rows[0].raw_ha == pytest.approx(6 * mean_ha(rows, cols))
    assert "**Unadjusted**" in got.to_markdown() and "interval |" not in got.to_markdown()
    table = list(csv.DictReader((tmp_path / "out" / "area.csv").read_text().splitlines()))
    assert {r["adjusted"] for r in table} == {"no"} and {r["se_ha"] for r in table} == {""}


def test_labels_of_training_tiles_are_no_reference(tmp_path: Path) -> None:
    rows, cols = square(8)
    truth = np.arange(64) % 6
    scores = write_scores(
        str(tmp_path / "s"), rows, cols, certain(truth), truth=truth, split=np.full(64, "train")
    )
    with pytest.raises(LabelError, match="did not train the model"):
        area(scores)
    assert any("overstated" in n for n in area(scores, split="all").notes)


def test_interpreted_plots_from_a_table(tmp_path: Path) -> None:
    scores, _, truth, _ = county(tmp_path)
    rows, cols = square(60)
    names = load_legend("nlcd6").names
    pick = np.random.default_rng(1).choice(3600, 400, replace=False)
    x, y = GRID.centres(rows, cols)
    by_tile = tmp_path / "plots.csv"
    by_tile.write_text(
        "row,col,label\n" + "".join(f"{rows[i]},{cols[i]},{names[truth[i]]}\n" for i in pick)
        + "0,0,Forest\n"
    )  # fmt: skip
    by_place = tmp_path / "places.csv"
    by_place.write_text(
        "x,y,label\n"
        + "".join(f"{x[i] + 90},{y[i] - 90},{names[truth[i]].lower()}\n" for i in pick),
        "utf-8-sig",
    )
    one, two = area(scores, reference=str(by_tile)), area(scores, reference=str(by_place))
    assert [r.adjusted for r in one.rows] == [r.adjusted for r in two.rows]
    by_point = tmp_path / "points.gpkg"
    shapes = geopandas.points_from_xy(x[pick] + 90, y[pick] - 90, crs=GRID.crs)
    frame = geopandas.GeoDataFrame({"label": [names[truth[i]] for i in pick]}, geometry=shapes)
    frame.to_crs(4326).to_file(by_point)
    assert [r.adjusted for r in area(scores, reference=str(by_point)).rows] == [
        r.adjusted for r in two.rows
    ]
    assert sum(r.reference for r in one.rows) == 400
    assert any("1 plots lie outside" in n for n in one.notes)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("row,label\n1,Forest\n", "needs row and col"),
        ("row,col,label\n1,x,Forest\n", "line 2 names no place"),
        ("row,col,label\n99999999999,1,Forest\n", "line 2 names no place"),
        ("row,col,label\n-18326,2503,Wood\n", "line 2 has the label 'Wood'"),
        ("row,col,label\n-18326,2503,Shrubs\n", "did you mean Shrub"),
        ("row,col,label\n1,1,Forest\n", "none of 1 plots"),
        ("row,col,label\n-18326,2503,Forest\n-18326,2503,Shrub\n", "twice"),
    ],
)
def test_bad_plot_tables_are_said(tmp_path: Path, text: str, match: str) -> None:
    rows, cols = square(6)
    scores = write_scores(str(tmp_path / "s"), rows, cols, certain(np.arange(36) % 6))
    (tmp_path / "plots.csv").write_text(text)
    with pytest.raises(LabelError, match=match):
        area(scores, reference=str(tmp_path / "plots.csv"))


def test_dates_that_cannot_be_compared_are_said(tmp_path: Path) -> None:
    rows, cols = square(6)
    p = certain(np.arange(36) % 6)
    first = write_scores(str(tmp_path / "a"), rows, cols, p)
    other = write_scores(str(tmp_path / "b"), rows, cols, p, grid=Grid("EPSG:26918"))
    with pytest.raises(ScoresError, match=r"different grids .crs.*--crs"):
        area(first, other, unadjusted=True)
    three = write_scores(
        str(tmp_path / "c"), rows, cols, certain(np.arange(36) % 3, 3), legend=load_legend("nlcd3")
    )
    with pytest.raises(ScoresError, match="--legend"):
        area(first, three, unadjusted=True)
    assert area(first, three, unadjusted=True, legend="nlcd3").total_ha > 0
    far = write_scores(str(tmp_path / "d"), rows + 100, cols, p)
    with pytest.raises(ScoresError, match="no tile in common"):
        area(first, far, unadjusted=True)
    placeless = write_scores(str(tmp_path / "e"), rows, cols, p, grid=None)
    with pytest.raises(ScoresError, match="without a place"):
        area(placeless, unadjusted=True)


def test_tiles_of_one_date_only_are_left_out_and_said(tmp_path: Path) -> None:
    rows, cols = square(6)
    p = certain(np.arange(36) % 6)
    first = write_scores(str(tmp_path / "a"), rows, cols, p)
    second = write_scores(str(tmp_path / "b"), rows[6:], cols[6:], p[6:])
    got = area(first, second, unadjusted=True)
    assert got.total_ha == pytest.approx(30 * mean_ha(rows[6:], cols[6:]))
    assert any("6 tiles" in n for n in got.notes)


def test_references_in_blocks_are_noticed(tmp_path: Path) -> None:
    rows, cols = square(64)
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 6, 4096)
    block = (rows // 8 * 31 + cols // 8 * 17) % 5 == 0
    scores = write_scores(
        str(tmp_path / "s"), rows, cols, certain(truth), truth=truth,
        split=np.where(block, "test", "train"),
    )  # fmt: skip
    assert any("blocks of 8 x 8" in n for n in area(scores).notes)
    assert not any("blocks of" in n for n in area(scores, blocks=0).notes)
    single = rng.random(4096) < 0.2
    assert not reference.in_blocks(rows, cols, single)
    assert reference.in_blocks(rows, cols, block)


def test_the_command_prints_the_table_and_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores, second, _, _ = county(tmp_path, side=30)
    assert run(["area", scores, "--legend", "nlcd3"]) == 0
    assert "Developed" in capsys.readouterr().out
    assert run(["area", scores, second, "--out", str(tmp_path / "o"), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["dates"] == ["2011", "2016"] and data["rows"][0]["adjusted_ha"]["value"] >= 0
    assert run(["area", str(tmp_path / "none")]) == 1
    assert "quadrat score" in capsys.readouterr().err


def test_a_reference_of_two_plots_is_refused(tmp_path: Path) -> None:
    scores, _, truth, _ = county(tmp_path)
    rows, cols = square(60)
    names = load_legend("nlcd6").names
    plots = tmp_path / "plots.csv"
    plots.write_text(
        "row,col,label\n" + "".join(f"{rows[i]},{cols[i]},{names[truth[i]]}\n" for i in (7, 900))
    )
    with pytest.raises(LabelError, match=r"2 reference tiles on the map say nothing.*at least 10"):
        area(scores, reference=str(plots))


def test_a_sample_without_mistakes_bounds_them_exactly(tmp_path: Path) -> None:
    """Of n plots all right, p of the map is wrong with (1 - p)^n = 0.05 at the 95% bound."""
    rows, cols = square(12)
    truth = np.arange(144) % 6
    scores = write_scores(str(tmp_path / "s"), rows, cols, certain(truth))
    names = load_legend("nlcd6").names
    plots = tmp_path / "plots.csv"
    plots.write_text(
        "row,col,label\n" + "".join(f"{rows[i]},{cols[i]},{names[truth[i]]}\n" for i in range(12))
    )
    bound = binomtest(12, 12).proportion_ci(0.9, method="exact").low  # two-sided 90%: 95% one-sided
    notes = area(scores, reference=str(plots)).notes
    assert any(f"up to {1 - bound:.1%} of the tiles may be wrong" in n for n in notes)
