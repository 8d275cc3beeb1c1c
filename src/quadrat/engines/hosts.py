"""Which hosts work: a bad one must not eat a job's parts.

A part whose error may be its host's is tried once on another host, and on a third where neither of
the two has done any part yet. A failure counts against a host only when the same part then succeeds
elsewhere; a host with STRIKES of these in a row is barred. Parts that fail everywhere therefore bar
nobody. It does not know Spark.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from quadrat.errors import EngineError
from quadrat.redaction import redact

STRIKES = 3
TRIES = 3  # of a part, each on another host
# A refusing host answers after this many seconds, so that its slots do not take all the parts that
# others could work on.
PAUSE_S = 1.0
MOST_REFUSALS = 30  # of one part, where nobody tells how many hosts there are
GRACE_S = 15.0  # after a first failure, for further hosts of a cluster that starts to come

# What a task raises for its own code or for the content of a part, wherever it runs.
NOT_THE_HOSTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)

log = logging.getLogger("quadrat.engines.hosts")


class Hosts:
    """What each host did in one run of a task; decides where parts go next.

    Args:
        count: how many hosts there are now; None where nobody tells.
        grace_s: how long to wait for further hosts after a first failure.
    """

    def __init__(self, count: Callable[[], int | None], grace_s: float = GRACE_S) -> None:
        self._count = count
        self._grace_s = grace_s
        self._first_failure = 0.0  # when it came
        self._good: set[str] = set()
        self._strikes: dict[str, int] = {}
        self._failed: dict[int, dict[str, BaseException]] = {}  # by part, then by host
        self._refusals: dict[int, int] = {}
        self.barred: frozenset[str] = frozenset()

    def refusing(self, place: int) -> frozenset[str]:
        """The hosts that must not work on a part."""
        return self.barred.union(self._failed.get(place, ()))

    def succeeded(self, place: int, host: str) -> None:
        """Note that a part is done, which tells of the host where it failed before."""
        self._good.add(host)
        self._strikes[host] = 0
        for bad, error in self._failed.pop(place, {}).items():
            self._strikes[bad] = self._strikes.get(bad, 0) + 1
            if self._strikes[bad] >= STRIKES and bad not in self.barred:
                self.barred |= {bad}
                log.warning(
                    "the host %s failed %d parts that others could do; it gets no more (%s: %s)",
                    bad, STRIKES, type(error).__name__, redact(str(error)),
                )  # fmt: skip

    def failed(self, place: int, host: str, error: BaseException) -> bool:
        """Note that a part failed; whether it is tried again on another host."""
        if isinstance(error, NOT_THE_HOSTS):
            return False
        self._first_failure = self._first_failure or time.monotonic()
        tried = self._failed.setdefault(place, {})
        tried[host] = error
        proven = self._good.intersection(tried) - self.barred
        if len(tried) >= TRIES or (len(tried) > 1 and proven):
            return False
        return not self._nobody_left(place)

    def refused(self, place: int, host: str) -> BaseException | None:
        """Note that a host refused a part: None to send it again, or the error to end with."""
        self._refusals[place] = self._refusals.get(place, 0) + 1
        if not self._nobody_left(place):
            return None
        if self._failed.get(place):
            return list(self._failed[place].values())[-1]
        return EngineError(f"no host is left that works: {host} failed {STRIKES} parts in a row")

    def _nobody_left(self, place: int) -> bool:
        refusing = self.refusing(place)
        count = self._count()
        if count is not None:
            late = time.monotonic() - self._first_failure >= self._grace_s
            return late and count <= len(refusing)
        return self._refusals.get(place, 0) >= MOST_REFUSALS and not self._good - refusing
