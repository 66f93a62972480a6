"""`ddim.tune.tune` and presets: what they hold, when they are used, and what is refused."""

import json
import warnings
from dataclasses import replace

import pytest
import torch

import ddim
from ddim import model_io, nets, samplers, schedule
from ddim.cli import main
from ddim.cli.tune import keep
from ddim.data import open_images
from ddim.denoiser import Denoiser
from ddim.errors import Notice, UserError
from ddim.pictures import read_settings
from ddim.presets import Method, Preset, digest
from ddim.sampling import Sampling
from ddim.train import Plan, Recipe
from ddim.train.run import train
from ddim.tune import accept, image_calls, search, tune
from ddim.verify.exact import Gaussian

COUNT = 70  # more than the features of 8x8 images


class Blur(torch.nn.Module):
    """The exact denoiser of Gaussian pixels whose means are a picture, with a weight that a test can change."""

    def __init__(self, s):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.schedule, self.data = s, Gaussian(tuple(torch.linspace(-0.6, 0.6, 8).tolist()), (0.3,) * 8)

    def forward(self, x, t):
        return self.weight * self.data.denoise(x.double(), self.schedule(t.double())).x0.to(x)


@pytest.fixture(scope="module")
def found():
    """A model, its presets, and how often its network was called for so many images."""
    model, counted = blur(), []
    verdicts = list(search(model, (2, 3), count=COUNT, tick=counted.append))
    return model, verdicts, sum(counted)


def blur():
    s = schedule.linear(T=20)
    return Denoiser(Blur(s), s, "x0", shape=(1, 8, 8)).eval()


def preset(model, calls=3, **changes):
    facts = {
        "sampler": "dpmpp-2m",
        "times": (20.0, 9.0, 2.0),
        "shift": 0.02,
        "corrections": ((0.01, 0.0), (0.02, -0.01), (0.0, 0.03)),
        "found": "dpmpp-2m, log-snr, refined",
        "calls": calls,
        "weights": digest(model.network),
        "distance": 1.0,
        "plain": 2.0,
        "ddim": 3.0,
        "best_plain": "unipc, log-snr",
        "extractor": "scattering",
        "reference": "300 samples of the teacher",
        "count": 300,
    }
    return Preset(**{**facts, **changes})


def images(model, **options):
    return model.sample(4, progress=False, **options)


@pytest.mark.slow
def test_the_presets_make_so_many_calls_and_are_no_worse_than_a_plain_solver(found):
    model, verdicts, _ = found
    assert [verdict.preset.calls for verdict in verdicts] == [2, 3]
    for verdict in verdicts:
        one = verdict.preset
        sampler, levels = one.resolve(model.schedule)
        assert sampler.calls(levels) == one.calls
        assert one.distance <= one.plain <= one.ddim
        assert one.weights == digest(model.network)
        assert verdict.accepted == (one.found != one.best_plain)
        assert (one.distance < one.plain) == verdict.accepted
        assert one.extractor == "scattering"


@pytest.mark.slow
def test_the_estimate_of_the_network_calls_is_about_right(found):
    model, _, counted = found
    assert counted == pytest.approx(image_calls(model, (2, 3), count=COUNT), rel=0.3)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_presets(found):
    model, verdicts, _ = found
    assert tune(model, (2, 3), count=COUNT, progress=False) == [verdict.preset for verdict in verdicts]


@pytest.mark.slow
def test_tuning_changes_no_weight_and_no_mode_and_draws_no_random_number(found):
    model = blur().train()
    before, state = digest(model.network), torch.get_rng_state()
    tune(model, [1], count=COUNT, progress=False)
    assert (digest(model.network), model.training, model.presets) == (before, True, ())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.slow
def test_a_method_is_accepted_only_if_it_beats_the_plain_solvers():
    """A tuned method that is a bad plain one is refused; the best plain one is the preset."""
    model = blur()
    judge = accept.Judge(model, ddim.evaluate.get("scattering", model.shape), images(model, steps=20), 0, COUNT, 0)
    good, bad = (
        Method(sampler="ddim", times=times, found=name)
        for name, times in (("good", (20.0, 8.0, 2.5)), ("bad", (20.0, 19.9, 19.8)))
    )
    verdict = accept.decide(
        judge,
        3,
        [good],
        [bad],
        digest(model.network),
        "",
    )
    assert not verdict.accepted
    assert verdict.preset.times == good.times
    assert verdict.tuned_distance == judge.distance(bad) > verdict.preset.distance == verdict.preset.plain
    assert accept.decide(judge, 3, [bad], [good], digest(model.network), "").accepted
    assert not accept.decide(judge, 3, [good], [good], digest(model.network), "").accepted  # no better
    assert not accept.decide(judge, 3, [good], [], digest(model.network), "").accepted


@pytest.mark.slow
def test_real_images_are_the_reference_if_they_are_given():
    torch.manual_seed(0)
    model = Denoiser(nets.build("plain", 1, "tiny", widths=(8, 16)), schedule.linear(T=20), shape=(1, 8, 8)).eval()
    (one,) = tune(model, [2], images=open_images("digits", split="test"), count=COUNT, progress=False)
    assert (one.reference, one.extractor, one.count) == ("297 images of digits", "digits", COUNT)


