"""Networks of other kinds for networks.py: a transformer on patches, and a U-Net that preserves magnitudes."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddim import nets
from ddim.nets.blocks import Conditioning


@nets.register("transformer")
class Transformer(nn.Module):
    """A vision transformer on patches of `fold` x `fold` pixels with adaLN-zero (DiT, arXiv 2212.09748).

    The modulations come from one layer for all blocks, plus a bias for each block (PixArt-alpha, arXiv 2310.00426).
    """

    sizes: ClassVar[dict[str, dict[str, Any]]] = {
        "transformer, patches of 2": {"fold": 2, "width": 128, "depth": 6, "side": 28},
        "transformer, patches of 4": {"fold": 4, "width": 256, "depth": 6, "side": 28},
    }

    def __init__(
        self, channels: int, *, fold: int, width: int, depth: int, side: int, classes: int | None = None
    ) -> None:
        super().__init__()
        self.fold, self.heads = fold, width // 64
        tokens = (side // fold) ** 2
        self.embed = nn.Linear(channels * fold**2, width)
        self.position = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.condition = Conditioning(width, classes)
        self.modulate = nn.Linear(4 * width, 6 * width)
        self.shifts = nn.Parameter(torch.zeros(depth, 6 * width))
        self.qkv = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(depth))
        self.out = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.mlp = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))
            for _ in range(depth)
        )
        self.head = nn.Linear(width, channels * fold**2)
        for layer in (self.modulate, self.head):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        patches = F.pixel_unshuffle(x, self.fold)
        size = patches.shape[-2:]
        h = self.embed(patches.flatten(2).transpose(1, 2)) + self.position
        modulation = self.modulate(self.condition(t, label))[:, None]
        for i, (qkv, out, mlp) in enumerate(zip(self.qkv, self.out, self.mlp, strict=True)):
            s1, b1, g1, s2, b2, g2 = (modulation + self.shifts[i]).chunk(6, dim=-1)
            y = F.layer_norm(h, h.shape[-1:]) * (1 + s1) + b1
            q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in qkv(y).chunk(3, dim=-1))
            h = h + g1 * out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
            h = h + g2 * mlp(F.layer_norm(h, h.shape[-1:]) * (1 + s2) + b2)
        pixels = self.head(F.layer_norm(h, h.shape[-1:])).transpose(1, 2).unflatten(-1, size)
        return F.pixel_shuffle(pixels, self.fold)


class Convolution(nn.Module):
    """A convolution, or a linear layer, whose filters have norm 1 (EDM2, arXiv 2312.02696, equation 47)."""

    def __init__(self, inputs: int, outputs: int, *kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, *kernel))

    def forward(self, x: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        weight = self.weight.flatten(1)
        weight = (F.normalize(weight, dim=1) * gain).reshape(self.weight.shape).to(x.dtype)
        return F.linear(x, weight) if weight.ndim == 2 else F.conv2d(x, weight, padding=weight.shape[-1] // 2)


def silu(x: Tensor) -> Tensor:
    """Return SiLU, scaled to preserve the magnitude (equation 81)."""
    return F.silu(x) / 0.596


def blend(a: Tensor, b: Tensor, share: float = 0.3) -> Tensor:
    """Return the sum of two terms, scaled to preserve the magnitude (equation 88)."""
    return torch.lerp(a, b, share) / (share**2 + (1 - share) ** 2) ** 0.5


class MagnitudeBlock(nn.Module):
    """A residual block without group norms; on the way down the main path is normalised at each pixel."""

    def __init__(self, inputs: int, outputs: int, features: int, down: bool) -> None:
        super().__init__()
        self.down = down
        self.shortcut = Convolution(inputs, outputs, 1, 1) if inputs != outputs else None
        self.conv1 = Convolution(outputs if down else inputs, outputs, 3, 3)
        self.conv2 = Convolution(outputs, outputs, 3, 3)
        self.embed, self.gain = Convolution(features, outputs), nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        path = self.shortcut(x) if self.shortcut is not None else x
        if self.down:
            path = path * torch.rsqrt(path.square().mean(dim=1, keepdim=True) + 1e-4)
        h = self.conv1(silu(path if self.down else x))
        h = silu(h * (1 + self.embed(embedding, self.gain))[:, :, None, None])
        return blend(path, self.conv2(h))


@nets.register("magnitude-preserving")
class MagnitudeUNet(nn.Module):
    """The size `folded` of ddim's U-Net with the blocks of EDM2 (arXiv 2312.02696, appendix B)."""

    sizes: ClassVar[dict[str, dict[str, Any]]] = {"EDM2 blocks": {"width": 64}}

    def __init__(self, channels: int, *, width: int, classes: int | None = None) -> None:
        super().__init__()
        first, second = width, 2 * width
        self.condition = Conditioning(width, classes)
        features = self.condition.features
        self.stem = Convolution(4 * channels + 1, first, 3, 3)  # and a channel of ones
        self.down = nn.ModuleList(
            [MagnitudeBlock(*sizes, features, True) for sizes in ((first, first), (first, second))]
        )
        self.middle = nn.ModuleList([MagnitudeBlock(second, second, features, down) for down in (True, False)])
        up = ((2 * second, second), (second + first, second), (second + first, first), (2 * first, first))
        self.up = nn.ModuleList([MagnitudeBlock(*sizes, features, False) for sizes in up])
        self.head, self.gain = Convolution(first, 4 * channels, 3, 3), nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        embedding = self.condition(t, label)
        x = F.pixel_unshuffle(x, 2)
        x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1).contiguous(memory_format=torch.channels_last)
        skips = [self.stem(x)]
        skips.append(self.down[0](skips[-1], embedding))
        skips.append(F.avg_pool2d(skips[-1], 2))
        skips.append(self.down[1](skips[-1], embedding))
        x = skips[-1]
        for block in self.middle:
            x = block(x, embedding)
        for i, block in enumerate(self.up):
            if i == 2:
                x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = block(torch.cat([x, skips.pop()], dim=1), embedding)
        return F.pixel_shuffle(self.head(x, self.gain), 2)
