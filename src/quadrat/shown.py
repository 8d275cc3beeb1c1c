"""How results look at a prompt and in a notebook: one line, and a table, from `to_dict()`."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from quadrat.records import plain
from quadrat.redaction import redact
from quadrat.text import printable

MOST = 5  # values on the line
LONGEST = 120  # characters of a value in the table
ENTRIES = 30  # of a mapping or list in the table


@dataclass(frozen=True)
class Chart:
    """A picture that a notebook shows; `save` writes it to a file.

    Attributes:
        png: its bytes.
    """

    png: bytes

    def __repr__(self) -> str:
        return f"<Chart {len(self.png):,} bytes of PNG; save(path) keeps it>"

    def _repr_png_(self) -> bytes:
        return self.png

    def save(self, path: str) -> None:
        """Write it to a file."""
        Path(path).write_bytes(self.png)


class HasValues(Protocol):
    """What has plain values."""

    def to_dict(self) -> Mapping[str, Any]:
        """Plain values."""


T = TypeVar("T")


def shown(kind: type[T]) -> type[T]:
    """Gives a class with `to_dict()` a short `repr` and a table in notebooks; a decorator."""
    for name, method in (("__repr__", _line), ("_repr_html_", _table)):
        setattr(kind, name, method)
    return kind


def _line(thing: HasValues) -> str:
    """`<TileSet uri=tiles tiles=320 size_px=224 legend=nlcd6>`."""
    simple = (
        f"{key}={_text(value)}"
        for key, value in plain(thing.to_dict()).items()
        if isinstance(value, str | int | float) and key != "digest"
    )
    told = [text for text, _ in zip(simple, range(MOST), strict=False)]
    return f"<{' '.join([type(thing).__name__, *told])}>"


def _table(thing: HasValues) -> str:
    """The values as an HTML table of two columns."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{html.escape(key)}</th>"
        f"<td style='text-align:left'>{html.escape(text)}</td></tr>"
        for key, text in _facts(plain(thing.to_dict()))
    )
    name = html.escape(type(thing).__name__)
    return f"<table><caption>{name}</caption>{rows}</table>"


def _facts(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and texts of what is set and short enough for a table."""
    for key, value in values.items():
        text = _text(value)
        if text:
            yield str(key), text


def _text(value: Any) -> str:
    """A value in words; "" for None and for what is nested too deeply."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return _mapping(value)
    if isinstance(value, list):
        named = [v.get("name", v) if isinstance(v, Mapping) else v for v in value]
        texts = [_text(v) for v in named if isinstance(v, str | int | float)]
        return ", ".join(texts) if len(texts) == len(value) <= ENTRIES else f"{len(value):,}"
    text = printable(redact(str(value)))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _mapping(value: Mapping[str, Any]) -> str:
    """An estimate with its interval, or the simple values of a mapping."""
    if {"value", "low", "high"} <= set(value):
        low, high = value["low"], value["high"]
        within = f" ({_text(low)} to {_text(high)})" if low is not None and high is not None else ""
        return f"{_text(value['value'])}{within}"
    simple = {k: v for k, v in value.items() if isinstance(v, str | int | float)}
    return ", ".join(f"{k} {_text(v)}" for k, v in list(simple.items())[:ENTRIES])
