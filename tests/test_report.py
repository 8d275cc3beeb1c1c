"""The report says what is true: its figures against figures computed here, and it is whole."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
import shutil
import sys
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix, precision_score, recall_score

from geodesy import geodesic
from made_scores import GRID, certain, square, write_scores
from quadrat import changes, storage
from quadrat.cli import run as cli
from quadrat.errors import InputError, LegendError, MissingExtraError, QuadratError, ScoresError
from quadrat.fetching.record import sidecar
from quadrat.grid import Grid, TileId
from quadrat.legend import LandClass, Legend, load_legend
from quadrat.reports import report
from quadrat.reports.markup import without_folders

SIDE = 20
NAMES = load_legend("nlcd6").names
HA = float(  # mean ground of the tiles
    np.mean(
        [
            geodesic(GRID, TileId(r, c))
            for r, c in zip(*(v.tolist() for v in square(SIDE)), strict=True)
        ]
    )
)
CHANGED = np.arange(0, SIDE**2, 13)


class Page(HTMLParser):
    """Elements with their attributes, and tables by caption as lists of rows of texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.words: list[str] = []
        self.scripts: list[str] = []
        self._caption = ""
        self._in: list[str] = []
        self.feed(text)
        self.data = json.loads(self.scripts[0])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("input", "br", "meta", "link", "img"):
            return
        self._in.append(tag)
        if tag == "caption":
            self._caption = ""
        elif tag == "tr":
            self.tables.setdefault(self._caption, []).append([])
        elif tag in ("td", "th"):
            self.tables[self._caption][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._in.pop() == tag, f"unbalanced {tag}"

    def handle_data(self, data: str) -> None:
        if "script" in self._in:
            self.scripts.append(data)
            return
        if "style" not in self._in:
            self.words.append(data)
        if "caption" in self._in:
            self._caption += data
        elif "td" in self._in or "th" in self._in:
            self.tables[self._caption][-1][-1] += data

    def table(self, start: str) -> list[list[str]]:
        """The rows below the heads of the table whose caption starts so."""
        return next(v for k, v in self.tables.items() if k.startswith(start))[1:]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page(uri: str | Path) -> Page:
    return Page(Path(uri).read_text("utf-8"))


def made(seed: int, errors: float) -> dict[str, np.ndarray]:
    """Tiles whose truth comes in patches, a map with errors, and probabilities of it."""
    rng = np.random.default_rng(seed)
    rows, cols = square(SIDE)
    truth = (rows // 4 + 2 * (cols // 5)) % 6
    shown = np.where(rng.random(len(rows)) < errors, rng.integers(0, 6, len(rows)), truth)
    sure = np.where(shown == truth, rng.uniform(0.6, 0.95, len(rows)), 0.55)
    p = np.stack([certain(shown[[i]], p=sure[i])[0] for i in range(len(rows))])
    split = np.where(rng.random(len(rows)) < 0.4, "validation", "train")
    return {"rows": rows, "cols": cols, "truth": truth, "p": p, "split": split}


@pytest.fixture(scope="module")
def first() -> dict[str, np.ndarray]:
    return made(1, 0.2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, first: dict[str, np.ndarray]) -> Path:
    """Scores of two dates, the first with labels, and their report."""
    where = tmp_path_factory.mktemp("report")
    write_scores(
        str(where / "a"), first["rows"], first["cols"], first["p"], truth=first["truth"],
        split=first["split"], date="2011-07-01",
    )  # fmt: skip
    p = first["p"].copy()
    p[CHANGED] = certain(np.full(len(CHANGED), 2), p=0.97)  # became Developed
    write_scores(str(where / "b"), first["rows"], first["cols"], p, date="2016-08-02")
    dates, found = [str(where / "a"), str(where / "b")], str(where / "two_change")
    # no more than scattered tiles differ: there is no season to take out
    changes.change(dates, found, recalibrate=False)
    report(dates, str(where / "two.html"), change=found)
    for date in ("a", "b"):
        report([str(where / date)], str(where / f"one_{date}.html"))
    return where


@pytest.fixture(scope="module")
def two(folder: Path) -> Page:
    return page(folder / "two.html")


def held(first: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    inside = first["split"] == "validation"
    return first["truth"][inside], first["p"][inside].argmax(1), first["p"][inside]


def percent(cell: str) -> float:
    return float(cell.split("%")[0]) / 100


def amount(cell: str) -> float:
    return float(re.split(r"[ (]", cell)[0].replace(",", "").replace("−", "-"))


def test_accuracy_is_what_scikit_learn_says(two: Page, first: dict[str, np.ndarray]) -> None:
    truth, shown, _ = held(first)
    overall = two.table(f"{len(truth)} reference tiles")[0]
    assert overall[0] == "Overall accuracy"
    assert percent(overall[1]) == pytest.approx((truth == shown).mean(), abs=6e-4)
    low, high = re.findall(r"[\d.]+(?= to)|(?<=to )[\d.]+", overall[1])
    assert float(low) < 100 * (truth == shown).mean() < float(high)
    recall = recall_score(truth, shown, labels=range(6), average=None)
    precision = precision_score(truth, shown, labels=range(6), average=None)
    rows = two.table("Each class")
    assert [r[0] for r in rows] == list(NAMES)
    for k, row in enumerate(rows):
        assert int(row[1]) == (truth == k).sum()
        assert percent(row[2]) == pytest.approx(recall[k], abs=6e-4)
        assert percent(row[3]) == pytest.approx(precision[k], abs=6e-4)


def test_the_confusion_matrix_has_truth_in_rows(two: Page, first: dict[str, np.ndarray]) -> None:
    truth, shown, _ = held(first)
    expected = confusion_matrix(truth, shown, labels=range(6))
    rows = two.table("Confusion matrix")
    for i, row in enumerate(rows):
        # each cell is the count, and the share of the row below it where there is a count
        whole = expected[i].sum()
        for j, cell in enumerate(row[1:7]):
            n = expected[i, j]
            assert cell == (f"{n}{n / whole:.0%}" if n else "0")
        assert int(row[7]) == whole


def test_calibration_is_the_mean_gap_of_fifteen_bins_less_chance(
    two: Page, first: dict[str, np.ndarray]
) -> None:
    truth, shown, p = held(first)
    inside = first["split"] == "validation"
    rows, cols = first["rows"][inside] // 8, first["cols"][inside] // 8
    blocks = np.unique(np.stack([rows, cols]), axis=1, return_inverse=True)[1].reshape(-1)
    sure, n_blocks = p.astype(np.float32).max(1).astype(float), blocks.max() + 1
    off, ece = (truth == shown) - sure, 0.0
    for low in np.arange(15) / 15:
        there = (sure >= low) & (sure < low + 1 / 15)
        if not there.any():
            continue
        n, mean = there.sum(), sure[there].mean()
        parts = [off[there & (blocks == b)] for b in range(n_blocks)]
        between = sum((o.sum() - off[there].mean() * len(o)) ** 2 for o in parts)
        chance = max(n * mean * (1 - mean), between * n_blocks / (n_blocks - 1))
        ece += np.sqrt(max(off[there].sum() ** 2 - chance, 0)) / len(sure)
    row = two.table("Calibration")[0]
    assert row[0] == "Expected calibration error"
    assert percent(row[1]) == pytest.approx(ece, abs=1e-3)


def test_accuracy_is_of_pure_and_mixed_tiles_whatever_rule_labelled_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    rows, cols = square(16)
    shares = rng.dirichlet(np.full(6, 0.25), len(rows))
    main = shares.argmax(1)
    pure = shares.max(1) >= 0.9
    shown = np.where(rng.random(len(rows)) < np.where(pure, 0.03, 0.3), rng.integers(0, 6), main)
    split = np.where(cols % 16 < 6, "validation", "train")
    p = certain(shown, p=0.8)
    uri = write_scores(
        str(tmp_path / "s"), rows, cols, p, split=split, reference=shares, shares=p, threshold=0.1,
        truth=np.where(pure, main, -1),
    )  # fmt: skip
    found = report([uri], str(tmp_path / "r.html"))
    one, inside = page(tmp_path / "r.html"), split == "validation"
    figures = dict(one.table(f"{inside.sum()} reference tiles, pure and mixed"))
    right = shown == main
    assert percent(figures["Overall accuracy"]) == pytest.approx(right[inside].mean(), abs=6e-4)
    alone = figures["Overall accuracy, pure plots alone (90%)"]
    assert percent(alone) == pytest.approx(right[inside & pure].mean(), abs=6e-4)
    error = np.abs(p - shares).sum(1)[inside].mean() / 2
    assert percent(figures["Ground given to a wrong class"]) == pytest.approx(error, abs=6e-4)
    bands = one.table("Pure and mixed tiles")
    assert sum(int(row[1]) for row in bands) == inside.sum()
    assert bands[-1][0] == "90% to 100%" and int(bands[-1][1]) == (inside & pure).sum()
    assert any("as the label source says" in line and "pure" in line for line in found.summary)
    assert "classes in doubt" in one.data["layers"][2]["name"]


def test_areas_are_the_stratified_estimate(folder: Path, first: dict[str, np.ndarray]) -> None:
    """Sum over map classes of their area times the share of the class among their references."""
    one = page(folder / "one_a.html")
    truth, shown, _ = held(first)
    whole = first["p"].argmax(1)
    rows = one.table(f"Area of {SIDE**2 * HA:,.0f} ha, 2011-07-01")
    for k, row in enumerate(rows):
        adjusted = sum((whole == j).sum() * HA * (truth[shown == j] == k).mean() for j in range(6))
        assert row[0] == NAMES[k]
        assert amount(row[1]) == pytest.approx(adjusted, abs=0.6)
        assert amount(row[2]) == pytest.approx(adjusted * 2.4710538, abs=1.5)
    behind = one.table("Behind the areas of 2011-07-01: what the map alone counts, not an estimate")
    for k, row in enumerate(behind):
        assert [row[0], row[1]] == [NAMES[k], str((whole == k).sum())]
        assert amount(row[2]) == pytest.approx((whole == k).sum() * HA, abs=0.6)
        assert row[4] in ("Wald", "Clopper-Pearson")
        assert row[4] == "Clopper-Pearson" or (truth == k).sum() >= 20
    if any(row[4] == "Clopper-Pearson" for row in behind):
        assert "Clopper-Pearson: fewer than 20 reference tiles" in one.text


def test_a_date_without_labels_is_marked(folder: Path) -> None:
    one = page(folder / "one_b.html")
    assert "No reference labels. Nothing is known of this map’s errors" in one.text
    assert "Unadjusted." in one.text
    assert "2016-08-02: there are no reference labels" in one.text
    rows = one.tables[f"Area of {SIDE**2 * HA:,.0f} ha, 2016-08-02"]
    assert rows[0][2:] == ["Hectares, unadjusted", "Acres, unadjusted"]


def test_an_area_has_one_estimate_on_a_page(folder: Path, two: Page) -> None:
    """With change, areas of all dates are those of `quadrat change`, in the summary as below."""
    said = changes.read_result(str(folder / "two_change"))
    captions = [c for c in two.tables if c.startswith("Area of")]
    assert captions == ["Area of each class; 95% intervals"]
    rows = {r[0]: r for r in two.table("Area of each class; 95% intervals")}
    for date in (0, 1):
        figures = zip(said["names"], said["areas"][date], strict=True)
        ha = {n: f["value"] * said["tile_ha"] for n, f in figures}
        for name, value in ha.items():
            assert amount(rows[name][1 + date]) == pytest.approx(value, abs=0.6)
        largest = max(ha, key=lambda n: ha[n])
        stated = re.search(rf"{said['dates'][date]}: .*?: {largest} ([\d,.]+) ha", two.text)
        assert stated and amount(stated[1]) == pytest.approx(ha[largest], abs=0.6)
    assert sum(row[0] == "Overall accuracy" for t in two.tables.values() for row in t) == 1


def test_the_first_page_answers_what_a_board_asks(folder: Path, tmp_path: Path) -> None:
    dates = [str(folder / "a"), str(folder / "b")]
    found = report(
        dates, str(tmp_path / "r.html"), change=str(folder / "two_change"), place="Ash <County>"
    )
    text = (tmp_path / "r.html").read_text("utf-8")
    first = Page(text).text.split("Candidates of change", 1)[1].split(" Map ", 1)[0]
    asked = (
        "What is this?", "Where?", "When?", "How much of each class?", "What changed?",
        "How sure is this?", "What it must not be used for",
    )  # fmt: skip
    places = [first.index(question) for question in asked]
    assert places == sorted(places)
    assert "Ash <County>" in first and "Land use of Ash <County>, 2011-07-01" in Page(text).text
    ha = f"{SIDE**2 * HA:,.0f} ha ({SIDE**2 * HA * 2.4710538:,.0f} acres"
    assert f"400 squares of ground, {ha}" in first
    assert "Aerial imagery of 2011-07-01 and 2016-08-02." in first
    assert "For boundaries, taxes, permits or any legal purpose" in first
    assert found.sections.index("Candidates of change") < found.sections.index("Accuracy")
    assert found.sections.index("Accuracy") < found.sections.index("Method notes")


def test_classes_are_explained_in_words(two: Page) -> None:
    said = two.text.split("What the classes mean")[-1]
    for name, words in (("Developed", "houses among gardens"), ("Cultivated", "fields of crops")):
        assert words in said.split(name, 1)[1][:250]
    assert "There are no pictures: the imagery was not at hand." in said


def test_codes_of_another_source_are_not_explained_as_those_of_nlcd(tmp_path: Path) -> None:
    own = Legend(
        "own", (LandClass("Roads", "#cc3311", (11, 21)), LandClass("Fields", "#014421", (82,)))
    )
    rows, cols = square(8)
    labels = tmp_path / "labels.tif"
    for kind, told in (("", False), ("nlcd", True)):
        storage.write_json(sidecar(str(labels)), {"kind": kind})
        uri = write_scores(
            str(tmp_path / f"s{kind}"), rows, cols, certain(rows % 2, k=2), legend=own,
            provenance={"labels": str(labels)},
        )  # fmt: skip
        report([uri], str(tmp_path / "r.html"))
        said = page(tmp_path / "r.html").text
        assert all((w in said) == told for w in ("Open water; lawns", "Fields of crops."))
        assert ("The legend says no more than the name." in said) != told


def pixels(layer: dict[str, Any]) -> np.ndarray:
    data = base64.b64decode(layer["png"].removeprefix("data:image/png;base64,"))
    return np.array(Image.open(io.BytesIO(data)).convert("RGBA"))


def test_the_map_has_each_tile_in_its_class_colour(two: Page, first: dict[str, np.ndarray]) -> None:
    layer = two.data["layers"][0]
    seen = pixels(layer)
    colors = np.array([c.rgb for c in load_legend("nlcd6").classes])
    expected = colors[first["p"].argmax(1)].reshape(SIDE, SIDE, 3)
    assert (seen[..., :3] == expected).all() and (seen[..., 3] == 255).all()
    assert two.data["origin"] == {"row": int(first["rows"][0]), "col": int(first["cols"][0])}
    assert layer["legend"] == [[i, n] for i, n in enumerate(NAMES)]


def test_change_and_candidates_are_those_of_quadrat_change(folder: Path, two: Page) -> None:
    said = changes.read_result(str(folder / "two_change"))
    listed = list(
        csv.DictReader((folder / "two_change" / "candidates.csv").read_text().splitlines())
    )
    rows = two.data["candidates"]
    assert len(rows) == len(listed) == said["candidates"] > 5
    for row, known in zip(rows, listed, strict=True):
        assert [row["rank"], row["row"], row["col"]] == [
            int(known[k]) for k in ("rank", "row", "col")
        ]
        assert (row["from"], row["to"]) == (known["from"], known["to"])
        assert row["probability"] == float(known["probability"])
    net = {r[0]: amount(r[1]) for r in two.table("Net change of each class, 2011-07-01 to 2016")}
    for name, figure in zip(said["names"], said["net"], strict=True):
        assert net[name] == pytest.approx(figure["value"] * said["tile_ha"], abs=0.6)
    layer = two.data["layers"][-1]
    assert layer["labels"][0] == "no change"
    changed = (pixels(layer)[..., :3] != (0xDE, 0xDE, 0xDE)).any(-1)
    assert changed.any() and set(np.flatnonzero(changed)) <= set(CHANGED)


def assert_whole(text: str) -> None:
    """Nothing is loaded from anywhere, and the page's own policy forbids it."""
    found = Page(text)
    for tag, given in found.elements:
        for name, value in given.items():
            assert not name.startswith("on"), f"{tag} has {name}"
            if name in ("src", "href"):
                assert (value or "").startswith(("#", "data:")), f"{tag} {name}={value}"
            assert name not in ("srcset", "action", "formaction", "srcdoc", "data", "background")
    policy = next(g["content"] for t, g in found.elements if g.get("http-equiv"))
    assert policy and "default-src 'none'" in policy and "img-src data:" in policy
    assert "unsafe" not in policy and all("style" not in g for _, g in found.elements)
    style = re.findall("<style>(.*?)</style>", text, re.DOTALL)
    for inline in (*style, found.scripts[-1]):
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    tags = [t for t, _ in found.elements]
    assert tags.count("script") == 2 and tags.count("style") == 1
    assert not {"iframe", "object", "embed", "base", "form", "audio", "video"} & set(tags)
    css = text.split("<style>")[1].split("</style>")[0]
    assert "url(" not in css and "@import" not in css
    js = found.scripts[-1]
    for word in ("fetch(", "XMLHttpRequest", "WebSocket", "import(", "innerHTML", "eval("):
        assert word not in js
    assert all(g.get("alt") for t, g in found.elements if t == "img")


def test_the_page_is_whole(folder: Path) -> None:
    assert_whole((folder / "two.html").read_text("utf-8"))


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("/mnt/ann lee/county/a.tif is gone", "a.tif is gone"),
        ("cannot read '/tmp/x/b.tif' (file:///data/n/c.tif)", "cannot read 'b.tif' (c.tif)"),
        (r"C:\Users\ann\d.tif, ~/maps/e.tif", "d.tif, e.tif"),
        ("sqlite:////srv/runs/mlflow.db", "mlflow.db"),
        (r"C:\Users\O'Brien\x.tif is gone", "x.tif is gone"),
        (r"C:\Users\ann\OneDrive - Contoso Ltd\x.tif", "x.tif"),
        (r"of C:\Program Files (x86)\a\b, C:/My Maps/c.tif, /mnt/d.tif", "of b, c.tif, d.tif"),
        (r"\\box\Maps of Ash, Elm; 2\x.tif or s3://maps/x", "x.tif or s3://maps/x"),
        ("no '/mnt/Maps of Ash, Elm; 2 (old) | new/x.tif' there", "no 'x.tif' there"),
        ("no \"/srv/O'Brien/x.tif\"; /srv/O'Brien (a)/y", 'no "x.tif"; y'),
        ("'C:\\\\Users\\\\a, b\\\\x.tif'", "'x.tif'"),
        ("/tmp/a.tif: see https://a.org/b/c", "a.tif: see https://a.org/b/c"),
        ("12 of 3/4; and/or https://a.org/b/c s3://maps/x/y", None),
    ],
)
def test_a_path_of_this_machine_is_cut_to_its_last_name(said: str, shown: str | None) -> None:
    assert without_folders(said) == (said if shown is None else shown)


def test_the_page_names_no_folder_of_this_machine(folder: Path) -> None:
    for name in ("two", "one_a"):
        assert str(folder.parent) not in (folder / f"{name}.html").read_text("utf-8")


def test_relative_folders_are_not_told_either(
    tmp_path: Path, first: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for at, source in (("clients/ash/scores", r"..\maps\a"), ("clients/b", "clients/ash/tiles")):
        write_scores(at, first["rows"], first["cols"], first["p"], source=source)
        report([at], "r.html")
        told = dict(page("r.html").table("Scores of"))
        assert told["Scores"] == at.rsplit("/", 1)[1]
        assert told["Source"] == ("a (rasters)" if "maps" in source else "tiles (rasters)")


def test_the_figures_are_a_table_too(folder: Path, tmp_path: Path) -> None:
    """Each estimate once, as on the page; nothing that a spreadsheet takes for a formula."""
    dates, out = [str(folder / "a"), str(folder / "b")], str(tmp_path / "r.html")
    found = report(dates, out, change=str(folder / "two_change"), tables=str(tmp_path / "t.csv"))
    assert found.tables == str(tmp_path / "t.csv")
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text("utf-8").splitlines()))
    keys = [tuple(r[k] for k in ("quantity", "class", "to_class", "date", "unit")) for r in rows]
    assert len(set(keys)) == len(keys)
    value = {k: float(r["value"]) for k, r in zip(keys, rows, strict=True) if r["value"]}
    for row in page(out).table("Area of each class"):
        for date, cell in (("2011-07-01", row[1]), ("2016-08-02", row[2])):
            ha = value["area", row[0], "", date, "hectares"]
            assert amount(cell) == pytest.approx(ha, abs=0.6)
            acres = value["area", row[0], "", date, "acres"]
            assert acres == pytest.approx(ha * 2.4710538, rel=1e-6)
    shown = page(out)
    first = {k[0].lower(): v for k, v in value.items() if k[3] == "2011-07-01" and not k[1]}
    figures = [*next(v for k, v in shown.tables.items() if "reference tiles" in k)[1:]]
    for name, cell in (*figures, *shown.table("Calibration")[:1]):
        assert percent(cell) == pytest.approx(first[name.lower()], abs=6e-4), name
    for name, cell in shown.table("Calibration")[1:]:
        assert amount(cell) == pytest.approx(first[name.lower().split(",")[0]], abs=6e-4), name
    for row in shown.table("Each class"):
        assert percent(row[4]) == pytest.approx(
            value["F1", row[0], "", "2011-07-01", "share"], abs=6e-4
        )
    (whole,) = (v for k, v in value.items() if k[0] == "changed" and k[4] == "hectares")
    (said,) = re.findall(r"Changed ([\d.,]+) ha", shown.text)
    assert amount(said) == pytest.approx(whole, abs=0.6)
    assert {r["unit"] for r in rows if r["quantity"] == "Kappa"} == {""}
    with pytest.raises(InputError, match=r"end it with \.csv or \.xlsx"):
        report(dates, out, tables=str(tmp_path / "t.ods"))


