"""The command line's frame: failures, exit codes, JSON, and that it loads nothing heavy."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest

import quadrat
import quadrat.cli as frame
from quadrat import choices, codec, model, products
from quadrat.cli import args, common
from quadrat.errors import InputError, MissingExtraError
from quadrat.heads import fit, forms


class Result:
    def to_dict(self) -> dict[str, object]:
        return {"tiles": np.int64(3), "share": float("nan"), "by": {1: (np.float32(0.5),)}}


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, object]]:
    """A verb `try` that does what its test says: raises `error`, or gives `answer`."""
    does: dict[str, object] = {"answer": common.Answer(Result(), "3 tiles")}
    module = types.ModuleType("quadrat.cli.try")

    def command(legend: str, engine: args.EngineArgs, name: str):
        """Try it."""
        print("chatter of a library")
        if "error" in does:
            raise does["error"]  # type: ignore[misc]
        does.update(legend=legend, engine=engine.engine, workers=engine.workers, name=name)
        return does["answer"]

    command = args.legend(command)
    command = args.engine(command)
    command = args.placed("name", "models")(command)
    module.command = common.verb(name="try")(command)  # type: ignore[attr-defined]
    module.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "quadrat.cli.try", module)
    monkeypatch.setitem(frame.VERBS, "try", ("", "Try it."))
    monkeypatch.chdir(tmp_path)
    for key in [k for k in os.environ if k.startswith("QUADRAT_")]:
        monkeypatch.delenv(key)
    yield does


def test_an_answer_in_words(verb: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    assert frame.run(["try", "m"]) == 0
    assert capsys.readouterr().out == "chatter of a library\n3 tiles\n"


def test_json_is_all_there_is_on_stdout(
    verb: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    assert frame.run(["try", "m", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"tiles": 3, "share": None, "by": {"1": [0.5]}}
    assert err == "chatter of a library\n"


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("a.tif has no CRS;\nset one"), 1, "Error: a.tif has no CRS; set one"),
        (MissingExtraError("the Spark engine", "spark"), 1,
         "Error: the Spark engine needs an extra: pip install 'quadrat[spark]'"),
        (KeyError("x"), 1,
         "Error: KeyError: 'x' (this is a defect; --debug shows the traceback)"),
        (MemoryError(), 1, "Error: out of memory; use fewer --workers or smaller tiles"),
        (KeyboardInterrupt(), 130, "stopped; run again to resume"),
    ],
)  # fmt: skip
def test_a_failure_is_one_line(
    verb: dict[str, object],
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    line: str,
) -> None:
    verb["error"] = error
    assert frame.run(["try", "m"]) == code
    out, err = capsys.readouterr()
    assert err.strip() == line
    assert out == "chatter of a library\n"

    assert frame.run(["try", "m", "--json"]) == code
    out, err = capsys.readouterr()
    assert json.loads(out) == {"error": line.removeprefix("Error: ")}

    assert frame.run(["try", "m", "--debug"]) == code
    assert ("Traceback" in capsys.readouterr().err) == (code == 1)


@pytest.mark.parametrize(
    ("typed", "cure"), [("trian", "did you mean train?"), ("Score", "did you mean score?"),
                        ("zzz", "choose one of demo, run, fetch, tile")]
)  # fmt: skip
def test_a_mistyped_verb_is_named_with_the_nearest(
    typed: str, cure: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert frame.run([typed]) == 2
    assert f"no verb '{typed}'; {cure}" in capsys.readouterr().err


def test_wrong_usage_is_2(verb: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    assert frame.run(["try"]) == 2
    assert "Missing argument" in capsys.readouterr().err
    assert frame.run(["try", "m", "--engine", "dask", "--json"]) == 2
    assert "dask" in json.loads(capsys.readouterr().out)["error"]
    assert frame.run(["nope"]) == 2
    assert frame.run(["try", "--help"]) == 0


def test_options_before_environment_before_file(
    verb: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert frame.run(["try", "m"]) == 0
    assert (verb["legend"], verb["engine"], verb["workers"]) == ("nlcd8", "local", None)
    (tmp_path / "quadrat.toml").write_text(
        'legend = "nlcd3"\nengine = "spark"\nworkers = 3\nmodels = "az://m"\ncache = "c"\n'
    )
    monkeypatch.setenv("QUADRAT_WORKERS", "5")
    monkeypatch.setattr(os, "environ", os.environ.copy())
    assert frame.run(["try", "lite0"]) == 0
    assert (verb["legend"], verb["engine"], verb["workers"]) == ("nlcd3", "spark", 5)
    assert verb["name"] == "az://m/lite0"
    assert os.environ["QUADRAT_CACHE"] == str(tmp_path / "c")
    assert frame.run(["try", "./lite0", "--workers", "7", "--engine", "local"]) == 0
    assert (verb["engine"], verb["workers"], verb["name"]) == ("local", 7, "./lite0")


def test_a_mistake_in_the_file_is_told(
    verb: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "quadrat.toml").write_text('masster = "yarn"\n')
    assert frame.run(["try", "m"]) == 1
    assert "did you mean master?" in capsys.readouterr().err


def test_a_master_without_spark_is_wrong_usage() -> None:
    with (
        pytest.raises(click.UsageError, match="--engine spark"),
        common.engine(args.EngineArgs("local", master="yarn")),
    ):
        pass


# What a command has beside its function's words: where the run is kept, who is asked, a browser.
OWN = {"train": {"name", "tracking_uri"}, "clean": {"yes"}, "review": {"open"}}
ENGINE = {"engine", "master", "workers", "conf"}
HERE = {"engine", "workspace"}
HOOKS = {"on_progress", "on_address", "on_event", "on_plan", "on_run", "on_step", "run_id"}
# Fine-tuning's options are the fields of two records, which tests/test_finetune_cli.py checks.
FUNCTIONS = [verb for verb, (room, _) in frame.VERBS.items() if room and verb != "finetune"]


@pytest.mark.parametrize("verb", FUNCTIONS)
def test_options_are_the_functions_parameters_with_its_defaults(verb: str) -> None:
    function, own = getattr(quadrat, verb), OWN.get(verb, set())
    command = frame.cli.get_command(click.Context(frame.cli), verb)
    assert command is not None
    options = {p.name: p for p in command.params if p.name not in ("as_json", "debug")}
    params = {n: p for n, p in inspect.signature(function).parameters.items() if n not in HOOKS}
    if "engine" in params:
        assert set(options) >= ENGINE
    assert set(options) - ENGINE - own == set(params) - HERE
    arguments = ["x" for p in command.params if isinstance(p, click.Argument) and p.required]
    arguments += ["--out", "x"] if "out" in options and options["out"].required else []
    given = command.make_context(verb, arguments).params
    for name, param in params.items():
        if param.default is not inspect.Parameter.empty and name not in HERE:
            assert given[name] == param.default, name


def test_choices_are_what_the_library_has() -> None:
    assert set(choices.ENCODINGS) == set(codec.ENCODINGS)
    assert set(choices.PRODUCTS) == set(products.PRODUCTS)
    assert set(choices.HEADS) == set(fit.FITTERS)
    assert set(choices.PRECISIONS) == set(forms.CHOICES) == {"auto", *model.PRECISIONS}
    for registry in (choices.ENGINES, choices.LABEL_RULES):
        assert all(callable(choices.load(place)) for place in registry.values())


def test_a_reader_that_leaves_is_no_error() -> None:
    code = (
        "import sys, quadrat.cli as c, click\n"
        "c.cli.callback = None\n"
        "@c.cli.command('flood')\n"
        "def flood():\n"
        "    while True: click.echo('x' * 1000)\n"
        "c.VERBS['flood'] = ('', '')\n"
        "c.Verbs.get_command = click.Group.get_command\n"
        "sys.exit(c.run(['flood']))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(20) == 1
    assert errors == ""
