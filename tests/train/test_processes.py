"""Many processes that train together learn what one would, say it once, and end together.

A helper process imports PyTorch once and forks the processes of every job below, which find each other as
those of `torchrun` do. The tests look at what they left.
"""

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from ddim import nets, schedule
from ddim.cli import main
from ddim.data.images import Images
from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.train import Plan, augment, checkpoints, fit
from ddim.train.logger import RunLogger
from ddim.train.state import State

pytestmark = pytest.mark.slow

FULL: dict[str, Any] = {"times": "stratified", "weighting": "min-snr", "label_dropout": 0.3, "warmup": 5}
PLANS = {
    "even": Plan(steps=10, batch_size=12),
    "odd, in three parts": Plan(steps=10, batch_size=13, accumulate=3, **FULL),
    "muon": Plan(steps=10, batch_size=13, optimizer="muon", **FULL),
    "augmented": Plan(steps=10, batch_size=20, augment=0.5),
    "more parts than images": Plan(steps=10, batch_size=3, accumulate=3, **FULL),
}
RUN = ["train", "--network", "plain", "--size", "tiny", "--conditional", "--precision", "fp32", "--device", "cpu"]
RUN += ["--batch-size", "13", "--warmup", "0", "--cooldown", "0"]  # or a run that is made longer cools down twice


