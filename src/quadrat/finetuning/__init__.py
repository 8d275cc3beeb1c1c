"""Fine-tuning: retrain a pretrained network to a chosen depth, on one device or many -> Model.

    settings     what decides the result; where it is worked out
    data         labelled tiles, decoded, sorted into training, validation and test
    decoded      files of decoded tiles, mapped into memory
    augment      chips -> what the network sees
    networks     networks by name, pretrained; depths; `lite` has the default one
    feed         batches, prepared while the network works
    cached       `last_only`: features once, then a layer on them
    device       what a device computes in
    loop         epochs, validation, the best epoch kept; `checkpoint` after every one
    distributed  several processes as one; `launch` or `on_spark` starts them, `worker` is one
    judging      figures of validation and test tiles, with the temperatures
    likeness     how unlike its training tiles another tile is to the trained network
    export       the trained network as a graph, checked against torch
    job          all of it, in order

The only home of torch. This module, `settings`, `result` and `launch` load without it; the others
are imported when a training starts. It does not know the run history, which listens to `on_event`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from quadrat import storage, tiles
from quadrat.engines import Engine, abilities
from quadrat.errors import TrainError
from quadrat.finetuning.launch import launch, processes, rank, require
from quadrat.finetuning.result import FinetuneResult, from_dict
from quadrat.finetuning.settings import CHECKPOINTS, RANDOM, RUN_FILE, FinetuneSettings, Machine

__all__ = [
    "FinetuneResult", "FinetuneSettings", "Machine", "finetune", "rank", "require", "stopped_run",
]  # fmt: skip


def finetune(
    source: tiles.Source | str,
    out: str,
    settings: FinetuneSettings | None = None,
    machine: Machine | None = None,
    *,
    validation: tiles.Source | str | None = None,
    resume: bool = False,
    keep_checkpoints: bool = False,
    run_id: str | None = None,
    on_event: Callable[[str, Mapping[str, Any]], None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    engine: Engine | None = None,
) -> FinetuneResult:
    """Retrain a pretrained network on labelled tiles and save the model.

    Where several processes were started (by torchrun, or Spark's TorchDistributor), each calls this
    with the same arguments; only the first writes and tells, and each gets the result.

    Args:
        source: labelled tiles: a tile set, a folder of pictures a class, or its URI.
        out: the model's folder; checkpoints lie in `out/checkpoints` until the model is written.
        settings: what to train and how.
        machine: where. `nproc` above 1 starts processes, for which sources must be URIs.
        validation: a set of tiles of its own to validate with; by default the source's validation
            tiles, or a fifth of its training tiles held back.
        resume: go on after the last whole epoch of a training that was stopped.
        keep_checkpoints: leave them when the model is written.
        run_id: the run of the history that this is.
        on_event: told `params`, `data`, `epoch`, `warning`, `metrics` and `model` as they come.
        on_progress: told how many tiles are done of how many: decoded, featurized, trained on.
        engine: `spark` starts the processes on its cluster (see `on_spark`).

    Raises:
        MissingExtraError: torch is not installed.
        TrainError: no labels, one class, a depth that the network lacks, a device that is not
            there, a loss that is not finite, a checkpoint of another training, an exported graph
            that differs from the network. BackboneError: weights that cannot be had or do not fit.
        InputError, StorageError: tiles or folders that cannot be used.
    """
    require()
    chosen, where = settings or FinetuneSettings(), machine or Machine()
    on_spark = abilities(engine).starts_processes
    if (where.nproc > 1 or on_spark) and processes() == 1:
        return _launched(
            source, out, chosen, where, engine if on_spark else None,
            validation=validation, resume=resume, keep_checkpoints=keep_checkpoints,
            run_id=run_id, on_event=on_event, on_progress=on_progress,
        )  # fmt: skip
    from quadrat.finetuning.job import FinetuneJob

    job = FinetuneJob(
        source=source,
        out=out,
        settings=chosen,
        machine=where,
        validation=validation,
        resume=resume,
        keep_checkpoints=keep_checkpoints,
        run_id=run_id,
        on_event=on_event or (lambda event, values: None),
        on_progress=on_progress or (lambda done, total: None),
    )
    return job.run()


def _launched(
    source: tiles.Source | str,
    out: str,
    settings: FinetuneSettings,
    machine: Machine,
    engine: Engine | None,
    *,
    validation: tiles.Source | str | None,
    on_event: Callable[[str, Mapping[str, Any]], None] | None,
    on_progress: Callable[[int, int], None] | None,
    **rest: Any,
) -> FinetuneResult:
    from quadrat.engines.local import available_cpus

    if not isinstance(source, str) or not (validation is None or isinstance(validation, str)):
        raise TrainError("several processes open the tiles themselves: give tile sets by their URI")
    # on a cluster a process has the one core of its task
    threads = machine.threads or (1 if engine else max(1, available_cpus() // machine.nproc))
    # the processes may stand in another folder: a worker of Spark's does
    if settings.weights is not None and settings.weights != RANDOM:
        settings = replace(settings, weights=storage.normalise(settings.weights))
    values = {
        "source": storage.normalise(source),
        "out": storage.normalise(out),
        "validation": None if validation is None else storage.normalise(validation),
        "settings": settings.to_dict(),
        "machine": {**machine.to_dict(), "threads": threads},
        **rest,
    }
    if engine is not None:
        from quadrat.finetuning import on_spark

        return from_dict(on_spark.launch(engine, machine.nproc, values, on_event))
    return from_dict(launch(machine.nproc, values, threads, on_event, on_progress))


def stopped_run(out: str) -> str | None:
    """The run id of the stopped training whose checkpoints lie in a model's folder, if any."""
    where = storage.join(out, CHECKPOINTS, RUN_FILE)
    if not storage.exists(where):
        return None
    note = storage.read_json(where)
    run = note.get("run_id") if isinstance(note, dict) else None
    return run if isinstance(run, str) else None
