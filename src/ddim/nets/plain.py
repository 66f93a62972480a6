"""The paper's network (its section 5): a U-Net of plain convolutions with a time embedding."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddim.nets.blocks import Conditioning, check_sizes, norm, zeroed
from ddim.nets.registry import register


@register("plain")
class PlainUNet(nn.Module):
    """Strided convolutions down, transposed convolutions up, skips between equal resolutions.

    Args:
        channels: number of channels of the image.
        widths: channels of each stage. The resolution is halved between two stages, rounded up.
        classes: number of classes, or None for a network without labels.
        augmentation: length of the vector that describes an image's augmentation; 0 is a network without one.
        conditions: length of the vector that describes an image; 0 is a network without one.

    Raises:
        UserError: widths that are not whole numbers or out of range.
    """

    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": {"widths": (32, 64)},
        "small": {"widths": (64, 128, 256)},
        "base": {"widths": (64, 128, 256, 512, 1024)},
    }

    def __init__(
        self,
        channels: int,
        *,
        widths: Sequence[int],
        classes: int | None = None,
        augmentation: int = 0,
        conditions: int = 0,
    ) -> None:
        super().__init__()
        check_sizes(widths)
        self.condition = Conditioning(widths[0], classes, augmentation, conditions)
        features = self.condition.features
        self.down = nn.ModuleList([Down(channels, widths[0], features, stride=1)])
        self.down.extend(Down(inputs, outputs, features, stride=2) for inputs, outputs in pairwise(widths))
        self.up = nn.ModuleList(Up(inputs, outputs, features) for inputs, outputs in pairwise(widths[::-1]))
        self.head = zeroed(nn.Conv2d(widths[0], channels, 1))

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        label: Tensor | None = None,
        augmentation: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> Tensor:
        """Return (B, C, H, W) for images (B, C, H, W), times (B,) and what else is known, see `Conditioning`."""
        embedding = self.condition(t, label, augmentation, condition)
        skips = []
        for down in self.down:
            x = down(x, embedding)
            skips.append(x)
        x = skips.pop()
        for up in self.up:
            x = up(x, embedding, skips.pop())
        return self.head(x)  # type: ignore[no-any-return]


class DoubleConvolution(nn.Module):
    """Two 3x3 convolutions, normalised, with the embedding added between them."""

    def __init__(self, inputs: int, outputs: int, features: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(inputs, outputs, 3, padding=1), norm(outputs)
        self.embed = nn.Linear(features, outputs)
        self.conv2, self.norm2 = nn.Conv2d(outputs, outputs, 3, padding=1), norm(outputs)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        x = F.silu(self.norm1(self.conv1(x))) + self.embed(embedding)[:, :, None, None]
        return F.silu(self.norm2(self.conv2(x)))


class Down(nn.Module):
    """A 3x3 convolution, strided to halve the resolution (rounded up), then a double convolution."""

    def __init__(self, inputs: int, outputs: int, features: int, stride: int) -> None:
        super().__init__()
        self.shrink = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)
        self.convolve = DoubleConvolution(outputs, outputs, features)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return self.convolve(self.shrink(x), embedding)  # type: ignore[no-any-return]


class Up(nn.Module):
    """A 3x3 transposed convolution to the size of the skip, odd or even, then a double convolution of both."""

    def __init__(self, inputs: int, outputs: int, features: int) -> None:
        super().__init__()
        self.grow = nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1)
        self.convolve = DoubleConvolution(2 * outputs, outputs, features)

    def forward(self, x: Tensor, embedding: Tensor, skip: Tensor) -> Tensor:
        x = self.grow(x, output_size=skip.shape[-2:])
        return self.convolve(torch.cat([x, skip], dim=1), embedding)  # type: ignore[no-any-return]
