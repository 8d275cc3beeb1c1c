"""A sample in the formats of other tools, and their exports as rows of answers.

Collect Earth Online takes plots as a CSV of LON, LAT, PLOTID, and points within them with SAMPLEID
too. Its plot export has a column `QUESTION:ANSWER` with the per cent of a plot's points; its sample
export has a row a point and a column a question.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from quadrat import choices, raster, storage, text, vectors
from quadrat.errors import InputError, LabelError
from quadrat.sampling.files import LONLAT, PlotSample

Row = dict[str, Any]
# Columns of Collect Earth Online's exports that are no question.
CEO_PLOT = ("plotid", "sample_points", "email")
CEO_SAMPLE = ("plotid", "sampleid", "email")
CEO_OTHERS = (
    "plotid", "sampleid", "sample_internal_id", "lon", "lat", "center_lon", "center_lat", "shape",
    "size_m", "sample_points", "email", "flagged", "flagged_reason", "confidence",
    "confidence_comment", "used_kml", "used_geodash", "collection_time", "analysis_duration",
    "imagery_title", "imagery_attributions", "sample_geom", "common_securewatch_date",
    "total_securewatch_dates", "guest interpreters",
)  # fmt: skip


def export(sample: PlotSample, kinds: Sequence[str], points: int = 1) -> None:
    """Write further files of a sample into its folder."""
    if points < 1:
        raise InputError(f"--points {points}; use 1 or more along a side of a plot")
    for kind in kinds:
        choices.check("export", kind, tuple(EXPORTS), InputError)
        EXPORTS[kind](sample, points)


def to_ceo(sample: PlotSample, points: int) -> None:
    """`ceo_plots.csv`, and `ceo_samples.csv` where plots have several points."""
    lon, lat = sample.lonlat()
    plots = zip(lon.tolist(), lat.tolist(), sample.plots.tolist(), strict=True)
    _write(sample, "ceo_plots.csv", ("LON", "LAT", "PLOTID"), plots)
    if points > 1:
        _write(
            sample, "ceo_samples.csv", ("LON", "LAT", "PLOTID", "SAMPLEID"),
            _ceo_points(sample, points),
        )  # fmt: skip


def _ceo_points(sample: PlotSample, points: int) -> Iterator[tuple[float, float, int, int]]:
    """The centres of `points` x `points` equal squares of every plot."""
    m = sample.grid.tile_m
    step = (np.arange(points) + 0.5) / points
    down, right = (a.ravel() for a in np.meshgrid(step, step, indexing="ij"))
    x = (sample.cols[:, None] + right) * m
    y = -(sample.rows[:, None] + down) * m
    lon, lat = (v.round(7) for v in raster.transform_points(sample.grid.crs, LONLAT, x, y))
    for i, plot in enumerate(sample.plots.tolist()):
        for j in range(points * points):
            yield float(lon[i, j]), float(lat[i, j]), plot, j + 1


def to_kml(sample: PlotSample, _: int) -> None:
    """`sample.kml`: the outlines, each with its plot's number for a name."""
    names = [str(n) for n in sample.plots.tolist()]
    columns = {"Name": names, "Description": [f"tile {t}" for t in sample.tiles]}
    where = storage.join(sample.uri, "sample.kml")
    vectors.write_layer(where, "plots", LONLAT, sample.outlines(), columns)


def to_template(sample: PlotSample, _: int) -> None:
    """`answers-template.csv`: a row a plot and date, to be filled in."""
    shares = [f"share_{n}" for n in sample.legend.names]
    head = ("plot", "tile", "interpreter", "date", "class", *shares, "change", "confidence",
            "note", "observable")  # fmt: skip
    blank = [""] * (len(shares) + 4)
    days = [*sample.dates, ""] if len(sample.dates) > 1 else list(sample.dates)
    rows = (
        [plot, tile, "", day, "", *blank]
        for plot, tile in zip(sample.plots.tolist(), sample.tiles, strict=True)
        for day in days
    )
    _write(sample, "answers-template.csv", head, rows)


# `--export` -> what writes it; the names are `choices.EXPORTS`.
EXPORTS: Mapping[str, Callable[[PlotSample, int], None]] = {
    "ceo": to_ceo,
    "kml": to_kml,
    "template": to_template,
}


def _write(sample: PlotSample, name: str, head: Sequence[str], rows: Any) -> None:
    table = io.StringIO()
    text.write_table(table, head, rows)
    storage.write_bytes(storage.join(sample.uri, name), table.getvalue().encode())


# What comes back


def is_ceo(header: Sequence[str]) -> bool:
    """Whether a table is an export of Collect Earth Online."""
    low = [h.strip().lower() for h in header]
    return all(c in low for c in CEO_PLOT) or all(c in low for c in CEO_SAMPLE)


