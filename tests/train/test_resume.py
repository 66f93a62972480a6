"""Resumed = uninterrupted, to the last bit: whatever ended the training, wherever, and however often."""

import hashlib
import json
import os
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from ddim import nets, processors, schedule
from ddim.cli import main
from ddim.data.images import Images
from ddim.denoiser import Denoiser
from ddim.train import Plan, checkpoints, fit
from ddim.train.logger import RunLogger
from ddim.train.loss import losses_by_level
from ddim.train.state import State

resource = pytest.importorskip("resource", reason="POSIX limits the size of files")

pytestmark = pytest.mark.slow


class Killed(BaseException):
    """Stands for SIGKILL: nothing that the run would still do is done."""


def random_images(count=40, size=8):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 1, size, size), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 3, (count,), generator=generator)
    return Images(pixels, labels, ("a", "b", "c"), "random", mirror=True)


# fit, State and history

ALL = Plan(  # 3.08 updates to an epoch, and as much as possible of what depends on the step
    steps=8,
    batch_size=13,
    accumulate=2,
    times="stratified",
    weighting="min-snr",
    label_dropout=0.3,
    warmup=5,
    ema=(0.1, 0.05, 0.0),
    precision="fp32",
)
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any], torch.dtype]] = {
    "unet with dropout": ("unet", {"width": 8, "dropout": 0.3}, {}, torch.float32),
    "plain": ("plain", {"widths": (8, 16)}, {"times": "uniform", "weighting": "simple"}, torch.float32),
    "bf16": ("unet", {"width": 8, "dropout": 0.3}, {"precision": "bf16"}, torch.float32),
    "fp16": ("plain", {"widths": (8, 16)}, {"precision": "fp16", "learning_rate": 1e-3}, torch.float32),
    "muon": ("unet", {"width": 16, "dropout": 0.3}, {"optimizer": "muon"}, torch.float32),
    "muon, fp16": ("plain", {"widths": (16, 32)}, {"optimizer": "muon", "precision": "fp16"}, torch.float32),
    "muon, channels last": ("unet", {"width": 16}, {"optimizer": "muon", "channels_last": True}, torch.float32),
    "channels last": ("unet", {"width": 8, "dropout": 0.3}, {"channels_last": True}, torch.float32),
    "float64": ("plain", {"widths": (8, 16)}, {}, torch.float64),
    "bf16 weights": ("plain", {"widths": (8, 16)}, {}, torch.bfloat16),
}


def in_legs(case, folder, stops, **changes):
    """Train, saving after each step in `stops` and then going on from the file, with everything else forgotten.

    Returns the last state and the loss of each step.
    """
    kind, options, of_case, dtype = CASES[case]
    plan = replace(ALL, **{**of_case, **changes})
    losses = {}
    for leg, stop in enumerate([*stops, None]):
        torch.manual_seed(leg)  # the first weights of a later leg are others, and must not matter
        network = nets.build(kind, 1, "tiny", classes=3, **options)
        for parameter in network.parameters() if leg == 0 else ():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)  # no gradient is zero from the first step on
        model = Denoiser(network.to(dtype), schedule.linear(), shape=(1, 8, 8), classes=3)
        state = State(model.network, plan)
        if plan.precision == "fp16" and leg == 0:  # so much that updates are skipped, and soon more again
            state.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**22, growth_interval=2)
        assert (checkpoints.resume(state, folder) is None) == (leg == 0)
        for now in fit(model, random_images(), plan, state=state):
            losses[now.step] = now.loss
            if now.step == stop:
                checkpoints.save(state, folder)
                break
    return state, losses


def same(one, other):
    """Whether two states are equal: every tensor by name, and every number but the seconds."""
    ours, theirs = one.tensors(), other.tensors()
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    assert one.numbers() | {"seconds": 0} == other.numbers() | {"seconds": 0}
    assert [average.updates for average in one.averages] == [average.updates for average in other.averages]


