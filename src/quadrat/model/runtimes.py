"""OpenVINO and ONNX Runtime on CPUs: a checked graph becomes a function. `gpu` is the third.

A function takes chips and gives rows, those of several outputs side by side; what they mean and
whether they are sound is judged by `network`. It may be called from several threads at the same
time; each call computes on its own thread(s) of the runtime, so that as many callers as `workers`
keep as many cores busy and no more.

What was found to be fast on CPUs: uint8 tiles in and the normalisation inside the graph, a fixed
batch of 4, one stream of one thread a core, no pinning (pinned threads of two processes share a
core while another idles), and the precision said outright instead of left to the runtime.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from quadrat import graphs
from quadrat.errors import ModelError
from quadrat.model import gpu, machine
from quadrat.model.blocks import Chips, Compiled, Rows, blocks, checked_rows, lengths, translated

BATCH = 4
MAX_OPENVINO = 2500  # operators; half a minute to compile
QUEUED = 16  # blocks of one call that wait or are computed at the same time


def _openvino(
    data: bytes, info: graphs.GraphInfo, precision: str, threads: int, workers: int
) -> Compiled:
    _check_cpu(precision)
    if precision == "bf16" and not machine.has_bf16():
        raise ModelError("this CPU does not compute in bf16; choose --precision fp32 or int8")
    if info.operators > MAX_OPENVINO:
        raise ModelError(
            f"the network has {info.operators:,} operators and OpenVINO's time to compile grows "
            f"with their square: it is given {MAX_OPENVINO:,}; use ONNX Runtime in fp32"
        )
    batch = info.batch or BATCH
    settings = {
        "NUM_STREAMS": workers,
        "INFERENCE_NUM_THREADS": workers * threads,
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "PERFORMANCE_HINT": "THROUGHPUT",
    }
    with translated("OpenVINO"):
        model = machine.openvino_core().read_model(data)
        model.reshape([batch, info.size_px, info.size_px, 3])
        compiled = machine.openvino_core().compile_model(model, "CPU", settings)
        shapes = [compiled.output(name).partial_shape for name in info.outputs]
        places = [compiled.outputs.index(compiled.output(name)) for name in info.outputs]
    dims = []
    for shape in shapes:
        if shape.rank.is_dynamic or len(shape) != 2 or shape[1].is_dynamic:
            raise ModelError("the network must give rows (N, D), one a tile, of a fixed length D")
        dims.append(shape[1].get_length())
    return Compiled("openvino", batch, _Requests(compiled, batch, places, dims).compute)


class _Requests:
    """A model that OpenVINO compiled, and its idle requests, each used by one caller at a time."""

    def __init__(
        self, compiled: Any, batch: int, places: Sequence[int], dims: Sequence[int]
    ) -> None:
        import openvino as ov

        self.compiled, self.batch, self.places, self.dims = compiled, batch, places, dims
        self.idle: queue.LifoQueue[Any] = queue.LifoQueue()
        self.tensor = ov.Tensor

    def _request(self) -> Any:
        try:
            return self.idle.get_nowait()
        except queue.Empty:
            return self.compiled.create_infer_request()

    def compute(self, chips: Chips) -> Rows:
        """Rows for chips; blocks wait in the runtime's queue, so no stream waits for Python."""
        out = np.empty((len(chips), sum(self.dims)), np.float32)
        at_work: deque[tuple[Any, int, int, Chips]] = deque()

        def collect() -> None:
            one, start, n, _ = at_work.popleft()
            one.wait()
            found = [one.get_output_tensor(place).data for place in self.places]
            out[start : start + n] = checked_rows(found, self.batch, self.dims)[:n]
            self.idle.put(one)

        try:
            with translated("OpenVINO"):
                for start, block, n in blocks(chips, self.batch):
                    if len(at_work) == QUEUED:
                        collect()
                    one = self._request()
                    one.set_input_tensor(self.tensor(block, shared_memory=True))
                    one.start_async()
                    at_work.append((one, start, n, block))
                while at_work:
                    collect()
        finally:
            for one, *_ in at_work:  # after an error: the tiles' memory is in use until they end
                with suppress(RuntimeError):
                    one.wait()
        return out


def _onnxruntime(
    data: bytes, info: graphs.GraphInfo, precision: str, threads: int, workers: int
) -> Compiled:
    import onnxruntime as ort

    _check_cpu(precision)
    if precision == "bf16":
        raise ModelError("ONNX Runtime does not compute in bf16 on CPUs; use --runtime openvino")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what fails is raised, and need not be printed too
    with translated("ONNX Runtime"):
        session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    batch, names, dims = info.batch or BATCH, list(info.outputs), lengths(session, info)

    def compute(chips: Chips) -> Rows:
        rows = []
        with translated("ONNX Runtime"):
            for _, block, n in blocks(chips, batch, pad=info.batch is not None):
                found = session.run(names, {info.input: block})
                rows.append(checked_rows(found, len(block), dims)[:n])
        length = sum(dim or 0 for dim in dims)
        return np.concatenate(rows) if rows else np.empty((0, length), np.float32)

    return Compiled("onnxruntime", batch, compute)


def _cuda(
    data: bytes, info: graphs.GraphInfo, precision: str, threads: int, workers: int
) -> Compiled:
    return gpu.compiled(data, info, precision, threads)


def _check_cpu(precision: str) -> None:
    if precision == "fp16":
        raise ModelError("fp16 is for GPUs, and there is none here; use --precision fp32")


RUNTIMES: dict[str, Callable[[bytes, graphs.GraphInfo, str, int, int], Compiled]] = {
    "openvino": _openvino,
    "onnxruntime": _onnxruntime,
    "cuda": _cuda,
}
