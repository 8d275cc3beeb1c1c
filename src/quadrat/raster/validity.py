"""Which pixels are missing: one rule for alpha bands, masks, nodata values, NaN and absent blocks.

A pixel is missing where the alpha band is 0, where the file's mask says so, where all three colour
bands hold their nodata value, where one of them is not finite, or where the file stores nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from quadrat import storage
from quadrat.errors import RasterError
from quadrat.raster import view
from quadrat.raster.view import Rect

HUGE = 1e38  # no sensor measures such values: in float files they stand for no data
SAMPLE = 128  # pixels along a side of what is looked at of an alpha band
BETWEEN = 0.05  # a larger share of values neither 0 nor full is no plain alpha band
LEAST_ZEROS = 16

Three = tuple[int, int, int]


@dataclass(frozen=True)
class ValidityRule:
    """How missing pixels are recognised in one open file.

    Attributes:
        alpha: the band whose zeros are missing.
        mask: whether the file has a mask beside its bands.
        nodata: the values of the three colour bands that together mean no data, in the file's own
            type; None when no pixel can hold them or none was declared.
        held: the rectangles of pixels that the file stores; None when it stores all.
    """

    alpha: int | None = None
    mask: bool = False
    nodata: tuple[float, float, float] | None = None
    held: tuple[Rect, ...] | None = None


class _Facts(Protocol):
    """What is checked of a file (see `files.RasterInfo`)."""

    @property
    def uri(self) -> str: ...
    @property
    def count(self) -> int: ...
    @property
    def dtype(self) -> str: ...
    @property
    def alpha(self) -> int | None: ...


def check(facts: _Facts, bands: Three, nodata: float | None, alpha: int | None) -> None:
    """RasterError where the options cannot hold for a file.

    Args:
        nodata, alpha: as the user gave them; None for the file's own.
    """
    name = storage.redact(facts.uri)
    if nodata is not None and exact(nodata, facts.dtype) is None:
        raise RasterError(
            f"--nodata {nodata:g}: {name} has no such value, no pixel of type {facts.dtype} can be "
            f"{nodata:g}; give a value that it can hold"
        )
    if alpha is not None and not 0 <= alpha <= facts.count:
        raise RasterError(f"--alpha {alpha}: {name} has {facts.count} bands; name one, or none")
    masked = facts.alpha if alpha is None else alpha
    if masked and masked in bands:
        raise RasterError(
            f"band {masked} of {name} is alpha, which tells where pixels are missing; choose other "
            "--bands, or give --alpha none"
        )


def exact(value: float | None, dtype: str) -> float | None:
    """A nodata value as pixels of `dtype` hold it; None when none can."""
    if value is None:
        return None
    kind = np.dtype(dtype)
    if np.issubdtype(kind, np.integer):
        limits = np.iinfo(kind)
        fits = math.isfinite(value) and value == int(value) and limits.min <= value <= limits.max
        return float(value) if fits else None
    limit = float(np.finfo(kind).max)
    return value if math.isnan(value) else float(kind.type(min(max(value, -limit), limit)))


def find_alpha(data: Any) -> int | None:
    """The first band that is declared as alpha and is one."""
    from rasterio.enums import ColorInterp

    named = [n for n, c in enumerate(data.colorinterp, 1) if c == ColorInterp.alpha]
    return next((n for n in named if _is_alpha(data, n)), None)


def _is_alpha(data: Any, band: int) -> bool:
    """Whether a band that is declared as alpha is one: near-infrared often is so declared.

    Alpha is 0 or full almost everywhere; soft alpha is 0 only where the colours are all the same.
    """
    from rasterio.errors import RasterioError

    others = [n for n in data.indexes if n != band][:3]
    try:
        sample = _sample(data, [band, *others])
    except RasterioError:
        return True
    alpha, colours = sample[0], sample[1:]
    top = np.iinfo(alpha.dtype).max if np.issubdtype(alpha.dtype, np.integer) else 1.0
    if ((alpha != 0) & (alpha != top)).mean() < BETWEEN:
        return True
    unseen = colours[:, alpha == 0]
    return unseen.shape[1] >= LEAST_ZEROS and bool((unseen == unseen[:, :1]).all())


def _sample(data: Any, bands: Sequence[int]) -> NDArray[Any]:
    """Pixels from all over a file, (B, N), without decoding all of it."""
    height, width = data.height, data.width
    if data.overviews(1) or height * width <= SAMPLE * SAMPLE * 16:
        shape = (len(bands), min(SAMPLE, height), min(SAMPLE, width))
        whole: NDArray[Any] = data.read(bands, out_shape=shape)
        return whole.reshape(len(bands), -1)
    side, steps = 16, SAMPLE // 16
    parts = [
        data.read(bands, window=((r, r + side), (c, c + side))).reshape(len(bands), -1)
        for r in np.linspace(0, max(0, height - side), steps).astype(int).tolist()
        for c in np.linspace(0, max(0, width - side), steps).astype(int).tolist()
    ]
    return np.concatenate(parts, axis=1)


def rule(data: Any, bands: Three, nodata: float | None, alpha: int | None) -> ValidityRule:
    """The rule of an open file.

    Args:
        data: an open rasterio dataset.
        bands: its red, green and blue band.
        nodata: replaces the values that the file declares, when not None.
        alpha: the band that is alpha; None or 0 when there is none.
    """
    from rasterio.enums import MaskFlags

    flags = data.mask_flag_enums[bands[0] - 1]
    # with an alpha band alone, GDAL makes a mask of it
    mask = MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags
    # a mask replaces declared values, as in GDAL; that of a mosaic tells only where its files lie
    declared = nodata is not None or not mask or data.driver == "VRT"
    values = _nodata(data, bands, nodata) if declared else None
    told = bool(alpha) or mask or values is not None
    return ValidityRule(alpha or None, mask, values, None if told else view.held(data, bands))


def _nodata(data: Any, bands: Three, nodata: float | None) -> tuple[float, float, float] | None:
    """Nodata of the three bands; a band that declares none has the others' value."""
    declared = [nodata if nodata is not None else data.nodatavals[b - 1] for b in bands]
    first = next((v for v in declared if v is not None), None)
    values = [
        exact(first if v is None else v, data.dtypes[b - 1])
        for v, b in zip(declared, bands, strict=True)
    ]
    if any(v is None or math.isnan(v) for v in values):
        return None  # NaN is missing anyway
    r, g, b = (float(v) for v in values if v is not None)
    return r, g, b


