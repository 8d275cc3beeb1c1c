"""How far a long job is: a bar with rate and time left on a terminal, plain lines elsewhere.

Everything goes to stderr, so that stdout stays the result. It does not know what the job does: jobs
call `update(done, total)` from any thread.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self, TextIO, TypeVar

from quadrat.text import printable

T = TypeVar("T")
BAR_EVERY_S = 0.1
FIRST_LINE_S = 2.0
LONGEST_GAP_S = 60.0
GAP_GROWTH = 1.5
RATE_WINDOW_S = 20.0
BAR_WIDTH = 24
THERE_S = 0.2


class Reporter:
    """Shows the progress of one job; a context manager.

    Args:
        what: the job in a word or two ("score").
        unit: what is counted ("tiles").
        stream: where to write; stderr when None.
        clock: seconds that only grow.

    A job calls first when its work starts, with what is there already (0, or what an earlier run
    finished). That, and what it reports within `THERE_S` after, does not count as speed: finished
    parts are found in no time. The total may grow while the job runs, and may be 0 (not known yet).
    A `done` that falls starts a new phase. Calls are cheap, and safe from threads. Bytes are shown
    as MB.
    """

    def __init__(
        self,
        what: str,
        unit: str = "tiles",
        stream: TextIO | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.what, self.unit = what, unit
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._terminal = _is_terminal(self._stream)
        self._lock = threading.Lock()
        self._done = self._total = self._first_done = 0
        self._begun = self._start = clock()
        self._samples: deque[tuple[float, int]] = deque([(self._start, 0)])
        self._gap = BAR_EVERY_S if self._terminal else FIRST_LINE_S
        self._next = self._start if self._terminal else self._start + self._gap
        self._seen = False
        self._shown = 0  # columns of the bar now on the terminal

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            if not self._seen:
                return
            now = self._clock()
            self._erase()
            if kind is None:
                self._write(self._final_text(now) + "\n")
            elif self._done:
                self._write(f"{self.what}: stopped at {self._count_text()}\n")

    def update(self, done: int, total: int) -> None:
        """Say that `done` of `total` units are finished."""
        with self._lock:
            now = self._clock()
            if not self._seen or done < self._done:
                self._start_phase(now, done)
            self._done, self._total = done, max(done, total) if total > 0 else 0
            self._sample(now)
            if now < self._next:
                return
            if self._terminal:
                self._next = now + self._gap
                self._draw(self._bar_text(now))
            else:
                self._gap = min(self._gap * GAP_GROWTH, LONGEST_GAP_S)
                self._next = now + self._gap
                self._write(f"{self.what}: {self._line_text(now)}\n")

    def note(self, text: str) -> None:
        """Write a line of its own above the bar."""
        with self._lock:
            self._erase()
            self._write(f"{printable(text)}\n")
            self._next = min(self._next, self._clock()) if self._terminal else self._next

    __call__ = update  # so that a Reporter itself serves as `on_progress`

    def _start_phase(self, now: float, done: int) -> None:
        if self._seen:
            self._begun = now  # a later phase; the first one began with the Reporter
        self._start, self._first_done = now, done
        self._samples = deque([(now, done)])
        self._seen = True

    def _sample(self, now: float) -> None:
        if now - self._start <= THERE_S:
            self._first_done = self._done
            self._samples = deque([(now, self._done)])
        if now - self._samples[-1][0] >= BAR_EVERY_S:
            self._samples.append((now, self._done))
        while len(self._samples) > 2 and now - self._samples[1][0] > RATE_WINDOW_S:
            self._samples.popleft()

    def _rate(self, now: float) -> float:
        """Units a second over the last `RATE_WINDOW_S`; 0 while not known."""
        then, done = self._samples[0]
        return (self._done - done) / (now - then) if now > then else 0.0

    def _count_text(self) -> str:
        if self.unit == "bytes":
            done, total, unit = f"{self._done / 1e6:,.1f}", f"{self._total / 1e6:,.1f}", "MB"
        else:
            done, total, unit = f"{self._done:,}", f"{self._total:,}", self.unit
        return f"{done} of {total} {unit}" if self._total else f"{done} {unit}"

    def _rate_text(self, rate: float) -> str:
        if self.unit == "bytes":
            return f"{rate_text(rate / 1e6)} MB/s"
        return f"{rate_text(rate)} {self.unit}/s"

    def _line_text(self, now: float) -> str:
        text, rate = self._count_text(), self._rate(now)
        if self._total:
            text += f" ({100 * self._done // self._total}%)"
        if rate > 0:
            text += f", {self._rate_text(rate)}"
            if self._total > self._done:
                text += f", {time_text((self._total - self._done) / rate)} left"
        return text

    def _bar_text(self, now: float) -> str:
        if not self._total:
            return f"{self.what} {self._line_text(now)}"
        full = BAR_WIDTH * self._done // self._total
        bar = "#" * full + "." * (BAR_WIDTH - full)
        return f"{self.what} [{bar}] {self._line_text(now)}"

    def _final_text(self, now: float) -> str:
        text = f"{self.what}: {self._count_text()} in {time_text(now - self._begun)}"
        made, seconds = self._done - self._first_done, now - self._start
        if made > 0 and seconds > 0:
            text += f", {self._rate_text(made / seconds)}"
        return text

    def _draw(self, text: str) -> None:
        text = text[: max(20, _columns(self._stream) - 1)]
        self._write("\r" + text + " " * (self._shown - len(text)))
        self._shown = len(text)

    def _erase(self) -> None:
        if self._shown:
            self._write("\r" + " " * self._shown + "\r")
            self._shown = 0

    def _write(self, text: str) -> None:
        # A closed terminal must not end a job that takes hours.
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self._next = float("inf")


def counted(
    items: Iterable[T],
    total: int,
    tell: Callable[[int, int], None] | None,
    size: Callable[[T], int] = lambda _: 1,
) -> Iterator[T]:
    """Hand items on, and tell how much is done: at first 0, then after each what it counts for."""
    done = 0
    if tell is not None:
        tell(done, total)
    for item in items:
        yield item
        done += size(item)
        if tell is not None:
            tell(done, total)


def rate_text(rate: float) -> str:
    """A rate in three figures or so: `0.42`, `7.5`, `943`, `12,300`."""
    if rate >= 100:
        return f"{rate:,.0f}"
    return f"{rate:.1f}" if rate >= 1 else f"{rate:.2g}"


def time_text(seconds: float) -> str:
    """A duration: `0.8 s`, `42 s`, `3 min 05 s`, `2 h 07 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _is_terminal(stream: TextIO) -> bool:
    """Whether a line can be drawn over: on a terminal, and below a notebook's cell."""
    try:
        return stream.isatty() or type(stream).__module__.startswith("ipykernel")
    except (AttributeError, ValueError):
        return False


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError, AttributeError):
        return 80
