"""A driver for tests, as a process of its own: scores a source on Spark, slowed down part by part.

    python cluster_job.py '{"master": ..., "model": ..., "source": ..., "out": ..., ...}'

Every attempt at a part leaves a file `<part>-<random>` in `attempts`, with its process's
number. Prints the summary, or the error's text, as the last line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from quadrat.engines.spark import SparkEngine
from quadrat.errors import QuadratError
from quadrat.scoring import score

SETTINGS = {
    "spark.driver.memory": "512m",
    "spark.executor.memory": "512m",
    "spark.executor.cores": "1",
    "spark.ui.enabled": "false",
    "spark.driver.host": "127.0.0.1",
}


class Slowed:
    """The Spark engine with a pause before each part, and parts that fail or hang on purpose."""

    name = "spark"

    def __init__(self, inner: SparkEngine, job: dict[str, Any]) -> None:
        self._inner, self._job = inner, job

    @property
    def slots(self) -> int:
        return self._inner.slots

    def run(self, task: Callable[[Any], Any], parts: Sequence[Any]) -> Iterator[Any]:
        job = self._job

        def slowed(part: Any) -> Any:
            attempts = Path(job["attempts"])
            before = list(attempts.glob(f"{part.name}-*"))
            (attempts / f"{part.name}-{os.urandom(4).hex()}").write_text(str(os.getpid()))
            if part.name == job.get("failing"):
                raise ValueError("this part always fails")
            if part.name == job.get("hanging") and not before:
                time.sleep(60)
            time.sleep(job.get("pause", 0.0))
            return task(part)

        return self._inner.run(slowed, parts)


def main() -> None:
    job = json.loads(sys.argv[1])
    engine = SparkEngine(job["master"], conf={**SETTINGS, **job.get("conf", {})})
    try:
        done = score(job["model"], job["source"], job["out"], engine=Slowed(engine, job))
        print(json.dumps(done.to_dict()))
    except QuadratError as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}))
    finally:
        engine.close()


if __name__ == "__main__":
    main()
