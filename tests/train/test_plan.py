import pytest

from ddim.errors import UserError
from ddim.train import Plan, Recipe
from ddim.train import recipe as recipes


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
        {"weighting": "best"},
        {"warmup": -1},
        {"seed": -1},
        {"seed": 2**63},
        {"epochs": float("inf")},
        {"label_dropout": 1.5},
    ],
)
def test_impossible_plans(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        Plan(**wrong)


def test_recipes_that_come_with_ddim():
    assert recipes.names() == ["airplanes", "airplanes-paper", "digits", "mnist", "mnist-paper"]
    for name in recipes.names():
        assert recipes.shipped(name).data == name.removesuffix("-paper")
    with pytest.raises(UserError, match="choose one of airplanes, airplanes-paper, digits, mnist"):
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
        ('size = "huge"', "sets size = 'huge'"),
        ('[plan]\nepochs = "many"', "sets epochs = 'many'"),
        ("[plan]\nbatch_size = 1.5", "sets batch_size = 1.5"),
        ("[plan]\nmirror = 1", "sets mirror = 1"),
        ("[plan]\nsteps = true", "sets steps = True"),
        ("[plan]\nema = [2.0]", "ema must be"),
        ("[plan]\nema = 0.1", "sets ema = 0.1"),
        ('[plan]\nweighting = "best"', "sets weighting = 'best'"),
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
