"""The augmentations that a data set allows, and their strengths (EDM, arXiv 2206.00364, appendix F.2).

With a standard normal, and u uniform in [-1, 1], a strength s means:

| name | what is done to an image |
|---|---|
| mirror, flip | mirrored left to right, or upside down, in half of the cases; s is 1 |
| scale | enlarged by 2^(s a) |
| rotate | rotated by s u degrees |
| stretch | enlarged by 2^(s a) in one direction, and reduced as much at right angles to it |
| shift | shifted by s a of its side along each axis, rounded to whole pixels |
| brightness | s a is added to the pixels, which lie in [-1, 1] |
| contrast | the pixels are multiplied by 2^(s a) |
| hue | the colours are rotated about the grey axis by s u degrees |
| saturation | the distance of each colour from grey is multiplied by 2^(s a) |
"""

from collections.abc import Mapping
from typing import NamedTuple

from ddim.errors import UserError
from ddim.text import did_you_mean, listed

LARGEST = {
    **{"mirror": 1.0, "flip": 1.0, "scale": 1.0, "rotate": 180.0, "stretch": 1.0, "shift": 0.5},
    **{"brightness": 1.0, "contrast": 2.0, "hue": 180.0, "saturation": 4.0},
}
"""The largest strength of each augmentation."""
CHANNELS = {"brightness": (1, 3), "contrast": (1, 3), "hue": (3,), "saturation": (3,)}
"""Numbers of channels for which an augmentation of colour has a meaning; those of shape are for any number."""


class Strength(NamedTuple):
    """The strength of one augmentation, and the factor of its probability, 0 to 1."""

    strength: float
    factor: float = 1.0


Augmentations = Mapping[str, Strength]
"""Name -> strength. What is missing is not allowed."""

SHAPE: Augmentations = {"scale": Strength(0.2), "stretch": Strength(0.2), "shift": Strength(0.125)}
"""For images of which nothing is known. The strengths are EDM's."""
HANDWRITING: Augmentations = {**SHAPE, "rotate": Strength(10.0)}
"""A digit that is mirrored or turned over is another sign, and ink has no colour."""
PHOTOGRAPHS: Augmentations = {
    **SHAPE,
    **{"rotate": Strength(180.0), "flip": Strength(1.0)},
    **{"brightness": Strength(0.1, 0.5), "contrast": Strength(0.2, 0.5), "saturation": Strength(0.4, 0.5)},
}
"""EDM's shapes, and a little of colour, half as often."""


def parse(changes: str) -> dict[str, Strength]:
    """Return the strengths in a text like "rotate=30,flip=0,hue=20:0.5": NAME=STRENGTH, or NAME=STRENGTH:FACTOR.

    Raises:
        UserError: an unknown name, a strength that is negative or above `LARGEST`, or a factor that is not in [0, 1].
    """
    table = {}
    for entry in filter(None, map(str.strip, changes.split(","))):
        name, _, value = (part.strip() for part in entry.partition("="))
        if name not in LARGEST:
            raise UserError(
                f"There is no augmentation {name!r:.40}{did_you_mean(name, LARGEST)}; choose among "
                f"{', '.join(LARGEST)}, e.g. rotate=30,flip=0."
            )
        try:
            numbers = [float(number) for number in value.split(":")]
            allowed = 0 <= numbers[0] <= LARGEST[name] and all(0 <= factor <= 1 for factor in numbers[1:])
            table[name] = Strength(*numbers)
        except (ValueError, TypeError):
            allowed = False
        if not allowed:
            raise UserError(
                f"The augmentation {name} takes a strength from 0 to {LARGEST[name]:g}, and after a colon a factor of "
                f"its probability from 0 to 1, e.g. {name}={LARGEST[name] / 4:g}:0.5; got {value!r:.40}."
            )
    return table


def resolve(own: Augmentations, channels: int, changes: str = "") -> dict[str, Strength]:
    """Return the augmentations of a data set, with changes of `parse`, in the order of `LARGEST`.

    Augmentations of colour are left out where the channels have no colour.

    Args:
        own: what the data set allows.
        channels: number of channels of its images.
        changes: strengths to use in place of its own.

    Raises:
        UserError: what `parse` refuses, or a change of the colour of images without colour.
    """
    asked = parse(changes)
    absent = [name for name, counts in CHANNELS.items() if channels not in counts]
    if wrong := [name for name in absent if asked.get(name, Strength(0)).strength]:
        kind = "grey" if channels == 1 else f"of {channels} channels"
        raise UserError(
            f"The images are {kind}, for which {listed(wrong)} {'has' if len(wrong) == 1 else 'have'} no meaning; "
            f"leave {listed(wrong)} out of the augmentations."
        )
    table = {**own, **asked}
    return {name: table[name] for name in LARGEST if name in table and name not in absent and all(table[name])}


def in_words(table: Augmentations) -> str:
    """Return augmentations as text, e.g. "scale 0.2, rotate 10, hue 20 (probability × 0.5)"."""
    return ", ".join(
        f"{name} {strength:g}" + (f" (probability × {factor:g})" if factor != 1 else "")
        for name, (strength, factor) in table.items()
    )
