"""Alignment over a series: a season of part of a class on later dates, and changes in between."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from quadrat.changes import ChangeResult, change
from small_tiles import GRID, NAMES, SIDE, SIZE, save_model

ACROSS = 24  # tiles a side
COLOURS = np.array([[200.0, 60, 60], [60, 200, 60], [60, 60, 200]])
WORN = COLOURS[2]  # greenish ground in the later dates' season: bluish to the model, but rough


def series(folder: Path) -> tuple[list[str], dict[tuple[int, int], int]]:
    """Rasters of three dates, and the interval of each tile (row, col) that became bluish.

    Classes lie in patches. On the second and third date two fifths of the greenish patches are
    worn; twenty tiles become bluish in either interval.
    """
    rng = np.random.default_rng(6)
    patches = rng.permutation(np.arange(64) % 3).reshape(8, 8)
    truth = patches.repeat(3, 0).repeat(3, 1)
    worn = ((patches == 1) & (rng.random((8, 8)) < 0.4)).repeat(3, 0).repeat(3, 1)
    free = rng.permutation(np.flatnonzero((truth != 2) & ~worn))[:40]
    when = {divmod(int(at), ACROSS): int(n >= 20) for n, at in enumerate(free)}
    level = rng.normal(0, 8, (ACROSS, ACROSS, 3))
    uris = []
    for date in range(3):
        now, rough = truth.copy(), worn & (date > 0)
        for place, interval in when.items():
            now[place] = 2 if date > interval else now[place]
        colour = np.where(rough[..., None], WORN, COLOURS[now]) + level
        colour += rng.normal(0, 3, colour.shape)
        sd = np.where(rough, 45.0, 6.0)
        px = np.repeat(np.repeat(colour, SIZE, 0), SIZE, 1)
        px += rng.normal(size=px.shape) * sd.repeat(SIZE, 0).repeat(SIZE, 1)[..., None]
        uris.append(str(folder / f"{2011 + date}.tif"))
        with rasterio.open(
            uris[-1], "w", driver="GTiff", count=3, dtype="uint8", width=px.shape[1],
            height=px.shape[0], crs=GRID.crs,
            transform=Affine(1, 0, 560000 // SIDE * SIDE, 0, -1, 4105000 // SIDE * SIDE),
        ) as out:  # fmt: skip
            out.write(px.clip(0, 255).astype(np.uint8).transpose(2, 0, 1))
    return uris, when


def right(got: ChangeResult, when: dict[tuple[int, int], int]) -> tuple[int, int]:
    """Tiles listed, and those of them that became bluish in the interval that the list says."""
    rows = list(csv.DictReader(Path(got.files["csv"]).read_text().splitlines()))
    top, left = -(4105000 // SIDE * SIDE // SIZE), 560000 // SIDE * SIDE // SIZE
    periods = [f"{a} to {b}" for a, b in zip(got.dates, got.dates[1:], strict=False)]
    real = [
        r for r in rows
        if when.get((int(r["row"]) - top, int(r["col"]) - left)) == periods.index(r["period"])
        and r["to"] == NAMES[2]
    ]  # fmt: skip
    return len(rows), len(real)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict, str]:
    folder = tmp_path_factory.mktemp("series")
    return *series(folder), save_model(str(folder / "model"))


def test_a_season_in_a_series_is_told_from_changes(
    ground: tuple[list[str], dict, str], tmp_path: Path
) -> None:
    uris, when, model = ground
    got = change(uris, str(tmp_path / "a"), model=model, show=0)
    assert got.method["aligned"] and got.method["kind"] == "hidden Markov model"
    listed, real = right(got, when)
    assert real >= 0.8 * len(when) and real >= 0.9 * listed
    plain = change(uris, str(tmp_path / "b"), model=model, show=0, align=False)
    listed, real = right(plain, when)
    assert real < 0.7 * listed  # the season is there, and nothing else takes it out
