"""A training run: from a recipe to a folder that holds the model, its history and what ran."""

import hashlib
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from ddim import model_io, nets, schedule
from ddim.data import open_images
from ddim.data.images import Images
from ddim.denoiser import Denoiser
from ddim.device import choose_precision
from ddim.errors import UserError
from ddim.train import history
from ddim.train.diary import Diary
from ddim.train.engine import Engine
from ddim.train.loop import fit
from ddim.train.owner import owning
from ddim.train.recipe import Recipe
from ddim.train.signals import interruptible
from ddim.train.state import State
from ddim.train.transfer import transfer
from ddim.train.update import seeded

SAVE_EVERY = 60.0  # seconds between two checkpoints: what a killed run loses at most
FREE = {"epochs", "steps", "minutes", "learning_rate", "cooldown"}
FREE |= {"clip", "accumulate", "channels_last", "compile"}
"""What of a plan may change when a run goes on."""


def train(
    recipe: Recipe,
    folder: str | Path,
    *,
    device: str | None = None,
    data_dir: str | Path | None = None,
    url: str | None = None,
    overwrite: bool = False,
    resume: bool = False,
    init: Denoiser | None = None,
    trackers: Sequence[str] = (),
    save_every: float = SAVE_EVERY,
) -> Denoiser:
    """Train by a recipe into a run folder, with a progress bar.

    The folder holds `config.json`, `model.safetensors` (the averaged weights), `checkpoints/` (what a resume
    needs), `metrics.jsonl`, `environment.json` and `samples/` (a few of the images, and samples along the way).
    SIGINT and SIGTERM end training after the update under way, and all is saved. Under `torchrun` each process
    calls this, and the first of them writes.

    Args:
        recipe: what to learn, and how.
        folder: of the run; it must not hold a run yet, unless `resume` or `overwrite` say otherwise.
        device: "cpu", "cuda" or "mps"; None takes the best there is.
        data_dir: where the data set's files lie; None looks in DDIM_DATA, then downloads.
        url: where to download from instead of the official places.
        overwrite: replace the run that the folder holds.
        resume: go on from the newest whole checkpoint, or begin if the folder holds no run. On one machine, with
            as many processes and threads, the weights are those of an uninterrupted run, bit by bit.
        init: a model whose weights to start from; layers of another shape start anew.
        trackers: "tensorboard" or "wandb", which are told the metrics too.
        save_every: seconds between two checkpoints.

    Returns:
        The model with the averaged weights, in eval mode.

    Raises:
        UserError: a folder that holds a run or that another process trains in, a checkpoint of another recipe,
            an unknown data set or device, images that cannot be read, a training that breaks down.
        KeyboardInterrupt: a signal asked to end.
    """
    folder = Path(folder)
    if not 0 < save_every < math.inf:
        raise UserError(f"save_every must be a number of seconds above 0; got {save_every}.")
    held = [name for name in ("config.json", "model.safetensors", "metrics.jsonl") if (folder / name).exists()]
    if held and not (overwrite or resume):
        raise UserError(
            f"{folder} holds a {held[0]} already; go on with --resume, choose another --out, or replace it with "
            "--overwrite."
        )
    engine = Engine(device, trackers, folder)
    with engine.main_first():  # it downloads and decodes, the others find what it made
        images, held_out = (
            open_images(
                recipe.data,
                classes=recipe.classes,
                size=recipe.image_size,
                split=split,
                data_dir=data_dir,
                url=url,
            )
            for split in ("train", "test")
        )
    asked = _precision(folder) if resume and recipe.plan.precision == "auto" else None
    precision = choose_precision(asked or recipe.plan.precision, engine.device)
    recipe = replace(recipe, plan=replace(recipe.plan, precision=precision))  # type: ignore[arg-type]
    data = identity(images, held_out)
    model = build(recipe, images)
    if init is not None:
        if (init.predicts, init.schedule.config) != (model.predicts, model.schedule.config):
            raise UserError(
                f"--init was trained to predict {init.predicts} on the {init.schedule.config['name']} schedule; "
                "ask for the same --predicts and --schedule."
            )
        transfer(init.network, model.network)
    model.to(engine.device)
    state = State(model.network, recipe.plan)
    with owning(folder, engine.main):
        if resume:
            _go_on(state, recipe, data, folder, engine)
        now = None
        diary = Diary(folder, recipe, model, images, held_out, data, state, engine)
        with diary, interruptible() as interrupted:
            for now in fit(
                model,
                images,
                recipe.plan,
                engine=engine,
                state=state,
                interrupted=interrupted,
                recover=diary.go_back,
            ):
                diary.note(now)
                if time.monotonic() - diary.saved > save_every:
                    diary.save(now.fraction == 1, patient=True)
            if now is None:
                diary.say("This training had come to its end; a higher --steps, --epochs or --minutes adds to it.")
            else:
                diary.save(now.fraction == 1)
    if now is not None and now.fraction < 1:
        raise KeyboardInterrupt
    return model.with_network(state.averages[0].network).eval()


