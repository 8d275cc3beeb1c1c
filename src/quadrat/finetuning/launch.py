"""Starting several processes on this machine through torchrun, and listening to the first.

The processes run `quadrat.finetuning.worker`; they tell what happens in a file of JSON lines, which
this module reads while they work. It loads no torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from quadrat import errors, storage
from quadrat.errors import MissingExtraError, QuadratError, TrainError

POLL_S = 0.2
GRACE_S = 10.0

OnEvent = Callable[[str, Mapping[str, Any]], None]
OnProgress = Callable[[int, int], None]


def require() -> None:
    """MissingExtraError when torch or torchvision is not installed."""
    try:
        import torch  # noqa: F401
        import torchvision  # noqa: F401
    except ImportError:
        raise MissingExtraError("fine-tuning", "finetune") from None


def rank() -> int:
    """This process's place among those that train together; 0 when it is alone."""
    return int(os.environ.get("RANK", 0))


def processes() -> int:
    """How many processes train together, as torchrun and its like say; 1 when alone."""
    return int(os.environ.get("WORLD_SIZE", 1))


def launch(
    nproc: int,
    job: Mapping[str, Any],
    threads: int,
    on_event: OnEvent | None,
    on_progress: OnProgress | None,
) -> dict[str, Any]:
    """Run a job in `nproc` processes; the first one's result.

    Args:
        job: plain values for `worker`.
        threads: of each process.

    Raises:
        QuadratError: what a process raised, as its own kind; TrainError when one just died.
    """
    with storage.scratch("torchrun") as folder:
        path = folder / "job.json"
        path.write_text(json.dumps({**job, "folder": str(folder)}), "utf-8")
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone",
            "--nproc-per-node", str(nproc), "-m", "quadrat.finetuning.worker", str(path),
        ]  # fmt: skip
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        with Path(folder, "output").open("wb") as output:
            # The pipe says that this process is alive: workers end when it closes (see `worker`).
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            try:
                result = _listen(process, Path(folder, "events"), on_event, on_progress)
            finally:
                _stop(process)
        if process.returncode == 0 and result is not None:
            return result
        raise _failure(Path(folder), process.returncode)


def _listen(
    process: subprocess.Popen[bytes],
    path: Path,
    on_event: OnEvent | None,
    on_progress: OnProgress | None,
) -> dict[str, Any] | None:
    result: dict[str, Any] | None = None
    place = 0
    while True:
        running = process.poll() is None
        for line in _lines(path, place):
            place += len(line)
            kind, *values = json.loads(line)
            if kind == "progress" and on_progress:
                on_progress(*values)
            elif kind == "event" and on_event:
                on_event(*values)
            elif kind == "result":
                result = values[0]
        if not running:
            return result
        time.sleep(POLL_S)


def _lines(path: Path, place: int) -> Iterator[bytes]:
    """Whole lines from a place in the file on."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(place)
        for line in file:
            if line.endswith(b"\n"):
                yield line


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End what still runs, with all that it started."""
    if process.stdin:
        process.stdin.close()
    if process.poll() is None:
        _signal(process, "SIGTERM")
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            _signal(process, "SIGKILL")
            process.wait()


def _signal(process: subprocess.Popen[bytes], name: str) -> None:
    """A signal to a process and all that it started; where there are no groups, the end of it.

    Its workers then end by themselves: the pipe that they listen to is closed.
    """
    with contextlib.suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, getattr(signal, name))
        else:
            process.kill()


def _failure(folder: Path, code: int) -> QuadratError:
    """The error of the process that failed first."""
    told = sorted(folder.glob("error-*.json"), key=lambda p: p.stat().st_mtime_ns)
    if told:
        failure = json.loads(told[0].read_text("utf-8"))
        kind = getattr(errors, failure["kind"], TrainError)
        if kind is errors.MissingExtraError:
            return errors.MissingExtraError(failure["what"], failure["extra"])
        error: QuadratError = kind(failure["text"])
        return error
    lines = Path(folder, "output").read_text("utf-8", "replace").strip().splitlines()
    last = " ".join(lines[-1].split())[:200] if lines else "it said nothing"
    return TrainError(
        f"a process ended with code {code} ({last}); with --nproc 1 its error is seen whole"
    )
