"""The verb: what it prints and keeps, and learning curves of several runs in one chart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from finetune_tiles import write_tiles

torch = pytest.importorskip("torch", reason="fine-tuning needs pip install 'quadrat[finetune]'")

from quadrat import runs  # noqa: E402
from quadrat.cli import run  # noqa: E402
from quadrat.finetuning.settings import FinetuneSettings, Machine  # noqa: E402

SMALL = ("--backbone", "shufflenet_v2_x0_5", "--weights", "random", "--pixels", "32", "--batch",
         "16", "--epochs", "3", "--threads", "1", "--precision", "fp32")  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    uri: str = write_tiles(tmp_path_factory.mktemp("set"), {"train": 48, "validation": 24}).uri
    return uri


@pytest.mark.long
def test_two_trainings_one_stopped_and_resumed_make_one_chart(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Each is one run with one whole learning curve, the one that `--json` prints."""
    from quadrat.finetuning import loop

    monkeypatch.chdir(tmp_path)
    epoch = loop.Training._epoch

    def stops(self: Any, runner: Any, number: int, steps: int) -> Any:
        if number == 3:
            raise KeyboardInterrupt
        return epoch(self, runner, number, steps)

    fast = ["finetune", small, "--out", "fast", "--lr", "0.005", *SMALL]
    with monkeypatch.context() as patched:
        patched.setattr(loop.Training, "_epoch", stops)
        assert run(fast) == 130
    (stopped,) = runs.list_runs()
    assert stopped.status == "KILLED"
    assert run(fast) == 1
    assert "--resume goes on with it" in capsys.readouterr().err
    told: dict[str, Any] = {}
    slow = ["finetune", small, "--out", "slow", "--lr", "0.0001", *SMALL]
    for name, line in (("fast", [*fast, "--resume"]), ("slow", slow)):
        assert run([*line, "--json"]) == 0
        output = capsys.readouterr()
        told[name] = json.loads(output.out)
        assert "epoch 3 of 3: loss " in output.err
    assert told["fast"]["run"] == stopped.id and told["fast"]["resumed_after"] == 2
    both = [told[name]["run"] for name in ("fast", "slow")]
    assert run(["runs", "compare", *both, "--out", "chart.png"]) == 0
    curves = runs.compare_runs(both).curves
    for figure in ("loss", "error_percent", "seconds", "samples_per_s", "lr", "validation_loss",
                   "validation_accuracy", "validation_macro_f1"):  # fmt: skip
        for name, points in zip(("fast", "slow"), curves[f"epoch/{figure}"], strict=True):
            expected = [h[figure] for h in told[name]["history"]]
            assert [p[0] for p in points] == [1, 2, 3]
            assert [p[1] for p in points] == pytest.approx(expected)
    params = runs.show_run(stopped.id).params
    assert params["backbone"] == f"torchvision:{SMALL[1]}"
    assert (params["lr"], params["clip"]) == ("0.005", "1.0")
    with Image.open("chart.png") as picture:
        seen = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
    for color in ((0, 114, 178), (230, 159, 0)):  # one a run
        assert (np.abs(seen - color).sum(1) < 12).sum() > 50


def test_every_setting_is_an_option_with_the_same_default() -> None:
    from dataclasses import fields

    from quadrat.cli.finetune import command

    options = command.make_context("finetune", ["tiles"], resilient_parsing=True).params
    for kind in (FinetuneSettings, Machine):
        for field in fields(kind):
            assert options[field.name] == field.default, field.name
