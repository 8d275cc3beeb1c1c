"""The processes of one training as tasks of a Spark cluster, through Spark's TorchDistributor.

The tiles, the weights and the output must be where every worker reaches them, and the workers need
quadrat with its extra `finetune`. Events come when the training is done: workers have no way back
to this process while it runs. It does not know how one process trains.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from quadrat.engines import Engine, SparkHost, spark_errors
from quadrat.errors import QuadratError, TrainError
from quadrat.finetuning.launch import require
from quadrat.finetuning.settings import FinetuneSettings, Machine


def launch(
    engine: Engine,
    nproc: int,
    values: Mapping[str, Any],
    on_event: Callable[[str, Mapping[str, Any]], None] | None,
) -> dict[str, Any]:
    """Train in `nproc` tasks at once; the result's plain values.

    Args:
        values: the arguments of `finetune`: `source`, `out`, `settings`, `machine` and the rest.

    Raises:
        TrainError: too few cores for the processes, or what a process failed with.
        EngineError: Spark's own trouble.
    """
    if not isinstance(engine, SparkHost):
        raise TrainError(f"the engine {engine.name} has no Spark session; give --engine spark")
    if nproc > engine.slots:
        raise TrainError(
            f"--nproc {nproc} needs as many cores at once and Spark has {engine.slots}; "
            "give fewer processes or a larger cluster"
        )
    engine.prepare()
    module = spark_errors.import_pyspark("pyspark.ml.torch.distributor")
    gpu = values["machine"]["device"] == "cuda"
    try:
        starter = module.TorchDistributor(num_processes=nproc, local_mode=False, use_gpu=gpu)
        told = json.loads(starter.run(train, json.dumps(dict(values))))
    except Exception as error:
        raise spark_errors.translated(error, "fine-tuning on Spark failed") from error
    for event, heard in told["events"]:
        if on_event:
            on_event(event, heard)
    if "error" in told:
        raise TrainError(told["error"])
    result: dict[str, Any] = told["result"]
    return result


def train(text: str) -> str:
    """Run the job in one of the processes; its result and events as JSON."""
    values = json.loads(text)
    settings = FinetuneSettings(**values.pop("settings"))
    machine = Machine(**{**values.pop("machine"), "nproc": 1})
    events: list[Any] = []
    told: dict[str, Any] = {"events": events}
    try:
        require()
        from quadrat.finetuning.job import FinetuneJob

        job = FinetuneJob(
            **values,
            settings=settings,
            machine=machine,
            on_event=lambda event, heard: events.append([event, dict(heard)]),
            on_progress=lambda done, total: None,
        )
        told["result"] = job.run().to_dict()
    except QuadratError as error:
        told["error"] = str(error)
    return json.dumps(told)
