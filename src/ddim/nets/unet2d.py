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
from ddim.nets.blocks import attention, check_sizes, zeroed
from ddim.nets.registry import register


@register("unet2d")
class UNet2D(nn.Module):
    """DDPM's U-Net as diffusers' UNet2DModel has it, for models that come from there or go there.

    Args:
        channels: number of channels of the image.
        widths: channels of each stage. The resolution is halved between two stages.
        blocks: residual blocks per stage on the way down; on the way up there is one more.
        attention, up_attention: the stages (0 is the full resolution) with attention after each block, on the way down
            and on the way up; None is the same on both.
        middle_attention: whether there is attention between the two blocks at the bottom.
        head_channels: channels of an attention head; None is one head of all channels.
        groups, eps: number of groups of every group norm, and what it adds to the variance.
        middle_groups: groups of the norm of the bottom's attention; None is `groups`, 0 is no norm.
        padding: 1, or 0 for DDPM's halving, which pads the right and the lower side alone.
        scale_shift: whether the embedding scales and shifts the channels of each residual block, or is added to them.
        dropout: probability, in [0, 1), inside each residual block.
        centre: whether x becomes 2 x - 1 first.
        cos_first, frequency_shift: the order of the time's cos and sin, and what is taken from the number of
            frequencies in the exponent of the frequencies.
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
        middle_attention: bool = True,
        head_channels: int | None = None,
        groups: int = 32,
        middle_groups: int | None = None,
        eps: float = 1e-5,
        padding: int = 1,
        scale_shift: bool = False,
        dropout: float = 0.0,
        centre: bool = False,
        cos_first: bool = True,
        frequency_shift: float = 0.0,
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
        self.centre, self.cos_first, self.frequency_shift, self.width = centre, cos_first, frequency_shift, width
        self.time_embedding = TimeEmbedding(width, features)
        self.class_embedding = nn.Embedding(classes, features) if classes else None
        self.conv_in = nn.Conv2d(channels, width, 3, padding=1)

        def block(inputs: int, outputs: int) -> Residual:
            return Residual(inputs, outputs, features, groups, eps, dropout, scale_shift)

        skips, current = [width], width  # channels of each skip connection, and of the current activation
        self.down_blocks = nn.ModuleList()
        for i, outputs in enumerate(widths):
            resnets = [block(n, outputs) for n in [current] + [outputs] * (blocks - 1)]
            attentions = [Attention(outputs, head_channels, groups, eps) for _ in resnets] if i in attention else []
            self.down_blocks.append(Down(resnets, attentions, Halving(outputs, padding) if i < last else None))
            skips += [outputs] * (blocks + (i < last))
            current = outputs

        bottom = groups if middle_groups is None else middle_groups
        attentions = [Attention(current, head_channels, bottom, eps)] if middle_attention else []
        self.mid_block = Middle([block(current, current), block(current, current)], attentions)

        self.up_blocks = nn.ModuleList()
        for i, outputs in reversed(list(enumerate(widths))):
            resnets = [block(n + skips.pop(), outputs) for n in [current] + [outputs] * blocks]
            attentions = [Attention(outputs, head_channels, groups, eps) for _ in resnets] if i in up_attention else []
            self.up_blocks.append(Up(resnets, attentions, Doubling(outputs) if i > 0 else None))
            current = outputs

        self.conv_norm_out = group_norm(groups, current, eps)
        self.conv_out = zeroed(nn.Conv2d(current, channels, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """Return (B, C, H, W) for images (B, C, H, W), times (B,) and labels (B,) or None."""
        angles = sinusoid(t, self.width, self.cos_first, self.frequency_shift)
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


def group_norm(groups: int, channels: int, eps: float) -> nn.GroupNorm:
    """Return a group norm. Raises `UserError` if the groups do not divide the channels."""
    if not isinstance(groups, int) or groups < 1 or channels % groups:
        raise UserError(
            f"The groups of a unet2d must divide the channels of each of its norms; {groups!r:.40} does not divide "
            f"{channels:,}."
        )
    return nn.GroupNorm(groups, channels, eps)


class TimeEmbedding(nn.Module):
    """Two linear layers with a SiLU between them."""

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(width, features), nn.Linear(features, features)

    def forward(self, angles: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(angles)))  # type: ignore[no-any-return]


class Residual(nn.Module):
    """Two 3x3 convolutions with the embedding added, or applied, between them, and a shortcut."""

    def __init__(
        self, inputs: int, outputs: int, features: int, groups: int, eps: float, dropout: float, scale_shift: bool
    ) -> None:
        super().__init__()
        self.scale_shift = scale_shift
        self.norm1, self.conv1 = group_norm(groups, inputs, eps), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.time_emb_proj = nn.Linear(features, 2 * outputs if scale_shift else outputs)
        self.norm2, self.conv2 = group_norm(groups, outputs, eps), zeroed(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.dropout = nn.Dropout(dropout)
        self.conv_shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h, y = self.conv1(F.silu(self.norm1(x))), self.time_emb_proj(embedding)
        if self.scale_shift:
            scale, shift = y.chunk(2, dim=1)
            h = self.norm2(h) * (1 + scale[:, :, None, None]) + shift[:, :, None, None]
        else:
            h = self.norm2(h + y[:, :, None, None])
        return self.conv_shortcut(x) + self.conv2(self.dropout(F.silu(h)))  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Self-attention over the pixels, with a shortcut; `groups` of 0 is without a norm."""

    def __init__(self, channels: int, head_channels: int | None, groups: int, eps: float) -> None:
        super().__init__()
        size = channels if head_channels is None else head_channels
        if not isinstance(size, int) or size < 1 or channels % size:
            raise UserError(
                f"The channels of an attention head must divide those of its stage; {size!r:.40} does not divide "
                f"{channels:,}."
            )
        self.heads = channels // size
        self.group_norm = group_norm(groups, channels, eps) if groups else nn.Identity()
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        out = nn.Linear(channels, channels)
        nn.init.zeros_(out.weight)
        nn.init.zeros_(out.bias)
        self.to_out = nn.ModuleList([out])

    def forward(self, x: Tensor) -> Tensor:
        h = self.group_norm(x).flatten(2).transpose(1, 2)  # (B, H W, C)
        q, k, v = (to(h).unflatten(-1, (self.heads, -1)).transpose(1, 2) for to in (self.to_q, self.to_k, self.to_v))
        h = self.to_out[0](attention(q, k, v).transpose(1, 2).flatten(2))
        return x + h.transpose(1, 2).reshape(x.shape)  # type: ignore[no-any-return]


