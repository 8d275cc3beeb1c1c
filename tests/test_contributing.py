"""The recipes of CONTRIBUTING.md, carried out as they stand and used as a user would use them."""

from __future__ import annotations

import importlib
import json
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.warp import transform
from sklearn.metrics import cohen_kappa_score

import quadrat as qd
import small_tiles
from conftest import ROOT, Writer, scene
from quadrat import features, runs, tiles
from quadrat.backbones import feature_graph
from quadrat.cli import run
from quadrat.tiles import read_part

RECIPES = (
    "A backbone", "A label rule", "An engine", "A verb", "A metric in `runs compare`",
    "A mosaic fix",
)  # fmt: skip


@dataclass(frozen=True)
class Piece:
    """A block of code of a recipe: its file, the table that it is a row of ("": none), its text."""

    file: str
    table: str
    code: str


def pieces(recipe: str) -> list[Piece]:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    section = text.split(f"\n## {recipe}\n")[1].split("\n## ")[0]
    found = []
    for block in re.findall(r"```python\n(.*?)```", section, re.DOTALL):
        head, code = block.split("\n", 1)
        match = re.fullmatch(r"# (\S+\.py)(?:, a row of (\w+))?", head)
        assert match, head
        found.append(Piece(match[1], match[2] or "", code))
    return found


