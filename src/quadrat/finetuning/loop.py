"""The training loop: epochs of steps, validation, checkpoints, the best epoch kept.

It knows modules that turn inputs into logits, and a feed of inputs; not tiles, files of models or
the run history, which listens.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from quadrat import metrics
from quadrat.errors import TrainError
from quadrat.finetuning import networks
from quadrat.finetuning.checkpoint import Checkpoints
from quadrat.finetuning.device import autocast, is_out_of_memory
from quadrat.finetuning.distributed import Group, averaged, on_device
from quadrat.finetuning.feed import Feed, Ids, TrainBatch, plan
from quadrat.finetuning.optimise import class_weights, learning_rate, make_optimizer
from quadrat.finetuning.settings import FinetuneSettings
from quadrat.heads.calibrate import one_hot

OnEvent = Callable[[str, Mapping[str, Any]], None]
OnProgress = Callable[[int, int], None]

# On a GPU looking at every loss would make the host wait for every step.
LOOK_EVERY = {"cpu": 1, "cuda": 25}


@dataclass(frozen=True)
class Task:
    """What is to be learned.

    Attributes:
        labels: (N,) main classes of all tiles, -1 for none.
        train, validation: places of the tiles.
        classes: how many.
        name: a tile's name, for messages.
        targets: (N, classes) class shares of all tiles; None where every tile is of one class.
    """

    labels: Ids
    train: Ids
    validation: Ids
    classes: int
    name: Callable[[int], str] = str
    targets: NDArray[np.float32] | None = None

    def wanted(self, ids: Ids) -> Tensor:
        """What the loss compares with: shares (n, classes), or class ids (n,)."""
        return torch.from_numpy(self.labels[ids] if self.targets is None else self.targets[ids])

    def shares(self, ids: Ids) -> NDArray[np.floating]:
        """Class shares of some tiles, (n, classes)."""
        return (
            one_hot(self.labels[ids], self.classes) if self.targets is None else self.targets[ids]
        )


@dataclass(frozen=True)
class Outcome:
    """How the training went; the module then holds the best epoch's weights (in rank 0)."""

    best_epoch: int
    history: tuple[Mapping[str, float], ...]
    warnings: tuple[str, ...]
    resumed_after: int = 0


