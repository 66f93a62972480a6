"""The `UNetModel` of improved-diffusion and guided-diffusion, written again from its weights' names and the papers.

The reference of the tests (arXiv 2102.09672, section 3 and appendix A; arXiv 2105.05233, section 3).
"""

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


def norm(channels):
    return nn.GroupNorm(32, channels)


class ResBlock(nn.Module):
    def __init__(self, inputs, outputs, emb, scale_shift, change=None):
        super().__init__()
        self.scale_shift, self.change = scale_shift, change
        self.in_layers = nn.Sequential(norm(inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb, 2 * outputs if scale_shift else outputs))
        last = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.out_layers = nn.Sequential(norm(outputs), nn.SiLU(), nn.Dropout(0.0), last)
        self.skip_connection = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x, emb):
        h = self.in_layers[1](self.in_layers[0](x))
        if self.change == "down":
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        if self.change == "up":
            h, x = (F.interpolate(one, scale_factor=2) for one in (h, x))
        h, e = self.in_layers[2](h), self.emb_layers(emb)[:, :, None, None]
        if self.scale_shift:
            scale, shift = e.chunk(2, dim=1)
            h = self.out_layers[0](h) * (1 + scale) + shift
        else:
            h = self.out_layers[0](h + e)
        return self.skip_connection(x) + self.out_layers[1:](h)


class AttentionBlock(nn.Module):
    def __init__(self, channels, heads, new_order):
        super().__init__()
        self.heads, self.new_order = heads, new_order
        self.norm, self.qkv, self.proj_out = (
            norm(channels),
            nn.Conv1d(channels, 3 * channels, 1),
            nn.Conv1d(channels, channels, 1),
        )

    def forward(self, x, emb):
        B, C = x.shape[:2]
        qkv, per_head = self.qkv(self.norm(x.reshape(B, C, -1))), C // self.heads
        if self.new_order:
            q, k, v = (part.reshape(B * self.heads, per_head, -1) for part in qkv.chunk(3, dim=1))
        else:
            q, k, v = qkv.reshape(B * self.heads, 3 * per_head, -1).split(per_head, dim=1)
        weight = torch.softmax(torch.einsum("bct,bcs->bts", q, k) / math.sqrt(per_head), dim=-1)
        return x + self.proj_out(torch.einsum("bts,bcs->bct", weight, v).reshape(B, C, -1)).reshape(x.shape)


class Down(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x, emb):
        return self.op(x)


class Up(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x, emb):
        return self.conv(F.interpolate(x, scale_factor=2))


class Stem(nn.Conv2d):
    def forward(self, x, emb):  # type: ignore[override]
        return super().forward(x)


class UNetModel(nn.Module):
    def __init__(
        self,
        mult=(1, 2),
        blocks=1,
        at=(1,),
        heads=2,
        classes=None,
        outputs=3,
        scale_shift=True,
        updown=False,
        new_order=False,
    ):
        super().__init__()
        width = 32
        emb = 4 * width
        self.width = width
        self.time_embed = nn.Sequential(nn.Linear(width, emb), nn.SiLU(), nn.Linear(emb, emb))
        if classes:
            self.label_emb = nn.Embedding(classes, emb)
        self.input_blocks, self.output_blocks = (
            nn.ModuleList([nn.ModuleList([Stem(3, width, 3, padding=1)])]),
            nn.ModuleList(),
        )
        channels, skips = width, [width]
        for i, m in enumerate(mult):
            for _ in range(blocks):
                layers: list[nn.Module] = [ResBlock(channels, m * width, emb, scale_shift)]
                channels = m * width
                layers += [AttentionBlock(channels, heads, new_order)] if i in at else []
                self.input_blocks.append(nn.ModuleList(layers))
                skips.append(channels)
            if i < len(mult) - 1:
                down = ResBlock(channels, channels, emb, scale_shift, "down") if updown else Down(channels)
                self.input_blocks.append(nn.ModuleList([down]))
                skips.append(channels)
        ends = [ResBlock(channels, channels, emb, scale_shift) for _ in range(2)]
        self.middle_block = nn.ModuleList([ends[0], AttentionBlock(channels, heads, new_order), ends[1]])
        for i, m in reversed(list(enumerate(mult))):
            for j in range(blocks + 1):
                layers = [ResBlock(channels + skips.pop(), m * width, emb, scale_shift)]
                channels = m * width
                layers += [AttentionBlock(channels, heads, new_order)] if i in at else []
                if i and j == blocks:
                    layers.append(ResBlock(channels, channels, emb, scale_shift, "up") if updown else Up(channels))
                self.output_blocks.append(nn.ModuleList(layers))
        self.out = nn.Sequential(norm(channels), nn.SiLU(), nn.Conv2d(channels, outputs, 3, padding=1))

    def forward(self, x, t, label=None):
        half = self.width // 2
        angles = t.float()[:, None] * torch.exp(-math.log(10_000) * torch.arange(half) / half)
        emb = self.time_embed(torch.cat([angles.cos(), angles.sin()], dim=1))
        if label is not None:
            emb = emb + self.label_emb(label)
        skips = []
        down: Any = self.input_blocks
        for layers in down:
            for layer in layers:
                x = layer(x, emb)
            skips.append(x)
        for layer in self.middle_block:
            x = layer(x, emb)
        up: Any = self.output_blocks
        for layers in up:
            x = torch.cat([x, skips.pop()], dim=1)
            for layer in layers:
                x = layer(x, emb)
        return self.out(x)
