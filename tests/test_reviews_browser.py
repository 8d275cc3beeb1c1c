"""A review as an interpreter meets it: the page in Chromium, by keyboard and pointer."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import quadrat as qd
from made_samples import DATES, write_imagery, write_sample
from quadrat.reviews import latest, open_store, store
from review_page import Page

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is in the extra 'test'")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
Writer = Callable[..., str]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium; skipped where it or its driver is not installed."""
    driver = shutil.which("chromedriver")
    binary = next(filter(None, map(shutil.which, BROWSERS)), None)
    if driver is None or binary is None:
        pytest.skip("chromium and chromedriver are not installed; `make system` does it")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    folder = str(tmp_path_factory.mktemp("downloads"))
    options.add_experimental_option("prefs", {"download.default_directory": folder})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    started.downloads = Path(folder)
    yield started
    started.quit()


class Served:
    """`quadrat review` in a process of its own, that may be killed and begun again."""

    def __init__(self, sample: Path, imagery: list[str], name: str = "Ana") -> None:
        self.command = [sys.executable, "-m", "quadrat.cli", "review", str(sample), "--as", name]
        self.command += [a for i in imagery for a in ("--imagery", i)]
        self.begin()

    def begin(self) -> None:
        self.process = subprocess.Popen(
            self.command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        assert line.startswith("Review at http://127.0.0.1:"), line + self.process.stderr.read()
        self.url = line.split()[-1]

    def end(self, how: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(how)
        self.process.communicate(timeout=30)  # closes its pipe too
        return self.process.returncode


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
    if served.result is None:
        served.end()


def wait(browser: Any, script: str) -> Any:
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 20, 0.02).until(lambda b: b.execute_script(script))


def show(browser: Any, url: str, width: int = 1280) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    browser.get(url)
    ready(browser)


def ready(browser: Any) -> None:
    """Until the page has its next plot, or the end, and takes keys."""
    wait(browser, "return document.body.dataset.state === 'ready'")


def plot(browser: Any) -> int:
    """The plot that is shown."""
    drawn = browser.execute_script("return document.querySelector('canvas').dataset.drawn")
    return int(drawn.split()[0])


def press(browser: Any, *keys: str, shift: bool = False) -> None:
    from selenium.webdriver import ActionChains, Keys

    actions = ActionChains(browser)
    if shift:
        actions.key_down(Keys.SHIFT)
    for key in keys:
        actions.send_keys(key)
    if shift:
        actions.key_up(Keys.SHIFT)
    actions.perform()


def enter(browser: Any) -> None:
    from selenium.webdriver import Keys

    press(browser, Keys.ENTER)
    ready(browser)


def text(browser: Any, place: str) -> str:
    return str(browser.execute_script(f"return document.querySelector('{place}').textContent"))


def pressed(browser: Any) -> list[str]:
    """Accessible names of the buttons that are pressed in the answer, and their fieldset's."""
    found = browser.execute_script(
        "return Array.from(document.querySelectorAll('#answer [aria-pressed=true]'))"
    )
    dates = browser.execute_script(
        "return arguments[0].map(b => b.closest('fieldset').querySelector('legend').textContent)",
        found,
    )
    return [f"{b.accessible_name}, {d}" for b, d in zip(found, dates, strict=True)]


def clicked(browser: Any, selector: str) -> None:
    from selenium.webdriver import ActionChains

    at = browser.execute_script("return document.querySelector(arguments[0])", selector)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", at)
    ActionChains(browser).click(at).perform()


def kept(sample: Path, name: str = "Ana") -> dict[int, Any]:
    return latest(store.read(open_store(str(sample / "review.gpkg")))).get(name, {})


@pytest.mark.parametrize("width", [1280, 400])
def test_a_whole_review_by_keyboard(browser: Any, page: Page, sample: Path, width: int) -> None:
    show(browser, page.url, width)
    first = plot(browser)
    press(browser, "3", "d", "2")  # Forest; on the other date Developed
    assert pressed(browser)[:2] == [f"Forest 100%, {DATES[0]}", f"Developed 100%, {DATES[1]}"]
    assert text(browser, "#guess") == "(by the classes)"
    press(browser, "p")
    press(browser, "l")
    press(browser, "t")  # the note: letters there are no commands
    press(browser, *"new roofs")
    press(browser, "\ue007")  # Enter leaves the note
    enter(browser)
    (answer,) = kept(sample).values()
    assert answer.plot == first and answer.classes == ("Forest", "Developed")
    assert [s.shares for s in answer.seen] == [{"Forest": 1.0}, {"Developed": 1.0}]
    assert (answer.change, answer.confidence, answer.note) == ("part", 3, "new roofs")
    assert answer.seconds > 0 and text(browser, "#title") == "1 of 6 plots"

    # shares by tenths: 70% Forest, 20% Water, 10% Developed; then as on the date before
    second = plot(browser)
    press(browser, "3")
    press(browser, *"1112", "3", shift=True)
    press(browser, "e")
    enter(browser)
    shares = {"Forest": 0.7, "Water": 0.2, "Developed": 0.1}
    assert [s.shares for s in kept(sample)[second].seen] == [shares, shares]
    assert kept(sample)[second].change == "no"

    # cannot be seen on one date; an answer that lacks a date is not sent
    third = plot(browser)
    press(browser, "1")
    enter(browser)
    assert plot(browser) == third and f"Give a class for {DATES[1]}" in text(browser, "#status")
    press(browser, "x")
    enter(browser)
    assert [s.observable for s in kept(sample)[third].seen] == [True, False]
    assert kept(sample)[third].change is None

    # undo shows the plot as it was answered, and takes the answer back
    press(browser, "u")
    ready(browser)
    assert plot(browser) == third and third not in kept(sample)
    assert pressed(browser) == [f"Water 100%, {DATES[0]}", f"Cannot be seen, {DATES[1]}"]
    enter(browser)
    assert third in kept(sample)

    # a plot that is skipped comes again at the end
    fourth = plot(browser)
    press(browser, "s")
    ready(browser)
    shown = []
    while not browser.execute_script("return document.getElementById('work').hidden"):
        shown.append(plot(browser))
        press(browser, "4", "e")
        enter(browser)
    assert len(shown) == 3 and shown[-1] == fourth
    assert "All 6 plots are answered" in text(browser, "#end-title")
    assert sorted(kept(sample)) == [1, 2, 3, 4, 5, 6]
    clicked(browser, "#end [data-do=end]")
    page.thread.join(20)
    assert page.result.interpreters[0].answered == 6


@pytest.mark.parametrize("width", [1280, 400])
def test_a_plot_by_pointer(browser: Any, page: Page, sample: Path, width: int) -> None:
    show(browser, page.url, width)
    number = plot(browser)
    field = "#dates fieldset:nth-of-type({}) .class:nth-of-type({}) button:nth-of-type({})"
    clicked(browser, field.format(1, 3, 1))
    clicked(browser, field.format(1, 2, 2))  # a tenth more Developed
    clicked(browser, field.format(2, 2, 1))
    clicked(browser, "[data-change=yes]")
    clicked(browser, "[data-confidence='1']")
    clicked(browser, "[data-do=save]")
    ready(browser)
    answer = kept(sample)[number]
    assert answer.seen[0].shares == {"Forest": 0.9, "Developed": 0.1}
    assert (answer.classes, answer.change, answer.confidence) == (
        ("Forest", "Developed"), "yes", 1
    )  # fmt: skip


@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_fits_and_everything_has_a_name(browser: Any, page: Page, width: int) -> None:
    show(browser, page.url, width)
    wide, high = browser.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
    )
    assert wide <= width
    if width == 1280:
        assert high <= 900  # nothing to scroll to
    for element in browser.execute_script(
        "return Array.from(document.querySelectorAll('button, input, canvas, progress'))"
        ".filter(e => e.offsetParent)"
    ):
        assert element.accessible_name.strip(), element.get_attribute("outerHTML")
    keys = browser.execute_script(
        "return Array.from(document.querySelectorAll('#answer kbd')).map(k => k.textContent)"
    )
    assert {"1", "2", "3", "4", "X", "N", "P", "Y", "J", "K", "L", "T", "U", "S", "Enter"} <= set(
        keys
    )


