"""The frame of a verb: its command, its answer in words or JSON, its engine, run and progress.

How a verb is added: CONTRIBUTING.md. It knows click and the configuration, nothing of imagery.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Protocol

import click

from quadrat import choices
from quadrat.cli import args
from quadrat.errors import StorageError
from quadrat.progress import Reporter
from quadrat.text import printable

if TYPE_CHECKING:
    from quadrat.engines import Engine
    from quadrat.runs import Run


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
            file, or one of `choices.PRODUCTS`.
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
        def call(*, as_json: bool, debug: bool, **kwargs: Any) -> None:
            set_up()
            if "engine" in kwargs:
                kwargs["engine"] = args.EngineArgs.taken(kwargs)
            # Libraries that print would spoil the JSON; their words go to stderr.
            guard = contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()
            with guard, _noted(command, kwargs.get("out")) as made:
                answer = function(**kwargs)
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
    kinds = [p.kind for p in command.params if isinstance(p, args.OutOption)]
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
    *,
    resume: str | None = None,
) -> Iterator[Run]:
    """A run of the history for a training verb, called like its `--out`; noted for clean.

    Args:
        resume: the id of a stopped run that goes on.
    """
    from quadrat import runs, storage

    called = name or storage.basename(out)
    with runs.start(
        kind, name=called, params=params, tracking_uri=tracking_uri, resume=resume
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


def echo(text: str, *, err: bool = False) -> None:
    """Print text, on stderr with `err`; what is in it gives the terminal no orders."""
    click.echo(printable(text), err=err)


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


def set_up() -> None:
    """Makes the configuration's cache hold for the library and the processes it starts."""
    cache = args.defaults().cache
    if cache is not None:
        os.environ["QUADRAT_CACHE"] = cache if "://" in cache else str(Path(cache).absolute())


def progress(what: str, unit: str = "tiles") -> Reporter:
    """A context manager that shows progress on stderr and serves as `on_progress`."""
    return Reporter(what, unit)


@contextlib.contextmanager
def engine(wanted: args.EngineArgs) -> Iterator[Engine]:
    """The engine that the options describe, closed afterwards.

    Raises:
        click.UsageError: an option that this engine does not take.
    """
    from quadrat import engines

    name, known = wanted.engine, engines.options(wanted.engine)
    given: dict[str, Any] = {"workers": wanted.workers, "conf": wanted.conf or None}
    for option, value in (("master", wanted.master), ("conf", wanted.conf)):
        if value and option not in known:
            able = [n for n in choices.ENGINES if option in engines.options(n)]
            raise click.UsageError(f"--{option} needs --engine {' or '.join(able)}")
    if "master" in known:
        given["master"] = wanted.master or args.defaults().master
    with engines.opened(name, **given) as made:
        if page := engines.page(made):
            echo(f"{name.capitalize()}'s own page: {page}", err=True)
        yield made
