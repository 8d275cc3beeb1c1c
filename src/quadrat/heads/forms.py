"""Choose the inference precision by validation accuracy.

A head is trained on features of the precision that will score. int8 flips about two labels in a
hundred against float at about the same accuracy, so what counts is the accuracy of a head trained
on int8 features, on validation tiles, against that of a head trained on float features, on the same
tiles. A precision is accepted if it loses no more than half a point; int8 is tried first, then
bf16, on a GPU fp16 alone, and float is always there.

Float features cost several times the int8 ones. Where there are many tiles the comparison is made
on `CHECK_TILES` of them, drawn class by class, both heads trained and measured on the same ones;
the head of the accepted precision is then trained on all tiles, and the float form keeps the head
of the comparison. Forests differ by more than half a point with their seed alone, so precisions are
compared by the mean over several of them.

Further views of the training tiles cost as much as the tiles. They are made in the accepted
precision alone; precisions are compared on the tiles as they are.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quadrat import backbones, model, storage, tiles
from quadrat.errors import ModelError, StorageError, TrainError
from quadrat.heads.learning import Job, Learned, Progress, learn
from quadrat.heads.samples import Samples

MAX_FALL = 0.005  # of validation accuracy
CHECK_TILES = 12_000
RARE = 50  # tiles of a class that a comparison keeps at least
CALIBRATION_PARTS = 8
AUTO = ("int8", "bf16")
ON_GPU = ("fp16",)
CHOICES: Mapping[str, tuple[str, ...]] = {
    "auto": AUTO,
    "int8": AUTO,  # where int8 is not accepted, bf16 may be
    "bf16": ("bf16",),
    "fp16": ("fp16",),
    "fp32": (),
}


@dataclass(frozen=True)
class Form:
    """A precision's job and its result."""

    job: Job
    learned: Learned


@dataclass(frozen=True)
class Forms:
    """The precisions that were tried.

    Attributes:
        precision: the one to score in.
        kept: precision -> its form; `fp32` always, and the accepted one.
        warnings: why others were not accepted.
    """

    precision: str
    kept: Mapping[str, Form]
    warnings: tuple[str, ...] = ()


def learn_forms(
    job: Job, light: pa.Table, sorted_light: Samples, precision: str, on_progress: Progress | None
) -> Forms:
    """Train in float and in each candidate precision until one is accepted.

    Args:
        job: in float.
        light: index of the source; sorted_light: its uses.
        precision: `auto`, `fp32`, `bf16`, `int8` or `fp16`.

    Raises:
        TrainError: an unknown precision, or one that this machine or network cannot be asked for.
    """
    candidates, notes = _candidates(job, precision)
    shares = _shares(light, job) if candidates else None
    passes = _Passes(on_progress, 1 + bool(candidates))
    if not candidates:
        return Forms("fp32", {"fp32": Form(job, learn(job, passes.next()))}, notes)
    select = dataclasses.replace(job.select, shares=shares)
    reference_job = dataclasses.replace(job, select=select, compare=True, views=1)
    reference = learn(reference_job, passes.next())
    for name in candidates:
        graph = int8_graph(job, light, sorted_light) if name == "int8" else job.graph
        same = shares is None and job.views == 1
        tried = dataclasses.replace(job, graph=graph, precision=name, compare=same)
        less = dataclasses.replace(tried, select=select, views=1, calibrate=False, compare=True)
        try:
            full = learn(tried, passes.next())  # first: the comparison reuses its features
        except ModelError as error:
            if name != "fp16":
                raise
            notes = (*notes, f"fp16 was not accepted: {error}")  # fp16 overflows
            continue
        alike = full if same else learn(less)
        if _accepted(alike, reference):
            full = dataclasses.replace(full, compared=alike.compared)
            kept = {"fp32": Form(reference_job, reference), name: Form(tried, full)}
            return Forms(name, kept, notes)
        notes = (*notes, _refused(name, alike, reference))
    if shares is not None or job.views > 1:
        reference = learn(job, passes.next())
    return Forms("fp32", {"fp32": Form(job, reference)}, notes)


