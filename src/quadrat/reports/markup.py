"""Pieces of HTML: text, tables, figures with intervals. What comes from outside is escaped."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from quadrat import storage
from quadrat.areas.tables import number
from quadrat.metrics import Estimate

_NUMBER = ' class="n"'
_SEP = r"[/\\]+"
_WORD = r"(?:[^\s/\\'\"<>|;,():]|:(?![\s/])|(?<=\w)'(?=\w))+"  # of a folder's name
_PART = rf"{_WORD}(?: (?:{_WORD}|\({_WORD}\))){{0,4}}{_SEP}"
_ANY = r"(?:(?![ (]~?/)[^<>:\"|?*\n/\\])+"  # a folder of Windows, up to where a next path begins
_ROOT = r"(?:(?:file|local|sqlite)://+|~[/\\]|[A-Za-z]:[/\\]|\\+|/)"
_FOLDERS = re.compile(  # of this machine: from a root, a drive or a home to the last separator
    r"(?<![\w./~<])(?!//)(?:"
    rf"(?<=\"){_ROOT}[^<>:\"?*\n]*[/\\]"
    rf"|(?<='){_ROOT}(?:[^<>:\"'?*\n]|(?<=\w)'(?=\w))*[/\\]"
    rf"|(?:[A-Za-z]:(?P<s>[/\\])(?P=s)*(?:{_ANY}(?P=s)+)*|\\+(?:{_ANY}\\+)+)(?:{_WORD}{_SEP})*"
    rf"|{_ROOT}(?:{_PART})+)"
)


def text(value: Any) -> str:
    """Escaped text; of a path of this machine the last name alone."""
    return escape(without_folders(str(value)), quote=True)


def without_folders(words: str) -> str:
    """The words with paths of this machine cut to their last names: a page goes to strangers."""
    return _FOLDERS.sub("", words)


def last_name(uri: str) -> str:
    """The last name of a path of this machine, relative or not; an address without its secrets."""
    if not storage.is_local(uri):
        return storage.redact(uri)
    return re.split(r"[/\\]", uri.rstrip("/\\"))[-1] or uri


def section(name: str, title: str, body: str) -> str:
    """A section with its heading."""
    head = f'<h2 id="{name}-h">{text(title)}</h2>'
    return f'<section id="{name}" aria-labelledby="{name}-h">{head}{body}</section>'


def table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    caption: str,
    words: int = 1,
    kind: str = "figures",
) -> str:
    """A table of HTML cells; the first `words` columns are text, the others figures.

    `kind` is its CSS class.
    """
    top = "".join(
        f'<th scope="col"{"" if i < words else _NUMBER}>{h}</th>' for i, h in enumerate(heads)
    )
    lines = []
    for row in rows:
        cells = [f'<th scope="row">{row[0]}</th>']
        cells += [
            f"<td{'' if i < words else _NUMBER}>{c}</td>" for i, c in enumerate(row[1:], start=1)
        ]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    hidden = ' class="hidden"' if kind == "pairs" else ""  # its heading says the same
    return scrolled(
        f'<table class="{kind}"><caption{hidden}>{text(caption)}</caption>'
        f"<thead><tr>{top}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table>",
        caption,
    )


def matrix(heads: Sequence[str], lines: Sequence[str], caption: str) -> str:
    """A square table: HTML of the heads, and of each line with its `tr`."""
    top = "".join(f'<th scope="col">{h}</th>' for h in heads)
    return scrolled(
        f'<table class="matrix"><caption>{text(caption)}</caption><thead><tr>{top}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table>",
        caption,
    )


def scrolled(inner: str, caption: str) -> str:
    """A region that scrolls sideways by itself where the page is narrow."""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(caption)}">{inner}</div>'
    )


def share(figure: Estimate | None) -> str:
    """`91.2% (88.0 to 93.9%)`; an interval without width is none."""
    if figure is None or not math.isfinite(figure.value):
        return "–"
    main = f"{figure.value:.1%}"
    if not math.isfinite(figure.low) or figure.low == figure.high:
        return main
    return f"{main} <small>({100 * figure.low:.1f} to {figure.high:.1%})</small>"


def three(figure: Estimate) -> str:
    """`0.213 (0.190 to 0.241)`."""
    if not math.isfinite(figure.low) or figure.low == figure.high:
        return f"{figure.value:.3f}"
    return f"{figure.value:.3f} <small>({figure.low:.3f} to {figure.high:.3f})</small>"


def quantity(figure: Estimate | Mapping[str, Any] | None, factor: float = 1.0) -> str:
    """`1,234 (1,100 to 1,380)`, in another unit."""
    if figure is None:
        return "–"
    if not isinstance(figure, Estimate):
        figure = Estimate.from_dict(figure)
    main = signed(figure.value * factor)
    if not math.isfinite(figure.low) or figure.low == figure.high:
        return main
    low, high = signed(figure.low * factor), signed(figure.high * factor)
    return f"{main} <small>({low} to {high})</small>"


def signed(value: float) -> str:
    """A quantity with a real minus sign, and 0 for what rounds to it."""
    said = number(value).replace("-", "−")
    return "0" if said in ("0.00", "−0.00") else said


def swatch(color: str) -> str:
    """A small square of a class's colour."""
    return (
        '<svg class="swatch" viewBox="0 0 1 1" aria-hidden="true">'
        f'<rect width="1" height="1" fill="{text(color)}"/></svg>'
    )


def named(name: str, color: str) -> str:
    """A class with its colour."""
    whole = ' class="named"' if len(name) <= 20 else ""  # the square stays with its word
    return f"<span{whole}>{swatch(color)}{text(name)}</span>"


def notes(lines: Iterable[str]) -> str:
    """What a reader must know, as a list; nothing when there is none."""
    items = "".join(f"<li>{text(line)}</li>" for line in dict.fromkeys(lines))
    return f'<ul class="notes">{items}</ul>' if items else ""


def keys(values: Sequence[tuple[str, str, str]]) -> str:
    """The figures to remember, large: (what, figure, its interval or what it counts)."""
    cards = "".join(
        f"<div><dt>{text(what)}</dt><dd>{text(value)}<small>{text(more)}</small></dd></div>"
        for what, value, more in values
    )
    return f'<dl class="keys">{cards}</dl>' if cards else ""


def questions(asked: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Questions of a reader as headings, each with its sentences."""
    return "".join(
        f"<div><h3>{text(question)}</h3>{_sentences(said)}</div>" for question, said in asked
    )


def _sentences(said: Sequence[str]) -> str:
    if len(said) == 1:
        return f"<p>{text(said[0])}</p>"
    return f'<ul class="summary">{"".join(f"<li>{text(s)}</li>" for s in said)}</ul>'
