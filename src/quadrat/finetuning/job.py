"""One fine-tuning from tiles to model: data, network, training, calibration, export, proof.

It does not know how epochs are trained, nor how processes are started.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from quadrat import model, products, storage, tiles
from quadrat.engines.local import available_cpus
from quadrat.errors import TrainError
from quadrat.finetuning import cached, export, judging, likeness, networks
from quadrat.finetuning.checkpoint import Checkpoints
from quadrat.finetuning.data import TileData, columns, loaded
from quadrat.finetuning.device import resolve_precision
from quadrat.finetuning.distributed import Group, joined
from quadrat.finetuning.feed import Pictures
from quadrat.finetuning.loop import Outcome, Task, Training
from quadrat.finetuning.result import FinetuneResult, from_dict
from quadrat.finetuning.sets import Sets, open_sets
from quadrat.finetuning.settings import CHECKPOINTS, RANDOM, RUN_FILE, FinetuneSettings, Machine
from quadrat.heads import distance as distances
from quadrat.heads.calibrate import Scalings

PARITY_TILES = 1000


@dataclass
class FinetuneJob:
    """The arguments of `finetune`, and what they lead to."""

    source: tiles.Source | str
    out: str
    settings: FinetuneSettings
    machine: Machine
    validation: tiles.Source | str | None
    resume: bool
    keep_checkpoints: bool
    run_id: str | None
    on_event: Callable[[str, Mapping[str, Any]], None]
    on_progress: Callable[[int, int], None]
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def run(self) -> FinetuneResult:
        """Train and save the model; every process gets the first one's result."""
        begun = time.perf_counter()
        threads = self.machine.threads or available_cpus()
        with joined(self.machine.device, threads) as group, _repeatable(group):
            if not group.first:
                self.on_event, self.on_progress = _silent, _silent
            precision = resolve_precision(self.settings.precision, group.device)
            settings = replace(self.settings, precision=precision)
            if settings.batch_norm == "auto":
                new = settings.weights == RANDOM
                settings = replace(settings, batch_norm="batch" if new else "frozen")
            sets = open_sets(self.source, self.validation)
            network = networks.build(
                settings.backbone, columns(sets, settings), settings.weights, settings.pixels,
                settings.seed, given=settings.given,
            )  # fmt: skip
            training = networks.retrain(network, settings.depth, settings.batch_norm)
            described = _machine(group, settings, threads)
            self._tell_params(network, settings, described)
            with self._output(group), self._timed_data(sets, settings, group) as data:
                result = self._train(
                    network, training, data, settings=settings, group=group, machine=described
                )
                self.seconds["total"] = time.perf_counter() - begun
                if result is not None:
                    result = replace(result, seconds=dict(self.seconds))
                    self.on_event("model", {"uri": result.uri, "digest": result.digest})
                told = json.dumps(result.to_dict()).encode() if result is not None else b""
                shared = group.from_first(told)
            return result if result is not None else from_dict(json.loads(shared))

    @contextlib.contextmanager
    def _output(self, group: Group) -> Iterator[None]:
        """Hold the output folder, in the first process."""
        if not group.first:
            yield
            return
        with products.hold("models", self.out):
            yield

    @contextlib.contextmanager
    def _timed_data(
        self, sets: Sets, settings: FinetuneSettings, group: Group
    ) -> Iterator[TileData]:
        began = time.perf_counter()
        with loaded(sets, settings, self.machine, group, self.on_progress) as data:
            self.seconds["tiles"] = time.perf_counter() - began
            self.warnings.extend(data.warnings)
            self.on_event(
                "data", {"uri": sets.where, "digest": data.digest, "tiles": data.counts()}
            )
            yield data

    def _tell_params(
        self, network: networks.TorchNetwork, settings: FinetuneSettings, machine: Mapping[str, Any]
    ) -> None:
        values = {
            **settings.to_dict(),
            "backbone": network.name,
            "lr": settings.peak_lr,
            "pixels": network.pixels,
            "weights": network.weights,
            "weights_sha256": network.weights_sha256,
            **machine,
        }
        self.on_event("params", values)

    def _train(
        self,
        network: networks.TorchNetwork,
        training: tuple[str, ...],
        data: TileData,
        *,
        settings: FinetuneSettings,
        group: Group,
        machine: Mapping[str, Any],
    ) -> FinetuneResult | None:
        """Train; in the first process also calibrate, export and save."""
        checkpoints, resume = self._checkpoints(network, data, settings, group)
        pictures = Pictures(
            data.chips, network.pixels, network.mean, network.std, settings, group.device
        )
        task = Task(
            data.labels, data.train, data.validation, len(data.names), data.called.__getitem__,
            data.targets,
        )  # fmt: skip
        loop = Training(
            module=network.module, training=training, feed=pictures, task=task, settings=settings,
            group=group, checkpoints=checkpoints, on_event=self.on_event,
            on_progress=self.on_progress, run_id=self.run_id or "",
            steps_to_head=networks.steps_to_head(network),
        )  # fmt: skip
        head = networks.linear(network.module, network.head)
        last_only = settings.depth == "last_only"
        features = None
        if last_only or (settings.head_first and not resume and settings.weights != RANDOM):
            began = time.perf_counter()
            others = np.concatenate([data.validation, data.test]) if last_only else data.test[:0]
            features = cached.featurize(
                network,
                pictures,
                train=data.train,
                others=others,
                group=group,
                on_progress=self.on_progress,
            )
            self.seconds["features"] = time.perf_counter() - began
        began = time.perf_counter()
        if last_only and features is not None:
            loop.module, loop.training, loop.feed = head, ("",), features
            outcome = loop.fit(resume)
            cached.fold(head, features)
            loop.module, loop.feed = network.module.to(group.device), pictures
        else:
            if features is not None:
                shares = task.shares(data.train)
                cached.fit_head(head, features, shares, data.train, settings.seed)
            features = None  # they take as much room as a tenth of the tiles
            outcome = loop.fit(resume)
        self.seconds["train"] = time.perf_counter() - began
        if not group.first:
            return None
        self.warnings.extend(outcome.warnings)
        return self._finish(
            network,
            loop,
            outcome,
            data,
            settings=settings,
            checkpoints=checkpoints,
            machine=machine,
        )

    def _checkpoints(
        self,
        network: networks.TorchNetwork,
        data: TileData,
        settings: FinetuneSettings,
        group: Group,
    ) -> tuple[Checkpoints, bool]:
        """The checkpoints of this training, and whether there is one to go on from."""
        decides = {k: str(v) for k, v in settings.to_dict().items()}
        identity = {
            **decides,
            "backbone": network.name,
            "lr": str(settings.peak_lr),
            "pixels": str(network.pixels),
            "weights": network.weights_sha256 or RANDOM,
            "legend": ", ".join(data.legend.names),
            "tiles": data.digest,
        }
        checkpoints = Checkpoints(storage.join(self.out, CHECKPOINTS), identity)
        there = group.any(checkpoints.exists() if group.first else False)
        if there and not self.resume:
            raise TrainError(
                f"{checkpoints.folder} holds the checkpoints of a stopped training; "
                "--resume goes on with it, removing that folder starts anew"
            )
        if self.resume and not there:
            text = f"{checkpoints.folder} holds no checkpoint: training starts from the beginning"
            self.warnings.append(text)
            self.on_event("warning", {"text": text})
        if group.first and self.run_id:
            storage.write_json(storage.join(checkpoints.folder, RUN_FILE), {"run_id": self.run_id})
        return checkpoints, there

    def _finish(
        self,
        network: networks.TorchNetwork,
        loop: Training,
        outcome: Outcome,
        data: TileData,
        *,
        settings: FinetuneSettings,
        checkpoints: Checkpoints,
        machine: Mapping[str, Any],
    ) -> FinetuneResult:
        """Calibrate, validate, export, compare the graph with torch, and save."""
        loop.settings = replace(settings, precision="fp32")  # as the exported graph computes
        judged = judging.judge(loop, data, settings.seed)
        graph, parity = _exported(network, loop, data, judged.scalings)
        if graph.distance is None:
            self.warnings.append(distances.TOO_FEW)
        described = _described(network, settings)
        info = model.ModelInfo(
            legend=data.legend,
            size_px=data.size_px,
            grid=data.grid,
            backbone=described,
            head={"head": "finetune", **settings.to_dict(), "best_epoch": outcome.best_epoch},
            run_id=self.run_id,
            tileset_digest=data.digest,
            metrics=judged.validation,
            temperature=judged.scalings.probabilities.temperature,
            masks=data.masks,
            conformal=judged.conformal,
            distance={} if graph.distance is None else graph.distance.to_dict(),
            warnings=tuple(self.warnings),
        )
        saved = model.save_model(self.out, graph.onnx, info)
        self.on_event("metrics", {"split": "validation", **judged.validation})
        if judged.test is not None:
            self.on_event("metrics", {"split": "test", **judged.test})
        self.on_event("parity", parity.to_dict())
        if not self.keep_checkpoints:
            _clear(checkpoints)
        return FinetuneResult(
            uri=saved.uri,
            digest=saved.digest,
            network=described,
            metrics=judged.validation,
            test=judged.test,
            best_epoch=outcome.best_epoch,
            history=outcome.history,
            temperature=judged.scalings.probabilities.temperature,
            parity=parity.to_dict(),
            tiles=data.counts(),
            held_out=data.held_out,
            machine=machine,
            samples_per_s=statistics.median(h["samples_per_s"] for h in outcome.history),
            resumed_after=outcome.resumed_after,
            seconds=dict(self.seconds),
            skipped=data.skipped,
            warnings=tuple(self.warnings),
        )


