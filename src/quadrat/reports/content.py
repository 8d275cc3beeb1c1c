"""What a report shows, gathered from scores, a change folder, a model and the run history."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quadrat import areas, codec, metrics, scores, storage
from quadrat import legend as legends
from quadrat import model as models
from quadrat import runs as history
from quadrat.areas import AreaResult, reference
from quadrat.changes import pictures
from quadrat.errors import LabelError, QuadratError
from quadrat.fetching import record
from quadrat.grid import Grid
from quadrat.legend import Legend
from quadrat.metrics import Metrics
from quadrat.model import ModelInfo
from quadrat.reports import classes
from quadrat.reports.classes import Example
from quadrat.reports.interpreted import InterpretedPlots
from quadrat.scores import DateScores, columns
from quadrat.tiles.surroundings import Surroundings

Ints = NDArray[np.int64]
COARSE = "nlcd3"
_Missed = tuple[int, int, int]  # place in the table, true class, mapped class


@dataclass(frozen=True)
class Mistake:
    """A reference tile whose mapped class is wrong, with the probability of that class."""

    where: str
    truth: str
    label: str
    probability: float
    picture: str | None


@dataclass(frozen=True)
class Origin:
    """A raster and what its fetch record says of it, {} without one."""

    file: str
    date: str
    fetched: Mapping[str, Any]


@dataclass(frozen=True)
class Day:
    """One date's scores and what they are worth.

    Attributes:
        accuracy: on reference tiles, pure and mixed; None without any.
        coarse: the same in three classes.
        area: error-adjusted where there are reference tiles, else the map's own.
        tiles: the date's table; None for pictures without a place.
        labels: where the reference labels come from, when the tile set says it.
        examples: pictures of tiles that each class is surest of.
    """

    uri: str
    date: str
    legend: Legend
    grid: Grid | None
    info: Mapping[str, Any]
    count: int
    accuracy: Metrics | None
    coarse: Metrics | None
    area: AreaResult | None
    tiles: DateScores | None
    mistakes: tuple[Mistake, ...]
    notes: tuple[str, ...]
    labels: Origin | None = None
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True)
class Content:
    """All that the page shows.

    Attributes:
        change: what `change.json` says.
        rows: the candidates of change.
        shots: their pictures by rank, JPEG.
        transitions: the table of all tiles of the change.
        synthetic: whether any imagery says of itself that it is generated.
        interpreted: what people say of a sample of plots.
        place: what the ground is called, as the user says it.
        under: imagery under the map by date, JPEG addresses.
        overlays: the user's roads and towns, see `overlays`.
    """

    title: str
    days: tuple[Day, ...]
    change: Mapping[str, Any] | None
    rows: tuple[Mapping[str, str], ...]
    shots: Mapping[int, bytes]
    transitions: pa.Table | None
    model: ModelInfo | None
    run: history.RunRecord | None
    notes: tuple[str, ...] = field(default=())
    synthetic: bool = False
    interpreted: InterpretedPlots | None = None
    place: str | None = None
    under: Mapping[str, str] = field(default_factory=dict)
    overlays: Sequence[Mapping[str, Any]] = ()


def read_day(
    uri: str,
    split: str,
    most_mistakes: int,
    imagery: Sequence[str] = (),
    legend: str | None = None,
) -> Day:
    """One date, with accuracy and area where reference labels are.

    Args:
        legend: a coarser legend that everything is folded into.
    """
    opened = scores.open_scores(uri)
    coarser = None if legend is None else legends.load_legend(legend)
    if opened.grid is None:
        return _pictures_day(opened, split, most_mistakes, coarser)
    day = scores.read(uri)
    day = day if coarser is None else day.folded(coarser)
    notes: list[str] = []
    accuracy = coarse = None
    missed: list[_Missed] = []
    try:
        ref = reference.from_scores((day,), split)
        notes += ref.notes
    except LabelError as error:
        ref = None
        notes.append(f"No accuracy: {error}.")
    if ref is not None:
        held = day.take(ref.places)
        accuracy, three = _accuracy(held), _three(day.legend)
        coarse = None if three is None else _accuracy(held.folded(three))
        missed = _missed(day, ref.places, ref.truth[:, 0], most_mistakes)
    wrong, examples, said = _pictured(day, missed, imagery)
    notes += said
    table = areas.by_labels(day, ref, split)
    return Day(
        uri=uri, date=day.date, legend=day.legend, grid=opened.grid, info=opened.info,
        count=len(day), accuracy=accuracy, coarse=coarse, area=table, tiles=day, mistakes=wrong,
        notes=tuple(dict.fromkeys((*notes, *table.notes))), labels=_labels(opened.info),
        examples=examples,
    )  # fmt: skip


def _labels(info: Mapping[str, Any]) -> Origin | None:
    """The label raster of the tile set that was scored."""
    uri = (info.get("provenance") or {}).get("labels")
    if not uri:
        return None
    try:
        found = record.read_record(str(uri)) or {}
    except QuadratError:  # the raster's record is damaged; its name is known all the same
        found = {}
    return Origin(storage.redact(str(uri)), str(found.get("date", "")), found)


def label_source(days: Sequence[Day]) -> str:
    """The kind of the reference labels' source (`nlcd`), "" where no fetch record says it."""
    known = [d.labels.fetched.get("kind") for d in days if d.labels is not None]
    return next((str(k) for k in known if k), "")


