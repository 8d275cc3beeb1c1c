"""The training loop on arrays: what a step, an epoch and a stop do, against torch and by hand."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetune_tiles import chips as make_chips

torch = pytest.importorskip("torch", reason="fine-tuning needs pip install 'quadrat[finetune]'")
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from quadrat import tiles  # noqa: E402
from quadrat.errors import TrainError  # noqa: E402
from quadrat.finetuning import device, feed, loop, optimise  # noqa: E402
from quadrat.finetuning.checkpoint import Checkpoints  # noqa: E402
from quadrat.finetuning.distributed import Group  # noqa: E402
from quadrat.finetuning.settings import FinetuneSettings  # noqa: E402

CPU = torch.device("cpu")


def small_network(norm: bool = True) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, 4), nn.BatchNorm2d(8) if norm else nn.Identity(), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
    )  # fmt: skip


def training(
    folder: Path, module: nn.Module | None = None, *, n: int = 48, classes: int = 3, **options: Any
) -> loop.Training:
    options = {"epochs": 3, "batch": 12, "lr": 0.02, "precision": "fp32"} | options
    settings = FinetuneSettings(**options)
    chips, labels = make_chips(n + 24)
    task = loop.Task(labels, np.arange(n), np.arange(n, n + 24), classes, lambda i: f"tile{i}")
    pictures = feed.Pictures(chips, 32, (128.0,) * 3, (64.0,) * 3, settings, CPU)
    module = module or small_network()
    names = tuple(name for name, _ in module.named_modules())
    saved = Checkpoints(str(folder), {"backbone": "small"})
    return loop.Training(
        module, names, pictures, task, settings, Group(0, 1, CPU), saved,
        lambda event, values: None, lambda done, total: None,
    )  # fmt: skip


def weights(module: nn.Module) -> dict[str, Any]:
    return {k: v.clone() for k, v in module.state_dict().items()}


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_training_learns(tmp_path: Path) -> None:
    made = training(tmp_path, epochs=8)
    found = made.fit(resume=False)
    assert found.history[-1]["loss"] < 0.8 * found.history[0]["loss"]
    assert found.history[-1]["validation_accuracy"] > 0.9


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(tmp_path: Path) -> None:
    results = []
    for i, seed in enumerate((0, 0, 1)):
        made = training(tmp_path / str(i), seed=seed)
        made.fit(resume=False)
        results.append(weights(made.module))
    assert same(results[0], results[1]) and not same(results[0], results[2])


def test_the_figures_of_an_epoch_are_sums_over_tiles(tmp_path: Path) -> None:
    """With a learning rate of nearly 0 they can be worked out from the network as it stands."""
    made = training(
        tmp_path, small_network(norm=False), lr=1e-12, crop=1, jitter=0, flips=False, epochs=1,
        batch=10, label_smoothing=0, weight_decay=0,
    )  # fmt: skip
    found = made.fit(resume=False).history[0]
    x = torch.cat([x for _, x in made.feed.plain(np.arange(72), 72)])
    logits, truth = made.module(x).detach(), torch.from_numpy(made.task.labels)
    losses = functional.cross_entropy(logits, truth, reduction="none")
    wrong = logits.argmax(1) != truth
    assert found["loss"] == pytest.approx(float(losses[:48].mean()), rel=1e-5)
    assert found["error_percent"] == pytest.approx(100 * float(wrong[:48].float().mean()))
    assert found["validation_loss"] == pytest.approx(float(losses[48:].mean()), rel=1e-5)
    assert found["validation_accuracy"] == pytest.approx(1 - float(wrong[48:].float().mean()))
    assert found["samples_per_s"] == pytest.approx(48 / found["seconds"])


def test_the_loss_of_mixed_tiles_is_the_cross_entropy_of_their_shares(tmp_path: Path) -> None:
    made = training(
        tmp_path, small_network(norm=False), lr=1e-12, crop=1, jitter=0, flips=False, epochs=1,
        batch=10, label_smoothing=0, weight_decay=0,
    )  # fmt: skip
    shares = np.random.default_rng(0).dirichlet(np.ones(3), 72).astype(np.float32)
    main = shares.argmax(1)
    main[[3, 60]] = -1  # two equal shares: such tiles train, and are neither right nor wrong
    made.task = dataclasses.replace(made.task, labels=main, targets=shares)
    found = made.fit(resume=False).history[0]
    logits = made.logits(np.arange(72))
    losses = -(shares * np.log(np.exp(logits) / np.exp(logits).sum(1, keepdims=True))).sum(1)
    assert found["loss"] == pytest.approx(losses[:48].mean(), rel=1e-5)
    assert found["validation_loss"] == pytest.approx(losses[48:].mean(), rel=1e-5)
    held = main[48:] >= 0
    right = (logits[48:].argmax(1) == main[48:])[held]
    assert found["validation_accuracy"] == pytest.approx(right.mean())


def test_validation_macro_f1_is_scikit_learns(tmp_path: Path) -> None:
    from sklearn.metrics import f1_score

    made = training(tmp_path)
    found = made.fit(resume=False)
    pred = made.logits(made.task.validation).argmax(1)
    best = found.history[found.best_epoch - 1]
    expected = f1_score(made.task.labels[made.task.validation], pred, average="macro")
    assert best["validation_macro_f1"] == pytest.approx(expected)
    assert best["validation_macro_f1"] == max(h["validation_macro_f1"] for h in found.history)


def test_every_tile_is_seen_once_an_epoch_whatever_the_number_of_processes() -> None:
    ids = np.arange(5, 108)
    for epoch in (1, 2):
        steps = feed.plan(ids, 10, seed=4, epoch=epoch)
        assert {len(s) for s in steps} <= {9, 10}
        shared = [step[rank::3] for step in steps for rank in range(3)]
        assert sorted(np.concatenate(shared)) == list(ids)
    first, second = (np.concatenate(feed.plan(ids, 10, 4, e)) for e in (1, 2))
    assert (first != second).any()


def test_more_processes_than_tiles_in_a_batch_are_refused(tmp_path: Path) -> None:
    made = training(tmp_path, batch=3)
    made.group = Group(0, 5, CPU)
    with pytest.raises(TrainError, match="5 processes for batches of 3 tiles"):
        made.fit(resume=False)


def test_a_long_gradient_is_shortened(tmp_path: Path) -> None:
    """Plain steps of 1 move the weights by no more than the longest gradient allowed."""
    moved = []
    for clip in (0.0, 0.05):
        made = training(
            tmp_path / str(clip), small_network(norm=False), n=12, epochs=1, batch=12, lr=1.0,
            clip=clip, weight_decay=0, optimizer="sgd", warmup=0,
        )  # fmt: skip
        before = weights(made.module)
        made.fit(resume=False)
        after = weights(made.module)
        moved.append(float(sum((after[k] - before[k]).square().sum() for k in before)) ** 0.5)
    # Nesterov's first step is 1.9 gradients long
    assert moved[1] == pytest.approx(1.9 * 0.05, rel=1e-3) and moved[0] > 2 * moved[1]


def test_between_epochs_of_one_macro_f1_the_lower_loss_is_better(tmp_path: Path) -> None:
    made = training(tmp_path, epochs=4)
    figures = iter([(0.8, 0.5), (0.9, 0.7), (0.9, 0.6), (0.9, 0.65)])

    def validated() -> dict[str, float]:
        f1, loss = next(figures)
        return {"validation_macro_f1": f1, "validation_loss": loss, "validation_accuracy": f1}

    made.validate = validated
    assert made.fit(resume=False).best_epoch == 3


def test_the_last_epoch_is_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    made = training(tmp_path, Fades(1), epochs=4, keep="last")
    assert made.fit(resume=False).best_epoch == 4
    last = made.checkpoints.parse(made.checkpoints.read(), CPU)["module"]
    assert same(last, weights(made.module))


def test_half_a_batch_twice_is_the_whole_batch(tmp_path: Path) -> None:
    """Without batch statistics, a batch in pieces gives the same weights."""
    results = []
    for micro in (12, 5):
        made = training(tmp_path / str(micro), small_network(norm=False))
        made.micro = micro
        made.fit(resume=False)
        results.append(weights(made.module))
    for name, value in results[0].items():
        torch.testing.assert_close(results[1][name], value, atol=1e-6, rtol=1e-4)


class Greedy(nn.Module):
    """Runs out of memory on more tiles than it likes."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.inner, self.most, self.seen = small_network(norm=False), most, 0

    def forward(self, x: Any) -> Any:
        if self.training and len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        self.seen = max(self.seen, len(x)) if self.training else self.seen
        return self.inner(x)


