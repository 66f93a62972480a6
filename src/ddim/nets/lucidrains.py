"""The U-Net of denoising-diffusion-pytorch (github.com/lucidrains), with its layers and its names of the weights."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddim.errors import UserError
from ddim.nets.blocks import attention, check_sizes, zeroed
from ddim.nets.registry import register

MEMORY = 4  # learned keys and values of each attention


@register("lucidrains")
class LucidrainsUNet(nn.Module):
    """The Unet of denoising-diffusion-pytorch, with linear attention, for models that come from there.

    Args:
        channels: number of channels of the image.
        width: its `dim`; the time has `width` sines and cosines.
        widths: channels after each stage, its `dim` times `dim_mults`. The resolution is halved between two stages;
            the sides of an image are padded with zeros where they cannot be halved.
        first: channels of the first convolution, its `init_dim`; None is `width`.
        full_attention: the stages with full attention; None is the last. The others have linear attention.
        heads, head_channels: of the attention of each stage; the bottom has those of the last.
        dropout: probability, in [0, 1), inside each residual block.
        theta: the time's longest period over 2 pi, its `sinusoidal_pos_emb_theta`.
        classes: number of classes, or None; the library itself has none.
    """

    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        "tiny": {"width": 16, "widths": (16, 32)},
        "small": {"width": 32, "widths": (32, 64, 128)},
        "base": {"width": 64, "widths": (64, 128, 256, 512)},
    }

    def __init__(
        self,
        channels: int,
        *,
        width: int,
        widths: Sequence[int],
        first: int | None = None,
        full_attention: Sequence[int] | None = None,
        heads: Sequence[int] | int = 4,
        head_channels: Sequence[int] | int = 32,
        dropout: float = 0.0,
        theta: float = 10_000.0,
        classes: int | None = None,
    ) -> None:
        super().__init__()
        dims = [width if first is None else first, *widths]
        check_sizes([width, *dims] if widths else [])
        stages = len(widths)
        full = (stages - 1,) if full_attention is None else full_attention
        sizes = [heads] * stages if isinstance(heads, int) else heads
        depths = [head_channels] * stages if isinstance(head_channels, int) else head_channels
        if len(sizes) != stages or len(depths) != stages or min(*sizes, *depths) < 1:
            raise UserError(
                f"The heads and the channels of a head must be numbers above 0, one or {stages} of each; got "
                f"{heads!r:.60} and {head_channels!r:.60}."
            )
        self.width, self.theta, self.factor = width, theta, 2 ** (stages - 1)
        features = 4 * width
        self.time_mlp = nn.Sequential(
            nn.Identity(), nn.Linear(width, features), nn.GELU(), nn.Linear(features, features)
        )
        self.label = nn.Embedding(classes + 1, features) if classes else None  # row 0 is the null class
        self.init_conv = nn.Conv2d(channels, dims[0], 7, padding=3)

        def stage(inputs: int, outputs: int, i: int, last: nn.Module) -> nn.ModuleList:
            kind = FullAttention if i in full else LinearAttention
            blocks = [Residual(inputs, outputs, features, dropout) for _ in range(2)]
            return nn.ModuleList([*blocks, kind(outputs, sizes[i], depths[i]), last])

        self.downs: Any = nn.ModuleList()
        self.ups: Any = nn.ModuleList()
        for i in range(stages):
            before, after = dims[i], dims[i + 1]
            halve = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * before, after, 1))
            last = i == stages - 1
            self.downs.append(stage(before, before, i, nn.Conv2d(before, after, 3, padding=1) if last else halve))
        bottom = dims[-1]
        self.mid_block1 = Residual(bottom, bottom, features, dropout)
        self.mid_attn = FullAttention(bottom, sizes[-1], depths[-1])
        self.mid_block2 = Residual(bottom, bottom, features, dropout)
        for i in reversed(range(stages)):
            before, after = dims[i], dims[i + 1]
            convolution = nn.Conv2d(after, before, 3, padding=1)
            double = nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), convolution)
            self.ups.append(stage(after + before, after, i, double if i > 0 else convolution))
        self.final_res_block = Residual(2 * dims[0], dims[0], features, dropout)
        self.final_conv = zeroed(nn.Conv2d(dims[0], channels, 1))

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """Return (B, C, H, W) for images (B, C, H, W), times (B,) and labels (B,) or None."""
        half = self.width // 2
        frequencies = torch.exp(torch.arange(half, device=t.device) * -(math.log(self.theta) / max(half - 1, 1)))
        angles = t.float()[:, None] * frequencies
        embedding = self.time_mlp(torch.cat([angles.sin(), angles.cos()], dim=1).to(self.init_conv.weight.dtype))
        if self.label is not None:
            label = t.new_full(t.shape, -1, dtype=torch.long) if label is None else label
            embedding = embedding + self.label(label + 1)
        embedding = F.silu(embedding)
        height, width = x.shape[-2:]
        x = self.init_conv(F.pad(x, (0, -width % self.factor, 0, -height % self.factor)))
        stem, skips = x, []
        for one, two, attend, shrink in self.downs:
            x = one(x, embedding)
            skips.append(x)
            x = attend(two(x, embedding))
            skips.append(x)
            x = shrink(x)
        x = self.mid_block2(self.mid_attn(self.mid_block1(x, embedding)), embedding)
        for one, two, attend, grow in self.ups:
            x = one(torch.cat([x, skips.pop()], dim=1), embedding)
            x = attend(two(torch.cat([x, skips.pop()], dim=1), embedding))
            x = grow(x)
        x = self.final_conv(self.final_res_block(torch.cat([x, stem], dim=1), embedding))
        return x[..., :height, :width]


class RMSNorm(nn.Module):
    """Scale the channels of each pixel to a root mean square of 1, then each channel by its weight."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale, self.g = channels**0.5, nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=1) * self.g * self.scale  # type: ignore[no-any-return]


