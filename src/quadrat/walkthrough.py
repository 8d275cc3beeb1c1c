"""The whole job on the synthetic county, one documented step after the other: `quadrat demo`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from quadrat import heads, maps, runs, scoring, storage
from quadrat import tiles as cutting
from quadrat.county import County, make_county
from quadrat.engines import Engine
from quadrat.errors import InputError
from quadrat.heads import TrainResult
from quadrat.maps import MapResult
from quadrat.records import Record
from quadrat.runs import Run
from quadrat.scoring import ScoresSummary
from quadrat.shown import shown
from quadrat.tiles import TileSet

Progress = Callable[[int, int], None]
Step = Callable[[str], AbstractContextManager[Progress | None]]


@shown
@dataclass(frozen=True)
class Demo(Record):
    """What the demo made, step by step.

    Attributes:
        out: the folder of all of it.
        map: of the county's first date.
        run: the id of the training's run in the history at `tracking_uri`.
    """

    out: str
    county: County
    tiles: TileSet
    model: TrainResult
    scores: ScoresSummary
    map: MapResult
    run: str
    tracking_uri: str


def demo(
    out: str = "demo",
    *,
    tiles: int = 600,
    seed: int = 0,
    dates: int = 2,
    tracking_uri: str | None = None,
    engine: Engine | None = None,
    on_run: Callable[[Run], None] | None = None,
    on_step: Step | None = None,
) -> Demo:
    """Make a synthetic county, cut it, train, score and map its first date, all below `out`.

    The county is generated and shows no real place. A second call replaces what the first made.

    Args:
        out: a local folder: new, empty, or of an earlier demo.
        tiles: size of the county: at least so many tiles of 224 m.
        dates: dates of imagery, 1 to 10.
        tracking_uri: the run history; by default `runs.db` in `out`.
        on_run: called with the training's run when it starts.
        on_step: called with the name of each step; gives a context manager for the step, whose
            value is its `on_progress`.

    Raises:
        InputError: the folder holds other files; a size or a number of dates that cannot be.
    """
    out = out.rstrip("/")
    if storage.list_names(out) and not storage.exists(storage.join(out, "county")):
        raise InputError(f"{out} holds other files; choose another --out")
    step = on_step or (lambda _: nullcontext())
    with step("county") as told:
        county = make_county(
            storage.join(out, "county"), tiles=tiles, seed=seed, dates=dates, on_progress=told
        )
    with step("tile") as told:
        cut = cutting.tile(
            [county.imagery[0]],
            storage.join(out, "tiles"),
            labels=county.labels[0],
            block=4,
            seed=seed,
            overwrite=True,
            engine=engine,
            on_progress=told,
        )
    history = tracking_uri or storage.join(out, "runs.db")
    with (
        runs.start("train", name="demo", params={"seed": seed}, tracking_uri=history) as run,
        step("features") as told,
    ):
        if on_run:
            on_run(run)
        model = heads.train(
            cut,
            storage.join(out, "model"),
            seed=seed,
            engine=engine,
            run_id=run.id,
            on_event=run.record,
            on_progress=told,
        )
    with step("score") as told:
        scores = scoring.score(
            model.uri,
            county.imagery[0],
            storage.join(out, "scores"),
            overwrite=True,
            engine=engine,
            on_progress=told,
        )
    drawn = maps.map(
        scores.uri,
        storage.join(out, "map.tif"),
        png=storage.join(out, "map.png"),
        title=f"Synthetic county, {county.years[0]}: it shows no real place",
    )
    return Demo(out, county, cut, model, scores, drawn, run.id, history)
