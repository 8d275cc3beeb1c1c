"""What interpreters said of a sample's plots: read from any file of answers, checked, in arrays.

A file is the review page's `review.gpkg` (SQLite, table `answers`), a CSV of the same columns, or
an export of Collect Earth Online. Shares may also stand in columns `share_<class>`. The row of the
latest revision counts; one without class and shares takes the answer back.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat import border, storage, text
from quadrat import dates as dating
from quadrat.errors import InputError, LabelError, StorageError
from quadrat.sampling import exchange, package
from quadrat.sampling.exchange import Row
from quadrat.sampling.files import ESTIMATION, PlotSample

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

SETTLED = "settled"  # whose answers replace those that interpreters disagreed on
UNOBSERVABLE = "unobservable"
CHANGES = ("no", "yes", "part")
NEEDED = ("plot", "interpreter", "date")
CLOSE = 0.011  # shares of tenths that were rounded to two digits


@dataclass(frozen=True)
class PlotAnswers:
    """Answers of J interpreters to n plots on D dates in K classes.

    Attributes:
        interpreters: their names; `settled` is one where disagreements were settled.
        shares: (J, n, D, K) float64, NaN where they were not said.
        main: (J, n, D) int64, the class that was named, -1 where none was.
        answered: (J, n) whether a plot has an answer on every date.
        observable: (J, n) whether it could be seen on every date.
        change: (J, n) of str: `no`, `yes`, `part`, "" where it was not said.
        files: that were read.
    """

    interpreters: tuple[str, ...]
    shares: Floats
    main: Ints
    answered: Flags
    observable: Flags
    change: NDArray[np.str_]
    files: tuple[str, ...]

    @property
    def usable(self) -> Flags:
        """Whether a plot has an answer that says what is there, (J, n)."""
        both: Flags = self.answered & self.observable
        return both

    @property
    def counted(self) -> Flags:
        """Whose answers count, (J, n): where a disagreement was settled, that alone."""
        usable: Flags = self.usable
        if SETTLED not in self.interpreters:
            return usable
        at = self.interpreters.index(SETTLED)
        kept: Flags = usable & ~usable[at]
        kept[at] = usable[at]
        return kept


def read_answers(uris: Sequence[str], sample: PlotSample) -> PlotAnswers:
    """The answers to a sample.

    Raises:
        LabelError: a file that holds none, or answers to another sample; a plot that is not in the
            sample, or that one interpreter answered twice; a class that the legend lacks; shares
            that are not shares of a plot.
        InputError: the sample was drawn to train with.
    """
    if sample.purpose != ESTIMATION:
        raise InputError(
            f"{storage.redact(sample.uri)} was drawn to train with, not at random, so that no "
            "areas follow from it; draw another with quadrat sample"
        )
    if not uris:
        raise InputError("no answers are given; name files with --answers")
    latest: dict[tuple[int, str, str], tuple[int, Row]] = {}
    for uri in uris:
        name = storage.redact(uri)
        for where, row in _rows(uri, sample):
            answer = _checked(f"{name} {where}", row, sample)
            key = answer["plot"], answer["interpreter"], answer["date"]
            before = latest.get(key)
            if before is not None and before[0] == answer["revision"]:
                raise LabelError(
                    f"{name} {where}: {key[1] or 'the interpreter'} answered plot {key[0]} twice"
                    + (f" for {key[2]}" if key[2] else "")
                    + "; keep one answer, or number them in the column revision"
                )
            if before is None or before[0] < answer["revision"]:
                latest[key] = answer["revision"], answer
    if not latest:
        raise LabelError(f"{', '.join(map(storage.redact, uris))}: no plot has an answer yet")
    return _arrays([row for _, row in latest.values()], sample, tuple(map(storage.redact, uris)))


def _rows(uri: str, sample: PlotSample) -> Iterator[tuple[str, Row]]:
    """Where each row of answers stands, and its values."""
    name = storage.redact(uri)
    try:
        with storage.open_read(uri) as file:
            head = file.read(len(package.HEAD))
    except StorageError as error:
        raise LabelError(f"{error}; name a file of answers") from None
    if head == package.HEAD:
        yield from _of_package(uri, name, sample)
        return
    try:
        header, records = text.read_table(storage.read_bytes(uri))
    except InputError as error:
        raise LabelError(f"{name} cannot be read as answers: {error}") from None
    if exchange.is_ceo(header):
        for row in exchange.from_ceo(name, header, records, sample):
            yield f"plot {row['plot']}", row
        return
    missing = [c for c in NEEDED if c not in header]
    named = [f"share_{c}" for c in sample.legend.names]
    if missing or not ({"class", "shares", *named} & set(header)):
        raise LabelError(
            f"{name} has the columns {', '.join(header[:20]) or 'none'}; answers need plot, "
            "interpreter, date, and class or shares (--export template writes such a file)"
        )
    for line, record in enumerate(records, start=2):
        each = {c: record[f"share_{c}"] for c in sample.legend.names
                if (record.get(f"share_{c}") or "").strip()}  # fmt: skip
        yield f"line {line}", {**record, "shares": each or record.get("shares")}


def _of_package(uri: str, name: str, sample: PlotSample) -> Iterator[tuple[str, Row]]:
    """The table `answers` of a GeoPackage; what it says of its sample is checked."""
    if not storage.is_local(uri):
        raise LabelError(f"{name} must lie on a disk of this machine; copy it there")
    try:
        with closing(package.connect(storage.local_path(uri))) as base:
            tables = package.tables(base)
            if "answers" not in tables:
                raise LabelError(f"{name} has no table of answers; name a file of quadrat review")
            about = package.about(base) if "review" in tables else {}
            rows = [dict(r) for r in base.execute("SELECT * FROM answers")]
    except sqlite3.Error as error:
        raise LabelError(f"{name} cannot be read as answers ({border.short(error)})") from None
    _same_sample(name, about, sample)
    for row in rows:
        yield f"plot {row.get('plot')}", row


def _same_sample(name: str, about: Mapping[str, Any], sample: PlotSample) -> None:
    try:
        digest = json.loads(about.get("sample", "null"))
    except ValueError:
        digest = None
    if digest and sample.digest and digest != sample.digest:
        raise LabelError(
            f"{name} holds answers to another sample than {storage.redact(sample.uri)}; name the "
            "sample that was reviewed"
        )


def _checked(where: str, row: Row, sample: PlotSample) -> Row:
    """A row whose values are what they should be; its plot is a place in the sample + 1."""
    plot = _whole(where, "plot", row.get("plot"))
    if not 1 <= plot <= len(sample):
        raise LabelError(
            f"{where}: plot {plot} is not in the sample, whose plots are 1 to {len(sample)}; check "
            "that the answers are to this sample"
        )
    tile = str(row.get("tile") or "").strip()
    if tile and tile != sample.tiles[plot - 1]:
        raise LabelError(
            f"{where}: plot {plot} is tile {sample.tiles[plot - 1]} in the sample, not {tile}; the "
            "answers are to another sample"
        )
    date = str(row.get("date") or "").strip()
    if date and date not in sample.dates:
        date = dating.find(date) or date
    if not date and len(sample.dates) == 1:
        date = sample.dates[0]
    if date and date not in sample.dates:
        raise LabelError(
            f"{where}: {text.shown(date)} is no date of the sample; it is interpreted on "
            f"{', '.join(sample.dates)}"
        )
    revision = row.get("revision")
    checked: Row = {
        "plot": plot, "date": date, "interpreter": str(row.get("interpreter") or "").strip(),
        "revision": 1 if revision in (None, "") else _whole(where, "revision", revision),
    }  # fmt: skip
    if not date:
        return checked | {"change": _change(where, row.get("change"))}
    return checked | _class_and_shares(where, row, sample)


def _whole(where: str, what: str, value: Any) -> int:
    try:
        number = float(str(value).strip())
        if number != int(number):
            raise ValueError
        return int(number)
    except (ValueError, OverflowError):
        raise LabelError(f"{where}: {text.shown(value)} is no {what} number; correct it") from None


def _change(where: str, value: Any) -> str:
    said = str(value or "").strip().lower()
    if said and said not in CHANGES:
        raise LabelError(f"{where}: change is {text.shown(value)}; use {', '.join(CHANGES)}")
    return said


def _class_and_shares(where: str, row: Row, sample: PlotSample) -> Row:
    names = sample.legend.names
    said = str(row.get("class") or "").strip()
    observable = _yes(row.get("observable")) and text.same(said) != UNOBSERVABLE
    if not observable:
        return {"observable": False, "main": -1, "shares": None, "answered": True}
    main = -1
    if said:
        match = text.match(said, names)
        if match is None:
            raise LabelError(
                f"{where}: {text.shown(said)} is no class of the sample's legend; "
                f"{text.near(said, names)}"
            )
        main = names.index(match)
    shares = _shares(where, row.get("shares"), names)
    if shares is not None and main >= 0 and shares[main] < shares.max() - CLOSE:
        raise LabelError(
            f"{where}: the class is {names[main]}, but {names[int(shares.argmax())]} has the "
            "largest share; correct one of them"
        )
    return {"observable": True, "main": main, "shares": shares,
            "answered": main >= 0 or shares is not None}  # fmt: skip


def _yes(value: Any) -> bool:
    return str(value if value not in (None, "") else "1").strip().lower() not in (
        "0", "no", "false", "f", "n",
    )  # fmt: skip


def _shares(where: str, value: Any, names: Sequence[str]) -> Floats | None:
    """Shares of the classes, (K,), that sum to 1; None where they were not said."""
    if value is None or value == "":
        return None
    try:
        said = json.loads(value) if isinstance(value, str) else value
        each = {str(c): float(v) for c, v in said.items()}
    except (ValueError, TypeError, AttributeError):
        raise LabelError(
            f'{where}: {text.shown(value)} are no shares; write {{"{names[0]}": 0.6, ...}}'
        ) from None
    shares = np.zeros(len(names))
    for word, share in each.items():
        match = text.match(word, names)
        if match is None:
            raise LabelError(
                f"{where}: {text.shown(word)} is no class of the sample's legend; "
                f"{text.near(word, names)}"
            )
        shares[names.index(match)] += share
    if not each:
        return None
    if not ((shares >= 0).all() and abs(shares.sum() - 1) <= CLOSE * max(2, len(each))):
        raise LabelError(
            f"{where}: shares are from 0 to 1 and sum to 1, not to {shares.sum():g}; correct them"
        )
    return np.asarray(shares / shares.sum())


def _arrays(rows: Sequence[Row], sample: PlotSample, files: tuple[str, ...]) -> PlotAnswers:
    names = sorted({r["interpreter"] for r in rows})
    j, n, d, k = len(names), len(sample), len(sample.dates), len(sample.legend)
    shares, main = np.full((j, n, d, k), np.nan), np.full((j, n, d), -1, np.int64)
    answered, observable = np.zeros((j, n, d), bool), np.ones((j, n, d), bool)
    change = np.full((j, n), "", "<U4")
    for row in rows:
        who, plot = names.index(row["interpreter"]), row["plot"] - 1
        if not row["date"]:
            change[who, plot] = row["change"]
            continue
        at = who, plot, sample.dates.index(row["date"])
        main[at], answered[at], observable[at] = row["main"], row["answered"], row["observable"]
        if row["shares"] is not None:
            shares[at] = row["shares"]
    # a plot that cannot be seen on one date has no answer to wait for on the others
    unseen: Flags = np.asarray((answered & ~observable).any(2))
    return PlotAnswers(
        tuple(names), shares, main, np.asarray(answered.all(2)) | unseen, ~unseen, change, files
    )


__all__ = ["CHANGES", "SETTLED", "PlotAnswers", "read_answers"]
