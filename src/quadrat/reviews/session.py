"""One interpreter at work on one list of plots: what the page is told, and what it sends.

The page is told nothing of strata, and of the map only with `show_map`. It does not know HTTP.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from quadrat.errors import InputError
from quadrat.reviews import answers as said
from quadrat.reviews import order, store
from quadrat.reviews.answers import SETTLED, PlotAnswer
from quadrat.reviews.order import Answered
from quadrat.reviews.plots import PlotList
from quadrat.reviews.store import AnswerLog, Store

Values = dict[str, Any]  # plain JSON values


@dataclass(frozen=True)
class ReviewSession:
    """An interpreter, the plots, and the file of answers.

    Attributes:
        mapped: plot -> the map's class on each date, to be shown; empty for a blind review.
        context: tiles along a picture.
        shares: whether shares by tenths are asked for, or the main class alone.
    """

    listed: PlotList
    kept: Store
    interpreter: str
    mapped: Mapping[int, tuple[str, ...]]
    context: int
    shares: bool = True

    @property
    def settles(self) -> bool:
        """Whether it settles what interpreters disagree on."""
        return self.interpreter == SETTLED

    def answered(self) -> Answered:
        """What counts now, of all interpreters."""
        return said.latest(self.log.read())

    @cached_property
    def log(self) -> AnswerLog:
        """The file's answers, each read once."""
        return AnswerLog(self.kept)

    def describe(self) -> Values:
        """What the page needs once: dates, classes, size of the ground shown, and the state."""
        legend, grid = self.listed.legend, self.listed.grid
        return {
            "interpreter": self.interpreter,
            "settles": self.settles,
            "dates": list(self.listed.dates),
            "classes": [{"name": c.name, "color": c.color} for c in legend.classes],
            "context": self.context,
            "shares": self.shares,
            "tile_m": grid.tile_m,
            **self.state(),
        }

    def state(self) -> Values:
        """The plots in order, those answered, and the time that one takes."""
        answered = self.answered()
        queue = order.queue(self.listed, self.interpreter, answered)
        mine = answered.get(self.interpreter, {})
        took = [a.seconds for a in mine.values() if a.seconds > 0]
        return {
            "queue": queue,
            "done": [n for n in queue if n in mine],
            "seconds": statistics.median(took) if took else None,
        }

    def plot(self, number: int) -> Values:
        """What is shown of a plot beside its pictures; InputError when there is none."""
        plot, answered = self.listed.plot(number), self.answered()
        own = answered.get(self.interpreter, {}).get(number)
        found: Values = {
            "plot": number,
            "lon": plot.lon,
            "lat": plot.lat,
            "answer": None if own is None else own.to_dict(),
        }
        if self.settles:
            several = order.disputed(answered).get(number, [])
            found["others"] = [a.to_dict() for a in several]
        if number in self.mapped:
            found["map"] = list(self.mapped[number])
        return found

    def keep(self, data: Any) -> Values:
        """Keep an answer; what is returned says that it is on the disk.

        Raises:
            InputError: it is no answer to a plot of this list.
        """
        answer = said.from_dict(data, self.interpreter)
        plot = self.listed.plot(answer.plot)
        answer = said.check(
            replace(answer, tile=plot.tile, answered=""),
            self.listed.dates,
            self.listed.legend.names,
        )
        if answer.withdrawn:
            raise InputError(f"plot {answer.plot}: the answer says nothing; give a class")
        (made,) = store.append(self.kept, [answer])
        return {"plot": made.plot, "revision": made.revision, **self.state()}

    def undo(self) -> Values:
        """Withdraw the interpreter's last answer that counts; the page shows its plot again."""
        last = self._last()
        if last is None:
            raise InputError("there is no answer to undo")
        store.append(self.kept, [last.takes_back()])
        return {"plot": last.plot, "taken_back": last.to_dict(), **self.state()}

    def _last(self) -> PlotAnswer | None:
        """The interpreter's answer that was kept last and still counts."""
        every = [a for a in self.log.read() if a.interpreter == self.interpreter]
        mine = said.latest(every).get(self.interpreter, {})
        return next((a for a in reversed(every) if a.plot in mine and mine[a.plot] is a), None)
