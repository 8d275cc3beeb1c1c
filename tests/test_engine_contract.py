"""The engines' contract: one suite over `local` and `spark`."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from quadrat import storage
from quadrat.engines import ENGINES, Engine, get_engine
from quadrat.errors import EngineError, TileSetError

SMALL = {"spark.driver.memory": "512m", "spark.ui.enabled": "false"}


@dataclass(frozen=True)
class Part:
    """What a task is about: small, with a name."""

    name: str
    value: int


@dataclass(frozen=True)
class Times:
    """A task that is an object of this module, which no worker can import."""

    factor: int

    def __call__(self, part: Part) -> int:
        return part.value * self.factor


class OwnError(Exception):
    """An error of a library whose constructor does not take its own text: it does not unpickle."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} is not {second}")


def square(part: Part) -> int:
    """A task that is a function of this module."""
    return part.value**2


def touch_and_wait(folder: str, seconds: float, part: Part) -> str:
    """Leave a file with the time of start and end."""
    start = time.time()
    time.sleep(seconds)
    storage.write_json(storage.join(folder, part.name), [start, time.time()])
    return part.name


def parts_of(count: int) -> list[Part]:
    return [Part(f"part-{i:05d}", i) for i in range(count)]


def _local() -> Engine:
    return get_engine("local", workers=2)


def _spark() -> Engine:
    pytest.importorskip("pyspark", reason="the Spark engine needs pyspark")
    return get_engine("spark", master="local[2]", conf=SMALL)


# How each engine is made for this suite, with two slots; a further engine adds its line.
MAKERS = {"local": _local, "spark": _spark}


def test_every_engine_keeps_the_contract() -> None:
    assert set(MAKERS) == set(ENGINES)


@pytest.fixture(scope="module", params=list(ENGINES))
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    made = MAKERS[request.param]()
    yield made
    close = getattr(made, "close", None)
    if close is not None:
        close()


@pytest.mark.parametrize(
    "task",
    [
        square,
        lambda part: part.value**2,
        functools.partial(lambda power, part: part.value**power, 2),
    ],
    ids=["module", "lambda", "partial"],
)
def test_every_part_gives_its_result_once(engine: Engine, task: object) -> None:
    results = sorted(engine.run(task, parts_of(25)))  # type: ignore[arg-type]
    assert results == [i**2 for i in range(25)]


def test_a_task_may_be_an_object_of_a_script(engine: Engine) -> None:
    assert sorted(engine.run(Times(3), parts_of(5))) == [0, 3, 6, 9, 12]


def test_no_parts_is_no_work(engine: Engine) -> None:
    assert list(engine.run(square, [])) == []


def test_nothing_starts_before_it_is_asked_for(engine: Engine, tmp_path: Path) -> None:
    engine.run(functools.partial(touch_and_wait, str(tmp_path), 0.0), parts_of(4))
    time.sleep(0.3)
    assert list(tmp_path.iterdir()) == []


def test_results_come_as_they_are(engine: Engine) -> None:
    def task(part: Part) -> dict[str, object]:
        return {"name": part.name, "array": np.full(3, part.value, np.float32), "none": None}

    (result,) = engine.run(task, [Part("a", 7)])
    assert result["name"] == "a"
    assert result["none"] is None
    assert result["array"].dtype == np.float32
    assert result["array"].tolist() == [7.0, 7.0, 7.0]


def test_a_failing_part_is_named_and_the_rest_is_finished(engine: Engine) -> None:
    def task(part: Part) -> int:
        if part.value in (3, 11):
            raise ValueError(f"no {part.value}")
        return part.value

    results = []
    with pytest.raises(EngineError) as caught:
        for result in engine.run(task, parts_of(20)):
            results.append(result)
    assert sorted(results) == [i for i in range(20) if i not in (3, 11)]
    text = str(caught.value)
    assert text.startswith("2 parts failed (")
    assert "part-00003" in text and "part-00011" in text
    assert "run again" in text
    assert "\n" not in text


def test_an_error_of_ours_comes_back_as_itself(engine: Engine) -> None:
    def task(part: Part) -> int:
        raise TileSetError("part-00000 is cut short; pack it again")

    with pytest.raises(TileSetError, match=r"^part-00000 is cut short; pack it again$"):
        list(engine.run(task, parts_of(3)))


def test_an_error_that_cannot_travel_still_says_what_it_said(engine: Engine) -> None:
    def task(part: Part) -> int:
        raise OwnError(1, 2)

    with pytest.raises(EngineError, match=r"part-00000.*OwnError: 1 is not 2"):
        list(engine.run(task, parts_of(1)))


def test_parts_written_by_tasks_are_the_same_bytes(engine: Engine, tmp_path: Path) -> None:
    def task(part: Part) -> str:
        values = np.random.default_rng(part.value).normal(size=1000)
        uri = storage.join(str(tmp_path), part.name)
        storage.write_bytes(uri, values.tobytes())
        return storage.digest_file(uri)

    digests = set(engine.run(task, parts_of(6)))
    expected = {
        storage.digest_bytes(np.random.default_rng(i).normal(size=1000).tobytes()) for i in range(6)
    }
    assert digests == expected
    assert storage.list_names(str(tmp_path)) == [p.name for p in parts_of(6)]


def test_parts_are_worked_on_at_the_same_time(engine: Engine, tmp_path: Path) -> None:
    list(engine.run(functools.partial(touch_and_wait, str(tmp_path), 0.4), parts_of(6)))
    spans = [json.loads(p.read_text()) for p in tmp_path.iterdir()]
    most = max(sum(s <= t < e for s, e in spans) for t, _ in spans)
    assert most == 2 == engine.slots


def test_leaving_early_starts_no_further_parts(engine: Engine, tmp_path: Path) -> None:
    results = engine.run(functools.partial(touch_and_wait, str(tmp_path), 0.2), parts_of(60))
    next(iter(results))
    results.close()  # type: ignore[attr-defined]
    time.sleep(0.5)
    after = len(list(tmp_path.iterdir()))
    assert after < 20
    time.sleep(0.5)
    assert len(list(tmp_path.iterdir())) == after


def test_two_runs_one_after_the_other_do_not_mix(engine: Engine) -> None:
    first = engine.run(square, parts_of(8))
    second = engine.run(Times(10), parts_of(4))
    assert sorted(second) == [0, 10, 20, 30]
    assert sorted(first) == [i**2 for i in range(8)]


def test_an_option_that_an_engine_lacks_is_an_error(engine: Engine) -> None:
    with pytest.raises(EngineError, match=f"{engine.name} does not take"):
        get_engine(engine.name, colour="red")


def test_no_workers_is_an_error(engine: Engine) -> None:
    with pytest.raises(EngineError, match="0 workers"):
        get_engine(engine.name, workers=0)
