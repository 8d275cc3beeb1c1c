"""Crafted files of weights: no code runs, nothing is read or allocated out of bounds."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import sys
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quadrat.backbones.weights import parse_weights
from quadrat.errors import BackboneError


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value: int) -> bytes:
    return b"\x8a\x10" + value.to_bytes(16, "little", signed=True)


def numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(number(each) for each in values) + b"t"


def tensor(
    offset: int = 0,
    size: tuple[int, ...] = (2, 2),
    stride: tuple[int, ...] = (2, 1),
    count: int = 4,
    key: str = "0",
    kind: str = "FloatStorage",
) -> bytes:
    storage = b"(" + text("storage") + b"ctorch\n" + kind.encode() + b"\n" + text(key)
    storage += text("cpu") + number(count) + b"tQ"
    rest = number(offset) + numbers(size) + numbers(stride) + b"\x89ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + rest + b"tR"


def pickled(value: bytes) -> bytes:
    """A state dict with one entry, as instructions."""
    return b"\x80\x02}" + text("w") + value + b"s."


def archive(
    code: bytes, entries: tuple[tuple[str, bytes], ...] = (("x/data/0", bytes(16)),), **more: Any
) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **more) as made:
        made.writestr("x/data.pkl", code)
        for name, content in entries:
            made.writestr(name, content)
    return file.getvalue()


LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."
SYSTEM = b"\x80\x02}" + text("little_endian") + b"\x88s."


def legacy(code: bytes, keys: tuple[str, ...] = ("0",), body: bytes | None = None) -> bytes:
    listed = b"\x80\x02](" + b"".join(text(key) for key in keys) + b"e."
    return (
        LEGACY
        + SYSTEM
        + code
        + listed
        + (struct.pack("<q", 4) + bytes(16) if body is None else body)
    )


def test_the_crafted_files_are_sound_where_nothing_is_wrong() -> None:
    for data in (archive(pickled(tensor())), legacy(pickled(tensor()))):
        found = parse_weights(data, "crafted")
        assert found["w"].shape == (2, 2) and found["w"].dtype == np.float32


class Command:
    """Runs a command when unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


