"""Pictures of a user become a batch of the model's shape."""

import numpy as np
import pytest
import torch
from PIL import Image

import ddim
from ddim.errors import UserError
from ddim.pictures import write_each, write_grid


@pytest.mark.parametrize("channels", [1, 3])
def test_a_written_image_is_read_again(tmp_path, channels):
    pixels = torch.randint(0, 256, (2, channels, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    write_each(pixels, tmp_path)
    x0 = ddim.read_images(tmp_path / "000000.png", str(tmp_path / "000001.png"), shape=(channels, 8, 8))
    assert x0.dtype == torch.float32
    assert torch.equal(x0, pixels.float() / 127.5 - 1)


def test_a_photograph_is_cropped_resized_and_made_grey(tmp_path):
    red = np.zeros((20, 80, 3), np.uint8)
    red[:, 15:65, 0] = 255  # the central square, and the reach of the filter
    Image.fromarray(red).save(tmp_path / "red.png")
    x0 = ddim.read_images(tmp_path / "red.png", shape=(1, 4, 4))
    torch.testing.assert_close(x0, torch.full((1, 1, 4, 4), 76 / 127.5 - 1))  # 0.299 of 255


def test_what_is_no_picture_is_refused(tmp_path):
    write_grid(torch.zeros(4, 1, 8, 8), tmp_path / "grid.png")
    (tmp_path / "text.png").write_text("no picture")
    for name, reason in (
        ("grid.png", "is a sheet of images"),
        ("text.png", "no image of a known format"),
        ("none.png", "No such file"),
    ):
        with pytest.raises(UserError, match=rf"{name}.*{reason}"):
            ddim.read_images(tmp_path / name, shape=(1, 8, 8))
    with pytest.raises(UserError, match="at least one file"):
        ddim.read_images(shape=(1, 8, 8))
    with pytest.raises(UserError, match=r"the shape is \(4, 8, 8\)"):
        ddim.read_images("any.png", shape=(4, 8, 8))


def test_an_image_that_is_not_square_is_cropped_to_the_aspect_of_the_model(tmp_path):
    pixels = np.arange(4 * 12, dtype=np.uint8).reshape(4, 12)
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    x0 = ddim.read_images(tmp_path / "wide.png", shape=(1, 4, 8))
    assert torch.equal(x0[0, 0], torch.from_numpy(pixels[:, 2:10]).float() / 127.5 - 1)
