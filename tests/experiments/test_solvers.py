"""Distances to the reference: what is compared, and what is kept."""

from dataclasses import replace

import pytest
import torch

from ddim import samplers, schedule, timesteps
from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.experiments import experiments
from ddim.experiments.results import keep, read
from ddim.experiments.solvers import (
    REFERENCE,
    Result,
    Row,
    Start,
    keep_reference,
    load_reference,
    measure,
    network_calls,
    trials,
)


@pytest.fixture
def short(model):
    """The tiny model on a schedule of 40 steps."""
    return Denoiser(model.network, schedule.linear(T=40, beta_start=0.002, beta_end=0.4), shape=model.shape).eval()


def test_a_budget_buys_the_most_steps_that_fit(short):
    found = trials(short, (5, 20, 50))
    assert {trial.spacing for trial in found} == set(timesteps.compared())
    assert {trial.solver for trial in found} == {n for n in samplers.names() if not samplers.get(n).stochastic}
    for trial in found:
        made = trial.sampler.calls(trial.levels)
        S = len(trial.levels) - 1
        assert made <= trial.budget
        if trial.solver == "ddim":
            assert S == made == min(trial.budget, 40)
        if S < 40:
            more = timesteps.levels(short.schedule, timesteps.timesteps(short.schedule, S + 1, trial.spacing))
            assert trial.sampler.calls(more) > trial.budget


def test_distances_are_those_between_samples(short):
    """What `Denoiser.sample` gives for the same words, against the end of all 40 steps."""
    start = Start(short, 3, seed=5)
    todo = trials(short, (4, 40), ["ddim"], ["trailing", "log-snr"])
    ticks = []
    start.tick = lambda: ticks.append(1)
    found = measure(start, todo, start.reference())
    assert len(ticks) == network_calls(short, todo) == 2 * 44 + 60
    whole = short.sample(3, steps=40, sampler="ddim", spacing="trailing", seed=5, progress=False)
    for row in found.rows:
        few = short.sample(3, steps=row.budget, sampler="ddim", spacing=row.spacing, seed=5, progress=False)
        assert row.distance == pytest.approx(float((few - whole).square().mean().sqrt()), abs=1e-7)
    half = short.sample(3, steps=20, sampler="ddim", seed=5, progress=False)
    assert found.floor == pytest.approx(float((half - whole).square().mean().sqrt()), abs=1e-7)
    assert found.curve("ddim", "trailing")[1][1] == 0
    assert found.usual == (short.sampling.sampler, short.sampling.spacing)


def test_classes_come_in_turn(short):
    class Labelled(torch.nn.Module):
        seen = None

        def forward(self, x, t, label):
            Labelled.seen = label.tolist()
            return 0 * x

    model = Denoiser(Labelled(), short.schedule, shape=short.shape, classes=2)
    Start(model, 5).reference()
    assert Labelled.seen == [0, 1, 0, 1, 0]


ROWS = (
    Row("ddim", "trailing", 5, 5, 5, 0.2),
    Row("ddim", "log-snr", 5, 5, 5, 0.3),
    Row("heun", "trailing", 5, 5, 3, 0.1),
    Row("ddim", "trailing", 10, 10, 10, 0.05),
    Row("heun", "trailing", 10, 9, 5, None),
)
FOUND = Result(usual=("ddim", "trailing"), floor=0.01, reference_steps=1000, count=4, rows=ROWS)


def test_a_choice_in_words(tmp_path):
    assert list(FOUND.suggest()) == [
        "With 5 calls: heun with trailing spacing, distance 0.100; ddim with trailing, the model's default: 0.200.",
        "With 10 calls: ddim with trailing spacing, distance 0.050.",
    ]
    table = list(FOUND.lines())
    assert table[1].split() == ["ddim", "0.200", "trailing", "0.050", "trailing"]
    keep(tmp_path, experiments["solvers"], "x", FOUND, {})
    assert read(tmp_path, experiments["solvers"]).result == FOUND
    assert replace(FOUND, rows=ROWS[:1]).budgets == [5]


def test_the_reference_is_kept_for_these_weights_and_this_noise(run_folder, model, monkeypatch):
    start = Start(model, 2)
    assert load_reference(run_folder, "these", start) is None
    reference = {"whole": torch.rand(2, 1, 8, 8), "half": torch.rand(2, 1, 8, 8)}
    monkeypatch.setattr(start, "reference", lambda: reference)
    assert keep_reference(run_folder, "these", start) is reference
    again = load_reference(run_folder, "these", start)
    assert again is not None
    assert all(torch.equal(again[name], reference[name]) for name in reference)
    assert load_reference(run_folder, "these", Start(model, 3)) is None
    assert load_reference(run_folder, "these", Start(model, 2, seed=1)) is None
    (run_folder / REFERENCE).write_bytes(b"broken")
    assert load_reference(run_folder, "these", start) is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"budgets": (0,)}, "above 0"),
        ({"solvers": ["euler"]}, "no sampler called 'euler'"),
        ({"solvers": ["ddpm"]}, "draws noise"),
        ({"spacings": ["sqrt"]}, "no spacing called 'sqrt'"),
    ],
)
def test_trials_that_cannot_be(short, options, said):
    with pytest.raises(UserError, match=said):
        trials(short, **options)


def test_no_images(model):
    with pytest.raises(UserError, match="at least 1 image"):
        Start(model, 0)
