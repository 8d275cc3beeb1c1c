"""Several processes that train as one: joining, sums over all of them, shared batch statistics.

Processes are started by torchrun (see `launch`), by a cluster's own starter or by Spark's
TorchDistributor; all set the same variables. Each process draws the same random choices for the
whole batch and works on every size-th tile of it, so that a run with several processes follows the
same loss curve as one process with the same global batch. It does not know tiles or networks.
"""

from __future__ import annotations

import datetime
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from quadrat import border
from quadrat.errors import TrainError

TIMEOUT_S = 1800  # rank 0 may decode, validate or write alone for long
LEAVE_S = 10  # a process that went without a word is not waited for longer


@dataclass(frozen=True)
class Group:
    """The processes that train together.

    Attributes:
        rank, size: this process's place, and how many there are.
        device: where this process computes.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes files and tells listeners."""
        return self.rank == 0

    def total(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sum over all processes, in double precision: the same everywhere."""
        if self.size == 1:
            return values
        x = torch.from_numpy(np.array(values, np.float64)).to(self.device)  # summed in place
        dist.all_reduce(x)
        summed: NDArray[np.float64] = x.cpu().numpy()
        return summed

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        return bool(self.total(np.array([float(flag)]))[0] > 0)

    def wait(self) -> None:
        """Wait until all processes have called this."""
        self.total(np.zeros(1))

    def from_first(self, data: bytes) -> bytes:
        """The first process's bytes, in all of them."""
        if self.size == 1:
            return data
        count = int(self.total(np.array([float(len(data)) if self.first else 0.0]))[0])
        x = torch.zeros(count, dtype=torch.uint8, device=self.device)
        if self.first:
            x.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        dist.broadcast(x, 0)
        return x.cpu().numpy().tobytes()

    def share(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """This process's part of them: every size-th."""
        return ids[self.rank :: self.size]


@contextmanager
def joined(device: str, threads: int | None) -> Iterator[Group]:
    """Join the processes that the environment names, or stand alone.

    Args:
        device: `auto`, `cpu` or `cuda`.
        threads: threads of this process; None leaves torch's own number.

    Raises:
        TrainError: no GPU where one was asked for; the others cannot be reached.
    """
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local = int(os.environ.get("LOCAL_RANK", 0))
    chosen = _device(device, local)
    if threads is not None:
        torch.set_num_threads(threads)
    if size == 1:
        yield Group(0, 1, chosen)
        return
    backend = "nccl" if chosen.type == "cuda" else "gloo"
    try:
        dist.init_process_group(backend, timeout=datetime.timedelta(seconds=TIMEOUT_S))
    except (RuntimeError, ValueError) as error:
        raise TrainError(
            f"process {rank} of {size} cannot reach the others ({border.short(error)}); "
            "check the address and port given to torchrun"
        ) from None
    group = Group(rank, size, chosen)
    try:
        yield group
        # none closes its connections while another still waits for an answer through them: gloo
        # ends a process whose peer is gone
        group.wait()
        _all_done(size)
    finally:
        dist.destroy_process_group()


def _all_done(size: int) -> None:
    """Wait until every process has its last answer, by a count in the rendezvous store."""
    store = dist.distributed_c10d._get_default_store()
    count, until = store.add("quadrat/done", 1), time.monotonic() + LEAVE_S
    while count < size and time.monotonic() < until:
        time.sleep(0.01)
        count = store.add("quadrat/done", 0)


def _device(wanted: str, local: int) -> torch.device:
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise TrainError("--device cuda: there is no GPU that torch can use; use --device cpu")
    if wanted == "cpu" or not there:
        return torch.device("cpu")
    if local >= torch.cuda.device_count():
        raise TrainError(
            f"process {local} has no GPU of its own: there are {torch.cuda.device_count()}; "
            "use as many processes as GPUs"
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


def on_device(module: nn.Module, group: Group) -> nn.Module:
    """The module on its device, channels last, with statistics over all processes."""
    module = shared_statistics(module.to(group.device), group)
    return module.to(memory_format=torch.channels_last)


def averaged(module: nn.Module, group: Group) -> nn.Module:
    """The module with its gradients averaged over all processes."""
    if group.size == 1:
        return module
    devices = [group.device.index] if group.device.type == "cuda" else None
    with warnings.catch_warnings():
        # Newer versions of torch rename the option and warn of its name that older ones know.
        warnings.simplefilter("ignore", FutureWarning)
        return nn.parallel.DistributedDataParallel(module, devices, broadcast_buffers=False)


def shared_statistics(module: nn.Module, group: Group) -> nn.Module:
    """The network with batch normalisation over the batches of all processes."""
    if group.size == 1:
        return module
    if group.device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        return converted
    for name, each in list(module.named_modules()):
        if type(each) is nn.BatchNorm2d:
            module.set_submodule(name, SharedBatchNorm.like(each))
    return module


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation with the statistics of all processes' tiles, on any device.

    SyncBatchNorm, which torch has for this, runs on CUDA only.
    """

    @classmethod
    def like(cls, other: nn.BatchNorm2d) -> SharedBatchNorm:
        """The same layer, with the same tensors."""
        made = cls(other.num_features, other.eps, other.momentum)
        made.weight, made.bias = other.weight, other.bias
        made.running_mean, made.running_var = other.running_mean, other.running_var
        made.num_batches_tracked = other.num_batches_tracked
        made.training = other.training
        return made

    def forward(self, input: Tensor) -> Tensor:
        """The normalised input; in training by the statistics of all processes."""
        if not self.training:
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):
            x = input.to(torch.promote_types(input.dtype, torch.float32))
            mean, var, total = _statistics(x.detach())
            self._follow(mean, var, total)
            y: Tensor = _Normalise.apply(
                x, self.weight, self.bias, mean, torch.rsqrt(var + self.eps), total
            )
        return y.to(input.dtype)

    def _follow(self, mean: Tensor, var: Tensor, total: float) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        with torch.no_grad():
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
            rate = 0.1 if self.momentum is None else self.momentum
            unbiased = var * (total / max(1.0, total - 1.0))
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), rate)
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), rate)


def _statistics(x: Tensor) -> tuple[Tensor, Tensor, float]:
    """Mean and variance (C,) over all processes' (N, C, H, W), and how many values each is of.

    They are combined in double precision and in two sums (Chan, Golub & LeVeque 1979), which does
    not lose precision as a difference of squares would.
    """
    count = float(x.numel() // x.shape[1])
    var, mean = (v.double() for v in torch.var_mean(x, (0, 2, 3), correction=0))
    sums = torch.cat([count * mean, mean.new_tensor([count])])
    dist.all_reduce(sums)
    total = float(sums[-1])
    whole = sums[:-1] / total
    spread = count * (var + (mean - whole) ** 2)
    dist.all_reduce(spread)
    return whole, spread / total, total


class _Normalise(torch.autograd.Function):
    """`(x - mean) / deviation * weight + bias`, mean and deviation being those of all x.

    The gradient of x is that of Ioffe & Szegedy (2015), with its two sums over all processes;
    those of weight and bias are this process's part, as of any other parameter.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, scale: Tensor, total: float
    ) -> Tensor:
        mean, scale = mean.to(x.dtype), scale.to(x.dtype)
        ctx.save_for_backward(x, weight, mean, scale)
        ctx.total = total
        y = (x - _wide(mean)) * _wide(scale * weight)
        return y.add_(_wide(bias))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale = ctx.saved_tensors
        (grad,) = grads
        unit = (x - _wide(mean)) * _wide(scale)
        bias_part, weight_part = grad.sum((0, 2, 3)), (grad * unit).sum((0, 2, 3))
        sums = torch.cat([bias_part, weight_part]).double()
        dist.all_reduce(sums)
        shift, slope = (sums / ctx.total).to(x.dtype).chunk(2)
        grad_x = (grad - _wide(shift) - unit * _wide(slope)) * _wide(scale * weight)
        return grad_x, weight_part, bias_part, None, None, None


def _wide(values: Tensor) -> Tensor:
    """(C,) as it stands beside (N, C, H, W)."""
    return values.view(1, -1, 1, 1)
