"""Land-use change between dates: which tiles, what they became, how sure, how much in all.

A walk in one direction, in which no step returns to an earlier one:

    question      what is asked
    chronology    the dates' scores on their common tiles; imagery is scored first, with
                  its `cells`, later dates in the first one's colours if wanted (`colours`)
    gains         what tiles gained between two dates: their cells are compared (`contrast`)
                  and judged by changes that were planted (`planted`); `ground` sums it up
    likelihood    without cells: what a date's probabilities mean
    posterior     and what each tile was by them: two dates by `pair`, listed in the `order` of
                  what they gained, more by `series`
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
from quadrat.changes import (
    candidates,
    ground,
    likelihood,
    pair,
    pictures,
    posterior,
    tables,
    totals,
)
from quadrat.changes.chronology import Chronology, open_dates
from quadrat.changes.question import Question, ask
from quadrat.changes.result import ChangeResult, Move, answer
from quadrat.changes.saved import RESULT, read_result
from quadrat.engines import Engine
from quadrat.errors import InputError

__all__ = ["ChangeResult", "Move", "change", "read_result"]

Progress = Callable[[int, int], None]

ALONE = (
    "By scores alone net change is surer than it should be: on counties composed of real pictures "
    "its 95% interval held the truth in 3 of 16. Compare imagery (--model), or interpret a sample "
    "(quadrat sample)."
)


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
    normalise: str = "none",
    at_least: float = 0.25,
    evidence_from: str = "auto",
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
        at_least: the share of a tile that must have gained another class for it to be a change.
        min_probability: candidates are tiles whose change is at least so likely.
        limit: most candidates in the list.
        smoothing: weight of the neighbourhood in a tile's own prior, 0 to 1; 0 leaves it out. It
            is for two dates only.
        recalibrate: fit later dates' scores to the tiles that did not change, which takes out
            season and colour.
        normalise: how a later date's imagery is brought to the first one's colours before it is
            scored: `linear`, `histogram` or `none`. With `model` only.
        evidence_from: `cells` of the tiles (see `quadrat.changes.gains`), which need `model` and
            imagery of `chronology.LEAST_TILES` tiles; `probabilities`; `labels` with each date's
            confusion (series only). `auto` takes cells where there are some, else probabilities.
        split: which labelled tiles of the first date its scores are checked on; see
            `quadrat.areas.area`.
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
    if not 0 < at_least < 1:
        raise InputError(f"--at-least {at_least} is not between 0 and 1")
    if evidence_from == "cells" and model is None:
        raise InputError("--evidence cells compares imagery; give it, and a model with --model")
    reading = {"bands": bands, "nodata": nodata, "stretch": stretch, "alpha": alpha}
    coarse = None if legend is None else legends.load_legend(legend)
    with _written(out) as (out, unfinished):
        opened = open_dates(
            dates, out, model, coarse, normalise=normalise, reading=reading, seed=seed,
            keep=evidence_from in ("auto", "cells"), overwrite=overwrite or unfinished,
            engine=engine, on_progress=on_progress,
        )  # fmt: skip
        question = ask(
            opened.days[0].legend, coarse, from_classes, to_classes, least=min_probability,
            at_least=at_least,
            limit=limit, recalibrated=recalibrate, smoothing=smoothing, kind=evidence_from,
            split=split, level=level, seed=seed,
        )  # fmt: skip
        maps = [d.folded(question.legend).mapped for d in opened.days]  # each date's own
        found, sums, reference, notes = _inferred(opened, question)
        listed = candidates.rank(found, question)
        rows = candidates.records(listed, found, opened.days, question.legend)
        files = candidates.write(rows, opened.days[0], out)
        shots, failed = pictures.write(
            rows[:show], opened.days, storage.join(out, "pictures"),
            imagery=[[uri] for uri in imagery], on_progress=on_progress, **reading,
        )  # fmt: skip
        result = answer(
            question, opened, maps, found, reference=reference, notes=notes, sums=sums,
            listed=listed, out=out,
        )  # fmt: skip
        result = replace(
            result, files=files, pictures=tuple(shots), notes=(*result.notes, *failed[:5])
        )
        return tables.write(result, found, maps, opened.days, question)


def _inferred(
    dates: Chronology, question: Question
) -> tuple[posterior.Posterior, totals.Totals, int, tuple[str, ...]]:
    """What tiles were, the sums of it, how many tiles it was checked on, and notes."""
    if dates.cells:
        found, flows, of_cells = ground.infer(dates, question)
        known, notes = ground.known(dates, flows, question, of_cells)
        return found, ground.totals(dates, flows, question), known, notes
    first = likelihood.first_date(dates.days[0], question.split)
    found = posterior.infer(dates, first, question)
    sums = totals.totals(dates, first, found, question)
    return found, sums, len(first.places), (*first.notes, ALONE)


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
