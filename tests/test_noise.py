import numpy as np
import pytest
import torch

from ddim.errors import UserError
from ddim.noise import SAMPLING, TRAINING, ImageNoise, stream


def test_noise_of_an_image_is_bit_equal_in_any_batch():
    shape = (3, 5, 7)
    whole = ImageNoise(seed=4, indices=range(10))
    draws = [whole(torch.empty(10, *shape)) for _ in range(3)]
    for indices in ([7], [9, 2], range(3, 8)):
        part = ImageNoise(seed=4, indices=indices)
        for k in range(3):
            assert torch.equal(part(torch.empty(len(indices), *shape)), draws[k][list(indices)])


def test_every_pair_of_seed_and_index_is_a_stream_of_its_own():
    """Seed 1, image 2 is not seed 2, image 1, nor seed 3, image 0: the pair is hashed, not added."""
    draws = {(s, i): stream(s, i).standard_normal(8).tobytes() for s in range(6) for i in range(6)}
    assert len(set(draws.values())) == 36
    assert stream(0, 0, SAMPLING).standard_normal() != stream(0, 0, TRAINING).standard_normal()


def test_the_streams_are_standard_normal_and_unrelated():
    x = ImageNoise(0, range(2000))(torch.empty(2000, 100)).double()
    assert abs(x.mean()) < 5 / 200_000**0.5
    assert abs(x.var() - 1) < 5 * (2 / 200_000) ** 0.5
    neighbours = (x[:-1] * x[1:]).mean()
    assert abs(neighbours) < 5 / 200_000**0.5


def test_the_stream_never_changes():
    """These numbers are part of the format: the same seed must give the same images next year."""
    drawn = stream(seed=1, index=2).standard_normal(3, dtype=np.float32)
    assert drawn.tolist() == [-0.3608265817165375, -0.20863281190395355, -0.1206943541765213]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_dtype_is_the_same_draw_rounded(dtype):
    single = ImageNoise(0, [3])(torch.empty(1, 4))
    assert torch.equal(ImageNoise(0, [3])(torch.empty(1, 4, dtype=dtype)), single.to(dtype))


@pytest.mark.parametrize(("seed", "index"), [(-1, 0), (0, -1), (2**64, 0)])
def test_seeds_outside_their_range(seed, index):
    with pytest.raises(UserError, match="whole number"):
        stream(seed, index)


def test_noise_for_another_purpose_is_unrelated():
    empty = torch.empty(1, 4)
    assert torch.equal(ImageNoise(0, [3], SAMPLING)(empty), ImageNoise(0, [3])(empty))
    assert not torch.equal(ImageNoise(0, [3], TRAINING)(empty), ImageNoise(0, [3])(empty))
