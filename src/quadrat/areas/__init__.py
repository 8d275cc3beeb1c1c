"""Areas that can be published: hectares a class, or a change, adjusted for the map's errors.

Counting a map's tiles counts its mistakes too. `area` estimates from a sample of reference tiles
what lies in each map class and puts standard errors and intervals to it (`estimate`, after Olofsson
et al. 2014). Without reference labels it refuses, unless `unadjusted` is asked for, and then says
so in every output. It does not know pixels or models.

    source       ground as the label source would map it, by held-out tiles
    reference    which tiles say what lies on the ground
    estimate     the stratified estimator; intervals: of few tiles as well
    tables       the result, as data and as files

From a sample that people interpreted (`sampled`), the map is what makes intervals narrow:

    interpreted  plots as numbers: the reference, the design, what the map says there
    interpreters what they add to the error; response: who answered, and who did not
    estimators   plots alone, or with the map; design: the error of a mean
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quadrat import choices, storage
from quadrat import dates as dating
from quadrat import legend as legends
from quadrat import scores as dated
from quadrat.areas import estimate, intervals, source, tables
from quadrat.areas import reference as references
from quadrat.areas.estimate import Accuracy, Sample
from quadrat.areas.interpreted import GROUND
from quadrat.areas.reference import Reference
from quadrat.areas.sampled import from_sample
from quadrat.areas.tables import ACRES, AreaResult, AreaRow
from quadrat.errors import InputError, LabelError
from quadrat.metrics import Estimate
from quadrat.scores import DateScores

__all__ = [
    "ACRES", "Accuracy", "AreaResult", "AreaRow", "Sample", "area", "by_labels", "from_confusion",
]  # fmt: skip

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
EXACT_WORDS = (
    f"{intervals.EXACT}: fewer than {intervals.FEW} reference tiles of the row's kind or of all "
    "others, or as unsure as if there were. It has an interval even where the sample holds none "
    "(standard error 0)."
)
NO_SHARES = (
    "The scores have no shares of ground with the label source's beside them: areas are of plots "
    "by main class."
)
STRATA_POOLED = "with fewer than two reference tiles are estimated together, without regard to them"


def area(
    scores: str,
    scores_b: str | None = None,
    out: str | None = None,
    *,
    reference: str | None = None,
    split: str = "auto",
    legend: str | None = None,
    unadjusted: bool = False,
    blocks: int | None = None,
    sample: str | None = None,
    answers: Sequence[str] = (),
    estimand: str = GROUND,
    estimator: str = "regression",
    other_map: bool = False,
    collapse: bool = False,
    level: float = 0.95,
) -> AreaResult:
    """Hectares of each class, or of each change between two dates, with standard errors.

    Args:
        scores: a folder of scores; with `sample`, the scores or the change it was drawn from.
        scores_b: the later date's scores, for the area of change.
        out: folder for `area.md`, `area.csv`, `area.json` and `area.png`; None writes nothing.
        reference: a CSV of interpreted plots: `row,col` (or `x,y` in the grid's CRS) and `label`
            (for two dates `label_a`, `label_b`). None takes the scores' own reference labels.
        split: which of the scores' labelled tiles are the reference: `test`, `validation`, `all`,
            or `auto` (the first of test, validation, tiles in no split that has some).
        legend: a coarser legend (name or TOML file) to fold the classes into first.
        unadjusted: count the map as it is, errors included; every output says so.
        blocks: side of the blocks, in tiles, that the reference tiles were drawn in; 0 for tiles
            drawn one by one; None looks how they lie.
        sample: a folder of `quadrat sample`, whose plots were interpreted.
        answers: files of answers to it: `review.gpkg`, CSV, exports of Collect Earth Online.
        estimand: `ground` (shares of plots) or `plots` (plots by main class). Tables of plots, and
            two dates of scores, are always of plots.
        estimator: of a sample: `regression`, `difference`, `ratio`, `post-stratified`, `direct`.
        other_map: take a map that is not the one which the sample was drawn from.
        collapse: join strata of fewer than two answered plots with others.
        level: of the intervals.

    Raises:
        LabelError: no reference labels, or only of training tiles, and not `unadjusted`; answers
            that are none of the sample's.
        ScoresError: scores without a grid, or two dates on different grids or legends.
        InputError: a sample drawn from another map; options that do not go together.
    """
    if sample is not None:
        _only_sample(scores_b, reference, split, unadjusted=unadjusted, blocks=blocks)
        result = from_sample(
            scores, sample, answers, estimand=estimand, estimator=estimator, legend=legend,
            other_map=other_map, collapse=collapse, level=level,
        )  # fmt: skip
        return result if out is None else write(result, out)
    if answers or other_map or collapse or estimator != "regression":
        raise InputError(
            "--answers, --estimator, --other-map and --collapse are about a sample; give --sample"
        )
    choices.check("estimand", estimand, choices.ESTIMANDS, InputError)
    days = tuple(dated.read(uri) for uri in (scores, scores_b) if uri is not None)
    dating.check_order([(storage.redact(d.uri), d.date) for d in days])
    if legend is not None:
        coarse = legends.load_legend(legend)
        days = tuple(d.folded(coarse) for d in days)
    notes: list[str] = []
    if len(days) == 2:
        whole = days
        days = dated.match(days)
        lost = sum(len(d) for d in whole) - 2 * len(days[0])
        if lost:
            notes.append(f"{lost:,} tiles are in the scores of one date only and were left out.")
    if len(days) == 1 and reference is None and not unadjusted and estimand == GROUND:
        if source.says_shares(days[0]):
            result = source.of_ground(days[0], split, blocks, level, notes)
            return result if out is None else write(result, out)
        notes.append(NO_SHARES)
    if unadjusted:
        ref = None
    elif reference is None:
        ref = references.from_scores(days, split, blocks)
    else:
        ref = references.from_table(reference, days, blocks)
    result = estimated(days, ref, level, notes)
    if reference is None and not unadjusted:
        result = source.noted(result, days[0])
    return result if out is None else write(result, out)


def by_labels(day: DateScores, ref: Reference | None, split: str = "auto") -> AreaResult:
    """Areas of one date by the label source: of ground where its shares are known, else of plots.

    Args:
        ref: its labels of held-out tiles; None counts the map as it is.
    """
    if ref is not None and source.says_shares(day):
        with suppress(LabelError):  # too few blocks are held out
            return source.of_ground(day, split)
    result = estimated((day,), ref)
    return result if ref is None else source.noted(result, day)


def _only_sample(
    scores_b: str | None,
    reference: str | None,
    split: str,
    *,
    unadjusted: bool,
    blocks: int | None,
) -> None:
    """Refuse options that a sample has no use for."""
    if scores_b is not None:
        raise InputError(
            "--sample takes one map; for change, name the folder of quadrat change that the "
            "sample was drawn from"
        )
    if reference is not None or unadjusted or split != "auto" or blocks is not None:
        raise InputError(
            "--reference, --split, --blocks and --unadjusted are not about a sample; leave them out"
        )


def estimated(
    days: tuple[DateScores, ...],
    ref: Reference | None,
    level: float = 0.95,
    notes: Sequence[str] = (),
) -> AreaResult:
    """Areas of one date's tiles, or of the changes between two dates' (see `scores.match`).

    Args:
        ref: reference labels, drawn at random from each class (each transition) of the map, or in
            blocks; None counts the map as it is.
    """
    first, names, k = days[0], days[0].legend.names, len(days[0].legend)
    if len(days) == 1:
        stratum, strata = first.mapped, names
        title = f"Area of {len(names)} classes, {first.date}"
    else:
        stratum = days[0].mapped * k + days[1].mapped
        strata = tuple(f"{a} → {b}" if a != b else f"{a} (stable)" for a in names for b in names)
        title = f"Area of change, {first.date} to {days[1].date}"
    counts = np.bincount(stratum, minlength=len(strata))
    tile_ha, uneven = first.ground()
    total_ha, accuracy = float(counts.sum() * tile_ha), None
    rows = _lines(names, strata, counts, tile_ha, change=len(days) == 2)
    said = [*dated.synthetic_note(days), *notes, *(() if ref is None else ref.notes), *uneven]
    if ref is not None:
        sample, mapped, pooled = _sample(stratum, counts, ref, k)
        rows = [
            _adjust(row, weights, sample, mapped=mapped, total_ha=total_ha, level=level)
            for row, weights in zip(rows, _contrasts(rows, names, strata), strict=True)
        ]
        accuracy = estimate.accuracy(sample, mapped, level)
        said += _of_sample(sample, mapped, [strata[i] for i in pooled], int(counts.sum()))
    left = [r.adjusted.high for r in rows if not _shown(r) and r.adjusted is not None]
    rows = [r for r in rows if _shown(r)]
    unlisted = max(left, default=None)
    if unlisted is not None:
        said.append(
            f"{len(left)} transitions were neither mapped nor found and have no row; each has a "
            f"{level:.0%} interval of 0 to {tables.number(unlisted)} ha."
        )
    return AreaResult(
        title=title, dates=tuple(d.date for d in days), names=names, strata=strata,
        colors=tuple(c.color for c in first.legend.classes), adjusted=ref is not None,
        tile_ha=tile_ha, total_ha=total_ha, level=level, rows=tuple(rows), accuracy=accuracy,
        notes=(*said, *_exact_note(rows)), files={}, unlisted_ha=unlisted, estimand="plots",
    )  # fmt: skip


def _of_sample(sample: Sample, mapped: Ints, pooled: list[str], tiles: int) -> list[str]:
    """What a reader must know of the sample.

    Args:
        pooled: map classes that were estimated together. tiles: of the map.
    """
    notes = [f"Map classes {STRATA_POOLED}: {', '.join(pooled)}."] if pooled else []
    right = sample.values[np.arange(len(mapped)), mapped]
    if (right == 1).all() and tiles > len(mapped):
        notes.append(
            f"The map errs on none of {len(mapped):,} reference tiles, so standard errors are 0; "
            f"up to {1 - 0.05 ** (1 / len(mapped)):.1%} of the tiles may be wrong all the same "
            "(95% bound)."
        )
    return notes


def _shown(row: AreaRow) -> bool:
    """Whether a row is shown: a transition needs mapped ground or reference tiles."""
    estimated = row.adjusted is not None and row.adjusted.value > 0
    return bool(row.tiles or row.reference or row.kind in ("class", "net") or estimated)


def _exact_note(rows: Sequence[AreaRow]) -> tuple[str, ...]:
    """What the rows' exact intervals mean, where any row has one."""
    return (EXACT_WORDS,) if any(r.interval == intervals.EXACT for r in rows) else ()


def _lines(
    names: tuple[str, ...], strata: tuple[str, ...], counts: Ints, tile_ha: float, *, change: bool
) -> list[AreaRow]:
    """The rows with the map's own counts: classes; or changes by size, stable classes, net."""

    def row(name: str, kind: str, tiles: int) -> AreaRow:
        return AreaRow(name, kind, tiles, 0, tiles * tile_ha, None, None)

    if not change:
        return [row(n, "class", int(c)) for n, c in zip(names, counts, strict=True)]
    k = len(names)
    table = counts.reshape(k, k)
    by_size = [int(s) for s in np.argsort(-counts, kind="stable") if s // k != s % k]
    moves = [row(strata[s], "transition", int(counts[s])) for s in by_size]
    stay = [row(strata[i * k + i], "stable", int(table[i, i])) for i in range(k)]
    net = [row(f"{n}, net", "net", int(table[:, i].sum() - table[i].sum()))
           for i, n in enumerate(names)]  # fmt: skip
    return [*moves, *stay, *net]


def _contrasts(
    rows: list[AreaRow], names: tuple[str, ...], strata: tuple[str, ...]
) -> list[Floats]:
    """For each row, the weights (strata,) whose sum over reference values is its area."""
    k = len(names)
    place = {name: i for i, name in enumerate(strata)}
    contrasts = []
    for row in rows:
        w = np.zeros(len(strata))
        if row.kind == "net":
            i = names.index(row.name.removesuffix(", net"))
            w.reshape(k, k)[:, i] += 1
            w.reshape(k, k)[i, :] -= 1
        else:
            w[place[row.name]] = 1
        contrasts.append(w)
    return contrasts


def _sample(stratum: Ints, counts: Ints, ref: Reference, k: int) -> tuple[Sample, Ints, list[int]]:
    """The sample with small strata pooled, each reference tile's map class, and what was pooled."""
    truth = ref.truth[:, 0] if ref.truth.shape[1] == 1 else ref.truth[:, 0] * k + ref.truth[:, 1]
    mapped = stratum[ref.places]
    if ref.stratum is not None and ref.sizes is not None:
        values = np.eye(len(counts))[truth]
        return Sample(ref.stratum, values, ref.sizes, counted=True), mapped, []
    held = np.bincount(mapped, minlength=len(counts))
    place = estimate.pool_small(held, counts)
    sizes = np.bincount(place, weights=counts, minlength=len(counts)).astype(np.float64)
    pooled = [int(i) for i in np.flatnonzero((held < 2) & (counts > 0))]
    sample = Sample(
        place[mapped], np.eye(len(counts))[truth], sizes, counted=True, clusters=ref.clusters
    )
    return sample, mapped, pooled


def _adjust(
    row: AreaRow, weights: Floats, sample: Sample, *, mapped: Ints, total_ha: float, level: float
) -> AreaRow:
    share, se, kind = intervals.interval(sample, sample.values @ weights, level)
    figure = Estimate(*(v * total_ha for v in (share.value, share.low, share.high)))
    held = int((weights[mapped] != 0).sum())
    return replace(row, reference=held, adjusted=figure, se_ha=se * total_ha, interval=kind)


def from_confusion(
    matrix: ArrayLike,
    mapped_ha: ArrayLike,
    names: tuple[str, ...] | list[str],
    *,
    level: float = 0.95,
    title: str = "Area",
) -> AreaResult:
    """Error-adjusted areas from a confusion matrix of any map.

    Args:
        matrix: (K, K) counts of reference plots, rows = truth, columns = map. The plots are a
            random sample of each map class.
        mapped_ha: (K,) hectares of each map class.
    """
    sizes = np.asarray(mapped_ha, np.float64)
    if len(names) != len(sizes):
        raise InputError(f"{len(sizes)} areas for {len(names)} classes; give one a class")
    sample = estimate.sample_of_confusion(matrix, sizes)
    held = sample.counts
    if ((held < 2) & (sizes > 0)).any():
        small = names[int(np.flatnonzero((held < 2) & (sizes > 0))[0])]
        raise LabelError(f"map class {small} has fewer than 2 reference plots; add some")
    rows = []
    for i, name in enumerate(names):
        bare = AreaRow(name, "class", 0, 0, float(sizes[i]), None, None)
        pick = np.eye(len(names))[i]
        rows.append(
            _adjust(
                bare, pick, sample, mapped=sample.stratum, total_ha=float(sizes.sum()), level=level
            )
        )
    return AreaResult(
        title=title, dates=("",), names=tuple(names), strata=tuple(names), colors=(),
        adjusted=True, tile_ha=None, total_ha=float(sizes.sum()), level=level,
        rows=tuple(rows), accuracy=estimate.accuracy(sample, sample.stratum, level),
        notes=_exact_note(rows),
        files={},
    )  # fmt: skip


def write(result: AreaResult, out: str) -> AreaResult:
    """Write `area.md`, `area.csv`, `area.png` and `area.json`; the result with its files named."""
    files = {kind: storage.join(out, f"area.{kind}") for kind in ("md", "csv", "png", "json")}
    done = replace(result, files=files)
    storage.write_bytes(files["md"], tables.markdown(done).encode())
    storage.write_bytes(files["csv"], tables.csv_text(done).encode())
    storage.write_bytes(files["png"], tables.figure_png(done, done.colors))
    storage.write_bytes(files["json"], json.dumps(done.to_dict(), indent=2).encode())
    return done
