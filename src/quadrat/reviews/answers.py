"""What an interpreter says of a plot: classes and shares by date, change, confidence, a note.

It does not know where answers are kept, nor the page on which they are given.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from quadrat import text
from quadrat.errors import InputError
from quadrat.records import Record
from quadrat.sampling.answers import CHANGES, SETTLED

__all__ = [
    "CHANGES", "CONFIDENCES", "SETTLED", "PlotAnswer", "Seen", "check", "check_name", "from_dict",
    "latest", "now",
]  # fmt: skip
CONFIDENCES = (1, 2, 3)  # low, medium, high
MOST_NOTE = 2000  # characters
MOST_NAME = 60
MOST_SECONDS = 1e6


@dataclass(frozen=True)
class Seen(Record):
    """A plot on one date, as an interpreter saw it.

    Attributes:
        date: ISO date or year, as the sample has it.
        main: the class of the largest share; None where it is not said, or cannot be seen.
        shares: class name -> share, 0 to 1; they sum to 1. None where they were not said.
        observable: whether the ground can be seen at all.
    """

    date: str
    main: str | None = None
    shares: Mapping[str, float] | None = None
    observable: bool = True


@dataclass(frozen=True)
class PlotAnswer(Record):
    """An interpreter's answer for a plot; the one of the latest revision counts.

    Attributes:
        tile: the plot's tile id, as the sample has it.
        seen: one for each date, in the sample's order.
        change: whether the ground changed between the first and the last date: `no`, `yes`,
            `part`; None where there is one date, or one cannot be seen.
        confidence: 1 (low) to 3 (high); None where it is not said.
        seconds: the time that the plot took.
        answered: ISO time, UTC.
        revision: from 1; 0 before the answer is kept.
    """

    plot: int
    tile: str
    interpreter: str
    seen: tuple[Seen, ...]
    change: str | None = None
    confidence: int | None = None
    note: str = ""
    seconds: float = 0.0
    answered: str = ""
    revision: int = 0

    @property
    def withdrawn(self) -> bool:
        """Whether it only takes back an earlier answer."""
        return all(s.observable and s.main is None for s in self.seen)

    @property
    def observable(self) -> bool:
        """Whether the plot can be seen on all dates."""
        return all(s.observable for s in self.seen)

    @property
    def classes(self) -> tuple[str | None, ...]:
        """The main class of each date."""
        return tuple(s.main for s in self.seen)

    def takes_back(self) -> PlotAnswer:
        """The answer that withdraws this one."""
        return replace(
            self, seen=tuple(Seen(s.date) for s in self.seen), change=None, confidence=None,
            note="", seconds=0.0, answered=now(), revision=0,
        )  # fmt: skip


def now() -> str:
    """The time, ISO, UTC, to the millisecond."""
    time = datetime.datetime.now(datetime.UTC)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def check_name(name: str) -> str:
    """An interpreter's name without blanks around it; InputError when it is none."""
    said = " ".join(name.split())
    if not said or len(said) > MOST_NAME or not said.isprintable():
        raise InputError(
            f"{text.shown(name)} is no name of an interpreter; use 1 to {MOST_NAME} letters (--as)"
        )
    return said


