"""The result of a search for copies of training images, as text, as JSON and as pictures."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddim.data.images import Images
from ddim.evaluate.features import as_pixels
from ddim.files import write_text
from ddim.pictures import write_grid

RARE = 1000  # at most one in so many held-out images may be flagged


@dataclass(frozen=True)
class Suspect:
    """A sample that is unusually close to one training image.

    Attributes:
        sample: index of the sample.
        neighbours: indices of its nearest training images, the nearest first.
        mirrored: for each of them, whether the mirrored image is the near one.
        distance: to the nearest one, the root mean square over the pixels, for images in [-1, 1].
        ratio: this distance over the mean distance of the next 50.
    """

    sample: int
    neighbours: tuple[int, ...]
    mirrored: tuple[bool, ...]
    distance: float
    ratio: float


@dataclass(frozen=True)
class Memorisation:
    """How many samples look like copies, and the most suspicious ones.

    Attributes:
        count, train_count, held_out_count: numbers of samples and of real images.
        level: the ratio below which an image is flagged.
        flagged: number of flagged samples.
        expected: the number expected for samples that are no copies.
        p_value: the probability of so many or more flagged samples without copying.
        nearer: the share of pairs of a sample and a held-out image in which the sample is nearer to its nearest
            training image; one half without copying.
        nearer_low, nearer_high: its 95% interval.
        suspects: the samples with the lowest ratios, the lowest first.
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

    def lines(self) -> Iterator[str]:
        """Yield the result as sentences."""
        allowed = self.held_out_count // RARE
        others = f"all but {allowed} of" if allowed else "any of"
        yield (
            f"Copies: {self.flagged} of {self.count:,} samples are closer to one of {self.train_count:,} training "
            f"images than {others} {self.held_out_count:,} held-out images; {self.expected:.1f} expected, "
            f"p = {self.p_value:.2g}."
        )
        yield (
            f"A sample is nearer to the training images than a held-out image is in {self.nearer:.1%} of pairs "
            f"({self.nearer_low:.1%} to {self.nearer_high:.1%}); 50% is expected, more means copying or blur."
        )

    def pictures(self, samples: Tensor, training: Images) -> dict[str, Tensor]:
        """Return the suspects, "samples" (K, C, H, W), and their "neighbours" (K, 3, C, H, W), uint8.

        Args:
            samples, training: as they were given to `copies`.
        """
        rows = torch.tensor([suspect.neighbours for suspect in self.suspects])
        mirrored = torch.tensor([suspect.mirrored for suspect in self.suspects])[..., None, None, None]
        near = as_pixels(
            replace(training, pixels=training.pixels[rows.flatten()], labels=training.labels[rows.flatten()])
        )
        near = near.reshape(*rows.shape, *near.shape[1:])
        return {
            "samples": as_pixels(samples)[[suspect.sample for suspect in self.suspects]],
            "neighbours": near.where(~mirrored, near.flip(-1)),
        }

    def save(self, folder: Path, samples: Tensor, training: Images, **details: Any) -> Path:
        """Write `memorisation.json` and `memorisation.png`.

        Args:
            folder: where to write.
            samples, training: as they were given to `copies`.
            details: more entries, e.g. "weights", the fingerprint of the model.

        Returns:
            The path of the picture: each row shows a sample and its three nearest training images.
        """
        write_text(folder / "memorisation.json", json.dumps({**details, **asdict(self)}, indent=2) + "\n")
        pictures, path = self.pictures(samples, training), folder / "memorisation.png"
        rows = torch.cat([pictures["samples"][:, None], pictures["neighbours"]], dim=1)
        write_grid(rows.flatten(0, 1), path, columns=rows.shape[1])
        return path
