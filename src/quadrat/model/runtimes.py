"""OpenVINO and ONNX Runtime: a checked graph becomes a function. The only home of both.

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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quadrat import border, graphs
from quadrat.errors import ModelError
from quadrat.model import machine

Chips = NDArray[np.uint8]
Rows = NDArray[np.float32]

BATCH = 4
GPU_BATCH = 64
MAX_OPENVINO = 2500  # operators; half a minute to compile
QUEUED = 16  # blocks of one call that wait or are computed at the same time


class Compiled(NamedTuple):
    """A graph that is ready: the runtime's name, tiles a block, chips `(N, H, W, 3)` -> rows."""

    runtime: str
    batch: int
    compute: Callable[[Chips], Rows]


def _openvino(
    data: bytes, info: graphs.GraphInfo, precision: str, threads: int, workers: int
) -> Compiled:
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
    with _translated("OpenVINO"):
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
            out[start : start + n] = _rows(found, self.batch, self.dims)[:n]
            self.idle.put(one)

        try:
            with _translated("OpenVINO"):
                for start, block, n in _blocks(chips, self.batch):
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
    return _ort(data, info, precision, threads, "CPUExecutionProvider")


def _cuda(
    data: bytes, info: graphs.GraphInfo, precision: str, threads: int, workers: int
) -> Compiled:
    if precision != "fp32":
        raise ModelError(f"on a GPU models run in fp32, not {precision}; leave --precision out")
    if not machine.has_cuda():
        raise ModelError(
            "no GPU for ONNX Runtime here; install onnxruntime-gpu on a machine with CUDA, or use "
            "--runtime auto"
        )
    return _ort(data, info, precision, threads, "CUDAExecutionProvider")


def _ort(
    data: bytes, info: graphs.GraphInfo, precision: str, threads: int, provider: str
) -> Compiled:
    import onnxruntime as ort

    if precision == "bf16":
        raise ModelError("ONNX Runtime does not compute in bf16 on CPUs; use --runtime openvino")
    cuda = provider == "CUDAExecutionProvider"
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what fails is raised, and need not be printed too
    # TF32 would keep 10 bits of the mantissa and still be called fp32
    providers: list[Any] = [(provider, {"use_tf32": "0"})] if cuda else [provider]
    with _translated("ONNX Runtime"):
        session = ort.InferenceSession(data, options, providers=providers)
    if provider not in session.get_providers():
        raise ModelError("the GPU cannot be used: CUDA or cuDNN did not load; use a CPU runtime")
    batch = info.batch or (GPU_BATCH if cuda else BATCH)
    names = list(info.outputs)
    shown = {o.name: _length(o.shape) for o in session.get_outputs()}
    dims = [dim or shown[name] for name, dim in zip(names, info.dims, strict=True)]

    def compute(chips: Chips) -> Rows:
        rows = []
        with _translated("ONNX Runtime"):
            for _, block, n in _blocks(chips, batch, pad=info.batch is not None):
                found = session.run(names, {info.input: block})
                rows.append(_rows(found, len(block), dims)[:n])
        length = sum(dim or 0 for dim in dims)
        return np.concatenate(rows) if rows else np.empty((0, length), np.float32)

    return Compiled("cuda" if cuda else "onnxruntime", batch, compute)


RUNTIMES: dict[str, Callable[[bytes, graphs.GraphInfo, str, int, int], Compiled]] = {
    "openvino": _openvino,
    "onnxruntime": _onnxruntime,
    "cuda": _cuda,
}


def _length(shape: Sequence[int | str | None]) -> int | None:
    """The length of a row where the runtime knows it."""
    return last if len(shape) == 2 and isinstance(last := shape[1], int) else None


def _rows(given: Sequence[Rows], tiles: int, dims: Sequence[int | None]) -> Rows:
    """What a runtime gave for a block, if it is one float32 row a tile; ModelError otherwise."""
    for found, dim in zip(given, dims, strict=True):
        if (
            found.dtype != np.float32
            or found.ndim != 2
            or found.shape != (tiles, dim or found.shape[1])
        ):
            raise ModelError(
                f"the network gives {found.dtype} of shape {found.shape} for {tiles} tiles instead "
                "of one float32 row a tile; export it again"
            )
    return given[0] if len(given) == 1 else np.concatenate(given, axis=1)


def _blocks(chips: Chips, batch: int, pad: bool = True) -> Iterator[tuple[int, Chips, int]]:
    """(start, block, tiles of it that count), each block `batch` long if `pad`."""
    for start in range(0, len(chips), batch):
        block = chips[start : start + batch]
        n = len(block)
        if n < batch and pad:
            full = np.zeros((batch, *chips.shape[1:]), np.uint8)
            full[:n] = block
            block = full
        yield start, block, n


@contextmanager
def _translated(runtime: str) -> Iterator[None]:
    """Both runtimes raise their own trees, some of them bare RuntimeError."""
    try:
        yield
    except (ModelError, MemoryError):
        raise
    except Exception as error:
        raise ModelError(f"{runtime} cannot run the network: {border.short(error)}") from error
