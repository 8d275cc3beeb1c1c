"""The reference tiles of a map: the scores' own labels, or a table of interpreted plots."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quadrat import choices, metrics, storage, text, vectors
from quadrat import grid as grids
from quadrat.areas import weighting
from quadrat.errors import InputError, LabelError
from quadrat.grid import Grid
from quadrat.scores import DateScores

Ints = NDArray[np.int64]

HELD_OUT = ("test", "validation", "")  # "": tiles that no split names
BLOCK = 8  # tiles a side, as the split's blocks
MOST_ROWS = 1 << 31  # rows and columns are kept as int32
# Fewer plots bound no error: of 10 plots all right, 26% of the map may still be wrong (95% bound).
LEAST = 10


@dataclass(frozen=True)
class Reference:
    """Reference labels of some tiles of a map.

    Attributes:
        places: (n,) where they are among the map's tiles.
        truth: (n, D) class ids, one column a date.
        clusters: (n,) block ids where the references lie in blocks, else None.
        notes: what a reader must know about them.
        stratum: (n,) and sizes: (H,) tiles, of the strata that they were drawn in; None where these
            are the map's classes.
    """

    places: Ints
    truth: Ints
    clusters: Ints | None
    notes: tuple[str, ...]
    stratum: Ints | None = None
    sizes: NDArray[np.float64] | None = None


def from_scores(
    dates: tuple[DateScores, ...], split: str = "auto", block: int | None = None
) -> Reference:
    """The labelled tiles of the scores that took no part in training.

    Args:
        split: `test`, `validation`, `all`, or `auto`: the test tiles where there are some, else
            the validation tiles, else those that no split names.
        block: side of a block in tiles; 0 takes tiles as drawn one by one; None looks.
    """
    first = dates[0]
    known = np.logical_and.reduce([d.truth >= 0 for d in dates])
    inside, named = of_split(first.split, known, split)
    places = np.flatnonzero(known & inside)
    if not len(places):
        _none(dates, known, split)
    _enough(len(places), " and ".join(storage.redact(d.uri) for d in dates))
    notes = [_words(named, len(places), int(inside.sum()))]
    if named == "all" and (first.split[places] == "train").any():
        notes.append(
            "Some reference tiles trained the model: accuracy is overstated and areas are biased "
            "towards the map."
        )
    if named == "":
        notes.append("The scores name no split; these tiles must not have trained the model.")
    unlabelled = int(inside.sum()) - len(places)
    if unlabelled > 0.05 * inside.sum():
        notes.append(
            f"{unlabelled:,} of {int(inside.sum()):,} tiles there have no reference label "
            "(mixed plots, water, unmapped ground); the sample does not represent them."
        )
    own = split_block(first) if named in ("test", "validation") else None
    clusters, note = _clusters(first, inside, places, own if block is None else block)
    return Reference(
        places, np.stack([d.truth[places] for d in dates], axis=1), clusters, (*notes, *note)
    )


def of_split(
    splits: NDArray[np.str_], known: NDArray[np.bool_], split: str
) -> tuple[NDArray[np.bool_], str]:
    """Which tiles, labelled or not, the reference labels are of, (N,), and their split's name.

    Args:
        splits: (N,) words, "" for none. known: (N,) tiles that have a label. split: see
            `from_scores`.
    """
    choices.check("split", split, choices.LABELLED, InputError)
    if split == "all":
        return np.ones(len(splits), bool), "all"
    wanted = HELD_OUT if split == "auto" else (split,)
    named = next((s for s in wanted if (known & (splits == s)).any()), wanted[0])
    return splits == named, named


def _words(named: str, used: int, inside: int) -> str:
    where = {"": "labelled tiles", "all": "labelled tiles of every split"}.get(
        named, f"{named} tiles"
    )
    return f"Reference: {used:,} {where}."


def _none(dates: tuple[DateScores, ...], known: NDArray[np.bool_], split: str) -> None:
    what = " and ".join(storage.redact(d.uri) for d in dates)
    if not known.any():
        raise LabelError(
            f"{what}: no tile has a reference label{' on both dates' if len(dates) > 1 else ''}; "
            "give --reference with labelled plots, or --unadjusted for the map's own areas"
        )
    raise LabelError(
        f"{what}: labelled tiles are all in other splits than {split} "
        f"({', '.join(sorted(set(dates[0].split[known]) - {''}))}); areas need tiles that did not "
        "train the model: give --reference, or --unadjusted for the map's own areas"
    )


def _enough(count: int, what: str) -> None:
    if count < LEAST:
        raise LabelError(
            f"{what}: {count} reference {'tile' if count == 1 else 'tiles'} on the map say nothing "
            f"about its errors; give at least {LEAST}, better 50 in each map class"
        )


def from_table(uri: str, dates: tuple[DateScores, ...], block: int | None = None) -> Reference:
    """Plots from a CSV with `row,col` (or `x,y` in the grid's CRS), or a vector file of points.

    Labels are in the column `label` for one date, in `label_a` and `label_b` for two. Plots outside
    the map are left out and counted. Plots that were not drawn at random in each class of the map
    have their inclusion probability in `probability`, or `stratum` and `stratum_size`.
    """
    names = ("label",) if len(dates) == 1 else ("label_a", "label_b")
    header, records = _table(uri, dates[0].grid)
    rows, cols, truth = _read(uri, header, records, names, dates[0])
    keys = grids.tile_keys(rows, cols)
    if len(np.unique(keys)) < len(keys):
        raise LabelError(f"{storage.redact(uri)} has a tile twice; keep one plot a tile")
    at = grids.places_of(keys, grids.tile_keys(dates[0].rows, dates[0].cols))
    places = np.flatnonzero(at >= 0)
    if not len(places):
        raise LabelError(
            f"{storage.redact(uri)}: none of {len(rows):,} plots lies on a mapped tile; check that "
            "row and col (or x and y) are of the map's grid"
        )
    _enough(len(places), storage.redact(uri))
    notes = [f"Reference: {len(places):,} plots of {storage.basename(uri)}."]
    if len(places) < len(rows):
        notes.append(f"{len(rows) - len(places):,} plots lie outside the map and were left out.")
    strata = weighting.strata(storage.redact(uri), header, records, len(dates[0]))
    if strata is not None:
        stratum, sizes = strata
        said = f"They were drawn in {len(sizes)} strata of their own (Stehman 2014)."
        return Reference(places, truth[at[places]], None, (*notes, said),
                         stratum[at[places]], sizes)  # fmt: skip
    notes.append(
        "They are taken as drawn at random in each class of the map; where they were not, give "
        "their inclusion probability in a column probability."
    )
    inside = np.zeros(len(dates[0]), bool)
    inside[places] = True
    clusters, note = _clusters(dates[0], inside, places, block)
    return Reference(places, truth[at[places]], clusters, (*notes, *note))


def _table(uri: str, grid: Grid) -> tuple[list[str], list[dict[str, str | None]]]:
    """Columns and rows of a CSV, or of a vector file, whose points are the columns `x` and `y`."""
    if not vectors.is_vector(uri):
        try:
            return text.read_table(storage.read_bytes(uri))
        except InputError as error:
            raise LabelError(f"{storage.redact(uri)} cannot be read: {error}") from None
    x, y, fields = vectors.read_points(uri, grid.crs)
    kept = {n: [str(v) for v in c] for n, c in fields.items() if n not in ("row", "col")}
    kept |= {"x": [repr(v) for v in x.tolist()], "y": [repr(v) for v in y.tolist()]}
    return list(kept), [
        dict(zip(kept, row, strict=True)) for row in zip(*kept.values(), strict=True)
    ]


def _read(
    uri: str,
    header: list[str],
    records: list[dict[str, str | None]],
    names: tuple[str, ...],
    day: DateScores,
) -> tuple[Ints, Ints, Ints]:
    name, grid, legend = storage.redact(uri), day.grid, day.legend
    by_tile = "row" in header and "col" in header
    missing = [n for n in names if n not in header]
    if missing or not (by_tile or ("x" in header and "y" in header)):
        raise LabelError(
            f"{name} has the columns {', '.join(header) or 'none'}; it needs "
            f"row and col (or x and y) and {' and '.join(names)}"
        )
    rows, cols, truth = [], [], []
    for line, record in enumerate(records, start=2):
        try:
            if by_tile:
                row, col = int(record["row"] or ""), int(record["col"] or "")
            else:
                row, col = grid.tile_at(float(record["x"] or ""), float(record["y"] or ""))
            if max(abs(row), abs(col)) >= MOST_ROWS:
                raise ValueError("a row of no grid")
        except (ValueError, OverflowError):
            raise LabelError(f"{name} line {line} names no place; correct or remove it") from None
        words = [(record[n] or "").strip() for n in names]
        unknown = [w for w in words if text.match(w, legend.names) is None]
        if unknown:
            raise LabelError(
                f"{name} line {line} has the label {text.shown(unknown[0])}, which legend "
                f"{legend.name} lacks; {text.near(unknown[0], legend.names)}"
            )
        rows.append(row)
        cols.append(col)
        truth.append([legend.id(w) for w in words])
    table = np.array(truth, np.int64).reshape(len(truth), len(names))
    return np.array(rows, np.int64), np.array(cols, np.int64), table


def split_block(day: DateScores) -> int | None:
    """Side of the blocks that the tile set was split by, tiles; None where it does not say."""
    options = (day.info.get("provenance") or {}).get("options") or {}
    split = options.get("split") if isinstance(options, dict) else None
    if not isinstance(split, dict) or split.get("method") != "block":
        return None
    side = split.get("block")
    return side if isinstance(side, int) and side > 0 else None


def _clusters(
    tiles: DateScores, inside: NDArray[np.bool_], places: Ints, block: int | None
) -> tuple[Ints | None, tuple[str, ...]]:
    """Block ids of the reference tiles, when they were drawn as blocks, and the words for it."""
    if block is None:
        block = BLOCK if in_blocks(tiles.rows, tiles.cols, inside) else 0
    if not block:
        return None, ()
    ids = metrics.block_ids(tiles.rows[places], tiles.cols[places], block)
    n = len(np.unique(ids))
    if n < 2:
        raise InputError(
            f"all reference tiles lie in one block of {block} x {block} tiles, which says nothing "
            "about the spread; use smaller --blocks, or 0 for single tiles"
        )
    note = f"They lie in {n} blocks of {block} x {block} tiles; errors are between blocks."
    few = ("Fewer than 15 blocks: the intervals are rough.",) if n < 15 else ()
    return ids, (note, *few)


def in_blocks(rows: Ints, cols: Ints, inside: NDArray[np.bool_]) -> bool:
    """Whether the marked tiles lie in blocks: far more often side by side than at random."""
    share = inside.mean()
    if inside.sum() < 30 or share > 0.9:
        return False
    together, keys = [], grids.tile_keys(rows, cols)
    for dr, dc in ((0, 1), (1, 0)):
        there = grids.places_of(keys, grids.tile_keys(rows + dr, cols + dc))
        here = np.flatnonzero(there >= 0)
        both = inside[here] & inside[there[here]]
        together.append(both.sum() / max(inside[here].sum(), 1))
    return bool((np.mean(together) - share) / (1 - share) > 0.4)
