"""What a fine-tuning run is asked to do: plain values, checked. It loads no torch.

Every value here, and the data, decide the result; where and with how many processes it runs does
not belong here (see `Machine`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from quadrat import choices
from quadrat.backbones import Given
from quadrat.errors import TrainError
from quadrat.records import Record

DEPTHS = ("last_only", "fully_connected", "all")
FROM = "from:"
RANDOM = "random"
CHECKPOINTS = "checkpoints"  # folder in the model's, while training lasts
RUN_FILE = "run.json"  # in it: the run of the history that goes on

# Peak learning rates per optimiser: of a pretrained network, of a new last layer alone, of a
# network with random weights.
LEARNING_RATES = {"adamw": (1e-4, 5e-3, 1e-3), "sgd": (3e-3, 1e-1, 3e-2)}


@dataclass(frozen=True)
class FinetuneSettings(Record):
    """How to train.

    Attributes:
        backbone: a network's name: `efficientnet_lite0`, `torchvision:NAME`, `timm:NAME`,
            `hf-hub:ORG/NAME`, `torchgeo:Enum.MEMBER`; a bare name is looked for in this order.
        depth: what is retrained: `last_only` (a new last layer on the frozen network),
            `fully_connected` (the fully connected layers), `all`, or `from:LAYER` (the named layer
            and all after it).
        weights: a file of weights in the network's own layout (torch state dict or safetensors);
            "random" for none; None for the network's published ImageNet weights.
        pixels: side of the pictures that the network sees; the backbone's own when None.
        epochs: passes over the training tiles.
        batch: tiles a step, over all processes together.
        optimizer: `adamw` or `sgd` (Nesterov momentum 0.9).
        lr: peak learning rate; None for a default that depends on optimiser, depth and weights.
        weight_decay: L2 strength, on weights alone (not on biases and normalisation).
        layer_decay: learning rate of a stage as a part of that of the stage after it, from the new
            last layer back to the picture; 1 for the same everywhere. Transformers are often
            retrained with 0.65 to 0.9 (Bao et al. 2022, arXiv:2106.08254).
        clip: largest norm of a step's gradient; longer ones are shortened to it; 0 for no limit.
            With frozen batch statistics nothing else holds a network that is pushed too far.
        warmup: epochs of linear warm-up before the cosine decay; may be a fraction.
        label_smoothing: share of the target spread over all classes.
        class_weight: `none`, or `balanced` (a class weighs as much as any other, however few tiles
            it has).
        crop: side of the random square crop as a share of the tile's side; 1 for none.
        jitter: largest relative change of brightness, contrast and saturation; 0 for none.
        flips: mirror and turn tiles by quarter turns at random: the ground has no upright.
        sample_frac: share of the training tiles to use, above 0 and at most 1.
        head_first: other depths than `last_only`: before training, fit the new last layer to the
            features of the network as it is, so that a random layer's errors do not spoil what the
            network knows (Kumar et al. 2022, arXiv:2202.10054).
        views: `last_only` alone: how many versions of each tile are featurized, the plain one and
            `views - 1` augmented ones; epochs take them in turn.
        batch_norm: the statistics of batch normalisation in retrained layers: `frozen` as the
            network brings them, `batch` (they follow the data), or `auto`: frozen unless the
            weights are random. A few thousand tiles are learned better from a network whose
            statistics stay what they were: training and scoring then see the same features.
        keep: the epoch that the model is from: `best` (by validation macro F1; between equals the
            one of lower loss) or `last`. With few validation tiles the best is a matter of luck,
            and the last, at the foot of the cosine, is the better bet.
        patience: stop after so many epochs without a better validation macro F1; 0 for never.
        precision: `fp32`, `bf16` (mixed) or `auto`: bf16 where the device computes in it.
        mean, std, range, pooling, accept_licence: what is to be said of a network that does not say
            it itself (see `backbones.Given`).
        seed: of everything random.
    """

    backbone: str = "efficientnet_lite0"
    depth: str = "all"
    weights: str | None = None
    pixels: int | None = None
    epochs: int = 10
    batch: int = 32
    optimizer: str = "adamw"
    lr: float | None = None
    weight_decay: float = 0.01
    layer_decay: float = 1.0
    clip: float = 1.0
    warmup: float = 1.0
    label_smoothing: float = 0.1
    class_weight: str = "none"
    crop: float = 0.85
    jitter: float = 0.2
    flips: bool = True
    sample_frac: float = 1.0
    head_first: bool = True
    views: int = 1
    batch_norm: str = "auto"
    keep: str = "best"
    patience: int = 0
    precision: str = "auto"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    range: tuple[float, float] | None = None
    pooling: str | None = None
    accept_licence: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("mean", "std", "range"):
            value = getattr(self, name)
            if value is not None:  # lists, where a process gets them as JSON
                object.__setattr__(self, name, tuple(value))
        _choice("depth", self.depth, DEPTHS, prefix=FROM)
        _choice("optimizer", self.optimizer, choices.OPTIMIZERS)
        _choice("class-weight", self.class_weight, choices.CLASS_WEIGHTS)
        _choice("keep", self.keep, choices.KEPT_EPOCHS)
        _choice("batch-norm", self.batch_norm, choices.BATCH_NORMS)
        _choice("precision", self.precision, choices.TRAINING_PRECISIONS)
        _range("epochs", self.epochs, 1)
        _range("batch", self.batch, 1)
        _range("views", self.views, 1)
        _range("patience", self.patience, 0)
        _range("seed", self.seed, 0)
        _range("warmup", self.warmup, 0, self.epochs)
        _range("weight-decay", self.weight_decay, 0)
        _range("layer-decay", self.layer_decay, 0.01, 1)
        _range("clip", self.clip, 0)
        _range("label-smoothing", self.label_smoothing, 0, 0.99)
        _range("sample-frac", self.sample_frac, 1e-9, 1)
        _range("crop", self.crop, 0.05, 1)
        _range("jitter", self.jitter, 0, 1)
        if self.lr is not None:
            _range("lr", self.lr, 1e-12)
        if self.pixels is not None:
            _range("pixels", self.pixels, 16, 4096)
        if self.patience and self.keep == "last":
            raise TrainError("--patience looks for the best epoch; leave it out with --keep last")
        if self.views > 1 and self.depth != "last_only":
            raise TrainError(
                f"--views {self.views} needs --depth last_only; "
                "other depths augment every epoch anew"
            )

    @property
    def given(self) -> Given:
        """What is said of the network."""
        return Given(
            self.mean, self.std, self.range, self.pooling, accept_licence=self.accept_licence
        )

    @property
    def peak_lr(self) -> float:
        """The peak learning rate: the one given, or the default of optimiser and depth."""
        if self.lr is not None:
            return self.lr
        pretrained, last, new = LEARNING_RATES[self.optimizer]
        if self.depth == "last_only":
            return last
        return new if self.weights == RANDOM else pretrained


@dataclass(frozen=True)
class Machine(Record):
    """Where to train; the result does not depend on it.

    Attributes:
        device: `auto` (a GPU where there is one), `cpu` or `cuda`.
        nproc: processes on this machine; more than 1 starts them through torchrun.
        threads: threads of one process; None for the cores divided by the processes.
        memory_mb: tiles are held decoded in memory up to this size, else in a temporary file.
    """

    device: str = "auto"
    nproc: int = 1
    threads: int | None = None
    memory_mb: int = 4096

    def __post_init__(self) -> None:
        _choice("device", self.device, choices.DEVICES)
        _range("nproc", self.nproc, 1)
        _range("memory-mb", self.memory_mb, 0)
        if self.threads is not None:
            _range("threads", self.threads, 1)


def _choice(name: str, value: str, known: tuple[str, ...], prefix: str = "") -> None:
    if value in known or (prefix and value.startswith(prefix) and len(value) > len(prefix)):
        return
    more = f" or {prefix}LAYER" if prefix else ""
    raise TrainError(f"--{name} {value!r} is unknown; it may be {', '.join(known)}{more}")


def _range(name: str, value: float, low: float, high: float = math.inf) -> None:
    if not (low <= value <= high and math.isfinite(value)):
        limits = f"from {low:g} to {high:g}" if math.isfinite(high) else f"{low:g} or more"
        raise TrainError(f"--{name} {value:g} is out of range; it must be {limits}")
