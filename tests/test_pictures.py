"""Picture files: the images as they are, marked with where they come from."""

import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

import ddim
from ddim.data import to_uint8
from ddim.errors import UserError
from ddim.pictures import LARGEST, grid, layout, read_settings, write_each, write_grid, write_moving


def ramp(count=6, channels=1):
    """Images from black to white, in [-1, 1]."""
    return torch.linspace(-1, 1, count * channels * 15).reshape(count, channels, 3, 5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_numbers_in_minus_one_to_one_are_drawn_as_their_grey_levels(tmp_path, channels, dtype):
    images = ramp(channels=channels).to(dtype)
    levels = to_uint8(images.float())
    assert grid(images).tobytes() == grid(levels).tobytes()
    write_each(images, tmp_path)
    with Image.open(tmp_path / "000005.png") as file:
        shown = np.asarray(file).reshape(3, 5, channels)
    assert np.array_equal(shown, levels[5].permute(1, 2, 0).numpy())
    assert levels[0, 0, 0, 0] == 0
    assert levels[5, -1, 2, 4] == 255


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (ramp() * 1.01, r"float32 with values from -1\.01 to 1\.01"),
        (ramp() + torch.nan, "values from nan to nan"),
        ((ramp() + 1) * 127.5, "to 255"),
        (ramp().long(), "got int64"),
        (ramp() > 0, "got bool"),
        (ramp()[0], r"got a tensor of shape \(1, 3, 5\)"),
        (ramp()[:0], r"at least one image.*\(0, 1, 3, 5\)"),
        (ramp(channels=2), r"1 or 3 channels.*\(6, 2, 3, 5\)"),
        (ramp(channels=4), r"1 or 3 channels.*\(6, 4, 3, 5\)"),
        (ramp().numpy(), "got ndarray"),
    ],
)
def test_other_images_are_refused_in_every_form(tmp_path, images, said):
    for write in (grid, lambda one: write_grid(one, tmp_path / "a.png"), lambda one: write_each(one, tmp_path)):
        with pytest.raises(UserError, match=said):
            write(images)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [{"columns": 0}, {"columns": "x"}, {"scale": 0}, {"scale": 1.5}, {"gap": -1}])
def test_a_grid_of_no_size_is_refused(wrong):
    with pytest.raises(UserError, match=rf"The {next(iter(wrong))} of a grid must be a whole number of at least"):
        grid(ramp(), **wrong)


def test_a_grid_is_as_square_as_possible_and_no_larger_than_viewers_open():
    assert [layout(count, (8, 8))[0] for count in (1, 2, 4, 5, 9, 10, 64)] == [1, 2, 2, 3, 3, 4, 8]
    _, scale, (height, width) = layout(30_000, (28, 28))
    assert scale == 2
    assert height * width * scale**2 <= LARGEST
    with pytest.raises(UserError, match="1,000,000 images of 28 x 28 at scale 2"):
        layout(1_000_000, (28, 28))


def test_a_grid_says_that_it_is_none_of_the_images_and_how_it_was_made(tmp_path):
    write_grid(ramp(), tmp_path / "grid.png", settings={"seed": 3, "model": "é"})
    with Image.open(tmp_path / "grid.png") as file:
        assert file.info["Software"] == f"ddim {ddim.__version__}"
        assert file.info["ddim:picture"] == "sheet"
        assert json.loads(file.info["ddim:settings"]) == {"seed": 3, "model": "é"}


def test_single_images_stay_images(tmp_path):
    write_each(ramp(), tmp_path, first=7, settings=[{"index": i} for i in range(7, 13)])
    assert [read_settings(path) for path in sorted(tmp_path.iterdir())] == [{"index": i} for i in range(7, 13)]
    with Image.open(tmp_path / "000007.png") as file:
        assert file.info["Software"] == f"ddim {ddim.__version__}"
        assert "ddim:picture" not in file.info
    assert len(ddim.open_images(tmp_path, split="train")) + len(ddim.open_images(tmp_path, split="test")) == 6


def test_files_without_settings_have_none(tmp_path):
    write_each(ramp(1), tmp_path)
    (tmp_path / "text.png").write_text("no picture")
    for name in ("000000.png", "text.png", "missing.png"):
        assert read_settings(tmp_path / name) is None


def test_a_sheet_shows_itself_in_a_notebook_and_writes_itself(tmp_path):
    sheet = ddim.show(ramp(), columns=3, scale=2)
    sheet.save(tmp_path / "sheet.png")
    assert sheet._repr_png_() == (tmp_path / "sheet.png").read_bytes()
    with Image.open(tmp_path / "sheet.png") as file:
        assert file.tobytes() == grid(ramp(), 3, 2).tobytes()
        assert file.size == (2 * (3 * 6 + 1), 2 * (2 * 4 + 1))
    assert repr(sheet) == "<6 images in 38 × 18 pixels; .save(path) writes a PNG>"
    assert ddim.show(ramp()[0]).picture.tobytes() == grid(ramp()[:1]).tobytes()
    with pytest.raises(UserError, match=r"ends in \.png"):
        sheet.save(tmp_path / "sheet.jpg")
    with pytest.raises(UserError, match="clamp them first"):
        ddim.show(2 * ramp())


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_moving_picture_keeps_its_images_and_its_settings(tmp_path, suffix, channels):
    images, path = to_uint8(ramp(3, channels)), tmp_path / f"a{suffix}"
    write_moving(images, path, {"seed": 3, "times": [0.5] * 200})
    assert read_settings(path) == {"seed": 3, "times": [0.5] * 200}  # longer than a block of a GIF's comment
    with Image.open(path) as moving:
        frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(moving)]
    side = frames[0].shape[0] // 3
    shown = torch.from_numpy(np.stack(frames)[:, ::side, ::side]).permute(0, 3, 1, 2)
    assert torch.equal(shown, images[[0, 1, 2, 1]].expand(-1, 3, -1, -1))


def test_a_moving_picture_of_another_kind_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"a \.gif, \.webp or \.mp4 file"):
        write_moving(ramp(), tmp_path / "a.avi")
    (tmp_path / "broken.webp").write_bytes(b"RIFF\x10\x00\x00\x00WEBPVP8 ")
    assert read_settings(tmp_path / "broken.webp") is None
