"""Arguments and options that several verbs have, each declared once.

An option has the name of the Python parameter, with dashes for underscores; what may be chosen is
in `quadrat.choices`; defaults come from the configuration where it has them. It knows no verb.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import click

from quadrat import choices, config
from quadrat.redaction import redact

F = TypeVar("F", bound=Callable[..., Any])

SHARE = click.FloatRange(0, 1)
PART = click.FloatRange(0, 1, min_open=True)  # a share above 0
COUNT = click.IntRange(min=1)
COUNT_OR_0 = click.IntRange(min=0)


def option(
    name: str, kind: Any, default: Any, text: str, *, into: str = "", metavar: str | None = None
) -> Callable[[F], F]:
    """`--name` with a default, which the help shows.

    Args:
        kind: a type of click's, or the words that may be chosen; None for `on/--off`.
        into: the parameter, where it is not called like the option.
    """
    if isinstance(kind, Collection):
        kind = click.Choice(tuple(kind))
    names = (f"--{name}", into) if into else (f"--{name}",)
    return click.option(
        *names, type=kind, default=default, show_default=True, metavar=metavar, help=text
    )


def flag(name: str, text: str) -> Callable[[F], F]:
    """`--name`, with dashes between its words, which is off by default."""
    return click.option(f"--{name.replace('_', '-')}", is_flag=True, help=text)


def in_order(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one, in their order in the help."""

    def add(function: F) -> F:
        for each in reversed(options):
            function = each(function)
        return function

    return add


def defaults() -> config.Config:
    """The configuration of this working folder and environment."""
    return config.load()


# What is read, and what is written


def place(kind: str, name: str) -> str:
    """Where the tile set, model or scores called `name` lies (see `Config.place`)."""
    return defaults().place(kind, name)


def placed(name: str, kind: str, nargs: int = 1) -> Callable[[F], F]:
    """An argument that names a tile set ("tiles"), a model ("models") or scores ("scores")."""
    return click.argument(
        name, nargs=nargs, required=True, callback=lambda _c, _p, value: _placed(kind, value)
    )


