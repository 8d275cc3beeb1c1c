"""The model bundle: a folder with `model.onnx` and `model.json`. Save, load, verify.

A bundle says everything that scoring needs and needs none of what trained it. What is read from a
bundle is data from a stranger: types are checked, files are named by their place in the bundle and
not by the file, every graph must have the digest that `model.json` states. Does not know runtimes.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from quadrat import graphs, products, storage
from quadrat import grid as grids
from quadrat import legend as legends
from quadrat.errors import GridError, LegendError, ModelError, StorageError
from quadrat.grid import Grid
from quadrat.legend import Legend
from quadrat.records import plain
from quadrat.shown import shown

FORMAT = products.PRODUCTS["models"].format
VERSION = 2
READABLE = (1, 2)  # format versions; a model of version 1 has one output and masks nothing
CLASS_OUTPUTS = ("probabilities", "shares")  # of a number a class
DISTANCE = "distance"  # of one number
OUTPUTS = (*CLASS_OUTPUTS, DISTANCE)  # of a graph, in this order; the last ones may be missing
# the file of each precision; a bundle cannot choose its files
FILES = {
    "fp32": "model.onnx",
    "bf16": "model.bf16.onnx",
    "int8": "model.int8.onnx",
    "fp16": "model.fp16.onnx",
}
SAME_GRAPH = ("bf16", "fp16")  # the float graph, which a runtime computes in this precision


@dataclass(frozen=True)
class ModelInfo:
    """What a bundle says of itself.

    Attributes:
        legend: classes, in the order of the probabilities.
        size_px: pixels along a side of the tiles that it takes.
        grid: the grid of the tiles that it was trained on; None for pictures without a place.
        backbone: `name`, `weights_sha256`, `licence` and more of the network.
        head: `name` and parameters of what was trained on it.
        run_id: the run of the run history that trained it.
        tileset_digest: digest of the tiles that it was trained on.
        metrics: validation figures of the precision that `auto` takes.
        temperature: the logits of the probabilities are divided by it, inside the graph; 1 is no
            calibration.
        outputs: names of the graphs' outputs, of `OUTPUTS`; filled in by `save_model`.
        masks: whether the model knows ground that has no class in the legend: rows then sum to less
            than 1, and tiles that are mostly such ground are masked.
        conformal: `level` and `threshold` of the sets of classes (see `metrics.conformal`), and
            what they were calibrated on; empty where they were not.
        distance: what distances from the training tiles were made with (see `heads.distance`);
            empty for a model without them.
        precision: what `--precision auto` takes where the machine can: the form whose validation
            accuracy was accepted.
        forms: precision -> SHA-256 of its graph; filled in by `save_model`.
        warnings: what a user should know of the training, a sentence each.
        created: UTC time, ISO 8601; filled in by `save_model`.
    """

    legend: Legend
    size_px: int
    grid: Grid | None = None
    backbone: Mapping[str, Any] = field(default_factory=dict)
    head: Mapping[str, Any] = field(default_factory=dict)
    run_id: str | None = None
    tileset_digest: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    temperature: float = 1.0
    outputs: tuple[str, ...] = OUTPUTS[:1]
    masks: bool = False
    conformal: Mapping[str, Any] = field(default_factory=dict)
    distance: Mapping[str, Any] = field(default_factory=dict)
    precision: str = "fp32"
    forms: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    created: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: the content of `model.json`."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "created": self.created,
            "legend": self.legend.to_dict(),
            "grid": self.grid.to_dict() if self.grid else None,
            "size_px": self.size_px,
            "input": {
                "shape": ["N", self.size_px, self.size_px, 3],
                "type": "uint8",
                "order": "RGB",
            },
            "backbone": plain(self.backbone),
            "head": plain(self.head),
            "run_id": self.run_id,
            "tileset_digest": self.tileset_digest,
            "metrics": plain(self.metrics),
            "outputs": list(self.outputs),
            "masks": self.masks,
            "temperature": self.temperature,
            "conformal": plain(self.conformal),
            "distance": plain(self.distance),
            "precision": self.precision,
            "forms": {p: {"file": FILES[p], "sha256": s} for p, s in self.forms.items()},
            "warnings": list(self.warnings),
        }


@shown
@dataclass(frozen=True)
class Model:
    """A bundle that was found whole.

    Attributes:
        uri: its folder.
        info: what it says of itself.
    """

    uri: str
    info: ModelInfo

    @property
    def legend(self) -> Legend:
        """Classes, in the order of the probabilities."""
        return self.info.legend

    @property
    def grid(self) -> Grid | None:
        """The grid that it was trained on; None for pictures without a place."""
        return self.info.grid

    @property
    def size_px(self) -> int:
        """Pixels along a side of the tiles that it takes."""
        return self.info.size_px

    @property
    def digest(self) -> str:
        """SHA-256 over what decides the scores: graphs, legend, grid; not over names and dates."""
        threshold = self.info.conformal.get("threshold")
        return storage.digest_json(
            {
                "forms": dict(self.info.forms),
                "legend": self.legend.to_dict(),
                "grid": self.grid.to_dict() if self.grid else None,
                "size_px": self.size_px,
                **({"masks": True} if self.info.masks else {}),
                **({"threshold": threshold} if threshold is not None else {}),
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """What a script wants to know."""
        head, network = self.info.head, self.info.backbone
        return {
            "uri": self.uri,
            "backbone": str(network.get("name", "")),
            "head": str(head.get("head", head.get("name", ""))),
            "legend": self.legend.name,
            "size_px": self.size_px,
            "precision": self.info.precision,
            "digest": self.digest,
            "metrics": self.info.metrics,
            "run_id": self.info.run_id,
            "warnings": list(self.info.warnings),
        }

    def onnx(self, precision: str = "fp32") -> bytes:
        """The graph of one precision, with the digest that was stated; ModelError otherwise.

        `bf16` and `fp16` run the float graph where the bundle has no graph of its own for them.
        """
        if precision in SAME_GRAPH and precision not in self.info.forms:
            precision = "fp32"
        if precision not in self.info.forms:
            raise ModelError(
                f"{self.uri} has no {precision} form; it has {', '.join(self.info.forms)}"
            )
        return _read_form(self.uri, precision, self.info.forms[precision])


def save_model(
    uri: str, onnx: bytes, info: ModelInfo, forms: Mapping[str, bytes] | None = None
) -> Model:
    """Write a bundle; `model.json` comes last, so that a bundle that has one is whole.

    Args:
        uri: the folder, made when missing. A bundle that stands there is replaced.
        onnx: the float graph: chips `(N, size_px, size_px, 3) uint8` -> the outputs
            `probabilities` and `shares`, or the first alone, each `(N, K) float32`, and
            `distance`, `(N, 1) float32`, where it has that.
        info: the rest; `outputs`, `forms` and `created` are filled in here.
        forms: further graphs by precision (`int8`, `bf16`, `fp16`).

    Raises:
        ModelError: a graph that `open_model` would refuse, or a precision without a form.
        StorageError: no permission, no space.
    """
    every = {"fp32": onnx, **(forms or {})}
    unknown = sorted(set(every) - set(FILES))
    if unknown:
        raise ModelError(f"no form {unknown[0]!r}; a model has {', '.join(FILES)}")
    if info.precision not in every:
        raise ModelError(f"precision {info.precision!r} has no graph; give it in `forms`")
    found = {_check_graph(data, info, f"the {name} graph") for name, data in every.items()}
    if len(found) > 1:
        raise ModelError("the graphs of a model must have the same outputs; export them alike")
    full = dataclasses.replace(
        info,
        outputs=found.pop(),
        forms={p: storage.digest_bytes(d) for p, d in every.items()},
        created=info.created or datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    storage.remove(storage.join(uri, "model.json"))
    for precision, file in FILES.items():
        if precision in every:
            storage.write_bytes(storage.join(uri, file), every[precision])
        else:
            storage.remove(storage.join(uri, file))
    storage.write_json(storage.join(uri, "model.json"), full.to_dict())
    return Model(storage.normalise(uri), full)


def open_model(uri: str) -> Model:
    """Read a bundle and verify all of it.

    Raises:
        ModelError: no bundle there, a foreign or corrupt one, a graph with another digest, a graph
            that needs more than standard operators and its own weights.
    """
    by = "quadrat train or quadrat finetune"
    data = products.read_manifest("models", uri, READABLE, by=by, error=ModelError)
    info = _info(data, storage.redact(storage.join(uri, "model.json")))
    for precision, stated in info.forms.items():
        what = f"{storage.redact(uri)} {precision}"
        if _check_graph(_read_form(uri, precision, stated), info, what) != info.outputs:
            raise ModelError(
                f"{what} has not the outputs that model.json lists ({', '.join(info.outputs)}); "
                "copy or train the model again"
            )
    return Model(storage.normalise(uri), info)


def _read_form(uri: str, precision: str, stated: str) -> bytes:
    where = storage.join(uri, FILES[precision])
    try:
        data = storage.read_bytes(where, graphs.MAX_BYTES)
    except StorageError as error:
        raise ModelError(f"{storage.redact(uri)} is not whole: {error}") from None
    if storage.digest_bytes(data) != stated:
        raise ModelError(
            f"{storage.redact(where)} is not the file that model.json describes (SHA-256 differs); "
            "copy or train the model again"
        )
    return data


def _check_graph(data: bytes, info: ModelInfo, what: str) -> tuple[str, ...]:
    """The outputs of a model's graph, of OUTPUTS; ModelError where it is none."""
    _, found = graphs.checked(data, what, info.size_px, len(OUTPUTS))
    for name, dim in zip(found.outputs, found.dims, strict=True):
        if dim not in (None, 1 if name == DISTANCE else len(info.legend)):
            raise ModelError(
                f"{what} gives {dim} probabilities and the legend has {len(info.legend)} classes"
            )
    if len(found.outputs) > 1 and found.outputs != OUTPUTS[: len(found.outputs)]:
        raise ModelError(
            f"{what} has the outputs {', '.join(map(graphs.printable, found.outputs))}; a model "
            f"has {', '.join(OUTPUTS)}, or the first of these: export it again"
        )
    return OUTPUTS[: len(found.outputs)]


