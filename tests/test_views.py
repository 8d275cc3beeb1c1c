"""Views of tiles: eight, each of the same ground; features of each are kept by themselves."""

import numpy as np
import pytest

from quadrat.errors import ModelError
from quadrat.model import views

CHIPS = np.random.default_rng(0).integers(0, 256, (2, 5, 5, 3), dtype=np.uint8)


def test_there_are_eight_views_and_each_is_another() -> None:
    seen = [views.seen(CHIPS, v) for v in range(views.MOST)]
    assert np.array_equal(seen[0], CHIPS)
    assert len({s.tobytes() for s in seen}) == 8
    for view in seen:  # the same pixels, in other places
        assert np.array_equal(np.sort(view.reshape(2, -1)), np.sort(CHIPS.reshape(2, -1)))
        assert view.flags.c_contiguous


def test_a_view_is_a_turn_or_a_mirror_image() -> None:
    assert np.array_equal(views.seen(CHIPS, 1)[0], np.rot90(CHIPS[0]))
    assert np.array_equal(views.seen(CHIPS, 4)[0], CHIPS[0][:, ::-1])


@pytest.mark.parametrize("number", [0, 9, -1])
def test_a_number_of_views_that_there_is_not_is_refused(number: int) -> None:
    with pytest.raises(ModelError, match="1 to 8"):
        views.check(number)
