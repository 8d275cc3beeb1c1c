'''What the verbs share. It knows click and the configuration, and nothing of imagery.

A verb is one file with one click command named `command`, of this pattern:

    @common.verb()
    @click.argument("folder")
    @common.out_option("tiles")
    @click.option("--encoding", default="qoi", show_default=True, help="...")
    def command(folder: str, out: str, encoding: str) -> common.Answer:
        """Turn a folder of images per class into a tile set."""
        from quadrat.tiles import pack                      # libraries only inside the function

        with common.progress("pack") as report:
            result = pack(folder, out, encoding=encoding, on_progress=report)
        return common.Answer(result, f"{result.uri}: {result.count:,} tiles")

`verb` adds `--json` and `--debug`, prints the answer's text (or, with `--json`, the result's
`to_dict()` and nothing else on stdout), and lets every error pass to `quadrat.cli.run`, which shows
it in one line. Options carry the names of the Python parameters, with dashes for underscores, and
their help says the unit.
'''

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from quadrat import config
from quadrat.errors import StorageError
from quadrat.progress import Reporter
from quadrat.redaction import redact
from quadrat.text import printable

if TYPE_CHECKING:
    from quadrat.engines import Engine
    from quadrat.runs import Run

F = TypeVar("F", bound=Callable[..., Any])
# The library's choices, written again so that help needs not load it; a test keeps them equal.
RESAMPLINGS = ("bilinear", "cubic")


class HasDict(Protocol):
    """A library's result."""

    def to_dict(self) -> Mapping[str, Any]:
        """Plain values."""


@dataclass(frozen=True)
class Answer:
    """What a verb gives back.

    Attributes:
        result: the library's result. text: the words for people.
        made: (kind, uri) of what was written beside `--out`, for `quadrat clean`: "files" for a
            file, or a kind of `workspace.FOLDERS`.
    """

    result: HasDict | Mapping[str, Any]
    text: str = ""
    made: tuple[tuple[str, str], ...] = ()


class Command(click.Command):
    """A command whose options of several numbers also take them with commas: `--bands 1,2,3`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, with such values taken apart first."""
        many = {o for p in self.params if p.nargs > 1 for o in p.opts if o.startswith("--")}
        return super().parse_args(ctx, list(_apart(args, many)))


def _apart(args: Sequence[str], many: set[str]) -> Iterator[str]:
    """The arguments, with `--bands 1,2,3` and `--bands=1,2,3` as `--bands 1 2 3`."""
    is_value = False
    for n, arg in enumerate(args):
        if arg == "--":
            yield from args[n:]
            return
        name, joined, value = arg.partition("=")
        if is_value and "," in arg:
            yield from (v for v in arg.split(",") if v)
        elif joined and name in many:
            yield from (name, *(v for v in value.split(",") if v))
        else:
            yield arg
        is_value = arg in many


