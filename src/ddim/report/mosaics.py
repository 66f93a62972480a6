"""Figures made of images: the data, one image noised, samples, and the way from noise to image."""

import math

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ddim.data import to_uint8
from ddim.forward import q_sample
from ddim.noise import ImageNoise
from ddim.report.numbers import three
from ddim.report.record import Record
from ddim.report.sheet import BLUE, FAINT, ORANGE, WIDTH, Sheet, centres, line, mosaic

MARGIN = 40
STOPS = 11  # frames in a row


def data(record: Record) -> Figure | None:
    """A grid of training images."""
    images = record.samples["data"].get("images")
    if images is None:
        return None
    columns = 20 if len(images) >= 60 else 10
    whole_rows = images[: max(len(images) // columns, 1) * columns]
    grid = mosaic(whole_rows, columns)
    scale = max(1, (WIDTH - 2 * MARGIN) // grid.shape[1])
    sheet = Sheet(grid.shape[0] * scale + 2 * MARGIN)
    sheet.image(grid, (WIDTH - grid.shape[1] * scale) // 2, MARGIN, scale)
    return sheet.figure


def forward(record: Record) -> Figure | None:
    """One image on its way to noise, above the two rates that mix it."""
    images = record.samples["data"].get("images")
    if images is None:
        return None
    schedule = record.model.schedule
    x0 = images[:1].float() / 127.5 - 1
    eps = ImageNoise(0, [0])(x0)
    times = torch.linspace(0, schedule.T, STOPS).round().int().tolist()
    row = mosaic(torch.cat([to_uint8(q_sample(x0, schedule(t), eps)) for t in times]), STOPS)
    scale = max(1, (WIDTH - 5 * MARGIN) // row.shape[1])
    left, top, high = (WIDTH - row.shape[1] * scale) // 2 + MARGIN, MARGIN + 60, row.shape[0] * scale
    middles = centres(left, x0.shape[-1], scale, STOPS, line(x0.shape[-1]))

    sheet = Sheet(top + high + 90 + 380 + 120)
    _times(sheet, middles, times, top - 35)
    for x, t in zip(middles, times, strict=True):
        sheet.text(x, top + high + 40, _number(float(schedule.alpha_bar[t])), color=FAINT)
    sheet.text(left - 55, top + high + 40, r"$\bar\alpha_t$", fontsize=13)
    sheet.image(row, left, top, scale)

    axes = sheet.axes(middles[0], top + high + 90, middles[-1] - middles[0], 380)
    t = torch.arange(schedule.T + 1)
    axes.plot(t, schedule.alpha_bar.sqrt(), color=BLUE, lw=2.2, label=r"signal  $\sqrt{\bar\alpha_t}$")
    axes.plot(t, (1 - schedule.alpha_bar).sqrt(), color=ORANGE, lw=2.2, label=r"noise  $\sqrt{1-\bar\alpha_t}$")
    axes.set(xlim=(0, schedule.T), ylim=(0, 1.03), xticks=times, xlabel="time $t$", yticks=(0, 0.5, 1))
    axes.legend(loc="center right", fontsize=11)
    return sheet.figure


def samples(record: Record) -> Figure | None:
    """DDIM on the left and DDPM on the right, image for image from the same noise."""
    facts = record.results.get("gallery")
    ddim, ddpm = (record.samples[name].get("images") for name in ("ddim", "ddpm"))
    if facts is None or ddim is None or ddpm is None or len(ddim) != len(ddpm):
        return None
    grids = [mosaic(images, math.isqrt(len(images))) for images in (ddim, ddpm)]
    high, wide = grids[0].shape[:2]
    scale = max(1, (WIDTH - 4 * MARGIN) // 2 // wide)
    sheet = Sheet(high * scale + 130 + MARGIN)
    for side, name, grid, colour in ((0, "ddim", grids[0], BLUE), (1, "ddpm", grids[1], ORANGE)):
        one = facts[name]
        left = (WIDTH - 2 * wide * scale - 2 * MARGIN) // 2 + side * (wide * scale + 2 * MARGIN)
        title = f"{name.upper()}   η = {one['eta']:.0f}   S = {one['steps']}"
        sheet.text(left, 75, title, ha="left", color=colour, fontsize=13, weight="bold")
        sheet.text(
            left + wide * scale, 77, f"{one['count']} images in {three(one['seconds'])} s", ha="right", fontsize=10
        )
        sheet.image(grid, left, 130, scale)
    return sheet.figure


def strips(record: Record, shown: int = 2) -> Figure | None:
    """Rows of x_t, the predicted x0 below each, for eta = 0 and then for eta = 1."""
    tensors = record.strips
    if tensors is None:
        return None
    stops = torch.linspace(0, len(tensors["times"]) - 1, min(STOPS, len(tensors["times"]))).round().long()
    pairs = {name: _pairs(tensors, name, stops)[:shown] for name in ("eta0", "eta1")}
    tall, size = tensors["eta0.x"].shape[-2:]
    high, wide = mosaic(pairs["eta0"][0], len(stops)).shape[:2]
    scale = max(1, (WIDTH - 3 * MARGIN - 60) // wide)
    left = WIDTH - MARGIN - wide * scale
    middles = centres(left, size, scale, len(stops), line(size))
    block = shown * (high * scale + MARGIN) + 160

    sheet = Sheet(2 * block)
    titles = (
        ("eta0", "η = 0   DDIM, deterministic", BLUE),
        ("eta1", "η = 1   DDPM, new noise in each step", ORANGE),
    )
    for i, (name, title, colour) in enumerate(titles):
        top = i * block + 160
        sheet.text(left, top - 105, title, ha="left", color=colour, fontsize=14, weight="bold")
        _times(sheet, middles, tensors["times"][stops].round().int().tolist(), top - 35)
        for pair in pairs[name]:
            sheet.image(mosaic(pair, len(stops)), left, top, scale)
            for label, y in zip(("$x_t$", r"$\hat x_0$"), centres(top, tall, scale, 2, line(size)), strict=True):
                sheet.text(left - 50, y, label, fontsize=13)
            top += high * scale + MARGIN
    return sheet.figure


def _pairs(tensors: dict[str, Tensor], name: str, stops: Tensor) -> Tensor:
    """(N, 2 F, C, H, W): of each image x_t at all the stops, then the predicted x0."""
    both = torch.stack([tensors[f"{name}.x"][stops], tensors[f"{name}.x0"][stops]])  # (2, F, N, C, H, W)
    return both.flatten(0, 1).transpose(0, 1)


def _times(sheet: Sheet, middles: list[float], times: list[int], y: float) -> None:
    for i, (x, t) in enumerate(zip(middles, times, strict=True)):
        sheet.text(x, y, f"$t={t}$" if i in (0, len(times) - 1) else f"{t}")


def _number(value: float) -> str:
    """Three decimals, or a power of ten where they would be 0."""
    if value >= 5e-4 or value == 0:
        return f"{value:.3f}"
    digits, power = f"{value:.0e}".split("e")
    return rf"${digits}\times10^{{{int(power)}}}$"
