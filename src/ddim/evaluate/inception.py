"""Inception-v3 as FIDs are measured with it, and the weights that belong to it.

Szegedy and others, arXiv 1512.00567, as trained for TensorFlow in 2015; Heusel and others, arXiv 1706.08500.
"""

import hashlib
import io
import os
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ddim.data.download import cache_folder, fetch
from ddim.errors import UserError
from ddim.evaluate.inception_network import SIDE, network

FILE = "pt_inception-2015-12-05-6726825d.pth"
URLS = (
    f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{FILE}",
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
)
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
BATCH = 16  # images at a time
VERSION = 1  # raised when the arithmetic changes


class Inception:
    """The `Extractor` of the published FIDs: the 2,048 numbers before the last layer of Inception-v3.

    The network, its weights and the way to 299x299 pixels are those of pytorch-fid: bilinear, without antialiasing,
    grey repeated in three channels. An FID compares with published ones if it is taken from as many images, 50,000
    for CIFAR-10, and against the same reference. The weights (95 MB) are downloaded once, and verified. One core
    takes about 0.2 s for an image.

    Args:
        shape: (C, H, W) of the images, C 1 or 3.

    Raises:
        UserError: another shape; the weights cannot be downloaded or are not those of this network.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        if shape[0] not in (1, 3):
            raise UserError(
                f"The extractor inception sees images of 1 or 3 channels, not of {shape[0]}; leave channels out."
            )
        path = weights_file()
        self.network, checksum = _loaded(path)
        self.shape, self.dim = shape, 2048
        self.name = "inception"
        self.about = f"{self.dim:,} features of Inception-v3 with " + (
            "the weights of the published FIDs (pytorch-fid)"
            if checksum == SHA256
            else f"the weights in {path.name}, which are not those of the published FIDs"
        )
        self.fingerprint = f"inception {VERSION} {checksum}"
        self.classes: int | None = None

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> Tensor:
        """Args: pixels (B, C, H, W) uint8. Returns features (B, 2048) float64, none of them below 0."""
        return torch.cat([self.network(prepared(part)) for part in torch.split(pixels, BATCH)]).double()


def prepared(pixels: Tensor) -> Tensor:
    """Pixels (B, C, H, W) uint8 as the network wants them: (B, 3, 299, 299) float32 in [-1, 1]."""
    x = pixels.float() / 255
    x = interpolate(x, (SIDE, SIDE), mode="bilinear", align_corners=False)
    return 2 * x.expand(-1, 3, -1, -1) - 1


def weights_file() -> Path:
    """The file that $DDIM_INCEPTION names, else the one in the cache folder, downloaded if it is not there.

    Raises:
        UserError: $DDIM_INCEPTION names no file, or the download failed.
    """
    if named := os.environ.get("DDIM_INCEPTION"):
        path = Path(named).expanduser()
        if not path.is_file():
            raise UserError(f"DDIM_INCEPTION names {path}, which is no file; let it name {FILE} from {URLS[0]}.")
        return path
    path = cache_folder() / "inception" / FILE
    remedy = f"download {URLS[0]} elsewhere and put it at {path}, or let DDIM_INCEPTION name it"
    return fetch(URLS, path, SHA256, remedy=remedy)


@lru_cache(maxsize=1)
def _loaded(path: Path) -> tuple[nn.Module, str]:
    """The network with the weights in a file, and the file's SHA-256. Nothing that a file may hold is ever run."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"Could not read {path}: {error.strerror or error}; allow reading it.") from error
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever else a file that is none of weights makes of itself
        raise UserError(f"{path} holds no weights; replace it by {FILE} from {URLS[0]}.") from error
    made = network()
    made.load_state_dict(_fitting(state, made.state_dict(), path))
    return made.eval(), hashlib.sha256(data).hexdigest()


def _fitting(state: object, wanted: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """What the network wants of the weights in a file: not the last layer's."""
    found = state if isinstance(state, dict) else {}
    fitting = {}
    for name, own in wanted.items():
        given = found.get(name, own if name.endswith("num_batches_tracked") else None)  # older files do not count
        if not isinstance(given, Tensor) or given.shape != own.shape:
            raise UserError(
                f"{path} holds other weights than Inception-v3's: no {name} of shape {tuple(own.shape)}; "
                f"replace it by {FILE} from {URLS[0]}."
            )
        fitting[name] = given
    return fitting
