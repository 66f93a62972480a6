"""Inception-v3 as published FIDs use it, with its weights.

Szegedy and others, arXiv 1512.00567, as trained for TensorFlow in 2015; Heusel and others, arXiv 1706.08500.
"""

import hashlib
import io
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddim.data.download import cache_folder, fetch
from ddim.errors import UserError
from ddim.evaluate.extractors import Shape, register
from ddim.files import unreadable, user_path

FILE = "pt_inception-2015-12-05-6726825d.pth"
URLS = (
    f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{FILE}",
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
)
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
SIZE = 95_628_359  # bytes
MAX_BYTES = 1 << 28  # of a file of weights: three times the published one
SIDE = 299  # pixels of the images
BATCH = 16  # images at a time
VERSION = 1  # increase when the arithmetic changes


@register("inception")
class Inception:
    """The `Extractor` of published FIDs: the 2,048 inputs of the last layer of Inception-v3.

    The network, its weights and the resizing to 299x299 pixels are those of pytorch-fid: bilinear, without
    antialiasing, grey repeated in three channels. An FID is comparable with published ones if it uses equally many
    images, 50,000 for CIFAR-10, and the same reference. The weights (95 MB) are downloaded once and verified. One
    core takes about 0.2 s for an image.

    Args:
        shape: (C, H, W) of the images, C 1 or 3.

    Raises:
        UserError: another shape; the weights cannot be downloaded or are not those of this network.
    """

    def __init__(self, shape: Shape) -> None:
        if shape[0] not in (1, 3):
            raise UserError(
                f"The extractor inception takes images of 1 or 3 channels, not of {shape[0]}; leave channels out."
            )
        path = weights_file()
        self.network, checksum = _loaded(path)
        self.name, self.shape, self.dim = "inception", shape, 2048
        self.about = f"{self.dim:,} features of Inception-v3 with " + (
            "the weights of the published FIDs (pytorch-fid)"
            if checksum == SHA256
            else f"the weights in {path.name}, which are not those of the published FIDs"
        )
        self.fingerprint = f"inception {VERSION} {checksum}"

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Tensor:
        """Return the features, (B, 2048) float64 and at least 0, of pixels (B, C, H, W) uint8."""
        return torch.cat([self.network(prepared(part)) for part in torch.split(pixels, BATCH)]).double()


def prepared(pixels: Tensor) -> Tensor:
    """Return the input of the network, (B, 3, 299, 299) float32 in [-1, 1], for pixels (B, C, H, W) uint8."""
    x = pixels.float() / 255
    x = F.interpolate(x, (SIDE, SIDE), mode="bilinear", align_corners=False)
    return 2 * x.expand(-1, 3, -1, -1) - 1


def weights_file() -> Path:
    """Return the file that $DDIM_INCEPTION names, otherwise the one in the cache folder; download it if needed.

    Raises:
        UserError: $DDIM_INCEPTION names no file, or the download failed.
    """
    if named := os.environ.get("DDIM_INCEPTION"):
        path = user_path(named)
        if not path.is_file():
            raise UserError(f"DDIM_INCEPTION names {path}, which is not a file; let it name {FILE} from {URLS[0]}.")
        return path
    path = cache_folder() / "inception" / FILE
    remedy = f"download {URLS[0]} elsewhere and put it at {path}, or let DDIM_INCEPTION name it"
    return fetch(URLS, path, SHA256, SIZE, remedy)


@lru_cache(maxsize=1)
def _loaded(path: Path) -> tuple[nn.Module, str]:
    """Return the network with the weights of a file, and the SHA-256 of the file. Nothing in it is executed."""
    remedy = f"replace it by {FILE} from {URLS[0]}"
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise unreadable(path, error, remedy) from error
    try:
        if max(len(data), _unpacked(io.BytesIO(data))) > MAX_BYTES:
            raise UserError(f"{path} holds more than {MAX_BYTES:,} bytes, and Inception-v3 has {SIZE:,}; {remedy}.")
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:  # any other file may raise anything
        raise UserError(f"{path} holds no weights; {remedy}.") from error
    weights = state if isinstance(state, dict) else {}
    inception = network()
    matching = {}  # without the last layer's
    for name, own in inception.state_dict().items():
        given = weights.get(name, own if name.endswith("num_batches_tracked") else None)  # missing in older files
        if not _fits(given, own):
            raise UserError(
                f"{path} holds other weights than Inception-v3's: no {name} of shape {tuple(own.shape)} and of finite "
                f"numbers; {remedy}."
            )
        matching[name] = given
    inception.load_state_dict(matching)
    return inception.eval(), hashlib.sha256(data).hexdigest()


def _unpacked(file: io.BytesIO) -> int:
    """Return the bytes of all members of a zip file, which the weights of PyTorch are; of another file, 0."""
    return sum(member.file_size for member in ZipFile(file).infolist()) if is_zipfile(file) else 0


def _fits(given: Any, own: Tensor) -> bool:
    """Return whether what a file holds can be loaded as a tensor: not for meta, sparse or quantised ones."""
    try:
        same = given.shape == own.shape and given.is_floating_point() == own.is_floating_point()
        return same and bool(given.isfinite().all())
    except Exception:  # anything may be in a file
        return False