def test_a_preset_is_used_where_only_its_number_of_calls_is_given():
    model = blur()
    model.presets = (preset(model),)
    sampler, levels = model.presets[0].resolve(model.schedule)
    by_hand = images(model, sampler=sampler, spacing=[float(level.t) for level in levels])
    assert torch.equal(images(model, steps=3), by_hand)
    model.sampling = Sampling(steps=3)
    assert torch.equal(images(model), by_hand)


@pytest.mark.parametrize(
    "options",
    [{"steps": 3, "sampler": name} for name in samplers.names()]
    + [{"steps": 3, "eta": 0.0}, {"steps": 3, "spacing": "trailing"}, {"spacing": [20, 10]}, {"steps": 4}, {}],
    ids=str,
)
def test_a_preset_never_changes_what_another_request_does(options):
    model, plain = blur(), blur()
    model.presets = (preset(model),)
    assert torch.equal(images(model, **options), images(plain, **options))
    x = images(plain, steps=5)
    assert torch.equal(model.encode(x, steps=3), plain.encode(x, steps=3))
    assert torch.equal(model.decode(x, steps=3), plain.decode(x, steps=3))


def test_a_stale_preset_is_named_and_not_used():
    model = blur()
    model.presets = (preset(model),)
    with torch.no_grad():
        model.network.weight += 0.01  # further training
    with pytest.warns(Notice, match="The preset of 3 network calls is stale: .* is not used; tune this model again"):
        drawn = images(model, steps=3)
    model.presets = ()
    assert torch.equal(drawn, images(model, steps=3))


def test_another_network_makes_the_preset_stale_and_another_precision_does_not():
    model = blur()
    model.presets = (preset(model),)
    other = Blur(model.schedule)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert model.with_network(other).preset(3) == model.presets[0]  # the same weights
        assert model.double().preset(3) == model.presets[0]
    torch.nn.init.constant_(other.weight, 2.0)
    with pytest.warns(Notice, match="stale"):
        assert model.with_network(other).preset(3) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"calls": [0]}, "from 1 to T = 20; got 0"),
        ({"calls": (5, 21)}, "from 1 to T = 20; got 21"),
        ({"calls": (2.5,)}, r"from 1 to T = 20; got 2\.5"),
        ({"calls": ()}, "got none"),
        ({"teacher": "ddpm"}, "teacher must be a deterministic sampler.*got 'ddpm'"),
        ({"teacher": samplers.get("ddim", eta=0.3)}, "teacher must be a deterministic sampler"),
        ({"teacher": "heun"}, "one network call a step.*got 'heun'"),
        ({"teacher": 3}, "teacher must be a deterministic sampler.*got 3"),
        ({"count": 1}, "The count must be"),
        ({"extractor": "mnist"}, "takes images of 1 × 28 × 28"),
    ],
)
def test_bad_requests_are_refused_before_the_network_is_called(options, message):
    with pytest.raises(UserError, match=message):
        search(blur(), options.pop("calls", (3,)), **options)


@pytest.fixture
def run(tmp_path):
    """A run with a preset of three calls, of a network that is registered."""
    torch.manual_seed(0)
    network = nets.build("plain", 1, "tiny", widths=(8, 16))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model = Denoiser(network, schedule.linear(T=20), shape=(1, 8, 8)).eval()
    model.presets = (preset(model),)
    model_io.save(model, tmp_path / "run")
    return tmp_path / "run"


def test_presets_are_saved_and_loaded_and_a_model_without_them_has_no_entry(run, tmp_path):
    model = model_io.load(run)
    assert model.presets == (preset(model),)
    assert model.preset(3) == model.presets[0]
    model.presets = ()
    model_io.save(model, tmp_path / "without")
    assert "presets" not in model_io.read_config(tmp_path / "without")
    assert model_io.load(tmp_path / "without").presets == ()


@pytest.mark.parametrize(
    "change",
    [
        {"sampler": "magic"},
        {"sampler": 3},
        {"times": []},
        {"times": [20.0, 20.0, 1.0]},
        {"times": [5000.0, 90.0, 20.0]},
        {"times": [20.0, float("nan"), 2.0]},
        {"times": [1.0 / (i + 1) for i in range(2000)]},
        {"times": [20.0, 9.0]},
        {"times": [20.0, 9.0], "corrections": []},
        {"options": {"order": 3}},
        {"options": {"eta": "hat"}},
        {"options": [1]},
        {"options": {"x" * 300: 1}},
        {"shift": 1e9},
        {"shift": None},
        {"corrections": [[0.0, 0.0, 0.0]] * 3},
        {"corrections": [[1e9, 0.0]] * 3},
        {"corrections": [[], [], []]},
        {"found": "x" * 10_000},
        {"found": None},
        {"calls": 0},
        {"calls": 4},
        {"weights": "abc"},
        {"weights": "../../secret"},
        {"distance": -1.0},
        {"distance": float("inf")},
        {"count": 0},
        {"extra": 1},
        {"sampler": "ddpm"},
    ],
    ids=lambda change: f"{next(iter(change))}-{next(iter(change.values()))!r:.20}",
)
def test_a_damaged_or_hostile_preset_is_refused_in_one_sentence(run, change):
    path = run / "config.json"
    config = json.loads(path.read_text())
    config["presets"][0].update(change)
    path.write_text(json.dumps(config))
    with pytest.raises(UserError) as error:
        model_io.load(run)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize("presets", [None, 3, {"a": 1}, [None], [[]], [{}]])
