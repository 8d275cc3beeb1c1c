"""Strata of a table of plots that were drawn with inclusion probabilities of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from quadrat import text
from quadrat.errors import LabelError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FAR = 0.25  # how far the strata's tiles may be from the map's


def strata(
    name: str, header: Sequence[str], records: Sequence[Mapping[str, str | None]], tiles: int
) -> tuple[Ints, Floats] | None:
    """The stratum of each plot, (n,), and tiles of each, (H,); None where the table says neither.

    Plots of one inclusion probability are one stratum where strata are not named.

    Raises:
        LabelError: a probability or size that is none, or sizes that are not those of the map.
    """
    named, sized, chance = (c in header for c in ("stratum", "stratum_size", "probability"))
    if not chance and not (named and sized):
        return None
    column = "stratum_size" if named and sized else "probability"
    values = np.array([_number(name, i, column, r) for i, r in enumerate(records, start=2)])
    keys = [str(r["stratum"]) if named else f"{v:.12g}"
            for r, v in zip(records, values, strict=True)]  # fmt: skip
    names, stratum = np.unique(keys, return_inverse=True)
    stratum = stratum.reshape(-1).astype(np.int64)
    counts = np.bincount(stratum, minlength=len(names))
    mean = np.bincount(stratum, weights=values, minlength=len(names)) / counts
    if np.abs(values - mean[stratum]).max() > 1e-6 * np.abs(values).max():
        raise LabelError(f"{name} has a stratum of two values of {column}; each has one")
    sizes = mean if column == "stratum_size" else counts / mean
    if abs(sizes.sum() / tiles - 1) > FAR:
        raise LabelError(
            f"{name}: the strata have {sizes.sum():,.0f} tiles by {column}, the map {tiles:,}; "
            "check that probabilities are plots over tiles"
        )
    if (counts < 2).any():
        lone = names[int(np.argmax(counts < 2))]
        raise LabelError(
            f"{name} has one plot in stratum {text.shown(str(lone))}; a variance needs two: join "
            "it with another"
        )
    return stratum, np.maximum(sizes, counts)


def _number(name: str, line: int, column: str, record: Mapping[str, str | None]) -> float:
    said = (record.get(column) or "").strip()
    try:
        value = float(said)
    except ValueError:
        value = -1.0
    if not (0 < value <= 1 or (column == "stratum_size" and value >= 1)):
        raise LabelError(f"{name} line {line}: {text.shown(said)} is no {column}; correct it")
    return value
