"""What could not be read and was left out, with the reason."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Skipped:
    """A tile, file or item that is left out.

    Attributes:
        name: its path, tile id or item id.
        reason: why, in one line.
    """

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"

    def to_list(self) -> list[str]:
        """Plain values: name and reason."""
        return [self.name, self.reason]


def from_lists(values: Iterable[Sequence[object]]) -> tuple[Skipped, ...]:
    """What `to_list` made."""
    return tuple(Skipped(str(name), str(reason)) for name, reason in values)


def to_lists(skipped: Iterable[Skipped]) -> list[list[str]]:
    """Plain values, for JSON."""
    return [s.to_list() for s in skipped]


def warning(skipped: Sequence[Skipped]) -> tuple[str, ...]:
    """A sentence on tiles that were left out; none where none were."""
    if not skipped:
        return ()
    some = ", ".join(s.name for s in skipped[:3])
    more = f" and {len(skipped) - 3} more" if len(skipped) > 3 else ""
    return (f"{len(skipped)} tiles could not be read and were left out: {some}{more}",)
