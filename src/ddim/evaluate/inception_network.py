"""The network of the published FIDs: Inception-v3 without its last layer, with the names that its weights have.

Szegedy and others, arXiv 1512.00567, section 6; with two habits of TensorFlow's network of 2015, by which FIDs are
measured: averages count no padding, and the last block takes maxima where the others take averages.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIDE = 299  # pixels of the images

Step = tuple[int, int | tuple[int, int]]
"""One convolution: channels out, and the side or (height, width) of its kernel."""
Branches = Mapping[str, Sequence[Step | list[Step]]]
"""The convolutions of each branch, one after another; those in a list stand side by side."""


class Convolution(nn.Module):
    """A convolution, normalised and rectified. It keeps the size, unless it has a stride or is not padded."""

    def __init__(self, a: int, b: int, kernel: int | tuple[int, int], stride: int = 1, padded: bool = True) -> None:
        super().__init__()
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (height // 2, width // 2) if padded and stride == 1 else 0
        self.conv = nn.Conv2d(a, b, (height, width), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(b, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Branches side by side, joined by channel, one of which begins with a pooling.

    Args:
        a: channels in.
        branches: by name. The convolutions of branch B are called branchB_1, branchB_2 and so on, branchB_2a and
            branchB_2b if they stand side by side, and branchB if there is but one. "_pool" begins with the pooling.
        average: whether that takes the average of 3x3 or the maximum.
        stride: of the last convolution of each branch, and of the pooling.
    """

    def __init__(self, a: int, branches: Branches, average: bool = True, stride: int = 1) -> None:
        super().__init__()
        self.average, self.stride = average, stride
        self.paths: dict[str, list[list[str]]] = {}
        for branch, steps in branches.items():
            self.paths[branch], channels = [], a
            for i, step in enumerate(steps):
                abreast = step if isinstance(step, list) else [step]
                stem = f"branch{branch}" + (f"_{i + 1}" if len(steps) > 1 else "")
                names = [stem + letter for letter in ("ab" if len(abreast) == 2 else [""])]
                for name, (width, kernel) in zip(names, abreast, strict=True):
                    last = i == len(steps) - 1
                    self.add_module(name, Convolution(channels, width, kernel, stride if last else 1))
                self.paths[branch].append(names)
                channels = sum(width for width, _ in abreast)

    def forward(self, x: Tensor) -> Tensor:
        ends = []
        for branch, path in self.paths.items():
            y = self.pooled(x) if branch == "_pool" else x
            for names in path:
                y = torch.cat([self.get_submodule(name)(y) for name in names], dim=1)
            ends.append(y)
        return torch.cat(ends, dim=1)

    def pooled(self, x: Tensor) -> Tensor:
        """Over 3x3; with a stride there is no padding, without one it counts for nothing."""
        if self.average:
            return F.avg_pool2d(x, 3, self.stride, padding=1, count_include_pad=False)
        return F.max_pool2d(x, 3, self.stride, padding=1 if self.stride == 1 else 0)


def network() -> nn.Sequential:
    """Inception-v3 with new weights: images (B, 3, 299, 299) in [-1, 1] to features (B, 2048)."""
    layers: dict[str, nn.Module] = {
        "Conv2d_1a_3x3": Convolution(3, 32, 3, stride=2),
        "Conv2d_2a_3x3": Convolution(32, 32, 3, padded=False),
        "Conv2d_2b_3x3": Convolution(32, 64, 3),
        "maxpool1": nn.MaxPool2d(3, 2),
        "Conv2d_3b_1x1": Convolution(64, 80, 1),
        "Conv2d_4a_3x3": Convolution(80, 192, 3, padded=False),
        "maxpool2": nn.MaxPool2d(3, 2),
        "Mixed_5b": _grid35(192, pool=32),
        "Mixed_5c": _grid35(256, pool=64),
        "Mixed_5d": _grid35(288, pool=64),
        "Mixed_6a": Mixed(
            288, {"3x3": [(384, 3)], "3x3dbl": [(64, 1), (96, 3), (96, 3)], "_pool": []}, average=False, stride=2
        ),
        "Mixed_6b": _grid17(128),
        "Mixed_6c": _grid17(160),
        "Mixed_6d": _grid17(160),
        "Mixed_6e": _grid17(192),
        "Mixed_7a": Mixed(
            768,
            {"3x3": [(192, 1), (320, 3)], "7x7x3": [(192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3)], "_pool": []},
            average=False,
            stride=2,
        ),
        "Mixed_7b": _grid8(1280),
        "Mixed_7c": _grid8(2048, average=False),
        "avgpool": nn.AdaptiveAvgPool2d(1),
        "flat": nn.Flatten(),
    }
    return nn.Sequential(OrderedDict(layers))


def _grid35(a: int, pool: int) -> Mixed:
    """A block at 35x35."""
    return Mixed(
        a,
        {"1x1": [(64, 1)], "5x5": [(48, 1), (64, 5)], "3x3dbl": [(64, 1), (96, 3), (96, 3)], "_pool": [(pool, 1)]},
    )


def _grid17(c: int) -> Mixed:
    """A block at 17x17, of c channels within its two chains of long kernels."""
    flat, tall = (1, 7), (7, 1)
    return Mixed(
        768,
        {
            "1x1": [(192, 1)],
            "7x7": [(c, 1), (c, flat), (192, tall)],
            "7x7dbl": [(c, 1), (c, tall), (c, flat), (c, tall), (192, flat)],
            "_pool": [(192, 1)],
        },
    )


def _grid8(a: int, average: bool = True) -> Mixed:
    """A block at 8x8, whose chains end in a flat and a tall kernel side by side."""
    both: list[Step] = [(384, (1, 3)), (384, (3, 1))]
    return Mixed(
        a,
        {"1x1": [(320, 1)], "3x3": [(384, 1), both], "3x3dbl": [(448, 1), (384, 3), both], "_pool": [(192, 1)]},
        average,
    )