class Halving(nn.Module):
    """A 3x3 convolution of stride 2, padded on all sides, or with `padding` 0 on the right and the lower one alone."""

    def __init__(self, channels: int, padding: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=padding)
        self.pads = (0, 1, 0, 1) if padding == 0 else None

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x if self.pads is None else F.pad(x, self.pads))  # type: ignore[no-any-return]


class Doubling(nn.Module):
    """Each pixel becomes the pixels of a given size that lie over it, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        return self.conv(F.interpolate(x, size=size, mode="nearest"))  # type: ignore[no-any-return]


class Stage(nn.Module):
    """Residual blocks, each followed by attention if the stage has it."""

    def __init__(self, resnets: Sequence[nn.Module], attentions: Sequence[nn.Module]) -> None:
        super().__init__()
        self.resnets, self.attentions = nn.ModuleList(resnets), nn.ModuleList(attentions)

    def block(self, i: int, x: Tensor, embedding: Tensor) -> Tensor:
        """Return the output of block i."""
        x = self.resnets[i](x, embedding)
        return self.attentions[i](x) if i < len(self.attentions) else x


class Down(Stage):
    """One stage on the way down; every activation is appended to `skips`."""

    def __init__(self, resnets: Sequence[nn.Module], attentions: Sequence[nn.Module], shrink: nn.Module | None) -> None:
        super().__init__(resnets, attentions)
        self.downsamplers = nn.ModuleList([] if shrink is None else [shrink])

    def forward(self, x: Tensor, embedding: Tensor, skips: list[Tensor]) -> Tensor:
        for i in range(len(self.resnets)):
            x = self.block(i, x, embedding)
            skips.append(x)
        for shrink in self.downsamplers:
            x = shrink(x)
            skips.append(x)
        return x


class Middle(Stage):
    """The bottom of the U: block, attention, block."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return self.block(1, self.block(0, x, embedding), embedding)


class Up(Stage):
    """One stage on the way up, from the end of `skips`; upsampled to the next skip's size, odd or even."""

    def __init__(self, resnets: Sequence[nn.Module], attentions: Sequence[nn.Module], grow: nn.Module | None) -> None:
        super().__init__(resnets, attentions)
        self.upsamplers = nn.ModuleList([] if grow is None else [grow])

    def forward(self, x: Tensor, embedding: Tensor, skips: list[Tensor]) -> Tensor:
        for i in range(len(self.resnets)):
            x = self.block(i, torch.cat([x, skips.pop()], dim=1), embedding)
        for grow in self.upsamplers:
            x = grow(x, skips[-1].shape[-2:])
        return x
