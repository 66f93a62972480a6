"""Features without weights, for any small images: where which colours are, and how much there is of each detail.

First-order wavelet scattering: Bruna and Mallat, Invariant Scattering Convolution Networks, arXiv 1203.1513.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from ddim.errors import UserError

SMALLEST, LARGEST = 8, 256  # pixels a side
COLOURS = 4  # a side of the grid of mean colours
DETAILS = 2  # a side of the grid of mean contrasts
ORIENTATIONS = 4
FAINT = 1 / 64  # about two of 256 grey levels: what has less contrast is plain
VERSION = 1  # raised when the arithmetic changes

# Grey, red against blue, and both against green: an orthonormal basis of the colours.
OPPONENT = torch.tensor([[1, 1, 1], [1, 0, -1], [1, -2, 1]], dtype=torch.float64)
OPPONENT /= OPPONENT.norm(dim=1, keepdim=True)


class Scattering:
    """An `Extractor` with nothing to train or download: at 32x32, 64 features in grey and 120 in colour.

    S_0 x = x * phi and S_1 x = |x * psi_(j,k)| * phi, arXiv 1203.1513, section 2: mean colours on a grid of 4x4;
    the mean contrast at each scale j and orientation k, of grey on a grid of 2x2, of the other two colours over the
    whole image. Of contrasts the logarithm is taken: fine detail, which is faint, would not count otherwise.

    Why they are fair: they are trained on nothing, so no model is favoured by the data it has learnt from; a shift
    by a pixel or two hardly changes them; blur, noise, wrong colours or brightness and a wrong mix of classes do.
    What they cannot see is meaning: to them an image with the right colours and contrasts in the right places is
    right. Their distances compare at one shape, with one another. They are no FID and say nothing of one.

    Args:
        shape: (C, H, W) of the images, C 1 or 3, H and W 8 to 256.

    Raises:
        UserError: another shape.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        channels, *sides = shape
        if channels not in (1, 3) or not SMALLEST <= min(sides) <= max(sides) <= LARGEST:
            raise UserError(
                f"The extractor scattering sees images in grey or in colour of {SMALLEST} to {LARGEST} pixels a "
                f"side, not of {'x'.join(map(str, shape))}; resize them."
            )
        self.scales = max(3, round(math.log2(min(sides) / COLOURS)))  # down to what the grid of colours sees
        self.wavelets = wavelets(2 * sides[0], 2 * sides[1], self.scales)
        filters = len(self.wavelets)
        self.shape = (channels, sides[0], sides[1])
        self.dim = channels * COLOURS**2 + filters * (DETAILS**2 + channels - 1)
        self.name = "scattering"
        self.about = (
            f"{self.dim} features by first-order wavelet scattering (arXiv 1203.1513), {self.scales} scales in "
            f"{ORIENTATIONS} orientations, trained on nothing"
        )
        self.fingerprint = f"scattering {VERSION}"
        self.classes: int | None = None

    def __call__(self, pixels: Tensor) -> Tensor:
        """Args: pixels (B, C, H, W) uint8. Returns features (B, F) float64."""
        x = pixels.double() / 127.5 - 1
        if x.shape[1] == 3:
            x = torch.einsum("oc,bchw->bohw", OPPONENT, x)
        seen = [adaptive_avg_pool2d(x, COLOURS)]
        spectrum = torch.fft.fft2(mirrored(x))
        for psi in self.wavelets:
            contrast = torch.fft.ifft2(spectrum * psi)[..., : x.shape[2], : x.shape[3]].abs()  # |x * psi|
            pooled = adaptive_avg_pool2d(contrast[:, :1], DETAILS), contrast[:, 1:].mean((2, 3))
            seen += [torch.log(FAINT + one) for one in pooled]
        return torch.cat([one.flatten(1) for one in seen], dim=1)


def wavelets(height: int, width: int, scales: int) -> Tensor:
    """Oriented band-passes an octave apart, on the frequencies of `torch.fft.fft2`.

    psi_(j,k)(omega) = 2 cos(pi/2 log2(|omega| / (2^-j pi))) cos(K/2 (arg omega - pi k / K)), each cosine within its
    first zeros; the finest passes all above pi too. So neighbours' squares add up to a constant, a wave at the
    middle of one passes no other, and what comes out has the wave's amplitude as its modulus, at any phase.

    Args:
        height, width: of the images.
        scales: j = 0 .. scales - 1, from fine to coarse.

    Returns:
        (scales * ORIENTATIONS, height, width) float64, real and 0 at frequency 0.
    """
    y, x = (2 * math.pi * torch.fft.fftfreq(n, dtype=torch.float64) for n in (height, width))
    octave = torch.log2(torch.hypot(y[:, None], x) / math.pi)
    angle = torch.atan2(y[:, None], x)
    found = []
    for j in range(scales):
        radial = _bump(octave.clamp(max=0) if j == 0 else octave + j)
        for k in range(ORIENTATIONS):
            off = torch.remainder(angle - math.pi * k / ORIENTATIONS + math.pi, 2 * math.pi) - math.pi
            found.append(2 * radial * _bump(off * ORIENTATIONS / math.pi))
    return torch.stack(found)


def mirrored(x: Tensor) -> Tensor:
    """Images (..., H, W) with their mirror images beside and below, (..., 2H, 2W): no edge where they repeat."""
    x = torch.cat([x, x.flip(-1)], dim=-1)
    return torch.cat([x, x.flip(-2)], dim=-2)


def _bump(x: Tensor) -> Tensor:
    """cos(pi x / 2) within (-1, 1), else exactly 0."""
    return torch.where(x.abs() < 1, torch.cos(math.pi / 2 * x), 0.0)
