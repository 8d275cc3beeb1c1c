"""`last_only` without repeating the frozen network: features once a view, then a layer on them.

A view is the plain tiles, or one augmented version of them. Features are standardised for training
(a linear layer learns faster so) and the scaling is folded into the trained layer, so that the
network stays what it was. It does not know optimisers or epochs: the loop trains the layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quadrat.finetuning import networks
from quadrat.finetuning.device import autocast
from quadrat.finetuning.distributed import Group
from quadrat.finetuning.feed import Ids, Pictures, TrainBatch
from quadrat.finetuning.loop import OnProgress
from quadrat.heads import fit as heads

STRENGTH = 0.005  # of the penalty: the training that follows starts from it
LOWEST = -10.0  # logit of a class that no tile has
VIEW_KEY = 1 << 32  # apart from the epochs, which also make keys of random choices


@dataclass(frozen=True)
class FeatureViews:
    """Feeds tiles as standardised features; see `feed.Feed`.

    Attributes:
        views: (V, N, D) float32; view 0 is the plain tiles. Rows of tiles in no split are 0.
        mean, scale: (D,) of the training tiles' plain features, already applied.
    """

    views: NDArray[np.float32]
    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    device: torch.device

    def train(self, epoch: int, plan: Sequence[Ids], rank: int, size: int) -> Iterator[TrainBatch]:
        """Epochs take the views in turn."""
        view = self.views[(epoch - 1) % len(self.views)]
        for step, ids in enumerate(plan):
            mine = ids[rank::size]
            yield TrainBatch(step, len(ids), mine, torch.from_numpy(view[mine]).to(self.device))

    def plain(self, ids: Ids, batch: int) -> Iterator[tuple[Ids, Tensor]]:
        """The plain view."""
        for start in range(0, len(ids), batch):
            some = ids[start : start + batch]
            yield some, torch.from_numpy(self.views[0][some]).to(self.device)


def featurize(
    network: networks.TorchNetwork,
    pictures: Pictures,
    *,
    train: Ids,
    others: Ids,
    group: Group,
    on_progress: OnProgress,
) -> FeatureViews:
    """Features of every view; each process does its share, and all get all of them.

    Args:
        train: tiles of every view.
        others: tiles of the plain view alone (validation and test).
    """
    body = networks.without_head(network).to(group.device)
    body = body.to(memory_format=torch.channels_last)
    settings, count = pictures.settings, len(pictures.chips)
    views = np.zeros((settings.views, count, network.dim), np.float32)
    total, done = len(train) * settings.views + len(others), 0
    on_progress(0, total)
    with torch.inference_mode(), autocast(settings.precision, group.device):
        for some, inputs in pictures.plain(
            group.share(np.concatenate([train, others])), settings.batch
        ):
            views[0, some] = body(inputs).float().cpu().numpy()
            done += len(some) * group.size
            on_progress(min(done, total), total)
        for view in range(1, settings.views):
            for start in range(0, len(train), settings.batch):
                ids = train[start : start + settings.batch]
                key = (settings.seed, VIEW_KEY + view, start)
                mine = slice(group.rank, None, group.size)
                if len(ids[mine]):
                    inputs = pictures.augmented(ids, key, mine)
                    views[view, ids[mine]] = body(inputs).float().cpu().numpy()
                done += len(ids)
                on_progress(min(done, total), total)
    if group.size > 1:
        for view in range(settings.views):
            views[view] = group.total(views[view].astype(np.float64))
    mean: NDArray[np.float32] = views[0, train].mean(0)
    scale: NDArray[np.float32] = views[0, train].std(0)
    scale[scale <= 1e-6 * np.maximum(1.0, np.abs(mean))] = 1.0
    views -= mean
    views /= scale
    return FeatureViews(views, mean, scale, group.device)


def fit_head(
    layer: nn.Linear,
    features: FeatureViews,
    shares: NDArray[np.floating],
    train: Ids,
    seed: int,
) -> None:
    """Give a layer the weights of a logistic head, as `quadrat train` fits them.

    Args:
        shares: (n, K) class shares of the training tiles.
        train: places of the training tiles.
    """
    x, settings = features.views[0][train], heads.Settings(reg=STRENGTH, seed=seed)
    logistic, _ = heads.fit(x, shares.astype(np.float64), layer.out_features, settings)
    if not isinstance(logistic, heads.Logistic):
        raise TypeError("a logistic head was asked for")
    weight = logistic.coef / logistic.scale
    bias = logistic.intercept - weight @ logistic.mean
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        # a class without training tiles gets a low logit that training can still raise
        layer.bias.copy_(torch.from_numpy(np.maximum(bias, LOWEST)))
    fold(layer, features)


def fold(layer: nn.Linear, features: FeatureViews) -> None:
    """Make a layer trained on standardised features work on features as they are."""
    with torch.no_grad():
        scale = torch.from_numpy(features.scale).to(layer.weight.device)
        mean = torch.from_numpy(features.mean).to(layer.weight.device)
        layer.weight.div_(scale)
        layer.bias.sub_(layer.weight @ mean)
