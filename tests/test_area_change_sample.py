"""Change of ground from plots that were interpreted on two dates."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from made_scores import square, write_scores
from quadrat.areas import area
from quadrat.areas.tables import AreaResult, AreaRow
from quadrat.changes import change
from quadrat.errors import InputError
from quadrat.legend import load_legend
from quadrat.sampling import PlotSample, sample

LEGEND = load_legend("nlcd3")
NAMES, SIDE, K = LEGEND.names, 40, 3
DEVELOPED, CULTIVATED = (NAMES.index(n) for n in ("Developed", "Cultivated"))


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, np.ndarray, np.ndarray]:
    """A change of 1,600 tiles, and the true shares on both dates: 8% are built on in part."""
    rng = np.random.default_rng(0)
    rows, cols = square(SIDE)
    main = rng.choice(K, SIDE * SIDE, p=[0.2, 0.5, 0.3])
    first = np.full((SIDE * SIDE, K), 0.1)
    first[np.arange(len(first)), main] = 0.8
    last, built = first.copy(), (rng.random(len(first)) < 0.08) & (main != DEVELOPED)
    part = rng.uniform(0.3, 0.9, built.sum())[:, None]
    last[built] = first[built] * (1 - part) + np.eye(K)[DEVELOPED] * part
    folder = tmp_path_factory.mktemp("g")
    days = []
    for day, true in (("2011", first), ("2016", last)):
        said = np.clip(true + rng.normal(0, 0.07, true.shape), 0.01, 1)
        days.append(write_scores(
            str(folder / day), rows, cols, said / said.sum(1, keepdims=True), date=day,
            truth=true.argmax(1), split=np.where(rng.random(len(true)) < 0.5, "test", "train"),
            legend=LEGEND,
        ))  # fmt: skip
    change(days, str(folder / "change"), show=0, recalibrate=False)
    return str(folder / "change"), first, last


def answered(path: Path, plots: PlotSample, ground: tuple[Any, ...], **odd: Any) -> str:
    """Every plot's shares on both dates, and whether it changed."""
    rows = []
    for plot, row, col in zip(plots.plots, plots.rows, plots.cols, strict=True):
        at = (row - -18326) * SIDE + col - 2503
        for day, true in zip(("2011", "2016"), ground[1:], strict=True):
            shares = {n: round(float(s), 4) for n, s in zip(NAMES, true[at], strict=True)}
            rows.append({"plot": plot, "interpreter": "ann", "date": day, "class": "",
                         "shares": json.dumps(shares), "change": ""})  # fmt: skip
        moved = not np.allclose(ground[1][at], ground[2][at])
        said = odd.get("change", "yes" if moved else "no")
        rows.append({"plot": plot, "interpreter": "ann", "date": "", "class": "", "shares": "",
                     "change": said})  # fmt: skip
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return str(path)


def by_name(result: AreaResult) -> dict[str, AreaRow]:
    return {r.name: r for r in result.rows}