def _exported(
    network: networks.TorchNetwork, loop: Training, data: TileData, scalings: Scalings
) -> tuple[export.Graph, export.Parity]:
    """The network as a graph with its temperatures and its distance, compared with torch."""
    scorer = export.Scorer(network, scalings, len(data.legend))
    step = -(-len(data.validation) // PARITY_TILES)
    like = likeness.measure(
        network,
        loop.feed,
        train=data.train,
        held=data.validation,
        settings=loop.settings,
        device=loop.group.device,
    )
    graph = export.with_distance(export.to_onnx(scorer, data.size_px), like.distance)
    parity = export.check(
        scorer, graph.onnx, data.chips[data.validation[::step]], like.of_held[::step]
    )
    return graph, parity


def _clear(checkpoints: Checkpoints) -> None:
    """Remove the checkpoints, and their folder if nothing else is in it."""
    checkpoints.clear()
    storage.remove(storage.join(checkpoints.folder, RUN_FILE))
    storage.remove_empty(checkpoints.folder)


def _silent(*_: Any) -> None:
    """A listener that does nothing: only the first process tells."""


@contextlib.contextmanager
def _repeatable(group: Group) -> Iterator[None]:
    """Deterministic operations on a CPU, the fastest kernels on a GPU."""
    if group.device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        yield
        return
    fill: Any = torch.utils.deterministic  # has its attributes by a trick that types cannot see
    had = torch.are_deterministic_algorithms_enabled(), fill.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    fill.fill_uninitialized_memory = False  # it would cost a pass over every new tensor
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(had[0])
        fill.fill_uninitialized_memory = had[1]


def _machine(group: Group, settings: FinetuneSettings, threads: int) -> dict[str, Any]:
    gpu = torch.cuda.get_device_name() if group.device.type == "cuda" else None
    return {
        "device": gpu or group.device.type,
        "precision": settings.precision,
        "processes": group.size,
        "threads": threads,
        "torch": torch.__version__,
    }


def _described(network: networks.TorchNetwork, settings: FinetuneSettings) -> dict[str, Any]:
    return {
        "name": network.name,
        "weights": network.weights,
        "weights_sha256": network.weights_sha256,
        "licence": network.licence,
        "depth": settings.depth,
        "pixels": network.pixels,
        "dim": network.dim,
        "mean": list(network.mean),
        "std": list(network.std),
    }
