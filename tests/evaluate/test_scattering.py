"""Scattering sees what its formulas say: waves at their scale and orientation, symmetries, and damage in order."""

import math

import pytest
import torch
from torch.nn.functional import avg_pool2d, pad

from ddim import open_images
from ddim.evaluate.extractors.scattering import (
    COLOURS,
    DETAILS,
    FAINT,
    ORIENTATIONS,
    Scattering,
    SmallScattering,
    mirrored,
    wavelets,
)
from ddim.evaluate.features import as_pixels, features
from ddim.evaluate.frechet import frechet, gaussian


def parts(extractor, found):
    """Mean colours (B, C, 4, 4), contrasts of grey (B, J, L, 2, 2) and of the other two colours (B, J, L, 2)."""
    channels, J = extractor.shape[0], extractor.scales
    cut = channels * COLOURS**2
    colours = found[:, :cut].reshape(-1, channels, COLOURS, COLOURS)
    rest = (found[:, cut:].exp() - FAINT).reshape(len(found), J, ORIENTATIONS, DETAILS**2 + channels - 1)
    return (
        colours,
        rest[..., : DETAILS**2].reshape(len(found), J, ORIENTATIONS, DETAILS, DETAILS),
        rest[..., DETAILS**2 :],
    )


def random(*shape):
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("shape", "dim"),
    [
        ((1, 8, 8), 64),
        ((1, 28, 28), 64),
        ((3, 32, 32), 120),
        ((3, 9, 13), 120),
        ((3, 64, 64), 144),
        ((1, 256, 31), 64),
    ],
)
def test_any_size_from_8_to_256_has_few_features(shape, dim):
    extractor = Scattering(shape)
    found = extractor(random(2, *shape))
    assert found.shape == (2, extractor.dim) == (2, dim)
    assert found.dtype == torch.float64
    assert found.isfinite().all()


@pytest.mark.parametrize(("shape", "dim"), [((1, 8, 8), 16), ((3, 32, 32), 24), ((3, 64, 64), 28)])
def test_the_small_extractor_pools_the_features_of_the_other(shape, dim):
    small, pixels = SmallScattering(shape), random(2, *shape)
    found = small(pixels)
    assert found.shape == (2, small.dim) == (2, dim)
    assert small.fingerprint != Scattering(shape).fingerprint
    colours, grey, _ = parts(Scattering(shape), Scattering(shape)(pixels))
    pooled = avg_pool2d(colours, 2).flatten(1), (FAINT + grey.mean((3, 4))).log().flatten(1)
    torch.testing.assert_close(found, torch.cat(pooled, dim=1))


def test_a_plain_image_has_its_colour_and_no_contrast():
    extractor = Scattering((1, 12, 20))
    colours, grey, _ = parts(extractor, extractor(torch.full((1, 1, 12, 20), 51, dtype=torch.uint8)))
    assert (colours - (51 / 127.5 - 1)).abs().max() < 1e-12
    assert grey.abs().max() < 1e-12


@pytest.mark.parametrize("j", [1, 2])
@pytest.mark.parametrize(("orientation", "axis"), [(0, 1), (2, 0)])
def test_a_wave_is_seen_with_its_amplitude_at_its_scale_and_orientation_alone(j, orientation, axis):
    """At the middle of a band, cos^2 + sin^2 = 1 leaves nothing to its neighbours."""
    n = 32
    wave = 0.7 * torch.cos(math.pi * 2.0**-j * (torch.arange(n, dtype=torch.float64) + 0.5))
    x = wave.expand(n, n) if axis == 1 else wave[:, None].expand(n, n)
    spectrum = torch.fft.fft2(mirrored(x))
    moduli = torch.stack([torch.fft.ifft2(spectrum * psi).abs() for psi in wavelets(2 * n, 2 * n, 3)])
    expected = torch.zeros(3, ORIENTATIONS, 1, 1, dtype=torch.float64)
    expected[j, orientation] = 0.7
    assert (moduli.view(3, ORIENTATIONS, 2 * n, 2 * n) - expected).abs().max() < 1e-12


def test_together_the_wavelets_pass_every_detail_alike():
    """The sum of psi(omega)^2 + psi(-omega)^2 is 4 from the coarsest middle up: no detail is lost."""
    n, scales = 64, 3
    psi = wavelets(n, n, scales)
    opposite = psi.flip(-1, -2).roll((1, 1), (-1, -2))  # -omega
    total = (psi**2 + opposite**2).sum(0)
    y, x = (2 * math.pi * torch.fft.fftfreq(n, dtype=torch.float64) for _ in range(2))
    inner = (y[:, None] > -math.pi) & (x > -math.pi)  # the highest negative frequency stands for both signs
    seen = inner & (torch.hypot(y[:, None], x) >= math.pi * 2.0 ** (1 - scales))
    assert (total[seen] - 4).abs().max() < 1e-12
    assert (psi[:, 0, 0] == 0).all()


