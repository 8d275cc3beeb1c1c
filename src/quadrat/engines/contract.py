"""What an engine is, and what it can do for those who must know. It knows no engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

P = TypeVar("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Abilities:
    """What an engine can do; an engine without `abilities` has these.

    Attributes:
        tasks_share_process: whether tasks run on threads of one process.
        trains_heads: the heads that it trains itself, on features that stay with its workers.
        starts_processes: whether it starts a job's processes on its workers (fine-tuning).
    """

    tasks_share_process: bool = False
    trains_heads: tuple[str, ...] = ()
    starts_processes: bool = False


class Engine(Protocol):
    """Runs a task over parts.

    A task is picklable and idempotent: it reads its part, writes its own output part atomically,
    and returns something small. Results come as they are ready, in no promised order. A task that
    fails does not stop the others: the rest is finished first, then EngineError names the parts.

    An engine may have more: `abilities`, `close()`, and `ui`, the address of its own page or None.
    """

    name: str

    @property
    def slots(self) -> int:
        """Tasks at work at the same time; on a cluster it may change while a job runs."""
        ...

    def run(self, task: Callable[[P], R], parts: Sequence[P]) -> Iterator[R]:
        """The results of `task` for every part."""
        ...


@runtime_checkable
class SparkHost(Protocol):
    """An engine on a Spark session, for work that Spark's own libraries do."""

    @property
    def spark(self) -> Any:
        """The `SparkSession`."""
        ...

    @property
    def slots(self) -> int:
        """Tasks at work at the same time."""
        ...

    def prepare(self) -> None:
        """Bring this package to the workers."""
        ...


def abilities(engine: Engine | None) -> Abilities:
    """What an engine can do; None is this machine."""
    if engine is None:
        return Abilities(tasks_share_process=True)
    found: Abilities = getattr(engine, "abilities", Abilities())
    return found


def tasks_per_process(engine: Engine) -> int:
    """Tasks at work at the same time in one process."""
    return engine.slots if abilities(engine).tasks_share_process else 1