def test_an_entry_that_is_no_list_of_presets_is_refused(run, presets):
    path = run / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"presets": presets}))
    with pytest.raises(UserError, match="presets"):
        model_io.load(run)


def command(*words):
    main([*map(str, words), "--device", "cpu"])


def test_sample_takes_the_preset_and_says_so_in_the_picture(run, capsys):
    command("sample", run, "--steps", 3, "--count", 4)
    path = run / "samples/seed0-preset3-4images.png"
    settings = read_settings(path) or {}
    assert settings["preset"] == {
        "calls": 3,
        "options": {},
        "shift": 0.02,
        "corrections": [[0.01, 0.0], [0.02, -0.01], [0.0, 0.03]],
    }
    assert (settings["sampler"], settings["spacing"]) == ("dpmpp-2m", [20.0, 9.0, 2.0])
    command("sample", run, "--steps", 3, "--count", 4, "--sampler", "unipc")
    assert "preset" not in (read_settings(run / "samples/seed0-3steps-4images.png") or {})


def test_an_interrupted_array_of_a_preset_continues(run, capsys):
    out = run.parent / "images.npz"
    command("sample", run, "--steps", 3, "--count", 4, "--out", out)
    before = out.read_bytes()
    command("sample", run, "--steps", 3, "--count", 4, "--out", out)
    assert "Nothing is left to do" in capsys.readouterr().out
    assert out.read_bytes() == before


@pytest.mark.slow
def test_tune_writes_presets_into_the_config_and_keeps_everything_else(run, capsys):
    before = json.loads((run / "config.json").read_text())
    weights = (run / "model.safetensors").read_bytes()
    command("tune", run, "--calls", "1,2", "--count", COUNT, "--no-images")
    out = capsys.readouterr()
    after = json.loads((run / "config.json").read_text())
    assert [one["calls"] for one in after.pop("presets")] == [1, 2, 3]
    before.pop("presets")
    assert after == before
    assert (run / "model.safetensors").read_bytes() == weights
    assert "Tuning for 1,2 network calls against samples of a solver with 60 steps takes about" in out.err
    header, *rows = out.out.splitlines()
    assert header.split() == ["calls", "best", "plain", "solver", "DDIM", "tuned"]
    assert [row.split()[0] for row in rows[:2]] == ["1", "2"]
    assert "extractor scattering" in out.out
    assert model_io.load(run).preset(2).calls == 2


@pytest.mark.slow
def test_tune_replaces_stale_presets(run, capsys):
    config = json.loads((run / "config.json").read_text())
    config["presets"][0]["weights"] = "0" * 64
    (run / "config.json").write_text(json.dumps(config))
    with pytest.warns(Notice, match="not with held-out images: .* does not say what it was trained on"):
        command("tune", run, "--calls", "1", "--count", COUNT)
    assert [one["calls"] for one in json.loads((run / "config.json").read_text())["presets"]] == [1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--calls", "0"), "from 1 to T = 20; got 0"),
        (("--calls", "300"), "from 1 to T = 20; got 300"),
        (("--calls", "few"), "takes whole numbers"),
        (("--count", "1"), "The count must be"),
        (("--extractor", "eyes"), "eyes"),
    ],
)
def test_what_tune_refuses_changes_nothing(run, words, message, capsys):
    before = (run / "config.json").read_bytes()
    with pytest.raises(SystemExit) as exit:
        command("tune", run, *words, "--no-images")
    assert exit.value.code == 2
    assert message in capsys.readouterr().err
    assert (run / "config.json").read_bytes() == before


def test_tune_writes_nothing_into_the_package(capsys):
    with pytest.raises(SystemExit):
        command("tune", "mnist")
    assert "mnist comes with ddim, and nothing is written into the package" in capsys.readouterr().err


@pytest.mark.slow
def test_a_preset_is_kept_through_further_training_and_then_stale(tmp_path):
    recipe = Recipe(network="plain", size="tiny", plan=Plan(steps=2, batch_size=4))
    model = train(recipe, tmp_path / "run", device="cpu")
    times = (float(model.schedule.T), 90.0, 20.0)
    keep(tmp_path / "run", [preset(model, times=times)])
    assert model_io.load(tmp_path / "run").preset(3) is not None
    train(replace(recipe, plan=replace(recipe.plan, steps=4)), tmp_path / "run", device="cpu", resume=True)
    loaded = model_io.load(tmp_path / "run")
    assert len(loaded.presets) == 1
    with pytest.warns(Notice, match="stale"):
        assert loaded.preset(3) is None
