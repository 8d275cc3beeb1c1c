"""What interpreted plots say of a map: gathered, and as HTML.

Where plots lie, how they were drawn, by whom they were read, how far readers agree, what follows
against the map, and the plots that they dispute, with pictures. It does not know how areas are
estimated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from quadrat import areas, choices, pages, reviews, sampling, scores, storage
from quadrat.areas import AreaResult
from quadrat.areas.tables import number
from quadrat.changes import pictures as shots
from quadrat.errors import InputError, QuadratError
from quadrat.reports import charts
from quadrat.reports.markup import named, notes, quantity, share, table, text, three
from quadrat.reviews import Agreement, PlotAnswer
from quadrat.reviews.answers import SETTLED, Seen
from quadrat.sampling.answers import PlotAnswers, read_answers
from quadrat.sampling.files import PlotSample

UNREAD, UNSEEN = "not answered", "cannot be observed"


@dataclass(frozen=True)
class DisputedPlot:
    """A plot that interpreters read unlike each other.

    Attributes:
        said: an interpreter and what was said; `settled` comes last.
        picture: its dates side by side, a data address; None where they cannot be read.
    """

    number: int
    where: str
    said: tuple[tuple[str, str], ...]
    picture: str | None


@dataclass(frozen=True)
class InterpretedPlots:
    """All that the page shows of a sample.

    Attributes:
        area: what follows from it.
        read: (n,) what each plot is: the class that readers give it, `UNREAD` or `UNSEEN`.
        disputed: the plots that readers differ on. notes: what could not be shown.
    """

    sample: PlotSample
    area: AreaResult
    agreement: tuple[Agreement, ...]
    read: tuple[str, ...]
    disputed: tuple[DisputedPlot, ...]
    notes: tuple[str, ...] = ()


def gather(
    folder: str,
    answers: Sequence[str],
    maps: Sequence[str],
    *,
    imagery: Sequence[str] = (),
    legend: str | None = None,
    most: int = 60,
) -> InterpretedPlots:
    """Read a sample, its answers and the map that it was drawn from.

    Args:
        maps: scores and changes that the report is about; the sample's own is looked for there.
        imagery: of the sample's dates, see `reviews.review`.
        most: disputed plots that get a picture.

    Raises:
        InputError: none of the maps is the sample's. LabelError: answers that are none of it.
    """
    sample = sampling.open_sample(folder)
    if not answers:
        raise InputError(f"--sample {storage.redact(folder)} needs its answers: --answers FILE")
    said = read_answers(answers, sample)
    bare = said.usable & np.isnan(said.shares).any((2, 3))
    area = areas.area(
        _map_of(sample, maps), sample=folder, answers=answers, legend=legend,
        estimand=choices.ESTIMANDS[int(bare.any())],
    )  # fmt: skip
    answered = _of_arrays(said, sample)
    classes = sample.legend.names
    disputed = reviews.disputed(answered)
    found, failed = _disputed(folder, disputed, answered.get(SETTLED, {}), imagery, most)
    if bare.any():
        failed = (
            f"Of {int(bare.any(0).sum()):,} of the plots readers said the main class and no "
            "shares: areas are of plots by main class.",
            *failed,
        )
    return InterpretedPlots(
        sample, area, reviews.agreements(answered, sample.dates, classes, area.level),
        _read(said, sample), found, failed,
    )  # fmt: skip


def _map_of(sample: PlotSample, maps: Sequence[str]) -> str:
    """The map that the sample was drawn from, among those of the report."""
    kind, digest = sample.source.get("kind"), sample.source.get("digest")
    for uri in maps:
        if kind == "scores" and storage.exists(storage.join(uri, "scores.json")):
            if scores.open_scores(uri).digest == digest:
                return uri
        elif kind == "change" and storage.exists(storage.join(uri, "change.json")):
            return uri
    raise InputError(
        f"{storage.redact(sample.uri)} was drawn from {sample.source.get('uri')}, which is none of "
        "the maps of this report; name that one" + (" with --change" if kind == "change" else "")
    )


def _of_arrays(said: PlotAnswers, sample: PlotSample) -> dict[str, dict[int, PlotAnswer]]:
    """Interpreter -> plot -> answer, of any file of answers."""
    names, tiles = sample.legend.names, sample.tiles
    found: dict[str, dict[int, PlotAnswer]] = {}
    for j, who in enumerate(said.interpreters):
        mine = found.setdefault(who, {})
        for n in np.flatnonzero(said.answered[j]).tolist():
            seen = []
            for d, date in enumerate(sample.dates):
                shares, main = said.shares[j, n, d], int(said.main[j, n, d])
                known = not np.isnan(shares).any()
                if main < 0 and known:
                    main = int(shares.argmax())
                each = {c: float(s) for c, s in zip(names, shares, strict=True) if s}
                word = names[main] if main >= 0 else None
                seen.append(Seen(date, word, each if known else None, word is not None))
            change = str(said.change[j, n]) or None
            mine[n + 1] = PlotAnswer(n + 1, tiles[n], who, tuple(seen), change)
    return found


def _read(said: PlotAnswers, sample: PlotSample) -> tuple[str, ...]:
    """What each plot is on the last date, by the reading that counts first."""
    names = sample.legend.names
    found = [UNREAD] * len(sample)
    for n in range(len(sample)):
        counted = np.flatnonzero(said.counted[:, n])
        if len(counted):
            shares, main = said.shares[counted, n, -1], int(said.main[counted[0], n, -1])
            known = shares[~np.isnan(shares).any(1)]
            found[n] = names[int(known.mean(0).argmax()) if len(known) else main]
        elif (said.answered[:, n] & ~said.observable[:, n]).any():
            found[n] = UNSEEN
    return tuple(found)


def _disputed(
    folder: str,
    disputed: Mapping[int, Sequence[PlotAnswer]],
    settled: Mapping[int, PlotAnswer],
    imagery: Sequence[str],
    most: int,
) -> tuple[tuple[DisputedPlot, ...], tuple[str, ...]]:
    """The disputed plots, the first of them with pictures, and what could not be done."""
    listed, views, failed = reviews.open_plots(folder), None, []
    if disputed and most:
        try:
            views = reviews.Views(listed, imagery)
        except QuadratError as error:
            failed.append(f"No pictures of disputed plots: {error}.")
    found = []
    for n, (plot, said) in enumerate(disputed.items()):
        place = listed.plot(plot)
        lines = [(a.interpreter, in_words(a)) for a in said]
        lines += [(SETTLED, in_words(settled[plot]))] if plot in settled else []
        picture = None
        if views is not None and n < most:
            try:
                pixels = [views.pixels(place, d) for d in range(len(listed.dates))]
                shown = shots.side_by_side(pixels, listed.dates)
                picture = pages.data_uri(shown, "image/jpeg")
            except QuadratError as error:
                failed.append(f"No picture of plot {plot}: {error}.")
        where = f"{place.lat:.5f}, {place.lon:.5f}"
        found.append(DisputedPlot(plot, where, tuple(lines), picture))
    return tuple(found), tuple(failed[:5])


def in_words(answer: PlotAnswer) -> str:
    """An answer in words: classes, shares, change."""
    said = []
    for seen in answer.seen:
        what = seen.main if seen.main is not None else UNSEEN
        if seen.shares is not None and len(seen.shares) > 1:
            ordered = sorted(seen.shares.items(), key=lambda s: -s[1])
            what = ", ".join(f"{c} {v:.0%}" for c, v in ordered)
        said.append(f"{seen.date}: {what}" if len(answer.seen) > 1 else what)
    changed = {"yes": "changed", "no": "not changed", "part": "changed in part"}
    return "; ".join([*said, *([changed[answer.change]] if answer.change in changed else [])])


# What the page shows


def section(found: InterpretedPlots) -> str:
    """Where, how, by whom, agreement, and what it says against the map."""
    sample, area = found.sample, found.area
    colors = {c.name: c.color for c in sample.legend.classes}
    survey = area.survey or {}
    answered = sum(s["answered"] for s in survey["strata"])
    readers = ", ".join(n for n in survey["interpreters"] if n != SETTLED)
    tiles = sum(s.tiles for s in sample.strata)
    words = (
        f"<p>{answered:,} plots, drawn from {tiles:,} tiles with known probabilities "
        f"({text(sample.design)}, seed {sample.seed}) and interpreted by {text(readers)} on "
        f"{text(', '.join(sample.dates))}. What follows is about all ground, not about agreement "
        "with a label source.</p>"
    )
    # plots in reserve that nobody needed are no part of it
    asked = [i for i, r in enumerate(found.read) if r != UNREAD or not sample.reserve[i]]
    where = charts.plots(
        sample.rows[asked], sample.cols[asked], [found.read[i] for i in asked],
        {**colors, UNREAD: "none", UNSEEN: "#999999"}, f"Where the {len(asked):,} plots lie",
    )  # fmt: skip
    return "".join(
        [words, where, _areas(found), _accuracy(found), _strata(survey), _agreement(found),
         notes([*area.notes, *found.notes])]
    )  # fmt: skip


def _areas(found: InterpretedPlots) -> str:
    area = found.area
    colors = dict(zip(area.names, area.colors, strict=True))
    rows = []
    for row in area.rows:
        head = named(row.name, colors[row.name]) if row.name in colors else text(row.name)
        se = "–" if row.se_ha is None else number(row.se_ha)
        effect = "–" if row.design_effect is None else f"{row.design_effect:.2f}"
        rows.append(
            [head, f"{row.found or 0:,}", number(row.raw_ha), quantity(row.adjusted), se,
             text(", ".join(w for w in (row.estimator, row.interval) if w)), effect]
        )  # fmt: skip
    heads = [
        "Change" if len(area.dates) > 1 else "Class", "Plots with it", "Hectares, mapped",
        "Hectares, estimated", "Standard error", "Estimator, interval", "Design effect",
    ]  # fmt: skip
    return table(heads, rows, f"{area.title}; {area.level:.0%} intervals")


def _accuracy(found: InterpretedPlots) -> str:
    known = found.area.accuracy
    if known is None:
        return ""
    rows = [["All", share(known.overall), share(known.overall)]]
    rows += [
        [text(n), share(u), share(p)]
        for n, u, p in zip(found.area.strata, known.users, known.producers, strict=True)
        if np.isfinite(u.value) or np.isfinite(p.value)
    ]
    heads = ["Class", "User’s accuracy<br>(precision)", "Producer’s accuracy<br>(recall)"]
    return table(heads, rows, "What the map says against the plots, of all ground")


def _strata(survey: Mapping[str, Any]) -> str:
    heads = ["Stratum", "Tiles", "Plots", "Answered", "Cannot be observed", "Not answered"]
    keys = ("tiles", "plots", "answered", "unobservable", "unanswered")
    rows = [[text(s["stratum"]), *(f"{s[k]:,}" for k in keys)] for s in survey["strata"]]
    return table(heads, rows, "How plots were drawn and answered")


def _agreement(found: InterpretedPlots) -> str:
    readers = found.area.survey["interpreters"] if found.area.survey else {}
    rows = [[text(n), f"{k:,}"] for n, k in readers.items()]
    said = table(["Interpreter", "Plots"], rows, "Who interpreted them")
    pairs = [
        [f"{text(a.first)}, {text(a.second)}", text(a.of), f"{a.plots:,}", f"{a.agreed:.1%}",
         three(a.kappa) if np.isfinite(a.kappa.value) else "–"]
        for a in found.agreement
    ]  # fmt: skip
    if not pairs:
        return said
    heads = ["Interpreters", "On", "Plots", "Agree", "Kappa"]
    caption = (
        "How they agree; kappa with the large-sample interval of Fleiss, Cohen and Everitt (1969)"
    )
    return f'<div class="tables">{said}{table(heads, pairs, caption, words=2)}</div>'


def disputed_section(found: InterpretedPlots) -> str:
    """The plots that interpreters read unlike each other, with pictures."""
    settled = sum(any(n == SETTLED for n, _ in p.said) for p in found.disputed)
    cards = "".join(_card(p) for p in found.disputed)
    return (
        f"<p>{len(found.disputed):,} plots were read unlike each other, {settled:,} of them are "
        f'settled. The plot is outlined.</p><div class="cards wide">{cards}</div>'
    )


def _card(plot: DisputedPlot) -> str:
    alt = f"Aerial pictures of plot {plot.number}"
    image = f'<img src="{plot.picture}" alt="{text(alt)}">' if plot.picture else ""
    lines = "".join(f"<br><strong>{text(n)}</strong>: {text(w)}" for n, w in plot.said)
    return (
        f'<figure class="card">{image}<figcaption>Plot {plot.number} <small>{text(plot.where)}'
        f"</small>{lines}</figcaption></figure>"
    )


def sentences(found: InterpretedPlots) -> list[str]:
    """What the summary says of the plots."""
    area, said = found.area, []
    plots = max((r.plots or 0 for r in area.rows), default=0)
    if area.accuracy is not None and np.isfinite(area.accuracy.overall.value):
        f = area.accuracy.overall
        said.append(
            f"By {plots:,} interpreted plots the map is right on {f.value:.1%} ({100 * f.low:.1f} "
            f"to {f.high:.1%}) of the ground."
        )
    known = [r for r in area.rows if r.adjusted is not None and r.kind in ("class", "transition")]
    top = sorted(known, key=lambda r: -r.adjusted.value if r.adjusted else 0.0)[:3]
    if top:
        parts = [
            f"{r.name} {number(r.adjusted.value)} ({number(r.adjusted.low)} to "
            f"{number(r.adjusted.high)})"
            for r in top
            if r.adjusted is not None
        ]
        said.append(f"Largest by these plots, ha: {'; '.join(parts)}.")
    return said
