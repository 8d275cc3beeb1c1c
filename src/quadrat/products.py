"""Kinds of output folders: their manifests, their own files, and who may write into one.

    plan.json     the kind of what is being made, and the digest of its settings
    <manifest>    written last: the product is finished

It does not know how anything is made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from quadrat import storage
from quadrat.errors import InputError, QuadratError, ScoresError, StorageError, TileSetError

PLAN = "plan.json"
LOCK = ".lock"
_PART = r"parts/part-\d{5,9}\.parquet"
_PLAN, _LOCK = re.escape(PLAN), re.escape(LOCK)
_MODEL = (r"model\.json", r"model(\.bf16|\.int8|\.fp16)?\.onnx", _LOCK)
_SCORES = (r"scores\.json", _PLAN, _LOCK, _PART)


@dataclass(frozen=True)
class Product:
    """A kind of folder.

    Attributes:
        words: what it is called.
        manifest: the file that makes it finished.
        files: patterns of the paths of its files, the manifest's too.
        begun: a file or folder that shows, besides manifest and plan, that one was begun.
        format: the value of `format` in the manifest.
        error: raised where it cannot be written.
    """

    words: str
    manifest: str
    files: tuple[str, ...]
    begun: str = ""
    format: str = ""
    error: type[QuadratError] = InputError


PRODUCTS = {
    "tiles": Product(
        "a tile set",
        "tileset.json",
        (r"tileset\.json", _PLAN, _LOCK, _PART),
        format="quadrat-tileset",
        error=TileSetError,
    ),
    "models": Product(
        "a model",
        "model.json",
        (*_MODEL, r"checkpoints/(last\.pt|best-\d+\.pt|run\.json)"),
        begun="checkpoints",
        format="quadrat-model",
    ),
    "scores": Product("scores", "scores.json", _SCORES, format="quadrat-scores", error=ScoresError),
    "county": Product(
        "a synthetic county",
        "demo.json",
        (r"(imagery|labels)_\d+\.tif", r"(demo\.json|truth\.csv|changes\.(csv|geojson))", _LOCK),
    ),
    "change": Product(
        "a result of change",
        "change.json",
        (
            r"change\.(json|md)",
            r"(matrix|areas)\.csv",
            r"transitions\.parquet",
            r"candidates\.(parquet|geojson|csv)",
            r"pictures/\d{5}_r-?\d+_c-?\d+\.jpg",
            # dates that were imagery are scored within the folder
            rf"scores_\d+/({'|'.join(_SCORES)})",
            rf"model_\d+/({'|'.join(_MODEL)})",
            _PLAN,
            _LOCK,
        ),
    ),
    "sample": Product(
        "a sample",
        "sample.json",
        (
            r"sample\.(json|csv|gpkg|kml)",
            r"frame\.parquet",
            r"ceo_(plots|samples)\.csv",
            r"answers-template\.csv",
            _LOCK,
        ),
        format="quadrat-sample",
    ),
    "catalogue": Product(
        "a catalogue", "collection.json", (r"collection\.json", r"items/[^/]+\.json", _LOCK)
    ),
    "imagery": Product("fetched imagery", "fetch.json", (r"(fetch\.json|outline\.geojson)", _LOCK)),
}


def plan_of(folder: str) -> Mapping[str, Any]:
    """What `plan.json` says; empty when there is none or it is no plan."""
    try:
        plan = storage.read_json(storage.join(folder, PLAN))
    except StorageError:
        return {}
    return plan if isinstance(plan, dict) else {}


def kinds_of(folder: str) -> frozenset[str]:
    """The kinds of what is in a folder: by the manifests; without any, by its plan."""
    names = set(storage.list_names(folder))
    kinds = {kind for kind, p in PRODUCTS.items() if p.manifest in names}
    if not kinds and PLAN in names:
        kinds = {str(plan_of(folder).get("kind"))} & set(PRODUCTS)
    return frozenset(kinds)


def read_manifest(
    kind: str, folder: str, versions: Sequence[int], *, by: str, error: type[QuadratError]
) -> dict[str, Any]:
    """The values of a finished product's manifest, whose `format` is that of the kind.

    Args:
        versions: the format versions that are read, the newest last.
        by: the command that makes such a product.
        error: raised where there is no manifest, or one that is damaged, foreign or of another
            version; also when the product is unfinished.
    """
    product, name = PRODUCTS[kind], storage.redact(folder)
    uri = storage.join(folder, product.manifest)
    if not storage.exists(uri):
        if kinds_of(folder) == {kind}:
            raise error(f"{name} holds {product.words}, unfinished; run the same {by} again")
        raise error(f"{name} has no {product.manifest}; name a folder that {by} made")
    try:
        data = storage.read_json(uri)
    except StorageError as damage:
        raise error(str(damage)) from None
    if not isinstance(data, dict) or data.get("format") != product.format:
        raise error(f"{storage.redact(uri)} does not describe {product.words}; name another folder")
    version = data.get("version")
    if isinstance(version, int) and version < versions[0]:
        raise error(
            f"{name} was made by an earlier Quadrat and has no digests of its parts; run the "
            f"command that made it again, with --overwrite"
        )
    if version not in versions:
        raise error(
            f"{name} has format version {version!r}, this Quadrat reads up to "
            f"{versions[-1]}; make it again with this one: {by}"
        )
    return data


def refuse_others(kind: str, folder: str) -> None:
    """Refuse a folder that holds a product of another kind: that is never replaced."""
    others = sorted(kinds_of(folder) - {kind})
    if others:
        mine = PRODUCTS[kind]
        raise mine.error(
            f"{storage.redact(folder)} holds {PRODUCTS[others[0]].words}, not {mine.words}, and is "
            "never overwritten with it; choose another --out"
        )


@contextmanager
def hold(kind: str, folder: str) -> Iterator[None]:
    """Hold an output folder alone, for a product of this kind, while the block lasts.

    What killed runs left half-written is swept away. A block that fails before it finished a part
    leaves nothing that is in the way of the next command.

    Raises:
        LockedError: another process has it.
    """
    with storage.lock(folder):
        refuse_others(kind, folder)
        for below in ("", *_SWEPT):
            storage.sweep(storage.join(folder, below) if below else folder)
        try:
            yield
        except BaseException:
            with suppress(StorageError):
                _drop_empty(folder)
            raise


_SWEPT = ("parts", "checkpoints", "pictures")


def _drop_empty(folder: str) -> None:
    """Remove the plan of a folder in which nothing else was made yet."""
    parts = storage.join(folder, "parts")
    if set(storage.list_names(folder)) <= {PLAN, "parts"} and not storage.list_names(parts):
        storage.remove(storage.join(folder, PLAN))
        storage.remove_empty(parts)


def write_plan(kind: str, folder: str, plan: str, **facts: Any) -> None:
    """Say what is being made in a folder; `facts` are read back by `plan_of`."""
    storage.write_json(storage.join(folder, PLAN), {"kind": kind, "plan": plan, **facts})


def claim(kind: str, folder: str, plan: str, overwrite: bool) -> bool:
    """Make a held folder ready: continue the same plan, refuse or remove another of the kind.

    A plan of which no part is finished is replaced unasked.

    Returns:
        Whether the plan is the same; what it has made so far is there.

    Raises:
        InputError (of the kind): other files, or finished parts and no `overwrite`.
    """
    mine, there = PRODUCTS[kind], plan_of(folder)
    if there.get("plan") == plan and there.get("kind", kind) == kind:
        return True
    names = storage.list_names(folder)
    if not names:
        return False
    where = storage.redact(folder)
    finished = mine.manifest in names
    if not finished and there.get("kind") != kind:
        raise mine.error(
            f"{where} holds other files ({names[0]}) and no {mine.words.removeprefix('a ')}; "
            "choose another --out"
        )
    if not overwrite and (
        finished or storage.list_names(storage.join(folder, "parts"), ".parquet")
    ):
        state = mine.words if finished else f"an unfinished run of {mine.words}"
        raise mine.error(
            f"{where} holds {state}, made with other settings or from other files; choose another "
            "--out, or --overwrite to replace it"
        )
    clear(kind, folder)
    return False


def clear(kind: str, folder: str) -> None:
    """Remove manifest and parts of a product; the plan stays, and says what the folder was."""
    storage.remove(storage.join(folder, PRODUCTS[kind].manifest))
    parts = storage.join(folder, "parts")
    for name in storage.list_names(parts, ".parquet"):
        if re.fullmatch(_PART, f"parts/{name}"):
            storage.remove(storage.join(parts, name))


def own_files(kind: str) -> Callable[[str], object]:
    """Whether a path below a folder of this kind is that of a file which Quadrat writes there."""
    return matching(PRODUCTS[kind].files)


def matching(patterns: Iterable[str]) -> Callable[[str], object]:
    """Whether a path matches one of the patterns, or is that of a file left half-written."""
    temporary = r"(.*/)?\.part-[^/]*\.tmp[^/]*"
    return re.compile("|".join([*patterns, temporary])).fullmatch
