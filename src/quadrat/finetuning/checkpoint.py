"""Checkpoints: the whole state of a training, written atomically after every epoch.

A checkpoint holds tensors, numbers and text only, so that reading one cannot run code. It does not
know what trains.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from quadrat import storage
from quadrat.errors import TrainError

FORMAT = "quadrat-checkpoint-1"
LAST = "last.pt"


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one training.

    Attributes:
        folder: where they lie.
        identity: what must be the same for a training to go on: network, legend, data, settings.
    """

    folder: str
    identity: Mapping[str, str]

    def save(self, state: Mapping[str, Any], best: Mapping[str, Any] | None) -> None:
        """Write the state after an epoch, and the best weights when they are new.

        Args:
            state: has "epoch", and "best_epoch": the epoch of the best weights so far.
            best: the weights to keep as the best; None when an older epoch's still are.

        The best weights come first and bear their epoch's number: a kill between the two files
        leaves the older pair whole.
        """
        if best is not None:
            _write(storage.join(self.folder, best_name(int(state["best_epoch"]))), {"module": best})
        full = {"format": FORMAT, "identity": dict(self.identity), **state}
        _write(storage.join(self.folder, LAST), full)
        for name in storage.list_names(self.folder, ".pt"):
            if name not in (LAST, best_name(int(state["best_epoch"]))):
                storage.remove(storage.join(self.folder, name))

    def exists(self) -> bool:
        """Whether there is one."""
        return storage.exists(storage.join(self.folder, LAST))

    def read(self) -> bytes:
        """The file of the last whole epoch; TrainError when there is none."""
        if not self.exists():
            raise TrainError(f"no checkpoint in {self.folder}; start without --resume")
        return storage.read_bytes(storage.join(self.folder, LAST))

    def parse(self, data: bytes, device: torch.device) -> dict[str, Any]:
        """The state in a file's bytes.

        Raises:
            TrainError: damaged, or of another network, legend, data or settings.
        """
        where = storage.join(self.folder, LAST)
        state = _parse(data, where, device)
        if state.get("format") != FORMAT or not isinstance(state.get("identity"), dict):
            raise TrainError(f"{where} is no checkpoint of this version; start without --resume")
        for key, value in self.identity.items():
            had = state["identity"].get(key)
            if had != value:
                raise TrainError(
                    f"{where} is of another training: its {key} is {had}, not {value}; "
                    "give the same options, or start without --resume in another place"
                )
        return state

    def best(self, epoch: int, device: torch.device) -> dict[str, Any]:
        """The best weights."""
        where = storage.join(self.folder, best_name(epoch))
        module: dict[str, Any] = _parse(storage.read_bytes(where), where, device)["module"]
        return module

    def clear(self) -> None:
        """Remove them."""
        for name in storage.list_names(self.folder, ".pt"):
            storage.remove(storage.join(self.folder, name))


def best_name(epoch: int) -> str:
    """Name of the file with the best weights, those of `epoch`."""
    return f"best-{epoch:04d}.pt"


def _write(uri: str, state: Mapping[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    storage.write_bytes(uri, buffer.getbuffer())


def _parse(data: bytes, uri: str, device: torch.device) -> dict[str, Any]:
    try:
        state = torch.load(io.BytesIO(data), map_location=device, weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, ValueError,
            zipfile.BadZipFile):  # fmt: skip
        raise TrainError(f"{uri} is damaged or no checkpoint; start without --resume") from None
    if not isinstance(state, dict):
        raise TrainError(f"{uri} is no checkpoint; start without --resume")
    return state
