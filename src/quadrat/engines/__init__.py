"""Where parts are worked on: engines by name (`choices.ENGINES`), loaded when they are asked for.

contract       what an engine is and can do
local          threads of this process
spark          a Spark cluster
spark_session  its sessions; spark_ship: what travels; spark_waves: parts in waves
hosts          hosts that fail
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from quadrat import choices
from quadrat.choices import ENGINES
from quadrat.engines.contract import Abilities, Engine, SparkHost, abilities, tasks_per_process
from quadrat.errors import EngineError

__all__ = [
    "ENGINES", "Abilities", "Engine", "SparkHost", "abilities", "get_engine", "opened", "options",
    "page", "tasks_per_process",
]  # fmt: skip


def get_engine(name: str = "local", **given: Any) -> Engine:
    """The engine `name` with its options; EngineError for an unknown name or option.

    Args:
        given: `workers` for `local`; `master`, `conf` and more for `spark`. Options that are None
            are left at the engine's default; any other option that an engine lacks is an error.
    """
    known = options(name)
    asked = {k: v for k, v in given.items() if v is not None}
    for option in asked:
        if option not in known:
            raise EngineError(
                f"the engine {name} does not take {option}; it takes {', '.join(known)}"
            )
    engine: Engine = _kind(name)(**asked)
    return engine


def options(name: str) -> tuple[str, ...]:
    """The options that the engine `name` takes."""
    return tuple(inspect.signature(_kind(name)).parameters)


@contextmanager
def opened(name: str, **given: Any) -> Iterator[Engine]:
    """An engine as by `get_engine`, closed afterwards."""
    engine = get_engine(name, **given)
    try:
        yield engine
    finally:
        close = getattr(engine, "close", None)
        if close is not None:
            close()


def page(engine: Engine) -> str | None:
    """The address of an engine's own page on its work, where it has one."""
    found: str | None = getattr(engine, "ui", None)
    return found


def _kind(name: str) -> Callable[..., Engine]:
    choices.check("engine", name, ENGINES, EngineError)
    kind: Callable[..., Engine] = choices.load(ENGINES[name])
    return kind
