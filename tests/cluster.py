"""A Spark standalone cluster for tests: a master and workers as processes on loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import services

MASTER = "org.apache.spark.deploy.master.Master"
WORKER = "org.apache.spark.deploy.worker.Worker"


@dataclass
class Cluster:
    """A cluster that runs.

    Attributes:
        url: `spark://127.0.0.1:port`.
        page: the master's own page.
        pinned: each worker, with all that it starts, is kept on one core of its own.
    """

    url: str
    page: str
    folder: Path
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    pinned: bool = False

    def state(self) -> dict[str, Any]:
        """What the master says: workers, applications, drivers."""
        with urllib.request.urlopen(f"{self.page}/json/", timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def add_worker(
        self, cores: int = 1, memory: str = "1g", environ: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """One more worker, when the master knows it; its tasks get `environ` as well."""
        name = f"worker-{len(self.workers)}"
        # an address for each: Spark runs no second copy of a task on the host of the first
        host = f"127.0.0.{len(self.workers) + 2}"
        command = [WORKER, "--host", host, "--cores", str(cores), "--memory", memory]
        command += ["--port", "0", "--webui-port", "0", "--work-dir", str(self.folder / name)]
        mine = sorted(os.sched_getaffinity(0))
        core = mine[len(self.workers) % len(mine)] if self.pinned else None
        process = start([*command, self.url], self.folder / f"{name}.log", host, core, environ)
        self.workers.append(process)
        wanted = len([w for w in self.workers if w.poll() is None])
        until(lambda: len(self.alive()) >= wanted, "the worker to register")
        return process

    def alive(self) -> list[dict[str, Any]]:
        """Workers that the master counts on."""
        return [w for w in self.state()["workers"] if w["state"] == "ALIVE"]

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        """End a worker, its executors and their Python processes at once, as a power cut does."""
        for process in [*reversed(descendants(worker.pid)), worker.pid]:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        worker.wait()


@contextmanager
def standalone(
    folder: Path, workers: int = 2, cores: int = 1, *, pinned: bool = False
) -> Iterator[Cluster]:
    """A master and workers while the block lasts."""
    folder.mkdir(parents=True, exist_ok=True)
    port, page = services.free_port(), services.free_port()
    command = [MASTER, "--host", "127.0.0.1", "--port", str(port), "--webui-port", str(page)]
    master = start(command, folder / "master.log")
    url = f"spark://127.0.0.1:{port}"
    cluster = Cluster(url, f"http://127.0.0.1:{page}", folder, pinned=pinned)
    try:
        services.wait_for(page, master, 60)
        for _ in range(workers):
            cluster.add_worker(cores)
        yield cluster
    finally:
        for process in [*cluster.workers, master]:
            if process.poll() is None:
                cluster.kill(process)


def start(
    command: Sequence[str],
    log: Path,
    host: str = "127.0.0.1",
    core: int | None = None,
    more: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """A Java process of Spark's, on one core only where that is asked for."""
    import pyspark

    home = Path(pyspark.__file__).parent
    environ = {
        **os.environ,
        "SPARK_HOME": str(home),
        "SPARK_DAEMON_MEMORY": "256m",
        "SPARK_LOCAL_IP": host,
        "PYSPARK_PYTHON": sys.executable,
        **(more or {}),
    }
    bound = [] if core is None else ["taskset", "-c", str(core)]
    with log.open("wb") as out:
        return subprocess.Popen(
            [*bound, str(home / "bin" / "spark-class"), *command],
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environ,
        )


def descendants(pid: int) -> list[int]:
    """Processes that a process started, and those that these started, parents first."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                # the name, in brackets, may hold spaces
                after = (entry / "stat").read_text().rpartition(")")[2].split()
                parents.setdefault(int(after[1]), []).append(int(entry.name))
    found, queue = [], [pid]
    while queue:
        children = parents.get(queue.pop(), [])
        found += children
        queue += children
    return found


def until(condition: Any, what: str, seconds: float = 90.0) -> None:
    """Wait for a condition; TimeoutError names it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(OSError):
            if condition():
                return
        time.sleep(0.1)
    raise TimeoutError(f"waited {seconds:.0f} s for {what}")
