"""Reading the run history: lists, one run, and several side by side."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quadrat import charts, storage
from quadrat.errors import RunError
from quadrat.metrics import SCORES
from quadrat.records import Record
from quadrat.runs import store
from quadrat.shown import shown

ID = re.compile(r"[0-9a-f]{32}")
FILE = "quadrat.file/"  # tags of this beginning hold the SHA-256 of a run's own files


@shown
@dataclass(frozen=True)
class RunRecord(Record):
    """One run as the history has it.

    Attributes:
        status: FINISHED, FAILED, KILLED, RUNNING, or LOST (its process is gone without an end).
        started: UTC, ISO 8601.
        seconds: None while it runs.
        metrics: last values, by name (`validation/overall`).
        artifacts: where its files lie.
    """

    id: str
    name: str
    kind: str
    status: str
    started: str
    seconds: float | None
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    artifacts: str


@shown
@dataclass(frozen=True)
class Comparison(Record):
    """Several runs side by side.

    Attributes:
        runs: in the order asked for.
        params: settings in which they differ; one value a run, None where a run lacks it.
        metrics: figures; one value a run.
        curves: figures by epoch: name -> one list of (epoch, value) a run.
        chart: where the picture was written; None when not asked for.
    """

    runs: tuple[RunRecord, ...]
    params: Mapping[str, tuple[str | None, ...]]
    metrics: Mapping[str, tuple[float | None, ...]]
    curves: Mapping[str, tuple[tuple[tuple[int, float], ...], ...]]
    chart: str | None


def list_runs(
    *,
    kind: str | None = None,
    sort: str | None = None,
    limit: int = 50,
    tracking_uri: str | None = None,
    experiment: str = store.EXPERIMENT,
) -> tuple[RunRecord, ...]:
    """Runs, newest first, or best first by a metric; () when there is no history yet.

    Args:
        kind: only runs of this kind ("train", "finetune").
        sort: a metric's name, largest first; runs without it come last.
        limit: how many at most.
    """
    uri = store.resolve(tracking_uri)
    if _missing(uri):
        return ()
    client = store.client(uri)
    with store.translated(uri):
        found = client.get_experiment_by_name(experiment)
        if found is None:
            return ()
        order = ["attributes.start_time DESC"]
        if sort:
            order.insert(0, f"metrics.`{_quoted(sort)}` DESC")
        where = f"tags.`quadrat.kind` = '{_quoted(kind)}'" if kind else ""
        rows = client.search_runs([found.experiment_id], where, max_results=limit, order_by=order)
    return tuple(_record(row) for row in rows)


def show_run(
    run: str, *, tracking_uri: str | None = None, experiment: str = store.EXPERIMENT
) -> RunRecord:
    """One run, by its id, the beginning of its id, or its name.

    Raises:
        RunError: there is none, or there are several.
    """
    known = list_runs(limit=10_000, tracking_uri=tracking_uri, experiment=experiment)
    matches = [r for r in known if r.id == run] or [
        r for r in known if r.name == run or (len(run) >= 4 and r.id.startswith(run))
    ]
    if len(matches) == 1:
        return matches[0]
    if matches:
        some = ", ".join(r.id[:12] for r in matches[:5])
        raise RunError(f"{len(matches)} runs are called {run!r}: name one of {some} by its id")
    raise RunError(f"no run {run!r}; `quadrat runs list` shows those there are")


def compare_runs(
    runs: Sequence[str],
    *,
    out: str | None = None,
    metrics: Sequence[str] = (),
    tracking_uri: str | None = None,
    experiment: str = store.EXPERIMENT,
) -> Comparison:
    """Several runs side by side, as a table and, with `out`, as a picture.

    Args:
        runs: ids, beginnings of ids or names.
        out: a PNG file: bars of the figures, and learning curves where runs have epochs.
        metrics: names of the figures to compare; those of accuracy when empty.

    Raises:
        RunError: a run or a metric that is not there, nothing to compare.
    """
    uri = store.resolve(tracking_uri)
    records = tuple(show_run(r, tracking_uri=uri, experiment=experiment) for r in runs)
    if not records:
        raise RunError("no run to compare; name at least one")
    names = _chosen(records, metrics)
    table = {n: tuple(r.metrics.get(n) for r in records) for n in names}
    curves = _curves(uri, records)
    if out is not None:
        if not table and not curves:
            raise RunError("these runs have no figures to draw; wait until one has finished")
        labels = _labels(records)
        storage.write_bytes(out, charts.comparison(labels, table, curves))
    return Comparison(records, _differing(records), table, curves, out)


def _chosen(records: Sequence[RunRecord], wanted: Sequence[str]) -> list[str]:
    known = list(dict.fromkeys(name for r in records for name in r.metrics))
    if wanted:
        lacking = [name for name in wanted if name not in known]
        if lacking:
            raise RunError(
                f"none of these runs has the metric {lacking[0]!r}; they have: {', '.join(known)}"
            )
        return list(wanted)
    heads = [n for h in SCORES for n in sorted(known) if n.split("/")[1:] == [h]]
    classes = [n for n in sorted(known) if "/classes/f1/" in n and n.count("/") == 3]
    return heads + classes + (["seconds"] if "seconds" in known else [])


def _curves(
    uri: str, records: Sequence[RunRecord]
) -> dict[str, tuple[tuple[tuple[int, float], ...], ...]]:
    client = store.client(uri)
    names = list(dict.fromkeys(n for r in records for n in r.metrics if n.startswith("epoch/")))
    with store.translated(uri):
        return {
            name: tuple(
                _points(client.get_metric_history(r.id, name)) if name in r.metrics else ()
                for r in records
            )
            for name in names
        }


def _points(history: Sequence[Any]) -> tuple[tuple[int, float], ...]:
    """(epoch, value) in order; the last value of an epoch that was repeated after a resume."""
    last = {m.step: m.value for m in sorted(history, key=lambda m: int(m.timestamp))}
    return tuple(sorted(last.items()))


def _differing(records: Sequence[RunRecord]) -> dict[str, tuple[str | None, ...]]:
    names = dict.fromkeys(name for r in records for name in r.params)
    rows = {name: tuple(r.params.get(name) for r in records) for name in names}
    return {name: row for name, row in rows.items() if len(set(row)) > 1}


def _labels(records: Sequence[RunRecord]) -> list[str]:
    """Names, with the id's beginning where two runs share one."""
    names = [r.name for r in records]
    return [r.name if names.count(r.name) == 1 else f"{r.name} {r.id[:6]}" for r in records]


