"""A county from one file: two dates' imagery and labels to maps, change, areas and a report.

A job is a TOML file. Its steps are the verbs, in their order; each has the options that its table
in the file gives. A step that was done with the same options from the same files is not done again:
`run.json` in the job's folder says which. Files are told by their size and time, not read.

    out = "county"                     # everything is written below
    labels = "nlcd_2011.tif"

    [[dates]]                          # the earliest first; the labels are of the first
    imagery = "naip-2011"              # a raster, or a folder of them
    date = "2011"                      # where the files do not say

    [[dates]]
    imagery = "naip-2016"

    [tile]                             # options of a verb, by the names that Python has
    within = "outline.geojson"
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from quadrat import areas, changes, heads, maps, reports, runs, scoring, storage, text
from quadrat import tiles as cutting
from quadrat.engines import Engine
from quadrat.errors import InputError, StorageError
from quadrat.records import Record
from quadrat.runs import Run
from quadrat.shown import shown

Progress = Callable[[int, int], None]
Step = Callable[[str], AbstractContextManager[Progress | None]]
LEDGER = "run.json"
VERBS: Mapping[str, Callable[..., Any]] = {
    "tile": cutting.tile, "train": heads.train, "score": scoring.score, "change": changes.change,
    "map": maps.map, "area": areas.area, "report": reports.report,
}  # fmt: skip
# what a job decides itself, and what is no value of a file
OURS = {
    "imagery", "out", "labels", "date", "source", "sources", "model", "scores", "scores_b", "dates",
    "change", "gpkg", "png", "engine", "overwrite", "run_id", "on_event", "on_progress",
}  # fmt: skip
# options that are files: their paths are from the folder of the job's file, as all in it
READ = {
    "within", "groups", "reference", "sample", "answers", "other_map", "weights", "overlay",
}  # fmt: skip
WRITTEN = {"cache", "csv", "geojson", "parquet", "tables"}
FILE_OR_NAME = {"legend": ".toml", "backbone": ".onnx"}


@dataclass(frozen=True)
class JobDate:
    """One date's imagery, a file or a folder, and its date where the files do not say it."""

    imagery: str
    date: str | None = None


@dataclass(frozen=True)
class CountyJob:
    """What a job's file says; see the module.

    Attributes:
        options: verb -> options by name.
    """

    out: str
    labels: str
    dates: tuple[JobDate, ...]
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class JobStep:
    """A step of a job.

    Attributes:
        name: "tile", "map-2".
        made: what it makes.
        given: arguments of the verb's function.
        files: imagery and labels that it reads. after: steps that it goes on from.
        key: digest of options, of the files' sizes and times, and of the steps before.
        state: "done"; "to do"; "to do again", which replaces what was made with another key.
    """

    name: str
    verb: str
    made: tuple[str, ...]
    given: Mapping[str, Any]
    files: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    key: str = ""
    state: str = "to do"


@shown
@dataclass(frozen=True)
class JobResult(Record):
    """What a job made.

    Attributes:
        report: the page; None where only the plan was asked for.
        states: step -> what it was when the job began: "done", "to do" or "to do again".
        made: step -> what it makes.
        seconds: of each step that was done now.
    """

    out: str
    report: str | None
    states: Mapping[str, str]
    made: Mapping[str, tuple[str, ...]]
    seconds: Mapping[str, float]


def read_job(uri: str) -> CountyJob:
    """A job from its TOML file; paths in it are from the file's folder.

    Raises:
        InputError: no such file, a key that is not known, or one that is missing.
    """
    place = Path(uri)
    try:
        data = text.read_toml(place)
    except FileNotFoundError:
        raise InputError(f"there is no {uri}; name the TOML file of a job") from None
    _known(data, ("out", "labels", "dates", *VERBS), uri)

    def path(values: Mapping[str, Any], key: str, where: str, usual: str | None = None) -> str:
        value = values.get(key, usual)
        if not isinstance(value, str) or not value:
            raise InputError(f'{where} needs {key}, a file or folder in quotes: {key} = "..."')
        return _from(place, value)[0]

    listed = data.get("dates")
    if not isinstance(listed, list) or not listed:
        raise InputError(f"{uri} names no imagery; give it [[dates]] with imagery")
    dates = []
    for number, one in enumerate(listed, 1):
        where = f"{uri}: [[dates]] number {number}"
        _known(one, ("imagery", "date"), where)
        day = one.get("date")
        dates.append(JobDate(path(one, "imagery", where), None if day is None else str(day)))
    options = {
        verb: {n: _placed(place, v) if _is_file(n, v) else v for n, v in given.items()}
        for verb in VERBS
        if verb in data
        for given in (_options(data[verb], verb, uri),)
    }
    return CountyJob(
        path(data, "out", uri, "county"), path(data, "labels", uri), tuple(dates), options
    )


