"""How steps are taken: the optimiser, its learning rate, and the classes' weights in the loss."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quadrat.finetuning.settings import FinetuneSettings


def make_optimizer(module: nn.Module, settings: FinetuneSettings) -> torch.optim.Optimizer:
    """The optimiser of the retrained parameters; only weights decay, not biases and norms."""
    chosen = [p for p in module.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in chosen if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in chosen if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [g for g in groups if g["params"]]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, settings.peak_lr, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, settings.peak_lr)


def learning_rate(settings: FinetuneSettings, passed: float, steps: int) -> float:
    """Linear warm-up, then half a cosine down to nearly 0 (Loshchilov & Hutter 2017).

    Args:
        passed: epochs passed at the step's start, with their fraction.
        steps: steps of an epoch.
    """
    if passed < settings.warmup:
        return settings.peak_lr * min(1.0, (passed + 1 / steps) / settings.warmup)
    span = max(settings.epochs - settings.warmup, 1e-9)
    return settings.peak_lr * 0.5 * (1 + math.cos(math.pi * (passed - settings.warmup) / span))


def class_weights(shares: NDArray[np.floating], settings: FinetuneSettings) -> Tensor:
    """(K,) weights of the loss with mean 1 over the training tiles.

    Args:
        shares: (N, K) class shares of the training tiles.
    """
    if settings.class_weight == "none":
        return torch.ones(shares.shape[1])
    total = shares.sum(axis=0, dtype=np.float64)
    there = total > 0
    weights = np.where(there, total.sum() / (there.sum() * np.where(there, total, 1.0)), 0.0)
    return torch.tensor(weights, dtype=torch.float32)
