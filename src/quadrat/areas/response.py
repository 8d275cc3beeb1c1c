"""Who answered which plots of a sample, and what a reader of its areas must know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quadrat import storage
from quadrat.areas import intervals
from quadrat.areas.interpreted import GROUND, Interpretation
from quadrat.areas.tables import AreaRow
from quadrat.sampling.answers import PlotAnswers
from quadrat.sampling.files import PlotSample
from quadrat.sampling.frame import SamplingFrame

FEWEST = 10  # plots that hold any of a row's ground; with fewer its interval is exact


def survey(found: Interpretation, sample: PlotSample, said: PlotAnswers) -> dict[str, Any]:
    """Who answered what: plots, answers and nonresponse of each stratum."""
    answered, observable = said.answered, said.observable
    seen = said.usable.any(0)
    blind = (answered & ~observable).any(0) & ~seen
    strata = []
    for i, s in enumerate(sample.strata):
        mine = (sample.stratum == i) & (~sample.reserve | seen | blind)
        strata.append({
            "stratum": s.name, "tiles": s.tiles, "plots": int(mine.sum()),
            "answered": int((mine & seen).sum()), "unobservable": int((mine & blind).sum()),
            "unanswered": int((mine & ~seen & ~blind).sum()),
        })  # fmt: skip
    return {
        "design": sample.design, "seed": sample.seed, "strata": strata,
        "interpreters": {
            n: int(u.sum()) for n, u in zip(said.interpreters, said.usable, strict=True)
        },
        "joined_strata": list(found.joined), "answers": list(said.files),
    }  # fmt: skip


def notes(
    found: Interpretation,
    sample: PlotSample,
    said: PlotAnswers,
    frame: SamplingFrame,
    *,
    lost: Sequence[str],
    rows: Sequence[AreaRow],
    estimand: str,
) -> list[str]:
    """What a reader must know."""
    response = survey(found, sample, said)["strata"]
    blind, open_ = (sum(s[k] for s in response) for k in ("unobservable", "unanswered"))
    readers = ", ".join(found.interpreters) or "what was settled"
    told = [
        f"Reference: {len(found.plots):,} plots of {storage.basename(sample.uri)}, interpreted by "
        f"{readers}."
    ]
    if lost:
        told.append(
            f"Not estimable: strata with fewer than two answered plots ({', '.join(lost)}); "
            "interpret more of their plots, or say --collapse to join them with others."
        )
    if blind or open_:
        told.append(
            f"{blind:,} plots could not be observed and {open_:,} have no answer yet; the others "
            "of a stratum stand for them, as if they were missing at random within it."
        )
    if found.joined:
        told.append(
            f"Strata of fewer than two answered plots are estimated together: "
            f"{', '.join(found.joined)}."
        )
    if len(found.interpreters) < 2:
        told.append(
            "One interpreter answered: how much another would differ is not in the intervals."
        )
    if frame.digest != sample.source.get("digest"):
        told.append("The map is not the one that the sample was drawn from.")
    if any(r.interval == intervals.EXACT for r in rows):
        told.append(
            f"{intervals.EXACT}: fewer than {FEWEST} plots hold any of the row's ground, or too "
            "few of its kind; the plots alone are counted, and the interval is exact."
        )
    if estimand == GROUND and len(sample.dates) > 1:
        told.append(
            "Within a plot, ground that classes lost is dealt to the classes that gained, in "
            "proportion: the least change that the shares allow."
        )
    return told
