"""Averages chosen after training: other widths from snapshots, against closed forms and averages that were tracked."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import ddim
from ddim.cli import main
from ddim.errors import UserError
from ddim.files import read_tensors
from ddim.train import Plan, Recipe, averages, checkpoints, train
from ddim.train.recipe import of_run as recipe_of
from ddim.train.state import Average, State, gamma

N = 1000  # steps of a trajectory


def travelled(folder, trajectory, most=16, ema=(0.1, 0.05), also=()):
    """Move weights along a trajectory, as a training does, and return other averages of them that were tracked."""
    network = nn.Linear(trajectory.shape[1], 1, bias=False)
    state = State(network, Plan(ema=ema))
    tracked = {width: Average(network, width) for width in also}
    for step, weights in enumerate(trajectory, start=1):
        network.weight.data.copy_(weights)
        for average in (*state.averages, *tracked.values()):
            average.update()
        state.step = step
        if averages.due(step, most):
            averages.save(state, folder, most)
    checkpoints.save(state, folder)
    return {width: average.network.get_parameter("weight")[0] for width, average in tracked.items()}


def test_powers_of_the_step_have_the_average_of_the_closed_form(tmp_path):
    """The average of (tau / N)^k with weights tau^gamma is (gamma + 1) / (gamma + 1 + k), up to 1 / N."""
    k = torch.arange(4.0)
    tracked = travelled(tmp_path, (torch.arange(1, N + 1)[:, None] / N) ** k, also=(0.08, 0.15))
    for width in (0.04, 0.08, 0.15):
        weights, found = averages.rebuild(tmp_path, width)
        expected = (gamma(width) + 1) / (gamma(width) + 1 + k)
        torch.testing.assert_close(weights["weight"][0], expected, rtol=0, atol=2e-3)
        assert 0 < found.error < 0.05
        if width in tracked:
            torch.testing.assert_close(weights["weight"][0], tracked[width], rtol=0, atol=5e-4)


def test_the_error_is_that_of_white_noise_and_falls_with_the_number_of_snapshots(tmp_path):
    noise = torch.randn(N, 3000, generator=torch.Generator().manual_seed(0))
    errors = []
    for most in (4, 16, 60):
        folder = tmp_path / str(most)
        tracked = travelled(folder, noise, most, also=(0.07, 0.15))
        for width, expected in tracked.items():
            weights, found = averages.rebuild(folder, width)
            distance = float((weights["weight"][0] - expected).norm() / expected.norm())
            assert distance == pytest.approx(found.error, rel=0.3, abs=0.002)
            errors.append(distance)
    assert errors[0] > 2 * errors[2] > 6 * errors[4]
    assert errors[4] < 0.005


def test_a_width_that_was_tracked_is_that_of_the_checkpoint(tmp_path):
    travelled(tmp_path, torch.randn(100, 5))
    tensors, _ = checkpoints.read(tmp_path, 100)
    for width, group in ((0.1, "0.1"), (0.05, "0.05"), (0, "raw")):
        weights, found = averages.rebuild(tmp_path, width)
        assert torch.equal(weights["weight"], tensors[f"{group}/weight"])
        assert found.error == 0


def test_without_the_width_that_was_tracked_its_own_snapshots_give_it():
    """Of sources that end at the last step, one is the aim: all others get nothing."""
    ends = [(step, width) for step in (500, 750, 1000) for width in (0.05, 0.1)]
    coefficients, error = averages.solve(ends, 1000, 0.1)
    np.testing.assert_allclose(coefficients, np.eye(6)[5], atol=1e-3)
    assert error < 1e-3
    coefficients, error = averages.solve(ends, 1000, 0.07)
    assert coefficients.sum() == pytest.approx(1)


def test_the_error_is_the_distance_of_the_profiles():
    ends = [(step, width) for step in (400, 700, 1000) for width in (0.05, 0.1)]
    coefficients, error = averages.solve(ends, 1000, 0.15)
    tau = (np.arange(1_000_000) + 0.5) / 1000

    def profile(t, width):
        return np.where(tau <= t, (gamma(width) + 1) * (tau / t) ** gamma(width) / t, 0)

    aim = profile(1000, 0.15)
    found = sum(c * profile(*end) for c, end in zip(coefficients, ends, strict=True))
    assert error == pytest.approx(np.linalg.norm(found - aim) / np.linalg.norm(aim), rel=1e-3)


@pytest.mark.parametrize("most", [1, 5, 16])
def test_snapshots_are_few_and_evenly_spaced(tmp_path, most):
    state = State(nn.Linear(1, 1), Plan())
    for step in range(1, 1200):
        state.step = step
        if averages.due(step, most):
            averages.save(state, tmp_path, most)
        kept = averages.steps(tmp_path)
        assert len(kept) <= most
        assert step < 32 or len(kept) >= most / 2 or len(kept) == step // 16
        assert len(set(np.diff([0, *kept]))) <= 1
    tensors = read_tensors(tmp_path / "averages" / f"{kept[-1]:08d}.safetensors")
    assert {name: tensor.dtype for name, tensor in tensors.items()} == dict.fromkeys(
        ("0.1/weight", "0.1/bias", "0.05/weight", "0.05/bias"), torch.float16
    )
    assert not any(averages.due(step, 0) for step in range(1, 100))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder, plan = tmp_path_factory.mktemp("run"), Plan(steps=50, batch_size=4, precision="fp32")
    train(Recipe(network="plain", size="tiny", plan=plan), folder, device="cpu")
    return folder


def files(folder):
    return {name: (folder / name).read_bytes() for name in ("config.json", "model.safetensors")}


def test_the_command_replaces_the_model_and_brings_it_back(run, capsys):
    before = files(run)
    main(["average", str(run)])
    said = capsys.readouterr().out
    assert "\n0.05   0.0%\n" in said
    assert "The model is the average of width 0.1; the first of --ema is 0.1.\n" in said
    assert "(too large)" in said
    main(["average", str(run), "--width", "0.08"])
    said = capsys.readouterr().out
    assert f"ddim average {run} --width 0.1\n" in said
    changed = files(run)
    about = json.loads(changed["config.json"])["average"]
    assert (about["width"], about["step"]) == (0.08, 50)
    assert 0 < about["error"] < averages.LARGEST_ERROR
    weights, _ = averages.rebuild(run, 0.08)
    loaded = ddim.load(run).network.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())
    assert changed["model.safetensors"] != before["model.safetensors"]
    main(["average", str(run)])
    assert "The model is the average of width 0.08; the first of --ema is 0.1.\n" in capsys.readouterr().out
    main(["average", str(run), "--width", "0.1"])
    assert files(run) == before


def test_a_run_that_goes_on_saves_its_own_average(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run")
    averages.write(folder, 0.0)
    recipe = recipe_of(folder)
    train(replace(recipe, plan=replace(recipe.plan, steps=51)), folder, device="cpu", resume=True)
    assert "average" not in json.loads((folder / "config.json").read_text())
    weights, _ = averages.rebuild(folder, 0.1)
    assert all(torch.equal(weights[name], t) for name, t in ddim.load(folder).network.state_dict().items())


def test_a_snapshot_that_cannot_be_written_ends_no_training(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise UserError("The disk is full.")

    monkeypatch.setattr(averages, "SHORTEST", 1)
    monkeypatch.setattr(averages, "save", full)
    plan = Plan(steps=1, batch_size=4, precision="fp32")
    train(Recipe(network="plain", size="tiny", plan=plan), tmp_path, device="cpu")
    assert "ddim: The disk is full. Training continues without a snapshot of this step." in capsys.readouterr().err


def test_what_snapshots_cannot_give_is_refused(run, tmp_path, capsys):
    before = files(run)
    with pytest.raises(UserError, match=r"do not give the width 0\.01: its error would be \d\d%, and at most"):
        averages.write(run, 0.01)
    with pytest.raises(UserError, match="The width of an average must be a finite number"):
        averages.write(run, 0.3)
    assert files(run) == before
    with pytest.raises(SystemExit):
        main(["average", str(tmp_path), "--width", "0.1"])
    assert "config.json" in capsys.readouterr().err
    (tmp_path / "file").touch()
    names = {tmp_path / "missing": "There is no run at ", tmp_path / "file": "is not a run", "mnist": "comes with ddim"}
    for name, said in names.items():
        with pytest.raises(SystemExit):
            main(["average", str(name), "--width", "0.1"])
        assert said in capsys.readouterr().err
    with pytest.raises(UserError, match="has no checkpoints"):
        averages.widths(tmp_path)
    travelled(tmp_path, torch.randn(40, 2), ema=(0.0,))
    assert averages.steps(tmp_path) == []
    with pytest.raises(UserError, match="train with --ema"):
        averages.rebuild(tmp_path, 0.1)


def test_a_damaged_snapshot_is_named_and_may_be_removed(tmp_path):
    travelled(tmp_path, torch.randn(100, 5))
    path = tmp_path / "averages" / "00000064.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"00000064\.safetensors is damaged .*remove it"):
        averages.rebuild(tmp_path, 0.08)
    path.unlink()
    assert averages.rebuild(tmp_path, 0.08)[1].error < 0.1
