"""The smallest set of images that covers a place. Geometry and bits only; knows no catalogue.

The footprints cut the place into cells; an image is the set of cells that it covers, and the task
is a minimum set cover. Two exact reductions settle almost all of it, since most of a county lies in
one quarter-quad only: an image that alone covers a cell is taken; an image whose cells another
covers too is dropped. What is left falls into small groups that share no cell; each is searched
exhaustively with a bound, from the greedy cover (Chvátal 1979), pruned, as the first answer. If
that takes too long, the best so far is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SLIVER_M2 = 1000.0  # a gap or an overlap under a tenth of a hectare is none
STEPS = 20_000  # of the search for the smallest set, before the best so far is taken


@dataclass(frozen=True)
class Cover:
    """A choice of images.

    Attributes:
        chosen: their numbers, ascending.
        missing: the part of the place that no image covers (shapely geometry).
        smallest: whether no smaller set covers as much; False when the search was cut short.
    """

    chosen: tuple[int, ...]
    missing: Any
    smallest: bool


def cover(place: Any, footprints: Sequence[Any], *, sliver_m2: float = SLIVER_M2) -> Cover:
    """The fewest footprints that cover as much of the place as all of them do.

    Args:
        place, footprints: shapely polygons in one projected CRS, metres.
        footprints: the better ones first: of two sets of one size, earlier numbers are preferred.
    """
    import shapely

    clipped = shapely.intersection(place, list(footprints)) if len(footprints) else []
    shares = {i: c for i, c in enumerate(clipped) if c.area > sliver_m2}
    if not shares:
        return Cover((), place, True)
    everything = shapely.union_all(list(shares.values()))
    masks, count = _cells(shares, sliver_m2)
    chosen, smallest = solve(masks, (1 << count) - 1)
    # slivers are in no cell: an image is added where many of them add up to a gap
    gap = everything.difference(shapely.union_all([shares[i] for i in chosen]))
    while gap.area > sliver_m2:
        best = max(shares, key=lambda i: (shares[i].intersection(gap).area, -i))
        if shares[best].intersection(gap).area <= sliver_m2:
            break
        chosen.append(best)
        gap = gap.difference(shares[best])
    return Cover(tuple(sorted(chosen)), place.difference(everything), smallest)


def _cells(shares: dict[int, Any], sliver_m2: float) -> tuple[dict[int, int], int]:
    """Each image's cells as bits of a number, and the number of cells."""
    import shapely

    edges = shapely.union_all([c.boundary for c in shares.values()])
    faces = shapely.get_parts(shapely.polygonize([edges]))
    points = shapely.point_on_surface(faces[shapely.area(faces) > sliver_m2])
    numbers = list(shares)
    inside, image = shapely.STRtree(list(shares.values())).query(points, predicate="within")
    masks: dict[int, int] = dict.fromkeys(numbers, 0)
    covered = {int(cell): bit for bit, cell in enumerate(sorted(set(inside.tolist())))}
    for cell, n in zip(inside.tolist(), image.tolist(), strict=True):
        masks[numbers[n]] |= 1 << covered[cell]
    return masks, len(covered)


def solve(masks: dict[int, int], universe: int) -> tuple[list[int], bool]:
    """The fewest sets whose union is the universe, and whether that is proved.

    Args:
        masks: each set as the bits of a number, by its own number; lower numbers are preferred.
        universe: the bits to cover; every one must be in some set.
    """
    chosen: list[int] = []
    left, todo = dict(masks), universe
    while True:
        left = _undominated({i: m & todo for i, m in left.items()})
        alone = _essential(left, todo)
        if not alone:
            break
        chosen += sorted(alone)
        for i in alone:
            todo &= ~left.pop(i)
    proved = True
    for part, bits in _components(left, todo):
        best, exact = _search(part, bits)
        chosen += best
        proved = proved and exact
    return sorted(chosen), proved


def _undominated(masks: dict[int, int]) -> dict[int, int]:
    """Without the sets that are part of another; of equal ones the first stays."""
    by_size = sorted(masks, key=lambda i: (-masks[i].bit_count(), i))
    owners: dict[int, list[int]] = {}  # lowest bit of kept sets' cells -> kept sets holding it
    kept: dict[int, int] = {}
    for i in by_size:
        mask = masks[i]
        low = mask & -mask
        if not mask or any(mask & ~kept[k] == 0 for k in owners.get(low, ())):
            continue
        kept[i] = mask
        for bit in _bits(mask):
            owners.setdefault(bit, []).append(i)
    return dict(sorted(kept.items()))


def _essential(masks: dict[int, int], todo: int) -> set[int]:
    """The sets that alone hold some cell."""
    once, more = 0, 0
    for mask in masks.values():
        more |= once & mask
        once |= mask
    single = once & ~more & todo
    return {i for i, mask in masks.items() if mask & single}


def _components(masks: dict[int, int], todo: int) -> list[tuple[dict[int, int], int]]:
    """Groups of sets that share no cell with each other: each is a problem of its own."""
    groups: list[tuple[dict[int, int], int]] = []
    for i, mask in masks.items():
        joined, bits = {i: mask}, mask
        apart = []
        for group, group_bits in groups:
            if group_bits & mask:
                joined, bits = {**group, **joined}, bits | group_bits
            else:
                apart.append((group, group_bits))
        groups = [*apart, (joined, bits)]
    return [(dict(sorted(g.items())), b & todo) for g, b in groups if b & todo]


def greedy(masks: dict[int, int], universe: int) -> list[int]:
    """A cover by always taking the set that adds most, then without those that add nothing."""
    chosen: list[int] = []
    todo = universe
    while todo:
        best = max(masks, key=lambda i: ((masks[i] & todo).bit_count(), -i))
        if not masks[best] & todo:
            break
        chosen.append(best)
        todo &= ~masks[best]
    for i in sorted(chosen, key=lambda i: (masks[i].bit_count(), -i)):
        others = 0
        for k in chosen:
            others |= masks[k] if k != i else 0
        if universe & ~others == 0:
            chosen.remove(i)
    return sorted(chosen)


def _search(masks: dict[int, int], universe: int) -> tuple[list[int], bool]:
    """Branch and bound from the greedy cover: branches on the cell that the fewest sets hold."""
    best = greedy(masks, universe)
    most = max(m.bit_count() for m in masks.values())
    holders = {bit: [i for i, m in masks.items() if m & bit] for bit in _bits(universe)}
    cells = sorted(holders, key=lambda b: len(holders[b]))
    steps = 0

    def visit(todo: int, taken: list[int]) -> None:
        nonlocal best, steps
        if not todo:
            best = sorted(taken)
            return
        steps += 1
        if steps > STEPS or len(taken) + -(-todo.bit_count() // most) >= len(best):
            return
        cell = next(b for b in cells if b & todo)
        for i in sorted(holders[cell], key=lambda i: (-(masks[i] & todo).bit_count(), i)):
            visit(todo & ~masks[i], [*taken, i])

    visit(universe, [])
    return best, steps <= STEPS


def _bits(mask: int) -> list[int]:
    bits = []
    while mask:
        low = mask & -mask
        bits.append(low)
        mask ^= low
    return bits