def test_a_missing_package_is_said_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xlsxwriter", None)
    with pytest.raises(MissingExtraError, match="xlsx"):
        report([str(tmp_path / "no")], str(tmp_path / "r.html"), tables="t.xlsx")
    with pytest.raises(InputError, match="must be 0 or more"):
        report([str(tmp_path / "no")], str(tmp_path / "r.html"), under=-1)


def test_a_class_that_looks_like_a_formula_is_text_in_the_tables(tmp_path: Path) -> None:
    classes = (LandClass("=1+1", "#cc3311"), LandClass("@x", "#014421"))
    rows, cols = square(8)
    uri = write_scores(
        str(tmp_path / "s"), rows, cols, certain(rows % 2, k=2), legend=Legend("own", classes)
    )
    report([uri], str(tmp_path / "r.html"), tables=str(tmp_path / "t.csv"))
    said = (tmp_path / "t.csv").read_text("utf-8")
    assert "'=1+1" in said and "'@x" in said and ",=1" not in said and ",@" not in said
    pytest.importorskip("xlsxwriter", reason="XlsxWriter is in the extra 'xlsx'")
    report([uri], str(tmp_path / "r.html"), tables=str(tmp_path / "t.xlsx"))
    with zipfile.ZipFile(tmp_path / "t.xlsx") as book:
        sheet = book.read("xl/worksheets/sheet1.xml").decode()
        assert "=1+1" in book.read("xl/sharedStrings.xml").decode()
    assert "<f>" not in sheet and "<v>" in sheet


