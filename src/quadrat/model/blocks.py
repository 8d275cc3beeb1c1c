"""What every runtime does with tiles: blocks of them go in, checked rows come out.

It knows no runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quadrat import border, graphs
from quadrat.errors import ModelError

Chips = NDArray[np.uint8]
Rows = NDArray[np.float32]


class Compiled(NamedTuple):
    """A graph that is ready: the runtime's name, tiles a block, chips `(N, H, W, 3)` -> rows."""

    runtime: str
    batch: int
    compute: Callable[[Chips], Rows]


def lengths(session: Any, info: graphs.GraphInfo) -> list[int | None]:
    """Length of a row of each output, where the graph or ONNX Runtime knows it."""
    shown = {
        o.name: last if len(o.shape) == 2 and isinstance(last := o.shape[1], int) else None
        for o in session.get_outputs()
    }
    return [dim or shown[name] for name, dim in zip(info.outputs, info.dims, strict=True)]


def checked_rows(given: Sequence[Rows], tiles: int, dims: Sequence[int | None]) -> Rows:
    """What a runtime gave for a block, if it is one float32 row a tile; ModelError otherwise."""
    for found, dim in zip(given, dims, strict=True):
        if (
            found.dtype != np.float32
            or found.ndim != 2
            or found.shape != (tiles, dim or found.shape[1])
        ):
            raise ModelError(
                f"the network gives {found.dtype} of shape {found.shape} for {tiles} tiles instead "
                "of one float32 row a tile; export it again"
            )
    return given[0] if len(given) == 1 else np.concatenate(given, axis=1)


def blocks(chips: Chips, batch: int, pad: bool = True) -> Iterator[tuple[int, Chips, int]]:
    """(start, block, tiles of it that count), each block `batch` long if `pad`."""
    for start in range(0, len(chips), batch):
        block = chips[start : start + batch]
        n = len(block)
        if n < batch and pad:
            full = np.zeros((batch, *chips.shape[1:]), np.uint8)
            full[:n] = block
            block = full
        yield start, block, n


@contextmanager
def translated(runtime: str) -> Iterator[None]:
    """Both runtimes raise their own trees, some of them bare RuntimeError."""
    try:
        yield
    except (ModelError, MemoryError):
        raise
    except Exception as error:
        raise ModelError(f"{runtime} cannot run the network: {border.short(error)}") from error
