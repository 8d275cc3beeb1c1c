"""quadrat area: error-adjusted areas of classes or changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from quadrat import choices
from quadrat.cli import args, common, words

if TYPE_CHECKING:
    from quadrat.areas import AreaResult


@common.verb()
@args.placed("scores", "scores")
@click.argument("scores_b", required=False, metavar="[SCORES_B]")
@click.option(
    "--out", metavar="URI", help="Folder for area.md, area.csv, area.json and the figure area.png."
)
@click.option(
    "--reference",
    metavar="FILE",
    help="Interpreted plots: a CSV with row,col (or x,y), or a vector file of points; with label, "
    "or label_a and label_b for two dates.",
)
@args.labelled
@args.coarser
@args.flag("unadjusted", "Count the map as it is, errors included.")
@click.option(
    "--blocks",
    type=args.COUNT_OR_0,
    metavar="TILES",
    help="Side of the blocks the reference was drawn in, tiles; 0: tile by tile.",
)
@click.option(
    "--sample", metavar="FOLDER", help="A sample of quadrat sample, drawn from SCORES or a change."
)
@click.option(
    "--answers",
    multiple=True,
    metavar="FILE",
    help="Answers to the sample: review.gpkg, CSV, exports of Collect Earth Online.",
)
@args.option(
    "estimand",
    choices.ESTIMANDS,
    "ground",
    "Of a sample: ground, or plots by main class.",
)
@args.option("estimator", choices.ESTIMATORS, "regression", "Of a sample: how the map is used.")
@args.flag("other_map", "The sample was drawn from another map of the same tiles.")
@args.flag("collapse", "Join strata of fewer than two answered plots with others.")
@args.level
def command(scores: str, scores_b: str | None, out: str | None, **options: Any) -> common.Answer:
    """Hectares of each class of SCORES, adjusted for the map's errors, with intervals.

    With SCORES_B, a later date of the same ground: hectares of each change between the two. With
    --sample, from plots that people interpreted, with SCORES (or a folder of change) as a help.
    """
    from quadrat.areas import area

    later = None if scores_b is None else args.place("scores", scores_b)
    result = area(scores, later, out, **options)
    return common.Answer(result, described(result))


def described(result: AreaResult) -> str:
    """The table in words, for a terminal."""
    from quadrat.areas.tables import number

    if result.survey is not None:
        return _of_sample(result)
    heads = ["", "tiles", "mapped ha"]
    if result.adjusted:
        heads += ["ha", "std. error", f"{result.level:.0%} low", "high", "interval"]
    lines = []
    for row in result.rows:
        cells = [row.name, f"{row.tiles:,}", number(row.raw_ha)]
        if row.adjusted is not None:
            ends = (row.adjusted.value, row.se_ha, row.adjusted.low, row.adjusted.high)
            cells += [*(number(v) for v in ends), row.interval or ""]
        lines.append(cells)
    marked = [] if result.adjusted else ["UNADJUSTED: the map's errors are included."]
    written = [f"written: {uri}" for uri in result.files.values()]
    return "\n".join([result.title, words.table(heads, lines), *marked, *result.notes, *written])


def _of_sample(result: AreaResult) -> str:
    """The areas of an interpreted sample in words."""
    from quadrat.areas.tables import number

    heads = ["", "plots", "mapped ha", "ha", "std. error", f"{result.level:.0%} low", "high",
             "interval", "estimator", "plots alone"]  # fmt: skip
    lines = []
    for row in result.rows:
        cells = [row.name, f"{row.found or 0:,}", number(row.raw_ha)]
        if row.adjusted is None or row.se_ha is None:
            high = "" if row.adjusted is None else number(row.adjusted.high)
            lines.append([*cells, "", "", "", high, row.interval or "", "", ""])
            continue
        ends = (row.adjusted.value, row.se_ha, row.adjusted.low, row.adjusted.high)
        lines.append([*cells, *(number(v) for v in ends), row.interval or "", row.estimator or "",
                      number(row.plain_se_ha)])  # fmt: skip
    written = [f"written: {uri}" for uri in result.files.values()]
    return "\n".join([result.title, words.table(heads, lines), *result.notes, *written])
