"""Features without weights, for all small images: local mean colours, and contrasts by scale and orientation.

First-order wavelet scattering: Bruna and Mallat, Invariant Scattering Convolution Networks, arXiv 1203.1513.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from ddim.errors import UserError
from ddim.evaluate.extractors import Shape, register
from ddim.text import dimensions

SMALLEST, LARGEST = 8, 256  # pixels a side
COLOURS = 4  # side of the grid of mean colours
DETAILS = 2  # side of the grid of mean contrasts
ORIENTATIONS = 4
FAINT = 1 / 64  # about two of 256 grey levels: added to each contrast before the logarithm
VERSION = 1  # increase when the arithmetic changes

# Grey, red against blue, and both against green: an orthonormal basis of the colours.
OPPONENT = torch.tensor([[1, 1, 1], [1, 0, -1], [1, -2, 1]], dtype=torch.float64)
OPPONENT /= OPPONENT.norm(dim=1, keepdim=True)


@register("scattering")
class Scattering:
    """An `Extractor` without training or download: at 32x32, 64 features in grey and 120 in colour.

    S_0 x = x * phi and S_1 x = |x * psi_(j,k)| * phi, arXiv 1203.1513, section 2: mean colours on a grid of 4x4;
    the mean contrast at each scale j and orientation k, of grey on a grid of 2x2 and of the other two colours over
    the whole image. Contrasts enter by their logarithms; otherwise fine detail, which is faint, would not count.

    The features are not trained, so they favour no model by its training data. A shift by one or two pixels hardly
    changes them; blur, noise, wrong colours, wrong brightness and a wrong mix of classes do. They do not see
    meaning: an image with the right colours and contrasts in the right places counts as right. Compare their
    distances at one shape and with one another only: they are not FIDs, nor estimates of FIDs.

    Args:
        shape: (C, H, W) of the images, C 1 or 3, H and W 8 to 256. Raises `UserError` for others.
    """

    kind, colours, details, coloured_details = "scattering", COLOURS, DETAILS, True

    def __init__(self, shape: Shape) -> None:
        channels, *sides = shape
        if channels not in (1, 3) or not SMALLEST <= min(sides) <= max(sides) <= LARGEST:
            raise UserError(
                f"The extractor {self.kind} takes images in grey or in colour of {SMALLEST} to {LARGEST} pixels a "
                f"side, not of {dimensions(shape)}; "
                + ("resize them." if channels in (1, 3) else "no metric here compares images of so many channels.")
            )
        self.scales = max(3, round(math.log2(min(sides) / COLOURS)))  # down to the cells of the grid of colours
        self.wavelets = wavelets(2 * sides[0], 2 * sides[1], self.scales)
        self.name, self.shape = self.kind, shape
        self.contrasts = channels if self.coloured_details else 1
        self.dim = channels * self.colours**2 + len(self.wavelets) * (self.details**2 + self.contrasts - 1)
        self.about = (
            f"{self.dim} features by first-order wavelet scattering (arXiv 1203.1513), {self.scales} scales in "
            f"{ORIENTATIONS} orientations, without training"
        )
        self.fingerprint = f"{self.kind} {VERSION}"

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return the features, (B, F) float64, of pixels (B, C, H, W), uint8 or floats from 0 to 255."""
        x = pixels.double() / 127.5 - 1
        if x.shape[1] == 3:
            x = torch.einsum("oc,bchw->bohw", OPPONENT, x)
        features = [adaptive_avg_pool2d(x, self.colours)]
        spectrum = torch.fft.fft2(mirrored(x[:, : self.contrasts]))
        for psi in self.wavelets:
            contrast = torch.fft.ifft2(spectrum * psi)[..., : x.shape[2], : x.shape[3]].abs()  # |x * psi|
            pooled = adaptive_avg_pool2d(contrast[:, :1], self.details), contrast[:, 1:].mean((2, 3))
            features += [torch.log(FAINT + mean) for mean in pooled]
        return torch.cat([values.flatten(1) for values in features], dim=1)


@register("scattering-small")
class SmallScattering(Scattering):
    """The extractor "scattering" with fewer features, for small data sets: at 32x32, 16 in grey and 24 in colour.

    Mean colours on a grid of 2x2, and the contrasts of grey over the whole image. It sees less than "scattering":
    not where in the image a contrast is, and not the contrasts of the other colours.
    """

    kind, colours, details, coloured_details = "scattering-small", 2, 1, False


def wavelets(height: int, width: int, scales: int) -> Tensor:
    """Return oriented band-pass filters at scales one octave apart, at the frequencies of `torch.fft.fft2`.

    psi_(j,k)(omega) = 2 cos(pi/2 log2(|omega| / (2^-j pi))) cos(K/2 (arg omega - pi k / K)), each cosine within its
    first zeros; the finest filters pass all frequencies above pi too. The squares of neighbouring filters add up to
    a constant, a wave at the centre of one filter passes no other, and the modulus of the output is the amplitude
    of the wave at any phase.

    Returns:
        (scales * ORIENTATIONS, height, width) float64, from fine to coarse, real, and 0 at frequency 0.
    """
    y, x = (2 * math.pi * torch.fft.fftfreq(n, dtype=torch.float64) for n in (height, width))
    octave = torch.log2(torch.hypot(y[:, None], x) / math.pi)
    angle = torch.atan2(y[:, None], x)
    filters = []
    for j in range(scales):
        radial = _bump(octave.clamp(max=0) if j == 0 else octave + j)
        for k in range(ORIENTATIONS):
            off = torch.remainder(angle - math.pi * k / ORIENTATIONS + math.pi, 2 * math.pi) - math.pi
            filters.append(2 * radial * _bump(off * ORIENTATIONS / math.pi))
    return torch.stack(filters)


def mirrored(x: Tensor) -> Tensor:
    """Return images (..., H, W) with their mirror images, (..., 2H, 2W): periodic without edges."""
    x = torch.cat([x, x.flip(-1)], dim=-1)
    return torch.cat([x, x.flip(-2)], dim=-2)


def _bump(x: Tensor) -> Tensor:
    """Return cos(pi x / 2) within (-1, 1), exactly 0 elsewhere."""
    return torch.where(x.abs() < 1, torch.cos(math.pi / 2 * x), 0.0)