def _candidates(job: Job, precision: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Precisions to try, fastest first, and warnings about those that cannot be."""
    if precision not in CHOICES:
        raise TrainError(f"no precision {precision!r}; choose one of {', '.join(CHOICES)}")
    able = {
        "int8": model.has_int8() and model.can_quantise(job.graph.onnx),
        "bf16": model.has_bf16(),
        "fp16": model.has_cuda(),
    }
    if precision in able and not able[precision]:
        raise TrainError(
            f"{precision} cannot be made here: this CPU or this network has none; "
            "use --precision auto or fp32"
        )
    if precision == "auto" and not model.can_quantise(job.graph.onnx):
        return (), ()
    if precision == "auto" and model.has_cuda():
        return ON_GPU, ()
    notes: tuple[str, ...] = ()
    if precision == "auto" and not model.has_int8():
        notes = ("no int8 form was made: this CPU has no exact int8 arithmetic (no VNNI)",)
    return tuple(p for p in CHOICES[precision] if able[p]), notes


def _accepted(tried: Learned, reference: Learned) -> bool:
    one, float_one = tried.compared, reference.compared
    return one is not None and float_one is not None and one >= float_one - MAX_FALL


def _refused(name: str, tried: Learned, reference: Learned) -> str:
    one, float_one = tried.compared, reference.compared
    if one is None or float_one is None:
        return f"{name} was not accepted: without validation tiles its accuracy is unknown"
    return (
        f"{name} was not accepted: validation accuracy fell from {float_one:.2%} to {one:.2%}, by "
        f"more than {MAX_FALL:.1%}"
    )


def _shares(light: pa.Table, job: Job) -> tuple[tuple[str, float], ...] | None:
    """Label -> share of its tiles in the comparison; None for all of them."""
    chosen = light.filter(pa.array(job.select.mask(light)))
    counts = Counter(word or "" for word in chosen["label"].to_pylist())
    total = sum(counts.values())
    if total <= CHECK_TILES:
        return None
    share = CHECK_TILES / total
    return tuple((n, min(1.0, max(share, RARE / k))) for n, k in sorted(counts.items()))


def int8_graph(job: Job, light: pa.Table, uses: Samples) -> backbones.FeatureGraph:
    """The backbone's int8 form, calibrated on training tiles; kept in the cache.

    The tiles come from a few parts of the source, drawn by a fixed seed, so that few are read.
    """
    names = light["part"].cast(pa.string()).to_numpy(zero_copy_only=False)[uses.train]
    rng = np.random.default_rng(0)
    drawn = rng.permutation(np.unique(names.astype(str)))[:CALIBRATION_PARTS]
    key = storage.digest_json(
        [job.graph.digest, job.source.digest, job.source.size_px, [str(n) for n in drawn],
         model.CALIBRATION_TILES, model.quantiser()]
    )  # fmt: skip
    place = str(storage.cache_dir() / "graphs" / f"{job.graph.file_name}-int8-{key[:16]}.onnx")
    with suppress(StorageError):
        kept = storage.read_bytes(place)
        if storage.digest_bytes(kept[64:]).encode() == kept[:64]:
            return dataclasses.replace(job.graph, onnx=kept[64:], any_size=False)
    train = light.take(uses.train).select(["path", "row", "col"])
    chips = _calibration_tiles(job.source, set(drawn), _keys(train))
    data = model.quantise(job.graph.onnx, chips, size_px=job.source.size_px)
    with suppress(StorageError):  # it is then computed again next time
        storage.write_bytes(place, storage.digest_bytes(data).encode() + data)
    return dataclasses.replace(job.graph, onnx=data, any_size=False)


def _calibration_tiles(
    source: tiles.Source, parts: set[str], wanted: set[tuple[object, ...]]
) -> NDArray[np.uint8]:
    """Training tiles of these parts, evenly spread over each."""
    each = -(-model.CALIBRATION_TILES // max(1, len(parts)))
    chips = []
    for part in source.parts():
        if part.name not in parts:
            continue
        mine = []
        for batch in tiles.read_part(part):
            keys = _key_list(batch.index.select(["path", "row", "col"]))
            mine += [batch.chips[i].copy() for i, key in enumerate(keys) if key in wanted]
        step = np.linspace(0, len(mine) - 1, min(each, len(mine))).astype(int)
        chips += [mine[i] for i in step]
    size = source.size_px
    return np.stack(chips) if chips else np.empty((0, size, size, 3), np.uint8)


def _key_list(table: pa.Table) -> list[tuple[object, ...]]:
    return list(zip(*(table[c].to_pylist() for c in ("path", "row", "col")), strict=True))


def _keys(table: pa.Table) -> set[tuple[object, ...]]:
    return set(_key_list(table))


class _Passes:
    """Progress over several passes as one count of tiles."""

    def __init__(self, on_progress: Progress | None, planned: int) -> None:
        self._tell, self._planned, self._at = on_progress, planned, -1

    def next(self) -> Progress | None:
        """The progress callback of the next pass."""
        self._at += 1
        self._planned = max(self._planned, self._at + 1)
        tell, at, planned = self._tell, self._at, self._planned
        if tell is None:
            return None
        return lambda done, total: tell(at * total + done, planned * total)
