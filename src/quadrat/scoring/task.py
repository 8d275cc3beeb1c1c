"""What is done to one part: read, run the network, write the scores."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quadrat import geoparquet, metrics, parts, storage
from quadrat import model as models
from quadrat import skipped as skips
from quadrat.errors import ModelError
from quadrat.parts import PartRecord
from quadrat.scores import columns, likeness
from quadrat.scoring import once
from quadrat.skipped import Skipped
from quadrat.tiles import Part, batch_tiles, read_ahead, targets

LISTED = 20  # unreadable tiles of a part that are named; the others are only counted
_loading = threading.Lock()  # the first of a process's tasks loads the model, the others wait


@dataclass(frozen=True)
class ScoreResult:
    """The result of one part; small, so that it travels between processes."""

    record: PartRecord
    dropped: int
    skipped: int
    listed: tuple[Skipped, ...]
    counts: tuple[int, ...]  # tiles labelled with each class
    span: once.Span = None
    flat: int = 0  # tiles of imagery of a single colour
    features: int = 0  # of each tile that are kept
    masked: int = 0  # tiles that are mostly ground without a class
    images: Mapping[str, Any] = field(default_factory=dict)  # see `likeness.counted`

    @classmethod
    def of(cls, record: PartRecord, note: Mapping[str, Any]) -> ScoreResult:
        """From a finished part's note; KeyError, TypeError or ValueError when it is another's."""
        span = tuple(note["span"]) if note["span"] else None
        return cls(
            record, int(note["dropped"]), int(note["skipped"]),
            skips.from_lists(note["listed"]),
            tuple(int(n) for n in note["counts"]), span, int(note["flat"]),
            int(note.get("features", 0)), int(note["masked"]), dict(note.get("images", {})),
        )  # fmt: skip


@dataclass(frozen=True)
class ScoreTask:
    """Scores one part into a Parquet file; a part that is there already is only read back.

    Attributes:
        sample: share of the tiles that are scored, chosen by seed and place of the tile.
        slots: tasks at the same time in a process: the network gets one stream for each.
        runtime: what runs the network, the same for every part, wherever it is worked on: runtimes
            differ in the last bits.
        features: whether the features that the model's last layer reads are kept.
        views: of each tile, whose mean is its score (see `model.views`).
        shares: whether the model gives shares.
        references: whether the source's labels say the tiles' shares.
        threshold: of the sets of classes (see `metrics.conformal`); None without sets.
        distance: whether the model says how unlike the training tiles a tile is.
        masks: whether tiles may be mostly ground without a class; such tiles are left out.
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
    features: bool = False
    views: int = 1
    shares: bool = False
    references: bool = False
    threshold: float | None = None
    distance: bool = False
    masks: bool = False

    def __call__(self, part: Part) -> ScoreResult:
        """The scores of a part, computed now or by an earlier run."""
        return parts.found(self.out, part.name, self._made) or self._score(part)

    def _made(self, record: PartRecord, note: Mapping[str, Any]) -> ScoreResult:
        """The result of an earlier run; ValueError where one keeps features and the other not."""
        result = ScoreResult.of(record, note)
        if bool(result.features) != self.features:
            raise ValueError("features are not kept alike")
        return result

    def _score(self, part: Part) -> ScoreResult:
        with _loading:
            network = _network(
                self.model_uri, self.model_digest, self.precision, self.slots, self.runtime,
                features=self.features,
            )  # fmt: skip
        rng = np.random.default_rng([self.seed, int(part.name.rsplit("-", 1)[-1])])
        tables: list[pa.Table] = []
        predictions: list[models.Prediction] = []
        skipped: list[Skipped] = []
        dropped = flat = masked = 0
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
            if not len(chips):
                continue
            said = network.predict(chips, self.views)
            if not said.mapped.all():
                masked += int((~said.mapped).sum())
                index = index.filter(pa.array(said.mapped))
                said = said.take(said.mapped)
            predictions.append(said)
            tables.append(index)
        width = self._width(network, predictions)
        whole, counts = self._schema(width).empty_table(), np.zeros(len(self.names), np.int64)
        index = pa.concat_tables(tables) if tables else whole
        if len(index):
            whole, counts = self._table(index, predictions, self._schema(width))
        far = whole[columns.DISTANCE].to_numpy() if self.distance else np.empty(0)
        # no times or places: the same scores give the same bytes, and the same digest
        note = {
            "dropped": dropped, "skipped": len(skipped), "listed": skipped[:LISTED],
            "counts": [int(c) for c in counts], "span": once.span(whole), "flat": flat,
            "masked": masked, **({"features": width} if self.features else {}),
            **({"images": likeness.counted(whole["source"], far)} if self.distance else {}),
        }  # fmt: skip
        written = geoparquet.write_part(
            parts.place(self.out, part.name), whole, self.crs, note=note
        )
        return ScoreResult.of(PartRecord(part.name, written.rows, written.sha256), note)

    def _width(self, network: models.Network, found: list[models.Prediction]) -> int:
        """How many features of a tile are kept."""
        if not self.features:
            return 0
        side = network.info.size_px or 1
        one = found[0] if found else network.predict(np.zeros((1, side, side, 3), np.uint8))
        return 0 if one.features is None else one.features.shape[1]

    def _schema(self, features: int) -> pa.Schema:
        return columns.schema(
            self.names, shares=self.shares, references=self.references,
            sets=self.threshold is not None, distance=self.distance, features=features,
        )  # fmt: skip

    def _table(
        self, index: pa.Table, found: list[models.Prediction], layout: pa.Schema
    ) -> tuple[pa.Table, NDArray[np.int64]]:
        """The part's table, and its tiles of each class."""
        probabilities = np.concatenate([f.probabilities for f in found])
        if self.masks:  # among the classes: some of a tile may be ground without one
            probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)
        shares = [f.shares for f in found if f.shares is not None]
        kept = [f.features for f in found if f.features is not None]
        best = probabilities.argmax(axis=1)
        values = {n: index[n] for n in ("row", "col", "path", "source", "date", "split")}
        values["truth"] = index["label"]
        values["label"] = pa.DictionaryArray.from_arrays(
            pa.array(best, pa.int32()), pa.array(self.names, pa.string())
        ).cast(pa.string())
        values |= columns.from_rows([columns.probability(n) for n in self.names], probabilities)
        if shares:
            names = [columns.share(n) for n in self.names]
            values |= columns.from_rows(names, np.concatenate(shares))
        if self.references:
            values |= {columns.reference(n): index[targets.column(n)] for n in self.names}
        if self.threshold is not None:
            sizes = metrics.set_sizes(probabilities, self.threshold)
            values[columns.SET_SIZE] = pa.array(sizes, pa.int8())
        if self.distance:
            far = [f.distance[:, 0] for f in found if f.distance is not None]
            values[columns.DISTANCE] = pa.array(np.concatenate(far))
        if kept:
            values[columns.FEATURES] = columns.from_features(np.concatenate(kept))
        values["geometry"] = index["geometry"]
        table = pa.table([values[n] for n in layout.names], schema=layout)
        return table, np.bincount(best, minlength=len(self.names))


@lru_cache(maxsize=4)
def _network(
    uri: str, digest: str, precision: str, slots: int, runtime: str, *, features: bool
) -> models.Network:
    """The model's network: read, verified and compiled once in a process, not once a part."""
    model = models.open_model(uri)
    if model.digest != digest:
        raise ModelError(
            f"{storage.redact(uri)} was changed while it was scoring; start again with "
            "another --out"
        )
    return models.runner(model, precision, workers=slots, runtime=runtime, features=features)
