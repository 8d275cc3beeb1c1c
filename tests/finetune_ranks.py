"""Two processes with half a batch each against one with the whole: run by torchrun in a test.

In double precision, where nothing is lost, they must do the same: shared batch normalisation gives
torch's own outputs, gradients and statistics, and whole trainings the same curve. In single
precision they must be as near the double-precision truth as torch's own is. Each prints OK.
"""

from __future__ import annotations

import copy
import sys
import tempfile
from typing import Any

import numpy as np
import torch
from torch import nn

from finetune_tiles import chips as make_chips
from quadrat.finetuning import feed, loop
from quadrat.finetuning.checkpoint import Checkpoints
from quadrat.finetuning.distributed import Group, SharedBatchNorm, joined, shared_statistics
from quadrat.finetuning.settings import FinetuneSettings

CPU = torch.device("cpu")
ALONE = Group(0, 1, CPU)


def layers() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3))


def check_layer(group: Group) -> None:
    torch.manual_seed(5)
    x = torch.randn(7, 3, 8, 8) * 3 + 50  # a mean far from 0, where squares lose precision
    truth = passed(layers(), x.double(), ALONE)
    exact = passed(layers(), x.double(), group)
    near, single = (passed(layers(), x, g) for g in (group, ALONE))
    for name, value in truth.items():
        np.testing.assert_allclose(exact[name], value, rtol=1e-10, atol=1e-10, err_msg=name)
        lost = [float(np.abs(each[name] - value).max()) for each in (near, single)]
        assert lost[0] <= 3 * lost[1] + 1e-6, (name, lost)


def passed(module: nn.Module, x: torch.Tensor, group: Group) -> dict[str, Any]:
    """Output, summed gradients and statistics after one pass, as float64 of the whole batch."""
    module = shared_statistics(module.to(x.dtype), group)
    assert group.size == 1 or type(module[1]) is SharedBatchNorm
    ids = group.share(np.arange(len(x)))
    mine = x[ids].requires_grad_()
    y = module(mine)
    (y**2).sum().backward()
    found = {"y": np.zeros(y[:1].shape).repeat(len(x), 0), "x": np.zeros(x.shape)}
    found["y"][ids], found["x"][ids] = y.detach().numpy(), mine.grad.numpy()
    found |= {name: p.grad.double().numpy() for name, p in module.named_parameters()}
    found = {name: group.total(value) for name, value in found.items()}
    return found | {name: b.double().numpy() for name, b in module.named_buffers()}


class Double(nn.Module):
    """A small network with batch statistics, in double precision."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Sequential(
            nn.Conv2d(3, 8, 5, 4, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
        ).double()  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.inner(x.double())
        return out


def check_training(group: Group, optimizer: str) -> None:
    """31 tiles, which two processes cannot share evenly, in batches of 11, 10 and 10."""
    settings = FinetuneSettings(
        epochs=4, batch=11, lr=0.02, optimizer=optimizer, precision="fp32",
        class_weight="balanced",
    )  # fmt: skip
    chips, labels = make_chips(31 + 24)
    task = loop.Task(labels, np.arange(31), np.arange(31, 55), 3)
    pictures = feed.Pictures(chips, 32, (128.0,) * 3, (64.0,) * 3, settings, CPU)
    curves = []
    for each in (ALONE, group):
        module = copy.deepcopy(Double())
        names = tuple(name for name, _ in module.named_modules())
        with tempfile.TemporaryDirectory() as folder:
            made = loop.Training(
                module, names, pictures, task, settings, each, Checkpoints(folder, {}),
                lambda event, values: None, lambda done, total: None,
            )  # fmt: skip
            found = made.fit(resume=False)
        timed = ("seconds", "samples_per_s")
        curves.append([[v for k, v in h.items() if k not in timed] for h in found.history])
    # logits of validation are kept in single precision
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-6)
    loss = list(found.history[0]).index("loss")
    np.testing.assert_allclose(
        [h[loss] for h in curves[1]], [h[loss] for h in curves[0]], rtol=1e-9
    )


def main() -> None:
    with joined("cpu", 1) as group:
        check_layer(group)
        for optimizer in ("adamw", "sgd"):
            check_training(group, optimizer)
        assert group.from_first(b"words" if group.first else b"") == b"words"
        assert group.any(group.rank == 1) and not group.any(False)
        print("OK")


if __name__ == "__main__":
    sys.exit(main())
