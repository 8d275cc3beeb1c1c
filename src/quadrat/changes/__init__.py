"""Land-use change between dates: which tiles, what they became, how sure, how much in all.

    recalibrate   what a date's probabilities mean
    posterior     two dates: P(transition) of each tile
    series        more dates: a hidden Markov model
    spread        intervals of totals
    radiometry    colours of one date as on another; recolour puts them before a model
    align         the model's last layer, fitted anew to a later date
    imagery       dates given as imagery, scored first
    evidence      scores -> likelihoods, checked on reference tiles
    candidates    the ranked list and its files
    tables        the result as Markdown and CSV; saved: as JSON, read back
    pictures      before and after
    work          two dates or many, put together

It does not know how models are trained, and takes the second date's labels nowhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quadrat import choices, geoparquet, products, storage
from quadrat import dates as dating
from quadrat import legend as legends
from quadrat import scores as dated
from quadrat.changes import candidates, pictures, posterior, tables, work
from quadrat.changes import imagery as imaged
from quadrat.changes.align import LEAST_TILES
from quadrat.changes.result import ChangeResult, Move
from quadrat.changes.saved import RESULT, read_result
from quadrat.changes.work import Found, Options
from quadrat.engines import Engine
from quadrat.errors import InputError
from quadrat.legend import Legend
from quadrat.scores import DateScores

__all__ = ["ChangeResult", "Move", "change", "read_result"]

Ints = NDArray[np.int64]
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
    smoothing: float = posterior.MIX,
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
            change (see `quadrat.changes.align`), which takes out what a season does to some
            classes alone. With `model` only, and from LEAST_TILES tiles on.
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
    if len(dates) < 2:
        raise InputError(
            f"{len(dates)} date{'s' if len(dates) != 1 else ''} given; change needs two or more, "
            "earliest first"
        )
    _check(dates, imagery, smoothing, evidence_from, normalise, show)
    out = storage.normalise(out)
    how = {"bands": bands, "nodata": nodata, "stretch": stretch, "alpha": alpha}
    extra: dict[str, Any] = {}
    # scores in a folder that an earlier run began and did not finish are those of that run
    begun = products.plan_of(out).get("kind") == "change"
    with products.hold("change", out):
        unfinished = begun and not storage.exists(storage.join(out, RESULT))
        if begun or not storage.list_names(out):
            products.write_plan("change", out, "")
        read, given = None, dates
        if model is not None:
            read = imaged.score(
                dates, out, model, normalise, how, overwrite=overwrite or unfinished,
                engine=engine, on_progress=on_progress,
            )  # fmt: skip
            dates, extra = read.scores, read.told
        coarse = None if legend is None else legends.load_legend(legend)
        days, notes = _read(dates, coarse, given)
        options = _options(
            days[0].legend, coarse, from_classes, to_classes, min_probability, limit, recalibrate,
            smoothing, evidence_from, split, level, seed,
        )  # fmt: skip
        maps = [work.mapped(d, options) for d in days]
        if align and read is not None and len(days[0]) >= LEAST_TILES:
            known = int((days[0].truth >= 0).sum())
            refitted = read.learned and split == "auto" and known >= LEAST_TILES
            options = dataclasses.replace(options, aligned=True, refitted=refitted)
            days, base = work.aligned(days, read.features, options)
        else:
            base = work.basis(days[0], options)
            notes = [*notes, imaged.unaligned(read)] if align else notes
        found = (
            work.pair(days[0], days[1], base, options, maps)
            if len(days) == 2
            else work.many(days, base, options, maps)
        )
        words = _words(options.legend, from_classes, to_classes)
        notes = [*dated.synthetic_note(days), *notes, *found.notes]
        result = _result(out, days, found, options, maps, words, notes, extra)
        rows = candidates.records(found.listed, found.when, found.path, days, options.legend)
        tiles = _transitions(days, found, options, maps)
        return _write(result, rows, days, tiles, show, imagery, how, on_progress)


def _check(
    dates: Sequence[str],
    imagery: Sequence[str],
    smoothing: float,
    evidence_from: str,
    normalise: str,
    show: int,
) -> None:
    if len(set(dates)) < len(dates):
        raise InputError("a date is given twice; name each date once, earliest first")
    if imagery and len(imagery) != len(dates):
        raise InputError(f"--imagery is given {len(imagery)} times for {len(dates)} dates")
    if not 0 <= smoothing < 1:
        raise InputError(f"--smoothing {smoothing} is not from 0 to below 1")
    choices.check("evidence", evidence_from, choices.EVIDENCE, InputError)
    if evidence_from == "labels" and len(dates) == 2:
        raise InputError("--evidence labels is for three dates or more; leave it out")
    choices.check("normalisation", normalise, choices.NORMALISATIONS, InputError)
    if show < 0:
        raise InputError(f"--show {show} pictures; use 0 or more")


def _read(
    dates: Sequence[str], coarse: Legend | None, given: Sequence[str]
) -> tuple[list[DateScores], list[str]]:
    """The tiles that all dates have, in one order; folded only where legends differ.

    Args:
        given: what the user named; a date that says nothing of itself is called after it.
    """
    days = [dated.read(uri) for uri in dates]
    dating.check_order([(storage.redact(u), d.date) for u, d in zip(given, days, strict=True)])
    for n, (day, uri) in enumerate(zip(days, given, strict=True)):
        if day.date == storage.basename(day.uri):
            name = storage.basename(uri).rsplit(".", 1)[0]
            days[n] = dataclasses.replace(day, date=name)
    if coarse is not None and len({d.legend.names for d in days}) > 1:
        days = [d.folded(coarse) for d in days]
    sizes = [len(d) for d in days]
    days = list(dated.match(days))
    lost = max(sizes) - len(days[0])
    note = f"{lost:,} tiles are not in the scores of every date and were left out."
    same = len({d.date for d in days}) < len(days)
    if same:
        days = [dataclasses.replace(d, date=f"{d.date} ({storage.basename(d.uri)})") for d in days]
    return days, [note] if lost else []


def _options(
    own: Legend,
    coarse: Legend | None,
    from_classes: Sequence[str],
    to_classes: Sequence[str],
    least: float,
    limit: int | None,
    recalibrated: bool,
    smoothing: float,
    kind: str,
    split: str,
    level: float,
    seed: int,
) -> Options:
    if limit is not None and limit < 1:
        raise InputError(f"--limit {limit}; use 1 or more, or leave it out")
    legend = coarse or own
    same = legend.names == own.names
    places = np.arange(len(own)) if same else legends.fold(own, legend)
    source, target = (_ids(legend, names) for names in (from_classes, to_classes))
    candidates.check(source, target, least)
    return Options(
        legend=legend, places=places, source=source, target=target, least=least, limit=limit,
        recalibrated=recalibrated, aligned=False, smoothing=smoothing, kind=kind, split=split,
        level=level, seed=seed,
    )  # fmt: skip


def _ids(legend: Legend, names: Sequence[str]) -> Ints:
    ids = [legend.id(n) for n in names] or range(len(legend))
    return np.array(sorted(set(ids)), dtype=np.int64)


def _words(legend: Legend, source: Sequence[str], target: Sequence[str]) -> str:
    if not source and not target:
        return "any change"
    left, right = ([legend.names[legend.id(n)] for n in names] for names in (source, target))
    return f"{' or '.join(left) or 'any class'} to {' or '.join(right) or 'another class'}"


def _result(
    out: str,
    days: Sequence[DateScores],
    found: Found,
    options: Options,
    maps: Sequence[Ints],
    words: str,
    notes: list[str],
    extra: dict[str, Any],
) -> ChangeResult:
    first = days[0]
    tile_ha, uneven = first.ground()
    notes = [*notes, *uneven]
    listed, k = found.listed, len(options.legend)
    if not len(listed):
        notes = [*notes, f"No tile reaches a probability of {options.least:g}: the list is empty."]
    return ChangeResult(
        out=out,
        dates=tuple(d.date for d in days),
        names=options.legend.names,
        colors=tuple(c.color for c in options.legend.classes),
        tiles=len(first),
        tile_ha=tile_ha,
        level=options.level,
        moves=found.moves,
        matrix=tuple(found.cells[i * k : i * k + k] for i in range(k)),
        areas=found.areas,
        net=found.net,
        changed=found.changed,
        compared_changed=int((maps[0] != maps[-1]).sum()),
        candidates=len(listed),
        expected_false=float(listed.expected_false[-1]) if len(listed) else 0.0,
        least=options.least,
        wanted=words,
        reference=found.reference,
        method={**found.method, **extra},
        notes=tuple(notes),
    )


def _write(
    result: ChangeResult,
    rows: list[dict[str, Any]],
    days: Sequence[DateScores],
    tiles: pa.Table,
    show: int,
    imagery: Sequence[str],
    how: dict[str, Any],
    on_progress: Progress | None,
) -> ChangeResult:
    out = result.out
    files = candidates.write(rows, days[0], out)
    files["transitions"] = storage.join(out, "transitions.parquet")
    geoparquet.write_part(files["transitions"], tiles, days[0].grid.crs)
    shots, failed = pictures.write(
        rows[:show], days, storage.join(out, "pictures"),
        imagery=[[uri] for uri in imagery], on_progress=on_progress, **how,
    )  # fmt: skip
    files |= {k: storage.join(out, f"change.{k}") for k in ("md", "json")}
    for kind, text in (("matrix", tables.matrix_csv(result)), ("areas", tables.areas_csv(result))):
        files[kind] = storage.join(out, f"{kind}.csv")
        storage.write_bytes(files[kind], text.encode())
    result = dataclasses.replace(
        result, files=files, pictures=tuple(shots), notes=(*result.notes, *failed[:5])
    )
    storage.write_bytes(files["md"], tables.markdown(result).encode())
    storage.write_json(files["json"], result.to_dict())
    return result


def _transitions(
    days: Sequence[DateScores], found: Found, options: Options, maps: Sequence[Ints]
) -> pa.Table:
    """Every tile: its most likely classes, whether and when it changed, each transition's odds.

    `label_t` is the date's own map, `class_t` the class given all dates, `changed_t` the
    probability of a change between dates t and t + 1, `p_<from>_to_<to>` that of a transition from
    the first date to the last.
    """
    first, names = days[0], np.array(options.legend.names, dtype=object)
    columns: dict[str, Any] = {
        "row": pa.array(first.rows, pa.int32()),
        "col": pa.array(first.cols, pa.int32()),
    }
    for t, shown in enumerate(maps):
        columns[f"label_{t + 1}"] = pa.array(names[shown], pa.string())
        columns[f"class_{t + 1}"] = pa.array(names[found.path[:, t]], pa.string())
    for t in range(len(days) - 1):
        columns[f"changed_{t + 1}"] = pa.array(found.moved[:, t].astype(np.float32))
    for i, j in np.ndindex(len(names), len(names)):
        p = np.clip(found.ends[:, i, j], 0, 1).astype(np.float32)
        columns[f"p_{names[i]}_to_{names[j]}"] = pa.array(p)
    columns["geometry"] = geoparquet.wkb_array(first.grid.wkb(first.rows, first.cols))
    return pa.table(columns)
