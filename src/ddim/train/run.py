"""A training run: from a recipe to a folder that holds the model, its checkpoints, its metrics and its machine."""

import hashlib
import json
import math
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import nn

from ddim import environment, nets, processors, schedule
from ddim.config import read_config
from ddim.data import names, open_images
from ddim.data.images import Images
from ddim.denoiser import Denoiser
from ddim.errors import Notice, UserError
from ddim.files import as_table, read_table, read_tensors, user_path
from ddim.predict import predictions
from ddim.text import counted, listed
from ddim.train import augment, checkpoints
from ddim.train.best import Validate
from ddim.train.distributed import Distributed
from ddim.train.guards import Breakdown, exclusive, interruptible, report_failed_compiler
from ddim.train.logger import RunLogger
from ddim.train.loop import Progress, fit, seeded
from ddim.train.loss import losses_by_level, weightings
from ddim.train.objective import Denoising, Objective
from ddim.train.precision import training_precision
from ddim.train.recipe import Plan, Recipe
from ddim.train.state import State

FEW_IMAGES = 10  # below this number of training images, a notice says what to do
SAVE_EVERY = 60.0  # seconds between two checkpoints: the most that a killed run loses
CHANGEABLE = {"epochs", "steps", "minutes", "learning_rate", "cooldown", "clip", "accumulate"}
CHANGEABLE |= {"channels_last", "compile", "snapshots", "validate"}  # fields of a plan that a resumed run may change