def test_new_ground_is_estimated_by_parts_of_plots(
    ground: tuple[str, np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    folder, first, last = ground
    plots = sample(folder, str(tmp_path / "s"), plots=300, to_classes=("Developed",))
    answers = answered(tmp_path / "a.csv", plots, ground)
    got = area(folder, sample=plots.uri, answers=[answers])
    assert got.title == "Area of change of ground, 2011 to 2016" and got.dates == ("2011", "2016")
    rows = by_name(got)
    gain = np.maximum(last - first, 0)[:, DEVELOPED].mean()
    net = (last - first).mean(0)
    for name, true in (
        ("Developed, gained", gain),
        *((f"{n}, net", net[k]) for k, n in enumerate(NAMES)),
        ("Developed (stable)", np.minimum(first, last)[:, DEVELOPED].mean()),
    ):
        row = rows[name]
        assert row.adjusted is not None and row.se_ha is not None, name
        assert abs(row.adjusted.value - true * got.total_ha) < 4 * row.se_ha, name
        assert row.adjusted.low <= row.adjusted.value <= row.adjusted.high
    values = {n: r.adjusted.value for n, r in rows.items() if r.adjusted is not None}
    direct = by_name(area(folder, sample=plots.uri, answers=[answers], estimator="direct"))
    whole = {n: r.adjusted.value for n, r in direct.items() if r.adjusted is not None}
    assert whole["Developed, net"] == pytest.approx(
        whole["Developed, gained"] - whole.get("Developed, lost", 0.0)
    )
    moves = sum(v for n, v in whole.items() if n.endswith("→ Developed"))
    assert moves == pytest.approx(whole["Developed, gained"])
    assert whole.keys() == values.keys()
    assert any("least change that the shares allow" in n for n in got.notes)


def test_plots_that_did_not_change_have_no_change(
    ground: tuple[str, np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    """Readings by tenths differ by chance between dates; what is called unchanged is unchanged."""
    folder = ground[0]
    plots = sample(folder, str(tmp_path / "s"), plots=100)
    path = Path(answered(tmp_path / "a.csv", plots, ground, change="no"))
    rows = by_name(area(folder, sample=plots.uri, answers=[str(path)], estimator="direct"))
    kinds = {n: r for n, r in rows.items() if r.kind in ("gain", "loss", "net", "transition")}
    assert all(r.adjusted is not None and r.adjusted.value == pytest.approx(0, abs=1e-6)
               for r in kinds.values())  # fmt: skip


def test_plots_by_main_class_count_transitions(
    ground: tuple[str, np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    folder, first, last = ground
    plots = sample(folder, str(tmp_path / "s"), plots=300)
    answers = answered(tmp_path / "a.csv", plots, ground)
    got = area(folder, sample=plots.uri, answers=[answers], estimand="plots", estimator="direct")
    expected, a, b = 0.0, first.argmax(1), last.argmax(1)
    for i, stratum in enumerate(plots.strata):
        at = ((plots.rows - -18326) * SIDE + plots.cols - 2503)[plots.stratum == i]
        inside = (a[at] == CULTIVATED) & (b[at] == DEVELOPED)
        expected += stratum.tiles / len(first) * inside.mean()
    row = by_name(got)["Cultivated → Developed"]
    assert row.adjusted is not None
    assert row.adjusted.value == pytest.approx(expected * got.total_ha, rel=1e-6)


def test_a_sample_of_change_needs_its_change(
    ground: tuple[str, np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    folder = ground[0]
    plots = sample(folder, str(tmp_path / "s"), plots=100)
    answers = answered(tmp_path / "a.csv", plots, ground)
    scores = str(Path(folder).parent / "2011")
    with pytest.raises(InputError, match="not the map that"):
        area(scores, sample=plots.uri, answers=[answers])
    with pytest.raises(InputError, match=r"is of 2 date\(s\)"):
        area(scores, sample=plots.uri, answers=[answers], other_map=True)


def test_collect_earth_asks_of_each_date_by_its_year(
    ground: tuple[str, np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    plots = sample(ground[0], str(tmp_path / "s"), plots=40)
    rows = []
    for plot, row, col in zip(plots.plots, plots.rows, plots.cols, strict=True):
        at = (row - -18326) * SIDE + col - 2503
        said = {"plotid": plot, "center_lon": 0, "center_lat": 0, "sample_points": 100,
                "email": "ann", "flagged": "false"}  # fmt: skip
        for year, true in zip(("2011", "2016"), ground[1:], strict=True):
            said |= {f"Land use in {year}:{n}": round(100 * float(s), 2)
                     for n, s in zip(NAMES, true[at], strict=True)}  # fmt: skip
        rows.append(said)
    with (tmp_path / "ceo.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    ceo = by_name(area(ground[0], sample=plots.uri, answers=[str(tmp_path / "ceo.csv")]))
    own = by_name(area(ground[0], sample=plots.uri,
                       answers=[answered(tmp_path / "a.csv", plots, ground)]))  # fmt: skip
    a, b = ceo["Developed, gained"].adjusted, own["Developed, gained"].adjusted
    assert a is not None and b is not None and a.value == pytest.approx(b.value, rel=1e-2)
