"""What `ddim train DATA --minutes M` chooses by itself: the network's size, the batch, dropout and augmentation.

The rules follow measurements where there are some: those of networks and recipes on MNIST, in benchmarks/README.md.
Where there are none, they follow the paper that is named, and docs/training.md says "not measured".
"""

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any, NamedTuple

from ddim.data.images import Images
from ddim.device import choose_device
from ddim.text import counted, dimensions
from ddim.train.loop import fit
from ddim.train.recipe import Plan, Recipe
from ddim.train.run import build

SIZES = ("folded", "small", "base")  # of the network "unet", from fast to slow: 2.8, 5 and 36 million parameters
ENOUGH = 20_000  # updates that the time must allow, before a larger network is taken
MANY = 50_000  # images from which "base" may be taken: on 5,000, 9% of the samples of a larger network were copies
REPEATED = 100  # passes over the images from which the network is kept from learning them by heart
AUGMENT = 0.12  # on CIFAR-10 (EDM, arXiv 2206.00364, appendix F.2)
DROPOUT = 0.1  # on CIFAR-10 (DDPM, arXiv 2006.11239, appendix B)
BATCH = {"cpu": 64, "cuda": 128, "mps": 64}
SMALL = 8  # pixels a side up to which the cosine schedule is measured to be better
MEASURED = 4  # updates, of which the first, slower one does not count
FINE_TUNING = 1e-4  # learning rate of a network that starts from trained weights
SETTINGS: dict[str, Any] = {
    "predicts": "v",
    "schedule": "linear",
    "optimizer": "muon",
    "learning_rate": 1e-3,
    "cooldown": 0.3,
    "weighting": "edm",
    "times": "lognormal",
    "label_dropout": 0.05,
}
"""Those of the recipe of MNIST, the best at equal time there, with EDM's weight and times, the best on photographs."""


class Choice(NamedTuple):
    """A recipe, and in one paragraph what was chosen and why."""

    recipe: Recipe
    reason: str


def choose(
    recipe: Recipe,
    images: Images,
    given: Collection[str],
    seconds: Callable[[Recipe], float],
    device: str = "cpu",
    fine_tuned: bool = False,
) -> Choice:
    """Return a recipe for these images and the plan's `minutes`.

    Args:
        recipe: what the user asks for.
        images: the training images.
        given: names of the fields of the recipe and of its plan that the user set, and that stay.
        seconds: returns the time of an update by a recipe, see `seconds_of_an_update`.
        device: "cpu", "cuda" or "mps", also with an index, e.g. "cuda:1".
        fine_tuned: whether training starts from trained weights, whose network and schedule stay.
    """
    fixed = {*given, *(("network", "size", "predicts", "schedule") if fine_tuned else ())}

    def changed(recipe: Recipe, **values: Any) -> Recipe:
        free = {name: value for name, value in values.items() if name not in fixed}
        plan = {name: value for name, value in free.items() if hasattr(Plan, name)}
        rest = {name: value for name, value in free.items() if name not in plan}
        return replace(recipe, **rest, plan=replace(recipe.plan, **plan))

    minutes, count, side = recipe.plan.minutes or 0.0, len(images), max(images.shape[1:])
    recipe = changed(recipe, **SETTINGS, batch_size=min(BATCH[device.partition(":")[0]], count))
    if recipe.predicts == "eps":  # for which EDM's weight has no bound
        recipe = changed(recipe, weighting="clipped", times="stratified")
    if side <= SMALL:
        recipe = changed(recipe, schedule="cosine")
    if fine_tuned:
        recipe = changed(recipe, learning_rate=FINE_TUNING)
    chooses_size = recipe.network == "unet" and "size" not in fixed
    sizes = SIZES[: len(SIZES) if count >= MANY else -1] if chooses_size else (recipe.size,)
    for size in sizes:  # from fast to slow, until too few updates fit into the time
        candidate = changed(recipe, size=size)
        candidate_seconds = seconds(candidate)
        fits = 60 * minutes / candidate_seconds >= ENOUGH
        if size == sizes[0] or fits:
            recipe, update_seconds = candidate, candidate_seconds
        if not fits:
            break
    updates = 60 * minutes / update_seconds
    passes = updates * recipe.plan.batch_size / count
    if passes > REPEATED:
        recipe = changed(recipe, augment=AUGMENT, **({"dropout": DROPOUT} if recipe.network == "unet" else {}))
    free = {"augment", "dropout", "learning_rate", *(["size"] if chooses_size else [])} - fixed
    return Choice(recipe, _reason(recipe, images, update_seconds, updates, passes, free, fine_tuned))


def _reason(
    recipe: Recipe,
    images: Images,
    update_seconds: float,
    updates: float,
    passes: float,
    free: set[str],
    fine_tuned: bool,
) -> str:
    plan = recipe.plan
    sentences = [
        f"{images.name} has {counted(len(images), 'training image')} of {dimensions(images.shape)}; an update of "
        f"{plan.batch_size} takes {update_seconds:.2g} s here, so about {updates:,.0f} fit into {plan.minutes:g} "
        f"minutes, {passes:,.{0 if passes >= 10 else 1}f} passes over the images."
    ]
    if "size" in free:
        larger = "" if recipe.size == SIZES[-1] else f": the next one needs time for {ENOUGH:,} updates"
        if recipe.size == SIZES[-2] and len(images) < MANY:
            larger = f": the next one would learn fewer than {MANY:,} images by heart"
        sentences.append(f"The network is {recipe.network} {recipe.size} (--size){larger}.")
    values = {"augment": plan.augment, "dropout": recipe.dropout}
    flags = [f"--{name} {value:g}" for name, value in values.items() if name in free and value]
    if flags:
        sentences.append(f"In so many passes it could learn the images by heart; hence {' and '.join(flags)}.")
    elif passes <= REPEATED:
        sentences.append("In so few passes it needs neither --augment nor --dropout.")
    if fine_tuned and "learning_rate" in free:
        sentences.append(
            f"As it starts from trained weights, the learning rate is {plan.learning_rate:g} (--learning-rate)."
        )
    if plan.validate:
        sentences.append("The width of the average (--ema) is chosen at the end, by the distance to held-out images.")
    else:
        sentences.append(f"The average has the width {plan.ema[0]:g} (--ema).")
    if (plan.times, plan.weighting) == (SETTINGS["times"], SETTINGS["weighting"]):
        sentences.append("Noise levels and their weights are EDM's (--times, --weighting).")
    sentences.append(
        "All else that no flag sets is as in the recipe of MNIST. Every choice is a flag: see ddim train --help."
    )
    return " ".join(sentences)


def seconds_of_an_update(recipe: Recipe, images: Images, device: str | None = None) -> float:
    """Return the time that an update takes on this machine, from a few updates of a new network."""
    model = build(recipe, images).to(choose_device(device))
    plan = replace(recipe.plan, epochs=None, steps=MEASURED, minutes=None)
    first, *_, last = (progress.seconds for progress in fit(model, images, plan))
    return (last - first) / (MEASURED - 1)