EVIL = ("<script>alert(1)", "<img src=x onerror=alert(2)>", '" onmouseover="alert(3)', "&lt;b&gt;")


def test_hostile_names_are_text(tmp_path: Path, first: dict[str, np.ndarray]) -> None:
    classes = tuple(LandClass(n, f"#{40 * i:02x}8090") for i, n in enumerate(EVIL))
    legend = Legend("<b>x</b>", classes, title="<script>alert(4)</script>")
    where = tmp_path / "<script>alert(5)<" / "script>"
    ids = first["truth"] % 4
    rng = np.random.default_rng(0)
    shown = np.where(rng.random(len(ids)) < 0.1, (ids + 1) % 4, ids)
    for name, k in (("a", 0), ("b", 9)):
        p = certain(np.where(np.arange(len(ids)) < k, (shown + 1) % 4, shown), k=4)
        write_scores(
            str(where / name), first["rows"], first["cols"], p, truth=ids, legend=legend,
            source="maps/<script>alert(6)", date=f"<i>{name}</i>",
        )  # fmt: skip
    out = tmp_path / "evil.html"
    report([str(where / "a"), str(where / "b")], str(out), title="<script>alert(7)</script>")
    text = out.read_text("utf-8")
    assert_whole(text)
    found = Page(text)
    assert not {"b", "i"} & {t for t, _ in found.elements}
    for name in (*EVIL, "<script>alert(7)</script>", "<script>alert(6)"):
        assert name in found.text or " ".join(name.split()) in found.text
    assert found.data["candidates"] and found.data["layers"][0]["labels"] == list(EVIL)


