"""Run history: what was trained, from what, with what result. The only home of MLflow.

    with runs.start("train", params={"head": "logistic"}) as run:
        result = heads.train(tiles, out, on_event=run.record)

Training does not know the history: it says what happens (`on_event(event, values)`), and the
history listens. It does not know tiles or networks. The events that it gives a place of their own:

    params      settings                                  -> parameters
    data        what was trained on: digest, counts       -> parameters and tags, `data/...`
    epoch       {"epoch": n, ...}: figures of one epoch   -> metrics at step n, `epoch/...`
    metrics     {"split": "validation", ...}: accuracy    -> metrics `validation/...`; a confusion
                as `Metrics.to_dict()` gives it              matrix as figure, CSV and JSON
    model       {"uri": ...}: the bundle                  -> artifact `model/`

Any other event becomes metrics (numbers) and tags (text) under its own name. Settings and texts
that hold an address are kept without user, password and query.

The history is an SQLite file, `quadrat-work/runs.db` in the working folder, with artifacts beside
it; any address that MLflow takes can be named instead.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

from quadrat import charts, storage
from quadrat import text as texts
from quadrat.errors import MissingExtraError, QuadratError, RunError
from quadrat.redaction import redact
from quadrat.runs import history, store
from quadrat.runs.history import (
    Comparison,
    RunRecord,
    compare_runs,
    delete_run,
    files_of,
    list_runs,
    show_run,
)
from quadrat.runs.origin import code

__all__ = [
    "Comparison",
    "Run",
    "RunRecord",
    "compare_runs",
    "delete_run",
    "files_of",
    "list_runs",
    "page",
    "show_run",
    "start",
    "ui",
]

BATCH = 100  # MLflow takes 100 parameters a call


@dataclass
class Run:
    """A run that is being made; `record` serves as a training function's `on_event`."""

    id: str
    name: str
    tracking_uri: str
    _client: Any = field(repr=False)
    _params: set[str] = field(default_factory=set, repr=False)

    def record(self, event: str, values: Mapping[str, Any]) -> None:
        """Record an event; RunError when the history cannot be written."""
        with store.translated(self.tracking_uri):
            RECORDERS.get(event, _other)(self, event, values)

    def params(self, values: Mapping[str, Any]) -> None:
        """Keep settings; the first value of a name stays."""
        from mlflow.entities import Param

        new = {_key(k): _text(v) for k, v in _flat(values).items() if _key(k) not in self._params}
        self._params.update(new)
        rows = [Param(k, v) for k, v in new.items()]
        for i in range(0, len(rows), BATCH):
            self._client.log_batch(self.id, params=rows[i : i + BATCH])

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Keep figures; those that are not finite are left out (MLflow's stores differ on them)."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        rows = [Metric(_key(k), float(v), now, step) for k, v in values.items() if math.isfinite(v)]
        for i in range(0, len(rows), BATCH):
            self._client.log_batch(self.id, metrics=rows[i : i + BATCH])

    def tags(self, values: Mapping[str, Any]) -> None:
        """Keep texts."""
        from mlflow.entities import RunTag

        rows = [RunTag(_key(k), _text(v)) for k, v in values.items()]
        for i in range(0, len(rows), BATCH):
            self._client.log_batch(self.id, tags=rows[i : i + BATCH])

    def file(self, name: str, content: bytes) -> None:
        """Keep a file as the artifact `name` (`folder/file.png`), and its SHA-256 as a tag.

        By the tag `quadrat clean` knows the file for one of ours.
        """
        self.tags({history.FILE + name: storage.digest_bytes(content)})
        folder, _, base = name.rpartition("/")
        with storage.scratch("run") as temporary:
            path = temporary / base
            path.write_bytes(content)
            self._client.log_artifact(self.id, str(path), folder or None)


@contextmanager
def start(
    kind: str,
    *,
    name: str | None = None,
    params: Mapping[str, Any] | None = None,
    tracking_uri: str | None = None,
    experiment: str = store.EXPERIMENT,
    resume: str | None = None,
) -> Iterator[Run]:
    """Record a run while the block lasts; it fails when the block does.

    Args:
        kind: what is done ("train", "finetune").
        name: what people call it; made from `kind` and the time when None.
        params: settings, as the event `params`.
        tracking_uri: the history's address; None is `quadrat-work/runs.db`.
        resume: the id of a run that was stopped and now goes on.

    Raises:
        RunError: the history cannot be reached or written.
    """
    uri = store.resolve(tracking_uri)
    client = store.client(uri)
    called = name or f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}"
    began = time.time()
    with store.translated(uri):
        if resume:
            resumed = client.get_run(resume)
            client.update_run(resume, "RUNNING")
            run = Run(resume, resumed.info.run_name, uri, client, set(resumed.data.params))
        else:
            tags = {f"quadrat.{k}": v for k, v in {"kind": kind, **code()}.items()}
            made = client.create_run(
                store.experiment_id(client, uri, experiment), tags=tags, run_name=called
            )
            run = Run(made.info.run_id, called, uri, client)
        # tells a run that was killed from one that is at work
        run.tags({"quadrat.process": f"{socket.gethostname()}:{os.getpid()}"})
        run.params(params or {})
    try:
        yield run
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt | SystemExit)
        _end(run, "KILLED" if stopped else "FAILED", began, f"{type(error).__name__}: {error}")
        raise
    with store.translated(uri):
        run.metrics({"seconds": time.time() - began})
        client.set_terminated(run.id, "FINISHED")


