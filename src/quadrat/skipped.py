"""What could not be read and was left out, with the reason."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Skipped(NamedTuple):
    """A tile, file or item that is left out; in JSON a list of two texts.

    Attributes:
        name: its path, tile id or item id.
        reason: why, in one line.
    """

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def from_lists(values: Iterable[Sequence[object]]) -> tuple[Skipped, ...]:
    """Those that were written as JSON."""
    return tuple(Skipped(str(name), str(reason)) for name, reason in values)


def warning(skipped: Sequence[Skipped]) -> tuple[str, ...]:
    """A sentence on tiles that were left out; none where none were."""
    if not skipped:
        return ()
    some = ", ".join(s.name for s in skipped[:3])
    more = f" and {len(skipped) - 3} more" if len(skipped) > 3 else ""
    return (f"{len(skipped)} tiles could not be read and were left out: {some}{more}",)
