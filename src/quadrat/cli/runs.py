"""quadrat runs: the run history as lists, tables, a chart and MLflow's own pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from quadrat.cli import args, common, words

if TYPE_CHECKING:
    from quadrat.runs import Comparison, RunRecord

T = TypeVar("T")


@click.group()
def command() -> None:
    """List, show and compare training runs."""


@common.verb(command, "list")
@click.option("--kind", help="Only runs of this kind: train, finetune.")
@click.option("--sort", metavar="METRIC", help="Best first by a metric (validation/overall).")
@args.option("limit", args.COUNT, 50, "At most so many.")
@args.tracking
def list_(
    kind: str | None, sort: str | None, limit: int, tracking_uri: str | None
) -> common.Answer:
    """List runs, newest first, or best first with --sort."""
    from quadrat.runs import list_runs

    places = _histories(tracking_uri)
    found = [
        (r, uri)
        for uri in places
        for r in list_runs(kind=kind, sort=sort, limit=limit, tracking_uri=uri)
    ]
    if len(places) > 1:
        low = float("-inf")
        found.sort(key=lambda f: f[0].started, reverse=True)
        found.sort(key=lambda f: f[0].metrics.get(sort, low) if sort else 0.0, reverse=True)
    found = found[:limit]
    heads = ["id", "name", "kind", "status", "started", "seconds", "overall", "macro F1"]
    rows = [[*_about(r), *_figures(r, sort)] for r, _ in found]
    if sort:
        heads[-2:] = [sort]
    if len({uri for _, uri in found}) > 1 or any(uri != tracking_uri for _, uri in found):
        heads.append("history")
        rows = [[*row, _short(uri)] for row, (_, uri) in zip(rows, found, strict=True)]
    text = words.table(heads, rows) if rows else "no runs yet; `quadrat train` makes one"
    listed = [{**r.to_dict(), "tracking_uri": uri} for r, uri in found]
    return common.Answer({"runs": listed}, text)


@common.verb(command, "show")
@click.argument("run")
@args.tracking
def show(run: str, tracking_uri: str | None) -> common.Answer:
    """Show one run: settings, figures, digests and where its files lie.

    RUN is an id, the beginning of one, or a name.
    """
    from quadrat.runs import show_run

    record = _first(tracking_uri, lambda uri: show_run(run, tracking_uri=uri))
    return common.Answer(record, _described(record))


@common.verb(command, "compare")
@click.argument("runs", nargs=-1, required=True)
@click.option(
    "--out",
    default="compare.png",
    show_default=True,
    metavar="PNG",
    help="The chart: figures as bars, and learning curves where runs have epochs.",
)
@click.option("--metrics", multiple=True, metavar="METRIC", help="A metric to compare; repeat.")
@args.tracking
def compare(
    runs: Sequence[str], out: str, metrics: Sequence[str], tracking_uri: str | None
) -> common.Answer:
    """Compare runs in a table and a chart.

    RUNS are ids, beginnings of ids, or names.
    """
    from quadrat.runs import compare_runs

    found = _first(
        tracking_uri,
        lambda uri: compare_runs(runs, out=out, metrics=metrics, tracking_uri=uri),
    )
    return common.Answer(found, _compared(found), (("files", out),))


@common.verb(command, "ui")
@args.option("port", click.IntRange(1, 65535), 5000, "TCP port.")
@args.option("host", str, "127.0.0.1", "Address to listen on.")
@args.tracking
def ui(port: int, host: str, tracking_uri: str | None) -> None:
    """Open MLflow's own pages on the run history, until stopped.

    Needs pip install 'quadrat[runs-ui]'.
    """
    from quadrat.runs import page
    from quadrat.runs import ui as run_ui

    uri = _histories(tracking_uri)[0]
    click.echo(f"{page(port, host=host, tracking_uri=uri)} (Ctrl-C stops it)", err=True)
    run_ui(port, host=host, tracking_uri=uri)


def _histories(tracking_uri: str | None) -> tuple[str | None, ...]:
    """The history that is named; else the default one, and those of commands in this folder."""
    from quadrat import storage, workspace
    from quadrat.runs import store

    if tracking_uri is not None:
        return (tracking_uri,)
    default = store.resolve(None)
    there = storage.exists(default.removeprefix("sqlite:///"))
    others = tuple(uri for uri in workspace.histories() if uri != default)
    return ((None, *others) if there else others) or (None,)


def _first(tracking_uri: str | None, find: Callable[[str | None], T]) -> T:
    """What the first history that has it answers; the error of the first where none does."""
    from quadrat.errors import RunError

    failed: RunError | None = None
    for uri in _histories(tracking_uri):
        try:
            return find(uri)
        except RunError as error:
            failed = failed or error
    raise failed or RunError("no run history; `quadrat train` makes one")


def _short(uri: str | None) -> str:
    """A history as a user would name it: by its file, from here."""
    from quadrat.runs import store

    path = Path(store.resolve(uri).removeprefix("sqlite:///"))
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _about(record: RunRecord) -> list[str]:
    seconds = "" if record.seconds is None else f"{record.seconds:,.1f}"
    started = record.started.replace("T", " ").removesuffix("+00:00")
    return [record.id[:12], record.name, record.kind, record.status, started, seconds]


def _figures(record: RunRecord, sort: str | None) -> list[str]:
    names = [sort] if sort else ["validation/overall", "validation/macro_f1"]
    return [_number(record.metrics.get(name)) for name in names]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if abs(value) < 100 else f"{value:,.0f}"


def _described(record: RunRecord) -> str:
    lines = ["  ".join(_about(record)), f"files: {record.artifacts}"]
    for title, values in (
        ("settings", record.params),
        ("figures", {k: _number(v) for k, v in record.metrics.items()}),
        ("tags", record.tags),
    ):
        if values:
            lines += ["", title, words.table((), list(values.items()))]
    return "\n".join(lines)


def _compared(found: Comparison) -> str:
    heads = ["", *(r.name for r in found.runs)]
    rows = [["id", *(r.id[:12] for r in found.runs)], ["status", *(r.status for r in found.runs)]]
    rows += [[name, *("" if v is None else v for v in row)] for name, row in found.params.items()]
    rows += [[name, *map(_number, row)] for name, row in found.metrics.items()]
    text = words.table(heads, rows)
    return f"{text}\n\nchart: {found.chart}" if found.chart else text
