"""What a search for copies of training images found, as it is kept and shown."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ddim.data.images import Images
from ddim.evaluate.features import as_pixels

RARE = 1000  # one in so many held-out images may be flagged


@dataclass(frozen=True)
class Suspect:
    """A sample that lies close by one training image.

    Attributes:
        sample: which of the samples.
        neighbours: its nearest training images, the nearest first.
        mirrored: of each, whether it is the mirrored image that lies there.
        distance: to the nearest, the root mean square over the pixels, in units in which images lie in [-1, 1].
        ratio: of it to the mean distance of the next 50.
    """

    sample: int
    neighbours: tuple[int, ...]
    mirrored: tuple[bool, ...]
    distance: float
    ratio: float


@dataclass(frozen=True)
class Memorisation:
    """What was found.

    Attributes:
        count, train_count, held_out_count: how many samples and real images there were.
        level: the ratio below which an image is flagged.
        flagged: how many samples are.
        expected: how many would be of as many honest ones.
        p_value: the probability that so many or more would be.
        nearer: share of the pairs of a sample and a held-out image in which the sample lies nearer to its nearest
            training image; a half is honest.
        nearer_low, nearer_high: its 95% interval.
        suspects: the samples of the lowest ratios, the lowest first.
    """

    count: int
    train_count: int
    held_out_count: int
    level: float
    flagged: int
    expected: float
    p_value: float
    nearer: float
    nearer_low: float
    nearer_high: float
    suspects: tuple[Suspect, ...]

    def facts(self) -> dict[str, Any]:
        """For a JSON file."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """In words."""
        allowed = self.held_out_count // RARE
        others = f"all but {allowed} of" if allowed else "any of"
        yield (
            f"Copies: {self.flagged} of {self.count:,} samples lie closer by one of {self.train_count:,} training "
            f"images than {others} {self.held_out_count:,} held-out images; {self.expected:.1f} expected, "
            f"p = {self.p_value:.2g}."
        )
        yield (
            f"A sample lies nearer to the training images than a held-out image does in {self.nearer:.1%} of pairs"
            f" ({self.nearer_low:.1%} to {self.nearer_high:.1%}); half is honest, more is copying or blur."
        )

    def pictures(self, samples: Tensor, training: Images) -> dict[str, Tensor]:
        """The suspects to look at: "samples" (K, C, H, W) and "neighbours" (K, 3, C, H, W), uint8.

        Args:
            samples, training: as they were given to `copies`.
        """
        rows = torch.tensor([one.neighbours for one in self.suspects])
        flipped = torch.tensor([one.mirrored for one in self.suspects])[..., None, None, None]
        near = as_pixels(
            replace(training, pixels=training.pixels[rows.flatten()], labels=training.labels[rows.flatten()])
        )
        near = near.reshape(*rows.shape, *near.shape[1:])
        return {
            "samples": as_pixels(samples)[[one.sample for one in self.suspects]],
            "neighbours": near.where(~flipped, near.flip(-1)),
        }