def test_a_transposed_image_has_its_features_transposed():
    extractor = Scattering((3, 16, 16))
    pixels = random(3, 3, 16, 16)
    colours, grey, others = parts(extractor, extractor(pixels))
    turned = parts(extractor, extractor(pixels.transpose(2, 3)))
    order = [2, 1, 0, 3]  # what lay flat stands upright; the diagonals stay
    torch.testing.assert_close(turned[0], colours.transpose(2, 3), rtol=0, atol=1e-12)
    torch.testing.assert_close(turned[1], grey[:, :, order].transpose(3, 4), rtol=0, atol=1e-12)
    torch.testing.assert_close(turned[2], others[:, :, order], rtol=0, atol=1e-12)


def test_a_mirrored_image_has_its_features_mirrored():
    extractor = Scattering((1, 16, 24))
    pixels = random(3, 1, 16, 24)
    colours, grey, _ = parts(extractor, extractor(pixels))
    turned = parts(extractor, extractor(pixels.flip(3)))
    order = [0, 3, 2, 1]  # the diagonals change places
    torch.testing.assert_close(turned[0], colours.flip(3), rtol=0, atol=1e-12)
    torch.testing.assert_close(turned[1], grey[:, :, order].flip(4), rtol=0, atol=1e-12)


def test_grey_in_three_channels_is_grey():
    pixels = random(4, 1, 16, 16)
    one, three = Scattering((1, 16, 16)), Scattering((3, 16, 16))
    colours, grey, _ = parts(one, one(pixels))
    found = parts(three, three(pixels.expand(-1, 3, -1, -1)))
    torch.testing.assert_close(found[0][:, :1], math.sqrt(3) * colours)
    torch.testing.assert_close(found[1], math.sqrt(3) * grey)
    assert found[0][:, 1:].abs().max() < 1e-12
    assert found[2].abs().max() < 1e-12


def noised(x, strength):
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    return (x + strength * noise).clamp(-1, 1)


def blurred(x, strength):
    """Some way from the image to the mean of 3x3 around each pixel."""
    return x + strength * (avg_pool2d(pad(x, [1] * 4, mode="replicate"), 3, 1) - x)


def half_darkened(x, strength):
    """The right half, towards black."""
    darker = x.clone()
    darker[..., x.shape[-1] // 2 :] = (darker[..., x.shape[-1] // 2 :] + 1) * (1 - strength) - 1
    return darker


def tinted(x, strength):
    """Less blue."""
    tint = torch.tensor([1, 1, 1 - strength]).view(3, 1, 1)
    return (x + 1) * tint - 1


@pytest.fixture(scope="module")
def clean(airplanes):
    """Some aeroplanes in [-1, 1]."""
    return airplanes[:250].float() / 127.5 - 1


@pytest.fixture(scope="module")
def distance(clean):
    """How far (N, 3, 32, 32) are from them."""
    extractor = Scattering((3, 32, 32))
    reference = gaussian(features(extractor, clean))
    return lambda images: frechet(gaussian(features(extractor, images)), reference)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [noised, blurred, half_darkened, tinted])
def test_the_distance_grows_with_the_damage(airplanes, clean, distance, damage):
    """From 0, and to more than chance does to other images of the kind."""
    distances = [distance(damage(clean, strength)) for strength in (0, 0.1, 0.2, 0.4, 0.8)]
    assert distances[0] == pytest.approx(0, abs=1e-6)
    assert distances == sorted(distances)
    assert distances[-1] > 2 * distance(airplanes[250:500])


def test_a_shift_is_no_damage(clean, distance):
    """By a pixel sideways: nothing beside noise with a standard deviation of a twentieth of the range."""
    shifted = pad(clean[..., :-1], [1, 0, 0, 0], mode="replicate")
    assert distance(shifted) < 0.1 * distance(noised(clean, 0.1))


def test_the_distance_grows_with_every_class_that_is_missing():
    train = open_images("digits", split="train")
    seen = features(Scattering((1, 8, 8)), as_pixels(train))
    reference, rest, labels = gaussian(seen[:750]), seen[750:], train.labels[750:].numpy()
    distances = [frechet(gaussian(rest[labels < kinds]), reference) for kinds in (10, 8, 6, 4, 2)]
    assert distances == sorted(distances)
    assert distances[1] > 1.5 * distances[0]
