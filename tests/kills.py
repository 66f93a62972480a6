"""Kill ddim with SIGKILL at random moments and at its file operations: no file is half written, and nothing is lost.

    python tests/kills.py --kills 300 --seed 1

The subjects take turns: a training, whose resumed run must end bit for bit as an uninterrupted one; the decoding of a
folder of images into the cache; and `ddim sample` into a folder, a .npy and a .npz file, repeated until all images are
there, which must be those of one command. Each kill hits a child process: while it starts, between two updates, or
right before its n-th file operation (open for writing, flush, rename, remove, make a folder). After each kill every
file with a final name must be whole, and at most one draft for each thread that writes may be left.
CONTRIBUTING.md has the counts of the longest rounds; `test_kills.py` makes a short one.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent / "train"))
import test_resume as runs

import ddim
from ddim import Denoiser, model_io, nets, schedule
from ddim.cli.options import SamplingFlags
from ddim.cli.sample import Sample
from ddim.train import Plan, Recipe, checkpoints, loop, run
from ddim.writers.folder import THREADS

STEPS = 45
RECIPE = Recipe(network="plain", size="tiny", conditional=True, plan=Plan(steps=STEPS, batch_size=4, warmup=5))
OPERATIONS = {"os.rename", "os.remove", "os.mkdir", "os.truncate"}  # and open for writing, and fsync
WRITING = os.O_WRONLY | os.O_RDWR
LATEST = {
    "train": 60,
    "import": 9,
    "samples": 200,
    "npy": 50,
    "npz": 60,
}  # file operation at which a subject is killed, at most


def train(folder: Path) -> None:
    run.train(RECIPE, folder / "run", device="cpu", resume=True, save_every=1e-9)


def import_images(folder: Path) -> None:
    os.environ["DDIM_CACHE"] = str(folder / "cache")
    ddim.open_images(folder.parent / "pictures")


def sample(folder: Path, name: str) -> None:
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        flags = SamplingFlags(steps=1)
        Sample(str(folder.parent / "model"), 40, batch_size=4, out=folder / name, device="cpu", sampling=flags).run()


SUBJECTS: dict[str, Callable[[Path], None]] = {
    "train": train,
    "import": import_images,
    "samples": partial(sample, name="each"),
    "npy": partial(sample, name="images.npy"),
    "npz": partial(sample, name="images.npz"),
}


def outcome(subject: str, folder: Path) -> object:
    """Return what a finished subject has made, but for times."""
    if subject == "train":
        return runs.outcome(folder / "run", STEPS)
    files = (path for path in folder.rglob("[!.]*") if path.is_file() and path.suffix != ".lock")
    return {path.name: path.read_bytes() for path in files}


def check_whole(folder: Path) -> None:
    """Read every file with a final name in the way that fits its suffix; raise if one is not whole."""
    for path in folder.rglob("*"):
        if not path.is_file() or path.name.startswith("."):
            continue
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".png":
            Image.open(path).load()
        elif path.suffix in (".npy", ".npz"):
            found = np.load(path)
            assert (found if path.suffix == ".npy" else found["arr_0"]).shape == (40, 8, 8, 1)
        elif path.parent.name == "checkpoints":
            checkpoints.read(path.parents[1], int(path.stem))
        elif path.suffix == ".safetensors":
            load_file(path)
        elif path.suffix == ".jsonl":
            for line in path.read_bytes().splitlines(keepends=True):
                assert json.loads(line) or not line.endswith(b"\n")


def die(folder: Path, operation: int) -> None:
    """From now on, kill this process right before its n-th file operation in `folder`."""
    left, flush = [operation], os.fsync

    def act() -> None:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        opened = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
        if (opened or event in OPERATIONS) and str(folder) in str(arguments[0]):
            act()

    def flushed(fd: Any) -> None:
        act()
        flush(fd)

    sys.addaudithook(hook)
    os.fsync = flushed


def start(subject: str, folder: Path, operation: int | None = None, tell: Callable[[], object] | None = None) -> int:
    """Start a subject in a child process and return its pid; `tell` is called after each update of a training."""
    pid = os.fork()
    if pid:
        return pid
    try:
        if operation:
            die(folder, operation)
        fit = loop.fit

        def watched(*arguments, **options):
            for progress in fit(*arguments, **options):
                if tell:
                    tell()
                yield progress

        run.fit = watched  # type: ignore[attr-defined]
        SUBJECTS[subject](folder)
        os._exit(0)
    finally:
        os._exit(1)


def kill(subject: str, folder: Path, rng: Random) -> tuple[str, int]:
    """Start a subject and kill it; return how, and the exit code of the child, which may have finished before."""
    how = rng.choice(("operation", "operation", "start", "update") if subject == "train" else ("operation", "start"))
    if how == "operation":
        pid = start(subject, folder, rng.randint(1, LATEST[subject]))
    elif how == "start":
        pid = start(subject, folder)
        time.sleep(rng.uniform(0, 0.3))
    else:
        reader, writer = os.pipe()
        pid = start(subject, folder, tell=lambda: os.write(writer, b"u"))
        os.close(writer)
        for _ in range(rng.randint(1, 3)):
            os.read(reader, 1)  # empty if the child has ended
        time.sleep(rng.uniform(0, 0.06))
        os.close(reader)
    if how != "operation":
        os.kill(pid, signal.SIGKILL)
    return how, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def rounds(kills: int, seed: int, subjects: list[str], folder: Path) -> Counter[str]:
    """Kill each subject in turn until there were so many kills; return how often what happened."""
    rng, counts = Random(seed), Counter[str]()
    (folder / "pictures").mkdir()
    for i in range(12):
        Image.new("RGB", (8, 8), (20 * i, 0, 9)).save(folder / "pictures" / f"{i}.png")
    network = nets.build("plain", 1, "tiny", widths=(8, 16))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model_io.save(Denoiser(network, schedule.linear(), shape=(1, 8, 8)), folder / "model")
    whole = {}
    for subject in subjects:
        assert wait(start(subject, folder / f"{subject}-whole")) == 0
        whole[subject] = outcome(subject, folder / f"{subject}-whole")
    while counts["kills"] < kills:
        for subject in subjects:
            killed = folder / subject
            how, code = kill(subject, killed, rng)
            assert code in (0, -signal.SIGKILL), f"{subject} ended with {code}"
            counts.update({"kills": code != 0, f"{subject}, {how}": code != 0})
            check_whole(killed)
            drafts = [path for path in runs.drafts(killed) if path.suffix != ".lock" and path.name != ".lock"]
            counts.update({"drafts": len(drafts)})
            assert len(drafts) <= (THREADS if subject == "samples" else 1), drafts  # the next start removes them
            if code == 0 or rng.random() < 0.1:
                finish(subject, killed, whole[subject], counts)
    for subject in subjects:
        finish(subject, folder / subject, whole[subject], counts)
    return counts


def finish(subject: str, killed: Path, whole: object, counts: Counter[str]) -> None:
    """Run a subject to its end, compare with the uninterrupted one, and remove its folder."""
    assert wait(start(subject, killed)) == 0
    assert outcome(subject, killed) == whole, f"{subject} differs from the uninterrupted one"
    counts.update({"finished and equal": 1})
    shutil.rmtree(killed)


def wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subjects", nargs="*", default=list(SUBJECTS))
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    torch.set_num_threads(1)
    runs.patched()
    import ddim.cli.drawing
    import ddim.data.build  # what the children would import again
    import ddim.loading  # noqa: F401

    with tempfile.TemporaryDirectory() as folder:
        counts = rounds(flags.kills, flags.seed, flags.subjects, Path(folder))
    print("; ".join(f"{what}: {count}" for what, count in counts.items()), f"(seed {flags.seed})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