def test_a_batch_that_does_not_fit_the_memory_is_halved_and_said(tmp_path: Path) -> None:
    made, told = training(tmp_path / "a", Greedy(5)), []
    made.on_event = lambda event, values: told.append((event, values.get("text")))
    found = made.fit(resume=False)
    assert made.module.seen == 3
    said = [text for event, text in told if event == "warning"]
    assert len(said) == 2 and "6 tiles do not fit the memory" in said[1] and "3 tiles" in said[1]
    assert list(found.warnings) == said
    whole = training(tmp_path / "b", small_network(norm=False))
    whole.fit(resume=False)
    for name, value in weights(whole.module).items():
        torch.testing.assert_close(made.module.state_dict()[f"inner.{name}"], value, atol=1e-6,
                                   rtol=1e-4)  # fmt: skip
    with pytest.raises(TrainError, match="not even one tile fits"):
        training(tmp_path / "c", Greedy(0)).fit(resume=False)


def test_the_cpu_says_out_of_memory_in_words_of_its_own() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50, dtype=torch.uint8)
    assert device.is_out_of_memory(caught.value)
    assert not device.is_out_of_memory(RuntimeError("shapes do not match"))


class Breaks(nn.Module):
    """Gives a logit that is no number at one step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.inner, self.step, self.steps = small_network(), step, 0

    def forward(self, x: Any) -> Any:
        y = self.inner(x)
        self.steps += self.training
        return y * float("nan") if self.training and self.steps == self.step else y


def test_a_loss_that_is_no_number_stops_with_the_batch_named(tmp_path: Path) -> None:
    made = training(tmp_path, Breaks(6))
    order = feed.plan(made.task.train, 12, 0, 2)
    named = ", ".join(f"tile{i}" for i in order[1][:3])
    with pytest.raises(TrainError, match=rf"nan in epoch 2, batch 2 of 4 \(tiles {named}, \.\.\."):
        made.fit(resume=False)
    kept = made.checkpoints.parse(made.checkpoints.read(), CPU)
    assert kept["epoch"] == 1
    assert all(torch.isfinite(v).all() for v in kept["module"].values())
    with pytest.raises(TrainError, match="no epoch was finished; lower --lr"):
        training(tmp_path / "first", Breaks(2)).fit(resume=False)


class Fades(nn.Module):
    """Right answers until an epoch of validation, then wrong ones."""

    def __init__(self, good: int) -> None:
        super().__init__()
        self.inner, self.good = small_network(norm=False), good
        self.register_buffer("rounds", torch.zeros(()))

    def eval(self) -> Any:
        self.rounds += self.training
        return super().eval()

    def forward(self, x: Any) -> Any:
        y = self.inner(x)
        colours = x.mean((2, 3)) * 100
        return y if self.training else y * 0 + (colours if self.rounds <= self.good else -colours)


def test_training_stops_early_and_the_best_epoch_is_kept(tmp_path: Path) -> None:
    made = training(tmp_path, Fades(2), epochs=9, patience=3)
    found = made.fit(resume=False)
    assert found.best_epoch < len(found.history) < 9
    assert len(found.history) - found.best_epoch == 3
    best = made.checkpoints.best(found.best_epoch, CPU)
    assert same(best, weights(made.module))
    last = made.checkpoints.parse(made.checkpoints.read(), CPU)["module"]
    assert not same(last, best)


def test_a_stopped_training_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    whole = training(tmp_path / "whole", epochs=4)
    expected = whole.fit(resume=False)
    stopped = training(tmp_path / "stopped", epochs=4)

    def stop(done: int, total: int) -> None:
        if done > 2.4 * 48:
            raise KeyboardInterrupt

    stopped.on_progress = stop
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(resume=False)
    again = training(tmp_path / "stopped", epochs=4)
    found = again.fit(resume=True)
    assert found.resumed_after == 2 and found.best_epoch == expected.best_epoch
    assert same(weights(again.module), weights(whole.module))
    for a, b in zip(found.history, expected.history, strict=True):
        timed = ("seconds", "samples_per_s")
        assert {k: v for k, v in a.items() if k not in timed} == {
            k: v for k, v in b.items() if k not in timed
        }


def test_a_kill_between_the_two_files_of_a_checkpoint_leaves_the_older_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = Checkpoints(str(tmp_path), {"backbone": "small"})
    saved.save({"epoch": 1, "best_epoch": 1}, {"w": torch.ones(1)})
    from quadrat import storage

    write = storage.write_bytes

    def killed(uri: str, data: Any) -> None:
        if uri.endswith("last.pt"):
            raise KeyboardInterrupt
        write(uri, data)

    monkeypatch.setattr(storage, "write_bytes", killed)
    with pytest.raises(KeyboardInterrupt):
        saved.save({"epoch": 2, "best_epoch": 2}, {"w": torch.zeros(1)})
    state = saved.parse(saved.read(), CPU)
    assert state["epoch"] == 1
    assert saved.best(state["best_epoch"], CPU)["w"] == 1


def test_checkpoints_of_another_training_or_damaged_ones_are_refused(tmp_path: Path) -> None:
    training(tmp_path, epochs=1).fit(resume=False)
    other = training(tmp_path, epochs=1)
    other.checkpoints = Checkpoints(str(tmp_path), {"backbone": "small", "legend": "a, b"})
    with pytest.raises(TrainError, match="another training: its legend is None, not a, b"):
        other.fit(resume=True)
    other.checkpoints = Checkpoints(str(tmp_path), {"backbone": "resnet18"})
    with pytest.raises(TrainError, match="its backbone is small, not resnet18"):
        other.fit(resume=True)
    file = tmp_path / "last.pt"
    for content in (file.read_bytes()[:-100], b"", b"no checkpoint"):
        file.write_bytes(content)
        with pytest.raises(TrainError, match="damaged or no checkpoint"):
            training(tmp_path, epochs=1).fit(resume=True)


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    class Crafted:
        def __reduce__(self) -> tuple[Any, Any]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"format": Crafted()}, tmp_path / "last.pt")
    with pytest.raises(TrainError, match="no checkpoint"):
        training(tmp_path).fit(resume=True)
    assert not (tmp_path / "ran").exists()


def test_the_learning_rate_rises_and_falls() -> None:
    settings = FinetuneSettings(epochs=10, warmup=2.0, lr=0.5)
    rates = [optimise.learning_rate(settings, e + s / 4, 4) for e in range(10) for s in range(4)]
    assert rates[:8] == pytest.approx([0.5 * (i + 1) / 8 for i in range(8)])
    assert rates[24] == pytest.approx(0.25)
    assert rates[8] == 0.5 and (np.diff(rates[8:]) < 0).all()
    assert 0 < rates[-1] < 0.002


def test_balanced_class_weights_are_scikit_learns() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.repeat([0, 1, 3], [5, 20, 75])
    balanced = FinetuneSettings(class_weight="balanced")
    found = optimise.class_weights(np.eye(4)[labels], balanced).numpy()
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=labels)
    np.testing.assert_allclose(found[[0, 1, 3]], expected, rtol=1e-6)
    assert found[2] == 0 and found[labels].mean() == pytest.approx(1)


def test_only_weights_decay() -> None:
    groups = optimise.make_optimizer(
        small_network(), FinetuneSettings(weight_decay=0.1)
    ).param_groups
    assert {g["weight_decay"]: {p.ndim for p in g["params"]} for g in groups} == {
        0.1: {2, 4}, 0.0: {1}
    }  # fmt: skip


def test_an_error_while_preparing_batches_reaches_the_loop_and_ends_the_work() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("disk gone")

    found = tiles.prefetched(items())
    assert next(found) == 1
    with pytest.raises(OSError, match="disk gone"):
        next(found)
    counter = itertools.count()
    endless = tiles.prefetched(iter(counter))
    assert next(endless) == 0
    endless.close()  # type: ignore[attr-defined]
    made = next(counter)
    time.sleep(0.05)
    assert next(counter) == made + 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"depth": "deep"}, "--depth 'deep' is unknown; it may be last_only"),
        ({"depth": "from:"}, "or from:LAYER"),
        ({"optimizer": "lion"}, "--optimizer 'lion'"),
        ({"epochs": 0}, "--epochs 0 is out of range"),
        ({"lr": float("nan")}, "--lr nan is out of range"),
        ({"crop": 1.5}, "--crop 1.5"),
        ({"warmup": 11.0}, "--warmup 11 is out of range; it must be from 0 to 10"),
        ({"keep": "last", "patience": 2}, "leave it out with --keep last"),
        ({"views": 2}, "--views 2 needs --depth last_only"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(TrainError, match=says):
        FinetuneSettings(**options)
