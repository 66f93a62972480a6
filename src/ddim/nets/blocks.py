"""The layers that both U-Nets share."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddim.errors import UserError

STAGES, WIDTH, BLOCKS, FOLD = 16, 16_384, 64, 32  # at most
TOLD = 64  # numbers, at most, that tell of an augmentation
CONDITIONS = 4096  # numbers, at most, of the condition of an image
PIXELS = 256  # at most, for attention whose weights are stored


def check_sizes(widths: Sequence[int], blocks: int = 1) -> None:
    """Check the channels of each stage and the blocks of a stage, before anything of these sizes is created.

    Raises `UserError` for numbers that are not whole, not above 0 or above `STAGES`, `WIDTH` and `BLOCKS`, and for an
    odd width of the first stage, whose half is the number of frequencies of the time.
    """
    whole = all(isinstance(number, int) and number >= 1 for number in (*widths, blocks))
    if not whole or not 1 <= len(widths) <= STAGES or max(widths) > WIDTH or blocks > BLOCKS or widths[0] % 2:
        raise UserError(
            f"A U-Net has 1 to {STAGES} stages of 1 to {WIDTH:,} channels, the first an even number, and 1 to {BLOCKS} "
            f"blocks in each; got the channels {str(list(widths[:STAGES]))[:80]} and {blocks!r:.40} blocks."
        )


def check_fold(fold: int, groups: int) -> None:
    """Check the side of the squares that become channels, and the most groups of a group norm.

    Raises `UserError` for numbers that are not whole, not above 0 or above `FOLD` and `WIDTH`.
    """
    for name, number, most in (("fold", fold, FOLD), ("groups", groups, WIDTH)):
        if not isinstance(number, int) or not 1 <= number <= most:
            raise UserError(f"The {name} of a U-Net must be a whole number from 1 to {most:,}; got {number!r:.40}.")


def sinusoidal(t: Tensor, width: int) -> Tensor:
    """Return sin and cos of t at `width` / 2 frequencies from 1 to 1/10000 (arXiv 1706.03762, section 3.5).

    Takes times (B,) and an even width; returns (B, width) float32.
    """
    half = width // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=t.device) / max(half - 1, 1))
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class Conditioning(nn.Module):
    """The sinusoidal embedding of the time, and of the class if there are `classes`; -1 is the null class.

    A vector of `augmentation` numbers, which tells how an image was transformed, is added to the sinusoids of the time
    by a linear layer without bias (EDM, arXiv 2206.00364, appendix F.2). Zeros, an image as it is, add nothing.

    A vector of `conditions` numbers, which describes an image, is added like a class, by a linear layer. The null
    vector, NaN, adds nothing.
    """

    def __init__(self, width: int, classes: int | None, augmentation: int = 0, conditions: int = 0) -> None:
        super().__init__()
        self.width, self.features = width, 4 * width
        hidden, output = nn.Linear(width, self.features), nn.Linear(self.features, self.features)
        self.time = nn.Sequential(hidden, nn.SiLU(), output)
        self.label = nn.Embedding(classes + 1, self.features) if classes else None  # row 0 is the null class
        if not isinstance(augmentation, int) or not 0 <= augmentation <= TOLD:
            raise UserError(
                f"The augmentation of a U-Net is the length of a vector, 0 to {TOLD}; got {augmentation!r:.40}."
            )
        self.augmentation = nn.Linear(augmentation, width, bias=False) if augmentation else None
        if not isinstance(conditions, int) or not 0 <= conditions <= CONDITIONS:
            raise UserError(
                f"The conditions of a U-Net are the length of a vector, 0 to {CONDITIONS:,}; got {conditions!r:.40}."
            )
        self.vector = nn.Linear(conditions, self.features) if conditions else None

    def forward(
        self,
        t: Tensor,
        label: Tensor | None = None,
        augmentation: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> Tensor:
        """Return (B, 4 `width`) for times (B,).

        Args:
            t: the times, (B,).
            label: (B,) classes; None is the null class for all images.
            augmentation: (B, `augmentation`); None is zeros, images as they are.
            condition: (B, `conditions`), a row of NaN for the null vector; None is the null vector for all images.
        """
        dtype = next(self.parameters()).dtype  # the angles are float32, the layers may not be
        angles = sinusoidal(t, self.width).to(dtype)
        if self.augmentation is not None and augmentation is None and self.training:  # DDP wants all gradients
            augmentation = angles.new_zeros(len(t), self.augmentation.in_features)
        if self.augmentation is not None and augmentation is not None:
            angles = angles + self.augmentation(augmentation.to(dtype))
        embedding: Tensor = self.time(angles)
        if self.label is not None:
            label = t.new_full(t.shape, -1, dtype=torch.long) if label is None else label
            embedding = embedding + self.label(label + 1)
        if self.vector is not None and condition is not None:
            null = condition.isnan().any(dim=1, keepdim=True)
            embedding = embedding + torch.where(null, 0, self.vector(condition.nan_to_num(0).to(dtype)))
        return F.silu(embedding)


def norm(channels: int, most: int = 32) -> nn.GroupNorm:
    """Return a group norm of at most `most` groups, each of at least 4 channels, or of one group of fewer channels."""
    groups = max(g for g in range(1, most + 1) if channels % g == 0 and (g == 1 or channels // g >= 4))
    return nn.GroupNorm(groups, channels)


def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """Return the layer with weights of zero: a residual block that ends with it starts as the identity."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with the embedding added between them, and a shortcut (arXiv 2006.11239, appendix B).

    With `scale_shift`, the embedding instead scales and shifts the channels after the second norm, y_s norm(h) + y_b
    (arXiv 2105.05233, section 3, adaptive group normalization).
    """

    def __init__(
        self, inputs: int, outputs: int, features: int, dropout: float, groups: int, scale_shift: bool = False
    ) -> None:
        super().__init__()
        self.scale_shift = scale_shift
        self.norm1, self.conv1 = norm(inputs, groups), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.embed = nn.Linear(features, 2 * outputs if scale_shift else outputs)
        self.norm2, self.conv2 = norm(outputs, groups), zeroed(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.dropout = nn.Dropout(dropout)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h, y = self.conv1(F.silu(self.norm1(x))), self.embed(embedding)
        if self.scale_shift:
            scale, shift = y.chunk(2, dim=1)  # of (B, 2 C): OpenVINO 2026.4 crashes if it is of (B, 2 C, 1, 1)
            h = torch.addcmul(shift[:, :, None, None], self.norm2(h), 1 + scale[:, :, None, None])
        else:
            h = self.norm2(h + y[:, :, None, None])
        h = self.conv2(self.dropout(F.silu(h)))
        return h + self.shortcut(x)  # type: ignore[no-any-return]


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return softmax(q k^T / sqrt(C)) v (arXiv 1706.03762, Eq. 1) for (B, heads, N, C) each.

    PyTorch's own function needs no memory for (N, N) weights, but in bf16 on a CPU its gradient is 2 to 7 times slower.
    """
    if q.requires_grad and q.is_cpu and q.dtype == torch.bfloat16 and q.shape[-2] <= PIXELS:
        return (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(-1) @ v
    return F.scaled_dot_product_attention(q, k, v)


class Attention(nn.Module):
    """Self-attention over the pixels with one head and a shortcut (arXiv 2006.11239, appendix B)."""

    def __init__(self, channels: int, groups: int = 32) -> None:
        super().__init__()
        self.norm = norm(channels, groups)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=-1)  # (B, H W, C) each
        h = attention(q[:, None], k[:, None], v[:, None])[:, 0]
        return x + self.out(h.transpose(1, 2).reshape(x.shape))  # type: ignore[no-any-return]