def pixel(browser: Any, panel: int, x: float, y: float) -> int:
    """Red of a canvas at a part of its width and height."""
    return int(browser.execute_script(
        "const c = document.querySelectorAll('canvas')[arguments[0]];"
        "return c.getContext('2d').getImageData(c.width * arguments[1], c.height * arguments[2],"
        " 1, 1).data[0]", panel, x, y,
    ))  # fmt: skip


def test_dates_are_compared_side_by_side_by_swipe_and_by_flicker(browser: Any, page: Page) -> None:
    show(browser, page.url)
    before, after = pixel(browser, 0, 0.5, 0.5), pixel(browser, 1, 0.5, 0.5)
    assert 30 <= before < 100 < 140 <= after  # levels of the made imagery
    press(browser, "w")
    assert abs(pixel(browser, 0, 0.4, 0.55) - before) < 4
    assert abs(pixel(browser, 0, 0.6, 0.55) - after) < 4
    press(browser, *"....")  # the divider to the right
    assert abs(pixel(browser, 0, 0.6, 0.55) - before) < 4
    press(browser, "f")
    press(browser, " ")  # by hand
    one = pixel(browser, 0, 0.5, 0.5)
    press(browser, " ")
    other = pixel(browser, 0, 0.5, 0.5)
    assert sorted([abs(one - before) < 4, abs(other - before) < 4]) == [False, True]
    press(browser, "b")
    assert browser.execute_script("return document.querySelectorAll('canvas').length") == 2


