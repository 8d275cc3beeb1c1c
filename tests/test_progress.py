"""Progress: what people read on a terminal and in a log."""

from __future__ import annotations

import io
import itertools
import re
import threading
import time

import pytest

from quadrat.progress import Reporter, rate_text, time_text


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        """The lines as a terminal shows them: a carriage return starts the line again."""
        lines = []
        for line in self.getvalue().split("\n"):
            cells: list[str] = []
            for piece in line.split("\r"):
                cells[: len(piece)] = piece
            lines.append("".join(cells).rstrip())
        return lines


def steps(reporter: Reporter, clock: Clock, seconds: int, rate: int, total: int, start: int = 0):
    reporter.update(start, total)
    for second in range(1, seconds + 1):
        clock.now += 1
        reporter.update(start + second * rate, total)


def test_lines_come_at_growing_intervals() -> None:
    stream, clock = io.StringIO(), Clock()
    with Reporter("score", stream=stream, clock=clock) as report:
        steps(report, clock, 600, 100, 60_000)
    lines = stream.getvalue().splitlines()
    at = [
        int(m[1].replace(",", "")) for line in lines if (m := re.search(r"score: ([\d,]+)", line))
    ]
    gaps = [b - a for a, b in itertools.pairwise(at[:-1])]
    assert gaps == sorted(gaps)
    assert gaps[-1] == 6_000  # a minute at 100 tiles/s
    assert len(lines) < 25
    assert all("\r" not in line for line in lines)


def test_a_line_says_share_rate_and_time_left() -> None:
    stream, clock = io.StringIO(), Clock()
    report = Reporter("score", stream=stream, clock=clock)
    steps(report, clock, 10, 100, 60_000)
    last = stream.getvalue().splitlines()[-1]
    assert last.startswith("score: ")
    assert "of 60,000 tiles (" in last
    assert ", 100 tiles/s, " in last
    assert last.endswith("left")
    left = re.search(r"(\d+) min (\d+) s left", last)
    done = re.search(r"score: ([\d,]+)", last)
    assert left is not None and done is not None
    expected = (60_000 - int(done[1].replace(",", ""))) / 100
    assert int(left[1]) * 60 + int(left[2]) == pytest.approx(expected, abs=1)


def test_a_terminal_shows_one_bar_and_then_the_sum() -> None:
    stream, clock = Terminal(), Clock()
    with Reporter("score", stream=stream, clock=clock) as report:
        steps(report, clock, 5, 100, 1_000)
        assert stream.screen() == [
            "score [############............] 500 of 1,000 tiles (50%), 100 tiles/s, 5.0 s left"[
                :79
            ]
        ]
        steps(report, clock, 5, 100, 1_000, 500)
    assert stream.screen() == ["score: 1,000 of 1,000 tiles in 10 s, 100 tiles/s", ""]


def test_resumed_work_does_not_count_as_speed() -> None:
    stream, clock = io.StringIO(), Clock()
    with Reporter("score", stream=stream, clock=clock) as report:
        steps(report, clock, 10, 5, 1_000, 900)
    assert "5.0 tiles/s" in stream.getvalue()
    assert stream.getvalue().splitlines()[-1] == "score: 950 of 1,000 tiles in 10 s, 5.0 tiles/s"


def test_parts_found_at_once_do_not_count_as_speed() -> None:
    stream, clock = io.StringIO(), Clock()
    report = Reporter("score", stream=stream, clock=clock)
    clock.now += 3  # opening the model and the imagery
    report.update(0, 10_000)
    for part in range(1, 9):
        clock.now += 0.01
        report.update(part * 1_000, 10_000)
    clock.now += 20
    report.update(9_000, 10_000)
    assert ", 50.0 tiles/s, 20 s left" in stream.getvalue().splitlines()[-1]


def test_work_that_was_all_there_has_no_speed() -> None:
    stream, clock = io.StringIO(), Clock()
    with Reporter("train", stream=stream, clock=clock) as report:
        clock.now += 3
        report.update(500, 500)
    assert stream.getvalue().splitlines()[-1] == "train: 500 of 500 tiles in 3.0 s"


def test_bytes_are_shown_in_megabytes() -> None:
    stream, clock = io.StringIO(), Clock()
    with Reporter("fetch", "bytes", stream=stream, clock=clock) as report:
        steps(report, clock, 10, 1_500_000, 15_000_000)
    last = stream.getvalue().splitlines()[-1]
    assert last == "fetch: 15.0 of 15.0 MB in 10 s, 1.5 MB/s"


