"""Networks that run: OpenVINO and ONNX Runtime behind one seam. The only home of both.

A `Network` takes chips and gives rows; it does not know what the rows mean. It may be called from
several threads at the same time; each call computes on its own thread(s) of the runtime, so that
as many callers as `workers` keep as many cores busy and no more.

What was found to be fast on CPUs: uint8 tiles in and the normalisation inside the graph, a fixed
batch of 4, one stream of one thread a core, no pinning (pinned threads of two processes share a
core while another idles), and the precision said outright instead of left to the runtime.
"""

from __future__ import annotations

import platform
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quadrat import storage
from quadrat.engines.local import available_cpus
from quadrat.errors import ModelError
from quadrat.model import graphs
from quadrat.model.bundle import Model

Chips = NDArray[np.uint8]
Rows = NDArray[np.float32]

PRECISIONS = ("fp32", "bf16", "int8")
BATCH = 4
GPU_BATCH = 64
QUEUED = 16  # blocks of one call that wait or are computed at the same time
INT8_FLAGS = frozenset(("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"))


@dataclass(frozen=True)
class Network:
    """A compiled network: call it with chips `(N, H, W, 3) uint8` for rows `(N, D) float32`.

    Attributes:
        runtime: `openvino`, `onnxruntime` or `cuda`.
        precision: the precision that it computes in: `fp32`, `bf16` or `int8`.
        info: input and output of the graph.
        batch: tiles that are computed together; the last ones of a call are padded, not dropped.
    """

    runtime: str
    precision: str
    info: graphs.GraphInfo
    batch: int
    _compute: Callable[[Chips], Rows]

    def __call__(self, chips: Chips) -> Rows:
        """Rows for chips, in their order; ModelError for chips of another size or type."""
        size = self.info.size_px
        if chips.ndim != 4 or chips.shape[3] != 3 or chips.dtype != np.uint8:
            raise ModelError(
                f"tiles must be uint8 of shape (N, {size}, {size}, 3), not {chips.dtype} of "
                f"{chips.shape}"
            )
        height, width = chips.shape[1:3]
        if size is not None and (height, width) != (size, size):
            raise ModelError(
                f"the model takes tiles of {size} x {size} px and was given {width} x {height}; "
                f"cut or pack the tiles at {size} px, or train a model on tiles of this size"
            )
        return self._compute(np.ascontiguousarray(chips))