def _end(run: Run, status: str, began: float, reason: str) -> None:
    # The block's own error is what matters: a history that fails now must not hide it.
    try:
        with store.translated(run.tracking_uri):
            run.tags({"quadrat.error": " ".join(reason.split())[:500]})
            run.metrics({"seconds": time.time() - began})
            run._client.set_terminated(run.id, status)
    except QuadratError as error:
        print(f"warning: {error}", file=sys.stderr)  # noqa: T201


def _settings(run: Run, event: str, values: Mapping[str, Any]) -> None:
    run.params(values)


def _data(run: Run, event: str, values: Mapping[str, Any]) -> None:
    flat = {f"data/{k}": v for k, v in _flat(values).items()}
    run.params({k: v for k, v in flat.items() if not isinstance(v, str)})
    run.tags({k: v for k, v in flat.items() if isinstance(v, str)})


def _epoch(run: Run, event: str, values: Mapping[str, Any]) -> None:
    rest = {k: v for k, v in values.items() if k != "epoch"}
    run.metrics(_numbers(rest, "epoch"), step=int(values["epoch"]))


def _accuracy(run: Run, event: str, values: Mapping[str, Any]) -> None:
    split = str(values.get("split", "validation"))
    rest = {k: v for k, v in values.items() if k not in ("split", "names", "confusion")}
    run.metrics(_numbers(rest, split))
    if values.get("confusion") is not None:
        names = list(values.get("names") or [c["name"] for c in values.get("classes", ())])
        _confusion(run, split, names, [[int(n) for n in row] for row in values["confusion"]])


def _confusion(run: Run, split: str, names: list[str], matrix: list[list[int]]) -> None:
    if len(names) != len(matrix):
        raise RunError(f"a confusion matrix of {len(matrix)} rows came with {len(names)} names")
    table = io.StringIO()
    rows = [[name, *row] for name, row in zip(names, matrix, strict=True)]
    texts.write_table(table, ["truth \\ prediction", *names], rows)
    run.file(f"confusion/{split}.csv", table.getvalue().encode())
    run.file(f"confusion/{split}.png", charts.confusion(names, matrix, split))
    told = json.dumps({"classes": names, "matrix": matrix, "rows": "truth"}, indent=2)
    run.file(f"confusion/{split}.json", told.encode())


