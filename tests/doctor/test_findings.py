"""Findings on trainings whose truth is known: what is ill is named, and what is healthy is not accused."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import save as to_bytes

from ddim import doctor, environment, model_io, nets, processors, schedule
from ddim.cli import main
from ddim.denoiser import Denoiser
from ddim.doctor.curve import Curve, fit
from ddim.files import write_bytes, write_text
from ddim.report.page import render
from ddim.run_folder import read
from madeup import leave, results, trained  # noqa: F401 - a fixture

STEPS = np.arange(1, 41) * 250


def losses(floor, gain, power, noise=0.0, seed=0):
    """A power law above a floor at `STEPS`, with relative noise."""
    wobble = np.random.default_rng(seed).normal(1, noise, len(STEPS))
    return (floor + gain * (STEPS / STEPS[-1]) ** -power) * wobble


def run_of(tmp_path, held_out, train=None, plan=None, by_level=None, seconds=None, predicts="eps", spread=0.1):
    """A run whose losses are given by line; the images of each level are a little harder or easier."""
    torch.manual_seed(0)
    network = nets.build("plain", 1, "tiny", widths=(8, 16))
    model = Denoiser(network, schedule.linear(), predicts=predicts, shape=(1, 8, 8))
    recipe = {"data": "digits", "plan": {"batch_size": 64, "ema": [0.1], **(plan or {})}}
    model_io.save(model, tmp_path, recipe=recipe)
    harder = np.random.default_rng(1).normal(0, spread, (2, 10))
    lines = []
    for i, step in enumerate(STEPS[: len(held_out)].tolist()):
        profile = np.ones(10) if by_level is None else np.array(by_level)
        pair = [held_out[i], held_out[i] if train is None else train[i]]
        levels = [(loss * profile * np.exp(bumps)).tolist() for loss, bumps in zip(pair, harder, strict=True)]
        line = {"step": step, "epoch": step / 100, "loss": pair[1], "held_out": float(held_out[i]), "train": pair[1]}
        line |= {"seconds": float(step / 10 if seconds is None else seconds[i]), "images_per_second": 640.0}
        lines.append(line | {"held_out_by_level": levels[0], "train_by_level": levels[1]})
    write_text(tmp_path / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    return read(tmp_path)


def found(run):
    """Each finding by its name."""
    return {one.name: one for one in doctor.examine(run)}


def measured(tmp_path, distances, metric="frechet", copies_p=0.5):
    """The same run with a measurement of samples after each 100 updates, one epoch."""
    lines = [
        {"step": 100 * i, "epoch": i, metric: float(value), "copies": 0.04, "copies_p": copies_p, "nearer": 0.5}
        for i, value in enumerate(distances, 1)
    ]
    with (tmp_path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    return read(tmp_path)


def images(tmp_path, name, **tensors):
    write_bytes(tmp_path / name, to_bytes({key: one.to(torch.uint8) for key, one in tensors.items()}))


# The curve


def test_a_curve_without_noise_is_forecast_exactly():
    curve = fit(STEPS, losses(0.1, 0.02, 0.7))
    assert curve is not None
    true = 0.02 * (1 - 2**-0.7) / 0.12
    assert curve.decrease(2).value == pytest.approx(true, rel=0.02)
    assert curve.decrease(1) == pytest.approx((0, 0, 0))


def test_the_interval_covers_the_truth_and_is_not_trivial():
    """Of 60 trainings at least 54 are covered: 95% intervals miss more in one test of 60."""
    covered, widths = 0, []
    for seed in range(60):
        more = Curve(STEPS, losses(0.1, 0.02, 0.7, noise=0.002, seed=seed)).decrease(2)
        covered += more.low <= 0.02 * (1 - 2**-0.7) / 0.12 <= more.high
        widths.append(more.high - more.low)
    assert covered >= 54
    assert np.median(widths) < 0.05


def test_few_lines_are_not_fitted():
    assert fit(STEPS[:7], losses(0.1, 0.02, 0.7)[:7]) is None
    assert fit([], []) is None


def test_a_training_that_still_falls_is_worth_continuing(tmp_path):
    one = found(run_of(tmp_path, losses(0.1, 0.05, 0.5, 0.001)))["continuing"]
    assert one.verdict == "act"
    assert "The loss still falls." in one.evidence


def test_a_training_that_has_converged_is_not(tmp_path):
    one = found(run_of(tmp_path, losses(0.1, 1e-5, 1.5, 0.0005)))["continuing"]
    assert one.verdict == "fine"
    assert "The loss has converged." in one.evidence


def test_noise_that_hides_the_answer_leaves_it_open(tmp_path):
    assert found(run_of(tmp_path, losses(0.1, 0.001, 1.0, 0.05)))["continuing"].verdict == "unclear"


def test_the_decay_of_the_learning_rate_is_not_taken_for_progress(tmp_path):
    """The loss stands still at the full rate and falls by a tenth while the rate decays."""
    curve = losses(0.1, 1e-5, 1.5, 0.0005)
    curve[28:] *= np.linspace(1, 0.9, 12)
    plan = {"cooldown": 0.3, "steps": int(STEPS[-1])}
    one = found(run_of(tmp_path, curve, plan=plan))["continuing"]
    assert one.verdict == "fine"
    assert "fitted to 28 lines of metrics at the full learning rate" in one.evidence


# Overfitting


def test_an_overfitting_curve_is_called_overfitting(tmp_path):
    held_out = 0.1 + 0.05 * np.abs(np.linspace(-1, 2, 40))
    for step in (0, 3250, 9000):
        write_bytes(tmp_path / f"checkpoints/{step:08d}.safetensors", b"")
    findings = found(run_of(tmp_path, held_out, train=losses(0.05, 0.02, 1.0)))
    one = findings["overfitting"]
    assert one.verdict == "act"
    assert "overfitting" in one.evidence
    assert one.advice.startswith("Use an earlier checkpoint: `ddim sample RUN --checkpoint 3250`.")
    assert findings["continuing"].verdict == "act"
    assert findings["continuing"].advice == "Do not continue with these settings."


def test_a_gap_that_grows_is_told_before_the_held_out_loss_rises(tmp_path):
    held_out = losses(0.1, 0.02, 0.7)
    growing = found(run_of(tmp_path, held_out, train=held_out * np.linspace(1, 0.95, 40)))["overfitting"]
    assert growing.verdict == "unclear"
    assert "begins to memorise" in growing.evidence
    large = found(run_of(tmp_path, held_out, train=held_out * np.linspace(1, 0.7, 40)))["overfitting"]
    assert large.verdict == "act"
    assert "+39.6% (+39.6% to +39.6%)" in large.evidence  # from epoch 10 on: 0.977 / 0.7, without noise


def test_held_out_images_that_are_harder_are_no_overfitting(tmp_path):
    held_out = losses(0.1, 0.02, 0.7)
    one = found(run_of(tmp_path, held_out, train=0.7 * held_out, spread=0.02))["overfitting"]
    assert one.verdict == "fine"
    assert "these held-out images are harder" in one.evidence


def test_a_healthy_training_is_not_accused(tmp_path):
    run_of(tmp_path, losses(0.1, 1e-5, 1.5, 0.0005), by_level=np.linspace(2, 0.1, 10))
    grey = torch.randint(0, 256, (16, 1, 8, 8))
    images(tmp_path, "samples/data.safetensors", images=torch.randint(0, 256, (100, 1, 8, 8)))
    images(tmp_path, "samples/step-00010000.safetensors", averaged=grey, latest=grey)
    leave(tmp_path, "memorisation", {**results()["memorisation"], "p_value": 0.6, "flagged": 0})
    measured(tmp_path, 5 + 20 / np.arange(1, 11))
    verdicts = {name: one.verdict for name, one in found(read(tmp_path)).items()}
    assert verdicts == dict.fromkeys(doctor.findings, "fine")


# The loss by level, the average, the speed


@pytest.mark.parametrize("predicts", ["eps", "x0", "v", "flow"])
def test_a_level_that_is_worse_than_a_noisier_one_is_named(tmp_path, predicts):
    """The errors of x0 rise with the noise as those of an ideal network do; at one level they are tenfold."""
    run = run_of(tmp_path, np.ones(1), predicts=predicts)
    rates = [[float(rate) for rate in run.model.schedule(100 * i + 50)[1:]] for i in range(10)]
    errors = np.array([sigma**2 / (1 + sigma**2) for _, sigma in rates])
    factor = np.array([{"eps": a / s, "x0": 1.0, "v": 1 / s, "flow": 1 + a / s}[predicts] ** 2 for a, s in rates])
    healthy = found(run_of(tmp_path, np.ones(2), by_level=errors * factor, spread=0, predicts=predicts))["levels"]
    assert healthy.verdict == "fine"
    errors[2] *= 10
    one = found(run_of(tmp_path, np.ones(2), by_level=errors * factor, spread=0, predicts=predicts))["levels"]
    assert one.verdict == "act"
    assert "most of it between t = 200 and 300" in one.evidence


def test_an_average_lags_where_the_loss_falls_steeply(tmp_path):
    run = run_of(tmp_path, losses(0.01, 0.1, 1.0))
    one = found(run)["average"]
    lag = 0.111  # 1 / (gamma + 2) for a width of 0.1
    assert "An average of width 0.1 lies 11% of the training behind its end." in one.evidence
    assert one.verdict == "unclear"
    fallen = 1 - 0.11 / (0.01 + 0.1 / (1 - lag))
    assert f"by {fallen:.0%}"[:4] in one.evidence
    assert found(run_of(tmp_path, losses(0.1, 1e-5, 1.5)))["average"].verdict == "fine"
    assert found(run_of(tmp_path, losses(0.1, 0.1, 1.0), plan={"ema": [0]}))["average"].verdict == "act"


def test_slow_stretches_are_lost_time(tmp_path):
    even = STEPS / 10
    assert found(run_of(tmp_path, np.ones(40), seconds=even))["speed"].verdict == "fine"
    slow = np.cumsum(np.where(np.arange(40) % 2, 25.0, 125.0))  # every other stretch takes five times as long
    one = found(run_of(tmp_path, np.ones(40), seconds=slow))["speed"]
    assert one.verdict == "act"
    assert "and 640 in its fastest stretches: 66% of the" in one.evidence


def test_the_speed_is_compared_with_this_machine(tmp_path, monkeypatch):
    here = {"processor": environment.processor(), "cores": processors.available_cores(), "device": "cpu"}
    run = run_of(tmp_path, np.ones(40))
    assert doctor.rate(run).verdict == "not measured"
    monkeypatch.setattr("ddim.doctor.machine.UPDATES", 3)
    write_text(tmp_path / "environment.json", json.dumps(here))
    images(tmp_path, "samples/data.safetensors", images=torch.randint(0, 256, (100, 1, 8, 8)))
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config["recipe"]["plan"] = {"batch_size": 64}
    path.write_text(json.dumps(config))
    assert "images/s here now" in doctor.rate(read(tmp_path)).evidence
    verdicts = []
    for fastest in (700.0, 2000.0, 100.0):
        monkeypatch.setattr("ddim.doctor.machine.measure", lambda *_, fastest=fastest: fastest)
        verdicts.append(doctor.rate(read(tmp_path)).verdict)
    assert verdicts == ["fine", "act", "not measured"]


# The schedule and the samples


def test_a_schedule_that_ends_early_is_named(tmp_path):
    """Ends at alpha_T of 0.07, as that of Stable Diffusion; 8 x 8 pixels of N(0, 0.5^2) brightness see it at once."""
    network = nets.build("plain", 1, "tiny", widths=(8, 16))
    flat = torch.randn(100, 1, 1, 1).mul(60).add(128).clamp(0, 255).expand(100, 1, 8, 8)
    images(tmp_path, "samples/data.safetensors", images=flat)
    verdicts = []
    for end in (0.02, 0.005):
        model_io.save(Denoiser(network, schedule.linear(beta_end=end), shape=(1, 8, 8)), tmp_path)
        verdicts.append(found(read(tmp_path))["schedule"].verdict)
    alpha = float(schedule.linear(beta_end=0.005)(1000).alpha)
    assert 8 * alpha / math.sqrt(1 - alpha**2) * float((flat / 127.5).mean(dim=(1, 2, 3)).std()) > 1
    assert verdicts == ["fine", "act"]


@pytest.mark.parametrize(
    ("real", "drawn", "verdict", "said"),
    [
        ((0, 256), (0, 256), "fine", "training images"),
        ((40, 200), (-200, 456), "act", "Samples are saturated."),
        ((-200, 456), (40, 200), "act", "do not reach black and white"),
    ],
)
def test_samples_have_the_black_and_white_of_the_images(tmp_path, real, drawn, verdict, said):
    torch.manual_seed(0)
    pixels = [torch.randint(low, high, (32, 1, 8, 8)).clamp(0, 255) for low, high in (real, drawn)]
    run_of(tmp_path, np.ones(2))
    images(tmp_path, "samples/data.safetensors", images=pixels[0])
    images(tmp_path, "samples/step-00000500.safetensors", averaged=pixels[1], latest=pixels[1])
    one = found(read(tmp_path))["saturation"]
    assert one.verdict == verdict
    assert said in one.evidence


def test_copies_are_told(tmp_path):
    run_of(tmp_path, np.ones(2))
    leave(tmp_path, "memorisation", {**results()["memorisation"], "p_value": 1e-6, "flagged": 9})
    one = found(read(tmp_path))["copies"]
    assert one.verdict == "act"
    assert "9 of" in one.evidence


def test_copies_during_the_training_are_told_until_they_are_searched_for_afterwards(tmp_path):
    run_of(tmp_path, np.ones(2))
    assert found(measured(tmp_path, [3.0, 2.0], copies_p=0.01))["copies"].verdict == "fine"  # one of many searches
    one = found(measured(tmp_path, [3.0, 2.0], copies_p=1e-5))["copies"]
    assert one.verdict == "act"
    assert "4.0% of the samples after 2 epochs" in one.evidence
    leave(tmp_path, "memorisation", {**results()["memorisation"], "p_value": 0.6, "flagged": 0})
    assert found(read(tmp_path))["copies"].verdict == "fine"


@pytest.mark.parametrize("metric", ["frechet", "kid"])
def test_samples_that_get_worse_again_are_told(tmp_path, metric):
    run_of(tmp_path, np.ones(2))
    assert found(read(tmp_path))["distance"].verdict == "not measured"
    epochs = np.arange(1, 21)
    one = found(measured(tmp_path, 20 / epochs + 0.2 * epochs, metric))["distance"]
    assert one.verdict == "act"
    assert "smallest, 4, after 10 epochs, and is 5 at the end" in one.evidence
    assert "already the best average" in one.advice


def test_a_few_measurements_are_no_trend(tmp_path):
    run_of(tmp_path, np.ones(2))
    assert found(measured(tmp_path, [9.0, 3.0, 4.0, 5.0]))["distance"].verdict == "unclear"


def test_a_distance_that_only_fluctuates_is_rarely_called_a_rise(tmp_path):
    """Simulated: 2% of the curves that fall to a level and stay there, in 3,000 of 20 measurements each."""
    noise = np.random.default_rng(0).normal(0, 0.3, (40, 20))
    folders = [tmp_path / str(i) for i in range(len(noise))]
    runs = []
    for folder, row in zip(folders, noise, strict=True):
        run_of(folder, np.ones(2))
        runs.append(measured(folder, 5 + 50 * np.exp(-np.arange(1, 21)) + row))
    assert sum(found(run)["distance"].verdict == "act" for run in runs) <= 3


# The command, and the report


def test_a_model_without_metrics_is_told_what_it_can_be(tmp_path, capsys):
    network = nets.build("plain", 1, "tiny", widths=(8, 16))
    model_io.save(Denoiser(network, schedule.linear(), shape=(1, 8, 8)), tmp_path)
    main(["doctor", str(tmp_path)])
    *lines, last = capsys.readouterr().out.splitlines()
    heads = [line for line in lines if not line.startswith(" ")]
    assert [line for line in heads if "(not measured)" not in line] == ["✓ The end of the noise schedule (fine)"]
    assert len(heads) == len(doctor.findings) + 1
    assert last == f"0 findings to act on, of {len(heads)}."


def test_the_report_shows_the_findings(trained):  # noqa: F811
    run = read(trained())
    page = render(run, [])
    for one in doctor.examine(run):
        assert f"<b>{one.subject}</b>" in page


def test_a_finding_of_a_user_is_examined(tmp_path, monkeypatch):
    monkeypatch.setattr("ddim.doctor.base.findings", type(doctor.findings)("finding"))
    doctor.register("mine", "Luck")(lambda run: doctor.Diagnosis("unclear", "Heads or tails.", "Toss."))
    run = run_of(tmp_path, np.ones(2))
    assert doctor.examine(run) == [doctor.Finding("mine", "Luck", "unclear", "Heads or tails.", "Toss.")]
