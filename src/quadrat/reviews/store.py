"""Answers on disk: `review.gpkg`, a GeoPackage to which answers are only ever added.

An answer is kept as one row for each date and, where there are two dates or more, one with an empty
date for the change between the first and the last. Its rows are written in one transaction. Several
interpreters write to one file at once, and a process that is killed loses nothing that was kept:

- SQLite's rollback journal with `synchronous=EXTRA` is on the disk before a write returns. It
  works on disks shared by network too, where a write-ahead log does not, and leaves one file.
- A writer takes the file for itself (`BEGIN IMMEDIATE`) before it numbers its revision.

It does not know the page, nor which plot comes next.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from quadrat import border, storage
from quadrat.errors import InputError, StorageError
from quadrat.reviews.answers import PlotAnswer, Seen, now
from quadrat.sampling import package

NAME = "review.gpkg"
FORMAT, VERSION = "quadrat-review", 1
APPLICATION_ID, GEOPACKAGE_VERSION = 0x47504B47, 10300  # "GPKG", 1.3
PATIENCE_S = 60.0  # for another interpreter's write
_WGS84 = (
    'GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563,'
    'AUTHORITY["EPSG","7030"]],AUTHORITY["EPSG","6326"]],PRIMEM["Greenwich",0,'
    'AUTHORITY["EPSG","8901"]],UNIT["degree",0.0174532925199433,AUTHORITY["EPSG","9122"]],'
    'AUTHORITY["EPSG","4326"]]'
)
# The tables that the GeoPackage standard asks for, and two of attributes: `answers`, whose columns
# docs/review.md describes, and `review`, which says of what sample they are.
_SCHEMA = (
    """CREATE TABLE gpkg_spatial_ref_sys (srs_name TEXT NOT NULL, srs_id INTEGER PRIMARY KEY,
       organization TEXT NOT NULL, organization_coordsys_id INTEGER NOT NULL,
       definition TEXT NOT NULL, description TEXT)""",
    """CREATE TABLE gpkg_contents (table_name TEXT NOT NULL PRIMARY KEY, data_type TEXT NOT NULL,
       identifier TEXT UNIQUE, description TEXT DEFAULT '',
       last_change DATETIME NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')),
       min_x DOUBLE, min_y DOUBLE, max_x DOUBLE, max_y DOUBLE, srs_id INTEGER,
       CONSTRAINT fk_gc_r_srs_id FOREIGN KEY (srs_id) REFERENCES gpkg_spatial_ref_sys(srs_id))""",
    # empty; readers that are built for maps ask for it
    """CREATE TABLE gpkg_geometry_columns (table_name TEXT NOT NULL, column_name TEXT NOT NULL,
       geometry_type_name TEXT NOT NULL, srs_id INTEGER NOT NULL, z TINYINT NOT NULL,
       m TINYINT NOT NULL, CONSTRAINT pk_geom_cols PRIMARY KEY (table_name, column_name),
       CONSTRAINT uk_gc_table_name UNIQUE (table_name),
       CONSTRAINT fk_gc_tn FOREIGN KEY (table_name) REFERENCES gpkg_contents(table_name),
       CONSTRAINT fk_gc_srs FOREIGN KEY (srs_id) REFERENCES gpkg_spatial_ref_sys (srs_id))""",
    """CREATE TABLE answers (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, plot INTEGER NOT NULL,
       tile TEXT NOT NULL, interpreter TEXT NOT NULL, date TEXT NOT NULL, class TEXT, shares TEXT,
       change TEXT, confidence INTEGER, note TEXT NOT NULL, observable BOOLEAN NOT NULL,
       seconds REAL NOT NULL, answered TEXT NOT NULL, revision INTEGER NOT NULL,
       UNIQUE (interpreter, plot, revision, date))""",
    """CREATE TABLE review (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, key TEXT NOT NULL UNIQUE,
       value TEXT NOT NULL)""",
    """CREATE TRIGGER answers_are_not_changed BEFORE UPDATE ON answers
       BEGIN SELECT RAISE(ABORT, 'answers are only added'); END""",
    """CREATE TRIGGER answers_are_not_removed BEFORE DELETE ON answers
       BEGIN SELECT RAISE(ABORT, 'answers are only added'); END""",
)
_SYSTEMS = (
    ("Undefined Cartesian SRS", -1, "NONE", -1, "undefined", None),
    ("Undefined geographic SRS", 0, "NONE", 0, "undefined", None),
    ("WGS 84 geodetic", 4326, "EPSG", 4326, _WGS84, None),
)
_COLUMNS = ", ".join(package.COLUMNS)


@dataclass(frozen=True)
class Store:
    """A file of answers.

    Attributes:
        about: of which sample they are: `sample` (its digest), `purpose`, `dates`, `classes`.
    """

    path: Path
    about: Mapping[str, Any]

    @property
    def purpose(self) -> str:
        """What the sample was drawn for: `estimation` or `training`."""
        return str(self.about.get("purpose", ""))


def create(uri: str, about: Mapping[str, Any]) -> Store:
    """Open a file of answers to a sample, or make it.

    Args:
        about: see `Store`.

    Raises:
        InputError: the file is of another kind, or holds answers to another sample.
        StorageError: it lies on no disk of this machine, or cannot be written.
    """
    path = _path(uri)
    storage.make_dirs(str(path.parent))
    with _opened(path) as base, _writing(base):
        if not package.tables(base):
            _lay_out(base, about)
        about_file = _read_about(base, path)
    wrong = [k for k, v in about.items() if about_file.get(k) != v]
    if wrong:
        raise InputError(
            f"{path} holds answers to another sample (its {wrong[0]} differs); choose another "
            "--answers"
        )
    return Store(path, about_file)


def open_store(uri: str) -> Store:
    """A file of answers that exists.

    Raises:
        InputError: it is none. StorageError: it is not there, or cannot be read.
    """
    path = _path(uri)
    if not path.exists():
        raise StorageError(f"{path} does not exist; quadrat review makes it with the first answer")
    with _opened(path) as base:
        return Store(path, _read_about(base, path))


def append(store: Store, answers: Sequence[PlotAnswer]) -> tuple[PlotAnswer, ...]:
    """Add answers in one transaction, each with the next revision of its plot and interpreter.

    What is returned is on the disk.
    """
    kept = []
    with _opened(store.path) as base, _writing(base):
        for answer in answers:
            (last,) = base.execute(
                "SELECT coalesce(max(revision), 0) FROM answers WHERE interpreter=? AND plot=?",
                (answer.interpreter, answer.plot),
            ).fetchone()
            made = replace(answer, revision=last + 1, answered=answer.answered or now())
            marks = ", ".join("?" * len(package.COLUMNS))
            base.executemany(f"INSERT INTO answers ({_COLUMNS}) VALUES ({marks})", _rows(made))
            kept.append(made)
        base.execute("UPDATE gpkg_contents SET last_change=? WHERE table_name='answers'", (now(),))
    return tuple(kept)


def read(store: Store) -> tuple[PlotAnswer, ...]:
    """All answers and their earlier revisions, in the order in which they were kept."""
    return AnswerLog(store).read()


class AnswerLog:
    """The answers of a file as they come; each is read once. For several threads."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._answers: list[PlotAnswer] = []
        self._last = 0
        self._lock = threading.Lock()

    def read(self) -> tuple[PlotAnswer, ...]:
        """As `read`, of what is kept now."""
        with self._lock, _opened(self.store.path) as base:
            try:
                rows = base.execute(
                    f"SELECT id, {_COLUMNS} FROM answers WHERE id > ? ORDER BY id", (self._last,)
                ).fetchall()
                keyed = groupby(rows, key=lambda r: (r["interpreter"], r["plot"], r["revision"]))
                self._answers += [_answer(list(group)) for _, group in keyed]
            except (TypeError, ValueError, IndexError, AttributeError) as error:
                raise InputError(
                    f"{self.store.path} has a damaged answer ({type(error).__name__}: {error}); "
                    "restore it from a copy"
                ) from None
            self._last = rows[-1]["id"] if rows else self._last
            return tuple(self._answers)


