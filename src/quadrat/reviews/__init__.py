"""Plots interpreted by people, on a page of this machine: `review`.

    answers     what is said of a plot, checked
    store       answers on disk, a GeoPackage that is only added to
    plots       what is looked at: a sample, or the candidates of a change
    order       which plot comes next; what is left to settle
    views       pictures of a plot, both dates at one place and scale
    session     one interpreter at work
    server      the page on loopback
    offline     the page as one file, and the answers that come back
    agreement   kappa of each two interpreters
    training    labels to train with, from plots that were drawn for it
    page.html, page.css, keeping.js, views.js, form.js, page.js

Interpreters see neither strata nor, unless it is asked for, the map. It does not know estimators.
"""

from __future__ import annotations

import getpass
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from quadrat import storage
from quadrat.errors import InputError
from quadrat.records import Record
from quadrat.reviews import answers as said
from quadrat.reviews import order, plots, store
from quadrat.reviews.agreement import Agreement, agreements, kappa
from quadrat.reviews.answers import SETTLED, PlotAnswer, latest
from quadrat.reviews.order import disputed
from quadrat.reviews.plots import PlotList, open_plots
from quadrat.reviews.session import ReviewSession
from quadrat.reviews.store import Store, open_store
from quadrat.reviews.training import TrainingLabels, training_labels
from quadrat.reviews.views import CONTEXT, Views
from quadrat.shown import shown

__all__ = [
    "Agreement", "Interpreter", "PlotAnswer", "ReviewResult", "Store", "TrainingLabels", "Views",
    "agreements", "disputed", "kappa", "latest", "open_plots", "open_store",
    "review", "training_labels",
]  # fmt: skip


@dataclass(frozen=True)
class Interpreter(Record):
    """How far an interpreter has come.

    Attributes:
        answered: plots. unobservable: of these, plots that cannot be seen on a date or more.
        left: plots that still wait. seconds: that a plot took, the median.
    """

    name: str
    answered: int
    unobservable: int
    left: int
    seconds: float | None


@shown
@dataclass(frozen=True)
class ReviewResult(Record):
    """The state of a review.

    Attributes:
        answers: the file of answers. purpose: what the plots were drawn for.
        plots: plots of the sample, without reserves.
        interpreters: those who answered; who settles disagreements is not among them.
        agreement: of each two interpreters, on the class of each date and on change.
        disputed: plots on which interpreters differ; `settled` of them are settled.
        static: the page that was written. taken_in: answers that were taken in from files.
    """

    answers: str
    purpose: str
    plots: int
    dates: tuple[str, ...]
    interpreters: tuple[Interpreter, ...]
    agreement: tuple[Agreement, ...]
    disputed: tuple[int, ...]
    settled: int
    level: float
    static: str | None = None
    taken_in: int = 0


def review(
    source: str,
    *,
    interpreter: str | None = None,
    imagery: Sequence[str] = (),
    answers: str | None = None,
    show_map: bool = False,
    main_class: bool = False,
    context: int = CONTEXT,
    port: int = 0,
    static: str | None = None,
    taken_in: Sequence[str] = (),
    summary: bool = False,
    level: float = 0.95,
    bands: tuple[int, int, int] | None = None,
    nodata: float | None = None,
    stretch: tuple[float, float] | None = None,
    alpha: int | None = None,
    on_address: Callable[[str], None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> ReviewResult:
    """Interpret the plots of a sample, or the candidates of a change, on a page of this machine.

    The page is served on loopback until the interpreter ends the session or the process is
    interrupted. Every answer is on disk before the next plot is shown. Several interpreters may
    work at once, each with a process of their own.

    Args:
        source: a folder that `sample` or `change` made.
        interpreter: who answers; the login name when None. `settled` settles the plots that
            interpreters differ on.
        imagery: `DATE=FILE` (a raster file or a folder of them), or one a date in their order;
            what the map was made from when empty.
        answers: the file of answers, on a disk of this machine; `review.gpkg` in `source` when
            None.
        show_map: show what the map says; a review is blind without.
        main_class: ask for the main class alone, not for shares by tenths. No areas of ground
            follow from such answers, only of plots by main class.
        context: tiles along a picture, odd, the plot in the middle.
        port: of the page; 0 takes a free one.
        static: write the page to this file, with all pictures, instead of serving it.
        taken_in: files of answers, as such a page saves them, to keep; nothing is served.
        summary: only say how far the review is.
        level: of kappa's intervals.
        on_address: told the page's address, which holds a token that is made anew each time.
        on_progress: plots written to a static page, and all of them.

    Raises:
        InputError: no plots, dates without imagery, answers to another sample, a name that is none.
        StorageError: the file of answers cannot be written.
    """
    listed = open_plots(source)
    place = _place(source, answers)
    if not 0 < level < 1:
        raise InputError(f"--level {level} is no share between 0 and 1")
    if summary:
        return _state(listed, store.open_store(place), level)
    kept = store.create(place, listed.about)
    if taken_in:
        new = _take_in(listed, kept, taken_in)
        return _state(listed, kept, level, taken_in=new)
    views = Views(
        listed, imagery, context, bands=bands, nodata=nodata, stretch=stretch, alpha=alpha
    )
    name = said.check_name(getpass.getuser() if interpreter is None else interpreter)
    mapped = plots.mapped(listed) if show_map else {}
    session = ReviewSession(listed, kept, name, mapped, context, not main_class)
    if static is not None:
        from quadrat.reviews import offline

        offline.write(session, views, static, on_progress)
        return _state(listed, kept, level, static=static)
    from quadrat.reviews import server

    server.serve(session, views, on_address or (lambda address: None), port)
    return _state(listed, kept, level)


def _place(source: str, answers: str | None) -> str:
    if answers is not None:
        return answers
    if not storage.is_local(source):
        raise InputError(
            f"{storage.redact(source)} is not on a disk of this machine; name a file for the "
            "answers with --answers"
        )
    return storage.join(source, store.NAME)


def _take_in(listed: PlotList, kept: Store, files: Sequence[str]) -> int:
    from quadrat.reviews import offline

    session = ReviewSession(listed, kept, "", {}, CONTEXT)
    return sum(offline.take_in(uri, session) for uri in files)


def _state(listed: PlotList, kept: Store, level: float, **more: Any) -> ReviewResult:
    """How far a review is."""
    answered = latest(store.read(kept))
    differ = disputed(answered)
    settled = answered.get(SETTLED, {})
    return ReviewResult(
        answers=str(kept.path),
        purpose=listed.purpose,
        plots=sum(not p.reserve for p in listed.plots),
        dates=listed.dates,
        interpreters=tuple(
            _progress(listed, name, answered)
            for name in sorted(answered)
            if name != SETTLED and answered[name]
        ),
        agreement=agreements(answered, listed.dates, listed.legend.names, level),
        disputed=tuple(differ),
        settled=sum(n in settled for n in differ),
        level=level,
        **more,
    )


def _progress(listed: PlotList, name: str, answered: order.Answered) -> Interpreter:
    mine = answered[name]
    took = [a.seconds for a in mine.values() if a.seconds > 0]
    return Interpreter(
        name=name,
        answered=len(mine),
        unobservable=sum(not a.observable for a in mine.values()),
        left=sum(n not in mine for n in order.queue(listed, name, answered)),
        seconds=statistics.median(took) if took else None,
    )
