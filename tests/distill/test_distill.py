"""Distillation: what a student learns, how it is sampled and resumed, and what is refused."""

import json
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import ddim
import known
from ddim import model_io, nets, schedule
from ddim.cli import main
from ddim.data.images import Images
from ddim.denoiser import Denoiser
from ddim.distill import Distillation, distill, losses
from ddim.errors import Notice, UserError
from ddim.noise import ImageNoise
from ddim.planner import Cost, plan
from ddim.presets import Preset
from ddim.report.losses import _about_loss, learning, levels
from ddim.run_folder import read
from ddim.samplers import DDIM
from ddim.sampling import Sampling
from ddim.train import Plan, Recipe
from ddim.train.run import train
from ddim.verify.exact import Gaussian

FAST = Plan(steps=4, batch_size=6, warmup=0, label_dropout=0.0, precision="fp32")


def few_images(classes=3):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (40, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return Images(pixels, torch.arange(40) % classes, tuple("abcdef"[:classes]), "random")


def teacher(classes=3, predicts="v", seed=0):
    torch.manual_seed(seed)
    network = nets.build("plain", 1, "tiny", classes, widths=(8, 16))
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return Denoiser(network, schedule.linear(), predicts, (1, 8, 8), classes).eval()


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.network.parameters()])


class Affine(nn.Module):
    """A network that is w(t) x + b(t), with a pair of numbers for each time that a student knows."""

    def __init__(self, times):
        super().__init__()
        self.register_buffer("times", torch.tensor(times))
        self.w, self.b = (nn.Parameter(torch.zeros(len(times))) for _ in range(2))

    def forward(self, x, t):
        place = (self.times - t[:, None]).abs().argmin(1)
        return self.w[place, None, None, None] * x + self.b[place, None, None, None]


# what is learned


def flow(x, at, mean, std):
    """The end of the flow of N(mean, std^2) from x_t: mu + s (x_t - alpha mu) / sqrt(alpha^2 s^2 + sigma^2)."""
    alpha, sigma = at.like(x).alpha, at.like(x).sigma
    return mean + std * (x - alpha * mean) / (alpha**2 * std**2 + sigma**2).sqrt()


@pytest.mark.slow
@pytest.mark.parametrize("loss", losses)
def test_a_linear_student_of_gaussian_pixels_learns_the_flow_map(loss):
    """With 1, 2 and 4 calls: from the noise, and for consistency from all its times."""
    s, mean, std = schedule.linear(T=100, beta_start=1e-5, beta_end=0.2), 0.0, 0.3
    exact = known.model(Gaussian((mean,) * 2, (std,) * 2).denoise, s, (1, 2, 2))
    images = known.images(torch.full((8, 1, 2, 2), 128), classes=1)
    options = {"loss": loss, "sampler": "unipc", "steps": 48}
    times = Distillation(exact, [1, 2, 4], **options).sampling.times
    start = Denoiser(Affine([t for own in times for t in own]), s, "x0", (1, 2, 2))
    quick = Plan(steps=150, batch_size=32, learning_rate=0.05, warmup=5, cooldown=0.8, clip=1e9, precision="fp32")
    *_, last = distill(exact, images, quick, [1, 2, 4], start=start, **options)
    xT = ImageNoise(5, range(200))(torch.empty(200, 1, 2, 2))
    end = flow(xT, s(torch.tensor(float(s.T))), mean, std)
    for own in times:
        found = last.average.sample(200, steps=len(own), eta=0.0, spacing=own, seed=5, progress=False)
        if len(own) == 1 or loss == "trajectory":
            assert (found - end).square().mean().sqrt() < 0.01, len(own)
        if loss == "consistency":
            for t in own:
                at = s(torch.tensor(t))
                x = float(at.alpha) * end + float(at.sigma) * xT.flip(0)
                found = last.average.denoise(clip=False)(x, at.like(x)).x0
                assert (found - flow(x, at, mean, std)).square().mean().sqrt() < 0.01, t
    assert (exact.sample(200, sampler="ddim", steps=4, seed=5, progress=False) - end).square().mean().sqrt() > 0.02


