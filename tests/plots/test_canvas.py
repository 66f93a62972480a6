"""The canvas keeps pixels square, and its rows and axes hold what fits."""

import numpy as np
import torch
from PIL import Image

import ddim
from ddim.plots.canvas import Canvas, Rows, log_limits, mosaic, save, separator, styled


def test_pixels_stay_square_and_equal(tmp_path):
    images = torch.randint(0, 256, (6, 3, 5, 5), dtype=torch.uint8)
    grid = mosaic(images, 3)
    with styled():
        canvas = Canvas(200)
        canvas.image(grid, left=37, top=21, scale=7)
        save(canvas.figure, tmp_path / "grid")
    with Image.open(tmp_path / "grid.png") as file:
        png = np.asarray(file.convert("RGB"))
        assert (file.info["Software"], file.info["ddim:picture"]) == (f"ddim {ddim.__version__}", "sheet")
    high, wide = grid.shape[0] * 7, grid.shape[1] * 7
    assert np.array_equal(png[21 : 21 + high, 37 : 37 + wide], grid.repeat(7, 0).repeat(7, 1))
    assert (png[:21] == 255).all()
    gap = separator(5)
    assert np.array_equal(grid[gap : gap + 5, gap : gap + 5], images[0].permute(1, 2, 0).numpy())


def test_rows_leave_out_what_does_not_fit():
    block = Rows(torch.zeros(2, 11, 1, 100, 100, dtype=torch.uint8), 600)
    assert block.shown == [0, 2, 5, 8, 10]
    assert block.width <= 600
    assert [len(middles) for middles in block.draw(Canvas(500), 0, 0)] == [5, 2]


def test_the_axis_holds_what_it_can():
    assert log_limits([]) == (0.5, 2.0)
    low, high = log_limits([0.0, -1.0, 1.0, 100.0])
    assert low < 1 < 100 < high
