"""Samples as interpreters and statisticians meet them: who is drawn, how likely, in which files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely

from made_scores import GRID, certain, square, write_scores
from quadrat.changes import change
from quadrat.cli import run
from quadrat.errors import InputError, LegendError, ScoresError
from quadrat.grid import TileId
from quadrat.legend import load_legend
from quadrat.products import own_files
from quadrat.sampling import allocation, draw, open_sample, sample, strata
from quadrat.sampling.allocation import Goal
from quadrat.sampling.frame import read
from quadrat.sampling.strata import Strata

SIDE = 40
NAMES = load_legend("nlcd6").names


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> str:
    """1,600 tiles of six classes, some of them unsure."""
    rng = np.random.default_rng(3)
    rows, cols = square(SIDE)
    ids = rng.choice(6, SIDE * SIDE, p=[0.02, 0.18, 0.2, 0.4, 0.1, 0.1])
    p = np.where(rng.random(len(ids))[:, None] < 0.6, certain(ids, p=0.95), certain(ids, p=0.55))
    return write_scores(str(tmp_path_factory.mktemp("s") / "scores"), rows, cols, p, date="2018")


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A change of 3% of 900 tiles to Developed."""
    rng = np.random.default_rng(5)
    rows, cols = square(30)
    first = rng.choice(6, 900, p=[0.05, 0.2, 0.15, 0.4, 0.1, 0.1])
    last = np.where((rng.random(900) < 0.04) & (first != 2), 2, first)
    folder = tmp_path_factory.mktemp("c")
    days = []
    for day, ids in (("2011", first), ("2016", last)):
        sure = rng.uniform(0.5, 0.99, 900)
        shown = np.where(rng.random(900) < sure, ids, rng.integers(0, 6, 900))
        p = (1 - sure[:, None]) / 5 + np.eye(6)[shown] * (sure - (1 - sure) / 5)[:, None]
        split = np.where(rng.random(900) < 0.5, "test", "train")
        days.append(
            write_scores(str(folder / day), rows, cols, p, date=day, truth=ids, split=split)
        )
    change(days, str(folder / "change"), show=0)
    return str(folder / "change")


def table(folder: str) -> list[dict[str, str]]:
    return list(csv.DictReader(Path(folder, "sample.csv").read_text().splitlines()))


# -- files -----------------------------------------------------------------------------------------


def test_plots_open_in_geopandas_where_their_tiles_are(scores: str, tmp_path: Path) -> None:
    made = sample(scores, str(tmp_path / "s"), plots=120, reserve=12, seed=4)
    frame = geopandas.read_file(tmp_path / "s" / "sample.gpkg", layer="plots")
    rows = table(str(tmp_path / "s"))
    assert len(frame) == len(rows) == len(made) == 132 and frame.crs.to_epsg() == 4326
    assert frame["plot"].tolist() == list(range(1, 133))
    assert frame["reserve"].sum() == 12 and frame["reserve"].tolist()[-12:] == [True] * 12
    metres = frame.to_crs(GRID.crs)
    for at in (0, 60, 131):
        box = shapely.box(*GRID.bounds(TileId(frame["row"][at], frame["col"][at])))
        assert metres.geometry[at].symmetric_difference(box).area < 5  # of 50,176 square metres
        assert rows[at]["tile"] == f"r{frame['row'][at]}_c{frame['col'][at]}"
        centre = geopandas.GeoSeries([box.centroid], crs=GRID.crs).to_crs(4326)[0]
        assert (frame["lon"][at], frame["lat"][at]) == pytest.approx((centre.x, centre.y), abs=1e-6)
    for column in ("stratum_size", "stratum_sample", "probability"):
        assert [float(r[column]) for r in rows] == pytest.approx(frame[column].tolist())


def test_the_tables_tell_an_interpreter_nothing_of_the_map(scores: str, tmp_path: Path) -> None:
    sample(scores, str(tmp_path / "s"), plots=100, export=("kml", "ceo", "template"))
    for name in ("sample.csv", "sample.gpkg", "sample.kml", "ceo_plots.csv"):
        content = (tmp_path / "s" / name).read_bytes()
        assert not [n for n in NAMES if n.encode() in content], name
    strata_ = json.loads((tmp_path / "s" / "sample.json").read_text())["strata"]
    assert [s["name"] for s in strata_] == list(NAMES)


def test_probabilities_are_plots_over_tiles_of_the_stratum(scores: str, tmp_path: Path) -> None:
    made = sample(scores, str(tmp_path / "s"), plots=150)
    mapped = dict(zip(zip(*square(SIDE), strict=True), read(scores).mapped[:, 0], strict=True))
    sizes = np.bincount(list(mapped.values()), minlength=6)
    for row in table(str(tmp_path / "s")):
        mine = mapped[int(row["row"]), int(row["col"])]
        assert made.strata[int(row["stratum"][1:]) - 1].name == NAMES[mine]
        assert int(row["stratum_size"]) == sizes[mine]
        assert float(row["probability"]) == int(row["stratum_sample"]) / sizes[mine]
    assert sum(s.plots for s in made.strata) == 150 and min(s.plots for s in made.strata) >= 12


