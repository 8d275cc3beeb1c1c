"""quadrat demo: a synthetic county -> tiles -> model -> scores -> map, in one folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from quadrat.cli import common

if TYPE_CHECKING:
    from quadrat.county import Demo
    from quadrat.engines import Engine
    from quadrat.heads import TrainResult
    from quadrat.maps import MapResult
    from quadrat.scoring import ScoresSummary
    from quadrat.tiles import TileSet


@dataclass(frozen=True)
class Made:
    """What the demo made, step by step."""

    out: str
    county: Demo
    tiles: TileSet
    model: TrainResult
    scores: ScoresSummary
    map: MapResult
    run: str
    tracking_uri: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        steps = ("county", "tiles", "model", "scores", "map")
        return {
            "out": self.out,
            "run": self.run,
            "tracking_uri": self.tracking_uri,
            **{step: getattr(self, step).to_dict() for step in steps},
        }


@common.verb()
@click.option(
    "--out", default="demo", show_default=True, metavar="FOLDER", help="The folder for all of it."
)
@click.option(
    "--tiles",
    type=click.IntRange(min=1),
    default=600,
    show_default=True,
    help="Size of the county: at least so many tiles of 224 m.",
)
@common.seed_option
@click.option(
    "--dates",
    type=click.IntRange(1, 10),
    default=2,
    show_default=True,
    help="Dates of imagery; the first is mapped.",
)
@common.tracking_option
@common.engine_options
def command(
    out: str,
    tiles: int,
    seed: int,
    dates: int,
    tracking_uri: str | None,
    engine: str,
    master: str | None,
    workers: int | None,
) -> common.Answer:
    """Run the whole job on a generated county, offline.

    The county is synthetic: it shows no real place.
    """
    with common.engine(engine, master, workers) as made:
        result = run_all(
            out.rstrip("/"), tiles, seed, dates, tracking_uri or f"{out.rstrip('/')}/runs.db", made
        )
    written = (
        ("county", result.county.out),
        ("tiles", result.tiles.uri),
        ("models", result.model.uri),
        ("scores", result.scores.uri),
        *(("files", uri) for uri in (result.map.uri, result.map.certainty, result.map.png) if uri),
    )
    return common.Answer(result, described(result), written)


def run_all(out: str, size: int, seed: int, dates: int, tracking_uri: str, engine: Engine) -> Made:
    """The documented steps, one after the other; a second run replaces what the first made."""
    from quadrat import heads, maps, scoring, storage
    from quadrat import tiles as cutting
    from quadrat.county import make_demo
    from quadrat.errors import InputError

    if storage.list_names(out) and not storage.exists(storage.join(out, "county")):
        raise InputError(f"{out} holds other files; choose another --out")
    with common.progress("county") as report:
        county = make_demo(
            storage.join(out, "county"), tiles=size, seed=seed, dates=dates, on_progress=report
        )
    with common.progress("tile") as report:
        tiles = cutting.tile(
            [county.imagery[0]],
            storage.join(out, "tiles"),
            labels=county.labels[0],
            block=4,
            seed=seed,
            overwrite=True,
            engine=engine,
            on_progress=report,
        )
    with (
        common.history("train", out, "demo", tracking_uri, {"seed": seed}) as run,
        common.progress("features") as report,
    ):
        model = heads.train(
            tiles,
            storage.join(out, "model"),
            seed=seed,
            engine=engine,
            run_id=run.id,
            on_event=run.record,
            on_progress=report,
        )
    with common.progress("score") as report:
        scores = scoring.score(
            model.uri,
            county.imagery[0],
            storage.join(out, "scores"),
            overwrite=True,
            engine=engine,
            on_progress=report,
        )
    drawn = maps.make_map(
        scores.uri,
        storage.join(out, "map.tif"),
        png=storage.join(out, "map.png"),
        title=f"Synthetic county, {county.years[0]}: it shows no real place",
    )
    return Made(out, county, tiles, model, scores, drawn, run.id, tracking_uri)


def described(made: Made) -> str:
    """Where to look."""
    from quadrat.cli.train import accuracy_text

    lines = [
        f"a synthetic county of {made.county.tiles:,} tiles, of which {made.scores.tiles:,} scored",
        *([accuracy_text(made.model.metrics)] if made.model.metrics is not None else []),
        "",
        "look at",
        f"  {made.map.png}  the map, a picture",
        f"  {made.map.uri}  the map, one pixel a tile, for QGIS",
        f"  {made.out}/scores/parts  every tile's probabilities, GeoParquet, for QGIS or GeoPandas",
        f"  {made.county.imagery[0]}  the imagery",
        f"  quadrat runs ui --tracking-uri {made.tracking_uri}  the run history",
    ]
    if len(made.county.imagery) > 1:
        out, change = made.out, f"{made.out}/change"
        lines += [
            "",
            "next: what changed until the second date, how far to trust it, and all on one page",
            f"  quadrat change {out}/tiles {made.county.imagery[1]} --model {out}/model "
            f"--out {change}",
            f"  quadrat report {change}/scores_1 {change}/scores_2 --change {change} "
            f"--out {out}/report.html",
        ]
    return "\n".join(lines)
