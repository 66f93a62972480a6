"""Which extractor sees which images, and what every one of them says of itself."""

import pytest

from ddim.errors import UserError
from ddim.evaluate import extractor


@pytest.mark.parametrize(
    ("shape", "data", "name"),
    [
        ((1, 28, 28), "mnist", "mnist"),
        ((1, 8, 8), "digits", "digits"),
        ((1, 32, 32), "mnist", "scattering"),  # resized
        ((1, 28, 28), "letters", "scattering"),
        ((1, 28, 28), None, "scattering"),
        ((3, 32, 32), "airplanes", "scattering"),
    ],
)
def test_known_digits_have_their_classifier_and_all_else_scattering(shape, data, name):
    chosen = extractor.choose(shape, data)
    assert (chosen.name, chosen.shape) == (name, shape)
    assert chosen.classes == (10 if name == data else None)


def test_no_two_extractors_share_a_fingerprint():
    made = [
        extractor.get("mnist", (1, 28, 28)),
        extractor.get("digits", (1, 8, 8)),
        extractor.get("scattering", (1, 8, 8)),
    ]
    assert len({one.fingerprint for one in made}) == len(made)
    assert all(one.about.startswith(f"{one.dim} features") for one in made)


@pytest.mark.parametrize(
    ("name", "shape", "reason"),
    [
        ("nothing", (1, 28, 28), "choose one of mnist, digits, scattering, inception"),
        ("mnist", (3, 28, 28), "of 1x28x28, not of 3x28x28"),
        ("digits", (1, 28, 28), "of 1x8x8, not of 1x28x28"),
        ("scattering", (2, 28, 28), "not of 2x28x28"),
        ("scattering", (1, 7, 28), "8 to 256 pixels"),
        ("scattering", (1, 28, 257), "8 to 256 pixels"),
        ("inception", (4, 28, 28), "1 or 3 channels, not of 4"),
    ],
)
def test_what_there_is_not_is_said_in_a_sentence(name, shape, reason):
    with pytest.raises(UserError, match=reason):
        extractor.get(name, shape)