def test_the_total_may_grow_and_may_be_unknown() -> None:
    stream, clock = io.StringIO(), Clock()
    report = Reporter("fetch", "files", stream=stream, clock=clock)
    report.update(0, 0)
    clock.now += 3
    report.update(3, 0)
    assert stream.getvalue() == "fetch: 3 files, 1.0 files/s\n"
    clock.now += 10
    report.update(10, 20)
    clock.now += 10
    report.update(20, 40)
    lines = stream.getvalue().splitlines()
    assert "10 of 20 files (50%)" in lines[1]
    assert "20 of 40 files (50%)" in lines[2]


def test_a_second_phase_starts_its_own_rate() -> None:
    stream, clock = io.StringIO(), Clock()
    with Reporter("train", stream=stream, clock=clock) as report:
        steps(report, clock, 10, 1_000, 10_000)
        steps(report, clock, 10, 10, 100)
    assert stream.getvalue().splitlines()[-1] == "train: 100 of 100 tiles in 10 s, 10.0 tiles/s"


def test_nothing_is_said_of_a_job_that_did_nothing() -> None:
    stream = io.StringIO()
    with Reporter("score", stream=stream):
        pass
    assert stream.getvalue() == ""


def test_a_failed_job_says_where_it_stopped() -> None:
    stream = io.StringIO()
    with pytest.raises(KeyError), Reporter("score", stream=stream) as report:
        report.update(0, 10)
        report.update(4, 10)
        raise KeyError
    assert stream.getvalue() == "score: stopped at 4 of 10 tiles\n"


def test_what_was_there_at_the_first_call_has_no_speed_however_late_it_comes() -> None:
    stream, clock = io.StringIO(), Clock()
    with Reporter("train", stream=stream, clock=clock) as report:
        clock.now += 4  # opening
        steps(report, clock, 10, 5, 1_000, 900)
    assert stream.getvalue().splitlines()[-1] == "train: 950 of 1,000 tiles in 14 s, 5.0 tiles/s"


def test_a_note_stands_above_the_bar() -> None:
    stream, clock = Terminal(), Clock()
    report = Reporter("finetune", stream=stream, clock=clock)
    steps(report, clock, 5, 100, 1_000)
    report.note("epoch 1: loss 0.5")
    clock.now += 1
    report.update(600, 1_000)
    first, second = stream.screen()
    assert first == "epoch 1: loss 0.5"
    assert second.startswith("finetune [####") and "600 of 1,000" in second


def test_a_closed_terminal_ends_the_talk_and_not_the_job() -> None:
    stream = io.StringIO()
    with Reporter("score", stream=stream, clock=Clock()) as report:
        report.update(0, 10)
        stream.close()
        report.update(10, 10)


def test_updates_from_threads_are_whole_lines() -> None:
    stream, clock = io.StringIO(), Clock()

    def work(report: Reporter) -> None:
        for _ in range(200):
            clock.now += 1
            report.update(5, 10)

    with Reporter("score", stream=stream, clock=clock) as report:
        threads = [threading.Thread(target=work, args=(report,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert all(line.startswith("score: 5 of 10 tiles") for line in stream.getvalue().splitlines())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"),
     (3599.7, "1 h 00 min"), (7620, "2 h 07 min")],
)  # fmt: skip
def test_durations_in_words(seconds: float, text: str) -> None:
    assert time_text(seconds) == text


@pytest.mark.parametrize(
    ("rate", "text"), [(0.421, "0.42"), (7.51, "7.5"), (943.4, "943"), (12_300, "12,300")]
)
def test_rates_in_words(rate: float, text: str) -> None:
    assert rate_text(rate) == text


def test_below_a_notebooks_cell_a_bar_is_drawn_over() -> None:
    """ipykernel's stream is no terminal, but takes a carriage return as one does."""

    class OutStream(io.StringIO):
        pass

    OutStream.__module__ = "ipykernel.iostream"
    stream = OutStream()
    with Reporter("score", stream=stream) as bar:
        bar(0, 100)
        time.sleep(0.3)
        bar(50, 100)
    assert "\r" in stream.getvalue() and "[" in stream.getvalue()