def _record(row: Any) -> RunRecord:
    info, data = row.info, row.data
    status, tags = str(info.status), dict(data.tags)
    if status == "RUNNING" and _is_gone(tags.get("quadrat.process", "")):
        status = "LOST"
    ended = info.end_time
    return RunRecord(
        id=info.run_id,
        name=info.run_name or info.run_id,
        kind=tags.get("quadrat.kind", ""),
        status=status,
        started=_iso(info.start_time),
        seconds=(ended - info.start_time) / 1000 if ended else None,
        params=dict(sorted(data.params.items())),
        metrics=dict(sorted(data.metrics.items())),
        tags={k: v for k, v in sorted(tags.items()) if not k.startswith(("mlflow.", FILE))},
        artifacts=info.artifact_uri,
    )


def _iso(milliseconds: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


def _is_gone(process: str) -> bool:
    """Whether the process (`host:pid`) was of this machine and is no more."""
    host, _, pid = process.rpartition(":")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    return not storage.is_alive(int(pid))


def _missing(uri: str) -> bool:
    """Whether it is an SQLite file that is not there yet: looking must not make it."""
    return uri.startswith("sqlite:///") and not storage.exists(uri.removeprefix("sqlite:///"))


def _quoted(text: str) -> str:
    if set(text) & set("`'\"\\"):
        raise RunError(f"{text!r} cannot name a metric or a kind: leave out quotes")
    return text


@dataclass(frozen=True)
class RunFiles:
    """Files in a run's folder of artifacts on this machine.

    Attributes:
        own: those that the run's tags name, with the SHA-256 that they have.
        foreign: all others.
    """

    own: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()


def files_of(run: str, *, tracking_uri: str | None = None) -> RunFiles | None:
    """The files of a run's artifacts that lie on this machine; None when the run is gone.

    Args:
        run: the whole id.
    """
    uri = store.resolve(tracking_uri)
    if _missing(uri) or not ID.fullmatch(run):
        return None
    client = store.client(uri)
    with store.translated(uri):
        rows = client.search_runs(
            [e.experiment_id for e in client.search_experiments()],
            f"attributes.run_id = '{run}'",
        )
    return _files(rows[0], uri) if rows else None


def delete_run(run: str, *, tracking_uri: str | None = None) -> None:
    """Delete a run and its own artifacts; an SQLite file without runs goes too.

    Files that the run did not keep itself stay. On a server the run is marked as deleted, and the
    server decides when it goes.

    Args:
        run: the whole id.

    Raises:
        RunError: there is no such run, or the history cannot be written.
    """
    if not ID.fullmatch(run):
        raise RunError(f"{run[:40]!r} is no run's id, which has 32 hexadecimal digits")
    uri = store.resolve(tracking_uri)
    client = store.client(uri)
    with store.translated(uri):
        row = client.get_run(run)
        files, folder = _files(row, uri), _artifact_folder(row, uri)
        client.delete_run(run)
        for file in files.own:
            Path(file).unlink(missing_ok=True)
        if folder is not None:
            storage.remove_empty(str(folder.parent))
        experiments = [e.experiment_id for e in client.search_experiments()]
        left = client.search_runs(experiments, max_results=1)
    if not left and uri.startswith("sqlite:///"):
        store.remove_database(uri)


def _files(row: Any, uri: str) -> RunFiles:
    folder = _artifact_folder(row, uri)
    if folder is None:
        return RunFiles()
    tags = dict(row.data.tags)
    own: list[str] = []
    foreign: list[str] = []
    for place, _, names in os.walk(folder):  # links to folders are not followed
        for file in (Path(place, name) for name in sorted(names)):
            kept = tags.get(FILE + file.relative_to(folder).as_posix())
            mine = kept and not file.is_symlink() and storage.digest_file(str(file)) == kept
            (own if mine else foreign).append(str(file))
    return RunFiles(tuple(own), tuple(foreign))


def _artifact_folder(row: Any, uri: str) -> Path | None:
    """A run's own folder of artifacts: below the history's, named by the run.

    None where the history says another place, or a link leads to one: that is not the run's.
    """
    root = store.artifact_root(uri)
    info = row.info
    if root is None or not ID.fullmatch(info.run_id):
        return None
    folder = Path(root).resolve() / info.run_id / "artifacts"
    said = Path(str(info.artifact_uri).removeprefix("file://"))
    return folder if folder == folder.resolve() == said.resolve() else None