def test_pictures_without_a_place_have_accuracy_only(tmp_path: Path) -> None:
    rows, cols = square(6)
    uri = write_scores(
        str(tmp_path / "p"), rows, cols, certain(rows % 6), truth=cols % 6, grid=None
    )
    found = report([uri], str(tmp_path / "p.html"))
    assert "Map" not in found.sections and "Area" not in found.sections
    assert "Accuracy" in found.sections and found.change is None
    rows_of = page(tmp_path / "p.html").table("36 reference tiles")
    assert percent(rows_of[0][1]) == pytest.approx(np.mean(rows % 6 == cols % 6), abs=6e-4)


def test_no_labels_at_all(folder: Path, tmp_path: Path) -> None:
    found = report([str(folder / "b")], str(tmp_path / "b.html"))
    assert {"Accuracy", "Area", "Map"} <= set(found.sections)
    assert not {"Confusion matrix", "Calibration", "Most confident mistakes"} & set(found.sections)
    assert "Unadjusted." in page(tmp_path / "b.html").text


def test_a_coarser_legend_folds_everything(folder: Path, tmp_path: Path) -> None:
    report([str(folder / "a")], str(tmp_path / "three.html"), legend="nlcd3")
    found = page(tmp_path / "three.html")
    assert [r[0] for r in found.table("Each class")] == list(load_legend("nlcd3").names)
    assert [n for _, n in found.data["layers"][0]["legend"]] == list(load_legend("nlcd3").names)