@pytest.fixture
def follow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Carry out a recipe: new files, code added to modules, rows added to tables; undone after."""

    def do(recipe: str) -> None:
        for piece in pieces(recipe):
            name = piece.file.removeprefix("src/").removesuffix("/__init__.py")
            name = name.removesuffix(".py").replace("/", ".")
            if not (ROOT / piece.file).exists():
                new = tmp_path / "new" / piece.file
                new.parent.mkdir(parents=True)
                new.write_text(piece.code)
                package = importlib.import_module(name.rpartition(".")[0])
                places = [*package.__path__, str(new.parent)]
                monkeypatch.setattr(package, "__path__", places)
                continue
            module = importlib.import_module(name)
            if piece.table:
                row = eval(f"{{{piece.code}}}", dict(vars(module)))  # noqa: S307 - our own page
                for key, value in row.items():
                    monkeypatch.setitem(getattr(module, piece.table), key, value)
                continue
            made: dict[str, Any] = dict(vars(module))
            exec(piece.code, made)
            for key in set(made) - set(vars(module)) - {"__builtins__"}:
                monkeypatch.setattr(module, key, made[key], raising=False)

    return do


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_touches_at_most_two_files(recipe: str) -> None:
    touched = {p.file for p in pieces(recipe) if p.file.startswith("src/")}
    assert len(touched) <= 2
    for piece in pieces(recipe):
        folder = (ROOT / piece.file).parent
        assert folder.is_dir(), f"{recipe}: {folder} is no folder"


def labelled(folder: Path) -> str:
    """A folder of pictures of two classes that differ in brightness, for training."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for name, level in (("dark", 60), ("light", 180)):
        for split, count in (("train", 12), ("validation", 6)):
            place = folder / split / name
            place.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(level - 40, level + 40, (32, 32, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(place / f"{i}.png")
    return str(folder)


def test_a_backbone_trains_a_model(follow: Callable[[str], None], tmp_path: Path) -> None:
    follow("A backbone")
    source = qd.open_tiles(labelled(tmp_path / "pictures"), size_px=32)
    made = qd.train(source, str(tmp_path / "model"), backbone="mean_grey", precision="fp32")
    assert made.backbone == "mean_grey" and made.accuracy == 1
    found = features.featurize(source, feature_graph("mean_grey", size_px=32))
    chips = np.concatenate([b.chips for p in source.parts() for b in read_part(p)])
    np.testing.assert_allclose(found.values[:, 0], chips.mean((1, 2, 3)) / 255, atol=1e-5)


def test_a_label_rule_labels_tiles(
    follow: Callable[[str], None], write_raster: Writer, tmp_path: Path
) -> None:
    follow("A label rule")
    left, top = 2500 * 224.0, 18326 * 224.0
    imagery = write_raster("i.tif", scene(672, 672), left=left, top=top)
    codes = np.random.default_rng(3).choice([41, 82, 24], (1, 40, 40)).astype(np.uint8)
    labels = write_raster("l.tif", codes, left=left - 90, top=top + 90, pixel=30.0)
    made = qd.tile([imagery], str(tmp_path / "tiles"), labels=labels, rule="centre", split=None)
    table = tiles.index(made)
    known = {code: c.name for c in qd.load_legend("nlcd6").classes for code in c.codes}
    with rasterio.open(labels) as data:
        for row, col, label in zip(
            *(table[n].to_pylist() for n in ("row", "col", "label")), strict=True
        ):
            (x,), (y,) = transform(
                "EPSG:26917", data.crs, [(col + 0.5) * 224], [-(row + 0.5) * 224]
            )
            r, c = data.index(x, y)
            assert label == known[int(codes[0, r, c])]
    assert len(set(table["label"].to_pylist())) > 1


def test_an_engine_gives_the_same_scores(follow: Callable[[str], None], tmp_path: Path) -> None:
    follow("An engine")
    imagery = small_tiles.write_raster(tmp_path / "i.tif", 40, 70)
    model = small_tiles.save_model(str(tmp_path / "model"))
    done = {
        name: qd.score(model, imagery, str(tmp_path / name), engine=qd.get_engine(name))
        for name in ("serial", "local")
    }
    one, other = (qd.open_scores(d.uri) for d in done.values())
    assert one.tiles == 2800 and one.digest == other.digest
    with pytest.raises(qd.QuadratError, match="the engine serial does not take master"):
        qd.get_engine("serial", master="yarn")


def test_a_verb_is_a_command_and_a_function(
    follow: Callable[[str], None],
    write_raster: Writer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    follow("A verb")
    file = write_raster("i.tif", scene(100, 60), nodata=7)
    assert run(["info", file, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["width"], told["height"], told["count"], told["nodata"]) == (60, 100, 3, 7)
    assert run(["info", file]) == 0
    assert re.search(r"crs +EPSG:26917", capsys.readouterr().out)
    assert run(["--help"]) == 0
    assert "Say what a raster is" in capsys.readouterr().out
    assert qd.info(file).width == 60  # type: ignore[attr-defined]
    del vars(qd)["info"]  # it stays where it was asked for


def test_a_metric_is_compared(
    follow: Callable[[str], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    follow("A metric in `runs compare`")
    rng = np.random.default_rng(1)
    truth, pred = rng.integers(0, 3, (2, 200))
    pred = np.where(rng.random(200) < 0.6, truth, pred)
    from quadrat import metrics

    found = metrics.summarise(truth, pred, ["a", "b", "c"], draws=200)
    expected = cohen_kappa_score(truth, pred)
    assert found.scores["kappa"].value == pytest.approx(expected)
    assert found.scores["kappa"].low < expected < found.scores["kappa"].high
    history = f"sqlite:///{tmp_path}/runs.db"
    with runs.start("train", name="one", tracking_uri=history) as made:
        made.record("metrics", {"split": "validation", **found.to_dict()})
    line = ["runs", "compare", "one", "--out", str(tmp_path / "c.png"), "--tracking-uri", history]
    assert run(line) == 0
    assert re.search(rf"validation/kappa +{expected:.4f}", capsys.readouterr().out)


def test_a_mosaic_is_compared_with_plain_slices(write_raster: Writer, tmp_path: Path) -> None:
    (piece,) = pieces("A mosaic fix")
    made: dict[str, Any] = {"np": np, "qd": qd, "scene": scene, "read_part": read_part}
    exec(textwrap.dedent(piece.code), made)
    (test,) = (f for n, f in made.items() if n.startswith("test_"))
    test(write_raster, tmp_path)