def check(answer: PlotAnswer, dates: Sequence[str], classes: Sequence[str]) -> PlotAnswer:
    """The answer, when it is whole and possible.

    Args:
        dates: of the sample, in order. classes: names of its legend.

    Raises:
        InputError: a class, change or confidence that is none; shares that are not shares of the
            plot; an answer that lacks a date.
    """
    name = f"plot {answer.plot}"
    check_name(answer.interpreter)
    if [s.date for s in answer.seen] != list(dates):
        raise InputError(f"{name}: an answer says something of each of {', '.join(dates)}")
    for seen in answer.seen:
        _check_seen(name, seen, classes)
    if not answer.withdrawn and any(s.observable and s.main is None for s in answer.seen):
        raise InputError(f"{name} has a date without a class; give one, or say it cannot be seen")
    if answer.change is not None and answer.change not in CHANGES:
        raise InputError(f"{name}: {text.shown(answer.change)} is none of {', '.join(CHANGES)}")
    if answer.change is not None and (len(dates) < 2 or not answer.observable):
        raise InputError(f"{name}: change needs two dates on which the plot can be seen")
    if answer.confidence is not None and answer.confidence not in CONFIDENCES:
        raise InputError(f"{name}: {text.shown(answer.confidence)} is no confidence from 1 to 3")
    if len(answer.note) > MOST_NOTE:
        raise InputError(f"{name}: the note is longer than {MOST_NOTE:,} characters")
    if not 0 <= answer.seconds <= MOST_SECONDS:
        raise InputError(f"{name}: {text.shown(answer.seconds)} seconds are no time")
    return answer


def _check_seen(name: str, seen: Seen, classes: Sequence[str]) -> None:
    """InputError unless class and shares of a date fit each other and the legend."""
    at = f"{name}, {seen.date}"
    said = [*(seen.shares or ()), *([seen.main] if seen.main is not None else [])]
    unknown = [c for c in said if c not in classes]
    if unknown:
        raise InputError(
            f"{at}: {text.shown(unknown[0])} is no class of the legend; "
            f"{text.near(unknown[0], classes)}"
        )
    if not seen.observable and said:
        raise InputError(f"{at}: a plot that cannot be seen has no class")
    if seen.shares is None:
        return
    values = list(seen.shares.values())
    if not all(0 <= v <= 1 for v in values) or not math.isclose(sum(values), 1, abs_tol=1e-6):
        raise InputError(f"{at}: shares are from 0 to 1 and sum to 1")
    if seen.main is None or seen.shares.get(seen.main, 0) < max(values) - 1e-9:
        raise InputError(f"{at}: the class is not the one of the largest share")


def from_dict(data: Any, interpreter: str) -> PlotAnswer:
    """An answer from plain JSON values, as the page sends it; InputError when it is none."""
    try:
        seen = tuple(_seen(s) for s in data["seen"])
        confidence = data.get("confidence")
        return PlotAnswer(
            plot=_whole(data["plot"]),
            tile=str(data.get("tile", "")),
            interpreter=check_name(interpreter),
            seen=seen,
            change=_word(data.get("change")),
            confidence=None if confidence is None else _whole(confidence),
            note=_word(data.get("note")) or "",
            seconds=float(data.get("seconds") or 0.0),
            answered=_time(data.get("answered")),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"this is no answer for a plot ({type(error).__name__}: {error})"
        ) from None


def _seen(data: Mapping[str, Any]) -> Seen:
    shares = data.get("shares")
    if shares is not None:
        shares = {str(k): round(float(v), 6) for k, v in shares.items() if float(v)}
    observable = data.get("observable", True)
    if not isinstance(observable, bool):
        raise TypeError("observable is yes or no")
    return Seen(str(data["date"]), _word(data.get("main")), shares, observable)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{text.shown(value)} is no whole number")
    return value


def _word(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{text.shown(value)} is no text")
    return value


def _time(value: Any) -> str:
    if value is None:
        return ""
    return datetime.datetime.fromisoformat(str(value)).isoformat().replace("+00:00", "Z")


def latest(answers: Iterable[PlotAnswer]) -> dict[str, dict[int, PlotAnswer]]:
    """Interpreter -> plot -> the answer that counts; what was withdrawn is left out.

    Args:
        answers: in any order.
    """
    found: dict[str, dict[int, PlotAnswer]] = {}
    for answer in sorted(answers, key=lambda a: a.revision):
        found.setdefault(answer.interpreter, {})[answer.plot] = answer
    return {
        name: {plot: a for plot, a in mine.items() if not a.withdrawn}
        for name, mine in found.items()
    }
