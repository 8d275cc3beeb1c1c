"""`tile`: imagery and labels -> a tile set with a split that does not leak.

What a tile is for (label, split, balance) is decided for all tiles before a pixel is read; then
each part is cut, labelled and written on its own, on any engine, and can be done again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quadrat import codec, geoparquet, parts, products, storage, vectors
from quadrat import skipped as skips
from quadrat.engines import Engine, get_engine
from quadrat.errors import LabelError, RasterError
from quadrat.labels import Rule, open_labels
from quadrat.legend import DEFAULT, Legend, load_legend
from quadrat.parts import PartRecord
from quadrat.progress import counted
from quadrat.skipped import Skipped
from quadrat.split import SPLITS, Split
from quadrat.tiles import extent, packing, rasters, targets
from quadrat.tiles.planning import CutPart, plan_cuts
from quadrat.tiles.rasters import RasterPart, open_rasters
from quadrat.tiles.sets import TileSet
from quadrat.tiles.types import INDEX, row_group

LISTED = 100  # skipped tiles named in tileset.json; the rest is counted


@dataclass(frozen=True)
class CutResult:
    """What was written of a part, and what was left out."""

    record: PartRecord
    dropped: int
    skipped: int
    listed: tuple[Skipped, ...]
    flat: int

    @classmethod
    def of(cls, record: PartRecord, note: Mapping[str, Any]) -> CutResult:
        """From a finished part's note; KeyError, TypeError or ValueError when it is another's."""
        dropped, skipped, flat = (int(note[k]) for k in ("dropped", "skipped", "flat"))
        return cls(record, dropped, skipped, skips.from_lists(note["listed"]), flat)


@dataclass(frozen=True)
class CutTask:
    """Cuts one part into a Parquet file; a part that is there already is only read back."""

    out: str
    encoding: str
    crs: str
    names: tuple[str, ...]
    strict: bool

    def __call__(self, cut: CutPart) -> CutResult:
        """What was cut, now or by an earlier run."""
        return parts.found(self.out, cut.name, CutResult.of) or self._cut(cut)

    def _cut(self, cut: CutPart) -> CutResult:
        encode = codec.get_encoding(self.encoding).encode
        dropped = flat = 0
        skipped: list[Skipped] = []
        box, mask = cut.part.tiles, cut.part.mask
        place = np.full(mask.shape, -1, np.int64)
        place[mask] = np.arange(int(mask.sum()))
        uri = parts.place(self.out, cut.name)
        with geoparquet.part_writer(uri, self._schema(cut), self.crs) as writer:
            for batch in rasters.read(_only(cut), row_group(cut.part.imagery.grid.size_px)):
                skipped += batch.skipped
                if self.strict and skipped:
                    raise RasterError(f"{skipped[0]} (--strict)")
                dropped += batch.dropped
                flat += batch.flat
                if not len(batch.index):
                    continue
                rows = batch.index["row"].to_numpy() - box.r0
                at = place[rows, batch.index["col"].to_numpy() - box.c0]
                images = [encode(chip) for chip in batch.chips]
                writer.write(self._table(batch.index, cut, at, images))
            listed = tuple(skipped[:LISTED])
            # no times or places: the same cut gives the same bytes, and the same digest
            told = {"dropped": dropped, "skipped": len(skipped), "flat": flat}
            writer.note({**told, "listed": listed})
        record = PartRecord(cut.name, writer.rows, writer.sha256)
        return CutResult(record, dropped, len(skipped), listed, flat)

    def _schema(self, cut: CutPart) -> pa.Schema:
        fields = [f for f in INDEX if f.name != "geometry"]
        if cut.fractions is not None:
            fields += targets.fields(self.names)
        if cut.points is not None:
            fields.append(targets.points_field(cut.points))
        return pa.schema([*fields, pa.field("image", pa.binary()), INDEX.field("geometry")])

    def _table(
        self, index: pa.Table, cut: CutPart, at: NDArray[np.int64], images: Sequence[bytes]
    ) -> pa.Table:
        label, split = cut.label[at], cut.split[at]
        values: dict[str, Any] = {n: index[n] for n in index.column_names}
        values["label"] = pa.array([self.names[i] if i >= 0 else None for i in label], pa.string())
        values["split"] = pa.array([SPLITS[i] if i >= 0 else None for i in split], pa.string())
        values["image"] = pa.array(images, pa.binary())
        if cut.fractions is not None:
            for k, name in enumerate(self.names):
                column = cut.fractions[at, k]
                values[targets.column(name)] = pa.array(column, pa.float32(), mask=np.isnan(column))
        if cut.points is not None:
            values[targets.POINTS] = targets.points_column(cut.points[at])
        schema = self._schema(cut)
        return pa.table([values[n] for n in schema.names], schema=schema)


def _only(cut: CutPart) -> RasterPart:
    """The part with only the tiles that are to be kept."""
    mask = cut.part.mask
    mask[mask] = cut.keep
    return replace(cut.part, wanted=np.packbits(mask).tobytes())


def _refuse_labelled(options: Mapping[str, object]) -> None:
    """Refuse options that mean nothing without labels."""
    for name, given in options.items():
        if given:
            raise LabelError(f"{name} needs labels; give --labels")


def tile(
    imagery: Sequence[str],
    out: str,
    *,
    labels: str | None = None,
    legend: str | Legend = DEFAULT,
    rule: str = Rule.name,
    threshold: float = 0.5,
    field: str | None = None,
    layer: str | None = None,
    crs: str | None = None,
    tile_m: float = 224.0,
    pixel_m: float = 1.0,
    bands: tuple[int, int, int] | None = None,
    nodata: float | None = None,
    stretch: tuple[float, float] | None = None,
    resampling: str = "bilinear",
    max_nodata: float = rasters.MAX_NODATA,
    within: str | None = None,
    date: str | None = None,
    alpha: int | None = None,
    split: str | None = "block",
    validation: float = 0.2,
    test: float = 0.0,
    block: int = 8,
    buffer: int = 1,
    groups: str | None = None,
    groups_field: str | None = None,
    balance: bool = False,
    labelled_only: bool = False,
    seed: int = 0,
    encoding: str = "zstd",
    overwrite: bool = False,
    strict: bool = False,
    engine: Engine | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> TileSet:
    """Cut imagery into a tile set, labelled and split.

    Args:
        imagery: GeoTIFF, COG or VRT files (or folders of them); the first named wins where they
            overlap.
        out: the tile set's folder, any URI.
        labels: a label raster (read by nearest neighbour) or polygons with a class `field`.
        layer: the layer of vector files (labels, within, groups) that have several; a file's own
            is named as in `file.gpkg|layername=plots`.
        legend: a shipped name, a TOML file, or a Legend.
        rule: `largest` (the class of the largest share), `nine-point` (all nine points agree) or
            `majority` (a class has `threshold` of the tile).
        crs, tile_m, pixel_m: the grid; the CRS is the first file's by default.
        bands: 1-based numbers of the red, green and blue band; what each file says by default.
        alpha: the band that is 0 where pixels are missing, 0 for none.
        stretch: lowest and highest value mapped to 0 and 255, for imagery that is not 8-bit.
        max_nodata: tiles with a larger share of nodata pixels are dropped.
        within: polygons; only tiles with their centre inside are cut.
        split: `block`, `source`, `random` (leaks) or None; used only with `labels`.
        validation, test: shares of the tiles. block: tiles along a block. buffer: tiles left out.
        groups, groups_field: polygons and their field (counties) that are the sources of
            `split="source"`; by default each file is one.
        balance: remove tiles of larger classes at random, in each split.
        labelled_only: leave out tiles without a label.
        strict: fail at the first tile that cannot be read instead of listing it.

    Returns:
        The tile set. `info` holds counts, what was dropped, and the audit of the split.

    Raises:
        RasterError, GridError, LabelError, SplitError, StorageError: naming the thing and the cure.
    """
    labels, within, groups = vectors.at_layer(layer, labels, within, groups)
    known = legend if isinstance(legend, Legend) else load_legend(legend)
    codec.get_encoding(encoding)
    how = Split(split or "block", validation, test, block, buffer, seed)
    source = open_rasters(
        imagery, crs=crs, tile_m=tile_m, pixel_m=pixel_m, bands=bands, nodata=nodata,
        stretch=stretch, resampling=resampling, max_nodata=max_nodata, within=within, date=date,
        alpha=alpha,
    )  # fmt: skip
    out = storage.normalise(out)
    options = {
        "labels": labels and storage.redact(labels), "legend": known.name, "rule": rule,
        "threshold": threshold, "field": field,
        "split": split and labels and how.to_dict(), "groups": groups, "balance": balance,
        "labelled_only": labelled_only, "encoding": encoding, "seed": seed,
    }  # fmt: skip
    label_file = vectors.fingerprint(labels) if labels else None
    plan = storage.digest_json([source.digest, options, label_file, known.to_dict()])
    if labels is None:
        _refuse_labelled({"--balance": balance, "--labelled-only": labelled_only,
                          "--groups": groups, "--field": field})  # fmt: skip
    engine = engine or get_engine()
    with products.hold("tiles", out):
        if ready := packing.begin(out, plan, overwrite, engine):
            return ready
        opened = None
        if labels is not None:
            how_labelled = Rule(rule, threshold)
            opened = open_labels(labels, known, source.grid, rule=how_labelled, field=field)
        cuts, unknown = plan_cuts(
            source, opened, how if split and labels else None, groups=groups,
            groups_field=groups_field, balance=balance, labelled_only=labelled_only, strict=strict,
        )  # fmt: skip
        task = CutTask(out, encoding, source.grid.crs, known.names if labels else (), strict)
        sizes = {c.name: c.count for c in cuts}
        done = counted(
            engine.run(task, cuts), sum(sizes.values()), on_progress, lambda r: sizes[r.record.name]
        )
        results = sorted(done, key=lambda r: r.record.name)
        records = tuple(r.record for r in results if r.record.rows)
        flat = sum(r.flat for r in results)
        info: dict[str, Any] = {
            "dropped": {"nodata": sum(r.dropped for r in results)},
            "skipped": {
                "count": sum(r.skipped for r in results),
                "listed": [s for r in results for s in r.listed][:LISTED],
            },
            "warnings": [
                *source.warnings,
                *extent.flat_warning(flat, sum(c.rows for c in records)),
            ],
            "shares": labels is not None,
            "unknown_codes": {str(k): v for k, v in unknown.items()},
            "provenance": {**source.provenance, "labels": options["labels"], "options": options},
        }
        made = TileSet(out, source.grid, known if labels else None, source.size_px, encoding,
                       records, info)  # fmt: skip
        # tiles dropped for nodata can unbalance what was balanced before the pixels were read
        return packing.finish(packing.rebalanced(made, seed) if balance else made)