def _from(place: Path, *paths: str) -> tuple[str, ...]:
    """Paths from the folder of the file `place`."""
    return tuple(p if "://" in p else str(place.absolute().parent / p) for p in paths)


def _placed(place: Path, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
    """An option's path, or several, from the folder of the file `place`."""
    return _from(place, value)[0] if isinstance(value, str) else _from(place, *value)


def _is_file(name: str, value: Any) -> bool:
    """Whether an option's value is a file's path, or several."""
    several = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(one, str) and one for one in several):
        return False
    ending = FILE_OR_NAME.get(name)
    named = ending is not None and all(one.lower().endswith(ending) for one in several)
    return name in READ | WRITTEN or named


def _known(data: Any, keys: Sequence[str], where: str) -> None:
    """InputError unless `data` is a table with no other keys."""
    if not isinstance(data, Mapping):
        raise InputError(f"{where} is not a table of {', '.join(keys)}")
    for key in data:
        if key not in keys:
            raise InputError(f"{where}: unknown key {text.shown(key)}; {text.near(str(key), keys)}")


def _options(given: Any, verb: str, uri: str) -> dict[str, Any]:
    """Options of a verb, checked by the names and the defaults of its function."""
    known = inspect.signature(VERBS[verb]).parameters
    _known(given, [n for n in known if n not in OURS], f"{uri}: [{verb}]")
    for name, value in given.items():
        usual = known[name].default
        number = isinstance(usual, int | float) and not isinstance(usual, bool)
        right = (
            isinstance(value, int | float) and not isinstance(value, bool) if number
            else isinstance(value, type(usual)) if isinstance(usual, bool | str)
            else True
        )  # fmt: skip
        if not right:
            raise InputError(
                f"{uri}: [{verb}] {name} = {text.shown(value)} cannot be; its default is {usual!r}"
            )
    return {n: tuple(v) if isinstance(v, list) else v for n, v in given.items()}


def plan(job: CountyJob) -> tuple[JobStep, ...]:
    """The steps of a job in their order, and which of them are done.

    Raises:
        StorageError: imagery or labels that are not there.
    """
    ledger, planned = _ledger(job), dict[str, JobStep]()
    for step in _steps(job):
        options = job.options.get(step.verb, {})
        before = [planned[name] for name in step.after]
        key = storage.digest_json(
            [step.verb, sorted(step.given.items()), sorted(options.items()),
             [b.key for b in before], [_fingerprint(f) for f in (*step.files, *_read(options))]]
        )  # fmt: skip
        noted = ledger.get(step.name) or {}
        whole = noted.get("done") is True and all(storage.exists(m) for m in step.made)
        same = noted.get("key") == key
        state = "done" if same and whole else "to do again" if noted and not same else "to do"
        given = {**step.given, **options}
        planned[step.name] = replace(step, key=key, state=state, given=given)
    return tuple(planned.values())


def _steps(job: CountyJob) -> list[JobStep]:
    def at(*names: str) -> str:
        return storage.join(job.out, *names)

    first, later = job.dates[0], [d.imagery for d in job.dates[1:]]
    tiles, model, change, page = at("tiles"), at("model"), at("change"), at("report.html")
    steps = [
        JobStep("tile", "tile", (tiles,),
                {"imagery": [first.imagery], "out": tiles, "labels": job.labels,
                 "date": first.date}, (first.imagery, job.labels)),
        JobStep("train", "train", (model,), {"source": tiles, "out": model}, (), ("tile",)),
    ]  # fmt: skip
    if later:
        scored = [at("change", f"scores_{n}") for n in range(1, len(later) + 2)]
        steps.append(JobStep("change", "change", (change,),
                             {"dates": [tiles, *later], "out": change, "model": model},
                             tuple(later), ("tile", "train")))  # fmt: skip
    else:
        scored = [at("scores")]
        steps.append(JobStep("score", "score", (scored[0],),
                             {"model": model, "source": tiles, "out": scored[0]}, (),
                             ("tile", "train")))  # fmt: skip
    after, changed = (steps[-1].name,), {"change": change} if later else {}
    for n, scores in enumerate(scored, 1):
        name = f"map-{n}" if later else "map"
        files = tuple(at(f"{name}.{end}") for end in ("tif", "png", "gpkg"))
        given = {"scores": scores, "out": files[0], "png": files[1], "gpkg": files[2]}
        last = changed if n == len(scored) else {}
        steps.append(JobStep(name, "map", files, {**given, **last}, (), after))
    area = {"scores": scored[0], "out": at("area")}
    told = {"sources": scored, "out": page, **changed}
    steps.append(JobStep("area", "area", (at("area"),), area, (), after))
    steps.append(JobStep("report", "report", (page,), told, (), after))
    return steps