@pytest.mark.parametrize(
    ("case", "stops"),
    [*((case, [1, 2, 3, 4, 5, 6, 7]) for case in CASES), ("unet with dropout", [3]), ("plain", [4, 7])],
    ids=str,
)
def test_a_training_that_goes_on_is_the_uninterrupted_one(tmp_path, case, stops):
    """After 3 updates the first epoch has an image left; every 4th batch takes images of two epochs."""
    whole, losses = in_legs(case, tmp_path / "whole", [])
    resumed, again = in_legs(case, tmp_path / "legs", stops)
    same(resumed, whole)
    assert again == losses
    assert whole.step == 8
    assert any(name.startswith("momentum_buffer/") for name in whole.tensors()) == ("muon" in case)
    if "fp16" in case:
        assert 0 < whole.numbers()["updates"] < 8  # some were skipped, as the scaler said
        assert whole.numbers()["scaler"]["scale"] < 2.0**22


def test_a_checkpoint_with_averages_in_half_precision_resumes(tmp_path):
    """Earlier versions wrote such averages for a bf16 model."""
    state, _ = in_legs("bf16 weights", tmp_path, [3])
    tensors, numbers = checkpoints.read(tmp_path, 3)
    assert {tensors[name].dtype for name in tensors if name.startswith("0.1/")} == {torch.float32}
    old = {name: tensor.bfloat16() for name, tensor in tensors.items()}
    state.restore(old, numbers)
    ours = state.tensors()
    assert ours.keys() == old.keys()
    assert all(torch.equal(ours[name], old[name].to(ours[name].dtype)) for name in old)
    assert ours["0.1/head.weight"].dtype == torch.float32


def test_a_batch_stays_in_the_parts_that_memory_allowed(tmp_path, monkeypatch):
    """Memory that was short once has doubled the parts, for later legs too: dropout depends on the parts."""
    loss, calls = Denoiser.loss, []

    def short_at_first(self, *rest):
        calls.append(rest)
        if len(calls) == 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return loss(self, *rest)

    _, plenty = in_legs("unet with dropout", tmp_path / "plenty", [])
    monkeypatch.setattr(Denoiser, "loss", short_at_first)
    whole, losses = in_legs("unet with dropout", tmp_path / "whole", [])
    calls.clear()
    resumed, again = in_legs("unet with dropout", tmp_path / "legs", [3])
    same(resumed, whole)
    assert again == losses != plenty
    assert whole.parts == 4


# Runs

STEPS = 9  # 3.08 updates to an epoch; a line of metrics after each third, one with two images of the next epoch's
WORDS = ["--network", "plain", "--size", "tiny", "--conditional", "--device", "cpu", "--batch-size", "13"]
WORDS += ["--accumulate", "2", "--times", "stratified", "--weighting", "min-snr", "--warmup", "5"]


def patched():
    """Few images, and little of what a run does beside training."""
    patch = pytest.MonkeyPatch()
    patch.setattr("ddim.train.run.open_images", lambda *_, split, **__: random_images(40 if split == "train" else 10))
    patch.setattr("ddim.train.objective.losses_by_level", partial(losses_by_level, max_images=10))
    patch.setattr("ddim.train.averages.SHORTEST", 2)
    for name, value in (("MIN_LINES", 3), ("SAMPLES", 1), ("SAMPLE_STEPS", 1)):
        patch.setattr(f"ddim.train.logger.{name}", value)
    return patch


@pytest.fixture(autouse=True, scope="module")
def quick():
    patch, threads = patched(), torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    patch.undo()


def go(folder, *words, steps=STEPS):
    main(["train", "digits", *WORDS, "--steps", str(steps), "--out", str(folder), *map(str, words)])


