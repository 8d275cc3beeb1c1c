"""Strata: groups of tiles that are sampled at rates of their own.

A row of `RULES` is a way to group tiles; several at once are crossed. Omission strata hold the
tiles where a map of change is likeliest to miss some: those that look most like it among the tiles
that are not mapped as changed, and those beside changed ones (Olofsson et al. 2020, Remote Sensing
of Environment 236). They go by rank, since small probabilities tell which tiles hide change better
than how much.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quadrat import choices, text, vectors
from quadrat.errors import InputError
from quadrat.sampling.frame import SamplingFrame, change_probability, suspicion, wanted_moves

Ints = NDArray[np.int64]

CERTAIN, UNSURE = 0.9, 0.7  # probabilities of the mapped class
CHANGED = 0.5  # probability of change
LIKELIEST = (0.01, 0.03, 0.07, 0.15, 0.3)  # parts of all tiles down to which omission strata go
MOST = 200  # strata; more are a mistake, as a region file with a field of numbers
OUTSIDE = "elsewhere"


@dataclass(frozen=True)
class Strata:
    """Groups that every tile is in one of.

    Attributes:
        of: (N,) the stratum of each tile, from 0.
        names: what each is called; they tell what the map says, so that interpreters do not see
            them.
        rules: how each was made, in words.
        sizes: (H,) tiles in each, none of them empty.
    """

    of: Ints
    names: tuple[str, ...]
    rules: tuple[str, ...]

    @property
    def sizes(self) -> Ints:
        """Tiles in each stratum, (H,)."""
        return np.bincount(self.of, minlength=len(self.names)).astype(np.int64)

    @property
    def codes(self) -> tuple[str, ...]:
        """Names that tell nothing of the map: `S1`, `S2`, ..."""
        return tuple(f"S{i + 1}" for i in range(len(self.names)))


@dataclass(frozen=True)
class StrataOptions:
    """How tiles are grouped.

    Attributes:
        by: names of `choices.STRATA`, crossed in this order.
        regions: a file of polygons, for `region`; `field` names the regions.
        omission: whether unchanged tiles are parted by how likely they hide change.
        from_classes, to_classes: the changes that are meant; all when empty.
    """

    by: tuple[str, ...] = ()
    regions: str | None = None
    field: str | None = None
    omission: bool = True
    from_classes: tuple[str, ...] = ()
    to_classes: tuple[str, ...] = ()


def stratify(frame: SamplingFrame, options: StrataOptions) -> Strata:
    """Group the tiles of a frame; strata that hold none are left out.

    Raises:
        InputError: strata of change in a frame of one date, or no region file.
    """
    if not options.by:
        return Strata(np.zeros(len(frame), np.int64), ("all",), ("all tiles",))
    of, names, rules = np.zeros(len(frame), np.int64), [""], [""]
    for by in options.by:
        choices.check("stratification", by, tuple(RULES), InputError)
        mine = RULES[by](frame, options)
        of = of * len(mine.names) + mine.of
        names = [f"{a}, {b}" if a else b for a in names for b in mine.names]
        rules = [f"{a}; {b}" if a else b for a in rules for b in mine.rules]
    used, of = np.unique(of, return_inverse=True)
    if len(used) > MOST:
        raise InputError(
            f"{len(used)} strata; use at most {MOST}: fewer --strata, or a region file with fewer "
            "regions"
        )
    return Strata(
        of.reshape(-1).astype(np.int64), tuple(names[i] for i in used),
        tuple(rules[i] for i in used),
    )  # fmt: skip


def by_class(frame: SamplingFrame, _: StrataOptions) -> Strata:
    """The class of the (last) map."""
    names = frame.legend.names
    rules = tuple(f"mapped as {n}, {frame.dates[-1]}" for n in names)
    return Strata(frame.mapped[:, -1], names, rules)


def by_certainty(frame: SamplingFrame, _: StrataOptions) -> Strata:
    """How sure the map is of its class."""
    p = frame.shares.max(1)
    of = np.select([p >= CERTAIN, p >= UNSURE], [0, 1], 2).astype(np.int64)
    what = "share" if frame.has_shares else "probability"
    rules = (
        f"largest {what} from {CERTAIN:g}",
        f"largest {what} from {UNSURE:g} to {CERTAIN:g}",
        f"largest {what} below {UNSURE:g}",
    )
    return Strata(of, ("certain", "less certain", "unsure"), rules)


def by_change(frame: SamplingFrame, options: StrataOptions) -> Strata:
    """Changed, likely to hide change (omission strata), unchanged."""
    asked = wanted_moves(frame, options.from_classes, options.to_classes)
    p = change_probability(frame, asked)
    changed = p >= CHANGED
    rules = [f"probability of change from {CHANGED:g}"]
    if not options.omission:
        return Strata(
            np.where(changed, 0, 1), ("changed", "unchanged"), (*rules, f"below {CHANGED:g}")
        )
    rank = suspicion(frame, asked)
    inside = [~changed & (rank >= 1 - part) for part in LIKELIEST]
    inside[-1] |= frame.beside(changed)
    of = np.select([changed, *inside], range(len(inside) + 1), len(inside) + 1).astype(np.int64)
    names = [f"omission, likeliest {part:.0%}" for part in LIKELIEST]
    rules += [f"among the likeliest {part:.0%} of all tiles, probability of change below "
              f"{CHANGED:g}" for part in LIKELIEST]  # fmt: skip
    rules[-1] += ", or beside a changed tile"
    rules.append("all others")
    return Strata(of, ("changed", *names, "unchanged"), tuple(rules))


def by_transition(frame: SamplingFrame, _: StrataOptions) -> Strata:
    """The classes of the first and the last date."""
    if frame.mapped.shape[1] < 2:
        raise InputError("--strata transition needs a folder of quadrat change; use --strata class")
    k, names = len(frame.legend), frame.legend.names
    pairs = [f"{a} to {b}" if a != b else f"{a}, stable" for a in names for b in names]
    return Strata(frame.mapped[:, 0] * k + frame.mapped[:, -1], tuple(pairs), tuple(pairs))


def by_region(frame: SamplingFrame, options: StrataOptions) -> Strata:
    """The polygon that a tile's centre lies in."""
    if options.regions is None:
        raise InputError("--strata region needs --regions FILE with polygons")
    import shapely

    field = options.field
    wanted = [] if field is None else [field]
    shapes, fields = vectors.read_polygons(options.regions, frame.grid.crs, wanted)
    labels = [str(v) for v in fields[field]] if field else [f"{i + 1}" for i in range(len(shapes))]
    points = shapely.points(*frame.grid.centres(frame.rows, frame.cols))
    shape, tile = shapely.STRtree(points).query(shapes, predicate="covers")
    names = list(dict.fromkeys(labels))
    of = np.full(len(frame), len(names), np.int64)
    # a centre on the border of two regions belongs to the first
    for i in np.argsort(-shape, kind="stable"):
        of[tile[i]] = names.index(labels[shape[i]])
    if (of == len(names)).all():
        raise InputError(
            f"no tile lies in a polygon of {text.shown(options.regions)}; check that it is of the "
            "same place"
        )
    said = tuple(f"region {n}" for n in names)
    return Strata(of, (*names, OUTSIDE), (*said, "in no region"))


# `--strata` -> how the tiles are grouped; the names are `choices.STRATA`.
RULES: dict[str, Callable[[SamplingFrame, StrataOptions], Strata]] = {
    "class": by_class,
    "certainty": by_certainty,
    "change": by_change,
    "transition": by_transition,
    "region": by_region,
}


def usual(frame: SamplingFrame) -> Sequence[str]:
    """What tiles are grouped by where nothing is said."""
    return ("change",) if frame.moves is not None else ("class",)