class Task(Protocol):
    """What a run trains instead of a new model on noisy images."""

    command: ClassVar[str]  # of the command line, which continues the run

    def describe(self) -> dict[str, Any]:
        """Return its entries of `config.json`, plain data; a run that is resumed must have the same ones."""
        ...

    def student(self) -> Denoiser:
        """Return the model to train, with its first weights."""
        ...

    def objective(self, images: Images, plan: Plan) -> Objective:
        """Return what the training minimises."""
        ...


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
    task: Task | None = None,
    validate: Validate | None = None,
) -> Denoiser:
    """Train by a recipe into a run folder, and return the model with the averaged weights, in eval mode.

    The folder holds `config.json`, `model.safetensors` (the averaged weights), `checkpoints/` (what `resume`
    needs), `metrics.jsonl`, `environment.json` and `samples/` (some of the training images, and samples drawn on
    the way). SIGINT and SIGTERM end training after the current update, and everything is saved. Under `torchrun`
    each process calls this function, and the main one writes.

    Args:
        recipe: what to learn, and how.
        folder: the run folder; it must not hold a run yet, except with `resume` or `overwrite`.
        device: "cpu", "cuda" or "mps"; None is the first available of cuda, mps and cpu.
        data_dir: the folder of the data set's files; None looks in DDIM_DATA, then downloads.
        url: where to download from instead of the official addresses.
        overwrite: replace the run in the folder.
        resume: continue from the newest whole checkpoint, or begin if the folder holds no run. On the same
            machine, with the same number of processes and threads, the weights equal those of an uninterrupted
            run, bit for bit.
        init: a model whose weights to start from; layers of another shape start from new weights.
        trackers: "tensorboard" or "wandb", which receive the metrics, too.
        save_every: seconds between two checkpoints.
        task: what to train instead of a new model on noisy images, e.g. a `ddim.distill.Distillation`.
        validate: what measures samples on the way, e.g. `ddim.validation.Validation`, for the plan's share `validate`
            of the time. The model is then the best average that was measured; see `ddim.train.best`.

    Raises:
        UserError: a name that is not registered, a folder that holds a run or that another process trains in, a
            checkpoint of another recipe, an unknown data set or device, images that cannot be read, or a training
            that breaks down.
        KeyboardInterrupt: a signal arrived. What was trained so far is saved, even if that is all of it.
    """
    folder = user_path(folder)
    if not 0 < save_every < math.inf:
        raise UserError(f"save_every must be a number of seconds above 0; got {save_every}.")
    check_names(recipe)
    present = [name for name in ("config.json", "model.safetensors", "metrics.jsonl") if _holds(folder / name)]
    if present and not (overwrite or resume):
        raise UserError(
            f"{folder} holds a {present[0]} already; continue with --resume, choose another --out, or replace it "
            "with --overwrite."
        )
    where = place(recipe.data)
    opened = partial(open_images, **recipe.source(), data_dir=data_dir, url=url)
    if resume:
        recipe = _as_begun(recipe, where, folder)
    distributed = Distributed(device, trackers, folder)
    with distributed.main_first():  # the main process downloads and decodes, the others read its files
        images, held_out = opened(split="train"), opened(split="test")
    if len(images) < FEW_IMAGES and init is None and distributed.main:
        warnings.warn(few_images(images), Notice, stacklevel=2)
    data = identity(images, held_out) | ({} if where is None else {"place": where})
    model = build(recipe, images) if task is None else task.student()
    if init is not None:
        if (init.predicts, init.schedule.config) != (model.predicts, model.schedule.config):
            raise UserError(
                f"--init was trained to predict {init.predicts} on the {init.schedule.config['name']} schedule; "
                "ask for the same --predicts and --schedule."
            )
        new = transfer(init.network, model.network)
        if init.shape[0] != model.shape[0] and distributed.main:
            warnings.warn(
                f"--init was trained on images of {counted(init.shape[0], 'channel')}, and these have "
                f"{model.shape[0]}: the layers that depend on them start from new weights ({listed(new, 3)}).",
                Notice,
                stacklevel=2,
            )
    model.to(distributed.device)
    precision = training_precision(model, recipe.plan.precision, distributed)
    recipe = replace(recipe, plan=replace(recipe.plan, precision=precision))  # type: ignore[arg-type]
    state, about = State(model.network, recipe.plan), {} if task is None else task.describe()
    with exclusive(folder, distributed.main):
        if resume:
            _resume(state, recipe, data, about, folder, distributed)
        progress = None
        objective = Denoising(model, images, recipe.plan) if task is None else task.objective(images, recipe.plan)
        command = "train" if task is None else task.command
        logger = RunLogger(
            folder, recipe, model, images, held_out, data, state, distributed, objective, about, command, validate
        )
        with logger, interruptible() as interrupted, report_failed_compiler():
            for progress in fit(
                model,
                images,
                recipe.plan,
                distributed=distributed,
                state=state,
                interrupted=interrupted,
                recover=logger.recover,
                objective=objective,
            ):
                logger.record(progress)
                if progress.fraction < 1 and time.monotonic() - logger.saved > save_every:
                    logger.save(finished=False, tolerant=True)
            if progress is None:
                longer = "train longer with a higher --steps, --epochs or --minutes"
                logger.screen.print(f"This training is complete; {longer}.")
            else:
                if progress.fraction == 1:
                    check_outcome(progress, images, state.rate * recipe.plan.learning_rate)
                logger.save(progress.fraction == 1)
                if progress.fraction == 1:
                    logger.choose(progress)
    if interrupted() or (progress is not None and progress.fraction < 1):  # in this process, or in another
        raise KeyboardInterrupt
    model.network.load_state_dict(state.averages[0].network.state_dict())  # that of `averages` has no gradients
    if logger.best is not None:
        model.network.load_state_dict(read_tensors(folder / "model.safetensors"))
    return model.eval()


def few_images(images: Images) -> str:
    """Return what to do with so few images."""
    counts = counted(len(images), "training image")
    start = {1: "mnist", 3: "airplanes"}.get(images.shape[0], "RUN")
    return (
        f"{images.name} has {counts}, which a network learns by heart; to draw more than copies, add images, or start "
        f"from a model that has learned from others, with --init {start} and few --steps."
    )


def check_outcome(progress: Progress, images: Images, learning_rate: float) -> None:
    """Check that the averaged weights predict numbers, which no later update does after the last one.

    Raises:
        Breakdown: their loss on a few images is NaN or infinite.
    """
    loss = sum(losses_by_level(progress.average, images, max_images=10))
    if not math.isfinite(loss):
        raise Breakdown(progress.step, f"the loss of the averaged weights is {loss:g}", learning_rate)


