"""The smallest set of images that covers a place. Geometry only; knows no catalogue.

The footprints cut the place into cells, and an image is the set of cells that it covers: a minimum
set cover, solved exactly as an integer programme (HiGHS, through SciPy).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SLIVER_M2 = 1000.0  # a gap or an overlap under a tenth of a hectare is none
MOST_S = 60.0  # of the search for the smallest set, before the best so far is taken


@dataclass(frozen=True)
class Cover:
    """The images that were chosen.

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
    cells, holders = _cells(shares, sliver_m2)
    chosen, smallest = solve(cells, holders)
    # slivers are in no cell: an image is added where many of them add up to a gap
    gap = everything.difference(shapely.union_all([shares[i] for i in chosen]))
    while gap.area > sliver_m2:
        best = max(shares, key=lambda i: (shares[i].intersection(gap).area, -i))
        if shares[best].intersection(gap).area <= sliver_m2:
            break
        chosen.append(best)
        gap = gap.difference(shares[best])
    return Cover(tuple(sorted(chosen)), place.difference(everything), smallest)


def _cells(shares: dict[int, Any], sliver_m2: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every pair of a cell and an image that covers it: their numbers, (N,) each."""
    import shapely

    edges = shapely.union_all([c.boundary for c in shares.values()])
    faces = shapely.get_parts(shapely.polygonize([edges]))
    points = shapely.point_on_surface(faces[shapely.area(faces) > sliver_m2])
    cells, images = shapely.STRtree(list(shares.values())).query(points, predicate="within")
    return cells, np.array(list(shares))[images]


def solve(cells: NDArray[np.int64], sets: NDArray[np.int64]) -> tuple[list[int], bool]:
    """The fewest sets that hold every cell, and whether that is proved.

    Of several such choices the one whose numbers have the smallest sum is taken.

    Args:
        cells, sets: pairs of a cell and a set that holds it, (N,) each.
    """
    from scipy import optimize, sparse

    numbers, column = np.unique(sets, return_inverse=True)
    row = np.unique(cells, return_inverse=True)[1]
    holds, one = sparse.csr_array((np.ones(len(row)), (row, column))), np.ones(len(numbers))
    limits = [optimize.LinearConstraint(holds, lb=1)]
    chosen, proved = one > 0, True
    for cost in (one, numbers):
        solution = optimize.milp(
            cost, integrality=one, bounds=optimize.Bounds(0, 1), constraints=limits,
            options={"time_limit": MOST_S, "mip_rel_gap": 0},
        )  # fmt: skip
        if solution.x is not None:
            chosen = solution.x > 0.5
        proved = proved and solution.status == 0
        limits.append(optimize.LinearConstraint(one[None], ub=chosen.sum()))
    return numbers[chosen].tolist(), proved