def from_ceo(
    name: str, header: Sequence[str], rows: Sequence[Mapping[str, Any]], sample: PlotSample
) -> list[Row]:
    """An export as rows of answers: shares by the points of each plot, one row a date.

    Raises:
        LabelError: no question has the legend's classes as answers, or not one for each date.
    """
    low = {h: h.strip().lower() for h in header}
    records = [{low[k]: v for k, v in r.items()} for r in rows]
    if all(c in low.values() for c in CEO_SAMPLE):
        return _of_points(name, header, records, sample)
    return _of_plots(name, header, records, sample)


def _of_plots(
    name: str, header: Sequence[str], records: Sequence[Row], sample: PlotSample
) -> list[Row]:
    answers: dict[str, dict[str, str]] = {}  # question -> column -> class
    for column in header:
        question, colon, answer = column.strip().rpartition(":")
        if colon:
            answers.setdefault(question, {})[column.strip().lower()] = answer
    found = {
        q: {c: text.match(a, sample.legend.names) for c, a in each.items()}
        for q, each in answers.items()
    }
    asked = _questions(name, {q: list(m.values()) for q, m in found.items()}, answers, sample)
    made = []
    for record in records:
        for date, question in asked.items():
            shares = {
                str(cls): _percent(name, record.get(column))
                for column, cls in found[question].items()
            }
            made.append(_answer(name, record, date, shares))
    return made


def _of_points(
    name: str, header: Sequence[str], records: Sequence[Row], sample: PlotSample
) -> list[Row]:
    others = [h.strip() for h in header if h.strip().lower() not in CEO_OTHERS]
    questions = [q for q in others if not q.lower().startswith(("pl_", "smpl_"))]
    said = {q: {str(r.get(q.lower()) or "").strip() for r in records} - {""} for q in questions}
    found = {q: {a: text.match(a, sample.legend.names) for a in each} for q, each in said.items()}
    asked = _questions(
        name, {q: list(m.values()) for q, m in found.items() if m},
        {q: {a: a for a in each} for q, each in said.items()}, sample,
    )  # fmt: skip
    plots: dict[tuple[str, str], list[Row]] = {}
    for record in records:
        key = str(record.get("plotid")), str(record.get("email") or "")
        plots.setdefault(key, []).append(record)
    made = []
    for points in plots.values():
        for date, question in asked.items():
            words = [str(p.get(question.lower()) or "").strip() for p in points]
            counts = Counter(str(found[question][w]) for w in words if w)
            shares = {c: n / len(points) * 100 for c, n in counts.items()}
            made.append(_answer(name, points[0], date, shares))
    return made


def _questions(
    name: str,
    found: Mapping[str, Sequence[str | None]],
    answers: Mapping[str, Mapping[str, str]],
    sample: PlotSample,
) -> dict[str, str]:
    """Date -> the question whose answers are the legend's classes."""
    classes = sample.legend.names
    asked = [q for q, m in found.items() if sum(c is not None for c in m) * 2 > len(m)]
    for question in asked:
        for answer in answers[question].values():
            if text.match(answer, classes) is None:
                raise LabelError(
                    f"{name}: the question {text.shown(question)} has the answer "
                    f"{text.shown(answer)}, which is no class; {text.near(answer, classes)}"
                )
    if not asked:
        raise LabelError(
            f"{name}: no question has the classes {', '.join(classes)} as answers; ask for them by "
            "these names"
        )
    if len(asked) != len(sample.dates):
        raise LabelError(
            f"{name} has {len(asked)} questions about classes ({', '.join(asked)}) for "
            f"{len(sample.dates)} dates; keep one for each date"
        )
    if len(asked) == 1:
        return {sample.dates[0]: asked[0]}
    dated = {d: [q for q in asked if d in q or d[:4] in re.findall(r"\d{4}", q)]
             for d in sample.dates}  # fmt: skip
    if all(len(q) == 1 for q in dated.values()):
        return {d: q[0] for d, q in dated.items()}
    raise LabelError(
        f"{name}: it is not clear which question is about which date; name the year in each "
        f"question ({', '.join(sample.dates)})"
    )


def _percent(name: str, value: Any) -> float:
    try:
        return float(str(value or 0).strip().rstrip("%"))
    except ValueError:
        raise LabelError(f"{name} has {text.shown(value)} where a per cent is expected") from None


def _answer(name: str, record: Row, date: str, shares: Mapping[str, float]) -> Row:
    """A row of answers: none where no point was answered, unobservable where it was flagged."""
    total = sum(shares.values())
    flagged = str(record.get("flagged") or "").strip().lower() in ("true", "t", "1", "yes")
    if 0 < total < 99 and not flagged:
        raise LabelError(
            f"{name}: plot {record.get('plotid')} has answers for {total:.0f}% of its points; "
            "finish it or flag it in Collect Earth Online"
        )
    seen = total > 0 and not flagged
    return {
        "plot": record.get("plotid"), "tile": "", "date": date,
        "interpreter": str(record.get("email") or "").strip(), "class": "",
        "shares": {c: v / total for c, v in shares.items() if v} if seen else None,
        "observable": not flagged, "note": str(record.get("flagged_reason") or ""),
    }  # fmt: skip
