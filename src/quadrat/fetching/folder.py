"""The folder that fetched rasters lie in: one place, its outline, and `fetch.json`."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from typing import Any

from quadrat import storage
from quadrat.errors import InputError, StorageError
from quadrat.fetching import record
from quadrat.fetching.places import Place, write_outline


def check_place(out: str, place: Place) -> None:
    """Refuse a folder that holds rasters of another place.

    Raises:
        InputError: it does.
    """
    known = _summary(out).get("place")
    if isinstance(known, dict) and known.get("outline") != _digest(place):
        raise InputError(
            f"{out} holds rasters of {known.get('name')}, not of {place.name}; choose another --out"
        )


def sweep(out: str) -> None:
    """Remove what killed runs left half-written; only for who holds the folder's lock."""
    for name in ("", *storage.list_names(out)):
        if re.fullmatch(r"|[12]\d{3}", name):
            storage.sweep(storage.join(out, name))


def write_summary(out: str, place: Place, part: str, facts: Mapping[str, Any]) -> None:
    """Write the outline and bring `fetch.json` up to date.

    Args:
        part: "naip" or "nlcd".
        facts: its facts; its "years" and "files" are added to those that are there.
    """
    write_outline(storage.join(out, record.OUTLINE), place)
    known = _summary(out)
    before: dict[str, Any] = known[part] if isinstance(known.get(part), dict) else {}
    mine = {k: v for k, v in facts.items() if k != "files"}
    mine["years"] = dict(sorted(({**before.get("years", {}), **facts["years"]}).items()))
    storage.write_json(
        storage.join(out, record.SUMMARY),
        {
            "quadrat": record.FORMAT,
            "place": {
                "name": place.name,
                "source": place.source,
                "area_km2": round(place.area_km2, 3),
                "bounds": [round(v, 7) for v in place.bounds],
                "outline": _digest(place),
            },
            **{k: known[k] for k in ("naip", "nlcd") if k in known},
            part: mine,
            "files": dict(sorted({**known.get("files", {}), **facts["files"]}.items())),
            "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        },
    )


def _summary(out: str) -> dict[str, Any]:
    uri = storage.join(out, record.SUMMARY)
    if not storage.exists(uri):
        return {}
    summary = storage.read_json(uri)
    if not isinstance(summary, dict):
        raise StorageError(f"{storage.redact(uri)} is no record of a fetch; remove it")
    return summary


def _digest(place: Place) -> str:
    return storage.digest_json(place.to_geojson()["features"][0]["geometry"])[:16]
