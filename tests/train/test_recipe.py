import json
import subprocess
import sys
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

import ddim
from cli.refusal import refused
from ddim.data.images import loaders
from ddim.errors import UserError
from ddim.train import Plan, Recipe, fit
from ddim.train import recipe as recipes
from ddim.train.run import build, train


def test_the_first_limit_ends_training():
    assert Plan(epochs=2, batch_size=64).total_steps(640) == 20
    assert Plan(epochs=2, steps=7, batch_size=64).total_steps(640) == 7
    assert Plan(steps=7).total_steps(640) == 7
    assert Plan(minutes=1).total_steps(640) is None
    assert Plan(batch_size=64).total_steps(6400) == 10000  # 100 epochs if nothing is said
    assert Plan(batch_size=64).total_steps(24) == 2000  # of few images, more
    assert Plan(epochs=0.001).total_steps(640) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"steps": -1},
        {"minutes": 0},
        {"batch_size": 0},
        {"learning_rate": 0},
        {"learning_rate": float("nan")},
        {"clip": 0},
        {"ema": (0.3,)},
        {"ema": (-0.1,)},
        {"ema": ()},
        {"ema": (0.1, 0.1)},
        {"accumulate": 0},
        {"ema": 0.998},
        {"ema": (1e-9,)},
        {"ema": (0.1, 0.10000001)},
        {"precision": "half"},
        {"times": "evenly"},
        {"warmup": -1},
        {"seed": -1},
        {"seed": 2**63},
        {"epochs": float("inf")},
        {"label_dropout": 1.5},
        {"steps": True},
        {"batch_size": 2.5},
        {"epochs": "3"},
        {"mirror": 1},
        {"ema": ("0.1",)},
        {"epochs": 1e308},
        {"minutes": 1e300},
        {"steps": 10**20},
        {"batch_size": 10**20},
        {"learning_rate": 1e308},
        {"clip": 1e300},
        {"warmup": 2**63},
        {"accumulate": 9999999999},
        {"accumulate": 65},  # of a batch of 64
        {"cooldown": float("nan")},
    ],
)
def test_impossible_plans(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        Plan(**wrong)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"image_size": 10**20}, "image_size must be from 1 to 1024"),
        ({"image_size": 0}, "image_size must be from 1 to 1024"),
        ({"image_size": True}, "image_size must be a whole number; got True"),
        ({"conditional": "yes"}, "conditional must be true or false; got 'yes'"),
        ({"data": 3}, "data must be text; got 3"),
        ({"plan": {"steps": 3}}, "plan must be a Plan"),
    ],
)
def test_impossible_recipes(wrong, said):
    with pytest.raises(UserError, match=said):
        Recipe(**wrong)