class OutOption(click.Option):
    """An `--out` that knows the kind of what is written there."""

    def __init__(self, *args: Any, kind: str = "", **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.kind = kind


def out(
    kind: str, text: str = "Where to write: a folder, local or az://, s3://."
) -> Callable[[F], F]:
    """`--out URI`: where the result is written.

    Args:
        kind: a folder's kind (`choices.PRODUCTS`); "" for a file, which the Answer then names.
    """
    return click.option(
        "--out",
        cls=OutOption,
        kind=kind,
        required=True,
        metavar="URI",
        callback=lambda _c, _p, value: _placed(kind, value),
        help=text,
    )


def _placed(kind: str, value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
    if kind not in config.PLACES:
        return value
    if isinstance(value, tuple):
        return tuple(place(kind, v) for v in value)
    return None if value is None else place(kind, value)


overwrite = flag("overwrite", "Replace what an earlier command wrote to --out.")
strict = flag("strict", "Fail at the first unreadable file instead of listing it.")
seed = option("seed", int, 0, "Seed of everything random.")

# Pretrained networks


class Numbers(click.ParamType):  # type: ignore[type-arg]
    """Numbers with commas between them: `0.5` or `0.4,0.5,0.6`."""

    name = "numbers"

    def __init__(self, counts: tuple[int, ...]) -> None:
        self.counts = counts

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, ...]:
        """The numbers."""
        if not isinstance(value, str):
            return tuple(value)
        try:
            found = tuple(float(v) for v in value.split(","))
        except ValueError:
            found = ()
        if len(found) not in self.counts:
            many = " or ".join(map(str, self.counts))
            self.fail(f"{value!r} is no {many} numbers with commas between them", param, ctx)
        return found


network = in_order(
    click.option(
        "--mean",
        type=Numbers((1, 3)),
        metavar="R,G,B",
        help="What the network's input is normalised by, in the units of --range; the network's "
        "own if not. Needed, with --std and --range, where its file does not say it.",
    ),
    click.option("--std", type=Numbers((1, 3)), metavar="R,G,B", help="The deviation, likewise."),
    click.option(
        "--range",
        type=Numbers((2,)),
        metavar="LOW,HIGH",
        help="What black and white are before they are normalised: 0,1 or 0,255.",
    ),
    click.option(
        "--pooling",
        type=click.Choice(choices.POOLINGS),
        help="Features of a network that gives tokens; its own if not.",
    ),
    flag("accept-licence", "Use weights whose licence forbids commercial use."),
)


# Classes and labelled tiles

legend = click.option(
    "--legend",
    default=lambda: defaults().legend or choices.LEGENDS[0],
    show_default=choices.LEGENDS[0],
    metavar="NAME|FILE",
    help=f"Land-use classes: {', '.join(choices.LEGENDS)} or a TOML file.",
)
coarser = click.option(
    "--legend",
    metavar="NAME|FILE",
    help="Fold the classes into this coarser legend first (nlcd3, or a TOML file).",
)
labelled = option(
    "split", choices.LABELLED, "auto", "Labelled tiles that the scores are checked on."
)
level = option(
    "level",
    click.FloatRange(0, 1, min_open=True, max_open=True),
    0.95,
    "Of the intervals.",
)
pictures_from = click.option(
    "--imagery",
    multiple=True,
    metavar="URI",
    help="Take pictures from this file or folder; once a date, in their order.",
)


def held_out(of: str) -> Callable[[F], F]:
    """`--validation` and `--test`."""
    return in_order(
        option("validation", SHARE, 0.2, f"Share of validation {of}."),
        option("test", SHARE, 0.0, f"Share of test {of}."),
    )


balance = flag("balance", "As many tiles of every class as of the rarest.")
encoding = option(
    "encoding", choices.ENCODINGS, "zstd", "How tiles are kept; all are without loss."
)

# Training and scoring


def sample_frac(text: str) -> Callable[[F], F]:
    """`--sample-frac`."""
    return option("sample-frac", PART, 1.0, text)


class_weight = option(
    "class-weight",
    choices.CLASS_WEIGHTS,
    "none",
    "Whether each class weighs the same however many tiles it has.",
)


def precision(text: str) -> Callable[[F], F]:
    """`--precision` of a model."""
    return option("precision", choices.PRECISIONS, "auto", text)


tracking = click.option(
    "--tracking-uri",
    default=lambda: defaults().tracking_uri,
    show_default="quadrat-work/runs.db",
    metavar="URI",
    help="Where the run history is kept: anything that MLflow takes.",
)
run = in_order(
    click.option("--name", help="What the run is called; the last part of --out if not."),
    tracking,
)

# How imagery is read


class AlphaBand(click.ParamType):  # type: ignore[type-arg]
    """The number of a band, from 1, or `none`, which is 0 in the library."""

    name = "BAND|none"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        """The band as a number."""
        return 0 if value == "none" else COUNT.convert(value, param, ctx)


# Which pixels count, and what they mean.
reading = in_order(
    click.option(
        "--bands",
        type=COUNT,
        nargs=3,
        metavar="R G B",
        help="Numbers of the red, green and blue band, from 1; the file's own roles if not.",
    ),
    click.option("--nodata", type=float, help="Pixel value that means no data."),
    click.option(
        "--alpha",
        type=AlphaBand(),
        help="Band whose zeros mean no data, or none; the file's own alpha band if not.",
    ),
    click.option(
        "--stretch",
        type=float,
        nargs=2,
        metavar="LOW HIGH",
        help="Values mapped to 0 and 255, for imagery that is not 8-bit.",
    ),
)
imagery = in_order(
    reading,
    option(
        "resampling",
        choices.RESAMPLINGS,
        "bilinear",
        "Kernel where imagery is not on the grid; shrinking averages areas.",
    ),
    option(
        "max-nodata",
        SHARE,
        0.0002,
        "Tiles with a larger share of nodata pixels are dropped (10 px of 224 x 224).",
    ),
    click.option("--within", metavar="FILE", help="Polygons; only tiles with their centre inside."),
    click.option("--date", help="Acquisition date, YYYY-MM-DD or YYYY."),
    click.option("--crs", help="CRS of the grid, in metres (EPSG:26917)."),
)

# Where work is done


@dataclass(frozen=True)
class EngineArgs:
    """What `--engine` and its options say, for `common.engine`; a verb's parameter `engine`."""

    engine: str
    master: str | None = None
    conf: Mapping[str, str] = field(default_factory=dict)
    workers: int | None = None

    @classmethod
    def taken(cls, given: dict[str, Any]) -> EngineArgs:
        """Made of a command's parameters, which leave `given`."""
        return cls(**{f.name: given.pop(f.name) for f in fields(cls) if f.name in given})


def _settings(
    context: click.Context, _: click.Parameter, values: Sequence[str]
) -> Mapping[str, str]:
    """The settings of `--conf`."""
    for value in values:
        key, sign, _rest = value.partition("=")
        if not sign or not key.strip():
            raise click.BadParameter(f"{redact(value)} is no KEY=VALUE (spark.executor.memory=4g)")
    return {k.strip(): v.strip() for k, _, v in (value.partition("=") for value in values)}


def _engine_and_master(text: str) -> Callable[[F], F]:
    return in_order(
        click.option(
            "--engine",
            type=click.Choice(tuple(choices.ENGINES)),
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
            help="A setting of Spark; repeat. Passwords belong in spark-defaults.conf.",
        ),
    )


# `--engine`, `--master`, `--conf` and `--workers`: the verb's parameter `engine`, an `EngineArgs`.
engine = in_order(
    _engine_and_master("Where parts are worked on."),
    click.option(
        "--workers",
        type=COUNT,
        default=lambda: defaults().workers,
        show_default="the cores there are",
        help="Parts worked on at once.",
    ),
)
# The same without `--workers`, for work that has its own number of processes.
processes = _engine_and_master("What starts the processes.")