def check_names(recipe: Recipe) -> None:
    """Check that the names in a recipe are registered.

    Raises:
        UserError: an unknown network, size, schedule, parameterisation or weighting.
    """
    _ = nets.sizes(recipe.network)[recipe.size]
    if recipe.schedule not in schedule.names():  # "betas" is registered, but does not work without options
        raise schedule.schedules.unknown(recipe.schedule, schedule.names())
    _ = predictions[recipe.predicts], weightings[recipe.plan.weighting]
    if recipe.schedule == "edm" and recipe.predicts != "x0":
        raise UserError(
            f"On EDM's schedule a preconditioned network is trained, which predicts x0; got {recipe.predicts!r}. Ask "
            "for predicts = x0, and for weighting = edm, its loss."
        )


def build(recipe: Recipe, images: Images) -> Denoiser:
    """Return the untrained model of a recipe; its weights depend on the plan's seed alone.

    Raises `UserError` for a model with classes, of one of which there is no image.
    """
    length = 0 if images.conditions is None or not recipe.conditional else images.conditions.shape[1]
    several = len(images.classes) > 1 or not length  # one class beside a vector says nothing
    classes = images.trainable_classes() if recipe.conditional and several else None
    with seeded(recipe.plan.seed, torch.device("cpu")):
        options: dict[str, Any] = {"augmentation": augment.CONDITION} if recipe.plan.augment else {}
        options |= {"conditions": length} if length else {}
        options |= {} if recipe.dropout is None else {"dropout": recipe.dropout}
        network = nets.build(recipe.network, images.shape[0], recipe.size, classes, **options)
    if recipe.schedule == "edm":  # no other network takes images with a std of 80
        network = nets.Preconditioned(network)
    known = schedule.get(recipe.schedule), recipe.predicts, images.shape, classes
    model = Denoiser(network, *known, conditions=length or None)
    model.null_class, model.values = recipe.plan.label_dropout > 0, images.values
    return model


def transfer(source: nn.Module, network: nn.Module) -> list[str]:
    """Copy into `network` every tensor of `source` that has the same name and shape, for fine-tuning.

    A model with other classes or channels keeps all layers but those that depend on them.

    Return the names of the tensors of `network` that are unchanged.

    Raises:
        UserError: fewer than half of the weights fit, so the networks differ in kind.
    """
    trained, new = source.state_dict(), network.state_dict()
    fitting = {name: trained[name] for name in new if name in trained and trained[name].shape == new[name].shape}
    if sum(new[name].numel() for name in fitting) < sum(tensor.numel() for tensor in new.values()) / 2:
        raise UserError(
            "The weights of --init belong to another kind of network; ask for the same --network and --size."
        )
    network.load_state_dict(new | fitting)
    return [name for name in new if name not in fitting]


def identity(images: Images, held_out: Images) -> dict[str, Any]:
    """Return what identifies these images: counts, shape, classes, a digest of the labels and of some pixels."""
    digest = hashlib.sha256()
    for part in (images, held_out):
        digest.update(part.labels.numpy().tobytes())
        rows = torch.linspace(0, len(part) - 1, min(1000, len(part))).long()
        digest.update(part.pixels[rows].contiguous().numpy().tobytes())
    counts = {"images": len(images), "held_out": len(held_out), "shape": list(images.shape)}
    return {**counts, "classes": list(images.classes), "digest": digest.hexdigest()}


def place(data: str) -> str | None:
    """Return the absolute path of a folder or an array file; None for a registered data set and for a hub id."""
    if data in names() or not user_path(data).exists():
        return None
    return str(user_path(data).resolve())


