"""Training throughput: tiles a second against the same step on inputs that cost nothing.

    python benchmarks/finetune_throughput.py --backbone resnet18 --pixels 224 --threads 2

Both loops run the same forward, backward and optimiser step; one is fed augmented tiles, the other
the same batch again and again. They take turns, so that a machine that slows down slows both. With
--last-only also: how long features of one pass take, and ten epochs of a layer on them.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from quadrat.finetuning import networks
from quadrat.finetuning.cached import featurize
from quadrat.finetuning.checkpoint import Checkpoints
from quadrat.finetuning.device import resolve_precision
from quadrat.finetuning.distributed import Group, joined, on_device
from quadrat.finetuning.feed import Ids, Pictures, TrainBatch
from quadrat.finetuning.loop import Task, Training
from quadrat.finetuning.optimise import class_weights, make_optimizer
from quadrat.finetuning.settings import FinetuneSettings

CLASSES = 6


@dataclass(frozen=True)
class Still:
    """A feed of the same inputs again and again."""

    inputs: torch.Tensor

    def train(self, epoch: int, plan: Sequence[Ids], rank: int, size: int) -> Iterator[TrainBatch]:
        for step, ids in enumerate(plan):
            yield TrainBatch(step, len(ids), ids, self.inputs[: len(ids)])


def made(settings: FinetuneSettings, tiles: int, side: int, group: Group, folder: str) -> Training:
    """A training on tiles of random pixels; its epochs are called one by one."""
    network = networks.build(settings.backbone, CLASSES, settings.weights, settings.pixels)
    names = networks.retrain(network, settings.depth, settings.batch_norm)
    rng = np.random.default_rng(0)
    chips = rng.integers(0, 256, (tiles, side, side, 3), np.uint8)
    labels = np.arange(tiles) % CLASSES
    feed = Pictures(chips, network.pixels, network.mean, network.std, settings, group.device)
    task = Task(labels, np.arange(tiles), np.arange(tiles), CLASSES)
    training = Training(
        network.module, names, feed, task, settings, group, Checkpoints(folder, {}),
        lambda event, values: None, lambda done, total: None, micro=settings.batch,
    )  # fmt: skip
    training.module = on_device(training.module, group)
    training.optimizer = make_optimizer(training.module, settings)
    training.weights = class_weights(labels, CLASSES, settings).to(group.device)
    return training


def measured(training: Training, rounds: int, warm: int) -> tuple[list[float], list[float]]:
    """Tiles a second of each round: of the real feed, of the still one."""
    steps = -(-len(training.task.train) // training.settings.batch)
    real, batch = training.feed, training.settings.batch
    still = Still(real.augmented(np.arange(batch), (0, 0, 0)))
    found: tuple[list[float], list[float]] = ([], [])
    for turn in range(warm + rounds):
        for feed, rates in zip((real, still), found, strict=True):
            training.feed = feed
            rate = training._epoch(training.module, 1 + turn, steps)["samples_per_s"]
            if turn >= warm:
                rates.append(rate)
    return found


def last_only(settings: FinetuneSettings, tiles: int, side: int, group: Group, folder: str) -> None:
    """Seconds of one pass of features and of ten epochs of a last layer on them."""
    import time

    chosen = replace(settings, depth="last_only", epochs=10, lr=None)
    network = networks.build(chosen.backbone, CLASSES, chosen.weights, chosen.pixels)
    training = made(chosen, tiles, side, group, folder)
    began = time.perf_counter()
    ids = training.task.train
    features = featurize(
        network, training.feed, train=ids, others=ids[:0], group=group,
        on_progress=lambda done, total: None,
    )  # fmt: skip
    middle = time.perf_counter()
    head = networks.linear(network.module, network.head)
    training.module, training.training, training.feed = head, ("",), features
    training.fit(resume=False)
    ended = time.perf_counter()
    print(f"last_only: one pass {middle - began:.1f} s, then ten epochs {ended - middle:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--pixels", type=int, default=224)
    parser.add_argument("--side", type=int, default=224, help="of the tiles")
    parser.add_argument("--tiles", type=int, default=192)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warm", type=int, default=1, help="rounds that do not count")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--last-only", action="store_true")
    parser.add_argument("--json")
    arguments = parser.parse_args()
    with joined(arguments.device, arguments.threads) as group, tempfile.TemporaryDirectory() as t:
        settings = FinetuneSettings(
            backbone=arguments.backbone, weights="random", pixels=arguments.pixels,
            epochs=1000, batch=arguments.batch, lr=1e-6, batch_norm="frozen",
            precision=resolve_precision(arguments.precision, group.device),
        )  # fmt: skip
        training = made(settings, arguments.tiles, arguments.side, group, t)
        real, still = measured(training, arguments.rounds, arguments.warm)
        ratios = [a / b for a, b in zip(real, still, strict=True)]
        device = torch.cuda.get_device_name() if group.device.type == "cuda" else "cpu"
        print(
            f"{arguments.backbone}, {arguments.side} px tiles at {arguments.pixels} px, batches of "
            f"{arguments.batch}, {settings.precision}, {device}, {torch.get_num_threads()} threads"
        )
        print(f"augmented tiles {statistics.median(real):8.1f} tiles/s")
        print(f"still inputs    {statistics.median(still):8.1f} tiles/s")
        print(
            f"share           {statistics.median(ratios):8.1%} "
            f"({min(ratios):.1%} to {max(ratios):.1%} in {len(ratios)} rounds)"
        )
        if arguments.last_only:
            last_only(settings, arguments.tiles, arguments.side, group, t)
        if arguments.json:
            values = {"real": real, "still": still, "share": statistics.median(ratios)}
            Path(arguments.json).write_text(json.dumps(values))


if __name__ == "__main__":
    main()