def outcome(folder, steps=STEPS):
    """All that a run has made, but for times: its last checkpoint, its model, its metrics, its last samples."""
    tensors, numbers = checkpoints.read(folder, steps)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    files = ("config.json", "model.safetensors", f"samples/step-{steps:08d}.safetensors")
    return {
        **{name: digest(tensor.numpy().tobytes()) for name, tensor in tensors.items()},
        **{name: value for name, value in numbers.items() if name != "seconds"},
        **{name: digest((folder / name).read_bytes()) for name in files},
        **{path.name: digest(path.read_bytes()) for path in (folder / "averages").iterdir()},
        "lines": [{k: v for k, v in one.items() if k not in ("seconds", "images_per_second")} for one in lines],
    }


def digest(content):
    return hashlib.sha256(content).hexdigest()


def look(folder):
    """Every file of a run, with its content and the time at which it was written."""
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def drafts(folder):
    return [path for path in folder.rglob(".*") if path.is_file()]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, quick):
    """The outcome of a run from its start to its end."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    go(folder)
    found = outcome(folder)
    assert [line["step"] for line in found["lines"]] == [3, 6, 9]
    assert drafts(folder) == []
    return found


def ended(folder, how, step, *words, **options):
    """A run that does not come to its end.

    Args:
        how: "killed" or "asked", after that step; "torn", killed while it wrote a line; "damaged", and the newest
            checkpoint has a wrong bit afterwards.
    """

    def until(*args, state, **kwargs):
        def act():
            if how == "asked" and state.step == step - 1:
                os.kill(os.getpid(), signal.SIGINT)  # it is looked for after the next update
            if how != "asked" and state.step == step:
                raise Killed

        act()
        for now in fit(*args, state=state, **kwargs):
            yield now
            act()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ddim.train.run.fit", until)
        with pytest.raises(SystemExit if how == "asked" else Killed) as end:
            go(folder, *words, **options)
    if isinstance(end.value, SystemExit):
        assert end.value.code == 130
        assert checkpoints.newest(folder) == step
    if how == "torn":
        with (folder / "metrics.jsonl").open("ab") as lines:
            lines.write(b'{"step": 1, "loss": 0.\xff')
    if how == "damaged":
        path = folder / "checkpoints" / f"{step:08d}.safetensors"
        path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("every", "ends"),
    [
        (1e9, [("killed", 1)]),  # before there is a checkpoint but the first
        (1e9, [("killed", 3), ("killed", 4)]),  # with lines of metrics that nothing remembers
        (1e9, [("asked", 3)]),  # at a line of metrics
        (1e9, [("asked", 1), ("killed", 3), ("asked", 4), ("torn", 6), ("asked", 7)]),
        (1e-9, [("killed", 3), ("killed", 4), ("torn", 8)]),
        (1e-9, [("damaged", 4), ("damaged", 8)]),
    ],
    ids=str,
)
def test_a_run_goes_on_as_if_nothing_had_been(tmp_path, uninterrupted, every, ends):
    for end in ends:
        ended(tmp_path / "run", *end, "--resume", "--save-every", every)
    go(tmp_path / "run", "--resume", "--save-every", every)
    assert outcome(tmp_path / "run") == uninterrupted
    assert drafts(tmp_path / "run") == []


def test_a_run_can_be_killed_before_each_of_its_files(tmp_path):
    """A run is a sequence of files that take their names; it is killed before the first of them, the second, ..."""
    take, left = Path.replace, [10**9]

    def killed(self, target):
        if not left[0]:
            raise Killed
        left[0] -= 1
        return take(self, target)

    words = ("--save-every", 1e-9, "--resume")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        go(tmp_path / "whole", *words, steps=2)
        files = 10**9 - left[0]
        whole = outcome(tmp_path / "whole", steps=2)
        assert files > 15
        for number in range(files):
            left[0] = number
            with pytest.raises(Killed):
                go(tmp_path / str(number), *words, steps=2)
            left[0] = 10**9
            go(tmp_path / str(number), *words, steps=2)
            assert outcome(tmp_path / str(number), steps=2) == whole, number


def test_a_finished_run_has_nothing_left_to_do(tmp_path, uninterrupted):
    run = tmp_path / "run"
    go(run)
    before = look(run)
    go(run, "--resume")
    main(["train", str(run), "--resume", "--device", "cpu"])
    go(run, "--resume", steps=4)  # it has more than that behind it
    assert look(run) == before
    assert outcome(run) == uninterrupted


def test_a_run_goes_on_beyond_its_end(tmp_path, quick):
    """Without a cooldown it is the run that was to be so long from its start, with the lines of its first end."""
    run, even = tmp_path / "run", ("--cooldown", 0)
    go(tmp_path / "whole", *even)
    uninterrupted = outcome(tmp_path / "whole")
    go(run, *even, steps=2)
    ended(run, "asked", 7, "--resume", *even)
    main(["train", str(run), "--resume", "--device", "cpu", "--steps", str(STEPS)])
    found = outcome(run)
    lines = {line["step"]: line for line in found.pop("lines")}
    assert {name: uninterrupted[name] for name in found} == found
    assert list(lines) == [1, 2, 6, 9]
    assert lines[9] == uninterrupted["lines"][-1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--batch-size", "7"], "batch_size = 13, not 7"),
        (["--seed", "1"], "seed = 0, not 1"),
        (["--size", "small"], "size = 'tiny', not 'small'"),
        (["--ema", "0.2"], "ema = [0.1, 0.05], not [0.2]"),
        (["--optimizer", "muon"], "optimizer = 'adamw', not 'muon'"),
        (["--no-conditional"], "conditional = True, not False"),
    ],
)
def test_what_may_not_change_is_said_and_nothing_happens(tmp_path, capsys, words, said):
    run = tmp_path / "run"
    ended(run, "asked", 2)
    before = look(run)
    capsys.readouterr()
    assert said in refused(capsys, run, "--resume", *words)
    assert look(run) == before


def test_a_run_of_before_there_was_a_choice_of_optimizer_goes_on(tmp_path, uninterrupted):
    run = tmp_path / "run"
    ended(run, "asked", 4)
    config = json.loads((run / "config.json").read_text())
    assert config["recipe"]["plan"].pop("optimizer") == "adamw"
    (run / "config.json").write_text(json.dumps(config))
    go(run, "--resume")
    assert outcome(run) == uninterrupted


def test_a_checkpoint_of_another_network_is_refused_and_nothing_happens(tmp_path, capsys):
    for name, words in (("run", []), ("other", ["--network", "unet"])):
        ended(tmp_path / name, "asked", 2, *words)
    ours, theirs = (tmp_path / name / "checkpoints" / "00000002.safetensors" for name in ("run", "other"))
    ours.write_bytes(theirs.read_bytes())
    before = look(tmp_path)
    assert "is of another network or plan" in refused(capsys, tmp_path / "run", "--resume")
    assert look(tmp_path) == before


def test_no_whole_checkpoint_is_one_sentence_and_nothing_happens(tmp_path, capsys):
    ended(tmp_path, "asked", 2)
    for path in (tmp_path / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    before = look(tmp_path)
    assert "is whole" in refused(capsys, tmp_path, "--resume")
    assert look(tmp_path) == before
    go(tmp_path, "--overwrite")


def test_a_model_without_checkpoints_is_not_replaced(tmp_path, capsys):
    """Someone removed them, or copied the model alone: there is nothing to go on from, but something to lose."""
    go(tmp_path)
    checkpoints.clear(tmp_path)
    before = look(tmp_path)
    assert "no checkpoints to resume from" in refused(capsys, tmp_path, "--resume")
    assert look(tmp_path) == before


def refused(capsys, folder, *words):
    """The one sentence with which training in a folder is refused."""
    with pytest.raises(SystemExit) as end:
        go(folder, *words)
    said = capsys.readouterr().err
    assert end.value.code == 2
    assert "Traceback" not in said
    return said.splitlines()[-1]


# A disk that is full


def limit(size):
    """No file may grow past `size` bytes: the system itself refuses, as a full disk does. None is no limit."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard if size is None else size, hard))