class Convolution(nn.Module):
    """A 3x3 convolution, a norm, and a scale and a shift where they are given, then SiLU."""

    def __init__(self, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.proj, self.norm = nn.Conv2d(inputs, outputs, 3, padding=1), RMSNorm(outputs)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        x = self.norm(self.proj(x))
        if scale is not None and shift is not None:
            x = x * (scale[:, :, None, None] + 1) + shift[:, :, None, None]
        return self.dropout(F.silu(x))  # type: ignore[no-any-return]


class Residual(nn.Module):
    """Two convolutions, of which the embedding scales and shifts the first, and a shortcut."""

    def __init__(self, inputs: int, outputs: int, features: int, dropout: float) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Identity(), nn.Linear(features, 2 * outputs))
        self.block1, self.block2 = Convolution(inputs, outputs, dropout), Convolution(outputs, outputs, 0.0)
        self.res_conv = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.mlp(embedding).chunk(2, dim=1)
        return self.block2(self.block1(x, scale, shift)) + self.res_conv(x)  # type: ignore[no-any-return]


class LinearAttention(nn.Module):
    """Attention over the pixels that is linear in their number (arXiv 1812.01243), with a shortcut."""

    def __init__(self, channels: int, heads: int, size: int) -> None:
        super().__init__()
        self.heads, self.size = heads, size
        self.norm = RMSNorm(channels)
        self.mem_kv = nn.Parameter(torch.randn(2, heads, size, MEMORY))
        self.to_qkv = nn.Conv2d(channels, 3 * heads * size, 1, bias=False)
        self.to_out = nn.Sequential(nn.Conv2d(heads * size, channels, 1), RMSNorm(channels))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (one.flatten(2).unflatten(1, (self.heads, -1)) for one in self.to_qkv(self.norm(x)).chunk(3, dim=1))
        mk, mv = (one.expand(x.shape[0], -1, -1, -1) for one in self.mem_kv)  # (B, heads, size, pixels) each
        k, v = torch.cat([mk, k], dim=-1), torch.cat([mv, v], dim=-1)
        context = k.softmax(dim=-1) @ v.transpose(-2, -1)
        h = context.transpose(-2, -1) @ (q.softmax(dim=-2) * self.size**-0.5)
        return x + self.to_out(h.reshape(x.shape[0], -1, *x.shape[-2:]))  # type: ignore[no-any-return]


class FullAttention(nn.Module):
    """Attention over the pixels and some learned keys and values, with a shortcut."""

    def __init__(self, channels: int, heads: int, size: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = RMSNorm(channels)
        self.mem_kv = nn.Parameter(torch.randn(2, heads, MEMORY, size))
        self.to_qkv = nn.Conv2d(channels, 3 * heads * size, 1, bias=False)
        self.to_out = nn.Conv2d(heads * size, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.to_qkv(self.norm(x)).chunk(3, dim=1)
        q, k, v = (one.flatten(2).unflatten(1, (self.heads, -1)).transpose(-2, -1) for one in parts)
        mk, mv = (one.expand(x.shape[0], -1, -1, -1) for one in self.mem_kv)
        h = attention(q, torch.cat([mk, k], dim=-2), torch.cat([mv, v], dim=-2))
        return x + self.to_out(h.transpose(-2, -1).reshape(x.shape[0], -1, *x.shape[-2:]))  # type: ignore[no-any-return]
