"""Land-use change between dates: which tiles, what they became, how sure, how much in all.

A walk in one direction, in which no step returns to an earlier one:

    question      what is asked
    chronology    the dates' scores on their common tiles; imagery is scored first,
                  later dates in the first one's colours (`colours`)
    season        later dates scored by last layers fitted to them
    likelihood    what a date's probabilities mean
    posterior     what each tile was on each date: two dates by `pair`, more by `series`
    totals        expected areas and changes with intervals
    candidates    the ranked list and its files
    pictures      before and after
    result        the answer, as data
    tables        its files; saved: `change.json`, read back

The room does not know how models are trained,
and takes the second date's labels nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from quadrat import choices, products, storage
from quadrat import legend as legends
from quadrat.changes import candidates, pair, pictures, posterior, season, tables, totals
from quadrat.changes.chronology import open_dates
from quadrat.changes.question import ask
from quadrat.changes.result import ChangeResult, Move, answer
from quadrat.changes.saved import RESULT, read_result
from quadrat.engines import Engine
from quadrat.errors import InputError

__all__ = ["ChangeResult", "Move", "change", "read_result"]

Progress = Callable[[int, int], None]


def change(
    dates: Sequence[str],
    out: str,
    *,
    model: str | None = None,
    from_classes: Sequence[str] = (),
    to_classes: Sequence[str] = (),
    legend: str | None = None,
    min_probability: float = 0.5,
    limit: int | None = None,
    smoothing: float = pair.MIX,
    recalibrate: bool = True,
    normalise: str = "linear",
    align: bool = True,
    evidence_from: str = "probabilities",
    split: str = "auto",
    show: int = 100,
    imagery: Sequence[str] = (),
    level: float = 0.95,
    seed: int = 0,
    overwrite: bool = False,
    bands: tuple[int, int, int] | None = None,
    nodata: float | None = None,
    stretch: tuple[float, float] | None = None,
    alpha: int | None = None,
    engine: Engine | None = None,
    on_progress: Progress | None = None,
) -> ChangeResult:
    """Find land-use change between two dates, or over a series of them.

    Writes to `out`: `change.json` and `change.md`; the transition matrix `matrix.csv` and class
    areas by date `areas.csv`; `transitions.parquet` (every tile's probabilities); the list
    `candidates.parquet`, `.geojson` and `.csv`; and the candidates' before/after pictures.

    Args:
        dates: scores of the same ground, earliest first; or, with `model`, imagery (a raster file
            or a folder of them a date) or tile sets, which are scored first. A first date whose
            tiles are labelled lets its scores be checked; without, figures have no intervals.
        out: a folder, any URI.
        model: the model that scores imagery. It should be trained on the first date.
        from_classes, to_classes: the changes to list; all by default.
        legend: a coarser legend that the result is folded into.
        min_probability: candidates are tiles whose change is at least so likely.
        limit: most candidates in the list.
        smoothing: weight of the neighbourhood in a tile's own prior, 0 to 1; 0 leaves it out. It
            is for two dates only.
        recalibrate: fit later dates' scores to the tiles that did not change, which takes out
            season and colour.
        normalise: how a later date's imagery is brought to the first one's colours before it is
            scored: `linear`, `histogram` or `none`. With `model` only.
        align: fit the model's last layer anew to each later date, to the ground that did not
            change (see `quadrat.changes.season`), which takes out what a season does to some
            classes alone. With `model` only, and from `chronology.LEAST_TILES` tiles on.
            Where the model learned its last layer from the first date's tiles, and so many are
            labelled, that date's layer is fitted anew as well, and all labels check the scores.
        evidence_from: `probabilities`, or `labels` with each date's confusion (series only).
        split: which labelled tiles of the first date its scores are checked on; see
            `quadrat.areas.area`. Any but `auto` keeps the model's own layer for the first date.
        show: candidates that get a picture.
        imagery: a file, or folder of files, a date to take pictures from instead of what the
            scores name.
        bands, nodata, stretch, alpha: how imagery is read.

    Raises:
        InputError, ScoresError: one date, other grids or legends, imagery without a model.
    """
    choices.check("evidence", evidence_from, choices.EVIDENCE, InputError)
    choices.check("normalisation", normalise, choices.NORMALISATIONS, InputError)
    _check_dates(dates, imagery, evidence_from)
    _check_numbers(show, smoothing, min_probability, limit)
    reading = {"bands": bands, "nodata": nodata, "stretch": stretch, "alpha": alpha}
    coarse = None if legend is None else legends.load_legend(legend)
    with _written(out) as (out, unfinished):
        opened = open_dates(
            dates, out, model, coarse, normalise=normalise, keep=align, reading=reading,
            overwrite=overwrite or unfinished, engine=engine, on_progress=on_progress,
        )  # fmt: skip
        question = ask(
            opened.days[0].legend, coarse, from_classes, to_classes, least=min_probability,
            limit=limit, recalibrated=recalibrate, smoothing=smoothing, kind=evidence_from,
            split=split, level=level, seed=seed,
        )  # fmt: skip
        maps = [d.folded(question.legend).mapped for d in opened.days]  # each date's own
        chronology, first = season.removed(opened, question, align=align)
        found = posterior.infer(chronology, first, question)
        sums = totals.totals(chronology, first, found, question)
        listed = candidates.rank(found, question)
        rows = candidates.records(listed, found, chronology.days, question.legend)
        files = candidates.write(rows, chronology.days[0], out)
        shots, failed = pictures.write(
            rows[:show], chronology.days, storage.join(out, "pictures"),
            imagery=[[uri] for uri in imagery], on_progress=on_progress, **reading,
        )  # fmt: skip
        result = answer(
            question, chronology, maps, found, first=first, sums=sums, listed=listed, out=out
        )
        result = replace(
            result, files=files, pictures=tuple(shots), notes=(*result.notes, *failed[:5])
        )
        return tables.write(result, found, maps, chronology.days, question)


def _check_dates(dates: Sequence[str], imagery: Sequence[str], evidence_from: str) -> None:
    if len(dates) < 2:
        raise InputError(
            f"{len(dates)} date{'s' if len(dates) != 1 else ''} given; change needs two or more, "
            "earliest first"
        )
    if len(set(dates)) < len(dates):
        raise InputError("a date is given twice; name each date once, earliest first")
    if imagery and len(imagery) != len(dates):
        raise InputError(f"--imagery is given {len(imagery)} times for {len(dates)} dates")
    if evidence_from == "labels" and len(dates) == 2:
        raise InputError("--evidence labels is for three dates or more; leave it out")


def _check_numbers(show: int, smoothing: float, least: float, limit: int | None) -> None:
    if show < 0:
        raise InputError(f"--show {show} pictures; use 0 or more")
    if not 0 <= smoothing < 1:
        raise InputError(f"--smoothing {smoothing} is not from 0 to below 1")
    if not 0 <= least <= 1:
        raise InputError(f"--min-probability {least} is no share; use a number from 0 to 1")
    if limit is not None and limit < 1:
        raise InputError(f"--limit {limit}; use 1 or more, or leave it out")


@contextmanager
def _written(out: str) -> Iterator[tuple[str, bool]]:
    """The folder while this process writes to it, and whether scores in it are its own.

    Scores in a folder that an earlier run began and did not finish are those of that run.
    """
    out = storage.normalise(out)
    begun = products.plan_of(out).get("kind") == "change"
    with products.hold("change", out):
        unfinished = begun and not storage.exists(storage.join(out, RESULT))
        if begun or not storage.list_names(out):
            products.write_plan("change", out, "")
        yield out, unfinished
