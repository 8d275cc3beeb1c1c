"""The sets that training and validation tiles come from, opened and told apart.

It does not know pixels: `data` reads them.
"""

from __future__ import annotations

from dataclasses import dataclass

from quadrat import storage, tiles
from quadrat.errors import TrainError
from quadrat.legend import Legend


@dataclass(frozen=True)
class Sets:
    """The sets that tiles come from, opened and compared."""

    source: tiles.Source
    validation: tiles.Source | None
    legend: Legend
    where: str

    @property
    def digest(self) -> str:
        """SHA-256 that changes when tiles of either set do."""
        if self.validation is None:
            return self.source.digest
        return storage.digest_json([self.source.digest, self.validation.digest])

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user of the sources should know, a sentence each."""
        given = (self.source, self.validation)
        return tuple(t for s in given if s is not None for t in tiles.source_warnings(s))


def open_sets(source: tiles.Source | str, validation: tiles.Source | str | None) -> Sets:
    """Open the training set and, where it is a set of its own, the validation set.

    Raises:
        TrainError: the validation set is the training set, or has other classes or tile sizes.
    """
    opened = tiles.open_tiles(source) if isinstance(source, str) else source
    where = storage.redact(opened.uri)
    if opened.legend is None:
        raise TrainError(f"{where} has no legend: its tiles have no labels to learn from")
    if validation is None:
        return Sets(opened, None, opened.legend, where)
    other = (
        tiles.open_tiles(validation, size_px=opened.size_px, legend=opened.legend)
        if isinstance(validation, str)
        else validation
    )
    there = storage.redact(other.uri)
    a, b = storage.normalise(opened.uri), storage.normalise(other.uri)
    inside = f"{a}/".startswith(f"{b}/") or f"{b}/".startswith(f"{a}/")
    if inside or opened.digest == other.digest:
        raise TrainError(
            f"{there} holds the training tiles: accuracy on them would be no accuracy; "
            "give other tiles with --validation, or leave it out to hold a fifth back"
        )
    if other.legend is None or other.legend.names != opened.legend.names:
        raise TrainError(f"{there} has other classes than {where}; cut both with one legend")
    if other.size_px != opened.size_px:
        raise TrainError(
            f"{there} has tiles of {other.size_px} px and {where} of {opened.size_px}; "
            "cut both at one size"
        )
    return Sets(opened, other, opened.legend, where)
