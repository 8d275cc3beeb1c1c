"""How unlike its training tiles a tile is to a fine-tuned network; see `heads.distance`.

The network has learned from all training tiles, so the unit is told by the validation tiles, which
it has not. It does not know graphs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from quadrat.finetuning import networks
from quadrat.finetuning.feed import Feed, Ids
from quadrat.finetuning.settings import FinetuneSettings
from quadrat.heads import distance as distances


@dataclass(frozen=True)
class Likeness:
    """Distances, and what they are for some tiles.

    Attributes:
        distance: None where the tiles are too few.
        of_held: (n,) distances of the held-out tiles, in their order; empty where there are none.
    """

    distance: distances.Distance | None
    of_held: NDArray[np.float64]


def measure(
    network: networks.TorchNetwork,
    feed: Feed,
    *,
    train: Ids,
    held: Ids,
    settings: FinetuneSettings,
    device: torch.device,
) -> Likeness:
    """Distances from training tiles by the network's features.

    Args:
        feed: gives the tiles as they are.
        train, held: training tiles, and tiles that the network has not seen.
    """
    body = networks.without_head(network).to(device).to(memory_format=torch.channels_last)
    rng = np.random.default_rng(settings.seed)
    drawn = np.sort(rng.permutation(train)[: distances.MOST])
    wanted = np.concatenate([drawn, held])
    rows = []
    with torch.inference_mode():
        for _, inputs in feed.plain(wanted, max(1, settings.batch)):
            rows.append(body(inputs).float().cpu().numpy())
    x = np.concatenate(rows)
    mine, others = x[: len(drawn)], x[len(drawn) :]
    distance = distances.fit_to(mine, others, settings.seed)
    return Likeness(distance, np.empty(0) if distance is None else distance(others))