@pytest.fixture
def disk():
    """Space that is taken and given back; Python ignores the signal that comes with the refusal."""
    yield limit
    limit(None)


def filling(monkeypatch, full, free, size):
    """The disk is full from one step on, until another."""

    def watched(*args, state, **kwargs):
        for now in fit(*args, state=state, **kwargs):
            if now.step in (full, free):
                limit(size if now.step == full else None)
            yield now

    monkeypatch.setattr("ddim.train.run.fit", watched)


@pytest.mark.parametrize("size", [100_000, 300], ids=["no checkpoint fits", "not even a line of metrics"])
def test_training_goes_on_while_the_disk_is_full(tmp_path, monkeypatch, capsys, uninterrupted, disk, size):
    """The checkpoint before stays whole, nothing half-written stays, and what then fits is written again."""
    seen = []

    def watch(self, now):
        if now.step in (4, 5, 6, 7, 8):
            seen.append(checkpoints.newest(tmp_path))
            assert drafts(tmp_path) == [tmp_path / ".lock"]
        return note(self, now)

    note = RunLogger.record
    monkeypatch.setattr(RunLogger, "record", watch)
    filling(monkeypatch, 4, 8, size)
    go(tmp_path, "--save-every", 1e-9)
    said = capsys.readouterr().err
    assert said.count("Training continues; the last whole checkpoint is kept.") == 4
    assert said.count("Training continues without a snapshot of this step.") == 2  # steps 4 and 6
    assert said.count("free some space") == (6 if size > 1000 else 7)
    assert seen == [3, 3, 3, 3, 3]
    found = outcome(tmp_path)
    lines = found.pop("lines")
    assert {name: uninterrupted[name] for name in found} == found
    assert [line["step"] for line in lines] == ([3, 6, 9] if size > 1000 else [3, 9])
    assert drafts(tmp_path) == []