def as_view(data: Any, bands: Three, how: ValidityRule) -> str:
    """VRT text of three bands in order, with a mask band where missing pixels are told by one."""
    mask: list[str] | None = None
    if how.alpha:
        both = view.NOT_ZERO + (view.MASKED if how.mask else "")
        mask = [view.source(data.name, str(how.alpha), how=both)]
    elif how.mask:
        mask = [view.source(data.name, "mask,1")]
    elif how.held is not None:
        mask = [view.source(data.name, "1", src=r, dst=r, how=view.ALL) for r in how.held]
    return view.dataset(data, bands, mask)


def warp_nodata(how: ValidityRule, dtype: str, name: str) -> float | None:
    """The one value that GDAL's warper is to leave out: nodata, or NaN for float files.

    Raises:
        RasterError: the bands have different ones.
    """
    if how.nodata is None:
        return math.nan if np.issubdtype(np.dtype(dtype), np.floating) else None
    if len(set(how.nodata)) > 1:
        raise RasterError(
            f"{storage.redact(name)} declares another nodata value for each band; "
            "give one with --nodata"
        )
    return how.nodata[0]


def valid(
    pixels: NDArray[Any], mask: NDArray[Any] | None, nodata: tuple[float, float, float] | None
) -> NDArray[np.bool_] | None:
    """Which pixels are there, (H, W) bool; None when all are.

    Args:
        pixels: (3, H, W), as they are stored.
        mask: (H, W), 0 where a pixel is missing.
    """
    result: NDArray[np.bool_] | None = None
    if mask is not None:
        result = mask > 0
    if nodata is not None:
        values = np.asarray(nodata).astype(pixels.dtype)
        differs = pixels[0] != values[0]
        if not differs.all():
            differs |= pixels[1] != values[1]
            differs |= pixels[2] != values[2]
        result = differs if result is None else result & differs
    if np.issubdtype(pixels.dtype, np.floating):
        with np.errstate(invalid="ignore"):
            finite = (np.abs(pixels) < HUGE).all(axis=0)
        result = finite if result is None else result & finite
    return None if result is None or result.all() else result
