"""How steps are taken: the optimiser, its learning rate, and the classes' weights in the loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quadrat.finetuning.settings import FinetuneSettings


def make_optimizer(
    module: nn.Module,
    settings: FinetuneSettings,
    steps_to_head: Mapping[str, int] | None = None,
) -> torch.optim.Optimizer:
    """The optimiser of the retrained parameters; only weights decay, not biases and norms.

    Each group has a `scale`, which its learning rate is multiplied by.

    Args:
        steps_to_head: parameter -> stages between it and the last, for a decay by layer.
    """
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        steps = (steps_to_head or {}).get(name, 0) if settings.layer_decay < 1 else 0
        decays = parameter.ndim > 1
        group = groups.setdefault(
            (steps, decays),
            {
                "params": [],
                "weight_decay": settings.weight_decay if decays else 0.0,
                "scale": settings.layer_decay**steps,
                "lr": settings.peak_lr * settings.layer_decay**steps,
            },
        )
        group["params"].append(parameter)
    ordered = [groups[key] for key in sorted(groups, key=lambda key: (key[0], not key[1]))]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(ordered, settings.peak_lr, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(ordered, settings.peak_lr)


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
