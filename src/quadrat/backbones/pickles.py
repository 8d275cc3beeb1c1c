"""The few pickle instructions that a torch state dict needs, carried out without `pickle`.

A pickle is a program; the standard unpickler runs whatever program a file holds. This one is an
interpreter of its own: it knows about forty instructions, makes only plain values and records of
where a tensor's numbers lie, imports nothing and calls nothing. Three names mean something to it
(`ALLOWED`) besides the names of torch's storages; any other name stops the reading.
It does not know files, archives or arrays.

`pickle.Unpickler` with a closed `find_class` would be shorter and is not as safe: its table of
remembered values grows to the largest index that a file names (ten bytes ask for up to 64 GB), and
it builds objects by instructions that no state dict has.

Source: the pickle protocol as described in CPython's `pickletools`; tensors as torch writes them.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from quadrat.errors import BackboneError
from quadrat.graphs import printable

MAX_PICKLE = 2 << 20  # bytes; a network of a thousand tensors has about 0.1 MB
MAX_DIMS = 8
MAX_COUNT = 1 << 40  # elements

ORDERED_DICT = "collections.OrderedDict"
REBUILD_TENSOR = "torch._utils._rebuild_tensor_v2"
REBUILD_PARAMETER = "torch._utils._rebuild_parameter"
ALLOWED = (ORDERED_DICT, REBUILD_TENSOR, REBUILD_PARAMETER)

# torch's storage classes: the numpy type of their elements ("bfloat16" has none of its own)
STORAGES: Mapping[str, str] = {
    "torch.FloatStorage": "f4",
    "torch.DoubleStorage": "f8",
    "torch.HalfStorage": "f2",
    "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "i8",
    "torch.IntStorage": "i4",
    "torch.ShortStorage": "i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "?",
}


class StorageRef(NamedTuple):
    """A run of numbers somewhere in the file: its key, element type and length."""

    key: str
    dtype: str
    length: int


class TensorRef(NamedTuple):
    """A tensor as a window on a storage; offset and strides in elements, all checked."""

    storage: StorageRef
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Loaded(NamedTuple):
    """What one pickle holds, the place after its last byte, and every storage that it names."""

    value: Any
    end: int
    storages: tuple[StorageRef, ...]


class _Name(NamedTuple):
    """A name that a pickle asks for; nothing is imported for it."""

    text: str


class _Mark:
    """The place on the stack where a group starts."""


_MARK = _Mark()


class _RefusedPickle(Exception):
    """The reason why a pickle is refused; `load` raises it as a BackboneError."""


def load(data: bytes | memoryview, what: str, start: int = 0) -> Loaded:
    """Interpret one pickle.

    Args:
        data: the bytes that hold it.
        what: the file's name, for messages.
        start: where in `data` the pickle starts.

    Returns:
        Its value is made of dicts, lists, tuples, texts, numbers, StorageRef and TensorRef.

    Raises:
        BackboneError: it is damaged, too large, or asks for what a state dict does not need.
    """
    machine = _Machine(memoryview(data)[start : start + MAX_PICKLE])
    try:
        value = machine.run()
    except _RefusedPickle as refused:
        raise BackboneError(
            f"{what} is refused: {refused}; save the weights alone: "
            "torch.save(network.state_dict(), FILE)"
        ) from None
    except (IndexError, KeyError, ValueError, TypeError, OverflowError, struct.error):
        raise BackboneError(f"{what} is damaged: its pickle breaks off or is malformed") from None
    return Loaded(value, start + machine.place, tuple(machine.storages.values()))


class _Machine:
    def __init__(self, code: memoryview) -> None:
        self.code = code
        self.place = 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, StorageRef] = {}

    def run(self) -> Any:
        while True:
            op = self.take(1)[0]
            if op == 0x2E:  # STOP
                return self.pop()
            step = _STEPS.get(op)
            if step is None:
                raise _RefusedPickle(f"its pickle holds the instruction {_opcode_name(op)}")
            step(self)

    def take(self, count: int) -> memoryview:
        piece = self.code[self.place : self.place + count]
        if len(piece) != count:
            raise ValueError("breaks off")
        self.place += count
        return piece

    def number(self, layout: str) -> Any:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def line(self) -> str:
        end = bytes(self.code[self.place : self.place + 1024]).index(b"\n")
        text = str(self.take(end), "ascii")
        self.take(1)
        return text

    def text(self, layout: str, encoding: str) -> str:
        return str(self.take(self.number(layout)), encoding)

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise ValueError("a mark where a value belongs")
        return value

    def top(self, kind: type[Any]) -> Any:
        value = self.stack[-1]
        if type(value) is not kind:
            raise TypeError("another kind of value belongs here")
        return value

    def group(self) -> list[Any]:
        """All values above the last mark; the mark goes with them."""
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise IndexError("no mark")
        values = self.stack[at + 1 :]
        del self.stack[at:]
        return values

    def last(self, count: int) -> tuple[Any, ...]:
        return tuple(reversed([self.pop() for _ in range(count)]))

    def update(self, flat: list[Any]) -> None:
        target = self.top(dict)
        if len(flat) % 2:
            raise ValueError("a key without a value")
        for key, value in zip(flat[::2], flat[1::2], strict=True):
            if not isinstance(key, str | int):
                raise TypeError("keys are text or whole numbers")
            target[key] = value

    def name(self, module: Any, attribute: Any) -> None:
        if not isinstance(module, str) or not isinstance(attribute, str):
            raise TypeError("a name is text")
        text = f"{module}.{attribute}"
        if text not in ALLOWED and text not in STORAGES:
            raise _RefusedPickle(f"its pickle asks for {printable(text)}")
        self.push(_Name(text))

    def call(self) -> None:
        arguments, called = self.pop(), self.pop()
        if not isinstance(called, _Name) or type(arguments) is not tuple:
            raise _RefusedPickle("its pickle calls what is no name")
        if called.text == ORDERED_DICT:
            self.push({})
            for pair in arguments[0] if arguments else ():
                self.update(list(pair))
        elif called.text == REBUILD_TENSOR:
            self.push(_tensor(*arguments[:4]))
        elif called.text == REBUILD_PARAMETER:
            if not isinstance(arguments[0], TensorRef):
                raise TypeError("a parameter is a tensor")
            self.push(arguments[0])
        else:
            raise _RefusedPickle(f"its pickle calls {called.text}")

    def build(self) -> None:
        # torch hangs `_metadata` on the state dict; it says nothing about the numbers
        state = self.pop()
        self.top(dict)
        if type(state) is not dict:
            raise _RefusedPickle("its pickle sets the state of an object")

    def storage(self) -> None:
        identity = self.pop()
        if type(identity) is not tuple or len(identity) not in (5, 6) or identity[0] != "storage":
            raise TypeError("unknown persistent identity")
        _, kind, key, _location, count = identity[:5]
        if len(identity) == 6 and identity[5] is not None:
            raise _RefusedPickle("one of its storages is a view of another")
        if not isinstance(kind, _Name) or kind.text not in STORAGES or not isinstance(key, str):
            raise TypeError("unknown storage")
        ref = StorageRef(key, STORAGES[kind.text], _count(count))
        if self.storages.setdefault(key, ref) != ref:
            raise ValueError("one storage of two kinds")
        self.push(ref)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MAX_COUNT:
        raise _RefusedPickle("one of its sizes, offsets or strides is negative or absurdly large")
    return value


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> TensorRef:
    if not isinstance(storage, StorageRef) or type(shape) is not tuple:
        raise TypeError("a tensor needs a storage and a shape")
    if type(strides) is not tuple or len(strides) != len(shape) or len(shape) > MAX_DIMS:
        raise TypeError("as many strides as dimensions")
    start, sides = _count(offset), tuple(_count(n) for n in shape)
    steps = tuple(_count(n) for n in strides)
    count = math.prod(sides)
    _count(math.prod(max(n, 1) for n in sides))  # numpy minds absurd sides of empty arrays too
    reach = start + sum((n - 1) * s for n, s in zip(sides, steps, strict=True)) if count else 0
    # more elements than the storage holds would mean that some are seen twice
    if count > storage.length or (count and reach >= storage.length):
        raise _RefusedPickle("one of its tensors reaches outside its storage")
    return TensorRef(storage, start, sides, steps)


def _opcode_name(op: int) -> str:
    import pickletools

    known = {ord(each.code): each.name for each in pickletools.opcodes}
    return known.get(op, f"0x{op:02x}")


def _long(machine: _Machine) -> None:
    data = machine.take(machine.take(1)[0])
    machine.push(int.from_bytes(data, "little", signed=True))


def _stack_name(machine: _Machine) -> None:
    attribute, module = machine.pop(), machine.pop()
    machine.name(module, attribute)


def _append(machine: _Machine) -> None:
    value = machine.pop()
    machine.top(list).append(value)


def _extend(machine: _Machine) -> None:
    values = machine.group()
    machine.top(list).extend(values)


def _update(machine: _Machine) -> None:
    values = machine.group()
    machine.update(values)


_STEPS: Mapping[int, Callable[[_Machine], None]] = {
    0x80: lambda m: m.take(1).release(),  # PROTO
    0x95: lambda m: m.take(8).release(),  # FRAME: a hint for readers of streams
    0x28: lambda m: m.push(_MARK),  # MARK
    0x4E: lambda m: m.push(None),  # NONE
    0x88: lambda m: m.push(True),  # NEWTRUE
    0x89: lambda m: m.push(False),  # NEWFALSE
    0x4A: lambda m: m.push(m.number("<i")),  # BININT
    0x4B: lambda m: m.push(m.number("<B")),  # BININT1
    0x4D: lambda m: m.push(m.number("<H")),  # BININT2
    0x8A: _long,  # LONG1
    0x47: lambda m: m.push(m.number(">d")),  # BINFLOAT
    0x54: lambda m: m.push(m.text("<I", "ascii")),  # BINSTRING, of Python 2
    0x55: lambda m: m.push(m.text("<B", "ascii")),  # SHORT_BINSTRING
    0x58: lambda m: m.push(m.text("<I", "utf-8")),  # BINUNICODE
    0x8C: lambda m: m.push(m.text("<B", "utf-8")),  # SHORT_BINUNICODE
    0x5D: lambda m: m.push([]),  # EMPTY_LIST
    0x7D: lambda m: m.push({}),  # EMPTY_DICT
    0x29: lambda m: m.push(()),  # EMPTY_TUPLE
    0x74: lambda m: m.push(tuple(m.group())),  # TUPLE
    0x85: lambda m: m.push(m.last(1)),  # TUPLE1
    0x86: lambda m: m.push(m.last(2)),  # TUPLE2
    0x87: lambda m: m.push(m.last(3)),  # TUPLE3
    0x61: _append,  # APPEND
    0x65: _extend,  # APPENDS
    0x73: lambda m: m.update(list(m.last(2))),  # SETITEM
    0x75: _update,  # SETITEMS
    0x71: lambda m: m.memo.__setitem__(m.number("<B"), m.stack[-1]),  # BINPUT
    0x72: lambda m: m.memo.__setitem__(m.number("<I"), m.stack[-1]),  # LONG_BINPUT
    0x94: lambda m: m.memo.__setitem__(len(m.memo), m.stack[-1]),  # MEMOIZE
    0x68: lambda m: m.push(m.memo[m.number("<B")]),  # BINGET
    0x6A: lambda m: m.push(m.memo[m.number("<I")]),  # LONG_BINGET
    0x63: lambda m: m.name(m.line(), m.line()),  # GLOBAL
    0x93: _stack_name,  # STACK_GLOBAL
    0x52: lambda m: m.call(),  # REDUCE
    0x62: lambda m: m.build(),  # BUILD
    0x51: lambda m: m.storage(),  # BINPERSID
}