def test_numbers_of_numpy_are_numbers():
    numbers: Any = {"steps": np.int64(5), "learning_rate": np.float32(0.5), "ema": [np.float64(0.1)]}
    plan = Plan(**numbers)
    assert plan == Plan(steps=5, learning_rate=0.5, ema=(0.1,))
    json.dumps(asdict(plan))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--epochs", "1e308"], "epochs must be a number above 0, at most 1,000,000; got 1e+308"),
        (["--batch-size", "9" * 20], "batch_size must be a number above 0, at most 65,536"),
        (["--accumulate", "9999999999"], "accumulate must be a number above 0, at most 65,536"),
        (["--save-every", "nan"], "save_every must be a number of seconds above 0"),
        (["--out", ""], "The path is empty"),
    ],
)
def test_impossible_numbers_on_the_command_line(tmp_path, monkeypatch, capsys, words, said):
    """They are refused before the data are opened, and leave nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ddim.train.run.open_images", lambda *_, **__: pytest.fail("the images were opened"))
    assert said in refused(capsys, "train", "digits", *words)
    assert list(tmp_path.iterdir()) == []


def test_recipes_that_come_with_ddim():
    for name in ("airplanes", "airplanes-paper", "digits", "mnist", "mnist-paper"):
        assert recipes.shipped(name).data == name.removesuffix("-paper")
    for name in recipes.names():
        assert recipes.shipped(name).data in loaders
    with pytest.raises(UserError, match=f"choose one of {', '.join(recipes.names())}"):
        recipes.shipped("faces")


def test_a_recipe_in_a_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('data = "cifar10"\nclasses = "cat,dog"\n[plan]\nepochs = 3\nmirror = false\n')
    assert recipes.read(path) == Recipe(data="cifar10", classes="cat,dog", plan=Plan(epochs=3, mirror=False))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data = ", "not TOML"),
        ("colour = 3", "sets 'colour'"),
        ("[plan]\nlr = 3", "sets 'lr'"),
        ("plan = 3", "sets plan = 3"),
        (f"x = {'[' * 1000}{']' * 1000}", "mine.toml "),
        (f"image_size = {'9' * 5000}", "mine.toml is not TOML"),
        ("[plan]\nbatch_size = 99999999999999999999", "batch_size must be a number above 0, at most 65,536"),
        ("size = 3", "sets size = 3"),
        ('[plan]\ntimes = "evenly"', "sets times = 'evenly'; it must be one of uniform, stratified, lognormal"),
        ('[plan]\nepochs = "many"', "sets epochs = 'many'"),
        ("[plan]\nbatch_size = 1.5", "sets batch_size = 1.5"),
        ("[plan]\nmirror = 1", "sets mirror = 1"),
        ("[plan]\nsteps = true", "sets steps = True"),
        ("[plan]\nema = [2.0]", "ema must be"),
        ("[plan]\nema = 0.1", "sets ema = 0.1"),
    ],
)
def test_a_recipe_that_cannot_be(tmp_path, text, said):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        recipes.read(path)
    assert said in str(error.value)


def test_a_recipe_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="Could not read the recipe"):
        recipes.read(tmp_path / "mine.toml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('network = "mixer"', "no network called 'mixer'; choose one of "),
        ('size = "huge"', "no size of unet called 'huge'; choose one of tiny, micro, folded, mini, small, base"),
        ('network = "plain"\nsize = "mini"', "no size of plain called 'mini'; choose one of tiny, small, base"),
        ('schedule = "betas"', "no schedule called 'betas'; choose one of linear, "),
        ('schedule = "square"', "no schedule called 'square'; choose one of linear, "),
        ('predicts = "score"', "no parameterisation called 'score'; choose one of eps, x0, v"),
        ('[plan]\nweighting = "best"', "no weighting called 'best'; choose one of simple, min-snr, soft-min-snr"),
    ],
)
def test_a_name_that_is_not_registered_is_refused_before_anything_happens(tmp_path, monkeypatch, text, said):
    def fail(*_, **__):
        raise AssertionError("the images were opened")

    monkeypatch.setattr("ddim.train.run.open_images", fail)
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(UserError) as error:
        train(recipes.read(tmp_path / "mine.toml"), tmp_path / "run")
    assert said in str(error.value)
    assert not (tmp_path / "run").exists()


def test_fit_refuses_an_unknown_weighting_before_the_first_update():
    images = ddim.open_images("digits")
    model = build(Recipe(network="plain", size="tiny"), images)
    before = [parameter.clone() for parameter in model.parameters()]
    with pytest.raises(UserError, match="weighting"):
        next(fit(model, images, Plan(weighting="best", steps=1)))
    assert all((a == b).all() for a, b in zip(before, model.parameters(), strict=True))


def test_recipes_import_no_torch():
    code = "import sys, ddim.train, ddim.train.recipe; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_data_set_of_a_users_file_is_trained_on_by_its_name(tmp_path):
    @ddim.data.register("ones")
    def ones(split, data_dir, url):
        digits = ddim.open_images("digits", split=split)
        return replace(digits.select([1]), name="ones")

    try:
        assert ddim.data.names()[-1] == "ones"
        assert len(ddim.open_images("ones", size=4)) > 100
        path = tmp_path / "mine.toml"
        path.write_text('data = "ones"\nnetwork = "plain"\nsize = "tiny"\n[plan]\nsteps = 1\n')
        assert train(recipes.read(path), tmp_path / "run", device="cpu").shape == (1, 8, 8)
        assert recipes.of_run(tmp_path / "run").data == "ones"
    finally:
        del loaders["ones"]


OLD = """{"recipe": {"data": "digits", "classes": null, "image_size": null, "network": "plain", "size": "tiny",
"schedule": "cosine", "predicts": "v", "conditional": true, "plan": {"epochs": null, "steps": 20, "minutes": null,
"batch_size": 64, "learning_rate": 0.001, "warmup": 200, "cooldown": 0.3, "ema": [0.1, 0.05], "clip": 1.0,
"weighting": "min-snr", "times": "stratified", "mirror": true, "label_dropout": 0.1, "accumulate": 1,
"precision": "bf16", "channels_last": false, "compile": false, "seed": 0}}}"""


def test_the_recipe_of_a_run_of_ddim_0_1_is_read(tmp_path):
    """What was written before the rooms were renamed; the same fields, and later ones, are written today."""
    (tmp_path / "config.json").write_text(OLD)
    recipe = recipes.of_run(tmp_path)
    assert (recipe.network, recipe.plan.weighting, recipe.plan.ema) == ("plain", "min-snr", (0.1, 0.05))
    written = json.loads(json.dumps(asdict(recipe)))
    names = ("optimizer", "snapshots", "validate", "augment", "augmentations")
    later = {name: written["plan"].pop(name) for name in names}
    expected = {"optimizer": "adamw", "snapshots": 16, "validate": 0.05, "augment": 0.0, "augmentations": ""}
    assert later == expected  # it had no other
    later = {name: written.pop(name) for name in ("crop", "range", "dropout")}
    assert later == {"crop": "centre", "range": None, "dropout": None}
    assert written == json.loads(OLD)["recipe"]