def _as_begun(recipe: Recipe, where: str | None, folder: Path) -> Recipe:
    """Return a recipe with the precision and the spelling of the data of the run in the folder, if there is one.

    `where` is the recipe's `place`. Raises `UserError` for another data set; of two folders, the images decide.
    """
    if not _holds(folder / "config.json"):
        return recipe
    config = read_config(folder)
    begun, facts = as_table(config.get("recipe")), as_table(config.get("data"))
    data, precision = str(begun.get("data", recipe.data)), as_table(begun.get("plan")).get("precision")
    if data != recipe.data and where is not None and facts.get("place") == where:
        recipe = replace(recipe, data=data)
    if data != recipe.data and ({data, recipe.data} & set(names()) or "digest" not in facts):
        raise UserError(f"{folder} was trained on {data}, not on {recipe.data}; choose another --out.")
    if recipe.plan.precision == "auto" and precision is not None:
        recipe = replace(recipe, plan=replace(recipe.plan, precision=precision))
    return recipe


def _holds(path: Path) -> bool:
    """Return whether a file of a run says something: that of the metrics is empty if a run could not begin."""
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def _resume(
    state: State,
    recipe: Recipe,
    data: dict[str, Any],
    about: dict[str, Any],
    folder: Path,
    distributed: Distributed,
) -> None:
    """Set `state` to that of the run in the folder; leave it if there is no run."""
    steps = checkpoints.steps(folder)
    if (folder / "config.json").exists():
        if not steps:
            raise UserError(
                f"{folder} holds a model but no checkpoints to resume from; start from its weights with --init, or "
                "start over with --overwrite."
            )
        config = read_config(folder)
        if isinstance(config.get("distilled"), dict) != ("distilled" in about):
            command = "train" if "distilled" in about else "distill"
            raise UserError(
                f"{folder} was begun by `ddim {command}`; continue it with: ddim {command} {folder} --resume."
            )
        before, now = (_fixed(table) for table in (config, {"recipe": asdict(recipe), **about}))
        added = {name: getattr(Plan(), name) for name in ("optimizer", "augment", "augmentations")}
        added |= {name: getattr(Recipe(), name) for name in ("crop", "range")}
        before = added | before  # missing from earlier runs
        changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
        if changed:
            name = changed[0]
            raise UserError(
                f"{folder} was begun with {name} = {before.get(name)!r}, not {now.get(name)!r}; resume without "
                "changing it, or train into another --out."
            )
        known = data | as_table(config.get("data"))
        was, are = (f"{d['images']} + {d['held_out']} images of the shape {d['shape']}" for d in (known, data))
        if was != are or known["digest"] != data["digest"]:
            found = f"{was}, not on {are}" if was != are else f"{was} with other pixels or labels"
            raise UserError(
                f"{folder} was trained on {found}; restore them, or start from its weights with --init in another "
                "--out."
            )
        checkpoints.resume(state, folder)
        _use_threads_of(folder)
    elif any(steps) or ((folder / "model.safetensors").exists() and not (folder / "metrics.jsonl").exists()):
        raise UserError(f"{folder} holds weights but no config.json, so no run to resume; choose another --out.")
    # No process continues, and writes, before all have looked.
    if distributed.sum(state.step) != [state.step * distributed.processes]:
        raise UserError(f"Not all processes see the same checkpoints; put {folder} where all machines see it.")


def _use_threads_of(folder: Path) -> None:
    """Compute with as many threads as the run began with, which decide the rounding, if ddim chooses their number.

    On a machine with another processor or other cores, the number stays.
    """
    with suppress(OSError, ValueError):
        machine = read_table(folder / "environment.json")
        here = {"processor": environment.processor(), "cores": processors.available_cores()}
        same = all(machine.get(name) == value for name, value in here.items())
        if processors.chosen and same and isinstance(threads := machine.get("threads"), int) and threads > 0:
            torch.set_num_threads(threads)


def _fixed(config: dict[str, Any]) -> dict[str, Any]:
    """Return the entries of a config that a resumed run must keep, as one table of plain data."""
    table: dict[str, Any] = json.loads(json.dumps(as_table(config.get("recipe"))))
    table.pop("data", None)  # see `_as_begun`
    plan = as_table(table.pop("plan", {}))
    distilled = as_table(json.loads(json.dumps(config.get("distilled"))))
    kept = {name: value for name, value in plan.items() if name not in CHANGEABLE}
    return table | kept | {f"the distillation's {name}": value for name, value in distilled.items()}
