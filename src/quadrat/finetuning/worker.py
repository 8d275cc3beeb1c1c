"""One of several processes that `launch` started: do the job, tell what happens.

Started as `python -m torch.distributed.run ... -m quadrat.finetuning.worker JOB.json`.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quadrat.errors import MissingExtraError, QuadratError
from quadrat.finetuning.settings import FinetuneSettings, Machine

TELL_S = 0.1  # at most so often is progress told


class Teller:
    """Writes JSON lines for the process that started this one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last = 0.0

    def tell(self, *values: Any) -> None:
        """Append one line."""
        with self.path.open("ab") as file:
            file.write(json.dumps(values).encode() + b"\n")

    def event(self, name: str, values: Mapping[str, Any]) -> None:
        """As `on_event`."""
        self.tell("event", name, dict(values))

    def progress(self, done: int, total: int) -> None:
        """As `on_progress`."""
        now = time.monotonic()
        if now - self.last >= TELL_S or done in (0, total):
            self.last = now
            self.tell("progress", done, total)


def main(path: str) -> int:
    """Train as the file says; the exit code."""
    from quadrat.finetuning import finetune
    from quadrat.finetuning.launch import rank

    threading.Thread(target=_end_with_parent, daemon=True).start()
    job = json.loads(Path(path).read_text("utf-8"))
    folder = Path(job.pop("folder"))
    first = rank() == 0
    teller = Teller(folder / "events")
    settings, machine = FinetuneSettings(**job.pop("settings")), Machine(**job.pop("machine"))
    try:
        result = finetune(
            job.pop("source"), job.pop("out"), settings, machine, **job,
            on_event=teller.event if first else None,
            on_progress=teller.progress if first else None,
        )  # fmt: skip
    except QuadratError as error:
        told = {"kind": type(error).__name__, "text": str(error)}
        if isinstance(error, MissingExtraError):
            told |= {"what": str(error).split(" needs an extra", 1)[0], "extra": error.extra}
        Path(folder, f"error-{rank()}.json").write_text(json.dumps(told), "utf-8")
        return 1
    if first:
        teller.tell("result", result.to_dict())
    return 0


def _end_with_parent() -> None:
    """End when the process that started the training is gone, however it went."""
    # not sys.stdin: a thread that holds its lock makes the interpreter's own end fail
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