def test_a_student_with_the_steps_of_its_teacher_has_nothing_to_learn():
    """Its first weights are the teacher's: the loss of the first update is the rounding of fp32."""
    s = schedule.linear(T=100)
    exact = known.model(Gaussian((0.1,) * 2, (0.1,) * 2).denoise, s, (1, 2, 2))
    images = known.images(torch.full((8, 1, 2, 2), 128), classes=1)
    same, fewer = (
        Distillation(exact, [4], "trajectory", "ddim", steps).objective(images, FAST).losses(exact, 1, range(6))
        for steps in (4, 40)
    )
    assert same.shape == (6,)
    assert same.max() < 1e-5
    assert fewer.min() > 0.01


def test_the_gradient_of_a_step_is_its_own():
    """The loss as the paper writes it, step by step, with the states that sampling reaches."""
    model = teacher()
    task = Distillation(model, [2, 3], "trajectory", "ddim", 7)
    student, objective = task.student(), task.objective(few_images(), FAST)
    nn.init.normal_(next(iter(student.network.parameters())), std=0.3)
    objective.losses(student, 3, range(6)).sum().backward()
    found = [parameter.grad.clone() for parameter in student.network.parameters()]
    student.network.zero_grad()

    noise = ImageNoise(0, range(12, 18), ddim.noise.DISTILLATION)(torch.empty(6, 1, 8, 8))
    labels = few_images().labels[ddim.train.batches.image_indices(FAST, 40, 3, range(6))]
    states = objective.taught(lambda like: noise, labels).states
    for own in task.sampling.times:
        visited = ddim.timesteps.levels(model.schedule, torch.tensor([*own, 0.0], dtype=torch.float64))
        x = noise
        for at, to in pairwise(visited):
            x0, eps = student(x, at, labels)
            reached = float(to.alpha) * x0 + float(to.sigma) * eps
            ((reached - states[float(to.t)]).abs().mean(dim=(1, 2, 3)) / float(to.alpha)).sum().backward()
            with torch.no_grad():
                x, _ = DDIM().step(student.denoise(labels), x, at, to, None, None)
    for one, parameter in zip(found, student.network.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad, rtol=1e-3, atol=1e-5)


def test_a_batch_is_the_same_in_parts():
    """So several processes, and parts that fit into memory, learn from the same trajectories; they are repeated."""
    model = teacher()
    task = Distillation(model, [1, 2], steps=4)
    objective, student = task.objective(few_images(), FAST), task.student()
    with torch.no_grad():
        whole = objective.losses(student, 2, range(6))
        parts = torch.cat([objective.losses(student, 2, range(*ends)) for ends in ((0, 1), (1, 6))])
        other = objective.losses(student, 3, range(6))
        again = Distillation(model, [1, 2], steps=4, trajectories=12).objective(few_images(), FAST)
        repeated = [again.losses(student, step, range(6)) for step in (1, 2, 3, 4)]
    assert torch.equal(repeated[0], repeated[2])
    assert torch.equal(repeated[1], repeated[3])
    assert torch.equal(repeated[1], whole)
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)
    assert (other - whole).abs().min() > 1e-3


def test_the_teacher_is_guided_and_unchanged():
    model, images = teacher(), few_images()
    before = weights(model)
    plainly, guided, nowhere = (
        Distillation(model, [1], "consistency", "ddim", 4, w, interval).objective(images, FAST)
        for w, interval in ((1.0, None), (3.0, None), (3.0, (1e-6, 1e-5)))
    )
    noise, labels = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(3)
    ends = [one.taught(lambda like: noise, labels).states[0.0] for one in (plainly, guided, nowhere)]
    assert (ends[0] - ends[1]).abs().max() > 0.01
    torch.testing.assert_close(ends[2], ends[0])
    visited = [float(level.t) for level in plainly.visited]
    expected = model.sample(3, sampler="ddim", spacing=visited, seed=2, labels=labels, guidance=3.0, progress=False)
    reached = guided.taught(ImageNoise(2, range(3)), labels).states[0.0]
    torch.testing.assert_close(reached.clamp(-1, 1), expected, rtol=1e-4, atol=1e-4)
    *_, last = distill(model, images, FAST, 2, steps=4, guidance=2.0)
    assert torch.equal(weights(model), before)
    assert not torch.equal(weights(last.average), before)
    assert not last.average.null_class