def _info(data: Mapping[str, Any], name: str) -> ModelInfo:
    """`model.json`'s values, checked one by one."""

    def take(key: str, *kinds: type) -> Any:
        value = data.get(key)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise ModelError(f"{name}: {key} is missing or of the wrong type; train again")
        return value

    nothing = type(None)
    try:
        legend = legends.from_dict(take("legend", dict), name)
        grid_values = take("grid", dict, nothing)
        grid = grids.from_dict(grid_values) if grid_values is not None else None
    except (LegendError, GridError) as error:
        raise ModelError(f"{name}: {error}") from None
    info = ModelInfo(
        legend=legend,
        grid=grid,
        size_px=take("size_px", int),
        backbone=take("backbone", dict),
        head=take("head", dict),
        run_id=take("run_id", str, nothing),
        tileset_digest=take("tileset_digest", str, nothing),
        metrics=take("metrics", dict),
        temperature=float(take("temperature", int, float)),
        **(_outputs(take, name) if data["version"] > 1 else {}),
        precision=take("precision", str),
        forms=_forms(take("forms", dict), name),
        warnings=tuple(str(w) for w in take("warnings", list)),
        created=take("created", str),
    )
    if grid is not None and grid.size_px != info.size_px:
        raise ModelError(f"{name}: grid and size_px disagree; train again")
    if not 1 <= info.size_px <= grids.MAX_SIZE_PX or not info.temperature > 0:
        raise ModelError(f"{name}: size_px or temperature is out of range; train again")
    if info.precision not in info.forms:
        raise ModelError(f"{name}: precision {info.precision!r} has no form; train again")
    return info


