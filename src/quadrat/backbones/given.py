"""What a user says of a network: its normalisation, its pooling, that its licence is accepted.

A network's own file says these where it can. What no file says is asked for and never assumed.
It loads no torch.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from quadrat import choices
from quadrat.errors import BackboneError
from quadrat.records import Record

Pixels = tuple[float, float, float]
Numbers = tuple[float, ...]

# parts of the names of licences that forbid commercial use
NONCOMMERCIAL = re.compile(r"-nc\b|non-?commercial|research|amlr|seer|swag", re.IGNORECASE)
CURE = "--mean, --std and --range LOW,HIGH"


@dataclass(frozen=True)
class Given(Record):
    """What the user says of a network; None where its own metadata are to be used.

    Attributes:
        mean, std: what its input is normalised by, one number or one a channel (red, green, blue),
            in the units of `range`.
        range: what black and white (0 and 255) are in the network's units before it is normalised:
            (0, 1), (0, 255).
        pooling: features of a network that gives one row a token: `token` (the first), `mean` (of
            the others), or `both` side by side.
        pixels: side that tiles are resized to before the network sees them.
        accept_licence: whether a licence that forbids commercial use is accepted.
    """

    mean: Numbers | None = None
    std: Numbers | None = None
    range: tuple[float, float] | None = None
    pooling: str | None = None
    pixels: int | None = None
    accept_licence: bool = False

    def __post_init__(self) -> None:
        if self.pooling is not None:
            choices.check("pooling", self.pooling, choices.POOLINGS, BackboneError)

    @property
    def statistics(self) -> tuple[Pixels, Pixels] | None:
        """Mean and deviation of the pixels in 0..255; None where none of the three is given.

        Raises:
            BackboneError: one is given without the others, or is out of bounds.
        """
        three = (self.mean, self.std, self.range)
        if three == (None, None, None):
            return None
        if self.mean is None or self.std is None or self.range is None:
            raise BackboneError(f"the normalisation of a network is {CURE} together")
        return in_pixels(self.mean, self.std, self.range)


def in_pixels(mean: Numbers, std: Numbers, range: tuple[float, float]) -> tuple[Pixels, Pixels]:
    """A normalisation in the network's units as one of pixels in 0..255.

    Args:
        mean, std: one number, or three.
        range: what 0 and 255 are in these units.
    """
    low, high = (float(v) for v in range)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise BackboneError(f"--range {low:g},{high:g} is none; write 0,1 or 0,255")
    unit = 255.0 / (high - low)
    means, stds = _three("--mean", mean), _three("--std", std)
    if min(stds) <= 0:
        raise BackboneError(f"--std {std} must be above 0")
    red, green, blue = ((m - low) * unit for m in means)
    return (red, green, blue), (stds[0] * unit, stds[1] * unit, stds[2] * unit)


def _three(name: str, values: Numbers) -> Pixels:
    numbers = tuple(float(v) for v in values)
    if len(numbers) not in (1, 3) or not all(map(math.isfinite, numbers)):
        raise BackboneError(f"{name} takes one number, or three: of red, green and blue")
    red, green, blue = numbers if len(numbers) == 3 else numbers * 3
    return red, green, blue


def check_licence(name: str, licence: str, accepted: bool) -> None:
    """BackboneError for weights that must not be used commercially, unless that is accepted."""
    if NONCOMMERCIAL.search(licence) and not accepted:
        raise BackboneError(
            f"the weights of {name} have the licence {licence}, which forbids commercial use; give "
            "--accept-licence if yours is none, or choose another backbone"
        )