def test_the_teacher_is_sampled_by_its_preset():
    """With the preset's times, corrections and guidance, unless a sampler or a guidance is named."""
    model = teacher()
    about: dict[str, Any] = {"distance": 1.0, "plain": 2.0, "ddim": 2.0, "best_plain": "ddim, linear", "count": 10}
    about |= {"weights": ddim.presets.digest(model.network), "extractor": "none", "reference": "none"}
    own = Preset(calls=3, sampler="unipc", times=(900.0, 500.0, 100.0), corrections=((0.1,),) * 3, **about)
    guided = Preset(calls=4, sampler="ddim", times=(1000.0, 300.0), guidance=2.0, guidance_interval=(0.1, 1e3), **about)
    model.presets = (own, guided)
    by_preset = Distillation(model, [1, 3], steps=3)
    assert by_preset.sampling.times == ((900.0,), (900.0, 500.0, 100.0))
    assert by_preset.sampling.eta == "max"
    labels = torch.arange(3)
    for task, seed in ((by_preset, 1), (Distillation(model, [1], steps=4), 2)):
        end = task.objective(few_images(), FAST).taught(ImageNoise(seed, range(3)), labels).states[0.0]
        expected = model.sample(3, steps=task.steps, seed=seed, labels=labels, progress=False)
        torch.testing.assert_close(end.clamp(-1, 1), expected, rtol=1e-4, atol=1e-4)
    assert Distillation(model, [1], steps=4).teaching.guidance == 2
    assert Distillation(model, [1], steps=4, guidance=1.0).teaching.guidance == 1
    assert Distillation(model, [1, 2], "trajectory", steps=3).sampling.times == ((900.0,), (800.0, 500.0))


def test_a_student_of_eps_predicts_v():
    model = teacher(predicts="eps")
    *_, last = distill(model, few_images(), FAST, 1, steps=4)
    assert (model.predicts, last.average.predicts) == ("eps", "v")
    assert torch.isfinite(last.average.sample(2, progress=False)).all()


# its times


@pytest.mark.parametrize("loss", losses)
@pytest.mark.parametrize("calls", [[1], [4], [1, 2, 4], list(range(1, 33))])
def test_the_teacher_visits_the_times_of_its_student(calls, loss):
    visited = [1000 - 1000 * i / 48 for i in range(48)]
    times = losses[loss]().times(visited, calls)
    assert [len(own) for own in times] == calls
    assert times[0][0] == 1000
    for own in times:
        assert all(t > s for t, s in pairwise([*own, 0.0]))
        assert set(own[1:]) <= set(visited)
    distinct = {t for own in times for t in own}
    if loss == "consistency":
        assert distinct <= set(visited)
        assert losses[loss]().evaluations(times) == len(distinct)
    else:  # the first time tells the network how many calls there are
        assert len({own[0] for own in times}) == len(times)
        assert losses[loss]().evaluations(times) == sum(calls)


def test_calls_share_their_times():
    visited = [1000.0, 586.0, 456.0, 365.0, 274.0, 187.0, 109.0, 50.0]
    expected = ((1000.0,), (1000.0, 274.0), (1000.0, 456.0, 274.0, 109.0))
    assert losses["consistency"]().times(visited, [1, 2, 4]) == expected


def test_a_student_knows_its_times(tmp_path):
    """They are kept with the weights; a sampler, an eta or a spacing turns them off."""
    student = Distillation(teacher(), [1, 3], "trajectory", "ddim", 10).student().eval()
    model_io.save(student, tmp_path)
    loaded = ddim.load(tmp_path, backend="torch")
    assert loaded.sampling == student.sampling
    assert loaded.sampling.times == ((1000.0,), (925.0, 700.0, 400.0))
    three = loaded.sample(2, progress=False)
    assert torch.equal(three, student.sample(2, steps=3, progress=False))
    spacing = [925.0, 700.0, 400.0]
    assert torch.equal(three, loaded.sample(2, sampler="ddim", spacing=spacing, progress=False))
    assert not torch.equal(three, loaded.sample(2, steps=1, progress=False))
    assert loaded.sample(1, steps=2, sampler="ddim", progress=False).shape == (1, 1, 8, 8)
    assert loaded.describe_sampling() == "ddim, timesteps 925 700 400, 3 steps, eta = 0"
    with pytest.raises(UserError, match="distilled for 1, 3 steps, not for 2; ask for one of them, or name a sampler"):
        loaded.sample(1, steps=2)
    with pytest.raises(UserError, match=r"This model is distilled, .* tune its teacher instead"):
        ddim.tune.tune(loaded, calls=[2])