def test_the_fetch_record_is_shown(tmp_path: Path, first: dict[str, np.ndarray]) -> None:
    fetched = {
        "kind": "naip", "item": "ma_m_4207101", "gsd": 0.6, "date": "2016-08-02",
        "licence": "public domain", "source": "https://stac.example/api",
    }  # fmt: skip
    labels = tmp_path / "nlcd_2011.tif"
    storage.write_json(
        f"{labels}.quadrat.json",
        {**fetched, "kind": "nlcd", "item": "Annual NLCD 2011", "gsd": 30.0, "date": "2011"},
    )
    many = [
        {"file": f"county/m_{i}.tif", "date": "2016-08-02", "fetched": fetched} for i in range(50)
    ]
    uri = write_scores(
        str(tmp_path / "a"), first["rows"], first["cols"], first["p"],
        provenance={"imagery": many, "labels": str(labels)},
    )  # fmt: skip
    report([uri], str(tmp_path / "a.html"))
    text = (tmp_path / "a.html").read_text("utf-8")
    assert_whole(text)
    rows = Page(text).table("Rasters")
    assert rows[0][2:] == [
        "m_0.tif", "ma_m_4207101", "2016-08-02", "0.6 m", "public domain",
        "https://stac.example/api",
    ]  # fmt: skip
    assert rows[-1][1:6] == ["labels", "nlcd_2011.tif", "Annual NLCD 2011", "2011", "30 m"]
    assert "And 10 more files" in Page(text).text
    assert "1" * 64 in text  # the source's digest


