"""The default network: the residual U-Net of DDPM (arXiv 2006.11239, appendix B), for any image size."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddim.nets.blocks import Attention, Conditioning, ResidualBlock, check_fold, check_sizes, norm, zeroed
from ddim.nets.registry import register


@register("unet")
class UNet(nn.Module):
    """Residual blocks down and up, attention at some resolutions, and skips by concatenation.

    Args:
        channels: number of channels of the image.
        width: channels of the first stage; stage i has `width` x `multipliers[i]`.
        multipliers: one for each stage. The resolution is halved between two stages, rounded up.
        blocks: residual blocks per stage on the way down; on the way up there is one more.
        attention: the stages (0 is the full resolution) whose blocks are followed by attention.
        dropout: probability, in [0, 1), inside each residual block.
        fold: squares of `fold` x `fold` pixels become channels before the first convolution and pixels again after the
            last one, so the stages start at a lower resolution. The sides of an image are padded to a multiple of it.
        groups: at most this many groups in a group norm. With 1, activations are stored channels last, in which a
            CPU convolves faster but normalises several groups slowly.
        scale_shift: whether the embedding scales and shifts the channels of each residual block, or is added to them.
        classes: number of classes, or None for a network without labels.
        augmentation: length of the vector that describes an image's augmentation; 0 is a network without one.
        conditions: length of the vector that describes an image; 0 is a network without one.

    Raises:
        UserError: widths, blocks, a fold or groups that are not whole numbers or out of range.
    """

    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": {"width": 32, "multipliers": (1, 2), "blocks": 1, "attention": (1,), "dropout": 0.0},
        "micro": {"width": 24, "multipliers": (1, 2, 4), "blocks": 1, "attention": (2,), "dropout": 0.0},
        "folded": {
            **{"width": 64, "multipliers": (1, 2), "blocks": 1, "attention": (), "dropout": 0.0},
            **{"fold": 2, "groups": 1, "scale_shift": True},
        },
        "mini": {"width": 32, "multipliers": (1, 2, 4), "blocks": 1, "attention": (2,), "dropout": 0.0},
        # DDPM's CIFAR-10 network, and the same at three eighths of its width: 35,746,307 and 5,041,347 parameters
        "small": {"width": 48, "multipliers": (1, 2, 2, 2), "blocks": 2, "attention": (1,), "dropout": 0.1},
        "base": {"width": 128, "multipliers": (1, 2, 2, 2), "blocks": 2, "attention": (1,), "dropout": 0.1},
    }

    def __init__(
        self,
        channels: int,
        *,
        width: int,
        multipliers: Sequence[int],
        blocks: int,
        attention: Sequence[int],
        dropout: float = 0.0,
        fold: int = 1,
        groups: int = 32,
        scale_shift: bool = False,
        classes: int | None = None,
        augmentation: int = 0,
        conditions: int = 0,
    ) -> None:
        super().__init__()
        widths = [width * multiplier for multiplier in multipliers]
        check_sizes([width, *widths] if widths else [], blocks)
        check_fold(fold, groups)
        self.fold, self.channels_last = fold, groups == 1
        self.condition = Conditioning(width, classes, augmentation, conditions)
        options = (self.condition.features, dropout, groups, scale_shift)
        self.stem = nn.Conv2d(channels * fold**2, width, 3, padding=1)

        last = len(widths) - 1
        skips, current = [width], width  # channels of each skip connection, and of the current activation
        self.down = nn.ModuleList()
        for i, outputs in enumerate(widths):
            inputs = [current] + [outputs] * (blocks - 1)
            stage = [Block(n, outputs, *options, i in attention) for n in inputs]
            self.down.append(Down(stage, nn.Conv2d(outputs, outputs, 3, stride=2, padding=1) if i < last else None))
            skips += [outputs] * (blocks + (i < last))
            current = outputs

        self.middle = Middle(current, *options)

        self.up = nn.ModuleList()
        for i, outputs in reversed(list(enumerate(widths))):
            inputs = [current] + [outputs] * blocks
            stage = [Block(n + skips.pop(), outputs, *options, i in attention) for n in inputs]
            self.up.append(Up(stage, nn.Conv2d(outputs, outputs, 3, padding=1) if i > 0 else None))
            current = outputs

        output = zeroed(nn.Conv2d(current, channels * fold**2, 3, padding=1))
        self.head = nn.Sequential(norm(current, groups), nn.SiLU(), output)

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
        height, width = x.shape[-2:]
        if self.fold > 1:
            x = F.pixel_unshuffle(F.pad(x, (0, -width % self.fold, 0, -height % self.fold)), self.fold)
        x = self.stem(x.contiguous(memory_format=torch.channels_last) if self.channels_last else x)
        skips = [x]
        for down in self.down:
            x = down(x, embedding, skips)
        x = self.middle(x, embedding)
        for up in self.up:
            x = up(x, embedding, skips)
        x = self.head(x)
        return F.pixel_shuffle(x, self.fold)[..., :height, :width] if self.fold > 1 else x


class Block(nn.Module):
    """A residual block, then attention if `attend`."""

    def __init__(
        self, inputs: int, outputs: int, features: int, dropout: float, groups: int, scale_shift: bool, attend: bool
    ) -> None:
        super().__init__()
        self.residual = ResidualBlock(inputs, outputs, features, dropout, groups, scale_shift)
        self.attention = Attention(outputs, groups) if attend else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return self.attention(self.residual(x, embedding))  # type: ignore[no-any-return]


class Down(nn.Module):
    """One stage on the way down; every activation is appended to `skips`, for the same stage on the way up."""

    def __init__(self, blocks: Sequence[nn.Module], shrink: nn.Module | None) -> None:
        super().__init__()
        self.blocks, self.shrink = nn.ModuleList(blocks), shrink

    def forward(self, x: Tensor, embedding: Tensor, skips: list[Tensor]) -> Tensor:
        for block in self.blocks:
            x = block(x, embedding)
            skips.append(x)
        if self.shrink is not None:
            x = self.shrink(x)
            skips.append(x)
        return x


class Middle(nn.Module):
    """The bottom of the U: block, attention, block."""

    def __init__(self, channels: int, features: int, dropout: float, groups: int, scale_shift: bool) -> None:
        super().__init__()
        self.first = Block(channels, channels, features, dropout, groups, scale_shift, attend=True)
        self.second = ResidualBlock(channels, channels, features, dropout, groups, scale_shift)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return self.second(self.first(x, embedding), embedding)  # type: ignore[no-any-return]


class Up(nn.Module):
    """One stage on the way up, from the end of `skips`; upsampled to the next skip's size, odd or even."""

    def __init__(self, blocks: Sequence[nn.Module], grow: nn.Module | None) -> None:
        super().__init__()
        self.blocks, self.grow = nn.ModuleList(blocks), grow

    def forward(self, x: Tensor, embedding: Tensor, skips: list[Tensor]) -> Tensor:
        for block in self.blocks:
            x = block(torch.cat([x, skips.pop()], dim=1), embedding)
        if self.grow is not None:
            x = self.grow(F.interpolate(x, size=skips[-1].shape[-2:], mode="nearest"))
        return x