def _model(run: Run, event: str, values: Mapping[str, Any]) -> None:
    uri = str(values["uri"])
    run.tags({f"model/{k}": v for k, v in _flat(values).items() if isinstance(v, str)})
    for name in storage.list_names(uri):
        if not storage.is_dir(storage.join(uri, name)):
            run.file(f"model/{name}", storage.read_bytes(storage.join(uri, name)))


def _other(run: Run, event: str, values: Mapping[str, Any]) -> None:
    run.metrics(_numbers(values, event))
    run.tags({f"{event}/{k}": v for k, v in _flat(values).items() if isinstance(v, str)})


RECORDERS = {
    "params": _settings,
    "data": _data,
    "epoch": _epoch,
    "metrics": _accuracy,
    "model": _model,
}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values under flat names.

    Values in a table become `a/b`, an estimate `a`, `a/low`, `a/high`, and rows of a list that
    have a name stand under it.
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        where = f"{prefix}{key}"
        if hasattr(value, "tolist"):
            value = value.tolist()
        if isinstance(value, Mapping) and "value" in value:
            flat[where] = value["value"]
            flat.update({f"{where}/{k}": v for k, v in value.items() if k in ("low", "high")})
        elif isinstance(value, Mapping):
            flat.update(_flat(value, f"{where}/"))
        elif _is_named_rows(value):
            for row in value:
                own = {f"{k}/{row['name']}": v for k, v in row.items() if k != "name"}
                flat.update(_flat(own, f"{where}/"))
        else:
            flat[where] = value
    return flat


def _is_named_rows(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and len(value) > 0
        and all(isinstance(row, Mapping) and "name" in row for row in value)
    )


def _numbers(values: Mapping[str, Any], prefix: str) -> dict[str, float]:
    return {
        f"{prefix}/{k}": float(v)
        for k, v in _flat(values).items()
        if isinstance(v, int | float) and not isinstance(v, bool)
    }


def _key(name: str) -> str:
    """A name that every MLflow store takes."""
    return re.sub(r"[^\w\-./ ]", "_", name).strip("/")[:250]


def _text(value: Any) -> str:
    text = redact(str(value))
    return text if len(text) <= 5000 else text[:5000] + "..."


def page(port: int = 5000, *, host: str = "127.0.0.1", tracking_uri: str | None = None) -> str:
    """The address of MLflow's page on Quadrat's own experiment, as `ui` serves it.

    Raises:
        RunError: the history cannot be read.
    """
    uri = store.resolve(tracking_uri)
    if uri.startswith("http"):
        return uri
    found = store.experiment_id(store.client(uri), uri, store.EXPERIMENT)
    return f"http://{host}:{port}/#/experiments/{found}"


def ui(port: int = 5000, *, host: str = "127.0.0.1", tracking_uri: str | None = None) -> NoReturn:
    """Serve MLflow's pages on the run history at `http://host:port` until stopped.

    Raises:
        RunError: the history is a server already.
        MissingExtraError: MLflow's server is not installed.
    """
    uri = store.resolve(tracking_uri)
    if uri.startswith("http"):
        raise RunError(f"the run history is a server already; open {uri} in a browser")
    if not store.has_server():
        raise MissingExtraError("serving the pages of the run history", "runs-ui")
    store.client(uri)  # makes the database, and says in our words what is wrong with it
    command = [sys.executable, "-m", "mlflow", "ui"]
    root = store.artifact_root(uri)
    if root:
        command += ["--default-artifact-root", root]
    command += ["--host", host, "--port", str(port), "--workers", "1"]
    # every user of the machine sees a process's arguments; its environment only its own user
    environment = {**os.environ, **store.ENVIRONMENT, "MLFLOW_BACKEND_STORE_URI": uri}
    if os.name == "nt":  # there, exec would give the prompt back at once
        sys.exit(subprocess.call(command, env=environment))
    os.execve(sys.executable, command, environment)
