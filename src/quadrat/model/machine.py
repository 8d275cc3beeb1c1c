"""What this machine computes in: instructions of its CPU, precisions, a GPU."""

from __future__ import annotations

import platform
from functools import lru_cache
from pathlib import Path
from typing import Any

INT8_FLAGS = frozenset(("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"))
GPU_PROVIDER = "CUDAExecutionProvider"  # of ONNX Runtime
GPU_PRECISIONS = ("fp32", "fp16")
CPU_FACTS = ("model name", "flags", "Features")  # lines of /proc/cpuinfo, on x86 and ARM


@lru_cache(maxsize=1)
def _cpuinfo() -> dict[str, str]:
    """The first CPU's model and instructions as Linux lists them; empty elsewhere."""
    facts: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() in CPU_FACTS:
                facts.setdefault(name.strip(), value.strip())
    except OSError:
        return {}
    return facts


def cpu_name() -> str:
    """The CPU's model and instructions: two machines that share a home folder may differ."""
    return " ".join(_cpuinfo().values()) or platform.processor() or platform.machine()


def cpu_flags() -> frozenset[str]:
    """The instructions that Linux lists for this CPU; empty elsewhere."""
    facts = _cpuinfo()
    return frozenset(facts.get("flags", facts.get("Features", "")).split())


@lru_cache(maxsize=1)
def openvino_core() -> Any:
    """OpenVINO's one core of this process."""
    import openvino as ov

    return ov.Core()


@lru_cache(maxsize=1)
def _capabilities() -> frozenset[str]:
    """Precisions that OpenVINO computes in here; none where it cannot be loaded."""
    try:
        return frozenset(openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    except (ImportError, RuntimeError):
        return frozenset()


def has_bf16() -> bool:
    """Whether this CPU computes in bf16 by itself (AVX-512 BF16 or AMX)."""
    return "BF16" in _capabilities()


def has_int8() -> bool:
    """Whether this CPU adds int8 products exactly (VNNI, AMX, or ARM's dot product).

    Others add pairs of products in 16 bits, which overflow at the ends of the range: what a network
    gives there is another answer, not a slower one.
    """
    if platform.machine() in ("arm64", "aarch64") and platform.system() == "Darwin":
        return True
    return not INT8_FLAGS.isdisjoint(cpu_flags())


def has_cuda() -> bool:
    """Whether ONNX Runtime has a GPU to run on."""
    import onnxruntime as ort

    return GPU_PROVIDER in ort.get_available_providers()


def device(precision: str) -> str:
    """What computes in a precision on this machine, in words."""
    return "GPU (CUDA)" if precision in GPU_PRECISIONS and has_cuda() else "CPU"
