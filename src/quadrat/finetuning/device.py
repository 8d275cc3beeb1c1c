"""Precision and memory of the device that a network is trained on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from quadrat.errors import TrainError


@contextlib.contextmanager
def autocast(precision: str, device: torch.device) -> Iterator[None]:
    """Mixed precision where asked for (`fp32` or `bf16`; see `resolve_precision`)."""
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        yield


def resolve_precision(precision: str, device: torch.device) -> str:
    """`fp32` or `bf16`; `auto` is bf16 where the device computes in it.

    Raises:
        TrainError: bf16 asked for on a GPU that lacks it.
    """
    if device.type == "cuda":
        has = torch.cuda.is_bf16_supported(including_emulation=False)
        if precision == "bf16" and not has:
            raise TrainError("this GPU does not compute in bf16; use --precision fp32")
    else:
        has = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if precision == "auto":
        return "bf16" if has else "fp32"
    return precision


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch ran out of memory; on a CPU only the error's text says so."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or (
        "DefaultCPUAllocator" in text or "not enough memory" in text
    )
