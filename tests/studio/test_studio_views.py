"""What the page shows, and what it sends: pictures, charts and pixels."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from ddim.errors import UserError

pytest.importorskip("gradio", reason="needs ddim[studio]")

from ddim.studio import pixels
from ddim.studio.views import Axis, chart, figure


def png_file(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return str(path)


def test_an_image_and_its_mask_return_from_the_page_as_they_were(model):
    torch.manual_seed(0)
    image = torch.randint(0, 256, model.shape, dtype=torch.uint8)
    known = torch.rand(8, 8) > 0.5
    x0, mask = pixels.read(pixels.address(image, known), model)
    assert torch.equal(((x0 + 1) * 127.5).round().byte(), image)
    assert torch.equal(mask, known)
    assert pixels.read(pixels.blank(model), model)[1].all()


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (None, "sent no image"),
        ({"a": 1}, "sent no image"),
        ("data:image/png;base64,AAAA", "sent no image"),
        ("data:image/png;base64,%%%", "sent no image"),
        ("http://example.org/a.png", "sent no image"),
        (pixels.PREFIX + "A" * pixels.LONGEST, "sent no image"),
        (pixels.address(torch.zeros(1, 28, 28, dtype=torch.uint8)), "28 × 28 pixels and the model's 8 × 8"),
    ],
)
def test_anything_else_from_the_page_is_refused_in_a_sentence(model, value, sentence):
    with pytest.raises(UserError, match=sentence):
        pixels.read(value, model)


def test_an_uploaded_image_gets_the_size_and_the_colours_of_the_model(model, tmp_path):
    colours = np.zeros((16, 32, 3), np.uint8)
    colours[:, 8:24] = (200, 200, 200)  # the central square
    x0, known = pixels.read(pixels.uploaded(png_file(tmp_path / "a.png", colours), model), model)
    assert x0.shape == model.shape
    assert known.all()
    inside = x0[:, :, 2:6]  # bicubic weights reach over the edge of the square
    assert torch.allclose(inside, torch.full_like(inside, 200 / 127.5 - 1), atol=1e-6)


def test_a_file_that_is_no_image_is_refused_in_a_sentence(model, tmp_path):
    text = tmp_path / "<script>.png"
    text.write_text("no image")
    with pytest.raises(UserError, match="it holds no image of a known format; upload a PNG"):
        pixels.uploaded(str(text), model)
    with pytest.raises(UserError, match="No such file"):
        pixels.uploaded(str(tmp_path / "missing.png"), model)


def test_downloads_are_the_images():
    image = torch.arange(64, dtype=torch.uint8).reshape(1, 8, 8)
    (content,) = re.findall(
        r'download="a.png" href="data:image/png;base64,([^"]+)"', pixels.downloads({"a.png": image})
    )
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))), image[0].numpy())


def test_a_caption_is_text():
    assert "<b>" not in figure(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), "<b>bold</b>")


def test_an_axis_ends_where_its_values_end_and_has_round_ticks():
    linear, log = Axis(0, 1000, 10, 110), Axis(0.01, 1, 100, 0, log=True)
    assert (linear(0), linear(500), linear(1000)) == (10, 60, 110)
    assert (log(0.01), log(0.1), log(1)) == pytest.approx((100, 50, 0))
    assert linear.ticks == [0, 200, 400, 600, 800, 1000]
    assert set(log.ticks) <= {0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0}
    assert len(Axis(0.82, 0.97, 0, 100, log=True).ticks) >= 3


def test_a_chart_of_one_point_or_one_value_is_drawn():
    assert "nan" not in chart({"loss": [(1.0, 0.5)]}, "x", "y", log=True)
    assert "<script>" not in chart({"<script>": [(0.0, 1.0), (1.0, 1.0)], "b": [(0.0, 1.0)]}, "x", "y")