def _read(options: Mapping[str, Any]) -> list[str]:
    """The files among options that a step reads."""
    found: list[str] = []
    for name, value in sorted(options.items()):
        if name not in WRITTEN and _is_file(name, value):
            found += [value] if isinstance(value, str) else value
    return found


def _fingerprint(uri: str) -> str:
    """What changes when a file, or one in a folder, is replaced; its content is not read."""
    if not storage.is_dir(uri):
        return storage.fingerprint(uri)
    files = [storage.join(uri, name) for name in storage.list_names(uri)]
    told = (f"{storage.basename(f)} {storage.fingerprint(f)}" for f in files)
    return " ".join(told)


def _ledger(job: CountyJob) -> dict[str, Any]:
    place = storage.join(job.out, LEDGER)
    if not storage.exists(place):
        return {}
    found = storage.read_json(place)
    if not isinstance(found, dict) or not all(isinstance(v, dict) for v in found.values()):
        raise StorageError(f"{storage.redact(place)} is of no job; choose another out")
    return found


def run(
    job: str,
    *,
    dry_run: bool = False,
    engine: Engine | None = None,
    on_plan: Callable[[Sequence[JobStep]], None] | None = None,
    on_step: Step | None = None,
    on_run: Callable[[Run], None] | None = None,
) -> JobResult:
    """Make a county from one file: tiles, model, scores or change, maps, areas, report.

    Stopped at any moment, the same call goes on where it was: steps that are done are left, and
    within a step its own parts.

    Args:
        job: a TOML file (see `quadrat.jobs`).
        dry_run: only say what would be done.
        on_plan: told the steps before the first one begins.
        on_step: called with the name of each step; gives a context manager for the step, whose
            value is its `on_progress`.
        on_run: called with the training's run when it starts.

    Raises:
        InputError: the file, or an option in it, cannot be.
        QuadratError: whatever a step raises.
    """
    told = read_job(job)
    steps = plan(told)
    if on_plan is not None:
        on_plan(steps)
    states = {s.name: s.state for s in steps}
    made = {s.name: s.made for s in steps}
    if dry_run:
        return JobResult(told.out, None, states, made, {})
    ledger, seconds = _ledger(told), {}
    place = storage.join(told.out, LEDGER)
    for step in (s for s in steps if s.state != "done"):
        began = time.monotonic()
        ledger[step.name] = {"key": step.key, "done": False}
        storage.write_json(place, ledger)
        with (on_step or _quietly)(step.name) as on_progress:
            _do(step, told, engine, on_progress, on_run)
        seconds[step.name] = round(time.monotonic() - began, 2)
        ledger[step.name] = {"key": step.key, "done": True, "seconds": seconds[step.name]}
        storage.write_json(place, ledger)
    return JobResult(told.out, steps[-1].made[0], states, made, seconds)


def _quietly(_: str) -> AbstractContextManager[Progress | None]:
    return nullcontext()


def _do(
    step: JobStep,
    job: CountyJob,
    engine: Engine | None,
    on_progress: Progress | None,
    on_run: Callable[[Run], None] | None,
) -> None:
    function = VERBS[step.verb]
    known = inspect.signature(function).parameters
    hooks = {"engine": engine, "on_progress": on_progress}
    given = {**step.given, **{n: v for n, v in hooks.items() if n in known}}
    if "overwrite" in known:
        given["overwrite"] = step.state == "to do again"
    if step.verb != "train":
        function(**given)
        return
    history = storage.join(job.out, "runs.db")
    params = {k: v for k, v in given.items() if k not in hooks}
    name = storage.basename(job.out)
    with runs.start("train", name=name, params=params, tracking_uri=history) as entry:
        if on_run is not None:
            on_run(entry)
        function(**given, run_id=entry.id, on_event=entry.record)