def test_zoom_and_pan_move_both_dates_alike(browser: Any, page: Page) -> None:
    from selenium.webdriver import ActionChains, Keys

    show(browser, page.url)
    centre = [pixel(browser, i, 0.5, 0.5) for i in (0, 1)]
    press(browser, *[Keys.ARROW_RIGHT] * 6)
    moved = [pixel(browser, i, 0.5, 0.5) for i in (0, 1)]
    # one column to the east is one level more, on both dates
    assert [m - c for m, c in zip(moved, centre, strict=True)] == pytest.approx([1, 1], abs=1)
    assert moved != centre
    press(browser, "h")
    assert [pixel(browser, i, 0.5, 0.5) for i in (0, 1)] == centre
    canvas = browser.execute_script("return document.querySelector('canvas')")
    ActionChains(browser).drag_and_drop_by_offset(canvas, 0, -330).perform()
    south = [pixel(browser, i, 0.5, 0.5) for i in (0, 1)]
    assert [s - c for s, c in zip(south, centre, strict=True)] == pytest.approx([8, 8], abs=2)
    press(browser, "h", "-", "-", "-", "-", "-", "-")
    assert pixel(browser, 0, 0.5, 0.03) == 0 or pixel(browser, 0, 0.02, 0.5) == 0  # all is shown


def test_nothing_is_loaded_from_elsewhere_and_nothing_is_wrong(browser: Any, page: Page) -> None:
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    show(browser, page.url)
    press(browser, "3", "e")
    enter(browser)
    press(browser, "w", "f", "b", "u")
    ready(browser)
    assert [e for e in browser.get_log("browser") if e["level"] != "DEBUG"] == []
    events = [json.loads(e["message"])["message"] for e in browser.get_log("performance")]
    asked = [
        e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"
    ]
    assert asked and all(u.startswith((page.url, "data:")) for u in asked)


def review_by_keyboard(
    browser: Any, served: Served, sample: Path, plots: int, kills: int
) -> list[int]:
    """Answer all plots; the server is killed `kills` times between; the plots in their order."""
    show(browser, served.url)
    at = {round((k + 1) * plots / (kills + 1)) for k in range(kills)}
    done: list[int] = []
    while not browser.execute_script("return document.getElementById('work').hidden"):
        done.append(plot(browser))
        press(browser, "1234"[done[-1] % 4], "d", "3")
        enter(browser)
        assert done[-1] in kept(sample)  # on disk before the next plot shows
        if len(done) in at:
            assert served.end(signal.SIGKILL) == -signal.SIGKILL
            press(browser, "3", "e")
            enter(browser)  # nobody answers: the page says so, and stays
            assert "does not answer" in text(browser, "#status")
            served.begin()
            show(browser, served.url)
    return done


def check(sample: Path, done: list[int], plots: int) -> None:
    assert sorted(done) == list(range(1, plots + 1))
    names = ("Water", "Developed", "Forest", "Cultivated")
    assert {n: a.classes for n, a in kept(sample).items()} == {
        n: (names[n % 4], "Forest") for n in done
    }


@pytest.mark.long
def test_a_server_that_is_killed_loses_no_answer(
    browser: Any, sample: Path, imagery: list[str]
) -> None:
    served = Served(sample, imagery)
    check(sample, review_by_keyboard(browser, served, sample, 6, 2), 6)
    assert served.end() == 0


@pytest.mark.slow
def test_fifty_plots_by_keyboard_with_ten_kills(
    browser: Any, tmp_path: Path, write_raster: Writer
) -> None:
    sample = write_sample(tmp_path / "fifty", plots=50, side=12)
    served = Served(sample, write_imagery(write_raster, side=12))
    check(sample, review_by_keyboard(browser, served, sample, 50, 10), 50)
    assert served.end() == 0


@pytest.mark.long
def test_two_interpreters_at_once_lose_no_answer(
    browser: Any, sample: Path, imagery: list[str]
) -> None:
    """Ana and Ben in two tabs, each with a process of their own, plot by plot."""
    both = [Served(sample, imagery, name) for name in ("Ana", "Ben")]
    first = browser.current_window_handle
    show(browser, both[0].url)
    browser.switch_to.new_window("tab")
    second = browser.current_window_handle
    show(browser, both[1].url)
    for _ in range(6):
        for tab in (first, second):
            browser.switch_to.window(tab)
            ready(browser)
            press(browser, "3", "e")
            enter(browser)
    browser.close()
    browser.switch_to.window(first)
    assert [sorted(kept(sample, n)) for n in ("Ana", "Ben")] == [[1, 2, 3, 4, 5, 6]] * 2
    assert [s.end() for s in both] == [0, 0]


