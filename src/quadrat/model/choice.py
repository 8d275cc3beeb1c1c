"""Which runtime is faster here: a short measurement, kept on disk.

The answer depends on the CPU, the runtimes' versions, the network's shape and the precision, so
these make the key. Other processes may be at work during the measurement: both runtimes are timed
in turns and the best round of each counts.
"""

from __future__ import annotations

import logging
import time
from importlib import metadata

import numpy as np

from quadrat import graphs, storage
from quadrat.errors import ModelError, StorageError
from quadrat.model import machine, runtimes

ROUNDS = 5
ROUND_S = 0.06

log = logging.getLogger(__name__)


def choose_runtime(data: bytes, info: graphs.GraphInfo, precision: str) -> str:
    """The name of the runtime for a checked graph, `openvino`, `onnxruntime` or `cuda`."""
    if precision == "bf16":
        return "openvino"
    if precision == "fp16" or (precision == "fp32" and machine.has_cuda()):
        return "cuda"
    place = str(storage.cache_dir() / "runtimes" / f"{_key(info, precision)}.json")
    known = _read(place)
    if known:
        return known
    seconds = measure(data, info, precision)
    best = min(seconds, key=lambda name: seconds[name])
    try:
        storage.write_json(
            place, {"runtime": best, "seconds_per_tile": seconds, "cpu": machine.cpu_name()}
        )
    except StorageError as error:
        # the file only saves a second a process: go on without it
        log.warning("the choice of runtime is not kept: %s", error)
    return best


def measure(data: bytes, info: graphs.GraphInfo, precision: str) -> dict[str, float]:
    """Seconds a tile of each CPU runtime that takes the graph, on one thread."""
    networks, reasons = {}, []
    for name in ("openvino", "onnxruntime"):
        try:
            networks[name] = runtimes.RUNTIMES[name](data, info, precision, 1, 1)
        except (ModelError, ImportError) as error:
            reasons.append(str(error))
    if not networks:
        raise ModelError(f"no runtime takes the network: {'; '.join(reasons)}")
    if len(networks) == 1:
        return dict.fromkeys(networks, 0.0)
    size = info.size_px or 1
    batch = info.batch or runtimes.BATCH
    chips = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
    best = dict.fromkeys(networks, float("inf"))
    for network in networks.values():
        network.compute(chips)
    for _ in range(ROUNDS):
        for name, network in networks.items():
            calls, start = 0, time.perf_counter()
            while calls == 0 or time.perf_counter() - start < ROUND_S:
                network.compute(chips)
                calls += 1
            best[name] = min(best[name], (time.perf_counter() - start) / (calls * batch))
    return best


def _read(place: str) -> str | None:
    if not storage.exists(place):
        return None
    try:
        value = storage.read_json(place)
    except StorageError:
        return None
    name = value.get("runtime") if isinstance(value, dict) else None
    return name if name in ("openvino", "onnxruntime") else None


def _key(info: graphs.GraphInfo, precision: str) -> str:
    versions = {name: metadata.version(name) for name in ("openvino", "onnxruntime")}
    return storage.digest_json(
        [machine.cpu_name(), versions, info.architecture, info.size_px, info.batch, precision]
    )[:32]