def _rows(answer: PlotAnswer) -> Iterator[tuple[Any, ...]]:
    """The rows of an answer, in the order of the columns."""
    a = answer
    head = (a.plot, a.tile, a.interpreter)
    tail = (a.seconds, a.answered, a.revision)
    for s in a.seen:
        shares = None if s.shares is None else json.dumps(dict(s.shares), ensure_ascii=False)
        yield (*head, s.date, s.main, shares, None, a.confidence, a.note, s.observable, *tail)
    if len(a.seen) > 1:
        yield (*head, "", None, None, a.change, a.confidence, a.note, a.observable, *tail)


def _answer(rows: Sequence[sqlite3.Row]) -> PlotAnswer:
    """The answer of its rows."""
    first = rows[0]
    seen = tuple(
        Seen(
            r["date"],
            r["class"],
            None if r["shares"] is None else dict(json.loads(r["shares"])),
            bool(r["observable"]),
        )
        for r in rows
        if r["date"]
    )
    change = next((r["change"] for r in rows if not r["date"]), None)
    return PlotAnswer(
        plot=first["plot"], tile=first["tile"], interpreter=first["interpreter"], seen=seen,
        change=change, confidence=first["confidence"], note=first["note"],
        seconds=first["seconds"], answered=first["answered"], revision=first["revision"],
    )  # fmt: skip


