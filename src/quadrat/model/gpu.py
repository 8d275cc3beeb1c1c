"""ONNX Runtime on a GPU: large batches, tiles and rows copied by IO binding, fp16.

A call's blocks are copied and computed one after the other; callers on several threads (as many as
workers) keep the card busy, one copying while another computes; tiles are decoded ahead of both.
fp32 is fp32: TF32 is off, which would keep 10 bits of the mantissa. fp16 is made of the float graph
when it is compiled; whether a model may be scored in it, validation tiles decided in training.

No GPU was at hand where this was written: tests run it on ONNX Runtime's CPU provider in the place
of CUDA's, and no speed is known.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from quadrat import graphs
from quadrat.errors import ModelError
from quadrat.model import machine
from quadrat.model.blocks import Chips, Compiled, Rows, blocks, checked_rows, lengths, translated

BATCH = 128
# TF32 off; no search of minutes for the fastest convolution of each shape
OPTIONS = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
# sums of many numbers stay in fp32
FLOAT_LAYERS = ("Softmax", "ReduceMean", "ReduceSum", "GlobalAveragePool")


def compiled(data: bytes, info: graphs.GraphInfo, precision: str, threads: int) -> Compiled:
    """A checked graph on the GPU.

    Args:
        precision: `fp32` or `fp16`.
        threads: for what is left to the CPU.

    Raises:
        ModelError: another precision; no GPU, or one whose libraries do not load.
    """
    if precision not in machine.GPU_PRECISIONS:
        raise ModelError(
            f"on a GPU models run in fp32 or fp16, not {precision}; leave --precision out"
        )
    if not machine.has_cuda():
        raise ModelError(
            "no GPU for ONNX Runtime here; install onnxruntime-gpu on a machine with CUDA, or use "
            "--runtime auto"
        )
    session = _session(half(data) if precision == "fp16" else data, threads)
    batch = info.batch or BATCH
    names = list(info.outputs)
    dims = lengths(session, info)

    def compute(chips: Chips) -> Rows:
        rows = []
        # blocks of one size: another size would be planned for anew; a call of one block is its own
        pad = info.batch is not None or len(chips) > batch
        with translated("ONNX Runtime"):
            for _, block, n in blocks(chips, batch, pad=pad):
                found = _bound(session, info.input, names, block)
                rows.append(checked_rows(found, len(block), dims)[:n])
        length = sum(dim or 0 for dim in dims)
        return np.concatenate(rows) if rows else np.empty((0, length), np.float32)

    return Compiled("cuda", batch, compute)


def half(data: bytes) -> bytes:
    """The graph in fp16, with float32 at its ends and in `FLOAT_LAYERS`."""
    from onnxruntime.transformers import float16

    proto = graphs.parse(data, "the network")
    with translated("ONNX Runtime"):
        made = float16.convert_float_to_float16(
            proto,
            keep_io_types=True,
            op_block_list=[*float16.DEFAULT_OP_BLOCK_LIST, *FLOAT_LAYERS],
        )
    return graphs.serialise(made)


def _session(data: bytes, threads: int) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what fails is raised, and need not be printed too
    provider = machine.GPU_PROVIDER
    with translated("ONNX Runtime"):
        session = ort.InferenceSession(data, options, providers=[(provider, OPTIONS)])
    if provider not in session.get_providers():
        raise ModelError("the GPU cannot be used: CUDA or cuDNN did not load; use a CPU runtime")
    return session


def _bound(session: Any, entry: str, names: list[str], block: Chips) -> list[Rows]:
    """Outputs of one block; the runtime copies bytes to the card, and only the rows back."""
    binding = session.io_binding()
    binding.bind_cpu_input(entry, block)
    for name in names:
        binding.bind_output(name)
    session.run_with_iobinding(binding)
    rows: list[Rows] = binding.copy_outputs_to_cpu()
    return rows
