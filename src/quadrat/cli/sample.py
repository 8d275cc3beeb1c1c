"""quadrat sample: plots to interpret, drawn with known probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from quadrat import choices
from quadrat.cli import args, common, words

if TYPE_CHECKING:
    from quadrat.sampling import PlotSample


class Fraction(click.ParamType):  # type: ignore[type-arg]
    """A part of something: `10%` or `0.1`."""

    name = "10%|0.1"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | None:
        """The part as a number."""
        said = str(value).strip()
        try:
            return float(said.removesuffix("%")) / (100 if said.endswith("%") else 1)
        except ValueError:
            self.fail(f"{said!r} is neither a per cent nor a number", param, ctx)


@common.verb()
@args.placed("scores", "scores")
@args.out("sample", "Folder for sample.gpkg, sample.csv and sample.json.")
@args.option(
    "for",
    choices.PURPOSES,
    "estimation",
    "A probability sample to estimate areas with, or the most informative plots to train with.",
    into="purpose",
)
@click.option(
    "--plots",
    type=args.COUNT,
    help="How many; 300, or as many as a goal needs; 200 to train with.",
)
@args.option("design", choices.DESIGNS, "stratified", "How plots are drawn.")
@click.option(
    "--strata",
    multiple=True,
    type=click.Choice(choices.STRATA),
    help="Groups of tiles; several are crossed. The map's classes if not, or change for a change.",
)
@click.option("--regions", metavar="FILE", help="Polygons for --strata region.")
@click.option("--region-field", metavar="NAME", help="Field that names the regions.")
@args.option(
    "omission/--no-omission", None, True, "Part unchanged tiles by how likely they hide change."
)
@click.option(
    "--from", "from_classes", multiple=True, metavar="CLASS", help="Changes from this class."
)
@click.option("--to", "to_classes", multiple=True, metavar="CLASS", help="Changes to this class.")
@click.option("--within", metavar="FILE", help="Polygons; only tiles with their centre inside.")
@args.coarser
@args.option("allocation", choices.ALLOCATIONS, "proportional", "How plots are dealt to strata.")
@click.option("--minimum", type=args.COUNT, help="Least plots of a stratum; 20 if not.")
@click.option("--area", metavar="CLASS", help="Goal: the class whose area is wanted.")
@click.option("--half-width", type=Fraction(), help="Goal: half-width of its interval, 10% say.")
@args.level
@click.option("--accuracy", type=args.SHARE, help="Plan on this accuracy of the map.")
@click.option("--pilot", metavar="FOLDER", help="Plan on an earlier sample, with its --answers.")
@click.option("--answers", multiple=True, metavar="FILE", help="Answers to the --pilot.")
@args.option("reserve", args.COUNT_OR_0, 0, "Plots for those that cannot be observed.")
@args.option("cluster", args.COUNT, 3, "Side of the blocks of --design clusters, tiles.")
@click.option(
    "--export",
    multiple=True,
    type=click.Choice(choices.EXPORTS),
    help="Further files: for Collect Earth Online, KML, a CSV to fill in.",
)
@args.option("points", args.COUNT, 1, "Of Collect Earth Online, along a side of each plot.")
@click.option(
    "--apart-from",
    multiple=True,
    metavar="SAMPLE",
    help="With --for training: a sample whose tiles are left out; repeat.",
)
@args.seed
@args.overwrite
def command(scores: str, out: str, **options: Any) -> common.Answer:
    """Draw plots to interpret from SCORES, or from a folder of change.

    Every tile has a known chance to be drawn, so that areas with intervals follow from what
    interpreters say of the plots (quadrat area --sample).
    """
    from quadrat import sampling

    result = sampling.sample(scores, out, **options)
    return common.Answer(result, described(result))


def described(sample: PlotSample) -> str:
    """A sample in words."""
    if sample.purpose == "training":
        return (
            f"{sample.uri}: {len(sample):,} plots to train with, chosen of "
            f"{sample.info['candidates']:,} tiles by {sample.info['chosen_by']}, seed {sample.seed}"
            f"\nno areas follow from them; interpret on: {', '.join(sample.dates)}"
        )
    plan = sample.info["allocation"]
    spare = int(sample.reserve.sum())
    lines = [
        f"{sample.uri}: {len(sample) - spare:,} plots of {sample.info['frame']['tiles']:,} tiles, "
        f"{sample.design}, seed {sample.seed}" + (f", {spare:,} in reserve" if spare else "")
    ]
    rows = [
        [s.code, s.name, f"{s.tiles:,}", f"{s.plots:,}", f"{s.plots / max(s.tiles, 1):.4f}"]
        for s in sample.strata
    ]
    lines.append(words.table(["", "stratum", "tiles", "plots", "probability"], rows))
    if plan["goal"] is not None:
        goal = plan["goal"]
        lines.append(
            f"goal: {goal['of']} to +-{goal['half_width']:.0%} ({goal['level']:.0%} interval, in "
            f"{goal['assurance']:.0%} of draws)"
        )
    if plan["expected_half_width"] is not None:
        lines.append(f"expected half-width: +-{plan['expected_half_width']:.1%} or less")
    if plan["assumes"] is not None:
        lines.append(f"assumes: {plan['assumes']}")
    return "\n".join([*lines, f"interpret on: {', '.join(sample.dates)}"])
