"""Acquisition dates: one parser, one form (`YYYY-MM-DD`, or `YYYY`) and one order.

Years, months and days stand in this order; other orders are ambiguous and are not read.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Sequence

from quadrat.errors import InputError

FIRST, LAST = 1839, 2100  # years: photography began in the first
_TIME = r"(?:[T ]\s*\d[\d:.,]*\s*(?:Z|UTC|[+-]\d\d:?\d\d)?)?"
_DAY = re.compile(rf"(\d{{4}})(?:([-/:.])(\d{{1,2}})\2(\d{{1,2}})|(\d\d)(\d\d)){_TIME}", re.ASCII)
_YEAR = re.compile(r"\d{4}", re.ASCII)
_TO = " to "


def find(text: str) -> str | None:
    """The date that a text is, a time of day after it left out; None when it is none."""
    text = text.strip()
    if _YEAR.fullmatch(text):
        return text if FIRST <= int(text) <= LAST else None
    match = _DAY.fullmatch(text)
    if match is None:
        return None
    year, month, day = (int(g) for g in (match[1], match[3] or match[5], match[4] or match[6]))
    try:
        found = datetime.date(year, month, day)
    except ValueError:
        return None
    return found.isoformat() if FIRST <= year <= LAST else None


def parse(text: str, what: str = "--date") -> str:
    """A date that a user gives, in the one form; InputError when it is none."""
    found = find(text)
    if found is None:
        raise InputError(f"{what} {text!r} is no date; give YYYY-MM-DD or YYYY")
    return found


def period(days: Iterable[str]) -> str:
    """What dates are called together: the one there is, or `first to last`; "" for none."""
    ordered = sorted(set(days))
    return _TO.join(dict.fromkeys((ordered[0], ordered[-1]))) if ordered else ""


def span(text: str) -> tuple[str, str] | None:
    """First and last day of a date, a year or a period; None when the text is none of these."""
    first, _, last = text.partition(_TO)
    a, b = find(first), find(last or first)
    if a is None or b is None:
        return None
    return (f"{a}-01-01" if len(a) == 4 else a), (f"{b}-12-31" if len(b) == 4 else b)


def differ(a: str, b: str) -> bool:
    """Whether two dates are known to have no day in common."""
    one, two = span(a), span(b)
    return one is not None and two is not None and (one[1] < two[0] or two[1] < one[0])


def check_order(named: Sequence[tuple[str, str]]) -> None:
    """InputError where a date is known to be earlier than one before it.

    Args:
        named: what each date is called by the user, and the date.
    """
    for n, (name, text) in enumerate(named):
        here = span(text)
        for earlier, other in named[:n]:
            there = span(other)
            if here is not None and there is not None and here[1] < there[0]:
                raise InputError(
                    f"{name} ({text}) is earlier than {earlier} ({other}), which is named before "
                    "it; name the earliest date first"
                )
