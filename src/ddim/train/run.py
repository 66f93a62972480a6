"""A training run: from a recipe to a folder that holds the model, its history and what ran."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save as to_bytes
from tqdm import tqdm

from ddim import checkpoint, environment, nets, schedule
from ddim.data import open_images, to_uint8
from ddim.data.images import Images
from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.files import append_line, write_bytes, write_text
from ddim.train.loop import Progress, fit, held_out_loss, seeded
from ddim.train.recipe import Recipe

LINES = 20  # of metrics, at least, however short the run
SAVE_EVERY = 60.0  # seconds between two saves: what a killed run loses at most


def train(
    recipe: Recipe,
    folder: str | Path,
    *,
    device: str | None = None,
    data_dir: str | Path | None = None,
    url: str | None = None,
    overwrite: bool = False,
) -> Denoiser:
    """Train by a recipe into a run folder, with a progress bar.

    The folder holds `config.json`, `model.safetensors` (the averaged weights), `metrics.jsonl` (a line for
    each epoch, twenty at least), `environment.json` and `samples/data.safetensors` (a few of the images). A
    KeyboardInterrupt (the command line makes SIGTERM one) saves what has been learnt and goes on.

    Args:
        recipe: what to learn, and how.
        folder: of the run; it must not hold a run yet.
        device: "cpu", "cuda" or "mps"; None takes the best there is.
        data_dir: where the data set's files lie; None looks in DDIM_DATA, then downloads.
        url: where to download from instead of the official places.
        overwrite: replace the run that the folder holds.

    Returns:
        The model with the averaged weights, in eval mode.

    Raises:
        UserError: a folder that holds a run, an unknown data set or device, images that cannot be read.
    """
    folder = Path(folder)
    held = [name for name in ("config.json", "model.safetensors", "metrics.jsonl") if (folder / name).exists()]
    if held and not overwrite:
        raise UserError(
            f"{folder} holds a {held[0]} already; choose another --out, or replace it with --overwrite."
        )
    where = choose_device(device)
    images, held_out = (
        open_images(
            recipe.data, classes=recipe.classes, size=recipe.image_size, split=split, data_dir=data_dir, url=url
        )
        for split in ("train", "test")
    )
    model = build(recipe, images).to(where)

    for stale in ("config.json", "model.safetensors"):
        (folder / stale).unlink(missing_ok=True)
    write_text(folder / "metrics.jsonl", "")
    write_text(
        folder / "environment.json", json.dumps({**environment.describe(), "device": where}, indent=2) + "\n"
    )
    preview = to_uint8(images.batch(torch.arange(min(100, len(images))))[0])
    write_bytes(folder / "samples" / "data.safetensors", to_bytes({"images": preview}))
    progress: Progress | None = None
    try:
        with _bar(recipe, images) as bar:
            for progress in _recorded(model, images, held_out, recipe, folder):
                _show(bar, progress, recipe.plan.batch_size)
    finally:  # also on an interrupt, and when training breaks down: keep what was learnt
        if progress is not None:
            _save(progress, recipe, folder)
    assert progress is not None
    return progress.average.eval()


def build(recipe: Recipe, images: Images) -> Denoiser:
    """The untrained model of a recipe; its first weights depend on the plan's seed alone."""
    classes = len(images.classes) if recipe.conditional else None
    with seeded(recipe.plan.seed, torch.device("cpu")):
        network = nets.build(recipe.network, images.shape[0], recipe.size, classes)
    return Denoiser(network, schedule.get(recipe.schedule), recipe.predicts, images.shape, classes)


def choose_device(name: str | None) -> str:
    """The device called `name`, or the best there is. Raises `UserError` for one that is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name is None:
        return next(device for device, available in there.items() if available)
    try:
        usable = torch.empty(0, device=name).device.type in there
    except (RuntimeError, AssertionError):  # PyTorch's words for a device that is unknown, and for one not built in
        usable = False
    if not usable:
        available = ", ".join(device for device, yes in there.items() if yes)
        raise UserError(f"There is no device {name!r} on this machine; choose one of {available}.")
    return name


def _recorded(
    model: Denoiser, images: Images, held_out: Images, recipe: Recipe, folder: Path
) -> Iterator[Progress]:
    """`fit`, with a line of metrics after each epoch (`LINES` in all where epochs are few) and a save a minute."""
    losses: list[float] = []
    lines, saved = 0, time.monotonic()
    for now in fit(model, images, recipe.plan):
        losses.append(now.loss)
        due = int(max(now.epoch, LINES * now.fraction))
        if due > lines or now.fraction == 1:
            line = {
                "step": now.step,
                "epoch": round(now.epoch, 3),
                "loss": sum(losses) / len(losses),
                "held_out": held_out_loss(now.average, held_out),
                "images_per_second": round(now.step * recipe.plan.batch_size / now.seconds, 1),
                "seconds": round(now.seconds, 2),
            }
            append_line(folder / "metrics.jsonl", json.dumps(line))
            losses, lines = [], due
        if time.monotonic() - saved > SAVE_EVERY:
            _save(now, recipe, folder)
            saved = time.monotonic()
        yield now


def _save(now: Progress, recipe: Recipe, folder: Path) -> None:
    checkpoint.save(now.average, folder, recipe=asdict(recipe), finished=now.fraction == 1)


def _bar(recipe: Recipe, images: Images) -> tqdm:
    return tqdm(
        total=recipe.plan.total_steps(len(images)), desc=f"training on {images.name}", unit="step", disable=None
    )


def _show(bar: tqdm, now: Progress, batch_size: int) -> None:
    bar.total = round(now.step / now.fraction)  # where the clock ends training, an estimate that settles
    rate = now.step * batch_size / now.seconds
    bar.set_postfix(loss=f"{now.loss:.4f}", epoch=f"{now.epoch:.1f}", refresh=False, **{"images/s": f"{rate:.0f}"})
    bar.update()
