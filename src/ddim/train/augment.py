"""Augmentation that does not leak into the samples (EDM, arXiv 2206.00364, appendix F.2).

A transformed image is not an image of the data set. The network therefore gets a vector that says how each image was
transformed, and is zero for an image as it is. Sampling leaves the vector at zero, and draws images as they are.
"""

import inspect
import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from ddim.data.augmentations import LARGEST, Augmentations
from ddim.errors import UserError
from ddim.files import as_table

NAMES = tuple(LARGEST)
TWO = ("rotate", "stretch", "shift", "hue")  # augmentations with two numbers in the vector; the others have one
CONDITION = len(NAMES) + len(TWO)
"""Length of the vector that describes the augmentation of an image to the network."""

Parameters = dict[str, Tensor]
"""Name -> (B,) or (B, 2) float64: a, degrees, (a, direction) of `stretch`, pixels (x, y) of `shift`; 0: not applied."""


class Conditioned(nn.Module):
    """A network with the vectors of one batch: how its images were transformed, or what describes them.

    Args:
        network: called as network(x, t[, label], **vectors).
        vectors: `augmentation`, (B, `CONDITION`) float32, or `condition`, (B, D), or both.
    """

    def __init__(self, network: nn.Module, **vectors: Tensor) -> None:
        super().__init__()
        self.network, self.vectors = network, vectors

    def forward(self, x: Tensor, t: Tensor, *label: Tensor) -> Tensor:
        """Return what the network returns."""
        return self.network(x, t, *label, **self.vectors)  # type: ignore[no-any-return]


def check_network(network: nn.Module) -> None:
    """Raise `UserError` for a network that does not take the vector, or one of ours that was built without it."""
    length = as_table(getattr(network, "config", None)).get("augmentation", CONDITION)
    if length != CONDITION or "augmentation" not in inspect.signature(network.forward).parameters:
        raise UserError(
            "The network cannot be told how its images were augmented, so that its samples would look augmented, too; "
            f"build it with augmentation={CONDITION}, give its forward an argument `augmentation`, or leave out "
            "--augment."
        )