def test_the_same_seed_gives_the_same_bytes(scores: str, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        sample(scores, str(tmp_path / name), plots=50, seed=seed)
    for file in ("sample.csv", "sample.gpkg", "sample.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert (tmp_path / "a/sample.csv").read_bytes() != (tmp_path / "c/sample.csv").read_bytes()


def test_a_sample_is_read_back_and_a_changed_table_is_refused(scores: str, tmp_path: Path) -> None:
    made = sample(scores, str(tmp_path / "s"), plots=60, reserve=5)
    again = open_sample(str(tmp_path / "s"))
    assert again.to_dict() == made.to_dict() and again.digest == made.digest
    for name in ("rows", "cols", "stratum", "probability", "reserve"):
        assert np.array_equal(getattr(again, name), getattr(made, name))
    place = tmp_path / "s" / "sample.csv"
    place.write_text(place.read_text().replace("\n1,", "\n2,"))
    with pytest.raises(InputError, match="not the table that was drawn"):
        open_sample(str(tmp_path / "s"))


def test_a_sample_is_not_replaced_unasked_and_never_with_answers(
    scores: str, tmp_path: Path
) -> None:
    out = str(tmp_path / "s")
    sample(scores, out, plots=50)
    with pytest.raises(InputError, match=r"holds a sample.*--overwrite"):
        sample(scores, out, plots=60)
    assert len(sample(scores, out, plots=60, overwrite=True)) == 60
    (tmp_path / "s" / "review.gpkg").write_bytes(b"answers")
    with pytest.raises(InputError, match="holds answers to its sample"):
        sample(scores, out, plots=50, overwrite=True)
    assert (tmp_path / "s" / "review.gpkg").read_bytes() == b"answers"
    assert not own_files("sample")("review.gpkg")


# -- who is drawn ----------------------------------------------------------------------------------


@pytest.mark.parametrize("design", ["stratified", "systematic"])
def test_every_tile_is_drawn_as_often_as_its_probability_says(scores: str, design: str) -> None:
    frame = read(scores).take(np.arange(120))
    of = np.repeat([0, 1], [90, 30])
    groups = Strata(of, ("a", "b"), ("", ""))
    counts, none = np.array([9, 10]), np.zeros(2, np.int64)
    rng, hits = np.random.default_rng(0), np.zeros(120)
    for _ in range(4000):
        if design == "systematic":
            got = draw.systematic(frame, groups, counts, none, int(rng.integers(1 << 30)))
        else:
            got = draw.at_random(groups, counts, none, rng)
        assert len(np.unique(got.places)) == 19
        hits[got.places] += 1
    expected = np.where(of == 0, 0.1, 1 / 3)
    assert np.abs(hits / 4000 - expected).max() < 4.5 * np.sqrt(0.25 / 4000)


def test_the_first_plots_of_a_stratum_are_themselves_a_random_sample() -> None:
    """Reserve and unfinished work: any first part may stand for the stratum."""
    groups, rng = Strata(np.zeros(20, np.int64), ("a",), ("",)), np.random.default_rng(1)
    hits = np.zeros(20)
    for _ in range(3000):
        got = draw.at_random(groups, np.array([6]), np.array([3]), rng)
        hits[got.places[:3]] += 1
        assert not set(got.places[:6]) & set(got.places[6:]) and got.reserve.sum() == 3
    assert np.abs(hits / 3000 - 0.15).max() < 0.03


def test_systematic_plots_spread_over_the_ground(scores: str, tmp_path: Path) -> None:
    even = sample(scores, str(tmp_path / "s"), plots=100, design="systematic")
    quarters = np.bincount((even.rows - even.rows.min()) // 20 * 2 + (even.cols - 2503) // 20)
    assert quarters.tolist() == pytest.approx([25] * 4, abs=2)
    assert [s.name for s in even.strata] == ["all"]


def test_the_path_visits_neighbours() -> None:
    rows, cols = square(16)
    for seed in range(5):
        way = draw.path(rows, cols, seed)
        assert sorted(way.tolist()) == list(range(256))
        steps = np.abs(np.diff(rows[way])) + np.abs(np.diff(cols[way]))
        assert (steps == 1).mean() > 0.9 and steps.mean() < 2


def test_clusters_are_whole_blocks(scores: str, tmp_path: Path) -> None:
    made = sample(scores, str(tmp_path / "s"), plots=90, design="clusters", cluster=4)
    blocks = {(r // 4, c // 4) for r, c in zip(made.rows, made.cols, strict=True)}
    rows, cols = square(SIDE)
    inside = [(r // 4, c // 4) in blocks for r, c in zip(rows, cols, strict=True)]
    assert sum(inside) == len(made) and 60 < len(made) < 130
    assert np.allclose(made.probability, len(blocks) / len(set(zip(rows // 4, cols // 4,
                                                                   strict=True))))  # fmt: skip


# -- strata ----------------------------------------------------------------------------------------


def test_several_strata_are_crossed(scores: str, tmp_path: Path) -> None:
    made = sample(scores, str(tmp_path / "s"), plots=200, strata=("class", "certainty"), minimum=5)
    names = {s.name for s in made.strata}
    assert {"Forest, certain", "Forest, unsure"} <= names and len(names) == 12
    assert all(s.plots >= min(5, s.tiles) for s in made.strata)


def test_regions_are_strata_by_the_tiles_centres(scores: str, tmp_path: Path) -> None:
    rows, cols = square(SIDE)
    left, bottom, right, top = (
        cols.min() * 224, -(rows.max() + 1) * 224, (cols.min() + 10) * 224, -rows.min() * 224
    )  # fmt: skip
    shapes = geopandas.GeoDataFrame(
        {"town": ["Ash", "Elm"]}, crs=GRID.crs,
        geometry=[shapely.box(left, bottom, right, top),
                  shapely.box(right, bottom, right + 5 * 224 + 100, top)],
    )  # fmt: skip
    shapes.to_crs(4326).to_file(tmp_path / "towns.gpkg")
    made = sample(
        scores, str(tmp_path / "s"), plots=100, strata=("region",), minimum=10,
        regions=str(tmp_path / "towns.gpkg"), region_field="town",
    )  # fmt: skip
    assert {s.name: s.tiles for s in made.strata} == {"Ash": 400, "Elm": 200, "elsewhere": 1000}
    inside = sample(scores, str(tmp_path / "w"), plots=50, within=str(tmp_path / "towns.gpkg"))
    assert inside.info["frame"]["tiles"] == 600
    assert (inside.cols < cols.min() + 15).all()


def test_an_omission_stratum_holds_what_may_hide_change(changed: str, tmp_path: Path) -> None:
    made = sample(changed, str(tmp_path / "s"), plots=200, to_classes=("Developed",))
    frame = read(changed)
    assert made.dates == ("2011", "2016")
    p = strata.change_probability(frame, strata.wanted_moves(frame, (), ("Developed",)))
    sizes = {s.name: s.tiles for s in made.strata}
    assert sizes["changed"] == (p >= 0.5).sum() > 5
    developed = frame.legend.names.index("Developed")
    assert frame.ends is not None
    more = np.log(frame.ends[:, 1, developed]) - np.log(frame.ends[:, 0, developed])
    ranks = [np.argsort(np.argsort(v, kind="stable")) for v in (p, more)]
    place_of = np.argsort(np.argsort(ranks[0] + ranks[1], kind="stable")) / 899
    assert sizes["unchanged"] < (place_of < 0.7).sum()  # some lie beside changed tiles
    place = {k: i for i, k in enumerate(zip(frame.rows, frame.cols, strict=True))}
    for row, col, of in zip(made.rows, made.cols, made.stratum, strict=True):
        near = [p[place[row + i, col + j]] for i in (-1, 0, 1) for j in (-1, 0, 1)
                if (row + i, col + j) in place]  # fmt: skip
        own, rank = p[place[row, col]], place_of[place[row, col]]
        name = made.strata[of].name
        assert (name == "changed") == (own >= 0.5)
        hides = rank >= 0.7 or max(near) >= 0.5
        assert name.startswith("omission") == (hides and own < 0.5)
        if name == "omission, likeliest 15%":
            assert 0.85 <= rank < 0.93
    plain = sample(changed, str(tmp_path / "p"), plots=80, omission=False, minimum=10)
    assert [s.name for s in plain.strata] == ["changed", "unchanged"]


# -- allocation ------------------------------------------------------------------------------------


def test_neyman_gives_more_to_what_differs_more() -> None:
    sizes, spread = np.array([1000, 1000, 500]), np.array([0.1, 0.3, 0.2])
    got = allocation.allocate(allocation.neyman(sizes, spread), sizes, 500, 10)
    assert got.tolist() == [100, 300, 100]
    assert (
        allocation.allocate(allocation.equal(sizes, spread), sizes, 300, 10).tolist() == [100] * 3
    )
    assert allocation.allocate(sizes.astype(float), sizes, 250, 10).tolist() == [100, 100, 50]


def test_minimum_and_size_bound_every_stratum() -> None:
    rng = np.random.default_rng(2)
    for _ in range(200):
        h = int(rng.integers(1, 8))
        sizes, least = rng.integers(1, 300, h), int(rng.integers(0, 30))
        floor = np.minimum(sizes, least)
        n = int(rng.integers(floor.sum(), sizes.sum() + 1))
        got = allocation.allocate(rng.random(h) ** 4, sizes, n, least)
        assert got.sum() == n and (got >= floor).all() and (got <= sizes).all()


def test_a_goal_takes_the_smallest_sample_that_reaches_it() -> None:
    sizes, spread = np.array([8000, 2000]), np.array([0.15, 0.45])
    goal = Goal("Developed", 0.1, 0.95, 0.3)
    weights = allocation.neyman(sizes, spread)
    got = allocation.needed(goal, sizes, spread, weights, 20)
    half = allocation.expected_half_width
    assert half(got, sizes, spread, 0.95) <= 0.03
    fewer = allocation.allocate(weights, sizes, int(got.sum()) - 1, 20)
    assert half(fewer, sizes, spread, 0.95) > 0.03
    # Cochran 1977, equation 5.24: without assurance, n for a fixed variance
    w = sizes / sizes.sum()
    plain = (w @ spread) ** 2 / ((0.03 / 1.96) ** 2 + w @ spread**2 / sizes.sum())
    assert plain < got.sum() < 1.35 * plain


def test_a_plan_says_what_it_assumes(scores: str, tmp_path: Path) -> None:
    made = sample(scores, str(tmp_path / "s"), area="Developed", half_width=0.2, accuracy=0.85)
    plan = json.loads((tmp_path / "s" / "sample.json").read_text())["allocation"]
    assert plan["goal"]["of"] == "Developed" and plan["goal"]["half_width"] == 0.2
    assert "right on 85%" in plan["assumes"] and plan["expected_half_width"] <= 0.2
    wider = sample(scores, str(tmp_path / "w"), area="Developed", half_width=0.3, accuracy=0.85)
    assert len(wider) < len(made)
    own = sample(scores, str(tmp_path / "o"), area="Developed", half_width=0.3)
    assert "the map's own shares" in own.info["allocation"]["assumes"]


# -- the verb --------------------------------------------------------------------------------------


def test_the_command_says_strata_goal_and_what_it_assumes(
    scores: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "s")
    words = ["sample", scores, "--out", out, "--area", "Forest", "--half-width", "15%"]
    assert run([*words, "--accuracy", "0.8", "--reserve", "10"]) == 0
    said = capsys.readouterr().out
    for part in ("Forest", "goal: Forest to +-15%", "assumes: the map is right on 80%", "reserve"):
        assert part in said
    assert run([*words, "--overwrite", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["purpose"] == "estimation"


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"plots": 5000}, "5,000 plots of 1,600 tiles"),
        ({"plots": 1}, "at least 2"),
        ({"plots": 50, "minimum": 40}, "more --plots, a smaller --minimum"),
        ({"half_width": 0.1}, "--area CLASS"),
        ({"half_width": 10.0, "area": "Forest"}, "no part of an area"),
        ({"half_width": 0.1, "area": "Forest", "plots": 9}, "give one of them"),
        ({"half_width": 0.1, "area": "Forest", "accuracy": 1.0}, "give 0.85, say"),
        ({"area": "Forrest"}, "did you mean Forest"),
        ({"strata": ("change",)}, "of one date"),
        ({"strata": ("transition",)}, "--strata class"),
        ({"strata": ("region",)}, "go together"),
        ({"strata": ("classes",)}, "choose one of class"),
        ({"design": "grid"}, "choose one of stratified"),
        ({"design": "random", "strata": ("class",)}, "draws without strata"),
        ({"design": "clusters", "plots": 4, "cluster": 8}, "smaller --cluster"),
        ({"to_classes": ("Forest",)}, "name a folder of quadrat change"),
        ({"export": ("shp",)}, "choose one of ceo"),
    ],
)
def test_what_cannot_be_drawn_is_said(
    scores: str, tmp_path: Path, options: dict[str, object], match: str
) -> None:
    with pytest.raises((InputError, LegendError), match=match):
        sample(scores, str(tmp_path / "s"), **options)  # type: ignore[arg-type]
    assert not (tmp_path / "s").exists() or not list((tmp_path / "s").iterdir())


def test_a_folder_that_holds_no_map_is_refused(tmp_path: Path, changed: str) -> None:
    with pytest.raises(InputError, match="neither scores nor a change"):
        sample(str(tmp_path), str(tmp_path / "s"))
    old = tmp_path / "old"
    old.mkdir()
    said = json.loads(Path(changed, "change.json").read_text())
    del said["grid"]
    (old / "change.json").write_text(json.dumps(said))
    with pytest.raises(ScoresError, match="make it again with this Quadrat"):
        sample(str(old), str(tmp_path / "s"))