def test_the_planner_takes_no_other_number_of_calls():
    student = Distillation(teacher(), [1, 3, 8]).student()
    for seconds, steps in ((100.0, 8), (7.0, 3), (1.5, 1), (0.5, 1)):
        found = plan(student, 1, seconds=seconds, costs=[Cost(1, 1.0)])
        assert found.steps == steps, seconds
    assert plan(student, 1, quality="fast").steps == 8


@pytest.mark.parametrize("times", [((1.0, 2.0),), ((),), ((0.0,),), ((float("nan"),),)])
def test_times_that_do_not_descend_are_refused(times):
    with pytest.raises(UserError):
        Sampling(1, "ddim", times=times)


# what is refused


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"calls": []}, "Distillation needs a number of network calls"),
        ({"calls": [0]}, "a student must be a whole number from 1 to 32; got 0"),
        ({"calls": [33]}, "a whole number from 1 to 32; got 33"),
        ({"calls": [2.5]}, "a whole number from 1 to 32; got 2.5"),
        ({"steps": 0}, "The number of steps"),
        ({"steps": 3}, "The teacher makes 3 steps, and a student cannot learn 4 from them"),
        ({"loss": "nothing"}, "There is no distillation loss called 'nothing'; choose one of consistency, trajectory"),
        ({"trajectories": 0}, "The number of trajectories"),
        ({"sampler": "ddpm"}, "The teacher's sampler must be deterministic, .* got ddpm"),
        ({"sampler": "heun"}, "with one network call a step, e.g. 'ddim'; got heun"),
        ({"sampler": "nobody"}, "nobody"),
        ({"guidance": float("nan")}, "guidance"),
        ({"guidance_interval": (2, 1)}, "The guidance interval must be two noise levels"),
        ({"start": Denoiser(nets.build("plain", 1, "tiny"), schedule.linear(), shape=(1, 8, 8))}, "with classes None"),
        (
            {"start": Denoiser(nets.build("plain", 1, "tiny", 3), schedule.cosine(), "v", (1, 8, 8), 3)},
            "noise schedule",
        ),
    ],
)
def test_what_cannot_be_distilled_is_refused(options, said):
    with pytest.raises(UserError, match=said):
        Distillation(teacher(), **options)


def test_images_of_other_classes_are_refused():
    with pytest.raises(UserError, match="knows 3 classes, but random has 2"):
        distill(teacher(), few_images(2), FAST)
    with pytest.raises(UserError, match="guidance must be 1 for a model without classes"):
        Distillation(teacher(None), guidance=2.0)


# as a run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "teacher"
    recipe = Recipe(data="digits", network="plain", size="tiny", conditional=True)
    train(replace(recipe, plan=Plan(steps=2, batch_size=8, precision="fp32")), folder, device="cpu")
    return folder


def command(run, out, *flags):
    words = ["distill", str(run), "--calls", "1,2", "--teacher-steps", "4", "--batch-size", "4", "--backend", "torch"]
    main([*words, "--precision", "fp32", "--cooldown", "0", "--device", "cpu", "--out", str(out), *flags])


def checkpoint(folder):
    return (folder / "model.safetensors").read_bytes(), (folder / "checkpoints/00000006.safetensors").read_bytes()