def test_thousands_of_candidates_with_few_pictures(folder: Path, tmp_path: Path) -> None:
    where = tmp_path / "change"
    for name in ("change.json", "transitions.parquet"):
        storage.write_bytes(str(where / name), (folder / "two_change" / name).read_bytes())
    head, line, *_ = (folder / "two_change" / "candidates.csv").read_text().splitlines()
    cells = line.split(",")
    lines = [",".join([str(i + 1), *cells[1:]]) for i in range(3000)]
    (where / "candidates.csv").write_text("\n".join([head, *lines]) + "\n")
    shot = io.BytesIO()
    Image.new("RGB", (8, 4)).save(shot, "JPEG")
    for i in range(1, 41):
        storage.write_bytes(str(where / "pictures" / f"{i:05d}_r0_c0.jpg"), shot.getvalue())
    found = report(
        [str(folder / "a"), str(folder / "b")], str(tmp_path / "m.html"), change=str(where),
        pictures=25,
    )  # fmt: skip
    assert (found.candidates, found.pictures) == (3000, 25)
    rows = page(tmp_path / "m.html").data["candidates"]
    assert [r["rank"] for r in rows if "picture" in r] == list(range(1, 26))
    assert found.bytes < 2_000_000


def test_an_empty_change_is_said(tmp_path: Path, first: dict[str, np.ndarray]) -> None:
    for name in ("a", "b"):
        write_scores(
            str(tmp_path / name), first["rows"], first["cols"], certain(first["truth"], p=0.999),
            truth=first["truth"], date=name,
        )  # fmt: skip
    found = report([str(tmp_path / "a"), str(tmp_path / "b")], str(tmp_path / "r.html"))
    assert found.candidates == 0
    assert "the list is empty" in page(tmp_path / "r.html").text
    assert "No tile is likely enough" in " ".join(found.summary)