def test_an_offline_page_keeps_answers_and_saves_them_as_a_file(
    browser: Any, sample: Path, imagery: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "plots.html"
    qd.review(str(sample), imagery=imagery, interpreter="Eve", static=str(out))
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    show(browser, out.as_uri())
    first = plot(browser)
    press(browser, "3", "d", "2")
    enter(browser)
    show(browser, out.as_uri())  # closed and opened again
    assert text(browser, "#title") == "1 of 6 plots" and plot(browser) != first
    while not browser.execute_script("return document.getElementById('work').hidden"):
        press(browser, "1", "e")
        enter(browser)
    assert [e for e in browser.get_log("browser") if e["level"] != "DEBUG"] == []
    clicked(browser, "#end [data-do=file]")
    wait(browser, "return document.getElementById('status').textContent.includes('answers-Eve')")
    file = browser.downloads / "answers-Eve.json"
    for _ in range(200):
        if file.exists():
            break
        wait(browser, "return true")
    assert qd.review(str(sample), taken_in=[str(file)]).taken_in == 6
    assert kept(sample, "Eve")[first].classes == ("Forest", "Developed")


def test_what_interpreters_differ_on_is_settled_on_the_page(
    browser: Any, sample: Path, imagery: list[str]
) -> None:
    for name, keys in (("Ana", "3e"), ("Ben", "3d2")):
        served = Page(sample, imagery=imagery, interpreter=name)
        show(browser, served.url)
        for _ in range(6):
            press(browser, *(keys if plot(browser) == 4 else "1e"))
            enter(browser)
        served.end()
    served = Page(sample, imagery=imagery, interpreter="settled")
    show(browser, served.url)
    assert plot(browser) == 4 and "0 of 1 settled" in text(browser, "#title")
    said = text(browser, "#others")
    assert f"Ana: {DATES[0]}: Forest" in said and f"{DATES[1]}: Developed; changed" in said
    press(browser, "3", "d", "2")
    enter(browser)
    assert kept(sample, "settled")[4].classes == ("Forest", "Developed")
    served.end()


def test_the_main_class_alone_goes_on_to_the_next_date_by_itself(
    browser: Any, sample: Path, imagery: list[str]
) -> None:
    page = Page(sample, imagery=imagery, interpreter="Ana", main_class=True)
    show(browser, page.url)
    number = plot(browser)
    press(browser, "3", "2")
    enter(browser)
    answer = kept(sample)[number]
    assert answer.classes == ("Forest", "Developed") and answer.change == "yes"
    assert [s.shares for s in answer.seen] == [None, None]
    page.end()


def test_a_hostile_class_name_is_read_not_run(
    browser: Any, tmp_path: Path, imagery: list[str]
) -> None:
    """On the page that is served and on the one that goes by mail."""
    names = ("<img src=x onerror=window.ran=1>", "<script>window.ran=2", "meadow")
    colors = ("#cc3311", "#014421", "#c4e88a")
    sample = write_sample(tmp_path / "own", classes=tuple(zip(names, colors, strict=True)))
    page = Page(sample, imagery=imagery, interpreter="<i>Ana")
    out = tmp_path / "plots.html"
    qd.review(str(sample), imagery=imagery, interpreter="<i>Ben", static=str(out))
    for place in (page.url, out.as_uri()):
        show(browser, place)
        buttons = browser.execute_script(
            "return Array.from(document.querySelectorAll('.classes .name')).map(e => e.textContent)"
        )
        assert buttons == [*names, *names]
        press(browser, "1", "e")
        enter(browser)
        assert browser.execute_script("return window.ran === undefined")
    page.end()


def test_a_legend_of_many_classes_needs_no_scrolling(
    browser: Any, tmp_path: Path, imagery: list[str]
) -> None:
    classes = [(f"class number {n}", "#44aa99") for n in range(21)]
    page = Page(write_sample(tmp_path / "many", classes=classes), imagery=imagery, interpreter="A")
    show(browser, page.url)
    assert browser.execute_script("return document.documentElement.scrollHeight") <= 900
    box = browser.execute_script(
        "const b = document.querySelector('canvas').getBoundingClientRect(); return b.height"
    )
    assert box >= 200
    press(browser, "0", "e")  # the tenth class; letters follow
    assert pressed(browser)[0] == f"class number 9 100%, {DATES[0]}"
    press(browser, "d", "c")
    assert pressed(browser)[0] == f"class number 11 100%, {DATES[0]}"
    page.end()
