"""A review by mail: one page with all pictures in it, and the file of answers that comes back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from quadrat import pages, storage
from quadrat.errors import InputError
from quadrat.reviews import answers as said
from quadrat.reviews import store
from quadrat.reviews.answers import PlotAnswer
from quadrat.reviews.server import SCRIPTS, page_file
from quadrat.reviews.session import ReviewSession
from quadrat.reviews.views import Views
from quadrat.text import shown

FORMAT, VERSION = "quadrat-answers", 1
MOST_BYTES = 64 << 20  # of a file of answers


def write(
    session: ReviewSession,
    views: Views,
    out: str,
    on_progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write the page; it asks for nothing from anywhere. Gives the plots on it.

    Reserve plots are not on it: which one is needed shows only when answers are in.
    """
    if not out.lower().endswith((".html", ".htm")):
        raise InputError(f"{out} is no name for a web page; end it with .html")
    about, plots = session.describe(), {}
    reserves = {p.number for p in session.listed.plots if p.reserve}
    about["queue"] = [n for n in about["queue"] if n not in reserves and n not in about["done"]]
    about |= {"done": [], "seconds": None}
    for i, number in enumerate(about["queue"]):
        plot = session.listed.plot(number)
        pictures = [views.jpeg(plot, d) for d in range(len(session.listed.dates))]
        known = session.plot(number)
        plots[number] = {k: v for k, v in known.items() if k not in ("plot", "answer")} | {
            "pictures": [pages.data_uri(p, "image/jpeg") for p in pictures]
        }
        if on_progress is not None:
            on_progress(i + 1, len(about["queue"]))
    data = {"sample": session.listed.digest, "session": about, "plots": plots}
    storage.write_bytes(out, _page(data).encode("utf-8"))
    return len(plots)


def _page(data: Any) -> str:
    """The page with style, scripts and data inside; its policy names them by their digests."""
    style, script = page_file("page.css"), "\n".join(page_file(name) for name in SCRIPTS)
    policy, embedded = pages.policy(style, script), pages.embedded(data)
    html = re.sub(r'<script src="[^"]+"></script>\n?', "", page_file("page.html"))
    html = html.replace(
        '<meta charset="utf-8">',
        f'<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{policy}">',
    )
    html = html.replace('<link rel="stylesheet" href="page.css">', f"<style>{style}</style>")
    return html.replace(
        "</body>",
        f'<script type="application/json" id="data">{embedded}</script>\n'
        f"<script>{script}</script>\n</body>",
    )


def read(uri: str, session: ReviewSession) -> tuple[PlotAnswer, ...]:
    """The answers of a file that a page saved, in their order.

    Raises:
        InputError: the file is none, is of another sample, or has an answer that cannot be.
    """
    name = storage.redact(uri)
    try:
        data = json.loads(storage.read_bytes(uri, MOST_BYTES))
    except (ValueError, RecursionError):
        raise InputError(f"{name} is no file of answers; save it anew from the page") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise InputError(f"{name} is no file of answers; save it anew from the page")
    if data.get("version") != VERSION or not isinstance(data.get("answers"), list):
        raise InputError(f"{name} is of version {shown(data.get('version'))}; this is {VERSION}")
    if data.get("sample") != session.listed.digest:
        raise InputError(f"{name} has answers to another sample; name the one it was made from")
    found = []
    for given in data["answers"]:
        answer = said.from_dict(given, str(data.get("interpreter", "")))
        plot = session.listed.plot(answer.plot)
        answer = replace(answer, tile=plot.tile)
        found.append(said.check(answer, session.listed.dates, session.listed.legend.names))
    return tuple(found)


def take_in(uri: str, session: ReviewSession) -> int:
    """Keep the answers of a file, each once however often the file is taken in; gives the new."""
    known = {(a.interpreter, a.plot, a.answered) for a in store.read(session.kept)}
    fresh = [a for a in read(uri, session) if (a.interpreter, a.plot, a.answered) not in known]
    store.append(session.kept, fresh)
    return len(fresh)