def few_images(*_, **__):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (40, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return Images(pixels, torch.arange(40) % 3, ("a", "b", "c"), "random", mirror=True)


def rank():
    return int(os.environ.get("RANK", "0"))


def learn(plan, folder, until=None):
    """Train in float64 from the newest checkpoint in a folder until one step, and save the losses and the state."""
    torch.manual_seed(0)
    network = nets.build("plain", 1, "tiny", widths=(8, 16), classes=3, augmentation=augment.CONDITION).double()
    model = Denoiser(network, schedule.linear(), shape=(1, 8, 8), classes=3)
    state = State(network, plan)
    checkpoints.resume(state, folder)
    losses = {}
    for now in fit(model, few_images(), plan, state=state):
        losses[now.step] = now.loss
        if now.step == until:
            break
    if rank() == 0:
        checkpoints.save(state, folder)
        (folder / f"losses-{state.step}.json").write_text(json.dumps(losses))


def run(folder, *words):
    main([*RUN, "--out", str(folder), *words])


def fail_at(step, where, name, sentence):
    """Make one process give up, in the method `name` of `RunLogger`, when it comes to a step."""
    method = getattr(RunLogger, name)

    def failing(self, *rest, **options):
        if rank() == where and self.state.step == step:
            raise UserError(sentence)
        return method(self, *rest, **options)

    setattr(RunLogger, name, failing)


def first_fails(folder):
    fail_at(2, 0, "save", "The disk is full.")
    run(folder, "--steps", "50", "--save-every", "1e-9")


def second_fails(folder):
    fail_at(2, 1, "record", "I give up.")
    run(folder, "--steps", "50")


def no_images(folder):
    """The first alone looks for images; the others wait for it."""

    def none(*_, **__):
        if rank() == 0:
            raise UserError("There are no images.")
        return few_images()

    pytest.MonkeyPatch().setattr("ddim.train.run.open_images", none)
    run(folder, "--steps", "2")


def one_is_asked_to_stop(folder):
    note = RunLogger.record

    def watched(self, now):
        note(self, now)
        if now.step == 2 and rank() == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    RunLogger.record = watched
    run(folder, "--steps", "50")


def first_is_killed(folder):
    """The process that writes dies without a word."""
    note = RunLogger.record

    def watched(self, now):
        note(self, now)
        if now.step == 2 and rank() == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    RunLogger.record = watched
    run(folder, "--steps", "50", "--save-every", "1e-9")


def says_so_after_a_while(folder):
    """A long training says how long it takes."""
    for name in ("ESTIMATE_AFTER", "SHORT", "LONG"):
        pytest.MonkeyPatch().setattr(f"ddim.train.screen.{name}", 0.0)
    run(folder, "--steps", "3")


JOBS = [  # folder, processes, job
    *((name, 2, partial(learn, plan)) for name, plan in PLANS.items()),
    ("of three", 3, partial(learn, PLANS["odd, in three parts"])),
    ("many to one", 2, partial(learn, PLANS["odd, in three parts"], until=4)),
    ("many to one", 1, partial(learn, PLANS["odd, in three parts"])),
    ("one to many", 1, partial(learn, PLANS["odd, in three parts"], until=4)),
    ("one to many", 2, partial(learn, PLANS["odd, in three parts"])),
    ("run", 2, lambda folder: run(folder, "--resume", "--steps", "4")),
    ("run", 1, lambda folder: run(folder, "--resume", "--steps", "8")),
    ("run", 2, lambda folder: run(folder, "--resume", "--steps", "12")),
    ("alone", 1, lambda folder: run(folder, "--steps", "12")),
    ("long", 2, says_so_after_a_while),
    ("first fails", 2, first_fails),
    ("second fails", 2, second_fails),
    ("no images", 2, no_images),
    ("asked", 2, one_is_asked_to_stop),
    ("killed", 2, first_is_killed),
]
HELPER = """
import json, os, socket, sys, traceback
import torch
from torch import nn

torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
import test_processes as here
from ddim.train import logger, run
from ddim.train.state import State

State(nn.Linear(1, 1), here.Plan())  # what PyTorch imports late, the children find
run.open_images = here.few_images
logger.MIN_LINES, logger.SAMPLES, logger.SAMPLE_STEPS = 3, 1, 1


def child(job, folder, output, environment):
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.environ.update(environment)
        for number in (1, 2):
            os.dup2(os.open(f"{output}.{number}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        job(folder)
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


ends = []
for number, (name, processes, job) in enumerate(here.JOBS):
    folder = here.Path(sys.argv[2]) / name
    folder.parent.mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = {"WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes, "MASTER_PORT": port}
    words = {name: str(value) for name, value in words.items()} | {"MASTER_ADDR": "127.0.0.1"}
    pids = []
    for rank in range(processes):
        mine = words | {"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {}
        pids.append(child(job, folder, f"{folder}.{number}.{rank}", mine))
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    said = [[here.Path(f"{folder}.{number}.{rank}.{n}").read_text() for n in (1, 2)] for rank in range(processes)]
    ends.append((name, codes, said))
print(json.dumps(ends))
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """All jobs: where their folders are, and of each the exit codes and what its processes said."""
    folder = tmp_path_factory.mktemp("processes")
    words = [sys.executable, "-c", HELPER, str(Path(__file__).parent), str(folder)]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, start_new_session=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    ) as helper:
        try:
            out, _ = helper.communicate(timeout=400)
        except BaseException:  # a job that hangs, say
            os.killpg(helper.pid, signal.SIGKILL)
            raise
    assert helper.returncode == 0
    ends = {}
    for name, codes, said in json.loads(out.splitlines()[-1]):
        ends.setdefault(name, []).append((codes, said))
    return folder, ends


def losses(folder):
    return {k: v for path in folder.glob("losses-*.json") for k, v in json.loads(path.read_text()).items()}


@pytest.mark.parametrize(
    ("name", "plan"),
    [
        *((name, name) for name in PLANS),
        ("of three", "odd, in three parts"),
        ("many to one", "odd, in three parts"),
        ("one to many", "odd, in three parts"),
    ],
)
def test_many_processes_learn_what_one_learns(tmp_path, done, name, plan):
    """In float64, to 1e-10, and just so if a training goes on with another number of processes."""
    learn(PLANS[plan], tmp_path)
    folder, ends = done
    assert [code for codes, _ in ends[name] for code in codes] == [0] * sum(len(c) for c, _ in ends[name])
    ours, theirs = losses(tmp_path), losses(folder / name)
    assert ours.keys() == theirs.keys() == {str(step) for step in range(1, 11)}
    difference = max(abs(ours[step] - theirs[step]) for step in ours)
    assert difference < 1e-10
    (one, _), (other, _) = (checkpoints.read(place, 10) for place in (tmp_path, folder / name))
    assert one.keys() == other.keys()
    assert max((one[key] - other[key]).abs().max().item() for key in one) < 1e-8


def test_a_run_changes_the_number_of_its_processes(done):
    """In float32: from 2 to 1 to 2, its losses stay those of one process, but for rounding."""
    folder, ends = done
    assert [codes for codes, _ in ends["run"]] == [[0, 0], [0], [0, 0]]
    ours, theirs = (
        {line["step"]: line for line in map(json.loads, (folder / name / "metrics.jsonl").read_text().splitlines())}
        for name in ("run", "alone")
    )
    assert max(ours) == max(theirs) == 12
    for step in ours.keys() & theirs.keys():
        assert ours[step]["held_out"] == pytest.approx(theirs[step]["held_out"], rel=1e-4)
    assert ours[12]["loss"] == pytest.approx(theirs[12]["loss"], rel=1e-4)


def test_it_is_said_once(done):
    folder, ends = done
    for _, said in ends["run"]:
        assert [out.count("The model is in") for out, _ in said] == [1, 0][: len(said)]
        assert [err.count("\n") for _, err in said] == [1, 0][: len(said)]  # the main process says what is trained
    ((_, ((_, first), (_, second))),) = ends["long"]
    assert first.count("training ends after about 3 updates") == 1
    assert second == ""
    assert json.loads((folder / "long" / "environment.json").read_text())["processes"] == 2


@pytest.mark.parametrize(
    ("name", "where", "sentence"),
    [
        ("first fails", 0, "ddim: The disk is full.\n"),
        ("second fails", 1, "ddim: I give up.\n"),
        ("no images", 0, "ddim: There are no images.\n"),
    ],
)
def test_one_that_fails_ends_all(done, name, where, sentence):
    """Each with a sentence: one says what happened, the other that another has ended. No traceback buries them."""
    ((codes, said),) = done[1][name]
    assert codes == [2, 2]
    assert said[where][0] == ""
    assert said[where][1].splitlines(keepends=True)[-1] == sentence
    assert "Traceback" not in said[where][1]
    other = "ddim: Another process of this command has ended, so this one ends too; see that process's messages.\n"
    assert said[1 - where][0] == ""
    assert said[1 - where][1].endswith(other)  # PyTorch's own log may come before it
    assert "Traceback" not in said[1 - where][1]


def test_one_that_is_killed_ends_all(done):
    """The folder is free at once, and what was saved is whole."""
    folder, ends = done
    ((codes, said),) = ends["killed"]
    assert codes == [-signal.SIGKILL, 2]
    assert "Another process of this command has ended" in said[1][1]
    assert "Traceback" not in said[1][1]
    assert checkpoints.read(folder / "killed", 1)


def test_one_that_is_asked_to_stop_stops_all(done):
    folder, ends = done
    ((codes, _),) = ends["asked"]
    assert codes == [130, 130]
    assert checkpoints.newest(folder / "asked") == 3


WORKER = """
import sys
sys.path.insert(0, sys.argv[1])
import test_processes as here
from ddim.train import run

run.open_images = here.few_images
here.run(sys.argv[2], "--steps", "2")
"""


def test_torchrun(tmp_path):
    """The launcher itself, in place of the helper above."""
    (tmp_path / "worker.py").write_text(WORKER)
    words = [
        "--standalone",
        "--nproc-per-node",
        "2",
        tmp_path / "worker.py",
        Path(__file__).parent,
        tmp_path / "run",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("The model is in") == 1
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["processes"] == 2
    assert checkpoints.newest(tmp_path / "run") == 2
