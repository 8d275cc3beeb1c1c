"""Views of tiles: quarter turns and mirror images, which show the same ground.

A view costs as much as a tile. Heads that train on several are steadier; scores that are the mean
over several are better (docs/performance.md says by how much, and what it costs).
"""

from __future__ import annotations

import numpy as np

from quadrat.errors import ModelError
from quadrat.model.blocks import Chips

MOST = 8


def check(views: int) -> None:
    """ModelError unless there are so many views: 1 to 8."""
    if not 1 <= views <= MOST:
        raise ModelError(f"--views {views} is not 1 to {MOST}: four quarter turns, and mirrored")


def seen(chips: Chips, view: int) -> Chips:
    """Chips (N, S, S, 3) in one view: 0 as they are, 1 to 3 turned, 4 to 7 mirrored and turned."""
    if not view:
        return chips
    mirrored = chips[:, :, ::-1] if view >= 4 else chips
    return np.ascontiguousarray(np.rot90(mirrored, view % 4, axes=(1, 2)))
