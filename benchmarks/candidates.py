"""Networks for the search of networks.py: one U-Net with the choices that cost or save time on a CPU.

Nothing here is part of ddim. Importing this file registers the network `candidate`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddim import nets
from ddim.nets.blocks import Attention, Conditioning, norm, zeroed


class Lean(nn.Module):
    """One norm with the time as its scale and bias, one activation: x + conv(silu(conv(scale norm(x) + bias)))."""

    def __init__(self, inputs: int, outputs: int, features: int, normalise: Any) -> None:
        super().__init__()
        self.norm, self.embed = normalise(inputs), nn.Linear(features, 2 * inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = zeroed(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.embed(embedding)[:, :, None, None].chunk(2, dim=1)
        return self.conv2(F.silu(self.conv1(torch.addcmul(shift, self.norm(x), 1 + scale)))) + self.shortcut(x)


class Plain(nn.Module):
    """Attention by its formula, which is faster than the fused kernel on few pixels."""

    def __init__(self, channels: int, normalise: Any, heads: int) -> None:
        super().__init__()
        self.norm, self.heads = normalise(channels), heads
        self.qkv, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        h = self.norm(x).permute(0, 2, 3, 1).reshape(B, H * W, C)
        q, k, v = self.qkv(h).view(B, H * W, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-1, -2) * (C / self.heads) ** -0.5).softmax(-1)
        h = self.out((weights.to(v.dtype) @ v).transpose(1, 2).reshape(B, H * W, C))
        return x + h.view(B, H, W, C).permute(0, 3, 1, 2)


class Block(nn.Module):
    """A residual block with the time as a bias ("add") or as a scale and a bias ("scale") of the second norm."""

    def __init__(self, inputs: int, outputs: int, features: int, normalise: Any, embed: str) -> None:
        super().__init__()
        self.norm1, self.conv1 = normalise(inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.embed = nn.Linear(features, outputs * (2 if embed == "scale" else 1))
        self.norm2, self.conv2 = normalise(outputs), zeroed(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        self.scale = embed == "scale"

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        e = self.embed(embedding)[:, :, None, None]
        if self.scale:
            scale, shift = e.chunk(2, dim=1)
            h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        else:
            h = self.norm2(h + e)
        return self.conv2(F.silu(h)) + self.shortcut(x)


@nets.register("candidate")
class Candidate(nn.Module):
    """A U-Net on folded pixels.

    Args:
        channels, classes: see `ddim.nets.register`.
        fold: side of the square of pixels that becomes channels.
        widths: channels of each stage; blocks: residual blocks of each, down; up: the same, up; middle: at the bottom.
        attention: number of attention layers at the bottom.
        norm: "groups", as in `ddim.nets.unet`, or "one" group.
        skips: "cat" or "add".
        embed: "add" or "scale".
        last: whether activations are channels last.
    """

    def __init__(
        self,
        channels: int,
        *,
        fold: int = 2,
        widths: Sequence[int] = (64, 128),
        blocks: Sequence[int] = (2, 2),
        up: Sequence[int] | None = None,
        middle: int = 1,
        attention: int = 1,
        norm: str = "one",
        skips: str = "add",
        embed: str = "scale",
        last: bool = True,
        plain: int = 0,
        classes: int | None = None,
    ) -> None:
        super().__init__()
        self.fold, self.add, self.last = fold, skips == "add", last
        normalise = globals()["norm"] if norm == "groups" else (lambda n: nn.GroupNorm(1, n))
        up = blocks if up is None else up
        self.condition = Conditioning(widths[0], classes)
        features = self.condition.features

        def block(inputs: int, outputs: int) -> nn.Module:
            if embed == "lean":
                return Lean(inputs, outputs, features, normalise)
            return Block(inputs, outputs, features, normalise, embed)

        self.stem = nn.Conv2d(channels * fold**2, widths[0], 3, padding=1)
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        for i, width in enumerate(widths[:-1]):
            self.down.append(nn.ModuleList(block(width, width) for _ in range(blocks[i])))
            self.shrink.append(nn.Conv2d(width, widths[i + 1], 3, stride=2, padding=1))
        bottom = widths[-1]
        self.middle = nn.ModuleList()
        for i in range(blocks[-1] + middle + up[-1]):
            self.middle.append(block(bottom, bottom))
            if abs(i - (blocks[-1] + middle + up[-1]) // 2) < (attention + 1) // 2 and attention:
                self.middle.append(Plain(bottom, normalise, plain) if plain else Attention(bottom))
                attention -= 1
        for layer in self.middle:
            if isinstance(layer, Attention):
                layer.norm = normalise(bottom)
        self.grow, self.up = nn.ModuleList(), nn.ModuleList()
        for i, width in reversed(list(enumerate(widths[:-1]))):
            self.grow.append(nn.Conv2d(widths[i + 1], width, 3 if skips == "cat" else 1, padding=int(skips == "cat")))
            times = 1 if self.add else 2
            self.up.append(nn.ModuleList(block(times * width if j < blocks[i] else width, width) for j in range(up[i])))
        self.head = nn.Sequential(
            normalise(widths[0]), nn.SiLU(), zeroed(nn.Conv2d(widths[0], channels * fold**2, 3, padding=1))
        )

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """Return (B, C, H, W)."""
        embedding = self.condition(t, label)
        if self.fold > 1:
            x = F.pixel_unshuffle(x, self.fold)
        if self.last:
            x = x.contiguous(memory_format=torch.channels_last)
        x = self.stem(x)
        skips = []
        for blocks, shrink in zip(self.down, self.shrink, strict=True):
            for block in blocks:
                x = block(x, embedding)
                skips.append(x)
            x = shrink(x)
        for layer in self.middle:
            x = layer(x) if isinstance(layer, Attention | Plain) else layer(x, embedding)
        for grow, blocks in zip(self.grow, self.up, strict=True):
            x = F.interpolate(grow(x), scale_factor=2.0, mode="nearest")
            for block in blocks:
                if skips and skips[-1].shape[-1] == x.shape[-1]:
                    x = x + skips.pop() if self.add else torch.cat([x, skips.pop()], dim=1)
                x = block(x, embedding)
        x = self.head(x)
        return F.pixel_shuffle(x, self.fold) if self.fold > 1 else x


FOLDED: dict[str, Any] = {
    "width": 64, "multipliers": (1, 2), "blocks": 1, "attention": (), "dropout": 0.0, "fold": 2, "groups": 1,
}
OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "micro": ("unet", nets.sizes("unet")["micro"]),
    "u64": ("unet", FOLDED),
    "u64-groups": ("unet", {**FOLDED, "groups": 32}),
    "u48": ("unet", {**FOLDED, "width": 48}),
    "u64-attention": ("unet", {**FOLDED, "attention": (1,)}),
    "a64": ("candidate", {"widths": (64, 128), "blocks": (2, 1)}),
    "a64-add": ("candidate", {"widths": (64, 128), "blocks": (2, 1), "embed": "add"}),
    "a64-lean": ("candidate", {"widths": (64, 128), "blocks": (2, 1), "embed": "lean", "plain": 4}),
    "a96": ("candidate", {"widths": (96, 192), "blocks": (1, 1)}),
    "f4": ("candidate", {"fold": 4, "widths": (192,), "blocks": (3,)}),
}
PLANS: dict[str, tuple[str, dict[str, Any]]] = {
    "a64, batch of 32": ("a64", {"batch_size": 32}),
    "u64, batch of 32": ("u64", {"batch_size": 32}),
}
CANDIDATES = {name: (network, name, {}) for name, (network, _) in OPTIONS.items()}
CANDIDATES |= {name: (OPTIONS[size][0], size, plan) for name, (size, plan) in PLANS.items()}
Candidate.sizes = {}  # type: ignore[attr-defined]
for _name, (_network, _options) in OPTIONS.items():
    nets.networks[_network].sizes[_name] = _options  # type: ignore[index, union-attr]


def describe(name: str) -> str:
    """Return the options of a candidate as text."""
    _, size, plan = CANDIDATES[name]
    return ", ".join(f"{key} {value}" for key, value in {**OPTIONS[size][1], **plan}.items())