class Evaluated:
    """Evaluates a text when unpickled."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __reduce__(self) -> Any:
        return eval, (self.code,)


class Hidden(OrderedDict):  # type: ignore[type-arg]
    """A dict of its own class: unpickling it imports this module."""


def ways_to_run_code(marker: Path) -> dict[str, bytes]:
    command = f"touch {marker}"
    found = {}
    for protocol in range(2, 6):
        found[f"os.system, protocol {protocol}"] = pickle.dumps({"w": Command(command)}, protocol)
    found["nested"] = pickle.dumps({"state_dict": {"a": [({"b": Command(command)},)]}}, 2)
    found["eval"] = pickle.dumps(
        {"w": Evaluated(f"__import__('pathlib').Path({str(marker)!r}).touch()")}, 4
    )
    found["own class"] = pickle.dumps(Hidden(a=1), 4)
    found["never called"] = pickled(b"cposix\nsystem\n")
    found["dotted"] = pickled(b"ccollections\nOrderedDict.__init__\n")
    found["dotted, on the stack"] = pickled(
        text("collections") + text("OrderedDict.fromkeys") + b"\x93"
    )
    found["getattr"] = pickled(
        b"cbuiltins\ngetattr\n(ccollections\nOrderedDict\n" + text("fromkeys") + b"tR"
    )
    found["torch's own loader"] = pickled(b"ctorch\nload\n(" + text(str(marker)) + b"tR")
    found["instance"] = pickled(b"(ios\nsystem\n")
    found["object"] = pickled(b"(cos\nsystem\n" + text(command) + b"o")
    found["new object"] = pickled(b"ccollections\nOrderedDict\n)\x81")
    found["extension"] = pickled(b"\x82\x01")
    found["state of a name"] = pickled(b"ccollections\nOrderedDict\n}b")
    found["state that is no dict"] = pickled(b"}" + number(1) + b"b")
    found["call of a tensor"] = pickled(tensor() + b")R")
    found["call of a storage's name"] = pickled(b"ctorch\nFloatStorage\n" + number(9) + b"\x85R")
    found["persistent text"] = pickled(b"Pstorage\n")
    return found


@pytest.mark.parametrize("way", sorted(ways_to_run_code(Path("x"))))
@pytest.mark.parametrize("wrap", [archive, legacy])
def test_no_code_runs(tmp_path: Path, way: str, wrap: Any) -> None:
    marker = tmp_path / "ran"
    with pytest.raises(BackboneError) as caught:
        parse_weights(wrap(ways_to_run_code(marker)[way]), "evil.pth")
    assert not marker.exists()
    assert str(caught.value).startswith("evil.pth is ") and "\n" not in str(caught.value)


def test_the_traps_are_real(tmp_path: Path) -> None:
    for way in ("os.system, protocol 2", "nested", "eval"):
        marker = tmp_path / way[:4]
        pickle.loads(ways_to_run_code(marker)[way])  # noqa: S301
        assert marker.exists()


def test_the_refused_name_is_told(tmp_path: Path) -> None:
    code = pickle.dumps({"w": Command("true")}, 2)
    with pytest.raises(BackboneError, match=r"asks for posix\.system; save the weights alone"):
        parse_weights(archive(code), "evil.pth")


def test_nothing_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trap.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BackboneError, match=r"asks for trap\.anything"):
        parse_weights(archive(pickled(b"ctrap\nanything\n")), "evil.pth")
    assert "trap" not in sys.modules and not (tmp_path / "ran").exists()


def test_control_characters_do_not_reach_the_message() -> None:
    code = b"\x80\x02" + text("a\x1b[2J\r\n") + text("b" * 9999) + b"\x93."
    with pytest.raises(BackboneError) as caught:
        parse_weights(archive(code), "evil.pth")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 300


BEYOND = {
    "more elements than stored": tensor(size=(3, 2)),
    "offset beyond": tensor(offset=1),
    "offset far beyond": tensor(offset=1 << 39, size=(1,), stride=(1,)),
    "negative offset": tensor(offset=-1),
    "negative size": tensor(size=(-1, 2)),
    "negative stride": tensor(offset=3, stride=(-2, -1)),
    "stride beyond": tensor(stride=(4, 1)),
    "expanded": tensor(size=(1 << 30, 4), stride=(0, 1)),
    "absurd size": tensor(size=(1 << 62,), stride=(1,)),
    "absurd but empty": tensor(size=(0, 1 << 39, 1 << 39), stride=(1, 1, 1)),
    "overflowing product": tensor(size=(1 << 33, 1 << 33), stride=(0, 0)),
    "too many dimensions": tensor(size=(1,) * 70, stride=(1,) * 70),
    "strides missing": tensor(stride=(1,)),
    "storage of no numbers": tensor(count=0),
    "negative storage": tensor(count=-4),
    "absurd storage": tensor(count=1 << 60),
    "storage larger than the file": tensor(count=1 << 38, size=(1 << 38,), stride=(1,)),
    "another type": tensor(kind="DoubleStorage"),
    "storage not there": tensor(key="1"),
    "storage of two types": b"(" + tensor() + tensor(kind="IntStorage") + b"t",
}


@pytest.mark.parametrize("what", sorted(BEYOND))
@pytest.mark.parametrize("wrap", [archive, legacy])
def test_bounds(what: str, wrap: Any) -> None:
    tracemalloc.start()
    with pytest.raises(BackboneError, match=r"evil\.pth is (refused|damaged)"):
        parse_weights(wrap(pickled(BEYOND[what])), "evil.pth")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


DAMAGED = {
    "empty": b"",
    "no stop": b"\x80\x02}",
    "nothing on the stack": b"\x80\x02.",
    "mark as value": b"\x80\x02(.",
    "group without a mark": b"\x80\x02t.",
    "unknown instruction": b"\x80\x02\xff.",
    "text longer than the file": b"\x80\x02X\xff\xff\xff\xff.",
    "text that is none": b"\x80\x02X\x02\x00\x00\x00\xff\xfe.",
    "name without an end": b"\x80\x02cos" + b"x" * 5000,
    "memo not there": b"\x80\x02h\x07.",
    "append to a dict": b"\x80\x02}K\x01a.",
    "item of a list": b"\x80\x02]K\x01K\x02s.",
    "key that is a list": b"\x80\x02}]K\x02s.",
    "key without a value": b"\x80\x02}(K\x01u.",
    "pairs that are none": b"\x80\x02ccollections\nOrderedDict\nK\x05\x85R.",
    "tensor of nothing": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
    "parameter of nothing": b"\x80\x02ctorch._utils\n_rebuild_parameter\n)R.",
    "identity of nothing": b"\x80\x02NQ.",
    "no dict": b"\x80\x02K\x01.",
    "no tensors": b"\x80\x02}.",
}


@pytest.mark.parametrize("what", sorted(DAMAGED))
@pytest.mark.parametrize("wrap", [archive, legacy])
def test_damaged_pickles(what: str, wrap: Any) -> None:
    with pytest.raises(BackboneError, match=r"^bad\.pth "):
        parse_weights(wrap(DAMAGED[what]), "bad.pth")


def test_a_huge_memo_index_and_deep_nesting_cost_nothing() -> None:
    deep = b"\x80\x02" + b"]" * 60_000 + b"a" * 59_999
    wide = b"\x80\x02]r\xff\xff\xff\xff."
    doubling = b"\x80\x02N\x85q\x00" + b"h\x00h\x00\x86q\x00" * 5000 + b"."
    tracemalloc.start()
    for code in (deep + b".", wide, doubling):
        with pytest.raises(BackboneError, match="holds no state dict"):
            parse_weights(archive(code), "bad.pth")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


def test_a_list_of_aliases_is_walked_once() -> None:
    # a hundred thousand names of one dict of a hundred thousand entries would take hours
    inner = b"}(" + b"".join(b"J" + struct.pack("<i", i) + b"N" for i in range(50_000)) + b"u"
    outer = b"}(" + text("z") + inner + b"q\x00"
    outer += b"".join(b"J" + struct.pack("<i", i) + b"h\x00" for i in range(50_000)) + b"u"
    with pytest.raises(BackboneError, match="holds no weights"):
        parse_weights(archive(b"\x80\x02" + outer + b"."), "bad.pth")


# ---- archives and heads ----------------------------------------------------------------------


def test_archive_tricks(tmp_path: Path) -> None:
    good = pickled(tensor())
    storage = ("x/data/0", bytes(16))
    bomb = archive(good, (("x/data/0", bytes(16)),), compression=zipfile.ZIP_DEFLATED)
    climbing = archive(pickled(tensor(key="../../secret")), (("x/data/../../secret", bytes(16)),))
    with pytest.warns(UserWarning, match="Duplicate name"):
        doubled = archive(good, (storage, ("x/data.pkl", good)))
    two = archive(good, (storage, ("y/data.pkl", good)))
    script = archive(good, (storage, ("x/constants.pkl", b"")))
    order = archive(good, (storage, ("x/byteorder", b"middle")))
    short = archive(good, (("x/data/0", bytes(12)),))
    none = archive(good, ())
    cut = archive(good)[:-30]
    flipped = archive(good).replace(bytes(16), b"\1" * 16, 1)
    cases = (bomb, climbing, doubled, two, script, order, short, none, cut, flipped)
    for data in cases:
        with pytest.raises(BackboneError, match=r"^evil\.pth "):
            parse_weights(data, "evil.pth")
    assert list(tmp_path.iterdir()) == []


def test_entries_that_overlap_do_not_multiply() -> None:
    # four names for one run of a million bytes: more than the file can hold
    names = tuple(f"x/data/{i}" for i in range(4))
    one = b"".join(
        text(f"w{i}") + tensor(size=(250_000,), stride=(1,), count=250_000, key=str(i))
        for i in range(4)
    )
    data = archive(b"\x80\x02}(" + one + b"u.", ((names[0], bytes(1_000_000)),))
    directory = data.index(b"PK\1\2")
    end = data.rindex(b"PK\5\6")
    last = data.rindex(b"PK\1\2")
    extra = b"".join(data[last:end].replace(names[0].encode(), n.encode()) for n in names[1:])
    tail = bytearray(data[end:])
    struct.pack_into("<HHI", tail, 8, 5, 5, end - directory + len(extra))
    with pytest.raises(BackboneError, match=r"evil\.pth is "):
        parse_weights(data[:end] + extra + bytes(tail), "evil.pth")


def test_a_legacy_file_that_breaks_off() -> None:
    code = pickled(tensor())
    whole = legacy(code)
    for data in (
        whole[:-1],
        whole[:-17],
        LEGACY,
        legacy(code, body=struct.pack("<q", 5) + bytes(16)),
        legacy(code, body=b""),
        legacy(code, keys=("0", "1")),
        legacy(code, keys=()),
        LEGACY + b"\x80\x02]." + code + b"\x80\x02]." + bytes(24),
    ):
        with pytest.raises(BackboneError, match=r"old\.pth is (damaged|refused)"):
            parse_weights(data, "old.pth")


HEADERS: dict[str, Any] = {
    "beyond the end": {"w": {"dtype": "F32", "shape": [8], "data_offsets": [0, 32]}},
    "before the start": {"w": {"dtype": "F32", "shape": [4], "data_offsets": [-16, 0]}},
    "backwards": {"w": {"dtype": "F32", "shape": [0], "data_offsets": [16, 0]}},
    "another size": {"w": {"dtype": "F32", "shape": [3], "data_offsets": [0, 16]}},
    "absurd": {"w": {"dtype": "F32", "shape": [1 << 62, 1 << 62], "data_offsets": [0, 16]}},
    "absurd but empty": {"w": {"dtype": "F32", "shape": [0, 1 << 62, 4], "data_offsets": [0, 0]}},
    "negative": {"w": {"dtype": "F32", "shape": [-2, -2], "data_offsets": [0, 16]}},
    "true as a number": {"w": {"dtype": "F32", "shape": [True, 4], "data_offsets": [0, 16]}},
    "broken number": {"w": {"dtype": "F32", "shape": [4.0], "data_offsets": [0, 16]}},
    "unknown type": {"w": {"dtype": "F4", "shape": [4], "data_offsets": [0, 16]}},
    "objects": {"w": {"dtype": "O", "shape": [2], "data_offsets": [0, 16]}},
    "no entry": {"w": None},
    "a list": [1],
    "three offsets": {"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 8, 16]}},
}


@pytest.mark.parametrize("what", sorted(HEADERS))
def test_safetensors_headers(what: str) -> None:
    header = json.dumps(HEADERS[what]).encode().replace(b"[1]", b"{]", 1)
    data = struct.pack("<Q", len(header)) + header + bytes(16)
    with pytest.raises(BackboneError, match=r"x\.safetensors is damaged|no file of weights"):
        parse_weights(data, "x.safetensors")


def test_a_deeply_nested_header() -> None:
    header = b'{"w":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    with pytest.raises(BackboneError, match="is damaged"):
        parse_weights(struct.pack("<Q", len(header)) + header, "deep.safetensors")


def test_flipped_bytes_never_escape() -> None:
    """Whatever a byte becomes: an error of ours, or arrays that lie inside the file."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}).encode()
    files = [
        archive(pickled(tensor())),
        legacy(pickled(tensor())),
        struct.pack("<Q", len(header)) + header + bytes(16),
    ]
    rng = np.random.default_rng(0)
    read = 0
    for data in files:
        for _ in range(1500):
            bad = bytearray(data)
            for place in rng.integers(0, len(bad), rng.integers(1, 4)):
                bad[place] = rng.integers(0, 256)
            try:
                found = parse_weights(bytes(bad), "flipped")
            except BackboneError:
                continue
            read += sum(float(np.nansum(value)) != 0.5 for value in found.values())
    assert read > 0