def test_what_cannot_be_reported_on_is_said_with_its_cure(
    folder: Path, tmp_path: Path, first: dict[str, np.ndarray]
) -> None:
    a, b, out = str(folder / "a"), str(folder / "b"), str(tmp_path / "r.html")
    rows, cols, p = first["rows"], first["cols"], first["p"]
    other = write_scores(str(tmp_path / "grid"), rows, cols, p, grid=Grid("EPSG:26918", 224.0, 1.0))
    three = write_scores(
        str(tmp_path / "three"), rows, cols, certain(rows % 3, k=3), legend=load_legend("nlcd3")
    )
    changed = str(folder / "two_change")
    wrong: list[tuple[list[str], dict[str, Any], type[Exception], str]] = [
        ([], {}, InputError, "nothing to report on"),
        ([a], {"out": "r.pdf"}, InputError, r"end it with \.html"),
        (["nowhere"], {}, InputError, "neither a folder of scores nor a run"),
        ([a, other], {}, ScoresError, "different grids.*same --crs"),
        ([a, other], {"change": changed}, ScoresError, "different grids.*same --crs"),
        ([a, three], {"change": changed}, ScoresError, "--legend"),
        ([a, b], {"imagery": ["x.tif"]}, InputError, "--imagery is given 1 times for 2 dates"),
        ([a], {"pictures": -1}, InputError, "0 or more"),
        ([a], {"change": a}, ScoresError, "quadrat change"),
        ([a], {"legend": "nlcd7"}, LegendError, "nlcd7"),
        ([a], {"split": "tset"}, InputError, "no split 'tset'"),
        ([str(tmp_path)], {}, ScoresError, "quadrat score"),
    ]  # fmt: skip
    for sources, options, kind, says in wrong:
        with pytest.raises(kind, match=says):
            report(sources, **{"out": out, **options})
    assert not Path(out).exists()


