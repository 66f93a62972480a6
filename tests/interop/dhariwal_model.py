"""EDM's `DhariwalUNet` and its preconditioning, written again from the names of the weights and the paper.

The reference of the tests (arXiv 2206.00364, Table 1 and appendix F; arXiv 2105.05233, section 3).
"""

import math

import torch
from torch import nn
from torch.nn import functional as F


def norm(channels):
    return nn.GroupNorm(min(32, channels // 4), channels)


class Conv(nn.Conv2d):
    """A convolution after a change of the resolution, whose filter [1, 1] is a buffer."""

    def __init__(self, inputs, outputs, kernel, change=None):
        super().__init__(inputs, outputs, kernel, padding=kernel // 2)
        self.change = change
        if change:
            self.register_buffer("resample_filter", torch.ones(1, 1, 2, 2) / 4)

    def forward(self, x):
        return super().forward(changed(x, self.change))


def changed(x, change):
    if change == "down":
        return F.avg_pool2d(x, 2)
    return x.repeat_interleave(2, -1).repeat_interleave(2, -2) if change == "up" else x


class UNetBlock(nn.Module):
    def __init__(self, inputs, outputs, emb, change=None, attends=False):
        super().__init__()
        self.heads, self.change = outputs // 64, change
        self.norm0, self.conv0 = norm(inputs), Conv(inputs, outputs, 3, change)
        self.affine = nn.Linear(emb, 2 * outputs)
        self.norm1, self.conv1 = norm(outputs), Conv(outputs, outputs, 3)
        if inputs != outputs:
            self.skip = Conv(inputs, outputs, 1, change)
        self.attends = attends
        if attends:
            self.norm2, self.qkv, self.proj = norm(outputs), Conv(outputs, 3 * outputs, 1), Conv(outputs, outputs, 1)

    def forward(self, x, emb):
        scale, shift = self.affine(emb)[:, :, None, None].chunk(2, dim=1)
        h = self.conv0(F.silu(self.norm0(x)))
        h = self.conv1(F.silu(self.norm1(h) * (scale + 1) + shift))
        x = h + (self.skip(x) if hasattr(self, "skip") else changed(x, self.change))
        if self.attends:
            B, C = x.shape[:2]
            qkv = self.qkv(self.norm2(x)).reshape(B * self.heads, C // self.heads, 3, -1)
            q, k, v = qkv.unbind(2)
            weight = torch.einsum("ncq,nck->nqk", q, k / math.sqrt(C // self.heads)).softmax(dim=2)
            x = x + self.proj(torch.einsum("nqk,nck->ncq", weight, v).reshape(x.shape))
        return x


class DhariwalUNet(nn.Module):
    def __init__(self, side=8, width=128, mult=(1, 1), blocks=1, at=(4,), classes=0, augment=9):
        super().__init__()
        emb, channels, skips = 4 * width, width, []
        self.width = width
        self.map_augment = nn.Linear(augment, width, bias=False)
        self.map_layer0, self.map_layer1 = nn.Linear(width, emb), nn.Linear(emb, emb)
        self.map_label = nn.Linear(classes, emb, bias=False) if classes else None
        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        for level, m in enumerate(mult):
            name = f"{side >> level}x{side >> level}"
            if level == 0:
                self.enc[f"{name}_conv"] = Conv(3, channels, 3)
            else:
                self.enc[f"{name}_down"] = UNetBlock(channels, channels, emb, "down")
            skips.append(channels)
            for i in range(blocks):
                self.enc[f"{name}_block{i}"] = UNetBlock(channels, m * width, emb, attends=side >> level in at)
                channels = m * width
                skips.append(channels)
        for level, m in reversed(list(enumerate(mult))):
            name = f"{side >> level}x{side >> level}"
            if level == len(mult) - 1:
                self.dec[f"{name}_in0"] = UNetBlock(channels, channels, emb, attends=True)
                self.dec[f"{name}_in1"] = UNetBlock(channels, channels, emb)
            else:
                self.dec[f"{name}_up"] = UNetBlock(channels, channels, emb, "up")
            for i in range(blocks + 1):
                attends = side >> level in at
                self.dec[f"{name}_block{i}"] = UNetBlock(channels + skips.pop(), m * width, emb, attends=attends)
                channels = m * width
        self.out_norm, self.out_conv = norm(channels), Conv(channels, 3, 3)

    def forward(self, x, c_noise, label=None):
        half = self.width // 2
        angles = torch.outer(c_noise, (1 / 10_000) ** (torch.arange(half) / half))
        emb = self.map_layer1(F.silu(self.map_layer0(torch.cat([angles.cos(), angles.sin()], dim=1))))
        emb = F.silu(emb if self.map_label is None else emb + self.map_label(label))
        skips = []
        for name, block in self.enc.items():
            x = block(x) if name.endswith("conv") else block(x, emb)
            skips.append(x)
        for name, block in self.dec.items():
            x = block(torch.cat([x, skips.pop()], dim=1) if "_block" in name else x, emb)
        return self.out_conv(F.silu(self.out_norm(x)))


class EDMPrecond(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.model = DhariwalUNet(**options)

    def forward(self, x, sigma, label=None):
        sigma, data = sigma[:, None, None, None], 0.5
        total = sigma**2 + data**2
        F_x = self.model(x / total.sqrt(), sigma.flatten().log() / 4, label)
        return data**2 / total * x + sigma * data / total.sqrt() * F_x
