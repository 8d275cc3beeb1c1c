"""quadrat finetune: a pretrained network, retrained to a chosen depth -> a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from quadrat import choices
from quadrat.cli import args, common, words
from quadrat.errors import RunError

if TYPE_CHECKING:
    from quadrat.finetuning import FinetuneResult


@common.verb()
@args.placed("source", "tiles")
@args.out("models", "The model's folder; checkpoints lie in it while training lasts.")
@click.option(
    "--validation",
    metavar="URI",
    help="Tiles of their own to validate with; SOURCE's validation tiles, or a fifth, if not.",
)
@args.option(
    "backbone",
    str,
    "efficientnet_lite0",
    "A network by name: torchvision:NAME, timm:NAME, hf-hub:ORG/NAME, torchgeo:Enum.MEMBER; bare "
    "names (alexnet, resnet18, ...) too.",
)
@args.network
@args.option(
    "depth",
    str,
    "all",
    "What is retrained: last_only, fully_connected, all, or from:LAYER (that layer and all after).",
)
@click.option(
    "--weights",
    metavar="FILE",
    help="The network's weights (.pth, .safetensors), or random; its published ones if not.",
)
@click.option("--pixels", type=int, help="Side of the pictures the network sees; its own if not.")
@args.option("epochs", args.COUNT, 10, "Passes over the training tiles.")
@args.option("batch", args.COUNT, 32, "Tiles a step, over all processes.")
@args.option("optimizer", choices.OPTIMIZERS, "adamw", "How steps are taken.")
@click.option("--lr", type=float, help="Peak learning rate; depends on optimizer and depth if not.")
@args.option("weight-decay", float, 0.01, "Strength of L2 on weights.")
@args.option(
    "layer-decay",
    float,
    1.0,
    "Learning rate of a stage as a part of the next one's; transformers like 0.65 to 0.9.",
)
@args.option("clip", float, 1.0, "Largest norm of a step's gradient; 0: no limit.")
@args.option(
    "warmup", float, 1.0, "Epochs in which the learning rate rises, before its cosine fall."
)
@args.option("label-smoothing", float, 0.1, "Share of the target spread over all classes.")
@args.class_weight
@args.option("crop", float, 0.85, "Side of the random crop, as a share of the tile's; 1: none.")
@args.option(
    "jitter", float, 0.2, "Largest change of brightness, contrast and saturation; 0: none."
)
@args.option("flips/--no-flips", None, True, "Mirror and turn tiles by quarter turns at random.")
@args.sample_frac("Share of the training tiles to use.")
@args.option(
    "head-first/--no-head-first",
    None,
    True,
    "Fit the new last layer to the network as it is before training.",
)
@args.option("views", args.COUNT, 1, "last_only: versions of each tile that are featurized.")
@args.option(
    "batch-norm",
    choices.BATCH_NORMS,
    "auto",
    "Statistics of retrained layers: frozen or the data's; auto: frozen but for random weights.",
)
@args.option("keep", choices.KEPT_EPOCHS, "best", "The epoch that the model is from.")
@args.option("patience", args.COUNT_OR_0, 0, "Stop after so many epochs without gain; 0: never.")
@args.option(
    "precision",
    choices.TRAINING_PRECISIONS,
    "auto",
    "What is computed in; auto: mixed bf16 where the device has it.",
)
@args.seed
@args.option("device", choices.DEVICES, "auto", "Where; auto: a GPU if any.")
@args.option("nproc", args.COUNT, 1, "Processes on this machine (one a GPU).")
@click.option("--threads", type=args.COUNT, help="Threads of a process; cores if not.")
@args.option("memory-mb", args.COUNT_OR_0, 4096, "Decoded tiles in memory up to this, else file.")
@args.flag("resume", "Go on after the last whole epoch of --out.")
@args.flag("keep-checkpoints", "Leave them when the model is written.")
@args.run
@args.processes
def command(
    source: str,
    out: str,
    engine: args.EngineArgs,
    name: str | None,
    tracking_uri: str | None,
    **options: Any,
) -> common.Answer | None:
    """Retrain a pretrained network on SOURCE: a tile set, or a folder with one subfolder a class.

    Needs pip install 'quadrat[finetune]'. Under torchrun each process runs the same command; with
    --engine spark the --nproc processes are tasks of the cluster.
    """
    from quadrat.finetuning import FinetuneSettings, Machine, finetune, rank, require
    from quadrat.tiles import open_tiles

    require()
    machine = Machine(**_taken(Machine, options))
    settings = FinetuneSettings(**_taken(FinetuneSettings, options))
    open_tiles(source)  # before the run starts: a mistyped name is no run
    arguments = {n: options[n] for n in ("validation", "resume", "keep_checkpoints")}
    if rank():
        finetune(source, out, settings, machine, **arguments)
        return None
    params = {"source": source, "out": out, "validation": options["validation"]}
    stopped = _stopped(out, tracking_uri) if options["resume"] else None
    with (
        common.engine(engine) as made,
        common.history("finetune", out, name, tracking_uri, params, resume=stopped) as run,
        common.progress("finetune") as report,
    ):

        def heard(event: str, values: Mapping[str, Any]) -> None:
            run.record(event, values)
            if event == "epoch":
                report.note(epoch_text(values, settings.epochs))
            elif event == "warning":
                report.note(f"warning: {values['text']}")

        result = finetune(
            source, out, settings, machine, **arguments, run_id=run.id, on_event=heard,
            on_progress=report, engine=made,
        )  # fmt: skip
    return common.Answer({**result.to_dict(), "run": run.id}, described(result, run.id))


def _taken(kind: type[Any], options: dict[str, Any]) -> dict[str, Any]:
    """The options that are fields of a dataclass."""
    return {f.name: options[f.name] for f in dataclasses.fields(kind)}


def _stopped(out: str, tracking_uri: str | None) -> str | None:
    """The run of the stopped training in `out`; None where it is in another history."""
    from quadrat import runs
    from quadrat.finetuning import stopped_run

    stopped = stopped_run(out)
    if stopped is not None:
        try:
            runs.show_run(stopped, tracking_uri=tracking_uri)
        except RunError:
            return None  # here a run of its own gets the whole curve
    return stopped


def epoch_text(values: Mapping[str, Any], epochs: int) -> str:
    """An epoch's figures on one line."""
    return (
        f"epoch {values['epoch']:.0f} of {epochs}: loss {values['loss']:.4f}, "
        f"error {values['error_percent']:.1f}%, validation loss {values['validation_loss']:.4f}, "
        f"accuracy {values['validation_accuracy']:.4f}, "
        f"macro F1 {values['validation_macro_f1']:.4f}; "
        f"{values['seconds']:.0f} s, {values['samples_per_s']:.0f} tiles/s"
    )


def described(result: FinetuneResult, run: str) -> str:
    """A fine-tuned model in words."""
    network, machine = result.network, result.machine
    splits = {split: sum(classes.values()) for split, classes in result.tiles.items()}
    lines = [
        f"{result.uri}: {network['name']} retrained {network['depth']} at {network['pixels']} px, "
        f"epoch {result.best_epoch} of {len(result.history)}",
        f"weights: {network['weights']}; licence: {network['licence'] or 'none needed'}",
        f"tiles: {words.counts_text(splits)}",
        f"speed: {result.samples_per_s:,.0f} tiles/s ({machine['device']}, {machine['precision']}, "
        f"{machine['processes']} x {machine['threads']} threads)",
        words.accuracy_text(result.metrics),
    ]
    if result.test is not None:
        lines.append(f"test: overall accuracy {words.figure_text(result.test['overall'])}")
    parity = result.parity
    lines.append(
        f"exported graph: the same label on {parity['same_labels']:.2%} of {parity['tiles']:,} "
        f"tiles, probabilities within {parity['max_difference']:.1g}"
    )
    return "\n".join([*lines, *words.training_end(result, run)])
