"""DDPM's U-Net with the layers and the names of diffusers' `UNet2DModel`, whose weights it takes as they are.

The official checkpoints of DDPM and DDIM have the same layers under other names (`ddim.interop.official`).
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddim.errors import UserError
from ddim.nets.blocks import check_sizes, zeroed
from ddim.nets.registry import register
from ddim.nets.unet2d_layers import (
    Attention,
    Doubling,
    Down,
    Halving,
    Middle,
    Residual,
    ResidualDoubling,
    ResidualHalving,
    TimeEmbedding,
    Up,
    group_norm,
)


@register("unet2d")
class UNet2D(nn.Module):
    """DDPM's U-Net as diffusers' UNet2DModel has it, for models that come from there or go there.

    Args:
        channels: number of channels of the image.
        widths: channels of each stage. The resolution is halved between two stages.
        blocks: residual blocks per stage on the way down; on the way up there is one more.
        attention, up_attention: the stages (0 is the full resolution) with attention after each block, on the way down
            and on the way up; None is the same on both.
        middle_blocks, middle_attention: residual blocks at the bottom, 0 to 2, and whether there is attention after the
            first.
        head_channels, heads: channels of an attention head; None is so many heads of equally many channels.
        groups, eps: number of groups of every group norm, and what it adds to the variance.
        middle_groups: groups of the norm of the bottom's attention; None is `groups`, 0 is no norm.
        padding: 1, or 0 for DDPM's halving, which pads the right and the lower side alone.
        residual_resampling: whether residual blocks halve and double the resolution, in place of convolutions.
        scale_shift: whether the embedding scales and shifts the channels of each residual block, or is added to them.
        dropout: probability, in [0, 1), inside each residual block.
        centre: whether x becomes 2 x - 1 first.
        cos_first, frequency_shift: the order of the time's cos and sin, and what is taken from the number of
            frequencies in the exponent of the frequencies.
        time_scale: what the time is multiplied by first.
        features: size of the time's embedding; None is 4 `widths[0]`.
        classes: number of classes, or None. The label -1, and None, add no embedding.
    """

    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": {"widths": (32, 64), "blocks": 1, "attention": (1,)},
        "small": {"widths": (64, 128, 128), "blocks": 2, "attention": (2,)},
        # the released CIFAR-10 network of DDPM, 35,746,307 parameters
        "cifar10": {
            **{"widths": (128, 256, 256, 256), "blocks": 2, "attention": (1,), "dropout": 0.1},
            **{"eps": 1e-6, "padding": 0, "cos_first": False, "frequency_shift": 1},
        },
    }

    def __init__(
        self,
        channels: int,
        *,
        widths: Sequence[int],
        blocks: int = 2,
        attention: Sequence[int] = (),
        up_attention: Sequence[int] | None = None,
        middle_blocks: int = 2,
        middle_attention: bool = True,
        head_channels: int | None = None,
        heads: int = 1,
        groups: int = 32,
        middle_groups: int | None = None,
        eps: float = 1e-5,
        padding: int = 1,
        residual_resampling: bool = False,
        scale_shift: bool = False,
        dropout: float = 0.0,
        centre: bool = False,
        cos_first: bool = True,
        frequency_shift: float = 0.0,
        time_scale: float = 1.0,
        features: int | None = None,
        classes: int | None = None,
    ) -> None:
        super().__init__()
        check_sizes(widths, blocks)
        width, last = widths[0], len(widths) - 1
        up_attention = attention if up_attention is None else up_attention
        features = 4 * width if features is None else features
        if padding not in (0, 1) or frequency_shift >= width // 2 or not 1 <= features <= 65_536:
            raise UserError(
                "The padding of a unet2d is 0 or 1, the frequency shift below half of its first width, and the "
                f"features are from 1 to 65,536; got {padding!r}, {frequency_shift!r} and {features!r}."
            )
        if middle_blocks not in (0, 1, 2) or (middle_attention and not middle_blocks) or not heads >= 1:
            raise UserError(
                "A unet2d has 0 to 2 middle_blocks, no middle_attention without one, and at least 1 of heads; got "
                f"{middle_blocks!r}, {middle_attention!r} and {heads!r}."
            )
        self.centre, self.cos_first, self.frequency_shift, self.width = centre, cos_first, frequency_shift, width
        self.time_scale = time_scale
        self.time_embedding = TimeEmbedding(width, features)
        self.class_embedding = nn.Embedding(classes, features) if classes else None
        self.conv_in = nn.Conv2d(channels, width, 3, padding=1)

        def block(inputs: int, outputs: int, kind: type[Residual] = Residual) -> Residual:
            return kind(inputs, outputs, features, groups, eps, dropout, scale_shift)

        def attentive(channels: int, groups: int) -> Attention:
            return Attention(channels, head_channels, heads, groups, eps)

        def halving(channels: int) -> nn.Module:
            return block(channels, channels, ResidualHalving) if residual_resampling else Halving(channels, padding)

        def doubling(channels: int) -> nn.Module:
            return block(channels, channels, ResidualDoubling) if residual_resampling else Doubling(channels)

        skips, current = [width], width  # channels of each skip connection, and of the current activation
        self.down_blocks = nn.ModuleList()
        for i, outputs in enumerate(widths):
            resnets = [block(n, outputs) for n in [current] + [outputs] * (blocks - 1)]
            attentions = [attentive(outputs, groups) for _ in resnets] if i in attention else []
            self.down_blocks.append(Down(resnets, attentions, halving(outputs) if i < last else None))
            skips += [outputs] * (blocks + (i < last))
            current = outputs

        bottom = groups if middle_groups is None else middle_groups
        attentions = [attentive(current, bottom)] if middle_attention else []
        self.mid_block = Middle([block(current, current) for _ in range(middle_blocks)], attentions)

        self.up_blocks = nn.ModuleList()
        for i, outputs in reversed(list(enumerate(widths))):
            resnets = [block(n + skips.pop(), outputs) for n in [current] + [outputs] * blocks]
            attentions = [attentive(outputs, groups) for _ in resnets] if i in up_attention else []
            self.up_blocks.append(Up(resnets, attentions, doubling(outputs) if i > 0 else None))
            current = outputs

        self.conv_norm_out = group_norm(groups, current, eps)
        self.conv_out = zeroed(nn.Conv2d(current, channels, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """Return (B, C, H, W) for images (B, C, H, W), times (B,) and labels (B,) or None."""
        angles = sinusoid(self.time_scale * t, self.width, self.cos_first, self.frequency_shift)
        embedding = self.time_embedding(angles.to(self.conv_in.weight.dtype))
        if self.class_embedding is not None and label is not None:
            table = F.pad(self.class_embedding.weight, (0, 0, 1, 0))  # OpenVINO 2026.4 can crash if labels are masked
            embedding = embedding + F.embedding(label + 1, table)
        embedding = F.silu(embedding)
        x = self.conv_in(2 * x - 1 if self.centre else x)
        skips = [x]
        for down in self.down_blocks:
            x = down(x, embedding, skips)
        x = self.mid_block(x, embedding)
        for up in self.up_blocks:
            x = up(x, embedding, skips)
        return self.conv_out(F.silu(self.conv_norm_out(x)))  # type: ignore[no-any-return]


def sinusoid(t: Tensor, width: int, cos_first: bool, shift: float) -> Tensor:
    """Return sin and cos of t at `width` / 2 frequencies 10000^(-k / (width / 2 - shift)), (B, `width`) float32."""
    half = width // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=t.device) / (half - shift))
    angles = t.float()[:, None] * frequencies
    parts = [angles.cos(), angles.sin()] if cos_first else [angles.sin(), angles.cos()]
    return torch.cat(parts, dim=1)
