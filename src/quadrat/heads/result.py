"""What `train` returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quadrat import charts
from quadrat.errors import TrainError
from quadrat.shown import Chart, shown
from quadrat.skipped import Skipped


@shown
@dataclass(frozen=True)
class TrainResult:
    """A trained model and what is known of it.

    Attributes:
        uri, digest: the bundle.
        metrics: figures of all validation tiles (`Metrics.to_dict()`), None when there are none.
        ground: figures of all held-out ground, as `metrics`: the validation tiles, and those of the
            training tiles that a head predicted which had not seen them nor their block. They rest
            on several times the tiles, and are what the model is worth. None without any.
        precision: what the model is scored in by default.
        device: what computes in it on this machine.
        forms: precision -> its validation accuracy, the accuracy that precisions were compared by
            (see `forms`), its temperature, and how many tiles trained and measured it.
        network: the backbone (`backbones.FeatureGraph.to_dict()`): its licence, the normalisation
            that it was given, how far its graph is from torch.
        views: of each training tile.
        tiles: main class -> tiles, of `train` and `validation`.
        held_out: where validation tiles come from (see `samples.Samples`).
        seconds: of `features`, `fit` and `total`.
        skipped: name and reason of each tile that could not be read.
        warnings: what a user should know, a sentence each.
        split_gap: what a random split would have measured (`random`), and how much more that is
            than the validation above (`gap`), each with its interval; None unless asked for.
    """

    uri: str
    digest: str
    backbone: str
    network: Mapping[str, Any]
    head: Mapping[str, Any]
    metrics: Mapping[str, Any] | None
    ground: Mapping[str, Any] | None
    precision: str
    device: str
    views: int
    forms: Mapping[str, Mapping[str, Any]]
    tiles: Mapping[str, Mapping[str, int]]
    held_out: str
    seconds: Mapping[str, float]
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()
    split_gap: Mapping[str, Any] | None = None

    @property
    def accuracy(self) -> float | None:
        """Overall accuracy on the validation tiles."""
        return None if self.metrics is None else float(self.metrics["overall"]["value"])

    def plot(self) -> Chart:
        """The confusion matrix of the validation tiles, as a picture for notebooks.

        Raises:
            TrainError: there are no validation tiles.
        """
        if self.metrics is None:
            raise TrainError("there are no validation tiles, so there is no confusion matrix")
        names = [c["name"] for c in self.metrics["classes"]]
        return Chart(charts.confusion(names, self.metrics["confusion"], "Validation plots"))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "uri": self.uri,
            "digest": self.digest,
            "backbone": self.backbone,
            "network": dict(self.network),
            "head": dict(self.head),
            "accuracy": self.accuracy,
            "precision": self.precision,
            "device": self.device,
            "views": self.views,
            "forms": {k: dict(v) for k, v in self.forms.items()},
            "tiles": {k: dict(v) for k, v in self.tiles.items()},
            "held_out": self.held_out,
            "seconds": dict(self.seconds),
            "skipped": [list(s) for s in self.skipped],
            "warnings": list(self.warnings),
            "metrics": self.metrics,
            "ground": self.ground,
            "split_gap": self.split_gap,
        }
