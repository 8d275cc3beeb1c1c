"""quadrat finetune: a pretrained network, retrained to a chosen depth -> a model."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from quadrat import skipped as skips
from quadrat.cli import common
from quadrat.errors import RunError

if TYPE_CHECKING:
    from quadrat.finetuning import FinetuneResult
    from quadrat.runs import Run

F = TypeVar("F", bound=Callable[..., Any])


def _option(name: str, kind: Any, default: Any, text: str) -> Callable[[F], F]:
    return click.option(f"--{name}", type=kind, default=default, show_default=True, help=text)


@common.verb()
@common.place_argument("source", "tiles")
@common.out_option("models", "The model's folder; checkpoints lie in it while training lasts.")
@click.option(
    "--validation",
    metavar="URI",
    help="Tiles of their own to validate with; SOURCE's validation tiles, or a fifth, if not.",
)
@_option(
    "backbone",
    str,
    "efficientnet_lite0",
    "A network by name: torchvision's (alexnet, resnet18, resnet50, ...), or timm's.",
)
@_option(
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
@_option("epochs", click.IntRange(min=1), 10, "Passes over the training tiles.")
@_option("batch", click.IntRange(min=1), 32, "Tiles a step, over all processes.")
@_option("optimizer", click.Choice(("adamw", "sgd")), "adamw", "How steps are taken.")
@click.option("--lr", type=float, help="Peak learning rate; depends on optimizer and depth if not.")
@_option("weight-decay", float, 0.01, "Strength of L2 on weights.")
@_option("clip", float, 1.0, "Largest norm of a step's gradient; 0: no limit.")
@_option("warmup", float, 1.0, "Epochs in which the learning rate rises, before its cosine fall.")
@_option("label-smoothing", float, 0.1, "Share of the target spread over all classes.")
@_option(
    "class-weight",
    click.Choice(("none", "balanced")),
    "none",
    "Whether each class weighs the same however many tiles it has.",
)
@_option("crop", float, 0.85, "Side of the random crop, as a share of the tile's; 1: none.")
@_option("jitter", float, 0.2, "Largest change of brightness, contrast and saturation; 0: none.")
@click.option(
    "--flips/--no-flips",
    default=True,
    show_default=True,
    help="Mirror and turn tiles by quarter turns at random.",
)
@_option("sample-frac", float, 1.0, "Share of the training tiles to use.")
@click.option(
    "--head-first/--no-head-first",
    default=True,
    show_default=True,
    help="Fit the new last layer to the network as it is before training.",
)
@_option("views", click.IntRange(min=1), 1, "last_only: versions of each tile that are featurized.")
@_option(
    "batch-norm",
    click.Choice(("auto", "frozen", "batch")),
    "auto",
    "Statistics of retrained layers: frozen or the data's; auto: frozen but for random weights.",
)
@_option("keep", click.Choice(("best", "last")), "best", "The epoch that the model is from.")
@_option("patience", click.IntRange(min=0), 0, "Stop after so many epochs without gain; 0: never.")
@_option(
    "precision",
    click.Choice(("auto", "fp32", "bf16")),
    "auto",
    "What is computed in; auto: mixed bf16 where the device has it.",
)
@common.seed_option
@_option("device", click.Choice(("auto", "cpu", "cuda")), "auto", "Where; auto: a GPU if any.")
@_option("nproc", click.IntRange(min=1), 1, "Processes on this machine (one a GPU).")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of a process; cores if not.")
@_option("memory-mb", click.IntRange(min=0), 4096, "Decoded tiles in memory up to this, else file.")
@click.option("--resume", is_flag=True, help="Go on after the last whole epoch of --out.")
@click.option("--keep-checkpoints", is_flag=True, help="Leave them when the model is written.")
@common.run_options
@common.process_options
def command(
    source: str,
    out: str,
    validation: str | None,
    resume: bool,
    keep_checkpoints: bool,
    engine: str,
    master: str | None,
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
    arguments: dict[str, Any] = {
        "validation": validation,
        "resume": resume,
        "keep_checkpoints": keep_checkpoints,
    }
    if rank():
        finetune(source, out, settings, machine, **arguments)
        return None
    params = {"source": source, "out": out, "validation": validation}
    with (
        common.engine(engine, master, None) as made,
        _history(out, name, tracking_uri, params, resume) as run,
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


@contextlib.contextmanager
def _history(
    out: str, name: str | None, tracking_uri: str | None, params: dict[str, Any], resume: bool
) -> Iterator[Run]:
    """The run of this training; that of the stopped one when it goes on."""
    from quadrat import runs
    from quadrat.finetuning import stopped_run

    stopped = stopped_run(out) if resume else None
    if stopped is not None:
        try:
            runs.show_run(stopped, tracking_uri=tracking_uri)
        except RunError:
            stopped = None  # it is in another history: here a run of its own gets the whole curve
    with runs.start(
        "finetune", name=name or common.last_name(out), params=params, tracking_uri=tracking_uri,
        resume=stopped,
    ) as run:  # fmt: skip
        common.note("runs", run.tracking_uri, run.id)
        yield run


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
    from quadrat.cli.train import accuracy_text

    network, machine = result.network, result.machine
    splits = {split: sum(classes.values()) for split, classes in result.tiles.items()}
    lines = [
        f"{result.uri}: {network['name']} retrained {network['depth']} at {network['pixels']} px, "
        f"epoch {result.best_epoch} of {len(result.history)}",
        f"tiles: {common.counts_text(splits)}",
        f"speed: {result.samples_per_s:,.0f} tiles/s ({machine['device']}, {machine['precision']}, "
        f"{machine['processes']} x {machine['threads']} threads)",
        accuracy_text(result.metrics),
    ]
    if result.test is not None:
        lines.append(f"test: overall accuracy {common.figure_text(result.test['overall'])}")
    parity = result.parity
    lines.append(
        f"exported graph: the same label on {parity['same_labels']:.2%} of {parity['tiles']:,} "
        f"tiles, probabilities within {parity['max_difference']:.1g}"
    )
    lines += common.skipped_text(skips.to_lists(result.skipped), len(result.skipped))
    lines += [f"warning: {text}" for text in result.warnings]
    lines.append(f"run: {run} (quadrat runs show {run[:12]})")
    return "\n".join(lines)