def _outputs(take: Callable[..., Any], name: str) -> dict[str, Any]:
    """What a model of format version 2 says of its outputs."""
    outputs = tuple(take("outputs", list))
    if not outputs or outputs != OUTPUTS[: len(outputs)]:
        raise ModelError(f"{name}: outputs are not {', '.join(OUTPUTS)}; train again")
    conformal = take("conformal", dict)
    threshold = conformal.get("threshold", 0.0)
    if isinstance(threshold, bool) or not isinstance(threshold, int | float):
        raise ModelError(f"{name}: the threshold of conformal is no number; train again")
    found = {"outputs": outputs, "masks": take("masks", bool), "conformal": conformal}
    if DISTANCE not in outputs:
        return found
    distance = take("distance", dict)
    level = distance.get("level")
    if not isinstance(level, float) or not 0 < level < 1:
        raise ModelError(f"{name}: the level of distance is no share of tiles; train again")
    return {**found, "distance": distance}


def _forms(values: Mapping[str, Any], name: str) -> dict[str, str]:
    result = {}
    for precision, form in values.items():
        good = (
            precision in FILES
            and isinstance(form, dict)
            and form.get("file") == FILES[precision]
            and isinstance(form.get("sha256"), str)
        )
        if not good:
            raise ModelError(
                f"{name}: form {precision!r} is unknown or names a file other than "
                f"{FILES.get(precision, 'model.onnx')} in its own folder; the bundle is foreign"
            )
        result[precision] = form["sha256"]
    if "fp32" not in result:
        raise ModelError(f"{name} lists no fp32 form (model.onnx); train again")
    return result
