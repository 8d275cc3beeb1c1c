"""A fine-tuning in a process of its own, for tests that kill it: `finetune_job.py JSON`.

Kills itself when it has trained on `kill_at` tiles; otherwise prints the result.
"""

from __future__ import annotations

import json
import os
import signal
import sys


def main(text: str) -> None:
    from quadrat.finetuning import FinetuneSettings, Machine, finetune

    job = json.loads(text)
    kill_at = job.pop("kill_at", None)
    training = False

    def progress(done: int, total: int) -> None:
        if training and kill_at is not None and done >= kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def event(name: str, values: object) -> None:
        nonlocal training
        training = training or name == "epoch"

    result = finetune(
        job.pop("source"), job.pop("out"), FinetuneSettings(**job.pop("settings")),
        Machine(**job.pop("machine", {"threads": 1})), **job, on_event=event,
        on_progress=progress,
    )  # fmt: skip
    print(json.dumps(result.to_dict()))


if __name__ == "__main__":
    main(sys.argv[1])
