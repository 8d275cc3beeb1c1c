"""quadrat train: a head on a pretrained network's features -> a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from quadrat import skipped as skips
from quadrat.cli import common

if TYPE_CHECKING:
    from quadrat.heads import TrainResult


@common.verb()
@common.place_argument("source", "tiles")
@common.out_option("models", "The model's folder.")
@click.option(
    "--backbone",
    default="efficientnet_lite0",
    show_default=True,
    metavar="NAME|FILE",
    help="A network by name (efficientnet_lite0, resnet18, resnet34, resnet50, alexnet), or an "
    ".onnx file from chips to features.",
)
@click.option("--weights", metavar="FILE", help="The network's weights; its published ones if not.")
@click.option(
    "--head",
    type=click.Choice(("logistic", "forest")),
    default="logistic",
    show_default=True,
    help="The classifier on the features.",
)
@click.option(
    "--sample-frac",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Share of the training tiles to use.",
)
@common.seed_option
@click.option(
    "--reg",
    type=float,
    show_default="0.005; on Spark 0.01",
    help="L2 strength of logistic.",
)
@click.option(
    "--max-iter",
    type=click.IntRange(min=1),
    show_default="200; on Spark 10",
    help="Steps of logistic at most.",
)
@click.option(
    "--trees",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Trees of the forest.",
)
@click.option(
    "--depth", type=click.IntRange(min=1), default=5, show_default=True, help="Depth of its trees."
)
@click.option(
    "--class-weight",
    type=click.Choice(("none", "balanced")),
    default="none",
    show_default=True,
    help="Whether each class weighs the same however many tiles it has.",
)
@click.option(
    "--precision",
    type=click.Choice(("auto", "fp32", "bf16", "int8")),
    default="auto",
    show_default=True,
    help="What the model is scored in: auto tries int8, then bf16, and keeps what is as accurate.",
)
@click.option(
    "--split-gap",
    is_flag=True,
    help="Also say how much more accuracy a random split of the same tiles would have promised.",
)
@click.option("--cache", metavar="URI", help="Where workers keep features; this user's cache.")
@common.engine_options
@common.run_options
def command(
    source: str,
    out: str,
    engine: str,
    master: str | None,
    workers: int | None,
    name: str | None,
    tracking_uri: str | None,
    **options: Any,
) -> common.Answer:
    """Train a head on SOURCE: a tile set, or a folder of images with one subfolder a class."""
    from quadrat.heads import train
    from quadrat.tiles import open_tiles

    opened = open_tiles(source)  # before the run starts: a mistyped name is no run
    params = {"source": source, "out": out, "engine": engine, **options}
    with (
        common.engine(engine, master, workers) as made,
        common.history("train", out, name, tracking_uri, params) as run,
        common.progress("features") as report,
    ):
        result = train(
            opened,
            out,
            engine=made,
            run_id=run.id,
            on_event=run.record,
            on_progress=report,
            **options,
        )
    return common.Answer({**result.to_dict(), "run": run.id}, described(result, run.id))


def described(result: TrainResult, run: str) -> str:
    """A trained model in words."""
    splits = {split: sum(classes.values()) for split, classes in result.tiles.items()}
    lines = [
        f"{result.uri}: {result.backbone} with a {result.head['head']} head, {result.precision}",
        f"tiles: {common.counts_text(splits)}",
    ]
    if result.metrics is not None:
        lines.append(accuracy_text(result.metrics))
    if result.split_gap is not None:
        lines.append(
            f"a random split would say {common.figure_text(result.split_gap['random'])}: "
            f"{common.figure_text(result.split_gap['gap'])} more"
        )
    lines += [forms_text(result.forms)] if len(result.forms) > 1 else []
    lines += common.skipped_text(skips.to_lists(result.skipped), len(result.skipped))
    lines += [f"warning: {text}" for text in result.warnings]
    lines.append(f"run: {run} (quadrat runs show {run[:12]})")
    return "\n".join(lines)


def forms_text(forms: Mapping[str, Mapping[str, Any]]) -> str:
    """The validation accuracy of each precision."""
    figures = (f"{p} {common.number_text(form.get('accuracy'))}" for p, form in forms.items())
    return f"validation accuracy by precision: {', '.join(figures)}"


def accuracy_text(metrics: Any) -> str:
    """Overall accuracy and F1 with their intervals, and each class's recall and precision."""
    lines = [
        f"validation: overall accuracy {common.figure_text(metrics['overall'])}, "
        f"macro F1 {common.figure_text(metrics['macro_f1'])}"
    ]
    rows = [
        [
            row["name"],
            f"{row['tiles']:,}",
            *(common.number_text(row[key]["value"]) for key in ("producers", "users", "f1")),
        ]
        for row in metrics["classes"]
    ]
    heads = ["class", "tiles", "producer's", "user's", "F1"]
    return "\n".join([*lines, common.table(heads, rows)])
