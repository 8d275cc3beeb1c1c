"""Spark against the local engine, one worker against two, and the usual recipe, in one run.

    python benchmarks/spark.py engines  MODEL TILES          local[2] against the local engine
    python benchmarks/spark.py scaling  MODEL TILES          1 against 2 workers of one core each
    python benchmarks/spark.py recipe   MODEL PICTURES       binaryFile + a row-by-row Python UDF
    python benchmarks/spark.py million  [--tiles 1000000]    the driver's memory, tiles of 8 x 8

MODEL is a bundle, TILES a packed tile set, PICTURES a folder of PNG or JPEG files. Rates leave the
start of Spark, of its Python processes and of the model out: each is measured on a second pass over
the same tiles. Run it on a quiet machine; each figure is the median of --repeats passes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

CONF = {"spark.driver.memory": "1g", "spark.ui.enabled": "false"}


def rate(model: str, source: str, engine: Any, repeats: int) -> dict[str, float]:
    """Tiles a second of `score`, after one pass that warms up."""
    from quadrat.scoring import score

    seconds, tiles = [], 0
    for n in range(repeats + 1):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            tiles = score(model, source, f"{folder}/scores", engine=engine).tiles
            if n:
                seconds.append(time.perf_counter() - start)
    return {"tiles": tiles, "tiles_per_s": tiles / statistics.median(seconds)}


def engines(args: argparse.Namespace) -> dict[str, Any]:
    """The local engine and `local[2]`, on the same two cores."""
    from quadrat.engines import get_engine
    from quadrat.engines.spark import SparkEngine

    local = rate(args.model, args.source, get_engine("local", workers=args.cores), args.repeats)
    start = time.perf_counter()
    with SparkEngine(f"local[{args.cores}]", conf=CONF) as engine:
        list(engine.run(len, [""]))
        started = time.perf_counter() - start
        spark = rate(args.model, args.source, engine, args.repeats)
    return {
        "local": local,
        "spark": spark,
        "spark_of_local": spark["tiles_per_s"] / local["tiles_per_s"],
        "spark_start_s": started,
    }


def scaling(args: argparse.Namespace) -> dict[str, Any]:
    """A standalone cluster of one and then two workers with one core each.

    Each worker, its executor and their Python processes are kept on a core of their own, as on a
    machine or in a container of one core; a worker would borrow from idle cores otherwise.
    """
    import cluster as clusters

    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for workers in (1, 2):
            with clusters.standalone(Path(folder) / str(workers), workers, pinned=True) as cluster:
                command = [sys.executable, __file__, "one", args.model, args.source]
                command += ["--master", cluster.url, "--repeats", str(args.repeats)]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                found[f"workers_{workers}"] = json.loads(done.stdout.splitlines()[-1])
    found["speed_up"] = found["workers_2"]["tiles_per_s"] / found["workers_1"]["tiles_per_s"]
    return found


def one(args: argparse.Namespace) -> dict[str, Any]:
    """The rate on a cluster that runs; a driver of its own."""
    from quadrat.engines.spark import SparkEngine

    conf = {**CONF, "spark.executor.memory": "512m", "spark.driver.host": "127.0.0.1"}
    with SparkEngine(args.master, conf=conf) as engine:
        return {"slots": engine.slots, **rate(args.model, args.source, engine, args.repeats)}


def recipe(args: argparse.Namespace) -> dict[str, Any]:
    """What is usually done, in the same session: each row decoded and scored by itself."""
    from pyspark.sql.functions import udf

    from quadrat.engines.spark import SparkEngine
    from quadrat.model import open_model

    bundle = open_model(args.model)
    graph, size, names = bundle.onnx(), bundle.size_px, bundle.legend.names

    def classify(content: bytes) -> str:
        import io
        import sys

        import numpy
        import onnxruntime
        from PIL import Image

        sessions = sys.__dict__.setdefault("quadrat_recipe", {})
        if "session" not in sessions:  # the recipe at its best: one session a process, one thread
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            sessions["session"] = onnxruntime.InferenceSession(
                graph, options, providers=["CPUExecutionProvider"]
            )
        picture = Image.open(io.BytesIO(content)).convert("RGB")
        if picture.size != (size, size):
            picture = picture.resize((size, size))
        session = sessions["session"]
        chips = numpy.asarray(picture, numpy.uint8)[None]
        (found,) = session.run(None, {session.get_inputs()[0].name: chips})
        return str(names[int(found[0].argmax())])

    with SparkEngine(f"local[{args.cores}]", conf=CONF) as engine:
        ours = rate(args.model, args.source, engine, args.repeats)
        frame = engine.spark.read.format("binaryFile").option("recursiveFileLookup", "true")
        frame = frame.load(str(Path(args.source).absolute()))

        def usual() -> None:
            with tempfile.TemporaryDirectory() as folder:
                labelled = frame.select("path", udf(classify, "string")("content").alias("label"))
                labelled.write.csv(f"{folder}/scores")

        usual_rate = ours["tiles"] / timed(usual, args.repeats)
    return {
        "quadrat": ours,
        "recipe_tiles_per_s": usual_rate,
        "times": ours["tiles_per_s"] / usual_rate,
    }


def timed(work: Callable[[], None], repeats: int) -> float:
    """Seconds, the median after one call that warms up."""
    work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def million(args: argparse.Namespace) -> dict[str, Any]:
    """The driver's memory (Python and Java) at a hundredth of the tiles and at all of them."""
    folder = Path(tempfile.mkdtemp(prefix="quadrat-million-"))
    found: dict[str, Any] = {}
    try:
        for tiles in (args.tiles // 100, args.tiles):
            command = [sys.executable, __file__, "memory", str(folder), str(tiles)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found[str(tiles)] = json.loads(done.stdout.splitlines()[-1])
    finally:
        shutil.rmtree(folder)
    return found


def memory(args: argparse.Namespace) -> dict[str, Any]:
    """Score about so many tiles of 8 x 8 pixels from a raster; peak memory of driver and Java."""
    import small_tiles
    from quadrat.engines.spark import SparkEngine
    from quadrat.scoring import score

    across = max(32, round((int(args.source) ** 0.5) / 32) * 32)
    down = max(32, round(int(args.source) / across / 32) * 32)
    folder = Path(args.model) / args.source
    folder.mkdir()
    raster = small_tiles.write_raster(folder / "r.tif", across, down)
    model = small_tiles.save_model(str(folder / "model"))
    with SparkEngine("local[2]", conf={**CONF, "spark.driver.memory": "512m"}) as engine:
        list(engine.run(len, [""]))
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of writing the raster
        before = peak_mb("self")
        start = time.perf_counter()
        done = score(model, [raster], str(folder / "scores"), engine=engine)
        seconds = time.perf_counter() - start
        java = engine.spark.sparkContext._gateway.proc.pid
        return {
            "tiles": done.tiles,
            "seconds": seconds,
            "tiles_per_s": done.tiles / seconds,
            "driver_python_peak_mb": peak_mb("self"),
            "driver_python_before_mb": before,
            "java_with_executors_peak_mb": peak_mb(str(java)),
        }


def peak_mb(process: str) -> float:
    """The most resident memory that a process ever had."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmHWM in /proc")


def main() -> None:
    works = (engines, scaling, recipe, million, one, memory)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", choices=[w.__name__ for w in works])
    parser.add_argument("model", nargs="?")
    parser.add_argument("source", nargs="?")
    parser.add_argument("--tiles", type=int, default=1_000_000)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--master")
    args = parser.parse_args()
    print(json.dumps(next(w for w in works if w.__name__ == args.work)(args)))


if __name__ == "__main__":
    main()