def build(recipe: Recipe, images: Images) -> Denoiser:
    """The untrained model of a recipe; its first weights depend on the plan's seed alone."""
    classes = len(images.classes) if recipe.conditional else None
    with seeded(recipe.plan.seed, torch.device("cpu")):
        network = nets.build(recipe.network, images.shape[0], recipe.size, classes)
    return Denoiser(network, schedule.get(recipe.schedule), recipe.predicts, images.shape, classes)


def _go_on(state: State, recipe: Recipe, data: dict[str, Any], folder: Path, engine: Engine) -> None:
    """Bring `state` to where the run in the folder stands; leave it if there is no run."""
    found = history.steps(folder)
    if (folder / "config.json").exists():
        if not found:
            raise UserError(
                f"{folder} holds a model but no checkpoints to go on from; start from its weights with --init, or "
                "begin anew with --overwrite."
            )
        _check(recipe, folder)
        if model_io.read_config(folder).get("data", data) != data:
            raise UserError(
                f"The images are not those that {folder} was begun with; bring them back, or start from its "
                "weights with --init in another --out."
            )
        history.resume(state, folder)
    elif any(found) or ((folder / "model.safetensors").exists() and not (folder / "metrics.jsonl").exists()):
        raise UserError(
            f"{folder} holds weights but no config.json, so no run to go on with; choose another --out."
        )
    # Nobody goes on, and writes, before all have looked.
    if engine.sum(state.step) != [state.step * engine.processes]:
        raise UserError(f"Not all processes find the same checkpoints; put {folder} where all machines see it.")


def identity(images: Images, held_out: Images) -> dict[str, Any]:
    """What tells these images from others: their numbers, shape and classes, a digest of labels and of a sample."""
    digest = hashlib.sha256()
    for part in (images, held_out):
        digest.update(part.labels.numpy().tobytes())
        rows = torch.linspace(0, len(part) - 1, min(1000, len(part))).long()
        digest.update(part.pixels[rows].contiguous().numpy().tobytes())
    about = {"images": len(images), "held_out": len(held_out), "shape": list(images.shape)}
    return {**about, "classes": list(images.classes), "digest": digest.hexdigest()}


def _precision(folder: Path) -> str | None:
    """What the run in the folder is computed in; None if there is none."""
    try:
        return str(model_io.read_config(folder)["recipe"]["plan"]["precision"])
    except (UserError, KeyError, TypeError):
        return None


def _check(recipe: Recipe, folder: Path) -> None:
    """Refuse a recipe that differs in more than `FREE` from that of the run in the folder."""
    was, now = (_settled(one) for one in (model_io.read_config(folder).get("recipe", {}), asdict(recipe)))
    changed = sorted(name for name in was.keys() | now.keys() if was.get(name) != now.get(name))
    if changed:
        name = changed[0]
        raise UserError(
            f"{folder} was begun with {name} = {was.get(name)!r}, not {now.get(name)!r}; go on without changing "
            "it, or train into another --out."
        )


def _settled(recipe: dict[str, Any]) -> dict[str, Any]:
    """What of a recipe must stay as it is when its run goes on, as one table of plain data."""
    table: dict[str, Any] = json.loads(json.dumps(recipe))
    plan = table.pop("plan", {})
    return table | {name: value for name, value in plan.items() if name not in FREE}
