"""The layers of `unet2d`, with the names that they have in diffusers."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddim.errors import UserError
from ddim.nets.blocks import attention, zeroed


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
        return self.resampled(x, embedding, lambda h: h)

    def resampled(self, x: Tensor, embedding: Tensor, resample: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the output of the block, with its input and its first activation at another resolution."""
        h, x, y = resample(F.silu(self.norm1(x))), resample(x), self.time_emb_proj(embedding)
        h = self.conv1(h)
        if self.scale_shift:
            scale, shift = y.chunk(2, dim=1)
            h = self.norm2(h) * (1 + scale[:, :, None, None]) + shift[:, :, None, None]
        else:
            h = self.norm2(h + y[:, :, None, None])
        return self.conv_shortcut(x) + self.conv2(self.dropout(F.silu(h)))  # type: ignore[no-any-return]


class ResidualHalving(Residual):
    """A residual block at half of the resolution: each square of 2x2 pixels becomes its mean."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return self.resampled(x, embedding, lambda h: F.avg_pool2d(h, 2))


class ResidualDoubling(Residual):
    """A residual block at a given resolution, about the double."""

    def forward(self, x: Tensor, embedding: Tensor, size: tuple[int, int]) -> Tensor:  # type: ignore[override]
        return self.resampled(x, embedding, lambda h: F.interpolate(h, size=size, mode="nearest"))


class Attention(nn.Module):
    """Self-attention over the pixels, with a shortcut; `groups` of 0 is without a norm."""

    def __init__(self, channels: int, head_channels: int | None, heads: int, groups: int, eps: float) -> None:
        super().__init__()
        size = channels // heads if head_channels is None else head_channels
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

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return self.conv(x if self.pads is None else F.pad(x, self.pads))  # type: ignore[no-any-return]


class Doubling(nn.Module):
    """Each pixel becomes the pixels of a given size that lie over it, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, embedding: Tensor, size: tuple[int, int]) -> Tensor:
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
            x = shrink(x, embedding)
            skips.append(x)
        return x


class Middle(Stage):
    """The bottom of the U: a block, attention, and more blocks."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        for i in range(len(self.resnets)):
            x = self.block(i, x, embedding)
        return x


class Up(Stage):
    """One stage on the way up, from the end of `skips`; upsampled to the next skip's size, odd or even."""

    def __init__(self, resnets: Sequence[nn.Module], attentions: Sequence[nn.Module], grow: nn.Module | None) -> None:
        super().__init__(resnets, attentions)
        self.upsamplers = nn.ModuleList([] if grow is None else [grow])

    def forward(self, x: Tensor, embedding: Tensor, skips: list[Tensor]) -> Tensor:
        for i in range(len(self.resnets)):
            x = self.block(i, torch.cat([x, skips.pop()], dim=1), embedding)
        for grow in self.upsamplers:
            x = grow(x, embedding, skips[-1].shape[-2:])
        return x