def test_a_run_alone_reports_its_own_validation(
    county_tiles: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from quadrat import heads, runs

    history = f"sqlite:///{tmp_path}/runs.db"
    with runs.start("train", name="<b>woods</b>", tracking_uri=history) as run:
        heads.train(
            county_tiles.uri, str(tmp_path / "model"), backbone="mean_colour",
            cache=str(tmp_path / "cache"), precision="fp32", run_id=run.id, on_event=run.record,
        )  # fmt: skip
    out = str(tmp_path / "run.html")
    line = ["report", "<b>woods</b>", "--out", out, "--tracking-uri", history, "--json"]
    assert cli(line) == 0
    said = json.loads(capsys.readouterr().out)
    assert {"Accuracy", "Confusion matrix", "Calibration", "Data and model"} <= set(
        said["sections"]
    )
    found = page(out)
    assert_whole(Path(out).read_text("utf-8"))
    overall = runs.show_run(run.id, tracking_uri=history).metrics["ground/overall"]
    rows = next(v for k, v in found.tables.items() if "reference tiles" in k)
    assert percent(rows[1][1]) == pytest.approx(overall, abs=6e-4)
    facts = dict(found.table("Model"))
    assert facts["Backbone"] == "mean_colour" and facts["Training run"] == run.id
    assert facts["Trained on tile set, digest"] == county_tiles.digest
    with pytest.raises(InputError, match="second run"):
        report([run.id, run.id], out, tracking_uri=history)


def spoiled(value: object, rng: np.random.Generator) -> object:
    """A JSON value with one place of it replaced, dropped or doubled."""
    other = [None, -1, 1e308, "x", "<b>", [], {}, True, [[1]], {"value": "1"}]
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = list(value)[rng.integers(len(value))]
        if rng.random() < 0.15:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: spoiled(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        at = int(rng.integers(len(value)))
        middle = [] if rng.random() < 0.3 else [spoiled(value[at], rng)] * int(rng.integers(1, 3))
        return [*value[:at], *middle, *value[at + 1 :]]
    return other[rng.integers(len(other))]


def test_the_page_says_by_what_change_was_found(folder: Path, two: Page, tmp_path: Path) -> None:
    found = tmp_path / "change"
    shutil.copytree(folder / "two_change", found)
    said = json.loads((found / "change.json").read_text())
    said["method"] = {"kind": "planted changes", "at_least": 0.25}
    (found / "change.json").write_text(json.dumps(said))
    report([str(folder / "a"), str(folder / "b")], str(tmp_path / "r.html"), change=str(found))
    for shown, cells in ((two, False), (page(tmp_path / "r.html"), True)):
        assert ("each judged by changes planted" in shown.text) == cells
        assert ("Estimated from all dates’ probabilities" in shown.text) != cells


def test_a_damaged_change_folder_is_refused_by_the_name_of_its_file(
    folder: Path, tmp_path: Path
) -> None:
    from quadrat.reports import changed

    found = tmp_path / "change"
    shutil.copytree(folder / "two_change", found)
    good = json.loads((found / "change.json").read_text())
    rng = np.random.default_rng(0)
    refused, accepted = 0, []
    for _ in range(300):
        bad = spoiled(good, rng)
        (found / "change.json").write_text(json.dumps(bad))
        try:
            changed.read_change(str(found))
        except QuadratError as error:
            assert "change.json" in str(error) or "transitions.parquet" in str(error)
            refused += 1
        else:
            accepted.append(bad)
    assert refused > 150
    for bad in accepted[:10]:  # what is let in makes a page
        (found / "change.json").write_text(json.dumps(bad))
        report([str(folder / "a"), str(folder / "b")], str(tmp_path / "r.html"), change=str(found))
    (found / "change.json").write_text(json.dumps(good))
    table = (found / "candidates.csv").read_text().splitlines()
    for line in (table[1].replace(table[1].split(",")[1], "north", 1), table[1].rsplit(",", 9)[0]):
        (found / "candidates.csv").write_text("\n".join([table[0], line]) + "\n")
        with pytest.raises(QuadratError, match=r"candidates\.csv"):
            changed.read_change(str(found))
