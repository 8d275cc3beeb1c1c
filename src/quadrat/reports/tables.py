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
from quadrat.metrics import SCORES, Estimate, Metrics
from quadrat.reports.content import Content
from quadrat.reports.interpreted import InterpretedPlots
from quadrat.reports.transitions import changes_by_plots, surveyed
from quadrat.reports.words import total_changed, validated

HEAD = ("quantity", "class", "to_class", "date", "unit", "value", "low", "high")
ENDINGS = (".csv", ".xlsx")
Row = tuple[str | float | None, ...]


def check(uri: str) -> None:
    """Whether a table of this name can be written, before anything is computed for it.

    Raises:
        InputError: a name that is no table's. MissingExtraError: XLSX without the extra.
    """
    if not uri.lower().endswith(ENDINGS):
        raise InputError(f"{uri} is no name for a table; end it with .csv or .xlsx")
    if uri.lower().endswith(".xlsx"):
        _writer()


def write(uri: str, content: Content) -> None:
    """Write all estimates of the page as CSV or XLSX, by the file's ending (see `check`)."""
    rows = list(estimates(content))
    if uri.lower().endswith(".xlsx"):
        storage.write_bytes(uri, _xlsx(rows))
        return
    out = io.StringIO()
    words.write_table(out, HEAD, rows)
    storage.write_bytes(uri, out.getvalue().encode("utf-8"))


def estimates(content: Content) -> Iterator[Row]:
    """The page's estimates, each once, with its interval; empty where there is none."""
    for day in content.days:
        if day.area is not None and day.area.survey is None and content.change is None:
            kind = "area" if day.area.adjusted else "area, unadjusted"
            for row in day.area.rows:
                figure = row.adjusted or Estimate(row.raw_ha, math.nan, math.nan)
                yield from _areas(kind, row.name, "", day.date, figure)
        if day.accuracy is not None:
            yield from _accuracy(day.accuracy, day.date)
        if day.coarse is not None:
            title = f"{SCORES['overall'].title}, three classes"
            yield _row(title, "", day.date, "share", day.coarse.overall)
    trained = validated(content)
    if trained is not None:
        yield from _accuracy(trained, "")
    if content.change is not None:
        yield from _changes(content, content.change)
    if content.interpreted is not None:
        yield from _plots(content.interpreted)


def _accuracy(found: Metrics, date: str) -> Iterator[Row]:
    """What reference labels say of a map: all tiles, pure ones, bands of purity, each class."""
    overall = SCORES["overall"].title
    for name, figure in found.scores.items():
        yield _row(SCORES[name].title, "", date, "" if name == "kappa" else "share", figure)
    if found.pure is not None and len(found.purity) > 1:
        yield _row(f"{overall}, pure plots alone", "", date, "share", found.pure)
        for band in found.purity:
            kind = f"{overall}, main class has {band.low:.0%} to {band.high:.0%}"
            yield _row(kind, "", date, "share", band.accuracy)
    if found.shares is not None:
        yield _row("ground given to a wrong class", "", date, "share", found.shares.error)
    for kind, figures in (
        ("producer's accuracy", found.producers), ("user's accuracy", found.users), ("F1", found.f1)
    ):  # fmt: skip
        for name, figure in zip(found.names, figures, strict=True):
            yield _row(kind, name, date, "share", figure)
    known = found.calibration
    if known is not None:
        yield _row("expected calibration error", "", date, "share", known.ece)
        yield _row("negative log-likelihood", "", date, "nats", known.nll)
        yield _row("Brier score", "", date, "", known.brier)


def _changes(content: Content, said: Mapping[str, Any]) -> Iterator[Row]:
    """Areas of each date that plots say nothing of, and changes where plots say none."""
    ha, dates, plots = float(said["tile_ha"]), [str(d) for d in said["dates"]], surveyed(content)
    whole = f"{dates[0]} to {dates[-1]}"
    for date, figures in zip(dates, said["areas"], strict=True):
        for name, figure in zip(said["names"], figures if date not in plots else (), strict=False):
            yield from _areas("area", name, "", date, _times(figure, ha))
    listed = Estimate(float(said["expected_false"]), math.nan, math.nan)
    yield _row("candidates of change that are not real", "", whole, "tiles", listed)
    if changes_by_plots(content):
        return
    yield from _areas("changed", "", "", whole, _times(total_changed(said).to_dict(), ha))
    for name, figure in zip(said["names"], said["net"], strict=True):
        yield from _areas("net change", name, "", whole, _times(figure, ha))
    for m in said["moves"]:
        yield from _areas("change", m["from"], m["to"], whole, _times(m["expected"], ha))


def _plots(read: InterpretedPlots) -> Iterator[Row]:
    """What interpreted plots say of ground and map, and how far their readers agree."""
    area, by = read.area, "by interpreted plots"
    when = " to ".join(area.dates)
    for row in area.rows:
        if row.adjusted is not None:
            yield from _areas(f"{row.kind}, {by}", row.name, "", when, row.adjusted)
    if area.accuracy is not None:
        yield _row(f"{SCORES['overall'].title}, {by}", "", when, "share", area.accuracy.overall)
        for kind, figures in (
            ("producer's accuracy", area.accuracy.producers),
            ("user's accuracy", area.accuracy.users),
        ):
            for name, figure in zip(area.strata, figures, strict=True):
                yield _row(f"{kind}, {by}", name, when, "share", figure)
    for a in read.agreement:
        who = f"of {a.first} and {a.second}"
        agreed = Estimate(a.agreed, math.nan, math.nan)
        yield _row(f"agreement {who}", "", a.of, "share", agreed)
        yield _row(f"kappa {who}", "", a.of, "", a.kappa)


def _times(figure: Mapping[str, Any], factor: float) -> Estimate:
    known = Estimate.from_dict(figure)
    return Estimate(known.value * factor, known.low * factor, known.high * factor)


def _areas(kind: str, name: str, to: str, date: str, figure: Estimate) -> Iterator[Row]:
    for unit, factor in (("hectares", 1.0), ("acres", ACRES)):
        yield _row(kind, name, date, unit, _times(figure.to_dict(), factor), to=to)


def _row(kind: str, name: str, date: str, unit: str, figure: Estimate, *, to: str = "") -> Row:
    values = (figure.value, figure.low, figure.high)
    return (kind, name, to, date, unit, *(v if math.isfinite(v) else None for v in values))


def _writer() -> Any:
    """The package that writes workbooks."""
    try:
        import xlsxwriter
    except ModuleNotFoundError:
        raise MissingExtraError("a table as XLSX", "xlsx") from None
    return xlsxwriter


def _xlsx(rows: Sequence[Row]) -> bytes:
    """A workbook; what is text is written as text, so that no cell is a formula."""
    out = io.BytesIO()
    with _writer().Workbook(out, {"in_memory": True}) as book:
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
