"""What the speed benchmarks share: the machine in words, the ceiling, rounds, tables, JSON.

A round measures everything once, one after the other, so that a change of the machine's speed meets
all alike; ratios are formed within a round, and medians over the rounds are printed.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from statistics import median

import numpy as np

from quadrat import model as models
from quadrat.engines.local import available_cpus

COUNTY = 66_000  # tiles
PACKAGES = (
    "quadrat", "openvino", "onnxruntime", "torch", "rasterio", "numpy", "imagecodecs", "pyspng",
)  # fmt: skip


def start(run: Callable[[argparse.Namespace, Path], None], parser: argparse.ArgumentParser) -> None:
    """Parse, with the options that all have, and run in the folder that was named, or a new one."""
    parser.add_argument("--folder", help="keep the data here, and use what is there")
    parser.add_argument("--json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        run(args, Path(args.folder or temporary))


def process(arguments: list[str]) -> tuple[float, float]:
    """Seconds and peak memory (MB) of a verb in a process of its own."""
    start = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "quadrat.cli", *arguments],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    said = child.stderr.read()
    _, status, used = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(said)
    return time.perf_counter() - start, used.ru_maxrss / 1024


def machine() -> dict:
    """CPU, cores that may be used, what it computes in, versions."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        name = lines[0].split(":", 1)[1].strip() if lines else name
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "cpu": name, "cores": available_cpus(), "int8": models.has_int8(),
        "bf16": models.has_bf16(), "python": platform.python_version(), "versions": versions,
    }  # fmt: skip


def in_words(found: dict) -> str:
    """One line on the machine."""
    able = ", ".join(n for n in ("int8", "bf16") if found[n]) or "float only"
    return f"{found['cpu']}, {found['cores']} cores used, {able}"


def ceiling(network: models.Network, chips: np.ndarray, slots: int, seconds: float = 3.0) -> float:
    """Tiles/s of a compiled network alone: tiles lie in memory, one caller a stream."""
    done = [0] * slots
    network(chips[: network.batch])
    start = time.perf_counter()

    def work(slot: int) -> None:
        while time.perf_counter() - start < seconds:
            network(chips)
            done[slot] += len(chips)

    with ThreadPoolExecutor(slots) as pool:
        list(pool.map(work, range(slots)))
    return sum(done) / (time.perf_counter() - start)


def rounds(ways: dict[str, Callable[[], float]], runs: int) -> dict[str, list[float]]:
    """Each way once a round; what a way returns."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for n in range(runs):
        for name, way in ways.items():
            found[name].append(way())
        print(f"round {n + 1} of {runs} done", flush=True)
    return found


def share(values: list[float], base: list[float]) -> float:
    """The median of the ratios within a round."""
    return median(a / b for a, b in zip(values, base, strict=True))


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Markdown: the first column left, the others right."""
    widths = [max(len(r[i]) for r in (head, *rows)) for i in range(len(head))]

    def line(cells: tuple[str, ...]) -> str:
        first = cells[0].ljust(widths[0])
        others = [c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True)]
        return "| " + " | ".join([first, *others]) + " |"

    rule = tuple("-" * w if i == 0 else "-" * (w - 1) + ":" for i, w in enumerate(widths))
    return "\n".join([line(head), line(rule), *(line(r) for r in rows)])


def write(path: str | None, values: dict) -> None:
    """The figures as JSON, with the machine."""
    if path:
        Path(path).write_text(json.dumps({"machine": machine(), **values}, indent=1))