def compile_network(
    onnx: bytes,
    *,
    precision: str = "fp32",
    threads: int = 1,
    workers: int | None = None,
    runtime: str = "auto",
    size_px: int | None = None,
) -> Network:
    """Make a graph ready to run on this machine.

    Args:
        onnx: an ONNX file's bytes, chips `(N, H, W, 3) uint8` -> rows `(N, D) float32`. For `int8`
            the quantised graph.
        precision: `fp32`, `bf16` (CPUs that have it, through OpenVINO) or `int8`.
        threads: threads that one call computes on.
        workers: calls at the same time; by default one a core that this process may use.
        runtime: `openvino`, `onnxruntime`, `cuda`, or `auto`: CUDA where there is a GPU and the
            graph is float, else the faster of the two by a short measurement that is kept on disk.
        size_px: the side of the tiles, for a graph that takes any.

    Raises:
        ModelError: a graph that is not one, that no runtime takes, or a precision that this machine
            lacks.
    """
    if precision not in PRECISIONS:
        raise ModelError(f"no precision {precision!r}; choose one of {', '.join(PRECISIONS)}")
    if runtime != "auto" and runtime not in RUNTIMES:
        raise ModelError(f"no runtime {runtime!r}; choose auto or one of {', '.join(RUNTIMES)}")
    if precision == "int8" and not has_int8():
        raise ModelError(
            "this CPU has no exact int8 arithmetic (no VNNI); use --precision fp32 here"
        )
    if threads < 1 or (workers is not None and workers < 1):
        raise ModelError("threads and workers must be 1 or more")
    proto, info = _checked(onnx, size_px)
    # the bytes that were checked are the bytes that run
    data = graphs.serialise(proto)
    workers = workers or max(1, available_cpus() // threads)
    if runtime == "auto":
        from quadrat.model.choice import choose_runtime

        runtime = choose_runtime(data, info, precision)
    return RUNTIMES[runtime](data, info, precision, threads, workers)


def _checked(onnx: bytes, size_px: int | None) -> tuple[Any, graphs.GraphInfo]:
    """A graph that takes tiles of one size, and what it takes and gives."""
    proto = graphs.parse(onnx, "the network")
    info = graphs.describe(proto, "the network")
    if info.size_px is None:
        if size_px is None:
            raise ModelError("the network takes tiles of any size; say which with size_px")
        graphs.fix_size(proto, info, size_px)
        info = graphs.describe(proto, "the network")
    elif size_px not in (None, info.size_px):
        raise ModelError(f"the network takes tiles of {info.size_px} px, not {size_px}")
    return proto, info


def _openvino(
    data: bytes, info: graphs.GraphInfo, precision: str, threads: int, workers: int
) -> Network:
    import openvino as ov

    if precision == "bf16" and not has_bf16():
        raise ModelError("this CPU does not compute in bf16; choose --precision fp32 or int8")
    batch = info.batch or BATCH
    settings = {
        "NUM_STREAMS": workers,
        "INFERENCE_NUM_THREADS": workers * threads,
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "PERFORMANCE_HINT": "THROUGHPUT",
    }
    with _translated("OpenVINO"):
        model = _core().read_model(data)
        model.reshape([batch, info.size_px, info.size_px, 3])
        compiled = _core().compile_model(model, "CPU", settings)
        # a request is used by one caller at a time; they are kept and shared between calls
        idle: queue.LifoQueue[Any] = queue.LifoQueue()
        dim = int(compiled.output(0).shape[1])

    def request() -> Any:
        try:
            return idle.get_nowait()
        except queue.Empty:
            return compiled.create_infer_request()

    def compute(chips: Chips) -> Rows:
        # all blocks wait in the runtime's queue, so that no stream waits for the interpreter
        out = np.empty((len(chips), dim), np.float32)
        at_work: deque[tuple[Any, int, int, Chips]] = deque()

        def collect() -> None:
            one, start, n, _ = at_work.popleft()
            one.wait()
            out[start : start + n] = one.get_output_tensor().data[:n]
            idle.put(one)

        try:
            with _translated("OpenVINO"):
                for start, block, n in _blocks(chips, batch):
                    if len(at_work) == QUEUED:
                        collect()
                    one = request()
                    one.set_input_tensor(ov.Tensor(block, shared_memory=True))
                    one.start_async()
                    at_work.append((one, start, n, block))
                while at_work:
                    collect()
        finally:
            for one, *_ in at_work:  # after an error: the tiles' memory is in use until they end
                with suppress(RuntimeError):
                    one.wait()
        return out

    return Network("openvino", precision, info, batch, compute)


def _onnxruntime(
    data: bytes, info: graphs.GraphInfo, precision: str, threads: int, workers: int
) -> Network:
    return _ort(data, info, precision, threads, "CPUExecutionProvider")


def _cuda(
    data: bytes, info: graphs.GraphInfo, precision: str, threads: int, workers: int
) -> Network:
    if precision != "fp32":
        raise ModelError(f"on a GPU models run in fp32, not {precision}; leave --precision out")
    if not has_cuda():
        raise ModelError(
            "no GPU for ONNX Runtime here; install onnxruntime-gpu on a machine with CUDA, or use "
            "--runtime auto"
        )
    return _ort(data, info, precision, threads, "CUDAExecutionProvider")


def _ort(
    data: bytes, info: graphs.GraphInfo, precision: str, threads: int, provider: str
) -> Network:
    import onnxruntime as ort

    if precision == "bf16":
        raise ModelError("ONNX Runtime does not compute in bf16 on CPUs; use --runtime openvino")
    cuda = provider == "CUDAExecutionProvider"
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # TF32 would keep 10 bits of the mantissa and still be called fp32
    providers: list[Any] = [(provider, {"use_tf32": "0"})] if cuda else [provider]
    with _translated("ONNX Runtime"):
        session = ort.InferenceSession(data, options, providers=providers)
    if provider not in session.get_providers():
        raise ModelError("the GPU cannot be used: CUDA or cuDNN did not load; use a CPU runtime")
    batch = info.batch or (GPU_BATCH if cuda else BATCH)
    names = [info.output]

    def compute(chips: Chips) -> Rows:
        rows = []
        with _translated("ONNX Runtime"):
            for _, block, n in _blocks(chips, batch, pad=info.batch is not None):
                rows.append(session.run(names, {info.input: block})[0][:n])
            if not rows:
                width = info.dim or session.get_outputs()[0].shape[1]
                return np.empty((0, int(width)), np.float32)
        return np.concatenate(rows)

    return Network("cuda" if cuda else "onnxruntime", precision, info, batch, compute)


RUNTIMES: dict[str, Callable[[bytes, graphs.GraphInfo, str, int, int], Network]] = {
    "openvino": _openvino,
    "onnxruntime": _onnxruntime,
    "cuda": _cuda,
}


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
        text = " ".join(str(error).split())[:300]
        raise ModelError(f"{runtime} cannot run the network: {text}") from error


@lru_cache(maxsize=1)
def cpu_flags() -> frozenset[str]:
    """The instructions that Linux lists for this CPU; empty elsewhere."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("flags", "Features"):
                return frozenset(value.split())
    except OSError:
        pass
    return frozenset()


@lru_cache(maxsize=1)
def _core() -> Any:
    import openvino as ov

    return ov.Core()


@lru_cache(maxsize=1)
def _capabilities() -> frozenset[str]:
    try:
        with _translated("OpenVINO"):
            return frozenset(_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    except (ModelError, ImportError):
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

    return "CUDAExecutionProvider" in ort.get_available_providers()


def resolve_precision(model: Model, precision: str = "auto") -> str:
    """The precision that a model is run in on this machine.

    `auto` is what the training accepted, or `fp32` where the machine cannot compute in that: bf16
    or int8 on a CPU without it, anything but float on a GPU.
    """
    if precision == "auto":
        accepted = model.info.precision
        able = {"fp32": True, "bf16": has_bf16(), "int8": has_int8()}
        return accepted if able[accepted] and not has_cuda() else "fp32"
    if precision not in PRECISIONS:
        raise ModelError(f"no precision {precision!r}; choose one of auto, {', '.join(PRECISIONS)}")
    if precision == "int8" and "int8" not in model.info.forms:
        raise ModelError(
            f"{storage.redact(model.uri)} has no int8 form; train with --precision int8"
        )
    return precision


_compiled: dict[tuple[object, ...], Network] = {}
_compiled_lock = threading.Lock()


def _once(key: tuple[object, ...], compile_it: Callable[[], Network]) -> Network:
    """A network compiled once in a process, whichever thread asks first."""
    with _compiled_lock:
        if key not in _compiled:
            _compiled[key] = compile_it()
        return _compiled[key]


def runner(
    model: Model, precision: str = "auto", *, workers: int | None = None, runtime: str = "auto"
) -> Network:
    """The network of a bundle, chips -> probabilities; compiled once in a process.

    Args:
        precision: `auto` (see `resolve_precision`), `fp32`, `bf16` or `int8`.
        workers: calls at the same time; by default one a core that this process may use.
    """
    chosen = resolve_precision(model, precision)
    count = workers or available_cpus()
    return _once(
        ("model", model.digest, chosen, count, runtime),
        lambda: compile_network(
            model.onnx(chosen), precision=chosen, workers=count, runtime=runtime
        ),
    )


def choose(onnx: bytes, precision: str, size_px: int | None = None) -> str:
    """The runtime that a whole job uses: what is faster here, or `auto` where a GPU decides.

    Runtimes differ in the last bits; a job of many machines gives one answer when it names one.
    """
    if precision == "fp32" and has_cuda():
        return "auto"
    from quadrat.model.choice import choose_runtime

    proto, info = _checked(onnx, size_px)
    return choose_runtime(graphs.serialise(proto), info, precision)


def shared_network(
    uri: str, sha256: str, *, precision: str, workers: int, size_px: int, runtime: str = "auto"
) -> Network:
    """The network of an ONNX file, compiled once in a process: for tasks that carry its address.

    Args:
        sha256: of the file; ModelError when it is another.
    """

    def compile_it() -> Network:
        data = storage.read_bytes(uri)
        if storage.digest_bytes(data) != sha256:
            raise ModelError(f"{storage.redact(uri)} is not the network that was asked for")
        return compile_network(
            data, precision=precision, workers=workers, size_px=size_px, runtime=runtime
        )

    return _once(("file", sha256, precision, workers, size_px, runtime), compile_it)
