"""pyspark, imported when it is needed, and its errors in our words."""

from __future__ import annotations

import importlib
import re
import sys
import warnings
from typing import Any

from quadrat.errors import EngineError, MissingExtraError


def import_pyspark(module: str) -> Any:
    """A module of pyspark; MissingExtraError when pyspark is not installed."""
    # said by pyspark's own start about its pandas API, which nothing here uses
    warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if (error.name or "").split(".")[0] in ("pyspark", "py4j"):
            raise MissingExtraError("the Spark engine", "spark") from None
        raise EngineError(f"{module} cannot be imported: {_line(error)}") from None


def translated(error: BaseException, what: str) -> EngineError:
    """Spark's many lines as one, with a cure where it is known."""
    if isinstance(error, EngineError):
        return error
    text = str(error)
    for pattern, cure in CURES:
        if re.search(pattern, text):
            return EngineError(f"{what}: {cure}")
    return EngineError(f"{what}: {_reason(text) or type(error).__name__}")


CURES = (
    (
        r"JAVA_GATEWAY_EXITED|JAVA_HOME",
        "Java did not start (its own lines say more); install Java 17 or newer, or set JAVA_HOME",
    ),
    (
        r"PYTHON_VERSION_MISMATCH|different version than that in driver",
        "the workers' Python is of another version than this one; set PYSPARK_PYTHON to the "
        f"workers' Python {sys.version_info.major}.{sys.version_info.minor}",
    ),
    (
        r"Cannot run program \"([^\"]+)\"",
        "the workers have no Python of that name; set PYSPARK_PYTHON to theirs",
    ),
    (
        r"All masters are unresponsive|UnknownHostException|Failed to connect to master",
        "no Spark master answers there; check --master and that it runs",
    ),
    (
        r"Python worker exited unexpectedly|EOFException|exit code 137|SIGKILL",
        "its Python process died each time, out of memory perhaps; give workers more memory or "
        "make parts of fewer tiles",
    ),
)


def _reason(text: str) -> str:
    """The line of a Java or Python trace that says why."""
    lines = [line.strip().lstrip(": ") for line in text.splitlines()]
    keep = [
        line
        for line in lines
        if line
        and not re.match(r"at |\.\.\. |Traceback|File \"|An error occurred|Driver stack", line)
    ]
    caused = [line for line in keep if line.startswith("Caused by")]
    return _clip((caused[-1:] or keep or lines)[0])


def _line(error: BaseException) -> str:
    return _clip(" ".join(str(error).split()))


def _clip(text: str) -> str:
    return text if len(text) <= 240 else text[:240] + "..."
