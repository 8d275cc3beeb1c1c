"""The GeoPackage of answers, `review.gpkg`: its tables, how it is opened, what it says of itself.

`reviews.store` makes such files and adds answers; `answers` reads them, and others with the same
columns.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

HEAD = b"SQLite format 3\x00"
COLUMNS = (
    "plot", "tile", "interpreter", "date", "class", "shares", "change", "confidence", "note",
    "observable", "seconds", "answered", "revision",
)  # fmt: skip


def connect(path: Path, *, writes: bool = False, patience_s: float = 5.0) -> sqlite3.Connection:
    """A connection whose rows have names; nothing that the file holds is run.

    A writer that was killed leaves a journal beside the file. SQLite takes the unfinished write
    back when the file is next opened, for which it must be allowed to write.

    Args:
        writes: whether answers are added; the file is made where it is not there.
        patience_s: how long another's write is waited for.

    Raises:
        sqlite3.Error: the file cannot be opened.
    """
    unfinished = path.with_name(path.name + "-journal").exists()
    mode = "rw" if unfinished else "ro"
    place = str(path) if writes else f"{path.absolute().as_uri()}?mode={mode}"
    base = sqlite3.connect(place, timeout=patience_s, isolation_level=None, uri=not writes)
    base.row_factory = sqlite3.Row
    base.execute("PRAGMA trusted_schema=OFF").fetchall()
    return base


def tables(base: sqlite3.Connection) -> set[str]:
    """Names of the tables."""
    return {n for (n,) in base.execute("SELECT name FROM sqlite_master WHERE type='table'")}


def about(base: sqlite3.Connection) -> dict[str, str]:
    """What the table `review` says of the sample that was reviewed: key -> JSON text."""
    return {row["key"]: row["value"] for row in base.execute("SELECT key, value FROM review")}
