"""What the network sees: crops, turns, colours and sizes, against torchvision and plain loops."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="fine-tuning needs pip install 'quadrat[finetune]'")
import torchvision.transforms.functional as reference  # noqa: E402
from torch.nn import functional  # noqa: E402

from quadrat.finetuning.augment import augmented, draw, plain  # noqa: E402

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def scene(n: int, side: int = 40, low: int = 0, high: int = 256) -> np.ndarray:
    return np.random.default_rng(1).integers(low, high, (n, side, side, 3), np.uint8)


def test_one_augmented_tile_is_what_torchvisions_functions_make_of_it() -> None:
    chips = scene(12, low=70, high=170)  # nothing is cut off, whose order would matter
    chosen = draw(12, (3, 1, 4), jitter=0.2, flips=True)
    found = augmented(chips, chosen, crop=0.85, pixels=34, mean=MEAN, std=STD)
    assert set(chosen.turn) == {0, 1, 2, 3} and set(chosen.mirror) == {False, True}
    for i, chip in enumerate(chips):
        r, c = np.floor(chosen.place[i] * (40 - 34 + 1)).astype(int)
        x = torch.from_numpy(chip).permute(2, 0, 1)[:, r : r + 34, c : c + 34]
        x = reference.hflip(x) if chosen.mirror[i] else x
        x = torch.rot90(x, int(chosen.turn[i]), (1, 2)).float() / 255
        x = reference.adjust_brightness(x, chosen.jitter[i, 0])
        x = reference.adjust_contrast(x, chosen.jitter[i, 1])
        x = reference.adjust_saturation(x, chosen.jitter[i, 2])
        x = reference.normalize(x, [m / 255 for m in MEAN], [s / 255 for s in STD])
        # torchvision's grey has 0.2989, 0.587, 0.114
        torch.testing.assert_close(found[i], x, atol=3e-4, rtol=0)


def test_what_leaves_the_range_of_pixels_is_cut_off() -> None:
    chips = np.full((1, 8, 8, 3), 250, np.uint8)
    chosen = draw(1, (0, 0, 0), jitter=0.2, flips=False)
    chosen.jitter[:] = (1.2, 1.0, 1.0)
    found = augmented(chips, chosen, crop=1, pixels=8, mean=MEAN, std=STD)
    expected = [(255 - m) / s for m, s in zip(MEAN, STD, strict=True)]
    assert found[0, :, 3, 3].tolist() == pytest.approx(expected)


def test_crops_reach_every_border_and_never_beyond() -> None:
    ramp = np.zeros((400, 20, 20, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(20)[:, None], np.arange(20)[None]
    chosen = draw(400, (0, 1, 2), jitter=0, flips=False)
    x = augmented(ramp, chosen, crop=0.85, pixels=17, mean=(0, 0, 0), std=(1, 1, 1))
    for channel in (0, 1):
        assert set(x[:, channel].amin((1, 2)).tolist()) == {0, 1, 2, 3}
        assert set(x[:, channel].amax((1, 2)).tolist()) == {16, 17, 18, 19}


def test_turns_and_mirrors_give_all_eight_orientations_alike() -> None:
    tile = np.zeros((1, 6, 6, 3), np.uint8)
    tile[0, 0, 1] = 255
    chosen = draw(1600, (0, 0, 7), jitter=0, flips=True)
    x = augmented(tile.repeat(1600, 0), chosen, crop=1, pixels=6, mean=(0, 0, 0), std=(1, 1, 1))
    places, counts = np.unique(x[:, 0].flatten(1).argmax(1).numpy(), return_counts=True)
    assert len(places) == 8 and counts.min() > 140 and counts.max() < 260


def test_a_part_of_a_batch_looks_as_it_does_in_the_whole_batch() -> None:
    chips = scene(9)
    chosen = draw(9, (5, 2, 1), jitter=0.2, flips=True)
    options = {"crop": 0.85, "pixels": 24, "mean": MEAN, "std": STD}
    whole = augmented(chips, chosen, **options)
    part = augmented(chips[1::2], chosen.rows(slice(1, None, 2)), **options)
    assert torch.equal(whole[1::2], part)
    assert not torch.equal(whole, augmented(chips, draw(9, (5, 2, 2), jitter=0.2, flips=True),
                                            **options))  # fmt: skip


def test_plain_tiles_are_normalised_whole() -> None:
    chips = scene(2)
    found = plain(chips, pixels=40, mean=MEAN, std=STD)
    expected = (chips.astype(np.float32) - MEAN) / STD
    np.testing.assert_allclose(found.permute(0, 2, 3, 1).numpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("side", "pixels"), [(40, 60), (40, 24), (64, 16), (50, 16)])
def test_resizing_keeps_slopes_and_loses_no_pixel(side: int, pixels: int) -> None:
    ramp = np.broadcast_to(np.arange(side, dtype=np.uint8)[None, None, :, None],
                           (1, side, side, 3))  # fmt: skip
    x = plain(ramp, pixels=pixels, mean=(0, 0, 0), std=(1, 1, 1))[0, 0, pixels // 2]
    steps = np.diff(x.numpy())[1:-1]
    block = side // pixels if side > pixels else 1
    assert steps == pytest.approx((side // block * block) / pixels, abs=1e-3)
    if side % pixels == 0:
        mean = functional.avg_pool2d(torch.from_numpy(scene(1, side)).permute(0, 3, 1, 2).float(),
                                     side // pixels)  # fmt: skip
        found = plain(scene(1, side), pixels=pixels, mean=(0, 0, 0), std=(1, 1, 1))
        torch.testing.assert_close(found, mean)
