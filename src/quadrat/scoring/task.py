"""What is done to one part: read, run the network, write the scores."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quadrat import geoparquet, parts, storage
from quadrat import model as models
from quadrat import skipped as skips
from quadrat.errors import ModelError
from quadrat.parts import PartRecord
from quadrat.scores import columns
from quadrat.scoring import once
from quadrat.skipped import Skipped
from quadrat.tiles import Part, batch_tiles, read_ahead

LISTED = 20  # unreadable tiles that a part names; the rest is counted
_loading = threading.Lock()  # the first of a process's tasks loads the model, the others wait


@dataclass(frozen=True)
class ScoreResult:
    """What became of a part: all small."""

    record: PartRecord
    dropped: int
    skipped: int
    listed: tuple[Skipped, ...]
    counts: tuple[int, ...]  # tiles labelled with each class
    span: once.Span = None
    flat: int = 0  # tiles of imagery of a single colour

    @classmethod
    def of(cls, record: PartRecord, note: Mapping[str, Any]) -> ScoreResult:
        """From a finished part's note; KeyError, TypeError or ValueError when it is another's."""
        span = tuple(note["span"]) if note["span"] else None
        return cls(
            record, int(note["dropped"]), int(note["skipped"]),
            skips.from_lists(note["listed"]),
            tuple(int(n) for n in note["counts"]), span, int(note["flat"]),
        )  # fmt: skip


@dataclass(frozen=True)
class ScoreTask:
    """Scores one part into a Parquet file; a part that is there already is only read back.

    Attributes:
        sample: share of the tiles that are scored, chosen by seed and place of the tile.
        slots: tasks at the same time in a process: the network gets one stream for each.
        runtime: what runs the network, the same for every part, wherever it is worked on: runtimes
            differ in the last bits.
    """

    model_uri: str
    model_digest: str
    precision: str
    out: str
    names: tuple[str, ...]
    crs: str | None
    sample: float
    seed: int
    slots: int
    strict: bool
    runtime: str = "auto"

    def __call__(self, part: Part) -> ScoreResult:
        return parts.found(self.out, part.name, ScoreResult.of) or self._score(part)

    def _score(self, part: Part) -> ScoreResult:
        with _loading:
            network = _network(
                self.model_uri, self.model_digest, self.precision, self.slots, self.runtime
            )
        rng = np.random.default_rng([self.seed, int(part.name.rsplit("-", 1)[-1])])
        tables: list[pa.Table] = []
        rows: list[NDArray[np.float32]] = []
        skipped: list[Skipped] = []
        dropped = flat = 0
        for batch in read_ahead(part, batch_tiles(network.info.size_px or 1)):
            skipped += batch.skipped
            if self.strict and skipped:
                raise ModelError(f"{skipped[0]} (--strict)")
            dropped += batch.dropped
            flat += batch.flat
            index, chips = batch.index, batch.chips
            if self.sample < 1 and len(chips):
                take = np.flatnonzero(rng.random(len(chips)) < self.sample)
                index, chips = index.take(take), chips[take]
            if len(chips):
                rows.append(network(chips))  # (N, K) float32
                tables.append(index)
        whole, counts = (
            columns.schema(self.names).empty_table(),
            np.zeros(len(self.names), np.int64),
        )
        if tables:
            probabilities = np.concatenate(rows)
            best = probabilities.argmax(axis=1)
            counts = np.bincount(best, minlength=len(self.names))
            whole = self._table(pa.concat_tables(tables), probabilities, best)
        # no times or places: the same scores give the same bytes, and the same digest
        note = {
            "dropped": dropped, "skipped": len(skipped), "listed": skips.to_lists(skipped[:LISTED]),
            "counts": [int(c) for c in counts], "span": once.span(whole), "flat": flat,
        }  # fmt: skip
        written = geoparquet.write_part(
            parts.place(self.out, part.name), whole, self.crs, note=note
        )
        return ScoreResult.of(PartRecord(part.name, written.rows, written.sha256), note)

    def _table(
        self, index: pa.Table, probabilities: NDArray[np.float32], best: NDArray[np.int64]
    ) -> pa.Table:
        values = {n: index[n] for n in ("row", "col", "path", "source", "date", "split")}
        values["truth"] = index["label"]
        values["label"] = pa.DictionaryArray.from_arrays(
            pa.array(best, pa.int32()), pa.array(self.names, pa.string())
        ).cast(pa.string())
        values |= columns.from_rows([columns.probability(n) for n in self.names], probabilities)
        values["geometry"] = index["geometry"]
        layout = columns.schema(self.names)
        return pa.table([values[n] for n in layout.names], schema=layout)


@lru_cache(maxsize=4)
def _network(uri: str, digest: str, precision: str, slots: int, runtime: str) -> models.Network:
    """The model's network: read, verified and compiled once in a process, not once a part."""
    model = models.open_model(uri)
    if model.digest != digest:
        raise ModelError(
            f"{storage.redact(uri)} was changed while it was scoring; start again with "
            "another --out"
        )
    return models.runner(model, precision, workers=slots, runtime=runtime)
