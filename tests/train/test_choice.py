"""What a training chooses by itself follows from the images, the time and the rate, and never changes a flag."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from ddim import model_io, nets, open_images, schedule
from ddim.cli import parse
from ddim.data.images import Images
from ddim.denoiser import Denoiser
from ddim.train import Plan, Recipe, choice
from ddim.train.choice import ENOUGH, MANY, choose, seconds_of_an_update

COSTS = {"folded": 1.0, "small": 8.0, "base": 50.0}  # of an update, relative to the first


def pictures(count, side=28, channels=1):
    pixels = torch.zeros(1, channels, side, side, dtype=torch.uint8).expand(count, -1, -1, -1)
    return Images(pixels, torch.zeros(count, dtype=torch.long), ("all",), "photos")


def chosen(count, updates, given=(), recipe=None, side=28, **options):
    """The choice where the fastest network makes so many updates in the hour."""
    recipe = recipe or Recipe()
    recipe = replace(recipe, plan=replace(recipe.plan, minutes=60))

    def seconds(one):
        return 3600 / updates * COSTS.get(one.size, 1.0)

    return choose(recipe, pictures(count, side), given, seconds, **options)


def test_a_larger_network_needs_the_time_for_its_updates_and_the_largest_the_images_too():
    assert chosen(MANY, 8 * ENOUGH - 1).recipe.size == "folded"
    assert chosen(MANY, 8 * ENOUGH).recipe.size == "small"
    assert chosen(MANY, 50 * ENOUGH).recipe.size == "base"
    assert chosen(MANY - 1, 50 * ENOUGH).recipe.size == "small"


def test_no_network_is_timed_that_the_one_before_rules_out():
    asked = []

    def seconds(recipe):
        asked.append(recipe.size)
        return 60.0

    choose(Recipe(plan=Plan(minutes=60)), pictures(MANY), (), seconds)
    assert asked == ["folded"]


def test_images_that_are_seen_often_are_augmented_and_the_network_has_dropout():
    """100 passes of 6,400 images are 10,000 updates of 64."""
    seldom, often = (chosen(6400, updates).recipe for updates in (9_999, 10_100))
    assert (seldom.plan.augment, seldom.dropout) == (0.0, None)
    assert (often.plan.augment, often.dropout) == (0.12, 0.1)
    assert chosen(300, 10_000, recipe=Recipe(network="plain")).recipe.dropout is None


def test_the_batch_is_that_of_the_device_and_no_larger_than_the_set():
    sizes = {device: chosen(300, 100, device=device).recipe.plan.batch_size for device in ("cpu", "cuda", "cuda:1")}
    assert sizes == {"cpu": 64, "cuda": 128, "cuda:1": 128}
    assert chosen(20, 100).recipe.plan.batch_size == 20


def test_what_is_given_stays():
    own = Recipe(size="tiny", dropout=0.0, predicts="eps", plan=Plan(augment=0.5, batch_size=7, optimizer="adamw"))
    given = {"size", "dropout", "predicts", "augment", "batch_size", "optimizer"}
    found = chosen(300, 10_000, given, recipe=own).recipe
    assert replace(found, schedule="linear", plan=own.plan) == own
    assert (found.plan.augment, found.plan.batch_size, found.plan.optimizer) == (0.5, 7, "adamw")
    assert (found.plan.weighting, found.plan.times) == ("clipped", "stratified")  # EDM's has no bound for eps
    assert (chosen(300, 10_000).recipe.plan.weighting, chosen(300, 10_000).recipe.plan.times) == ("edm", "lognormal")


def test_fine_tuning_keeps_the_network_and_its_schedule():
    own = Recipe(size="base", predicts="eps", schedule="sigmoid")
    found = chosen(8, 10_000, recipe=own, fine_tuned=True, side=8).recipe
    assert (found.size, found.predicts, found.schedule, found.plan.learning_rate) == ("base", "eps", "sigmoid", 1e-4)


def test_the_reason_is_one_paragraph_with_the_facts_and_the_choices():
    assert chosen(1000, 24_000).reason == (
        "photos has 1,000 training images of 1 × 28 × 28; an update of 64 takes 0.15 s here, so about 24,000 fit into "
        "60 minutes, 1,536 passes over the images. The network is unet folded (--size): the next one needs time for "
        "20,000 updates. In so many passes it could learn the images by heart; hence --augment 0.12 and --dropout 0.1. "
        "The width of the average (--ema) is chosen at the end, by the distance to held-out images. Noise levels and "
        "their weights are EDM's (--times, --weighting). All else that no flag sets is as in the recipe of MNIST. "
        "Every choice is a flag: see ddim train --help."
    )
    seldom = chosen(MANY, 1000, recipe=Recipe(network="plain", size="tiny", plan=Plan(validate=0.0))).reason
    assert (
        "1.3 passes over the images. In so few passes it needs neither --augment nor --dropout. The average" in seldom
    )


def test_the_reason_claims_no_choice_that_a_flag_made():
    own = Recipe(size="tiny", plan=Plan(augment=0.5))
    reason = chosen(1000, 24_000, {"size", "augment"}, own, fine_tuned=True).reason
    assert (
        "hence --dropout 0.1. As it starts from trained weights, the learning rate is 0.0001 (--learning-rate)."
        in reason
    )
    assert "The network is" not in reason


def test_the_time_of_an_update_is_measured():
    recipe = Recipe(network="plain", size="tiny", plan=Plan(batch_size=4, minutes=10))
    assert 0 < seconds_of_an_update(recipe, open_images("digits"), "cpu") < 60


@pytest.fixture
def slow(monkeypatch):
    monkeypatch.setattr(choice, "seconds_of_an_update", lambda recipe, images, device: 0.06)


def test_images_without_a_recipe_and_a_time_get_their_choices_and_flags_replace_them(slow, capsys):
    told = ["train", "cifar10", "--minutes", "10"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("ddim.open_images", lambda *args, **options: pictures(1000, 32, 3))
        recipe = parse(told).recipe
        assert (recipe.size, recipe.predicts, recipe.plan.augment, recipe.plan.minutes) == ("folded", "v", 0.12, 10)
        assert "photos has 1,000 training images" in capsys.readouterr().err
        recipe = parse([*told, "--size=tiny", "--augment", "0", "--no-mirror", "--batch-size", "32"]).recipe
        assert (recipe.size, recipe.plan.augment, recipe.plan.mirror, recipe.plan.batch_size) == ("tiny", 0, False, 32)
        assert "--size" not in capsys.readouterr().err


def test_without_a_time_nothing_is_chosen():
    assert parse(["train", "cifar10"]).recipe == Recipe(data="cifar10")


def test_what_starts_from_a_model_has_its_network(tmp_path):
    model = Denoiser(nets.build("plain", 1, "tiny"), schedule.cosine(), "v", shape=(1, 8, 8))
    recipe: dict[str, Any] = {"network": "plain", "size": "tiny", "predicts": "v", "schedule": "cosine"}
    model_io.save(model, tmp_path, recipe=recipe)
    assert parse(["train", "cifar10", "--init", str(tmp_path)]).recipe == Recipe(data="cifar10", **recipe)
