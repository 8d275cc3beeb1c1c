"""Where parts are worked on. The contract, and engines by name, imported when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from quadrat.errors import EngineError

P = TypeVar("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Abilities:
    """What an engine can do, for those who must know; an engine without `abilities` has these.

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
    """

    name: str

    @property
    def slots(self) -> int:
        """Tasks at work at the same time; on a cluster it may change while a job runs."""
        ...

    def run(self, task: Callable[[P], R], parts: Sequence[P]) -> Iterator[R]:
        """The results of `task` for every part."""
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


def _local(**options: Any) -> Engine:
    from quadrat.engines.local import LocalEngine

    return LocalEngine(**options)


def _spark(**options: Any) -> Engine:
    from quadrat.engines.spark import SparkEngine

    return SparkEngine(**options)


ENGINES: dict[str, Callable[..., Engine]] = {"local": _local, "spark": _spark}


def get_engine(name: str = "local", **options: Any) -> Engine:
    """The engine `name` with its options; EngineError for an unknown name or option.

    Args:
        options: `workers` for `local`; `master` and more for `spark`. Options that are None are
            left at the engine's default; any other option that an engine lacks is an error.
    """
    if name not in ENGINES:
        raise EngineError(f"no engine {name!r}; choose one of {', '.join(ENGINES)}")
    given = {k: v for k, v in options.items() if v is not None}
    try:
        return ENGINES[name](**given)
    except TypeError as error:
        raise EngineError(f"the engine {name} does not take these options: {error}") from None