class OutOption(click.Option):
    """An `--out` that knows the kind of what is written there."""

    def __init__(self, *args: Any, kind: str = "", **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.kind = kind


def verb(
    group: click.Group | None = None, name: str | None = None
) -> Callable[[Callable[..., Answer | None]], click.Command]:
    """Makes a function that returns an Answer (or None: it printed nothing) a command.

    Args:
        group: the group that it is a subcommand of (`quadrat runs list`).
        name: the command's name; the function's, when None (the verb's file name at top level).
    """

    def decorate(function: Callable[..., Answer | None]) -> click.Command:
        @functools.wraps(function)
        def call(*args: Any, as_json: bool, debug: bool, **kwargs: Any) -> None:
            set_up()
            # Libraries that print would spoil the JSON; their words go to stderr.
            guard = contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()
            with guard, _noted(command, kwargs.get("out")) as made:
                answer = function(*args, **kwargs)
                made += answer.made if answer is not None else ()
            if answer is not None:
                show(answer, as_json)

        own = name or function.__module__.rsplit(".", 1)[-1]
        command = (group.command if group else click.command)(own, cls=Command)(call)
        command.params += [
            click.Option(
                ["--json", "as_json"], is_flag=True, help="Print the result as JSON, for scripts."
            ),
            click.Option(["--debug"], is_flag=True, help="Show the traceback of an error."),
        ]
        return command

    return decorate


@contextlib.contextmanager
def _noted(command: click.Command, out: str | None) -> Iterator[list[tuple[str, str]]]:
    """Note for `quadrat clean` what the block makes: `out`, also where it fails half-way."""
    kinds = [p.kind for p in command.params if isinstance(p, OutOption)]
    kind = kinds[0] if kinds and out else ""
    made: list[tuple[str, str]] = []
    if not kind or out is None:
        yield made
    else:
        from quadrat import storage

        is_new = not storage.exists(out)
        try:
            yield made
        except BaseException:
            if is_new and storage.exists(out):
                note(kind, out)
            raise
        if storage.exists(out):  # nothing is written by a dry run
            note(kind, out)
    for what, uri in made:
        note(what, uri)


def note(kind: str, uri: str, run: str | None = None) -> None:
    """Note what was made; a working folder that cannot be written is said, and is no failure."""
    from quadrat import workspace

    try:
        workspace.note(kind, uri, run=run)
    except StorageError as error:
        echo(f"warning: `quadrat clean` will not know of {uri}: {error}", err=True)


@contextlib.contextmanager
def history(
    kind: str,
    out: str,
    name: str | None,
    tracking_uri: str | None,
    params: Mapping[str, Any],
    resume: str | None = None,
) -> Iterator[Run]:
    """A run of the history for a training verb, called like its `--out`; noted for clean.

    Args:
        resume: the id of a stopped run that goes on.
    """
    from quadrat import runs

    with runs.start(
        kind, name=name or last_name(out), params=params, tracking_uri=tracking_uri, resume=resume
    ) as run:
        note("runs", run.tracking_uri, run.id)
        yield run


def show(answer: Answer, as_json: bool) -> None:
    """Print an answer to stdout."""
    if as_json:
        result = answer.result if isinstance(answer.result, Mapping) else answer.result.to_dict()
        click.echo(json.dumps(plain(result), indent=2, allow_nan=False))
    elif answer.text:
        echo(answer.text)


def echo(words: str, *, err: bool = False) -> None:
    """Print words, on stderr with `err`; what is in them gives the terminal no orders."""
    click.echo(printable(words), err=err)


def plain(value: Any) -> Any:
    """The value in JSON's types: numpy's scalars and arrays as numbers and lists, NaN as null."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):  # numpy, not imported here
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, PurePath):
        return str(value)
    return value


def defaults() -> config.Config:
    """The configuration of this working folder and environment."""
    return config.load()


def set_up() -> None:
    """Makes the configuration's cache hold for the library and the processes it starts."""
    cache = defaults().cache
    if cache is not None:
        os.environ["QUADRAT_CACHE"] = cache if "://" in cache else str(Path(cache).absolute())


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows in aligned columns; columns of numbers to the right."""
    lines = [list(heads), *map(list, rows)] if heads else [list(r) for r in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    body = [list(r) for r in rows]
    right = [all(re.fullmatch(r"[-+]?[\d,.%]*", r[i]) for r in body) for i in range(len(widths))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def number_text(value: float | None) -> str:
    """A figure between 0 and 1 with three digits; a dash where it is not defined."""
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def figure_text(figure: Mapping[str, Any]) -> str:
    """A figure with its interval: `0.912 (0.880 to 0.940)`."""
    text = number_text(figure["value"])
    low, high = figure.get("low"), figure.get("high")
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return text
    return f"{text} ({number_text(low)} to {number_text(high)})"


def last_name(uri: str) -> str:
    """The last part of a path or URI."""
    return uri.rstrip("/").rsplit("/", 1)[-1]


def progress(what: str, unit: str = "tiles") -> Reporter:
    """A context manager that shows progress on stderr and serves as `on_progress`."""
    return Reporter(what, unit)


def place(kind: str, name: str) -> str:
    """Where the tile set, model or scores called `name` lies (see `Config.place`)."""
    return defaults().place(kind, name)


def place_argument(name: str, kind: str, nargs: int = 1) -> Callable[[F], F]:
    """An argument that names a tile set ("tiles"), a model ("models") or scores ("scores")."""
    return click.argument(
        name, nargs=nargs, required=True, callback=lambda _c, _p, value: _placed(kind, value)
    )


def out_option(kind: str, help_text: str = "") -> Callable[[F], F]:
    """`--out URI`: where the result is written.

    Args:
        kind: a folder's kind (`workspace.FOLDERS`); "" for a file, which the Answer then names.
    """
    return click.option(
        "--out",
        cls=OutOption,
        kind=kind,
        required=True,
        metavar="URI",
        callback=lambda _c, _p, value: _placed(kind, value),
        help=help_text or "Where to write: a folder, local or az://, s3://.",
    )


PLACES = ("tiles", "models", "scores")


def _placed(kind: str, value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
    if kind not in PLACES:
        return value
    if isinstance(value, tuple):
        return tuple(place(kind, v) for v in value)
    return None if value is None else place(kind, value)


def legend_option(built_in: str | None = "nlcd6", help_text: str = "") -> Callable[[F], F]:
    """`--legend`, with the configured legend as the default."""
    return click.option(
        "--legend",
        default=lambda: defaults().legend or built_in,
        show_default=built_in or False,
        metavar="NAME|FILE",
        help=help_text or "Land-use classes: nlcd6, nlcd3 or a TOML file.",
    )


def tracking_option(function: F) -> F:
    """`--tracking-uri`, with the configured one as the default."""
    return click.option(
        "--tracking-uri",
        default=lambda: defaults().tracking_uri,
        show_default="quadrat-work/runs.db",
        metavar="URI",
        help="Where the run history is kept: anything that MLflow takes.",
    )(function)


def run_options(function: F) -> F:
    """`--name` and `--tracking-uri` of a run of the history."""
    option = click.option("--name", help="What the run is called; the last part of --out if not.")
    return option(tracking_option(function))


def overwrite_option(function: F) -> F:
    """`--overwrite`."""
    return click.option(
        "--overwrite", is_flag=True, help="Replace what an earlier command wrote to --out."
    )(function)


def strict_option(function: F) -> F:
    """`--strict`."""
    return click.option(
        "--strict", is_flag=True, help="Fail at the first unreadable file instead of listing it."
    )(function)


def seed_option(function: F) -> F:
    """`--seed`."""
    return click.option(
        "--seed", type=int, default=0, show_default=True, help="Seed of everything random."
    )(function)


def engine_options(function: F) -> F:
    """`--engine`, `--master`, `--conf` and `--workers`; pass them to `engine()`."""
    workers = click.option(
        "--workers",
        type=click.IntRange(min=1),
        default=lambda: defaults().workers,
        show_default="the cores there are",
        help="Parts worked on at once.",
    )
    return _engine_and_master(workers(function), "Where parts are worked on.")


def process_options(function: F) -> F:
    """`--engine`, `--master` and `--conf` alone, for work that has its own number of processes."""
    return _engine_and_master(function, "What starts the processes.")


CONF = "quadrat.conf"  # where click's context keeps the settings of --conf


def _settings(
    context: click.Context, _: click.Parameter, values: Sequence[str]
) -> Mapping[str, str]:
    """The settings of `--conf`, kept for `engine()`."""
    for value in values:
        key, sign, _rest = value.partition("=")
        if not sign or not key.strip():
            raise click.BadParameter(f"{redact(value)} is no KEY=VALUE (spark.executor.memory=4g)")
    settings = {k.strip(): v.strip() for k, _, v in (value.partition("=") for value in values)}
    context.meta[CONF] = settings
    return settings


def _engine_and_master(function: F, text: str) -> F:
    options = (
        click.option(
            "--engine",
            type=click.Choice(config.ENGINES),
            default=lambda: defaults().engine or "local",
            show_default="local",
            help=text,
        ),
        click.option(
            "--master",
            metavar="URL",
            help="Spark's master: local[*], spark://host:7077, yarn, k8s://...",
        ),
        click.option(
            "--conf",
            multiple=True,
            metavar="KEY=VALUE",
            callback=_settings,
            expose_value=False,
            help="A setting of Spark; repeat. Passwords belong in spark-defaults.conf.",
        ),
    )
    return with_options(options, function)


@contextlib.contextmanager
def engine(name: str, master: str | None, workers: int | None) -> Iterator[Engine]:
    """The engine that `engine_options` describe, closed afterwards.

    Raises:
        click.UsageError: `--master` or `--conf` without the Spark engine.
    """
    from quadrat.engines import get_engine

    context = click.get_current_context(silent=True)
    conf = None if context is None else context.meta.get(CONF) or None
    if name != "spark":
        if master is not None:
            raise click.UsageError("--master needs --engine spark")
        if conf:
            raise click.UsageError("--conf needs --engine spark")
        yield get_engine(name, workers=workers)
        return
    made: Any = get_engine(name, master=master or defaults().master, workers=workers, conf=conf)
    with made:
        if made.ui:
            echo(f"Spark's own page: {made.ui}", err=True)
        yield made


def with_options(options: Sequence[Callable[[F], F]], function: F) -> F:
    """Adds options, in their order in the help."""
    for option in reversed(options):
        function = option(function)
    return function


def skipped_text(listed: Sequence[Sequence[str]], count: int) -> list[str]:
    """Lines that list what could not be read."""
    if not count:
        return []
    lines = [f"skipped: {count:,} that could not be read"]
    lines += [f"  {name}: {reason}" for name, reason in listed[:10]]
    return [*lines, f"  and {count - 10:,} more"] if count > 10 else lines


def counts_text(counts: Mapping[str, int]) -> str:
    """`Developed 120, Forest 88`."""
    return ", ".join(f"{name} {n:,}" for name, n in counts.items())