@dataclass
class Training:
    """One training in progress.

    Attributes:
        module: inputs -> logits.
        training: names of the submodules that are in training mode (see `networks.retrain`).
        steps_to_head: see `networks.steps_to_head`; for a decay of the learning rate by layer.
    """

    module: nn.Module
    training: tuple[str, ...]
    feed: Feed
    task: Task
    settings: FinetuneSettings
    group: Group
    checkpoints: Checkpoints
    on_event: OnEvent
    on_progress: OnProgress
    run_id: str = ""
    steps_to_head: Mapping[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    micro: int = 0

    def fit(self, resume: bool) -> Outcome:
        """Train to the end; see `FinetuneSettings`.

        Raises:
            TrainError: a loss that is not finite (the last good checkpoint is kept), a step that
                does not fit the memory, a checkpoint of another training.
        """
        steps = len(plan(self.task.train, self.settings.batch, 0, 0))
        self._check_sizes(steps)
        self.module = on_device(self.module, self.group)
        self.optimizer = make_optimizer(self.module, self.settings, self.steps_to_head)
        self.weights = class_weights(self.task.shares(self.task.train), self.settings).to(
            self.group.device
        )
        self.micro = self.micro or self.settings.batch
        history: list[Mapping[str, float]] = []
        best_epoch, best_state = 0, None
        if resume:
            history, best_epoch, best_state = self._restore()
        resumed_after = len(history)
        runner = averaged(self.module, self.group)
        for epoch in range(len(history) + 1, self.settings.epochs + 1):
            if self._enough(epoch - 1, best_epoch):
                break
            figures = self._epoch(runner, epoch, steps)
            figures |= self.validate()
            history.append(figures)
            better = (
                not best_epoch
                or self.settings.keep == "last"
                or _merit(figures) > _merit(history[best_epoch - 1])
            )
            if better:
                best_epoch = epoch
                best_state = _copied(self.module) if self.group.first else None
            if self.group.first:
                self._save(epoch, history, best_epoch, best_state if better else None)
                self.on_event("epoch", figures)
            self.group.wait()
        if best_state is not None:
            self.module.load_state_dict(best_state)
        self.module.eval()
        return Outcome(best_epoch, tuple(history), tuple(self.warnings), resumed_after)

    def _check_sizes(self, steps: int) -> None:
        smallest = len(self.task.train) // steps
        if smallest < self.group.size:
            raise TrainError(
                f"{self.group.size} processes for batches of {smallest} tiles; "
                "use fewer processes or a larger --batch"
            )

    def _enough(self, done: int, best: int) -> bool:
        return bool(self.settings.patience) and done - best >= self.settings.patience

    def _epoch(self, runner: nn.Module, epoch: int, steps: int) -> dict[str, float]:
        """One pass over the training tiles; its figures, summed over all processes."""
        settings, group = self.settings, self.group
        # Seeded anew each epoch (dropout): a resumed run draws what the unbroken one drew.
        torch.manual_seed(_seed(settings.seed, epoch, group.rank))
        networks.set_training(self.module, self.training)
        began = time.perf_counter()
        losses = torch.zeros(steps, dtype=torch.float64, device=group.device)
        wrong = torch.zeros((), dtype=torch.int64, device=group.device)
        done, looked, rate = 0, 0, 0.0
        total = settings.epochs * len(self.task.train)
        names: list[TrainBatch] = []
        order = plan(self.task.train, settings.batch, settings.seed, epoch)
        self.on_progress((epoch - 1) * len(self.task.train), total)
        for batch in self.feed.train(epoch, order, group.rank, group.size):
            rate = learning_rate(settings, (epoch - 1) + batch.step / steps, steps)
            for each in self.optimizer.param_groups:
                each["lr"] = rate * each["scale"]
            losses[batch.step], errors = self._step(runner, batch)
            wrong += errors
            names.append(TrainBatch(batch.step, batch.size, batch.ids, batch.inputs[:0]))
            done += batch.size
            if len(names) - looked >= LOOK_EVERY.get(group.device.type, 1) or len(names) == steps:
                self._look(losses, epoch, names, looked)
                looked = len(names)
            self.on_progress((epoch - 1) * len(self.task.train) + done, total)
        sums = group.total(np.array([float(losses.sum()), float(wrong), _seen(names)]))
        seconds = time.perf_counter() - began
        return {
            "epoch": float(epoch),
            "loss": float(sums[0] / sums[2]),
            "error_percent": float(100.0 * sums[1] / sums[2]),
            "seconds": seconds,
            "samples_per_s": float(sums[2] / seconds),
            "lr": rate,
        }

    def _look(self, losses: Tensor, epoch: int, names: list[TrainBatch], first: int) -> None:
        """Stop at a loss that is not finite, naming its batch."""
        for batch, loss in zip(names[first:], losses[first : len(names)].tolist(), strict=True):
            if not math.isfinite(loss):
                tiles = ", ".join(self.task.name(int(i)) for i in batch.ids[:3])
                kept = (
                    f"the checkpoint of epoch {epoch - 1} is kept in {self.checkpoints.folder}"
                    if epoch > 1
                    else "no epoch was finished"
                )
                raise TrainError(
                    f"the loss is {loss} in epoch {epoch}, batch {batch.step + 1} of "
                    f"{len(losses)} (tiles {tiles}, ...); {kept}; lower --lr or use "
                    "--precision fp32"
                )

    def _step(self, runner: nn.Module, batch: TrainBatch) -> tuple[Tensor, Tensor]:
        """One step; a batch that does not fit the memory is computed in smaller parts."""
        while True:
            try:
                return self._forward_backward(runner, batch)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            if self.group.device.type == "cuda":
                torch.cuda.empty_cache()
            self._halve(len(batch.ids))

    def _halve(self, tiles: int) -> None:
        had = min(self.micro, tiles)
        if self.group.size > 1:
            raise TrainError(
                f"{had} tiles a process do not fit its memory; use --batch "
                f"{max(1, self.settings.batch // 2)} or --pixels"
            )
        if had == 1:
            raise TrainError("not even one tile fits the memory; use fewer --pixels")
        self.micro = had // 2
        text = (
            f"{had} tiles do not fit the memory: the batch of {self.settings.batch} goes through "
            f"{self.micro} tiles at a time"
        )
        self.warnings.append(text)
        self.on_event("warning", {"text": text})

    def _forward_backward(self, runner: nn.Module, batch: TrainBatch) -> tuple[Tensor, Tensor]:
        device = self.group.device
        self.optimizer.zero_grad(set_to_none=True)
        loss = torch.zeros((), dtype=torch.float64, device=device)
        wrong = torch.zeros((), dtype=torch.int64, device=device)
        truth = torch.from_numpy(self.task.labels[batch.ids]).to(device)
        wanted = self.task.wanted(batch.ids).to(device)
        for start in range(0, len(truth), self.micro):
            part = slice(start, start + self.micro)
            with autocast(self.settings.precision, device):
                logits = runner(batch.inputs[part])
            summed = self.loss(logits, wanted[part])
            # Several processes' gradients are averaged, so each counts for `size`.
            (summed * (self.group.size / batch.size)).backward()  # type: ignore[no-untyped-call]
            loss += summed.detach()
            missed = (logits.detach().argmax(1) != truth[part]) & (truth[part] >= 0)
            wrong += missed.sum()
        if self.settings.clip:
            chosen = [p for p in self.module.parameters() if p.grad is not None]
            nn.utils.clip_grad_norm_(chosen, self.settings.clip)
        self.optimizer.step()
        return loss, wrong

    def loss(self, logits: Tensor, wanted: Tensor) -> Tensor:
        """Cross-entropy summed over tiles, in single precision or better.

        Args:
            wanted: class ids (n,), or shares (n, K).
        """
        kind = torch.promote_types(logits.dtype, torch.float32)
        return F.cross_entropy(
            logits.to(kind), wanted if wanted.ndim == 1 else wanted.to(kind),
            self.weights.to(kind), reduction="sum",
            label_smoothing=self.settings.label_smoothing,
        )  # fmt: skip

    def validate(self) -> dict[str, float]:
        """Loss, overall accuracy and macro F1 on the validation tiles, over all processes."""
        ids = self.group.share(self.task.validation)
        logits = self.logits(ids)
        truth = self.task.labels[ids]
        k = self.task.classes
        matrix = metrics.confusion(truth, logits.argmax(1), k)
        wanted = self.task.wanted(ids)
        summed = float(F.cross_entropy(torch.from_numpy(logits), wanted, reduction="sum"))
        sums = self.group.total(np.array([summed, len(ids), *matrix.reshape(-1)], np.float64))
        whole = sums[2:].reshape(k, k)
        return {
            "validation_loss": float(sums[0] / sums[1]),
            "validation_accuracy": float(metrics.overall(whole)),
            "validation_macro_f1": float(metrics.macro_f1(whole)),
        }

    def logits(self, ids: Ids) -> NDArray[np.float32]:
        """Logits (n, K) of tiles as they are."""
        self.module.eval()
        out = np.zeros((len(ids), self.task.classes), np.float32)
        place = 0
        with torch.inference_mode(), autocast(self.settings.precision, self.group.device):
            for some, inputs in self.feed.plain(ids, max(1, self.settings.batch)):
                out[place : place + len(some)] = self.module(inputs).float().cpu().numpy()
                place += len(some)
        return out

    def _save(
        self,
        epoch: int,
        history: list[Mapping[str, float]],
        best_epoch: int,
        best: Mapping[str, Any] | None,
    ) -> None:
        state = {
            "epoch": epoch,
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": [dict(h) for h in history],
            "best_epoch": best_epoch,
            "micro": self.micro,
            "warnings": list(self.warnings),
            "run_id": self.run_id,
        }
        self.checkpoints.save(state, best)

    def _restore(self) -> tuple[list[Mapping[str, float]], int, Mapping[str, Any] | None]:
        data = self.checkpoints.read() if self.group.first else b""
        state = self.checkpoints.parse(self.group.from_first(data), self.group.device)
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.micro = int(state["micro"])
        self.warnings.extend(state["warnings"])
        best = int(state["best_epoch"])
        kept = self.checkpoints.best(best, torch.device("cpu")) if self.group.first else None
        history = list(state["history"])
        if self.group.first and (not self.run_id or state["run_id"] != self.run_id):
            for figures in history:  # another run of the history: it gets the whole curve
                self.on_event("epoch", figures)
        return history, best, kept


def _merit(figures: Mapping[str, float]) -> tuple[float, float]:
    """The sort key of epochs: validation macro F1, then a lower loss.

    A few hundred validation tiles give many epochs the same F1; the first of them is seldom best.
    """
    return figures["validation_macro_f1"], -figures["validation_loss"]


def _seed(seed: int, epoch: int, rank: int) -> int:
    return int(np.random.SeedSequence((seed, epoch, rank)).generate_state(1, np.uint64)[0] >> 1)


def _seen(batches: list[TrainBatch]) -> float:
    return float(sum(len(b.ids) for b in batches))


def _copied(module: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().to("cpu", copy=True) for k, v in module.state_dict().items()}
