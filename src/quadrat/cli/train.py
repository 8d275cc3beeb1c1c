"""quadrat train: a head on a pretrained network's features -> a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from quadrat import choices
from quadrat.cli import args, common, words

if TYPE_CHECKING:
    from quadrat.heads import TrainResult


def shares(text: str | None) -> dict[str, float] | None:
    """Shares by class from `Forest=0.4,Water=0.1`."""
    if text is None:
        return None
    found = {}
    for item in text.split(","):
        name, _, number = item.partition("=")
        try:
            found[name.strip()] = float(number)
        except ValueError:
            raise click.BadParameter(
                f"{item!r} is no share of a class; write Forest=0.4,Water=0.1"
            ) from None
    return found


class BackboneOption(click.Option):
    """An option whose help names the backbones with published weights, read when it is shown."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """As click's, with the names."""
        from quadrat.backbones import BACKBONES

        names = ", ".join(name for name, row in BACKBONES.items() if row.weights)
        self.help = (self.help or "").format(names)
        return super().get_help_record(ctx)


@common.verb()
@args.placed("source", "tiles")
@args.out("models", "The model's folder.")
@click.option(
    "--backbone",
    cls=BackboneOption,
    default="efficientnet_lite0",
    show_default=True,
    metavar="NAME|FILE",
    help="A network by name ({}), torchvision:NAME, timm:NAME, hf-hub:ORG/NAME, "
    "torchgeo:Enum.MEMBER, or an .onnx file from chips to features.",
)
@click.option("--weights", metavar="FILE", help="The network's weights; its published ones if not.")
@args.network
@click.option("--pixels", type=args.COUNT, help="Resize tiles to this side for the network.")
@args.option("head", choices.HEADS, "logistic", "The classifier on the features.")
@args.sample_frac("Share of the training tiles to use.")
@args.seed
@click.option(
    "--reg",
    type=float,
    show_default="0.02; on Spark 0.01",
    help="L2 strength of logistic.",
)
@click.option(
    "--max-iter",
    type=args.COUNT,
    show_default="200; on Spark 10",
    help="Steps of logistic at most.",
)
@args.option("trees", args.COUNT, 20, "Trees of the forest.")
@args.option("depth", args.COUNT, 5, "Depth of its trees.")
@args.class_weight
@click.option(
    "--views",
    type=click.IntRange(1, 8),
    show_default="4, fewer for many tiles",
    help="Views of each training tile, turned and mirrored; each costs as much as the tiles.",
)
@click.option(
    "--prior",
    callback=lambda _c, _p, value: shares(value),
    metavar="CLASS=SHARE,...",
    help="Class shares of the ground to be mapped, where the training tiles have others.",
)
@click.option(
    "--labels",
    metavar="FILE",
    help="Answers of quadrat review to plots drawn with quadrat sample --for training; they "
    "replace the labels of these tiles.",
)
@args.precision(
    "What the model is scored in: auto tries int8, then bf16, and keeps what is as accurate."
)
@args.flag(
    "split-gap",
    "Also say how much more accuracy a random split of the same tiles would have promised.",
)
@click.option("--cache", metavar="URI", help="Where workers keep features; this user's cache.")
@args.engine
@args.run
def command(
    source: str,
    out: str,
    engine: args.EngineArgs,
    name: str | None,
    tracking_uri: str | None,
    **options: Any,
) -> common.Answer:
    """Train a head on SOURCE: a tile set, or a folder of images with one subfolder a class."""
    from quadrat.heads import train
    from quadrat.tiles import open_tiles

    opened = open_tiles(source)  # before the run starts: a mistyped name is no run
    params = {"source": source, "out": out, "engine": engine.engine, **options}
    with (
        common.engine(engine) as made,
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
    network = result.network
    splits = {split: sum(classes.values()) for split, classes in result.tiles.items()}
    lines = [
        f"{result.uri}: {result.backbone} with a {result.head['head']} head, {result.precision}, "
        f"on {result.device}",
        f"weights: {network['licence'] or 'of a file of yours, licence unknown'}"
        f"{parity_text(network['parity'])}",
        f"tiles: {words.counts_text(splits)}",
    ]
    if result.metrics is not None:
        lines.append(words.accuracy_text(result.metrics, result.ground))
    if result.split_gap is not None:
        lines.append(
            f"a random split would say {words.figure_text(result.split_gap['random'])}: "
            f"{words.figure_text(result.split_gap['gap'])} more"
        )
    lines += [forms_text(result.forms)] if len(result.forms) > 1 else []
    return "\n".join([*lines, *words.training_end(result, run)])


def parity_text(parity: Mapping[str, Any] | None) -> str:
    """How far a graph that was made from torch is from it."""
    if parity is None:
        return ""
    kind = "" if parity["real"] else "synthetic "
    return (
        f"; graph and torch within {parity['max_difference']:.1g} of the features on "
        f"{parity['tiles']} {kind}tiles"
    )


def forms_text(forms: Mapping[str, Mapping[str, Any]]) -> str:
    """The validation accuracy of each precision."""
    figures = (f"{p} {words.number_text(form.get('accuracy'))}" for p, form in forms.items())
    return f"validation accuracy by precision: {', '.join(figures)}"