# A convolution: channels out, and the side or (height, width) of its kernel. Those in a list are parallel.
Step = tuple[int, int | tuple[int, int]]
Branch = Sequence[Step | list[Step]]

DOUBLE: Branch = [(64, 1), (96, 3), (96, 3)]


class Convolution(nn.Module):
    """Convolution, batch normalisation and ReLU. The size stays unless there is a stride or no padding."""

    def __init__(self, a: int, b: int, kernel: int | tuple[int, int], stride: int = 1, padded: bool = True) -> None:
        super().__init__()
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (height // 2, width // 2) if padded and stride == 1 else 0
        self.conv = nn.Conv2d(a, b, (height, width), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(b, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """An Inception block: parallel branches, concatenated by channel, one of which begins with pooling.

    Args:
        a: input channels.
        branches: by name. The convolutions of branch B are called branchB_1, branchB_2 and so on, branchB_2a and
            branchB_2b if they are parallel, and branchB if there is only one. "_pool" begins with pooling.
        average, stride: pool by the average or by the maximum over 3x3; stride of the pooling and of each branch.
    """

    def __init__(self, a: int, branches: Mapping[str, Branch], average: bool = True, stride: int = 1) -> None:
        super().__init__()
        self.average, self.stride = average, stride
        self.paths: dict[str, list[list[str]]] = {}
        for branch, steps in branches.items():
            self.paths[branch], channels = [], a
            for i, step in enumerate(steps):
                parallel = step if isinstance(step, list) else [step]
                stem = f"branch{branch}" + (f"_{i + 1}" if len(steps) > 1 else "")
                names = [stem + letter for letter in ("ab" if len(parallel) == 2 else [""])]
                for name, (width, kernel) in zip(names, parallel, strict=True):
                    last = i == len(steps) - 1
                    self.add_module(name, Convolution(channels, width, kernel, stride if last else 1))
                self.paths[branch].append(names)
                channels = sum(width for width, _ in parallel)

    def forward(self, x: Tensor) -> Tensor:
        ends = []
        for branch, path in self.paths.items():
            y = self._pooled(x) if branch == "_pool" else x
            for names in path:
                y = torch.cat([self.get_submodule(name)(y) for name in names], dim=1)
            ends.append(y)
        return torch.cat(ends, dim=1)

    def _pooled(self, x: Tensor) -> Tensor:
        """Pool over 3x3: with a stride without padding, otherwise with padding that averages do not count."""
        if self.average:
            return F.avg_pool2d(x, 3, self.stride, padding=1, count_include_pad=False)
        return F.max_pool2d(x, 3, self.stride, padding=1 if self.stride == 1 else 0)


def network() -> nn.Sequential:
    """Return Inception-v3 without its last layer, untrained: (B, 3, 299, 299) in [-1, 1] to features (B, 2048).

    Modules have the names of the published weights. Two details are those of TensorFlow's network of 2015, by which
    FIDs are measured: averages do not count padding, and the last block takes maxima where others take averages.

    Reference: Szegedy et al., arXiv 1512.00567, section 6.
    """
    long: Branch = [(192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3)]
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
        "Mixed_6a": Mixed(288, {"3x3": [(384, 3)], "3x3dbl": DOUBLE, "_pool": []}, average=False, stride=2),
        "Mixed_6b": _grid17(128),
        "Mixed_6c": _grid17(160),
        "Mixed_6d": _grid17(160),
        "Mixed_6e": _grid17(192),
        "Mixed_7a": Mixed(768, {"3x3": [(192, 1), (320, 3)], "7x7x3": long, "_pool": []}, average=False, stride=2),
        "Mixed_7b": _grid8(1280),
        "Mixed_7c": _grid8(2048, average=False),
        "avgpool": nn.AdaptiveAvgPool2d(1),
        "flat": nn.Flatten(),
    }
    return nn.Sequential(OrderedDict(layers))


def _grid35(a: int, pool: int) -> Mixed:
    return Mixed(a, {"1x1": [(64, 1)], "5x5": [(48, 1), (64, 5)], "3x3dbl": DOUBLE, "_pool": [(pool, 1)]})


def _grid17(c: int) -> Mixed:
    """Return a block at 17x17, with c channels inside its two chains of long kernels."""
    flat, tall = (1, 7), (7, 1)
    once: Branch = [(c, 1), (c, flat), (192, tall)]
    twice: Branch = [(c, 1), (c, tall), (c, flat), (c, tall), (192, flat)]
    return Mixed(768, {"1x1": [(192, 1)], "7x7": once, "7x7dbl": twice, "_pool": [(192, 1)]})


def _grid8(a: int, average: bool = True) -> Mixed:
    """Return a block at 8x8, whose chains end in a flat and a tall kernel in parallel."""
    both: list[Step] = [(384, (1, 3)), (384, (3, 1))]
    double: Branch = [(448, 1), (384, 3), both]
    return Mixed(a, {"1x1": [(320, 1)], "3x3": [(384, 1), both], "3x3dbl": double, "_pool": [(192, 1)]}, average)