@pytest.mark.parametrize("size", [100_000, 300], ids=["no checkpoint fits", "not even a line of metrics"])
def test_a_disk_that_is_full_at_the_end(tmp_path, monkeypatch, capsys, uninterrupted, disk, size):
    """It is one sentence; with space again, the run goes on from the last whole checkpoint to the same end."""
    filling(monkeypatch, 5, None, size)
    said = refused(capsys, tmp_path, "--save-every", 1e-9)
    assert "Could not write" in said
    assert "free some space" in said
    assert checkpoints.newest(tmp_path) == 4
    assert drafts(tmp_path) == []
    assert "free some space" in refused(capsys, tmp_path, "--resume")  # still full
    assert checkpoints.newest(tmp_path) == 4
    limit(None)
    monkeypatch.undo()
    go(tmp_path, "--resume")
    assert outcome(tmp_path) == uninterrupted


def test_a_disk_that_is_full_from_the_start(tmp_path, capsys, disk):
    limit(100_000)
    assert "free some space" in refused(capsys, tmp_path / "run")
    limit(None)
    go(tmp_path / "run", "--resume")


@pytest.mark.parametrize(
    ("chosen", "changes", "threads"),
    [
        (True, {}, 3),
        (False, {}, None),  # the user's number stays
        (True, {"cores": 10**6}, None),
        (True, {"processor": "another"}, None),
        (True, {"threads": "many"}, None),
        (True, {"threads": 0}, None),
    ],
)
def test_a_run_continues_with_the_threads_that_it_began_with(chosen, changes, threads, tmp_path, monkeypatch):
    main(["train", "digits", "--network", "plain", "--size", "tiny", "--steps", "1", "--out", str(tmp_path)])
    path = tmp_path / "environment.json"
    machine = json.loads(path.read_text())
    assert machine["threads"] == torch.get_num_threads()
    path.write_text(json.dumps({**machine, "threads": 3, **changes}))
    seen = []
    monkeypatch.setattr(torch, "set_num_threads", seen.append)
    monkeypatch.setattr(processors, "chosen", chosen)
    main(["train", str(tmp_path), "--resume", "--steps", "2"])
    assert seen == ([] if threads is None else [threads])
