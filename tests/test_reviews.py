"""`quadrat review` as programs meet it: the page's server, order, agreement, offline pages."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import cohen_kappa_score

import quadrat as qd
from made_samples import (
    CLASSES,
    COL,
    DATES,
    GRID,
    ROW,
    SECRET,
    answer,
    grey,
    write_imagery,
    write_sample,
)
from made_scores import certain, square, write_scores
from quadrat.cli import run
from quadrat.errors import InputError, QuadratError
from quadrat.legend import load_legend
from quadrat.reviews import PlotAnswer, agreements, kappa, latest, open_store, store
from quadrat.reviews.answers import Seen
from review_page import Page

Writer = Callable[..., str]


def counted(sample: Path) -> dict[str, dict[int, PlotAnswer]]:
    """The answers to a sample that count: interpreter -> plot -> answer."""
    return latest(store.read(open_store(str(sample / "review.gpkg"))))


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    return write_sample(tmp_path / "sample")


@pytest.fixture
def imagery(write_raster: Writer) -> list[str]:
    return write_imagery(write_raster)


@pytest.fixture
def page(sample: Path, imagery: list[str]) -> Iterator[Page]:
    served = Page(sample, imagery=imagery, interpreter="Ana")
    yield served
    served.end()


# -- who may ask --------------------------------------------------------------------------------


def test_only_who_has_the_address_is_answered(page: Page) -> None:
    assert page.host.startswith("127.0.0.1:")
    assert len(page.path.strip("/")) >= 32
    for path in ("/", "/api/session", "/page.js", f"{page.path[:-2]}x/api/session"):
        assert page.ask(path)[0] == 404
    assert page.ask("api/session")[0] == 200


def test_a_name_that_leads_here_from_elsewhere_is_refused(page: Page) -> None:
    """DNS rebinding: a page of another host whose name is turned to loopback."""
    assert page.ask("api/session", Host="evil.example")[0] == 400
    assert page.ask("api/session", Host=f"localhost:{page.host.split(':')[1]}")[0] == 200


def test_another_sites_page_cannot_send_answers(page: Page) -> None:
    good = answer(1, "Forest", "Forest")
    assert page.ask("api/answers", good, Origin="http://evil.example")[0] == 403
    assert page.ask("api/answers", good, Sec_Fetch_Site="cross-site")[0] == 403
    assert page.ask("api/answers", good, Content_Type="text/plain")[0] == 400
    assert page.json("api/session")["done"] == []


def test_the_policy_lets_the_page_load_nothing_but_itself(page: Page) -> None:
    _, headers, content = page.ask("")
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert headers["referrer-policy"] == "no-referrer" and headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    text = content.decode()
    assert "http" not in text and " style=" not in text and " onclick=" not in text
    for name in re.findall(r'(?:src|href)="([^"]+)"', text):
        if not name.startswith("data:"):
            assert page.ask(name)[0] == 200


# -- what an interpreter sees -------------------------------------------------------------------


def test_both_dates_show_the_plot_in_the_middle_of_its_neighbours(page: Page, sample: Path) -> None:
    row = (sample / "sample.csv").read_text().splitlines()[3].split(",")
    number, r, c = int(row[0]), int(row[2]), int(row[3])
    for date in (0, 1):
        _, headers, data = page.ask(f"api/plots/{number}/pictures/{date}.jpg")
        assert headers["content-type"] == "image/jpeg"
        pixels = np.asarray(Image.open(io.BytesIO(data))).astype(int)
        assert pixels.shape == (96, 96, 3)
        for i in range(3):
            for j in range(3):
                middle = pixels[16 + 32 * i, 16 + 32 * j].mean()
                assert abs(middle - grey(r - 1 + i, c - 1 + j, date)) < 3


def test_a_review_is_blind(page: Page, sample: Path) -> None:
    seen = page.ask("api/session")[2] + page.ask("")[2] + page.ask("page.js")[2]
    for number in page.json("api/session")["queue"]:
        seen += page.ask(f"api/plots/{number}")[2]
    text = seen.decode()
    assert SECRET not in text and "S1" not in text and "stratum" not in text
    assert "probability" not in text and set(page.json("api/plots/1")) == {
        "plot", "lon", "lat", "answer"
    }  # fmt: skip


def test_an_answer_is_on_disk_when_it_is_said_to_be(page: Page, sample: Path) -> None:
    said = page.json("api/answers", answer(2, "Forest", "Developed", note="half built"))
    assert said["revision"] == 1 and said["done"] == [2] and said["seconds"] == 4.5
    assert open_store(str(sample / "review.gpkg")).purpose == "estimation"
    kept = counted(sample)["Ana"][2]
    assert kept.classes == ("Forest", "Developed") and kept.note == "half built"
    assert kept.tile == (sample / "sample.csv").read_text().splitlines()[2].split(",")[1]
    back = page.json("api/undo", {})
    assert back["plot"] == 2 and back["done"] == [] and back["taken_back"]["note"] == "half built"
    assert page.ask("api/undo", {})[0] == 400
    assert counted(sample)["Ana"] == {}


def shares(date: str, main: str | None, values: Any, observable: bool = True) -> dict[str, Any]:
    return {"date": date, "main": main, "shares": values, "observable": observable}


WHOLE = shares(DATES[1], "Forest", None)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (answer(99, "Forest", "Forest"), "plot 99 is not in"),
        (answer(1, "Forst", "Forest"), "did you mean Forest"),
        (answer(1, "Forest", "Forest", change="maybe"), "none of no, yes, part"),
        (answer(1, "Forest", "Forest", confidence=4), "no confidence"),
        (answer(1, "Forest", "Forest", note="x" * 2001), "note is longer"),
        (answer(1, "Forest", "Forest", seconds=-1), "no time"),
        (answer(1, "Forest", "Forest", seen=[]), "something of each of"),
        (answer(1, "Forest", "Forest") | {"plot": "1"}, "no whole number"),
        ({"plot": 1}, "no answer for a plot"),
        ([], "no answer for a plot"),
        (answer(1, "Forest", "Forest", seen=[shares(DATES[0], None, None), WHOLE]),
         "a date without a class"),
        (answer(1, "Forest", "Forest", seen=[shares(DATES[0], "Water", {"Water": 0.5}), WHOLE]),
         "sum to 1"),
        (answer(1, "Forest", "Forest",
                seen=[shares(DATES[0], "Water", {"Water": 0.4, "Forest": 0.6}), WHOLE]),
         "not the one of the largest share"),
        (answer(1, "Forest", "Forest", seen=[shares(DATES[0], "Water", None, False), WHOLE]),
         "cannot be seen has no class"),
        (answer(1, "Forest", "Forest", seen=[shares(DATES[0], None, None, False), WHOLE]),
         "change needs two dates"),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_refused_and_nothing_is_kept(
    page: Page, data: Any, words: str
) -> None:
    status, _, content = page.ask("api/answers", data)
    assert status == 400 and words in json.loads(content)["error"]
    assert page.json("api/session")["done"] == []


def test_each_interpreter_has_an_order_of_their_own(sample: Path, imagery: list[str]) -> None:
    orders = {}
    for name in ("Ana", "Ben", "Ana"):
        served = Page(sample, imagery=imagery, interpreter=name)
        found = served.json("api/session")["queue"]
        assert orders.setdefault(name, found) == found  # the same at each start
        served.end()
    assert sorted(orders["Ana"]) == sorted(orders["Ben"]) == [1, 2, 3, 4, 5, 6]
    assert orders["Ana"] != orders["Ben"]


def test_a_reserve_stands_in_for_a_plot_of_its_stratum_that_cannot_be_seen(
    tmp_path: Path, imagery: list[str]
) -> None:
    sample = write_sample(tmp_path / "s", plots=4, reserve=4)  # strata by turns: odd S2, even S1
    served = Page(sample, imagery=imagery, interpreter="Ana")
    assert sorted(served.json("api/session")["queue"]) == [1, 2, 3, 4]
    unseen = answer(3, "Forest", "Forest", change=None)
    unseen["seen"] = [shares(d, None, None, False) for d in DATES]
    assert served.json("api/answers", unseen)["queue"][4:] == [5]
    assert served.json("api/answers", unseen | {"plot": 5})["queue"][4:] == [5, 7]
    assert served.json("api/answers", unseen | {"plot": 2})["queue"][4:] == [5, 6, 7]
    result = served.end()
    (ana,) = result.interpreters
    assert (ana.answered, ana.unobservable, ana.left) == (3, 3, 4)


# -- two interpreters ---------------------------------------------------------------------------


def answer_all(sample: Path, imagery: list[str], name: str, said: dict[int, Any]) -> Any:
    served = Page(sample, imagery=imagery, interpreter=name)
    for data in said.values():
        served.json("api/answers", data)
    return served.end()


def test_what_two_differ_on_is_listed_and_settled(sample: Path, imagery: list[str]) -> None:
    ana = {n: answer(n, "Forest", "Forest" if n % 2 else "Developed") for n in range(1, 7)}
    answer_all(sample, imagery, "Ana", ana)
    ben = {**ana, 2: answer(2, "Forest", "Forest"), 5: answer(5, "Water", "Water")}
    result = answer_all(sample, imagery, "Ben", ben)
    assert result.disputed == (2, 5) and result.settled == 0
    assert [i.answered for i in result.interpreters] == [6, 6]
    by = {a.of: a for a in result.agreement}
    assert by[DATES[0]].agreed == pytest.approx(5 / 6) and by["change"].agreed == pytest.approx(
        5 / 6
    )
    # kappa of the second date by scikit-learn
    words = [[x["seen"][1]["main"] for x in said.values()] for said in (ana, ben)]
    assert by[DATES[1]].kappa.value == pytest.approx(cohen_kappa_score(*words))

    served = Page(sample, imagery=imagery, interpreter="settled")
    session = served.json("api/session")
    assert sorted(session["queue"]) == [2, 5] and session["settles"]
    others = served.json("api/plots/2")["others"]
    assert [o["interpreter"] for o in others] == ["Ana", "Ben"]
    served.json("api/answers", answer(2, "Forest", "Developed"))
    result = served.end()
    assert result.disputed == (2, 5) and result.settled == 1
    assert [i.name for i in result.interpreters] == ["Ana", "Ben"]


def test_kappa_has_the_published_interval() -> None:
    """Fleiss, Levin & Paik (2003), Statistical Methods for Rates and Proportions, table 18.1."""
    table = [[75, 1, 4], [5, 4, 1], [0, 0, 10]]
    found = kappa(table)
    assert found.value == pytest.approx(0.68, abs=0.005)
    assert (found.high - found.low) / 2 / 1.959964 == pytest.approx(0.087, abs=0.001)


def test_kappas_interval_is_as_wide_as_samples_spread() -> None:
    """Against drawn tables: the standard deviation of kappa over 4,000 samples of 200 plots."""
    p = np.array([[0.30, 0.05, 0.01], [0.04, 0.22, 0.06], [0.02, 0.03, 0.27]])
    rng = np.random.default_rng(1)
    draws = rng.multinomial(200, p.ravel(), size=4000).reshape(-1, 3, 3)
    spread = np.std([kappa(d).value for d in draws])
    half = kappa(np.round(p * 200)).high - kappa(np.round(p * 200)).value
    assert half / 1.959964 == pytest.approx(spread, rel=0.05)


def test_kappa_without_a_disagreement_has_no_interval() -> None:
    found = kappa([[5, 0], [0, 7]])
    assert found.value == 1 and np.isnan(found.low)
    assert np.isnan(kappa([[9, 0], [0, 0]]).value)


def test_two_readings_of_real_plots_agree_as_they_are_said_to(real_data: Path) -> None:
    """243 plots of Massachusetts, each read twice; kappa by scikit-learn."""
    with (real_data / "mass" / "plots.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = sorted({r["primary"] for r in rows})
    readings = {
        who: {
            int(r["plot"]): PlotAnswer(int(r["plot"]), "", who, (Seen("2005", r["primary"]),))
            for r in rows
            if r["interpreter"] == who
        }
        for who in "AB"
    }
    (found,) = agreements(readings, ("2005",), names)
    words = [[readings[w][n].classes[0] for n in sorted(readings["A"])] for w in "AB"]
    assert found.plots == 243
    assert found.kappa.value == pytest.approx(cohen_kappa_score(*words))
    assert 0.9 < found.kappa.low < found.kappa.value < found.kappa.high < 1


# -- by mail ------------------------------------------------------------------------------------


def file_of(page: Path, name: str, *answers: dict[str, Any]) -> dict[str, Any]:
    """What an offline page saves."""
    data = re.search(r'id="data">(.*?)</script>', page.read_text("utf-8"), re.DOTALL)
    assert data
    return {
        "format": "quadrat-answers", "version": 1, "sample": json.loads(data[1])["sample"],
        "interpreter": name, "answers": list(answers),
    }  # fmt: skip


def test_an_offline_page_has_all_in_it_and_its_answers_are_taken_in_once(
    sample: Path, imagery: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "plots.html"
    result = qd.review(str(sample), imagery=imagery, interpreter="Eve", static=str(out))
    assert result.static == str(out)
    text = out.read_text("utf-8")
    assert "unsafe" not in text and SECRET not in text and 'src="page.js"' not in text
    assert text.count("data:image/jpeg") == 12
    said = file_of(
        out, "Eve",
        answer(1, "Forest", "Forest", answered="2026-11-28T08:00:00.123Z"),
        answer(1, "Forest", "Developed", answered="2026-11-28T08:00:09.000Z"),
        answer(4, "Water", "Water", answered="2026-11-28T08:01:00.000Z"),
    )  # fmt: skip
    file = tmp_path / "answers-Eve.json"
    file.write_text(json.dumps(said))
    assert qd.review(str(sample), taken_in=[str(file)]).taken_in == 3
    assert qd.review(str(sample), taken_in=[str(file)]).taken_in == 0
    counts = counted(sample)
    assert {n: a.classes for n, a in counts["Eve"].items()} == {
        1: ("Forest", "Developed"), 4: ("Water", "Water")
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sample": "0" * 64}, "another sample"),
        ({"format": "x"}, "no file of answers"),
        ({"version": 9}, "of version 9"),
        ({"answers": [answer(77, "Forest", "Forest")]}, "plot 77 is not in"),
        ({"answers": [answer(1, "Lava", "Forest")]}, "no class of the legend"),
        ({"interpreter": ""}, "no name of an interpreter"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_whole(
    sample: Path, imagery: list[str], tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    out = tmp_path / "plots.html"
    qd.review(str(sample), imagery=imagery, interpreter="Eve", static=str(out))
    said = file_of(out, "Eve", answer(2, "Forest", "Forest"), answer(1, "Forest", "Forest"))
    (tmp_path / "a.json").write_text(json.dumps(said | change))
    with pytest.raises(InputError, match=words):
        qd.review(str(sample), taken_in=[str(tmp_path / "a.json")])
    assert qd.review(str(sample), summary=True).interpreters == ()


# -- the verb -----------------------------------------------------------------------------------


def test_imagery_is_named_by_date_or_in_order(
    sample: Path, imagery: list[str], tmp_path: Path
) -> None:
    named = [f"2014={imagery[1]}", f"{DATES[0]}={imagery[0]}"]
    pages = [tmp_path / f"{n}.html" for n in "ab"]
    for given, out in zip((imagery, named), pages, strict=True):
        qd.review(str(sample), imagery=given, interpreter="Eve", static=str(out))
    assert pages[0].read_bytes() == pages[1].read_bytes()
    for given, words in (
        (imagery[:1], "1 without a date for 2 dates"),
        ([f"2012={imagery[0]}"], "the plots are of 2011-06-03, 2014-09-30"),
        (named[:1], "names nothing for 2011-06-03"),
        ([], "--imagery DATE=FILE"),
    ):
        with pytest.raises(InputError, match=words):
            qd.review(str(sample), imagery=given, interpreter="Eve", static=str(pages[0]))


def test_the_command_says_how_far_a_review_is(
    sample: Path, imagery: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    answer_all(sample, imagery, "Ana", {1: answer(1, "Forest", "Forest")})
    answer_all(sample, imagery, "Ben", {1: answer(1, "Water", "Forest")})
    assert run(["review", str(sample), "--summary"]) == 0
    said = capsys.readouterr().out
    assert "6 plots drawn for estimation" in said and "1 plots disputed" in said
    assert run(["review", str(sample), "--summary", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [i["left"] for i in data["interpreters"]] == [5, 5] and data["disputed"] == [1]


def test_what_cannot_be_reviewed_is_named(sample: Path, imagery: list[str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither a sample nor a change"):
        qd.review(str(tmp_path), summary=True)
    for name in ("", "x" * 61, "a\nb\x00"):
        with pytest.raises(InputError, match="no name of an interpreter"):
            qd.review(str(sample), imagery=imagery, interpreter=name)
    for context in (2, 0, 17):
        with pytest.raises(InputError, match="odd number of tiles"):
            qd.review(str(sample), imagery=imagery, interpreter="Ana", context=context)
    assert [c for c, _ in CLASSES] == ["Water", "Developed", "Forest", "Cultivated"]


# -- from the map to the page -------------------------------------------------------------------


def map_of(folder: Path, name: str, changed: bool, imagery: str) -> str:
    """Scores of 8 x 8 tiles over the made imagery, one tile of which is built on later."""
    ids = np.full(64, 3)  # Forest, in nlcd8
    if changed:
        ids[27] = 1
    rows, cols = square(8, ROW, COL)
    legend = load_legend("nlcd8")
    return write_scores(
        str(folder / name), rows, cols, certain(ids, k=8, p=0.995), date=name, legend=legend,
        grid=GRID, provenance={"imagery": [{"file": imagery}]},
    )  # fmt: skip


def test_a_sample_finds_the_pictures_and_the_map_that_it_was_drawn_from(
    imagery: list[str], tmp_path: Path
) -> None:
    uri = map_of(tmp_path, "2014", True, imagery[1])
    drawn = qd.sample(uri, str(tmp_path / "drawn"), plots=64, seed=2)
    blind = Page(Path(drawn.uri), interpreter="Ana")
    assert "map" not in blind.json("api/plots/1")
    number = int(np.flatnonzero((drawn.rows == ROW + 3) & (drawn.cols == COL + 3))[0]) + 1
    data = blind.ask(f"api/plots/{number}/pictures/0.jpg")[2]
    middle = np.asarray(Image.open(io.BytesIO(data))).astype(int)[48, 48].mean()
    assert abs(middle - grey(ROW + 3, COL + 3, 1)) < 3
    blind.end()
    shown = Page(Path(drawn.uri), interpreter="Ben", show_map=True)
    found = {n: shown.json(f"api/plots/{n}")["map"] for n in range(1, 65)}
    assert found.pop(number) == ["Developed"] and set(map(tuple, found.values())) == {("Forest",)}
    shown.end()


def test_the_candidates_of_a_change_are_reviewed_and_estimate_nothing(
    imagery: list[str], tmp_path: Path
) -> None:
    days = zip(("2011", "2014"), imagery, strict=True)
    uris = [map_of(tmp_path, day, day == "2014", file) for day, file in days]
    changed = tmp_path / "change"
    qd.change(uris, str(changed), recalibrate=False, smoothing=0.0, min_probability=0.05)
    kept = str(tmp_path / "kept.gpkg")
    with pytest.raises(QuadratError, match="--imagery DATE=FILE for each date"):
        qd.review(str(changed), answers=kept, interpreter="Ana")
    served = Page(changed, imagery=imagery, answers=kept, interpreter="Ana", show_map=True)
    (number,) = served.json("api/session")["queue"]
    assert served.json(f"api/plots/{number}")["map"] == ["Forest", "Developed"]
    data = served.ask(f"api/plots/{number}/pictures/1.jpg")[2]
    middle = np.asarray(Image.open(io.BytesIO(data))).astype(int)[48, 48].mean()
    assert abs(middle - grey(ROW + 3, COL + 3, 1)) < 3
    said = answer(number, "Forest", "Developed")
    said["seen"] = [s | {"date": d} for s, d in zip(said["seen"], ("2011", "2014"), strict=True)]
    served.json("api/answers", said)
    result = served.end()
    assert result.purpose == "candidates" and result.interpreters[0].answered == 1