def _path(uri: str) -> Path:
    if not storage.is_local(uri):
        raise StorageError(
            f"{storage.redact(uri)}: answers are kept on a disk of this machine; name a file there "
            "with --answers"
        )
    return storage.local_path(uri)


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection; what SQLite raises becomes an error that names the file."""
    try:
        with closing(package.connect(path, writes=True, patience_s=PATIENCE_S)) as base:
            for line in ("journal_mode=DELETE", "synchronous=EXTRA"):
                base.execute(f"PRAGMA {line}").fetchall()
            yield base
    except sqlite3.DatabaseError as error:
        line = border.short(error)
        if isinstance(error, sqlite3.OperationalError):
            raise StorageError(f"{path} cannot be used ({line}); check its disk") from None
        raise InputError(f"{path} holds no answers ({line}); choose another --answers") from None


@contextmanager
def _writing(base: sqlite3.Connection) -> Iterator[None]:
    """A transaction that has the file for itself; nothing of it is kept when the block fails."""
    base.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        base.execute("ROLLBACK")
        raise
    base.execute("COMMIT")


def _lay_out(base: sqlite3.Connection, about: Mapping[str, Any]) -> None:
    """The tables of a new file."""
    base.execute(f"PRAGMA application_id={APPLICATION_ID}")
    base.execute(f"PRAGMA user_version={GEOPACKAGE_VERSION}")
    for statement in _SCHEMA:
        base.execute(statement)
    base.executemany("INSERT INTO gpkg_spatial_ref_sys VALUES (?, ?, ?, ?, ?, ?)", _SYSTEMS)
    base.executemany(
        "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, last_change) "
        "VALUES (?, 'attributes', ?, ?, ?)",
        [
            ("answers", "answers", "Interpreters' answers; the latest revision counts", now()),
            ("review", "review", "The sample that the answers are to", now()),
        ],
    )
    values = {"format": FORMAT, "version": VERSION, **about}
    base.executemany(
        "INSERT INTO review (key, value) VALUES (?, ?)",
        [(k, json.dumps(v, ensure_ascii=False)) for k, v in values.items()],
    )


def _read_about(base: sqlite3.Connection, path: Path) -> dict[str, Any]:
    """What the file says of itself; InputError when it is of another kind or version."""
    if not {"answers", "review"} <= package.tables(base):
        raise InputError(f"{path} holds no answers of quadrat review; choose another --answers")
    try:
        about = {k: json.loads(v) for k, v in package.about(base).items()}
    except (TypeError, ValueError):
        about = {}
    if about.get("format") != FORMAT or about.get("version") != VERSION:
        raise InputError(
            f"{path} is of another format ({about.get('version')!r}); this Quadrat reads version "
            f"{VERSION}"
        )
    return about
