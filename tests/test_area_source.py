"""Ground as a label source would map it, and plots drawn with probabilities of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from made_scores import square, write_scores
from quadrat.areas import area
from quadrat.errors import InputError, LabelError
from quadrat.legend import load_legend
from quadrat.sampling import sample

LEGEND = load_legend("nlcd3")
K, SIDE = 3, 48
PLACE = square(SIDE, row=-18324, col=2502)  # whole blocks of 6 x 6 tiles
BLOCKS = {"provenance": {"labels": "nlcd_2016.tif", "options": {"split": {
    "method": "block", "block": 6}}}}  # fmt: skip


def county(seed: int, bias: float = 0.05) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shares by the source and by a model that overstates the first class; blocks of tiles."""
    rng = np.random.default_rng(seed)
    rows, cols = PLACE
    block = ((rows - rows.min()) // 6) * 8 + (cols - cols.min()) // 6
    alike = rng.normal(0, 0.6, (64, K))[block]  # errors of a block are alike
    logits = rng.normal(0, 1.5, (SIDE * SIDE, K)) + alike
    true = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    off = rng.normal(0, 0.05, true.shape) + 0.04 * rng.normal(size=(64, K))[block]
    off += np.array([bias, -bias, 0.0])
    said = np.clip(true + off, 0.001, 1)
    return true, said / said.sum(1, keepdims=True), block


def scores_of(
    folder: Path, true: np.ndarray, said: np.ndarray, split: np.ndarray, **more: Any
) -> str:
    return write_scores(
        str(folder), *PLACE, said, shares=said, reference=true, split=split, date="2016",
        legend=LEGEND, **{**BLOCKS, **more},
    )  # fmt: skip


def held_out(block: np.ndarray, seed: int, number: int = 13) -> np.ndarray:
    chosen = np.random.default_rng(seed).permutation(64)[:number]
    return np.where(np.isin(block, chosen), "validation", "train")


def test_the_models_bias_is_taken_off_and_intervals_hold(tmp_path: Path) -> None:
    held, off = [], []
    for seed in range(40):
        true, said, block = county(seed)
        scores = scores_of(tmp_path / str(seed), true, said, held_out(block, seed))
        got = area(scores)
        for row, share in zip(got.rows, true.mean(0), strict=True):
            assert row.adjusted is not None
            held.append(row.adjusted.low <= share * got.total_ha <= row.adjusted.high)
        assert got.rows[0].adjusted is not None
        off.append(got.rows[0].adjusted.value / got.total_ha - true[:, 0].mean())
    assert 0.9 <= np.mean(held) <= 1
    assert abs(np.mean(off)) < 0.01  # of a bias of 0.05


def test_it_is_called_what_it_is_and_the_sample_is_offered_with_its_cost(tmp_path: Path) -> None:
    true, said, block = county(1)
    scores = scores_of(tmp_path / "s", true, said, held_out(block, 1))
    got = area(scores)
    assert got.title == "Area of ground as nlcd_2016.tif would map it, 2016"
    assert got.estimand == "ground" and "truth" not in got.title
    (advice,) = [n for n in got.notes if "not the truth" in n]
    assert f"quadrat sample {scores} --out sample --area Developed --half-width 10%" in advice
    plots = int(advice.split("about ")[1].split(" plots")[0].replace(",", ""))
    drawn = sample(scores, str(tmp_path / "p"), area="Developed", half_width=0.1)
    assert plots == len(drawn)
    assert "label source on held-out tiles" in drawn.info["allocation"]["assumes"]
    assert any("13 blocks of 6 x 6 tiles" in n for n in got.notes)
    assert any("differ from it by up to" in n for n in got.notes)


def test_plots_by_main_class_can_be_asked_for_and_old_scores_say_so(tmp_path: Path) -> None:
    true, said, block = county(2)
    split = held_out(block, 2)
    scores = scores_of(tmp_path / "s", true, said, split)
    got = area(scores, estimand="plots")
    assert got.estimand == "plots" and got.accuracy is not None
    assert any("not the truth" in n for n in got.notes)
    bare = write_scores(str(tmp_path / "b"), *PLACE, said, truth=true.argmax(1), split=split,
                        date="2016", legend=LEGEND)  # fmt: skip
    old = area(bare)
    assert old.estimand == "plots"
    assert any(n.startswith("The scores have no shares of ground") for n in old.notes)
    with pytest.raises(InputError, match="choose one of ground"):
        area(scores, estimand="pixels")


def test_fewer_than_three_blocks_are_refused(tmp_path: Path) -> None:
    true, said, block = county(3)
    scores = scores_of(tmp_path / "s", true, said, held_out(block, 3, number=2))
    with pytest.raises(LabelError, match=r"2 blocks of 6 x 6 tiles.*at least 3"):
        area(scores)
    assert area(scores, blocks=3).rows[0].adjusted is not None
    none = scores_of(tmp_path / "n", np.full_like(true, np.nan), said, held_out(block, 3))
    with pytest.raises(LabelError, match="interpret plots: quadrat sample"):
        area(none)


def drawn_unequally(seed: int) -> tuple[np.ndarray, np.ndarray, list[str], np.ndarray]:
    """Plots of two regions drawn at rates of 1 in 20 and 1 in 4: main classes of all tiles."""
    rng = np.random.default_rng(seed)
    west = np.tile(np.arange(SIDE) < SIDE // 2, SIDE)
    true = np.where(rng.random(SIDE * SIDE) < np.where(west, 0.2, 0.6), 0, 1)
    shown = np.where(rng.random(SIDE * SIDE) < 0.9, true, rng.integers(0, 3, SIDE * SIDE))
    rows, cols = PLACE
    lines = []
    for side, rate in ((west, 20), (~west, 4)):
        inside = np.flatnonzero(side)
        for at in rng.choice(inside, len(inside) // rate, False):
            name = LEGEND.names[true[at]]
            lines.append(f"{rows[at]},{cols[at]},{name},{1 / rate},{int(west[at])},{len(inside)}")
    return true, shown, lines, west


def test_plots_drawn_unequally_take_their_probabilities(tmp_path: Path) -> None:
    """By the map's classes alone, the east, which was drawn more, would count too much."""
    head = "row,col,label,probability,stratum,stratum_size\n"
    found: dict[str, list[float]] = {"with": [], "sized": [], "without": []}
    for seed in range(12):
        true, shown, lines, _ = drawn_unequally(seed)
        p = np.eye(3)[shown] * 0.9 + 0.1 / 3
        scores = write_scores(str(tmp_path / f"s{seed}"), *PLACE, p, legend=LEGEND)
        tables = {
            "with": (head, lines),
            "sized": ("row,col,label,stratum,stratum_size\n",
                      [",".join([*x.split(",")[:3], *x.split(",")[4:]]) for x in lines]),
            "without": ("row,col,label\n", [",".join(x.split(",")[:3]) for x in lines]),
        }  # fmt: skip
        for name, (top, body) in tables.items():
            path = tmp_path / f"{name}.csv"
            path.write_text(top + "\n".join(body) + "\n")
            got = area(scores, reference=str(path))
            assert got.rows[0].adjusted is not None
            found[name].append(got.rows[0].adjusted.value / got.total_ha - (true == 0).mean())
            marked = [n for n in got.notes if "drawn at random in each class" in n]
            assert bool(marked) == (name == "without")
    assert found["with"] == pytest.approx(found["sized"])
    assert abs(np.mean(found["with"])) < 0.02


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda x: x.replace(",0.05,", ",5,"), "'5' is no probability"),
        (lambda x: x.replace(",0.05,", ",,"), "'' is no probability"),
        (lambda x: x.replace(",0.25,", ",0.5,"), "check that probabilities are plots over tiles"),
    ],
)
def test_probabilities_that_are_none_are_said(tmp_path: Path, change: Any, match: str) -> None:
    _, shown, lines, _ = drawn_unequally(0)
    p = np.eye(3)[shown] * 0.9 + 0.1 / 3
    scores = write_scores(str(tmp_path / "s"), *PLACE, p, legend=LEGEND)
    text = "row,col,label,probability\n"
    text += "\n".join(change(",".join(x.split(",")[:4]) + ",").rstrip(",") + "," for x in lines)
    (tmp_path / "p.csv").write_text(text + "\n")
    with pytest.raises(LabelError, match=match):
        area(scores, reference=str(tmp_path / "p.csv"))
