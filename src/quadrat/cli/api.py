"""Writes `docs/api.md` from the docstrings of the public names: `python -m quadrat.cli.api`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import click

import quadrat

HEAD = """# The Python API

Written by `make docs` from the docstrings; a test keeps it so. `import quadrat as qd` loads a name
when it is first asked for; what a name needs (a raster library, a runtime) is loaded with it.

Functions raise `qd.QuadratError`, whose message names the thing and the cure. Places are paths or
URIs (`s3://`, `az://`). Class ids are places in the legend, from 0; -1 is "no label". Results print
as one line, in a notebook as a table; `to_dict()` gives their plain values.

These parameters mean the same everywhere:

| parameter | meaning |
|---|---|
| `uri`, `out` | where something is, or is written: a path or URI |
| `overwrite` | replace what an earlier call wrote to `out`; if not, the same call goes on |
| `strict` | fail at the first unreadable file instead of listing it in the result |
| `seed` | of everything random: the same seed gives the same result |
| `engine` | where parts are worked on, as `qd.get_engine` makes it; this machine by default |
| `on_progress` | called with what is done and what there is to do, for a progress bar |
| `on_event` | called with the name and the values of what happens (`runs.Run.record`) |
| `tracking_uri`, `experiment` | the run history: anything that MLflow takes; its experiment |
| `legend` | land-use classes: a shipped name (`nlcd8`, ...), a TOML file, or a `qd.Legend` |
| `level` | of the intervals, 0.95 by default |
| `encoding` | how tiles are kept, without loss: `zstd`, `png`, `raw` |
| `balance` | as many tiles of every class as of the rarest |
| `resize` | resize pictures of another size; otherwise they are skipped and listed |
| `bands` | numbers of the red, green and blue band, from 1; by each file's own roles by default |
| `nodata`, `alpha` | pixel value, band (0: none) that mean no data; the file's own by default |
| `stretch` | (low, high): values mapped to 0 and 255, for imagery that is not 8-bit |
| `resampling` | `bilinear` or `cubic`, where imagery is not on the grid |
| `max_nodata` | tiles with a larger share of nodata pixels are dropped |
| `within` | polygons (a vector file); only tiles with their centre inside |
| `date` | acquisition date, `YYYY-MM-DD` or `YYYY`; the file's own by default |
| `crs` | of the grid, in metres; the first file's by default |
"""
GROUPS = {
    "Verbs": [verb for verb, (room, _) in quadrat.VERBS.items() if room],
    "Functions": [name for name in quadrat.NAMES if name[0].islower()],
    "Classes": [name for name in quadrat.NAMES if name[0].isupper()],
}
SECTIONS = re.compile(r"^(Args|Attributes|Returns|Raises):\s*", re.MULTILINE)
WIDTH = 96


def reference() -> str:
    """The whole page, Markdown."""
    lines = [HEAD]
    for title, names in GROUPS.items():
        lines.append(f"\n## {title}\n")
        for name in names:
            lines += entry(name, getattr(quadrat, name))
    return "\n".join(lines)


def entry(name: str, thing: Any) -> Iterator[str]:
    """A name's heading, signature and docstring; of a class, its members too."""
    yield f"\n### qd.{name}\n"
    if inspect.isclass(thing):
        yield from described(inspect.getdoc(thing) or "")
        for member, value in vars(thing).items():
            function = value.fget if isinstance(value, property) else value
            if not member.startswith("_") and inspect.isfunction(function):
                said = member if isinstance(value, property) else signature(member, function)
                yield f"\n`{said}`\n"
                yield from described(inspect.getdoc(function) or "")
    else:
        yield f"```python\n{signature(f'qd.{name}', thing)}\n```\n"
        yield from described(inspect.getdoc(thing) or "")


def signature(name: str, function: Callable[..., Any]) -> str:
    """`name(parameters) -> result`, a parameter a line where it is long."""
    found = inspect.signature(function)
    stars: dict[Any, str] = {
        inspect.Parameter.VAR_POSITIONAL: "*",
        inspect.Parameter.VAR_KEYWORD: "**",
    }
    parts: list[str] = []
    for p in found.parameters.values():
        if p.name == "self":
            continue
        if p.kind is p.KEYWORD_ONLY and "*" not in parts:
            parts.append("*")
        default = "" if p.default is p.empty else f" = {p.default!r}"
        parts.append(f"{stars.get(p.kind, '')}{p.name}: {p.annotation}{default}")
    result = "" if found.return_annotation is found.empty else f" -> {found.return_annotation}"
    line = f"{name}({', '.join(parts)}){result}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{name}(", *(f"    {part}," for part in parts), f"){result}"])


def described(text: str) -> Iterator[str]:
    """A docstring as Markdown: paragraphs as they are, sections as lists."""
    first, *rest = SECTIONS.split(text)
    yield first.rstrip()
    for title, body in zip(rest[::2], rest[1::2], strict=True):
        yield f"\n*{title}*\n"
        body = inspect.cleandoc(body)
        for item in [body] if title == "Returns" else re.split(r"\n(?=\S)", body):
            yield "- " + re.sub(r"^([\w, *]+):", r"`\1`:", " ".join(item.split()))


if __name__ == "__main__":
    click.echo(reference())