def draw(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return the random numbers of `count` images, (count, augmentations, 4): two uniform, then two normal ones."""
    shape = (count, len(NAMES), 2)
    return np.concatenate([rng.random(shape), rng.standard_normal(shape)], axis=-1)


def parameters(draws: Tensor, table: Augmentations, probability: float, side: tuple[int, int]) -> Parameters:
    """Return how each image is transformed.

    Args:
        draws: (B, augmentations, 4) from `draw`.
        table: the augmentations to apply, see `ddim.data.augmentations.resolve`.
        probability: of each of them, times its own factor.
        side: (height, width) of the images.
    """
    found = {}
    for name, (strength, factor) in table.items():
        gate, u, *a = draws[:, NAMES.index(name)].unbind(1)
        if name in ("mirror", "flip"):
            value = (u < 0.5).double()
        elif name in ("rotate", "hue"):
            value = strength * (2 * u - 1)
        elif name == "stretch":  # in half of the cases along an axis
            value = torch.stack([a[0], 2 * math.pi * (2 * u - 1).clamp(min=0)], dim=1)
        elif name == "shift":
            value = torch.stack([strength * n * a for n, a in zip(side[::-1], a, strict=True)], dim=1).round()
        else:
            value = a[0]
        applied = gate < probability * factor
        found[name] = torch.where(applied if value.ndim == 1 else applied[:, None], value, 0.0)
    return found


def condition(found: Parameters, table: Augmentations, side: tuple[int, int], count: int) -> Tensor:
    """Return the vectors for the network, (count, `CONDITION`) float32, of numbers of the order of 1.

    An augmentation that is not applied has zeros.
    """
    columns = []
    for name in NAMES:
        value = found.get(name)
        if value is None:
            columns += [torch.zeros(count, dtype=torch.float64)] * (2 if name in TWO else 1)
        elif name in ("rotate", "hue"):
            columns += [value.deg2rad().cos() - 1, value.deg2rad().sin()]
        elif name == "stretch":
            columns += [value[:, 0] * value[:, 1].cos(), value[:, 0] * value[:, 1].sin()]
        elif name == "shift":
            columns += [value[:, i] / (table[name].strength * n) for i, n in enumerate(side[::-1])]
        else:
            columns.append(value)
    return torch.stack(columns, dim=1).float()


def transform(x0: Tensor, found: Parameters, table: Augmentations) -> Tensor:
    """Return the images, (B, C, H, W) in [-1, 1], transformed; one without any parameter keeps its bits.

    What lies outside an image is its reflection. Mirroring, flipping and shifting move pixels without interpolation.
    """
    rows = _rows(found, "scale", "rotate", "stretch").to(x0.device)
    if len(rows):
        x0 = x0.index_copy(0, rows, _warped(x0[rows], _inverse(found, table)[rows.cpu()]))
    x0 = _moved(x0, found)
    rows = _rows(found, "brightness", "contrast", "hue", "saturation").to(x0.device)
    return x0.index_copy(0, rows, _coloured(x0[rows], found, table, rows.cpu())) if len(rows) else x0


def _rows(found: Parameters, *names: str) -> Tensor:
    """Return the indices of the images that one of the augmentations changes."""
    changed = [value.flatten(1).any(1) if value.ndim > 1 else value != 0 for n, value in found.items() if n in names]
    return torch.stack(changed).any(0).nonzero().flatten() if changed else torch.zeros(0, dtype=torch.long)


def _inverse(found: Parameters, table: Augmentations) -> Tensor:
    """Return the matrices that map a place in the transformed image to one in the image, (B, 2, 2) float64."""
    matrix = torch.eye(2, dtype=torch.float64)[None]
    if "scale" in found:
        matrix = matrix * (2 ** -(table["scale"].strength * found["scale"]))[:, None, None]
    if "rotate" in found:
        matrix = matrix @ _rotation(-found["rotate"].deg2rad())
    if "stretch" in found:
        amount, direction = found["stretch"].unbind(1)
        factors = table["stretch"].strength * torch.stack([-amount, amount], dim=1)
        matrix = matrix @ _rotation(direction) @ torch.diag_embed(2**factors) @ _rotation(-direction)
    return matrix


def _rotation(angle: Tensor) -> Tensor:
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cos, -sin], dim=-1), torch.stack([sin, cos], dim=-1)], dim=-2)


def _warped(x: Tensor, matrix: Tensor) -> Tensor:
    """Return the images seen through the matrices, interpolated by cubics and clipped to [-1, 1]."""
    height, width = x.shape[-2:]
    v, u = (torch.arange(n, dtype=torch.float64) - (n - 1) / 2 for n in (height, width))  # pixels from the centre
    v, u = v[None, :, None], u[None, None, :]
    a, b, c, d = matrix.flatten(1)[..., None, None].unbind(1)
    grid = torch.stack([(a * u + b * v) * 2 / width, (c * u + d * v) * 2 / height], dim=-1).to(x)
    return grid_sample(x, grid, "bicubic", "reflection", align_corners=False).clamp(-1, 1)


def _moved(x0: Tensor, found: Parameters) -> Tensor:
    """Return the images mirrored, flipped and shifted."""
    for name, dim in (("mirror", -1), ("flip", -2)):
        if name in found:
            x0 = torch.where(found[name].bool().to(x0.device)[:, None, None, None], x0.flip(dim), x0)
    if "shift" in found:
        right, down = found["shift"].long()[:, :, None].unbind(1)
        columns, rows = (
            _reflected(torch.arange(side) - by, side).to(x0.device)
            for by, side in ((right, x0.shape[3]), (down, x0.shape[2]))
        )
        image = torch.arange(len(x0), device=x0.device)
        x0 = x0[image[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()
    return x0


def _reflected(places: Tensor, side: int) -> Tensor:
    """Return the pixels of a row that stand at any places, where the row and its mirror image alternate."""
    places = places % (2 * side)
    return torch.minimum(places, 2 * side - 1 - places)


def _coloured(x: Tensor, found: Parameters, table: Augmentations, rows: Tensor) -> Tensor:
    """Return the images, whose parameters stand at `rows`, with other colours, clipped to [-1, 1]."""
    amount = {
        name: (found[name][rows] * (1 if name == "hue" else table[name].strength)).to(x)[:, None, None, None]
        for name in ("brightness", "contrast", "hue", "saturation")
        if name in found
    }
    if "brightness" in amount:
        x = x + amount["brightness"]
    if "contrast" in amount:
        x = x * 2 ** amount["contrast"]
    grey = x.mean(dim=1, keepdim=True)
    colour = x - grey
    if "hue" in amount:  # a rotation about the grey axis: colour cos + (axis x colour) sin
        angle = amount["hue"].deg2rad()
        across = (colour.roll(1, 1) - colour.roll(-1, 1)) / math.sqrt(3)
        colour = colour * angle.cos() + across * angle.sin()
    if "saturation" in amount:
        colour = colour * 2 ** amount["saturation"]
    return (grey + colour).clamp(-1, 1)