def imagery_of(day: Day) -> list[Origin]:
    """The rasters that the tiles were cut from, as the scores name them."""
    listed = (day.info.get("provenance") or {}).get("imagery") or []
    return [
        Origin(str(i.get("file", "")), str(i.get("date") or ""), i.get("fetched") or {})
        for i in listed
    ]


def _accuracy(held: DateScores) -> Metrics | None:
    """The accuracy of reference tiles, by purity too where their shares are known."""
    if not (held.truth >= 0).any():
        return None
    shares = None
    if held.reference is not None and held.shares is not None:
        shares = held.reference, held.shares
    side = reference.split_block(held) or reference.BLOCK
    return metrics.summarise(
        held.truth, held.probabilities, held.legend.names, shares=shares,
        groups=metrics.block_ids(held.rows, held.cols, side),
    )  # fmt: skip


def _three(own: Legend) -> Legend | None:
    """The legend of three classes, where a legend has more and folds into them."""
    coarse = legends.load_legend(COARSE)
    if len(own) <= len(coarse):
        return None
    try:
        legends.fold(own, coarse)
    except QuadratError:  # a legend of its own kind has no place in three NLCD classes
        return None
    return coarse


def _missed(day: DateScores, places: Ints, truth: Ints, most: int) -> list[_Missed]:
    """Reference tiles with the wrong class, the surest first: place, true and mapped class."""
    p = day.probabilities[places]
    shown, sure = p.argmax(1), p.max(1)
    order = np.flatnonzero(shown != truth)
    order = order[np.argsort(-sure[order], kind="stable")][:most]
    return [(int(places[i]), int(truth[i]), int(shown[i])) for i in order]


def _pictured(
    day: DateScores, missed: Sequence[_Missed], imagery: Sequence[str]
) -> tuple[tuple[Mistake, ...], tuple[Example, ...], list[str]]:
    """Mistakes and examples with their pictures, and what could not be done."""
    typical = classes.surest(day)
    at = [i for i, _, _ in missed] + [i for _, i in typical]
    tiles = {i: (int(day.rows[i]), int(day.cols[i])) for i in at}
    look, said = None, []
    try:
        look = pictures.open_ground(day, list(tiles.values()), imagery) if tiles else None
    except QuadratError as error:
        said.append(str(error).capitalize() + ".")
    shots = {i: None if look is None else _centre(look, *tile) for i, tile in tiles.items()}
    names, p = day.legend.names, day.probabilities
    wrong = [
        Mistake(f"tile {tiles[i]}", names[truth], names[k], float(p[i, k]), shots[i])
        for i, truth, k in missed
    ]
    examples = [
        Example(k, f"tile {tiles[i]}", float(p[i, k]), shot)
        for k, i in typical
        if (shot := shots[i]) is not None
    ]
    return tuple(wrong), tuple(examples), said


def _centre(look: Surroundings, row: int, col: int) -> str | None:
    from quadrat.reports import images

    try:
        pixels = look(row, col)
    except QuadratError:  # one damaged window: the row is shown without its picture
        return None
    s = pixels.shape[0] // 3
    return images.thumbnail(np.ascontiguousarray(pixels[s : 2 * s, s : 2 * s]))


