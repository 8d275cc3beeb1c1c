"""The result's files: every tile's transitions, the tables as Markdown and CSV, `change.json`."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quadrat import geoparquet, storage, text
from quadrat.areas.tables import ACRES, number
from quadrat.changes.posterior import Posterior
from quadrat.changes.question import Question
from quadrat.changes.result import ChangeResult
from quadrat.metrics import Estimate
from quadrat.scores import DateScores, columns

Ints = NDArray[np.int64]


def write(
    r: ChangeResult,
    found: Posterior,
    maps: Sequence[Ints],
    days: Sequence[DateScores],
    question: Question,
) -> ChangeResult:
    """Write `transitions.parquet`, `change.md`, the CSV tables and, last, `change.json`.

    Args:
        maps: (N,) class ids of each date's own map.
        days: the dates, whose tiles those of the result are.

    Returns:
        The result with its files.
    """
    files = {**r.files, "transitions": storage.join(r.out, "transitions.parquet")}
    table = transitions(found, maps, days, question)
    geoparquet.write_part(files["transitions"], table, days[0].grid.crs)
    files |= {k: storage.join(r.out, f"change.{k}") for k in ("md", "json")}
    for kind, text_ in (("matrix", matrix_csv(r)), ("areas", areas_csv(r))):
        files[kind] = storage.join(r.out, f"{kind}.csv")
        storage.write_bytes(files[kind], text_.encode())
    r = replace(r, files=files)
    storage.write_bytes(files["md"], markdown(r).encode())
    storage.write_json(files["json"], r.to_dict())
    return r


def transitions(
    found: Posterior, maps: Sequence[Ints], days: Sequence[DateScores], question: Question
) -> pa.Table:
    """Each tile's likeliest classes, whether and when it changed, each transition's probability.

    `label_t` is the date's own map, `class_t` the class given all dates, `changed_t` the
    probability of a change between dates t and t + 1, `p_<from>_to_<to>` that of a transition from
    the first date to the last. `first_p_<class>` and `last_p_<class>` are these dates' own
    probabilities, before one date says anything of the other; the season is taken out of them.
    """
    first, legend = days[0], question.legend
    values: dict[str, Any] = {
        "row": pa.array(first.rows, pa.int32()),
        "col": pa.array(first.cols, pa.int32()),
    }
    for t, own in enumerate(maps):
        values[f"label_{t + 1}"] = columns.class_names(own, legend)
        values[f"class_{t + 1}"] = columns.class_names(found.path[:, t], legend)
    for t in range(len(maps) - 1):
        values[f"changed_{t + 1}"] = pa.array(found.moved[:, t].astype(np.float32))
    for i, j in np.ndindex(len(legend), len(legend)):
        p = np.clip(found.ends[:, i, j], 0, 1).astype(np.float32)
        values[f"p_{legend.names[i]}_to_{legend.names[j]}"] = pa.array(p)
    for end, day in (("first", first), ("last", days[-1])):
        own = (day.probabilities.astype(np.float64) @ question.fold).astype(np.float32)
        for k, name in enumerate(legend.names):
            values[f"{end}_p_{name}"] = pa.array(own[:, k])
    values["geometry"] = geoparquet.wkb_array(first.grid.wkb(first.rows, first.cols))
    return pa.table(values)


def markdown(r: ChangeResult) -> str:
    """Transition matrix, transitions, net change and areas a date; tiles, hectares and acres."""
    parts = [f"# Change, {r.dates[0]} to {r.dates[-1]}", "", *_summary(r), ""]
    for unit, factor in (("tiles", 1.0), ("hectares", r.tile_ha)):
        parts += [*_matrix(r, unit, factor), ""]
    parts += [*_moves(r), "", *_net(r), "", *_areas(r), ""]
    return "\n".join(parts + [f"- {n}" for n in r.notes]).rstrip() + "\n"


def _summary(r: ChangeResult) -> list[str]:
    bare = [
        "**No intervals**: the first date has too few reference tiles to say how wrong these "
        "figures may be.",
        "",
    ]
    return [
        *(() if r.reference else bare),
        f"{r.tiles:,} tiles on every date. Comparing the first and last maps, "
        f"{r.compared_changed:,} differ; given all evidence, "
        f"{spread(total(r.changed), 1)} changed.",
        "",
        f"{r.candidates:,} candidates ({r.wanted}) have a probability of at least "
        f"{r.least:g}; about {r.expected_false:.1f} of them are expected to be false.",
    ]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"


def _matrix(r: ChangeResult, unit: str, factor: float) -> list[str]:
    """Rows = class on the first date, columns = on the last."""
    head = [f"{r.dates[0]} ↓ {r.dates[-1]} →, {unit} expected", *r.names, "All"]
    lines = [_line(head), "|---|" + "---:|" * (len(r.names) + 1)]
    values = [[cell.value * factor for cell in row] for row in r.matrix]
    for name, row in zip(r.names, values, strict=True):
        lines.append(_line([name, *(number(v) for v in row), number(sum(row))]))
    sums = [sum(column) for column in zip(*values, strict=True)]
    lines.append(_line(["All", *(number(v) for v in sums), number(sum(sums))]))
    return lines


def _moves(r: ChangeResult) -> list[str]:
    lines = [
        "| From | To | Tiles, maps compared | Tiles expected | Hectares | Acres |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for m in r.moves:
        units = (spread(m.expected, f) for f in (1, r.tile_ha, r.tile_ha * ACRES))
        lines.append(_line([m.source, m.target, f"{m.compared:,}", *units]))
    return lines


def _net(r: ChangeResult) -> list[str]:
    lines = ["| Class | Net tiles | Net hectares | Net acres |", "|---|---:|---:|---:|"]
    for name, f in zip(r.names, r.net, strict=True):
        lines.append(_line([name, *(spread(f, k) for k in (1, r.tile_ha, r.tile_ha * ACRES))]))
    return lines


def _areas(r: ChangeResult) -> list[str]:
    lines = [
        "| Class | " + " | ".join(f"{d}, ha" for d in r.dates) + " |",
        "|---|" + "---:|" * len(r.dates),
    ]
    for k, name in enumerate(r.names):
        lines.append(_line([name, *(spread(day[k], r.tile_ha) for day in r.areas)]))
    return lines


MEASURES = [f"{unit}{end}" for unit in ("tiles", "ha", "ac") for end in ("", "_low", "_high")]


def _measures(figure: Estimate, tile_ha: float) -> list[Any]:
    """A figure in three units; empty where it has no interval."""
    ends = (figure.value, figure.low, figure.high)
    return [
        v * factor if math.isfinite(v) else ""
        for factor in (1.0, tile_ha, tile_ha * ACRES)
        for v in ends
    ]


def _csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    out = io.StringIO()
    text.write_table(out, head, rows)
    return out.getvalue()


def matrix_csv(r: ChangeResult) -> str:
    """The transition matrix, one line a transition; `compared` counts the two maps as they are."""
    compared = {(m.source, m.target): m.compared for m in r.moves}
    rows = (
        [a, b, compared.get((a, b), 0) if a != b else "", *_measures(cell, r.tile_ha)]
        for a, row in zip(r.names, r.matrix, strict=True)
        for b, cell in zip(r.names, row, strict=True)
    )
    return _csv(["from", "to", "compared", *MEASURES], rows)


def areas_csv(r: ChangeResult) -> str:
    """Area of each class on each date, one line each."""
    rows = (
        [date, name, *_measures(figure, r.tile_ha)]
        for date, day in zip(r.dates, r.areas, strict=True)
        for name, figure in zip(r.names, day, strict=True)
    )
    return _csv(["date", "class", *MEASURES], rows)


def total(figures: tuple[Estimate, ...]) -> Estimate:
    """The sum of figures whose errors are independent."""
    value = sum(f.value for f in figures)
    down, up = (
        float(np.sqrt(sum((end - f.value) ** 2 for end, f in zip(ends, figures, strict=True))))
        for ends in ([f.low for f in figures], [f.high for f in figures])
    )
    return Estimate(value, value - down, value + up)


def spread(figure: Estimate, factor: float) -> str:
    """`12 (8 to 16)` in another unit; the value alone where there is no interval."""
    text = number(figure.value * factor)
    if not np.isfinite(figure.low):
        return text
    return f"{text} ({number(figure.low * factor)} to {number(figure.high * factor)})"
