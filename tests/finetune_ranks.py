"""Two processes with half a batch each against one with the whole: run by torchrun in a test.

Each checks that shared batch normalisation gives outputs, gradients and statistics of torch's own
on the whole batch, that sums and bytes are shared, and prints OK.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch import nn

from quadrat.finetune.distributed import joined, shared_statistics


def main() -> None:
    with joined("cpu", 1) as group:
        torch.manual_seed(3)
        whole = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3))
        mine = shared_statistics(
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3)),
            group,
        )
        assert type(mine[1]).__name__ == "SharedBatchNorm"
        mine.load_state_dict(whole.state_dict())
        x = torch.randn(7, 3, 8, 8) * 3 + 50  # a mean far from 0, where squares lose precision
        ids = group.share(np.arange(7))
        (whole(x) ** 2).sum().backward()
        y = mine(x[ids])
        torch.testing.assert_close(y, whole.eval()(x)[ids] * 0 + whole.train()(x)[ids])
        (y**2).sum().backward()
        for a, b in zip(whole.parameters(), mine.parameters(), strict=True):
            summed = group.total(b.grad.double().numpy())
            np.testing.assert_allclose(summed, a.grad.double().numpy(), rtol=2e-3, atol=1e-3)
        for _ in range(1):  # the whole network has seen the batch twice
            mine(x[ids])
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            torch.testing.assert_close(getattr(mine[1], name), getattr(whole[1], name))
        torch.testing.assert_close(mine.eval()(x), whole.eval()(x))
        assert group.from_first(b"words" if group.first else b"") == b"words"
        assert group.any(group.rank == 1) and not group.any(False)
        print("OK")


if __name__ == "__main__":
    sys.exit(main())
