"""`score`: plan the parts, run them on an engine, write `scores.json`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from quadrat import model as models
from quadrat import parts, products, storage, text
from quadrat import skipped as skips
from quadrat.engines import Engine, get_engine, tasks_per_process
from quadrat.errors import ModelError, ScoresError, TileSetError
from quadrat.model import Model
from quadrat.model import views as turns
from quadrat.records import Record
from quadrat.scores import Scores, files, likeness, open_scores
from quadrat.scoring import once
from quadrat.scoring.task import ScoreResult, ScoreTask
from quadrat.shown import shown
from quadrat.skipped import Skipped
from quadrat.tiles import (
    Source,
    extent,
    open_rasters,
    open_tiles,
    rasters,
    sets,
    source_dates,
    source_warnings,
    targets,
)

RASTERS = (".tif", ".tiff", ".vrt")


@shown
@dataclass(frozen=True)
class ScoresSummary(Record):
    """What scoring gave.

    Attributes:
        counts: tiles labelled with each class.
        dropped: tiles left out for nodata. masked: tiles left out because they are mostly ground
            that the legend has no class for. skipped: tiles that could not be read, of which
            `listed` names some with the reason.
        device: what computed, on this machine.
        seconds: of this run; tiles that an earlier run had scored are in `tiles` all the same.
        warnings: what a user should know, a sentence each.
        bands: which bands of imagery were read as red, green and blue, and how that is known.
        distance: tiles unlike the training ground, in all and by image (see
            `scores.likeness.summary`); empty for a model that does not say.
    """

    uri: str
    tiles: int
    counts: Mapping[str, int]
    precision: str
    dropped: int
    masked: int
    skipped: int
    listed: tuple[Skipped, ...]
    seconds: float
    device: str = "CPU"
    csv: str | None = None
    parquet: str | None = None
    warnings: tuple[str, ...] = ()
    bands: tuple[str, ...] = ()
    distance: Mapping[str, Any] = field(default_factory=dict)


def open_source(
    source: str | Sequence[str],
    model: Model,
    *,
    bands: tuple[int, int, int] | None = None,
    nodata: float | None = None,
    stretch: tuple[float, float] | None = None,
    resampling: str = "bilinear",
    max_nodata: float = rasters.MAX_NODATA,
    within: str | None = None,
    date: str | None = None,
    crs: str | None = None,
    alpha: int | None = None,
    resize: bool = False,
) -> Source:
    """What is to be scored: a tile set, a folder of pictures, or imagery on the model's grid.

    Args:
        source: one tile set or folder, or any number of raster files.
        alpha: the band of imagery that is 0 where pixels are missing, 0 for none.
        crs: the grid's CRS for imagery, the model's by default; for ground in another UTM zone.
        resize: resize pictures of another size; pictures for a model that was trained on pictures
            are resized anyway, as in training.

    Raises:
        TileSetError, RasterError, ModelError: naming the thing and the cure.
    """
    uris = [source] if isinstance(source, str) else list(source)
    if not uris:
        raise TileSetError("nothing to score was given; name a tile set, a folder or rasters")
    if not _is_imagery(uris):
        if len(uris) > 1:
            raise TileSetError("several sources must all be rasters; score tile sets one by one")
        given = {
            "--bands": bands, "--nodata": nodata, "--stretch": stretch, "--within": within,
            "--crs": crs, "--alpha": alpha,
        }  # fmt: skip
        for name, value in given.items():
            if value is not None:
                raise TileSetError(
                    f"{name} is for rasters; {storage.redact(uris[0])} is cut already"
                )
        opened = open_tiles(
            uris[0], size_px=model.size_px, resize=resize or model.grid is None,
            legend=None,
        )  # fmt: skip
        _check_size(opened, model)
        return opened
    if model.grid is None:
        raise ModelError(
            f"{storage.redact(model.uri)} was trained on pictures without a place, so it has no "
            "grid; cut the imagery with quadrat tile and score the tile set"
        )
    return open_rasters(
        uris, crs=crs or model.grid.crs, tile_m=model.grid.tile_m, pixel_m=model.grid.pixel_m,
        bands=bands, nodata=nodata, stretch=stretch, resampling=resampling,
        max_nodata=max_nodata, within=within, date=date, alpha=alpha,
    )  # fmt: skip


def _is_imagery(uris: Sequence[str]) -> bool:
    first = uris[0]
    if first.split("?")[0].lower().endswith((*RASTERS, ".json", ".geojson")):
        return True
    if storage.is_local(first) and storage.is_dir(first) and not sets.is_tileset(first):
        if storage.exists(storage.join(first, "fetch.json")):
            return True
        # a folder of georeferenced files is imagery; a folder of PNG or JPEG files is pictures
        names = storage.list_names(first)
        rasters = [n for n in names if n.lower().endswith(RASTERS)]
        return bool(rasters) and not any(
            n.lower().endswith((".png", ".jpg", ".jpeg")) for n in names
        )
    return False


def _check_size(source: Source, model: Model) -> None:
    if source.size_px != model.size_px:
        raise ModelError(
            f"{storage.redact(source.uri)} has tiles of {source.size_px} px and the model takes "
            f"{model.size_px} px; cut or pack the tiles at {model.size_px} px"
        )
    a, b = source.grid, model.grid
    if a and b and (a.tile_m, a.pixel_m) != (b.tile_m, b.pixel_m):
        raise ModelError(
            f"{storage.redact(source.uri)} has tiles of {a.tile_m} m at {a.pixel_m} m a pixel, the "
            f"model was trained at {b.tile_m} m and {b.pixel_m} m; cut them alike"
        )


def score(
    model: str,
    source: str | Sequence[str],
    out: str,
    *,
    precision: str = "auto",
    views: int = 1,
    sample_frac: float = 1.0,
    seed: int = 0,
    csv: str | None = None,
    parquet: str | None = None,
    bands: tuple[int, int, int] | None = None,
    nodata: float | None = None,
    stretch: tuple[float, float] | None = None,
    resampling: str = "bilinear",
    max_nodata: float = rasters.MAX_NODATA,
    within: str | None = None,
    date: str | None = None,
    crs: str | None = None,
    alpha: int | None = None,
    resize: bool = False,
    overwrite: bool = False,
    strict: bool = False,
    keep_features: bool = False,
    engine: Engine | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> ScoresSummary:
    """Score every tile of a source.

    Killed at any moment and started again with the same arguments, it goes on where it was: every
    tile is scored exactly once.

    Args:
        model: the bundle's URI.
        source: a tile set, a folder of pictures, or raster files, which are read on the model's
            grid with no tile files in between; see `open_source` for the arguments of rasters.
        out: the scores' folder, any URI.
        precision: `auto` (what the model was accepted in), `fp32`, `bf16` or `int8`.
        views: of each tile, turned and mirrored, 1 to 8: the mean of so many is better than one and
            takes so many times the time.
        sample_frac: share of the tiles that are scored, chosen at random by `seed`.
        csv: also write `filepath,pred_label` to this URI.
        parquet: also write all scores to this URI, as one GeoParquet file.
        overwrite: replace other scores in `out`.
        strict: fail at the first tile that cannot be read instead of listing it.
        keep_features: keep the features that the model's last layer reads with the scores; scores
            that have been made without are made again.

    Raises:
        ModelError, TileSetError, RasterError, ScoresError, StorageError.
    """
    if not 0 < sample_frac <= 1:
        raise ScoresError(f"--sample-frac {sample_frac} is not above 0 and at most 1")
    turns.check(views)
    start = time.perf_counter()
    bundle = models.open_model(model)
    opened = open_source(
        source, bundle, bands=bands, nodata=nodata, stretch=stretch, resampling=resampling,
        max_nodata=max_nodata, within=within, date=date, crs=crs, alpha=alpha,
        resize=resize,
    )  # fmt: skip
    engine = engine or get_engine()
    chosen = models.resolve_precision(bundle, precision)
    out = storage.normalise(out)
    settings = [bundle.digest, opened.digest, chosen, sample_frac, seed if sample_frac < 1 else 0]
    plan = storage.digest_json([*settings, *([views] if views > 1 else [])])
    with products.hold("scores", out):
        same = products.claim("scores", out, plan, overwrite)
        done = parts.finished(out, files.MANIFEST, open_scores, engine) if same else None
        if done is not None and keep_features and not done.features:
            storage.remove(storage.join(out, files.MANIFEST))
            done = None  # parts without features are made again
        runtime = _runtime(bundle, chosen, products.plan_of(out) if same else {})
        products.write_plan("scores", out, plan, runtime=runtime)
        task = ScoreTask(
            bundle.uri, bundle.digest, chosen, out, bundle.legend.names,
            opened.grid.crs if opened.grid else None, sample_frac, seed,
            tasks_per_process(engine), strict, runtime, keep_features, views,
            shares="shares" in bundle.info.outputs,
            references=targets.classes(opened) == bundle.legend.names,
            threshold=bundle.info.conformal.get("threshold"),
            distance=models.DISTANCE in bundle.info.outputs,
            masks=bundle.info.masks,
        )  # fmt: skip
        if done is None:
            results = _run(task, opened, engine, on_progress)
            made = _collected(task, bundle, opened, sample_frac, results)
            if opened.kind == "tileset":
                once.check(made, [r.span for r in results], opened.uri)
            done = files.write_manifest(made)
        if csv:
            _write_csv(done, csv)
        if parquet:
            done.to_parquet(parquet)
    return ScoresSummary(
        uri=out,
        tiles=done.tiles,
        counts=done.info["counts"],
        precision=chosen,
        dropped=done.info["dropped"],
        masked=int(done.info.get("masked", 0)),
        skipped=done.info["skipped"]["count"],
        listed=skips.from_lists(done.info["skipped"]["listed"]),
        seconds=time.perf_counter() - start,
        device=models.device(chosen),
        csv=csv,
        parquet=parquet,
        bands=tuple(opened.provenance.get("bands", ())),
        distance=done.distance,
        warnings=_warnings(opened, done),
    )


def _runtime(bundle: Model, precision: str, begun: Mapping[str, Any]) -> str:
    """What runs the network: that of the parts that a begun job has, so that all keep to one."""
    kept = begun.get("runtime")
    return kept if kept in models.RUNTIMES else models.choose(bundle.onnx(precision), precision)


def _warnings(source: Source, done: Scores) -> tuple[str, ...]:
    """What a user should know of scores, a sentence each."""
    return (
        *source_warnings(source),
        *extent.flat_warning(int(done.info.get("flat", 0)), done.tiles),
        *likeness.warning(done.distance),
        *_masked(done),
    )


def _masked(done: Scores) -> tuple[str, ...]:
    """What is said of tiles that were masked, and of a model that gives no shares."""
    sentences = []
    if masked := int(done.info.get("masked", 0)):
        sentences.append(
            f"{masked:,} tiles are masked: most of their ground (water) has no class in legend "
            f"{done.legend.name}; a legend with a class for it maps them"
        )
    if not done.has_shares:
        sentences.append(
            "the model gives no class shares, as it was trained by an earlier Quadrat; train it "
            "again for areas of ground"
        )
    return tuple(sentences)


def _run(
    task: ScoreTask,
    source: Source,
    engine: Engine,
    on_progress: Callable[[int, int], None] | None,
) -> list[ScoreResult]:
    planned = source.parts()
    counts = {p.name: p.count for p in planned}
    total, done, results = sum(counts.values()), 0, []
    if on_progress:
        on_progress(0, total)
    # the largest first: the last ones are small, and workers end together
    for result in engine.run(task, sorted(planned, key=lambda p: -p.count)):
        results.append(result)
        done += counts[result.record.name]
        if on_progress:
            on_progress(done, total)
    return sorted(results, key=lambda r: r.record.name)


def _collected(
    task: ScoreTask,
    bundle: Model,
    source: Source,
    sample_frac: float,
    results: Sequence[ScoreResult],
) -> Scores:
    """The scores as a whole, before their manifest is written."""
    totals = [sum(r.counts[k] for r in results) for k in range(len(bundle.legend))]
    listed = [s for r in results for s in r.listed]
    if not any(r.record.rows for r in results):
        products.clear("scores", task.out)
        why = f"; first: {listed[0][1]}" if listed else ""
        raise ScoresError(
            f"no tile of {storage.redact(source.uri)} could be scored: "
            f"{sum(r.dropped for r in results)} dropped for nodata, "
            f"{sum(r.masked for r in results)} masked, "
            f"{sum(r.skipped for r in results)} unreadable{why}"
        )
    dates, reviewed = source_dates(source), bundle.info.head.get("labels")
    return Scores(
        task.out, bundle.legend, source.grid, tuple(r.record for r in results),
        {
            "size_px": bundle.size_px,
            "model": {
                "uri": storage.redact(bundle.uri), "digest": bundle.digest,
                "run_id": bundle.info.run_id,
                **({"labels": dict(reviewed)} if reviewed else {}),
            },
            "source": {
                "uri": storage.redact(source.uri), "kind": source.kind, "digest": source.digest,
            },
            "precision": task.precision,
            "runtime": task.runtime,
            "sample_frac": sample_frac,
            "dates": dates,
            "counts": dict(zip(bundle.legend.names, totals, strict=True)),
            **({"features": results[0].features} if task.features else {}),
            "dropped": sum(r.dropped for r in results),
            "masked": sum(r.masked for r in results),
            "shares": task.shares,
            "references": task.references,
            "views": task.views,
            "conformal": {} if task.threshold is None else dict(bundle.info.conformal),
            "distance": _distances(task, bundle, results),
            "flat": round(sample_frac * sum(r.flat for r in results)),
            "skipped": {"count": sum(r.skipped for r in results), "listed": listed[:100]},
            "provenance": dict(source.provenance),
        },
    )  # fmt: skip


def _distances(task: ScoreTask, bundle: Model, results: Sequence[ScoreResult]) -> Mapping[str, Any]:
    """Tiles unlike the training ground, in all and by image; nothing for a model without."""
    if not task.distance:
        return {}
    return likeness.summary((r.images for r in results), float(bundle.info.distance["level"]))


def _write_csv(done: Scores, uri: str) -> None:
    """`filepath,pred_label`, a line a tile; tiles without a file are called by their TileId."""
    rows = (
        (row["path"] or f"r{row['row']}_c{row['col']}", row["label"])
        for name in done.names
        for row in done.part(name, ["row", "col", "path", "label"]).to_pylist()
    )
    with storage.atomic_path(uri) as path, path.open("w", newline="", encoding="utf-8") as file:
        text.write_table(file, ["filepath", "pred_label"], rows)


__all__ = ["ScoresSummary", "open_source", "score"]
