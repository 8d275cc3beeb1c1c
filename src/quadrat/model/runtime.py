"""Networks that run: a graph is compiled for this machine once in a process, and called.

How a runtime computes is known by `runtimes`, which one is faster here by `choice`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from quadrat import graphs, storage
from quadrat.engines.local import available_cpus
from quadrat.errors import ModelError
from quadrat.model import machine
from quadrat.model.bundle import OUTPUTS, Model
from quadrat.model.choice import choose_runtime
from quadrat.model.network import Network
from quadrat.model.runtimes import RUNTIMES

PRECISIONS = ("fp32", "bf16", "int8", "fp16")
KEPT = 8  # compiled networks of a process; what was used longest ago goes first


def compile_network(
    onnx: bytes,
    *,
    precision: str = "fp32",
    threads: int = 1,
    workers: int | None = None,
    runtime: str = "auto",
    size_px: int | None = None,
    classes: int | None = None,
    open_rows: bool = False,
    what: str = "the network",
    features: bool = False,
) -> Network:
    """Make a graph ready to run on this machine.

    Args:
        onnx: an ONNX file's bytes, chips `(N, H, W, 3) uint8` -> rows `(N, D) float32`, of the
            outputs of a model where `classes` is given. For `int8` the quantised graph.
        precision: `fp32`, `bf16` (CPUs that have it, through OpenVINO), `int8`, or `fp16` (GPUs).
        threads: threads that one call computes on.
        workers: calls at the same time; by default one a core that this process may use.
        runtime: `openvino`, `onnxruntime`, `cuda`, or `auto`: CUDA where there is a GPU and the
            precision is fp32 or fp16, else the faster of the two by a short measurement that is
            kept on disk.
        size_px: the side of the tiles, for a graph that takes any.
        classes: K of a graph that gives probabilities, which are checked as such; None for one
            that gives other rows, which must be finite.
        open_rows: whether rows of probabilities may sum to less than 1.
        what: its name, for messages.
        features: whether the last output is what the model's last layer reads.

    Raises:
        ModelError: a graph that is not one, that no runtime takes, or a precision that this machine
            lacks.
    """
    if precision not in PRECISIONS:
        raise ModelError(f"no precision {precision!r}; choose one of {', '.join(PRECISIONS)}")
    if runtime != "auto" and runtime not in RUNTIMES:
        raise ModelError(f"no runtime {runtime!r}; choose auto or one of {', '.join(RUNTIMES)}")
    if precision == "int8" and not machine.has_int8():
        raise ModelError(
            "this CPU has no exact int8 arithmetic (no VNNI); use --precision fp32 here"
        )
    if threads < 1 or (workers is not None and workers < 1):
        raise ModelError("threads and workers must be 1 or more")
    outputs = 1 if classes is None else len(OUTPUTS)
    proto, info = graphs.checked(onnx, what, size_px, outputs + features)
    # the bytes that were checked are the bytes that run
    data = graphs.serialise(proto)
    workers = workers or max(1, available_cpus() // threads)
    if runtime == "auto":
        runtime = choose_runtime(data, info, precision)
    compiled = RUNTIMES[runtime](data, info, precision, threads, workers)
    return Network(compiled, precision, info, classes, open_rows, what, features)


def resolve_precision(model: Model, precision: str = "auto") -> str:
    """The precision that a model is run in on this machine.

    `auto` is what the training accepted, or `fp32` where the machine cannot compute in that: bf16
    or int8 on a CPU without it or on a GPU, fp16 on a CPU.
    """
    if precision == "auto":
        accepted = model.info.precision
        gpu = machine.has_cuda()
        able = {
            "fp32": True,
            "bf16": machine.has_bf16() and not gpu,
            "int8": machine.has_int8() and not gpu,
            "fp16": gpu,
        }
        return accepted if able[accepted] else "fp32"
    if precision not in PRECISIONS:
        raise ModelError(f"no precision {precision!r}; choose one of auto, {', '.join(PRECISIONS)}")
    if precision == "int8" and "int8" not in model.info.forms:
        raise ModelError(
            f"{storage.redact(model.uri)} has no int8 form; train with --precision int8"
        )
    return precision


_compiled: OrderedDict[tuple[object, ...], Network] = OrderedDict()
_compiled_lock = threading.Lock()


def _once(key: tuple[object, ...], compile_it: Callable[[], Network]) -> Network:
    """A network compiled once in a process, whichever thread asks first; KEPT of them are held."""
    with _compiled_lock:
        if key not in _compiled:
            _compiled[key] = compile_it()
        _compiled.move_to_end(key)
        while len(_compiled) > KEPT:
            _compiled.popitem(last=False)
        return _compiled[key]


def runner(
    model: Model,
    precision: str = "auto",
    *,
    workers: int | None = None,
    runtime: str = "auto",
    features: bool = False,
) -> Network:
    """The network of a bundle, chips -> probabilities, checked; compiled once in a process.

    Args:
        precision: `auto` (see `resolve_precision`), `fp32`, `bf16`, `int8` or `fp16`.
        workers: calls at the same time; by default one a core that this process may use.
        features: whether predictions have the features that the last layer reads as well.

    Raises:
        ModelError: features are asked for and the model has no last layer that reads any.
    """
    chosen = resolve_precision(model, precision)
    count, what = workers or available_cpus(), storage.redact(model.uri)

    def compile_it() -> Network:
        graph = model.onnx(chosen)
        return compile_network(
            _with_features(graph, what) if features else graph,
            precision=chosen,
            workers=count,
            runtime=runtime,
            classes=len(model.legend),
            open_rows=model.info.masks,
            what=what,
            features=features,
        )

    return _once(("model", model.uri, model.digest, chosen, count, runtime, features), compile_it)


def _with_features(graph: bytes, what: str) -> bytes:
    proto = graphs.parse(graph, what)
    name = graphs.kept(proto)
    if name is None:
        raise ModelError(f"{what} has no last layer, so there are no features to keep")
    return graphs.with_output(proto, name)


def choose(onnx: bytes, precision: str, size_px: int | None = None) -> str:
    """The runtime that a whole job uses: what is faster here, or `auto` where a GPU decides.

    Runtimes differ in the last bits; a job of many machines gives one answer when it names one.
    """
    if precision in machine.GPU_PRECISIONS and machine.has_cuda():
        return "auto"
    proto, info = graphs.checked(onnx, "the network", size_px, len(OUTPUTS))
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
