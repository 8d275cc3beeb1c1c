"""Batches of inputs for the training loop, of tiles named by their places.

Batches are prepared on a thread of their own while the network works on the last one. It does not
know labels, networks or optimisers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quadrat import tiles
from quadrat.finetuning import augment
from quadrat.finetuning.settings import FinetuneSettings

Ids = NDArray[np.int64]
T = TypeVar("T")


@dataclass(frozen=True)
class TrainBatch:
    """One process's part of a step.

    Attributes:
        step: the step's number in its epoch.
        size: tiles of the step over all processes.
        ids: (n,) places of this process's tiles.
        inputs: (n, ...) what the network takes.
    """

    step: int
    size: int
    ids: Ids
    inputs: Tensor


class Feed(Protocol):
    """Gives the network's inputs for tiles named by their places."""

    def train(self, epoch: int, plan: Sequence[Ids], rank: int, size: int) -> Iterator[TrainBatch]:
        """This process's part of every step of an epoch, augmented."""

    def plain(self, ids: Ids, batch: int) -> Iterator[tuple[Ids, Tensor]]:
        """The tiles as they are, in batches."""


def plan(ids: Ids, batch: int, seed: int, epoch: int) -> list[Ids]:
    """Batches of an epoch: every tile once, in random order.

    The batches differ by one tile at most: a small rest would have batch statistics of its own.
    """
    order = np.random.default_rng((seed, epoch)).permutation(ids)
    return np.array_split(order, max(1, -(-len(ids) // batch)))


@dataclass(frozen=True)
class Pictures:
    """Feeds tiles as pictures.

    Attributes:
        chips: (N, S, S, 3) uint8, in memory or mapped from a file.
        pixels, mean, std: what the network takes.
    """

    chips: NDArray[np.uint8]
    pixels: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    settings: FinetuneSettings
    device: torch.device

    def train(self, epoch: int, plan: Sequence[Ids], rank: int, size: int) -> Iterator[TrainBatch]:
        """Augmented pictures; the choices depend on seed, epoch and step alone."""

        def batches() -> Iterator[TrainBatch]:
            for step, ids in enumerate(plan):
                mine = slice(rank, None, size)
                inputs = self.augmented(ids, (self.settings.seed, epoch, step), mine)
                yield TrainBatch(step, len(ids), ids[mine], inputs)

        return _ahead(batches())

    def augmented(self, ids: Ids, key: tuple[int, ...], mine: slice = slice(None)) -> Tensor:
        """Augmented pictures of some of the tiles of a batch."""
        chosen = augment.draw(
            len(ids), key, jitter=self.settings.jitter, flips=self.settings.flips
        ).rows(mine)
        return augment.augmented(
            self.chips[ids[mine]], chosen, crop=self.settings.crop, pixels=self.pixels,
            mean=self.mean, std=self.std, device=self.device,
        )  # fmt: skip

    def plain(self, ids: Ids, batch: int) -> Iterator[tuple[Ids, Tensor]]:
        """Whole tiles."""

        def batches() -> Iterator[tuple[Ids, Tensor]]:
            for start in range(0, len(ids), batch):
                some = ids[start : start + batch]
                yield some, augment.plain(
                    self.chips[some], pixels=self.pixels, mean=self.mean, std=self.std,
                    device=self.device,
                )  # fmt: skip

        return _ahead(batches())


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, made on another thread by one core: the network has the others."""

    def made() -> Iterator[T]:
        torch.set_num_threads(1)  # of this thread alone
        yield from items

    return tiles.prefetched(made())
