"""The report's figures as one table: a row an estimate, for a spreadsheet or a script."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from quadrat import storage
from quadrat import text as words
from quadrat.areas.tables import ACRES
from quadrat.errors import InputError, MissingExtraError
from quadrat.metrics import SCORES, Estimate
from quadrat.reports.content import Content
from quadrat.reports.transitions import by_plots

HEAD = ("quantity", "class", "to_class", "date", "unit", "value", "low", "high")
ENDINGS = (".csv", ".xlsx")
Row = tuple[str | float | None, ...]


def check(uri: str) -> None:
    """InputError for a name that is no table's."""
    if not uri.lower().endswith(ENDINGS):
        raise InputError(f"{uri} is no name for a table; end it with .csv or .xlsx")


def write(uri: str, content: Content) -> None:
    """Write all estimates of the page as CSV or XLSX, by the file's ending.

    Raises:
        MissingExtraError: XLSX without the extra.
    """
    rows = list(estimates(content))
    if uri.lower().endswith(".xlsx"):
        storage.write_bytes(uri, _xlsx(rows))
        return
    out = io.StringIO()
    words.write_table(out, HEAD, rows)
    storage.write_bytes(uri, out.getvalue().encode("utf-8"))


def estimates(content: Content) -> Iterator[Row]:
    """The page's estimates, each once, with its interval; empty where there is none."""
    said = content.change
    for day in content.days:
        if day.area is not None and day.area.survey is None and said is None:
            kind = "area" if day.area.adjusted else "area, unadjusted"
            for row in day.area.rows:
                figure = row.adjusted or Estimate(row.raw_ha, math.nan, math.nan)
                yield from _areas(kind, row.name, "", day.date, figure)
        if day.accuracy is not None:
            for name, figure in day.accuracy.scores.items():
                yield _row(SCORES[name].title, "", day.date, "share", figure)
            for kind, figures in (
                ("producer's accuracy", day.accuracy.producers),
                ("user's accuracy", day.accuracy.users),
            ):
                for name, figure in zip(day.accuracy.names, figures, strict=True):
                    yield _row(kind, name, day.date, "share", figure)
    if said is not None:
        yield from _changes(said, moved=not by_plots(content))
    if content.interpreted is not None:
        area = content.interpreted.area
        for row in area.rows:
            if row.adjusted is not None:
                kind = f"{row.kind}, by interpreted plots"
                yield from _areas(kind, row.name, "", " to ".join(area.dates), row.adjusted)


def _changes(said: Mapping[str, Any], *, moved: bool) -> Iterator[Row]:
    ha, dates = float(said["tile_ha"]), [str(d) for d in said["dates"]]
    whole = f"{dates[0]} to {dates[-1]}"
    for date, figures in zip(dates, said["areas"], strict=True):
        for name, figure in zip(said["names"], figures, strict=True):
            yield from _areas("area", name, "", date, _times(figure, ha))
    if not moved:  # plots say it
        return
    for name, figure in zip(said["names"], said["net"], strict=True):
        yield from _areas("net change", name, "", whole, _times(figure, ha))
    for m in said["moves"]:
        yield from _areas("change", m["from"], m["to"], whole, _times(m["expected"], ha))


def _times(figure: Mapping[str, Any], factor: float) -> Estimate:
    known = Estimate.from_dict(figure)
    return Estimate(known.value * factor, known.low * factor, known.high * factor)


def _areas(kind: str, name: str, to: str, date: str, figure: Estimate) -> Iterator[Row]:
    for unit, factor in (("hectares", 1.0), ("acres", ACRES)):
        yield _row(kind, name, date, unit, _times(figure.to_dict(), factor), to=to)


def _row(kind: str, name: str, date: str, unit: str, figure: Estimate, *, to: str = "") -> Row:
    values = (figure.value, figure.low, figure.high)
    return (kind, name, to, date, unit, *(v if math.isfinite(v) else None for v in values))


def _xlsx(rows: Sequence[Row]) -> bytes:
    """A workbook; what is text is written as text, so that no cell is a formula."""
    try:
        import xlsxwriter
    except ModuleNotFoundError:
        raise MissingExtraError("a table as XLSX", "xlsx") from None
    out = io.BytesIO()
    with xlsxwriter.Workbook(out, {"in_memory": True}) as book:
        sheet = book.add_worksheet("Estimates")
        for j, name in enumerate(HEAD):
            sheet.write_string(0, j, name, book.add_format({"bold": True}))
        for i, row in enumerate(rows, start=1):
            for j, value in enumerate(row):
                if isinstance(value, str):
                    sheet.write_string(i, j, value)
                elif value is not None:
                    sheet.write_number(i, j, value)
        sheet.freeze_panes(1, 0)
        sheet.autofilter(0, 0, len(rows), len(HEAD) - 1)
        sheet.set_column(0, 3, 24)
        sheet.set_column(4, 7, 14)
    return out.getvalue()
