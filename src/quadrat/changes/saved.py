"""Read `change.json` back, and check the values that others use."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from quadrat import products, storage
from quadrat.errors import ScoresError

RESULT = products.PRODUCTS["change"].manifest
WORDS = ("dates", "names", "colors", "notes")  # lists of words
WHOLE = ("tiles", "compared_changed", "candidates", "reference_tiles")
REAL = ("tile_ha", "level", "expected_false", "least_probability")


def read_result(uri: str) -> dict[str, Any]:
    """What `change.json` in a folder says; ScoresError when there is none, or it is damaged."""
    place = storage.join(uri, RESULT)
    if not storage.exists(place):
        raise ScoresError(
            f"{storage.redact(uri)} holds no change.json; make it with quadrat change"
        )
    data = storage.read_json(place)
    if not isinstance(data, dict) or "moves" not in data:
        raise ScoresError(f"{storage.redact(place)} is not of quadrat change; run it again")
    try:
        _check(data)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ScoresError(
            f"{storage.redact(place)} is damaged ({type(error).__name__[:-5].lower()} error: "
            f"{error}); run quadrat change again"
        ) from None
    return data


def _check(data: Mapping[str, Any]) -> None:
    """Raise KeyError, TypeError, ValueError or OverflowError where a value is not what it was."""
    for key in WORDS:
        _need(isinstance(data[key], list) and all(isinstance(w, str) for w in data[key]), key)
    for key in WHOLE:
        _need(_is_count(data[key]), key)
    for key in REAL:
        _need(_is_number(data[key]) and data[key] >= 0, key)
    _need(isinstance(data["wanted"], str), "wanted")
    days, k = len(data["dates"]), len(data["names"])
    _need(days >= 2, "dates")
    _need(len(set(data["names"])) == k > 0, "names")
    _need(len(data["colors"]) in (0, k), "colors")
    for key, shape in (("areas", (days, k)), ("net", (k,)), ("changed", (days - 1,))):
        _need(_are_estimates(data[key], shape), key)
    _need(data["matrix"] == [] or _are_estimates(data["matrix"], (k, k)), "matrix")
    _need(isinstance(data["moves"], list), "moves")
    for move in data["moves"]:
        _need(move["from"] in data["names"] and move["to"] in data["names"], "moves")
        _need(_is_count(move["compared"]) and _is_number(move["expected"]["value"]), "moves")
        _need(_are_estimates(move["expected"], ()), "moves")


def _need(right: bool, key: str) -> None:
    if not right:
        raise ValueError(f"{key!r} is not what was written")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _are_estimates(value: Any, shape: tuple[int, ...]) -> bool:
    """Whether nested lists of a shape hold values with intervals, whose ends may be null."""
    if shape:
        return (
            isinstance(value, list)
            and len(value) == shape[0]
            and all(_are_estimates(v, shape[1:]) for v in value)
        )
    return _is_number(value["value"]) and all(
        value[end] is None or _is_number(value[end]) for end in ("low", "high")
    )