def _pictures_day(opened: scores.Scores, split: str, most: int, coarser: Legend | None) -> Day:
    """Scores of a folder of pictures: accuracy and mistakes, no map and no area."""
    table = opened.table(["path", "truth", "split", *opened.probability_columns])
    legend, names, p = opened.legend, opened.legend.names, opened.probabilities(table)
    truth = columns.class_ids(table["truth"], legend, storage.redact(opened.uri))
    if coarser is not None and coarser.names != names:
        to = legends.fold(legend, coarser)
        p, kept = metrics.fold_mapped(p, to, len(coarser))
        truth, table = np.where(truth >= 0, to[truth], -1)[kept], table.filter(kept)
        legend, names = coarser, coarser.names
    known = truth >= 0
    held, _ = reference.of_split(columns.words(table["split"]), known, split)
    inside = known & held
    accuracy = coarse = None
    wrong: list[Mistake] = []
    if inside.any():
        accuracy = metrics.summarise(truth[inside], p[inside], names)
        three = _three(legend)
        if three is not None:
            to = legends.fold(legend, three)
            folded, kept = metrics.fold_mapped(p[inside], to, len(three))
            coarse = metrics.summarise(to[truth[inside]][kept], folded, three.names)
        bad = np.flatnonzero(inside & (p.argmax(1) != truth))
        paths, root = table["path"].to_pylist(), str((opened.info.get("source") or {}).get("uri"))
        for i in bad[np.argsort(-p[bad].max(1), kind="stable")][:most]:
            picture = _file(storage.join(root, str(paths[i])))
            wrong.append(
                Mistake(
                    str(paths[i]), names[truth[i]], names[int(p[i].argmax())], float(p[i].max()),
                    picture,
                )
            )  # fmt: skip
    said = "The scores are of pictures without a place: there is no map, no area and no change."
    return Day(
        uri=opened.uri, date=storage.basename(opened.uri), legend=legend, grid=None,
        info=opened.info, count=len(table), accuracy=accuracy, coarse=coarse, area=None,
        tiles=None, mistakes=tuple(wrong), notes=(said,),
    )  # fmt: skip


def _file(uri: str) -> str | None:
    from quadrat.reports import images

    try:
        return images.thumbnail(codec.read_image(uri))
    except QuadratError:  # moved or damaged since it was scored
        return None


def model_of(days: Sequence[Day], given: str | None) -> tuple[ModelInfo | None, list[str]]:
    """The model that scored, when it is still where it was."""
    stated = [str((d.info.get("model") or {}).get("uri", "")) for d in days]
    uri = given or next((u for u in stated if u), None)
    if uri is None:
        return None, []
    try:
        return models.open_model(uri).info, []
    except QuadratError as error:
        if given is not None:
            raise
        return None, [f"The model is not described: {error}."]


def run_of(name: str, tracking_uri: str | None) -> history.RunRecord:
    """A run of the history by id or name."""
    return history.show_run(name, tracking_uri=tracking_uri)


def told_apart(days: Sequence[Day]) -> tuple[Day, ...]:
    """The days with names that differ: a date that occurs twice gets its folder's name.

    Raises:
        ScoresError: days on other grids or with other classes, with the cure.
    """
    placed = [d.tiles for d in days if d.tiles is not None]
    if placed:
        scores.match(placed)  # refuses what lies on no common ground
    names = [d.date for d in days]
    return tuple(
        dataclasses.replace(d, date=f"{d.date} ({storage.basename(d.uri)})")
        if names.count(d.date) > 1
        else d
        for d in days
    )


def dated(days: Sequence[Day], said: Mapping[str, Any]) -> tuple[Day, ...]:
    """The days under the change's names for them: a date that scores do not say is said there."""
    if len(days) != len(said["dates"]):
        return tuple(days)
    return tuple(
        d if d.info.get("dates") else dataclasses.replace(d, date=str(name))
        for d, name in zip(days, said["dates"], strict=True)
    )


def with_plots(days: Sequence[Day], read: InterpretedPlots | None) -> tuple[Day, ...]:
    """The days, areas of the date that plots were read on by those: a page has one estimate."""
    if read is None or len(read.area.dates) > 1:
        return tuple(days)
    return tuple(
        dataclasses.replace(d, area=read.area)
        if d.date == read.area.dates[0] and d.legend.names == read.area.names
        else d
        for d in days
    )
