"""Core-hours, before anything starts; money only by a price that the user gives with its origin.

This program knows no prices: they differ by region, day and contract. `--price` takes one, with the
day and the source that it is of; these stand beside every sum.
"""

from __future__ import annotations

import datetime
import re
from typing import Any

from operate.steps import ClusterError, State, say

LOCAL_SHARE = 0.8  # of one core's own rate that Spark is held to (see docs/cluster.md)


def price(text: str | None, date: str | None, source: str | None) -> dict[str, Any] | None:
    """A price of one core-hour: "0.0125 USD", of a day, from somewhere; None when none is given."""
    if not (text or date or source):
        return None
    if not (text and date and source):
        raise ClusterError("a price needs --price, --price-date and --price-source together")
    if not (found := re.fullmatch(r"(\d+(?:\.\d+)?) ([A-Z]{3})", text)):
        raise ClusterError(f'--price "{text}" is no price; say "0.0125 USD" (of one core-hour)')
    try:
        day = datetime.date.fromisoformat(date)
    except ValueError:
        raise ClusterError(f"--price-date {date} is no date; say 2026-01-31") from None
    return {
        "amount": float(found[1]), "currency": found[2], "date": day.isoformat(), "source": source,
    }  # fmt: skip


def tell(state: State, what: str, cores: int, hours: float | None = None, gpus: int = 0) -> None:
    """One line: what is about to run, what it takes, and what that costs where a price is given."""
    total = cores if hours is None else cores * hours
    unit = "core-hours an hour" if hours is None else "core-hours"
    more = ""
    if gpus:
        more = f" and {gpus} GPU-hours" + (" an hour" if hours is None else "")
    line = f"cost: {what}: {total:.3g} {unit}{more}"
    known = state.values.get("price")
    if known and not gpus:
        line += (
            f", {total * known['amount']:.2f} {known['currency']}"
            f"{' an hour' if hours is None else ''} at {known['amount']} {known['currency']} a "
            f"core-hour ({state.values.get('region', 'your cluster')}, {known['date']}, "
            f"{known['source']})"
        )
    elif not known:
        line += "; no price is known here: see --price"
    say(line)


def core_hours(tiles: int, rate: float) -> float:
    """Of scoring so many tiles, at tiles a second on one core."""
    return tiles / (rate * LOCAL_SHARE * 3600)
