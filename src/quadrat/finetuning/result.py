"""What a fine-tuning gives back. It loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quadrat import skipped as skips
from quadrat.records import Record
from quadrat.shown import shown
from quadrat.skipped import Skipped


@shown
@dataclass(frozen=True)
class FinetuneResult(Record):
    """A fine-tuned model and what is known of it.

    Attributes:
        uri, digest: the bundle.
        network: `name`, `weights`, `weights_sha256`, `licence`, `depth`, `pixels` and more.
        metrics: validation figures (`Metrics.to_dict()`) of the best epoch.
        test: the same of the tiles of the split `test`; None when there are none.
        best_epoch: the epoch that the model is from.
        history: figures of each epoch.
        temperature: of the calibration.
        parity: how far the exported graph is from torch.
        tiles: split -> class -> tiles.
        held_out: where validation tiles come from.
        machine: `device`, `precision`, `processes`, `threads`, `torch`.
        samples_per_s: training tiles a second, the median of the epochs.
        resumed_after: epochs that an earlier, stopped training had finished.
        seconds: of `tiles` (decoding), `features` (`last_only`), `train` and `total`.
        skipped: name and reason of each tile that could not be read.
        warnings: what a user should know, a sentence each.
    """

    computed = ("accuracy", "epochs")

    uri: str
    digest: str
    network: Mapping[str, Any]
    metrics: Mapping[str, Any]
    test: Mapping[str, Any] | None
    best_epoch: int
    history: tuple[Mapping[str, float], ...]
    temperature: float
    parity: Mapping[str, Any]
    tiles: Mapping[str, Mapping[str, int]]
    held_out: str
    machine: Mapping[str, Any]
    samples_per_s: float
    resumed_after: int
    seconds: Mapping[str, float]
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def accuracy(self) -> float:
        """Overall accuracy on the validation tiles."""
        return float(self.metrics["overall"]["value"])

    @property
    def epochs(self) -> int:
        """Epochs that were run."""
        return len(self.history)


def from_dict(data: Mapping[str, Any]) -> FinetuneResult:
    """A result from the values that `to_dict` gave in another process."""
    values = {k: v for k, v in data.items() if k not in FinetuneResult.computed}
    return FinetuneResult(
        **{
            **values,
            "history": tuple(values["history"]),
            "skipped": skips.from_lists(values["skipped"]),
            "warnings": tuple(values["warnings"]),
        }
    )
