"""Files of weights -> arrays, without torch: torch's two formats and safetensors.

What a file says about itself is never trusted: no code is run (see `pickles`), nothing is unpacked
to disk, every offset and size is checked against the bytes that are there, and the arrays are views
of those bytes, so a small file cannot ask for much memory. It does not know networks.

Sources: torch's `serialization` documentation (legacy and zip layouts); the safetensors format
description (an 8-byte little-endian length, a JSON header, the numbers).
"""

from __future__ import annotations

import io
import json
import math
import re
import struct
import zipfile
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from quadrat.backbones import pickles
from quadrat.backbones.pickles import StorageRef, TensorRef
from quadrat.errors import BackboneError

Array = NDArray[Any]
State = dict[str, Array]
Order = Literal["<", ">"]

MAX_FILE = 1 << 31  # bytes; what a graph can hold of them (see `graphs.MAX_BYTES`)
WRAPPERS = ("state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "_orig_mod.")  # data-parallel and compiled networks add them

_LEGACY_START = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # the magic number as a pickle
_ORDERS: Mapping[bytes, Order] = {b"little": "<", b"big": ">"}
_ZIP_START = b"PK\x03\x04"
_SAFETENSORS: Mapping[str, str] = {
    "F64": "f8",
    "F32": "f4",
    "F16": "f2",
    "BF16": "bfloat16",
    "I64": "i8",
    "I32": "i4",
    "I16": "i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}


def read_weights(uri: str) -> tuple[State, str]:
    """Read a file of weights.

    Args:
        uri: a `.pth` or `.pt` that holds a torch state dict (zip or legacy layout, alone or under
            "state_dict", "model_state_dict" or "model"), or a `.safetensors` file. The content
            decides, not the name.

    Returns:
        The arrays by name, in the file's order, in the file's types (bfloat16 as float32); they
        are read-only. And the SHA-256 of the file as hexadecimal text.

    Raises:
        BackboneError: not such a file, damaged, or asking for more than a state dict needs.
        StorageError: it cannot be read.
    """
    from quadrat import storage

    name = storage.redact(uri)
    data = storage.read_bytes(uri, MAX_FILE)
    return parse_weights(data, name), storage.digest_bytes(data)


def parse_weights(data: bytes, name: str) -> State:
    """The arrays in the bytes of a file of weights; `name` is for messages."""
    if data.startswith(_ZIP_START):
        state = _read_zip(data, name)
    elif data.startswith(_LEGACY_START):
        state = _read_legacy(data, name)
    elif _looks_like_safetensors(data):
        state = _read_safetensors(data, name)
    else:
        raise BackboneError(
            f"{name} is no file of weights that can be read here; give a torch state dict "
            "(.pth, .pt) or a .safetensors file"
        )
    if not state:
        raise BackboneError(f"{name} holds no weights; save network.state_dict() to it")
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _tensors(found: Any, name: str) -> dict[str, TensorRef]:
    """The tensors of a state dict, taken out of what a training script wraps around it."""
    for wrapper in WRAPPERS:
        if isinstance(found, dict) and isinstance(found.get(wrapper), dict):
            found = found[wrapper]
    if not isinstance(found, dict):
        raise BackboneError(f"{name} holds no state dict; save network.state_dict() to it")
    return {
        key: value
        for key, value in found.items()
        if isinstance(key, str) and isinstance(value, TensorRef)
    }


def _lay(tensor: TensorRef, numbers: Array) -> Array:
    size = numbers.dtype.itemsize
    # numpy checks the bounds once more; an empty tensor may point anywhere
    start = tensor.offset * size if math.prod(tensor.shape) else 0
    strides = tuple(step * size for step in tensor.strides)
    laid = np.ndarray(tensor.shape, numbers.dtype, numbers.data, start, strides)
    laid.flags.writeable = False
    return laid


def _numbers(piece: memoryview, dtype: str, order: Order = "<") -> Array:
    """Bytes as a flat array; a view, but for bfloat16, which becomes float32."""
    if dtype != "bfloat16":
        return np.frombuffer(piece, np.dtype(dtype).newbyteorder(order))
    halves = np.frombuffer(piece, f"{order}u2").astype(np.uint32)
    return (halves << np.uint32(16)).view(np.float32)


def _item_size(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def _read_zip(data: bytes, name: str) -> State:
    """The present format of torch: a zip of `X/data.pkl`, `X/data/KEY`, `X/byteorder`."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _read_archive(archive, len(data), name)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OSError, struct.error):
        raise BackboneError(f"{name} is damaged: it is no whole zip archive") from None
    except (RuntimeError, ValueError, KeyError):
        raise BackboneError(f"{name} is damaged: an entry of its archive is missing") from None


def _read_archive(archive: zipfile.ZipFile, total: int, name: str) -> State:
    entries = {each.filename: each for each in archive.infolist()}
    if len(entries) != len(archive.infolist()):
        raise BackboneError(f"{name} is refused: its archive holds a name twice; save it again")
    roots = [each.removesuffix("data.pkl") for each in entries if each.endswith("/data.pkl")]
    if len(roots) != 1 or f"{roots[0]}constants.pkl" in entries:
        raise BackboneError(
            f"{name} is no state dict (a TorchScript archive?); save network.state_dict()"
        )
    left = total  # entries that overlap must not add up to more than the file holds

    def entry(key: str, limit: int) -> memoryview:
        nonlocal left
        info = entries[roots[0] + key]
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > min(limit, left):
            raise BackboneError(f"{name} is refused: its entry {key!r} is compressed or too large")
        left -= info.file_size
        return memoryview(archive.read(info))

    order: Order = "<"
    if f"{roots[0]}byteorder" in entries:
        order = _ORDERS[bytes(entry("byteorder", 16))]
    loaded = pickles.load(entry("data.pkl", pickles.MAX_PICKLE), name)
    tensors = _tensors(loaded.value, name)
    storages: dict[StorageRef, Array] = {}
    for ref in dict.fromkeys(tensor.storage for tensor in tensors.values()):
        if not re.fullmatch(r"[0-9A-Za-z_]{1,64}", ref.key):
            raise BackboneError(f"{name} is refused: a storage has no plain name; save it again")
        piece = entry(f"data/{ref.key}", total)
        if len(piece) != ref.length * _item_size(ref.dtype):
            raise BackboneError(f"{name} is damaged: its storage {ref.key} has another size")
        storages[ref] = _numbers(piece, ref.dtype, order)
    return {key: _lay(tensor, storages[tensor.storage]) for key, tensor in tensors.items()}


def _read_legacy(data: bytes, name: str) -> State:
    """The format of torch before 1.6: five pickles, then each storage's count and numbers."""
    version = pickles.load(data, name, len(_LEGACY_START))
    system = pickles.load(data, name, version.end)
    loaded = pickles.load(data, name, system.end)
    keys = pickles.load(data, name, loaded.end)
    if not isinstance(system.value, dict) or not isinstance(keys.value, list):
        raise BackboneError(f"{name} is damaged: its head or its list of storages is malformed")
    order: Order = "<" if system.value.get("little_endian", True) else ">"
    tensors = _tensors(loaded.value, name)
    pieces = _pieces(memoryview(data)[keys.end :], keys.value, loaded.storages, name)
    wanted = dict.fromkeys(tensor.storage for tensor in tensors.values())
    if not set(wanted) <= set(pieces):
        raise BackboneError(f"{name} is damaged: its tensors name storages that it does not hold")
    storages = {ref: _numbers(pieces[ref], ref.dtype, order) for ref in wanted}
    return {key: _lay(tensor, storages[tensor.storage]) for key, tensor in tensors.items()}


def _pieces(
    body: memoryview, keys: list[Any], known: tuple[StorageRef, ...], name: str
) -> dict[StorageRef, memoryview]:
    """Cut the storages that follow the pickles, in the order of `keys`."""
    refs = {ref.key: ref for ref in known}
    pieces: dict[StorageRef, memoryview] = {}
    place = 0
    for key in keys:
        ref = refs.get(key) if isinstance(key, str) else None
        if ref is None:
            raise BackboneError(f"{name} is damaged: it lists a storage that no tensor has")
        end = place + 8 + ref.length * _item_size(ref.dtype)
        if end > len(body) or struct.unpack_from("<q", body, place)[0] != ref.length:
            raise BackboneError(f"{name} is damaged: its storage {len(pieces)} breaks off")
        pieces[ref] = body[place + 8 : end]
        place = end
    return pieces


def _looks_like_safetensors(data: bytes) -> bool:
    return len(data) > 8 and data[8:9] == b"{" and int.from_bytes(data[:8], "little") < len(data)


def _read_safetensors(data: bytes, name: str) -> State:
    """An 8-byte length, a JSON header of that length, the numbers."""
    start = 8 + int.from_bytes(data[:8], "little")
    body = memoryview(data)[start:]
    state: State = {}
    try:
        header = json.loads(data[8:start])
        for key, entry in header.items():
            if key == "__metadata__":
                continue
            dtype = _SAFETENSORS[entry["dtype"]]
            shape = tuple(entry["shape"])
            first, last = entry["data_offsets"]
            whole = all(type(n) is int and n >= 0 for n in (*shape, first, last))
            if not whole or not first <= last <= len(body) or len(shape) > pickles.MAX_DIMS:
                raise ValueError("outside the file")
            if last - first != math.prod(shape) * _item_size(dtype):
                raise ValueError("of another size")
            state[key] = _numbers(body[first:last], dtype).reshape(shape)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BackboneError(f"{name} is damaged: its safetensors header is malformed") from None
    return state