@pytest.mark.slow
def test_a_resumed_distillation_is_the_uninterrupted_one(run, tmp_path, capsys):
    """Bit for bit, resumed by repeating the command, and by the student's own folder."""
    command(run, tmp_path / "whole", "--steps", "6", "--guidance", "1.5")
    assert f"ddim sample {tmp_path / 'whole'} --steps 1" in capsys.readouterr().out
    for name in ("repeated", "continued"):
        command(run, tmp_path / name, "--steps", "3", "--guidance", "1.5")
    command(run, tmp_path / "repeated", "--steps", "6", "--guidance", "1.5", "--resume")
    main(["distill", str(tmp_path / "continued"), "--resume", "--steps", "6", "--backend", "torch", "--device", "cpu"])
    weights = [checkpoint(tmp_path / name)[0] for name in ("whole", "repeated", "continued")]
    assert weights[0] == weights[1] == weights[2]
    lines = [json.loads(line) for line in (tmp_path / "continued/metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 6
    assert all(line["held_out"] > 0 for line in lines)
    assert (tmp_path / "continued/samples/step-00000006.png").is_file()
    config, loaded = json.loads((tmp_path / "continued/config.json").read_text()), ddim.load(run, backend="torch")
    assert config["distilled"] == {
        "calls": [1, 2],
        "loss": "consistency",
        "sampler": None,
        "steps": 4,
        "guidance": 1.5,
        "guidance_interval": None,
        "trajectories": 16384,
        "teacher_sampling": "unipc, log-snr, 4 steps",
        "teacher_times": [float(at.t) for at in loaded.sampling.resolve(loaded.schedule, 4)[1][:-1]],
        "teacher_weights": ddim.presets.digest(loaded.network),
        "teacher": str(run),
    }
    assert config["recipe"]["data"] == "digits"
    main(["sample", str(tmp_path / "continued"), "--count", "2", "--backend", "torch", "--device", "cpu"])
    main(["sample", str(tmp_path / "continued"), "--count", "2", "--steps", "1", "--backend", "torch"])
    names = {path.name for path in (tmp_path / "continued/samples").glob("seed*")}
    assert names == {"seed0-2images.png", "seed0-1steps-2images.png"}
    shown = read(tmp_path / "continued")
    assert learning(shown) is not None
    assert levels(shown) is None
    assert "This model is a student" in _about_loss(shown)


@pytest.mark.slow
def test_two_processes_learn_what_one_does(run, tmp_path):
    flags = "--teacher-steps 4 --batch-size 9 --backend torch --precision fp32 --optimizer adamw --steps 3 --device cpu"
    words = ["-m", "ddim", "distill", str(run), "--calls", "1,2", *flags.split()]
    for name, launcher in (("one", []), ("two", ["-m", "torch.distributed.run", "--nproc-per-node", "2"])):
        line = [sys.executable, *launcher, *words, "--out", str(tmp_path / name)]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    one, two = (weights(ddim.load(tmp_path / name, backend="torch")) for name in ("one", "two"))
    assert (one - two).abs().max() < 1e-6
    assert (one - weights(ddim.load(run, backend="torch"))).abs().max() > 1e-5


@pytest.mark.slow
def test_a_student_is_continued_by_its_own_command_and_settings(run, tmp_path, capsys):
    out = tmp_path / "student"
    command(run, out, "--steps", "2")

    def refused(*words: str) -> str:
        with pytest.raises(SystemExit) as exit:
            main([*words])
        assert exit.value.code == 2
        return capsys.readouterr().err

    assert "a student itself; name its teacher, or continue it with --resume" in refused("distill", str(out))
    assert "was begun by `ddim distill`" in refused("train", str(out), "--resume")
    assert "was begun by `ddim train`" in refused("distill", "mnist", "--resume", "--out", str(run), "--steps", "9")
    assert "begun with --calls [1, 2], not [3]" in refused("distill", str(out), "--resume", "--calls", "3")
    assert "begun with --teacher-steps 4, not 5" in refused("distill", str(out), "--resume", "--teacher-steps", "5")
    assert "already; continue with --resume" in refused("distill", str(run), "--out", str(out))
    assert "This model is distilled" in refused("tune", str(out))
    assert "distilled for 1, 2 steps, not for 3" in refused("sample", str(out), "--steps", "3", "--backend", "torch")
    moved = run.rename(run.with_name("moved"))
    assert f"There is no run at {run}" in refused("distill", str(out), "--resume", "--steps", "4")
    assert "a folder of images" in refused("distill", str(images_folder(tmp_path)))
    moved.rename(run)


def images_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


def test_whoever_edits_with_a_student_is_sent_to_its_teacher():
    student, image = ddim.load("mnist-turbo", backend="torch"), torch.linspace(-1, 1, 784).reshape(1, 1, 28, 28)
    edits = {
        "encoding images": lambda: student.encode(image, steps=1),
        "varying images": lambda: ddim.edit.vary(student, image, 0.5, steps=1),
        "restoring images": lambda: ddim.edit.restore(student, image, ddim.edit.Blur(1.0), steps=1, progress=False),
    }
    for what, edit in edits.items():
        with pytest.warns(Notice, match=f"poor at {what}"):
            edit()
