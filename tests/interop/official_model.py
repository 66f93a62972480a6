"""The network of the official DDPM and DDIM code, written again from its layers' names: the reference of the tests."""

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


def norm(channels):
    return nn.GroupNorm(32, channels, eps=1e-6)


class Block(nn.Module):
    def __init__(self, inputs, outputs, temb):
        super().__init__()
        self.norm1, self.conv1 = norm(inputs), nn.Conv2d(inputs, outputs, 3, 1, 1)
        self.temb_proj = nn.Linear(temb, outputs)
        self.norm2, self.conv2 = norm(outputs), nn.Conv2d(outputs, outputs, 3, 1, 1)
        if inputs != outputs:
            self.nin_shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x, temb):
        h = self.conv1(F.silu(self.norm1(x))) + self.temb_proj(F.silu(temb))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class Attn(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm = norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x):
        h = self.norm(x)
        q, k, v = (part(h).flatten(2) for part in (self.q, self.k, self.v))
        weights = torch.softmax(torch.einsum("bci,bcj->bij", q, k) / math.sqrt(x.shape[1]), dim=2)
        return x + self.proj_out(torch.einsum("bij,bcj->bci", weights, v).reshape(x.shape))


class Resample(nn.Module):
    def __init__(self, channels, down):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2 if down else 1, padding=0 if down else 1)
        self.down = down

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.down else x.repeat_interleave(2, 2).repeat_interleave(2, 3))


class Model(nn.Module):
    """The official network by its own names: down.LEVEL.block.N, up.LEVEL with level 0 at the full resolution."""

    def __init__(self, ch=32, ch_mult=(1, 2, 2), num_res_blocks=1, attn=(1,), channels=3):
        super().__init__()
        torch.manual_seed(0)
        self.ch = ch
        self.temb: Any = nn.Module()
        self.temb.dense = nn.ModuleList([nn.Linear(ch, 4 * ch), nn.Linear(4 * ch, 4 * ch)])
        self.conv_in = nn.Conv2d(channels, ch, 3, 1, 1)
        widths, inner = [ch * m for m in ch_mult], (ch, *(ch * m for m in ch_mult))
        self.down: Any = nn.ModuleList()
        for i, width in enumerate(widths):
            level: Any = nn.Module()
            n = inner[i]
            level.block = nn.ModuleList(Block(n if j == 0 else width, width, 4 * ch) for j in range(num_res_blocks))
            level.attn = nn.ModuleList(Attn(width) for _ in range(num_res_blocks) if i in attn)
            if i < len(widths) - 1:
                level.downsample = Resample(width, True)
            self.down.append(level)
        self.mid: Any = nn.Module()
        self.mid.block_1, self.mid.block_2 = (Block(widths[-1], widths[-1], 4 * ch) for _ in range(2))
        self.mid.attn_1 = Attn(widths[-1])
        self.up: Any = nn.ModuleList()
        for i, width in enumerate(widths):
            level, below = nn.Module(), widths[min(i + 1, len(widths) - 1)]
            inputs = [
                (below if j == 0 else width) + (inner[i] if j == num_res_blocks else width)
                for j in range(num_res_blocks + 1)
            ]
            level.block = nn.ModuleList(Block(n, width, 4 * ch) for n in inputs)
            level.attn = nn.ModuleList(Attn(width) for _ in inputs if i in attn)
            if i > 0:
                level.upsample = Resample(width, False)
            self.up.append(level)
        self.norm_out, self.conv_out = norm(widths[0]), nn.Conv2d(widths[0], channels, 3, 1, 1)

    def forward(self, x, t):
        half = self.ch // 2
        angles = t.float()[:, None] * torch.exp(torch.arange(half) * -(math.log(10000) / (half - 1)))
        temb = self.temb.dense[1](F.silu(self.temb.dense[0](torch.cat([angles.sin(), angles.cos()], dim=1))))
        skips = [self.conv_in(x)]

        def through(level, j, h):
            h = level.block[j](h, temb)
            return level.attn[j](h) if len(level.attn) else h

        for level in self.down:
            for j in range(len(level.block)):
                skips.append(through(level, j, skips[-1]))
            if hasattr(level, "downsample"):
                skips.append(level.downsample(skips[-1]))
        h = self.mid.block_2(self.mid.attn_1(self.mid.block_1(skips[-1], temb)), temb)
        for level in reversed(self.up):
            for j in range(len(level.block)):
                h = through(level, j, torch.cat([h, skips.pop()], dim=1))
            if hasattr(level, "upsample"):
                h = level.upsample(h)
        return self.conv_out(F.silu(self.norm_out(h)))
