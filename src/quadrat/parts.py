"""Parts of a product: files of rows, each known by its rows and SHA-256.

A manifest lists its parts so. Its digest is computed from that list, and each part is checked
against it when it is read. It does not know what the rows mean.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from quadrat import geoparquet, storage
from quadrat.engines import Engine
from quadrat.errors import QuadratError, StorageError
from quadrat.geoparquet import Expected
from quadrat.grid import Grid
from quadrat.legend import Legend

FOLDER = "parts"
NAME = re.compile(r"part-\d{5,9}")
R = TypeVar("R")


@dataclass(frozen=True)
class PartRecord:
    """One part as a manifest lists it.

    Attributes:
        name: `part-00012`.
        sha256: of the whole file, 64 hexadecimal digits.
    """

    name: str
    rows: int
    sha256: str

    @property
    def expected(self) -> Expected:
        """What its file must be."""
        return Expected(self.rows, self.sha256)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"name": self.name, "tiles": self.rows, "sha256": self.sha256}


def place(folder: str, name: str) -> str:
    """Where a part of a product lies."""
    return storage.join(folder, FOLDER, f"{name}.parquet")


def meaning(grid: Grid | None, legend: Legend | None) -> list[Any]:
    """Grid and legend as plain values that are the same before and after they were written."""
    ground = [grid.crs, float(grid.tile_m), float(grid.pixel_m)] if grid else None
    return [ground, legend.to_dict() if legend else None]


def digest(head: Sequence[Any], records: Iterable[PartRecord]) -> str:
    """SHA-256 that changes when a part does, or what else decides the meaning of its bytes.

    Args:
        head: plain values: version, grid, legend.
    """
    return storage.digest_json([*head, [[r.name, r.rows, r.sha256] for r in records]])


def parse(data: Mapping[str, Any], head: Sequence[Any]) -> tuple[PartRecord, ...]:
    """The parts of a manifest, whose digest must be that of its list.

    Raises:
        ValueError: saying what is wrong, without the file's name.
        KeyError, TypeError: a value is missing or of another type.
    """
    records = []
    for entry in data["parts"]:
        record = PartRecord(str(entry["name"]), int(entry["tiles"]), str(entry["sha256"]))
        if not NAME.fullmatch(record.name):
            raise ValueError(f"{record.name[:60]!r} is no part's name")
        if record.rows < 0 or not re.fullmatch(r"[0-9a-f]{64}", record.sha256):
            raise ValueError(f"{record.name} has no rows and SHA-256 that can be")
        records.append(record)
    if len({r.name for r in records}) < len(records):
        raise ValueError("a part is listed twice")
    if digest(head, records) != data["digest"]:
        raise ValueError("the digest is not that of the parts that are listed")
    return tuple(records)


def found(folder: str, name: str, of: Callable[[PartRecord, Mapping[str, Any]], R]) -> R | None:
    """The result of a part that an earlier run finished; None where it must be made.

    Args:
        of: the result from the part's record and its note; KeyError, TypeError or ValueError from
            it mean that another version of Quadrat wrote the note.
    """
    uri = place(folder, name)
    if not storage.exists(uri):
        return None
    try:
        expected, note = geoparquet.inspect(uri)
    except StorageError:
        return None  # not whole: it is made again, in its place
    if not isinstance(note, dict):
        return None
    try:
        return of(PartRecord(name, expected.rows, expected.sha256), note)
    except (KeyError, TypeError, ValueError):
        return None


@dataclass(frozen=True)
class _Check:
    """A task: whether a part is what its record says."""

    folder: str

    def __call__(self, record: PartRecord) -> tuple[str, bool]:
        try:
            expected, _ = geoparquet.inspect(place(self.folder, record.name))
        except StorageError:
            return record.name, False
        return record.name, expected == record.expected


def damaged(folder: str, records: Sequence[PartRecord], engine: Engine) -> list[str]:
    """Names of the parts that are missing or not what their records say."""
    return sorted(name for name, good in engine.run(_Check(folder), records) if not good)


def finished(folder: str, manifest: str, open_: Callable[[str], R], engine: Engine) -> R | None:
    """A product that an earlier run finished, if all of it is there as it was written.

    What is damaged is taken away, and the manifest with it, so that it is made again.

    Args:
        open_: opens the product; it has `uri` and `records`.
    """
    try:
        made: Any = open_(folder)
    except QuadratError:
        made = None
    bad = None if made is None else damaged(folder, made.records, engine)
    if made is not None and not bad:
        return made  # type: ignore[no-any-return]
    storage.remove(storage.join(folder, manifest))
    for name in bad or ():
        storage.remove(place(folder, name))
    return None
