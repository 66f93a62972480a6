"""Many images: an interrupted command continues, several processes draw what one draws, and all in constant memory."""

import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from refusal import refused

import ddim
from ddim.cli import drawing, main
from ddim.data import to_uint8
from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.pictures import read_settings
from ddim.train import Plan, checkpoints
from ddim.train.state import State
from ddim.writers import ARRAYS, PngFolder, Request

KINDS = pytest.mark.parametrize("name", ["each", "a.npy", "a.npz"])
ROWS = range(3, 26)


def sample(folder, *words):
    main(["sample", str(folder), "--device", "cpu", "--steps", "1", *map(str, words)])


def content(out):
    """Every byte of what was written, by the name of the file."""
    paths = [path for path in (out, *out.parent.glob(f"{out.name}.*")) if path.is_file()] or sorted(out.iterdir())
    return {path.name: path.read_bytes() for path in paths}


@pytest.fixture
def interrupted(monkeypatch):
    """A function after which sampling stops, as by Ctrl-C, at its n-th batch; it returns the first images of all."""

    def stop_at(number):
        draw, calls = Denoiser.sample, []

        def stopped(self, *arguments, **options):
            calls.append(options["first"])
            if len(calls) == number:
                raise KeyboardInterrupt
            return draw(self, *arguments, **options)

        monkeypatch.setattr(Denoiser, "sample", stopped)
        return calls

    return stop_at


@KINDS
def test_the_same_command_continues(run_folder, tmp_path, interrupted, capsys, name):
    """No image is drawn twice, none is lost, and the bytes are those of a command without an interrupt."""
    whole, out, words = tmp_path / "whole" / name, tmp_path / name, ("--batch-size", 2, "--first", 4, "--count", 7)
    sample(run_folder, *words, "--out", whole)
    calls = interrupted(3)
    with pytest.raises(SystemExit) as stop:
        sample(run_folder, *words, "--out", out)
    assert (stop.value.code, calls) == (130, [4, 6, 8])
    assert f"4 of 7 images for {out} are on the disk; the same command continues.\n" in capsys.readouterr().err
    sample(run_folder, *words, "--out", out)
    said = capsys.readouterr()
    assert said.err == f"4 of 7 images are in {out} already; the other 3 follow.\n"
    assert said.out == f"7 images in {out} (torch fp32).\n"
    assert calls == [4, 6, 8, 8, 10]
    assert content(out) == content(whole)
    sample(run_folder, *words, "--out", out)
    assert capsys.readouterr().out == f"Nothing is left to do: 7 images in {out}.\n"
    assert calls == [4, 6, 8, 8, 10]
    assert sorted(os.listdir(tmp_path)) == sorted({name, "run", "whole", *(["a.npy.json"] if name == "a.npy" else [])})


@KINDS
def test_a_checkpoint_of_the_same_step_may_be_of_another_training(
    model, run_folder, tmp_path, interrupted, name, capsys
):
    """Else the rest of the images would be those of another model."""
    words = ("--checkpoint", 0, "--batch-size", 2, "--count", 6, "--out", tmp_path / name)
    checkpoints.save(State(model.network, Plan()), run_folder)
    interrupted(3)
    with pytest.raises(SystemExit):
        sample(run_folder, *words)
    torch.nn.init.ones_(next(model.network.parameters()))
    checkpoints.save(State(model.network, Plan()), run_folder)
    said = refused(capsys, "sample", run_folder, "--device", "cpu", "--steps", 1, *words)
    assert "other settings" in said or "weights = " in said


@KINDS
def test_an_interrupt_before_the_first_image_leaves_nothing(run_folder, tmp_path, interrupted, name):
    interrupted(1)
    with pytest.raises(SystemExit):
        sample(run_folder, "--out", tmp_path / "new" / name)
    assert os.listdir(tmp_path) == ["run"]


def test_any_missing_image_of_a_folder_is_drawn_and_the_others_stay(run_folder, tmp_path, capsys):
    words = ("--batch-size", 2, "--count", 7)
    sample(run_folder, *words, "--out", tmp_path / "whole")
    sample(run_folder, *words, "--out", tmp_path / "gen")
    for i in (0, 3, 5):
        (tmp_path / "gen" / f"{i:06d}.png").unlink()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "gen").iterdir()}
    sample(run_folder, *words, "--out", tmp_path / "gen")
    assert "4 of 7 images are in" in capsys.readouterr().err
    assert content(tmp_path / "gen") == content(tmp_path / "whole")
    assert all(path.stat().st_mtime_ns == written for path, written in before.items())
    sample(run_folder, "--batch-size", 2, "--count", 11, "--first", 2, "--out", tmp_path / "gen")  # and others follow
    assert len(content(tmp_path / "gen")) == 13


def test_an_array_is_what_the_library_draws(run_folder, tmp_path):
    sample(run_folder, "--count", 5, "--first", 2, "--batch-size", 2, "--out", tmp_path / "a.npy")
    images = to_uint8(ddim.load(run_folder).sample(5, first=2, steps=1, batch_size=2, progress=False))
    assert np.array_equal(np.load(tmp_path / "a.npy"), images.permute(0, 2, 3, 1).numpy())


def test_labels_that_start_elsewhere_are_other_images(tmp_path):
    """With --labels 0,1 image 1 is of class 1 if the first is 0, and of class 0 if the first is 1."""
    images = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    settings = {"seed": 0, "labels": "0,1"}
    writer = PngFolder(tmp_path, Request(range(4), (1, 8, 8), settings, [0, 1]))
    writer.write(range(4), images)
    assert read_settings(tmp_path / "000003.png") == {**settings, "index": 3, "label": 1}
    writer.begin()
    PngFolder(tmp_path, Request(range(2, 9), (1, 8, 8), settings, [0, 1])).begin()
    PngFolder(tmp_path, Request(range(5, 9), (1, 8, 8), settings, [0, 1])).begin()
    with pytest.raises(UserError, match="drawn with other settings"):
        PngFolder(tmp_path, Request(range(1, 9), (1, 8, 8), settings, [0, 1])).begin()


@KINDS
def test_one_command_writes_at_a_time(run_folder, tmp_path, capsys, name):
    out = tmp_path / name
    writer = ARRAYS.get(out.suffix, PngFolder)(out, Request(range(4), (1, 8, 8), {}))
    with writer.locked():
        said = refused(capsys, "sample", run_folder, "--steps", 1, "--out", out)
    assert f"Another process is drawing images into {out}; wait for it" in said
    assert os.listdir(tmp_path) == ["run"]


def drawn(parts, left, processes, after_first):
    """Images that show their batch, too."""
    for rows in parts:
        images = torch.tensor([[i, rows.start, rows.stop] for i in rows], dtype=torch.uint8).view(-1, 3, 1, 1)
        after_first(images)
        yield rows, images


class Together:
    """The processes of a command, as threads: those that wait fail if one has ended."""

    def __init__(self, rank, processes, barrier):
        self.rank, self.processes, self.barrier, self.closed = rank, processes, barrier, False

    def sum(self, number):
        try:
            self.barrier.wait()
        except threading.BrokenBarrierError as error:
            raise UserError("Another process has ended.") from error
        return [number]

    @contextmanager
    def main_first(self):
        if self.rank:
            self.sum(0.0)
        yield
        if not self.rank:
            self.sum(0.0)

    def close(self):
        self.closed = True


def together(out, processes, lost=None):
    """Write `ROWS` by several processes; `lost` is (rank, n): that one ends at its n-th batch.

    Return the errors, and the batches that were drawn.
    """
    barrier, errors, batches = threading.Barrier(processes, timeout=60), [], []

    def work(rank):
        def lossy(*arguments):
            for number, (rows, images) in enumerate(drawn(*arguments), start=1):
                batches.append(rows)
                if lost == (rank, number):
                    raise UserError("The disk is full.")
                yield rows, images

        writer = ARRAYS.get(out.suffix, PngFolder)(out, Request(ROWS, (3, 1, 1), {"seed": 0}))
        place: Any = Together(rank, processes, barrier)
        try:
            drawing.draw_missing(lossy, writer, 4, out.parent, place)
            assert place.closed
        except UserError as error:
            errors.append(str(error))
            barrier.abort()

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors, sorted(batches, key=lambda rows: rows.start)


@KINDS
@pytest.mark.parametrize("processes", [1, 2, 3, 8])
def test_several_processes_write_what_one_writes(tmp_path, name, processes):
    """Each batch is that of one process, also if one of them is lost and others continue."""
    (tmp_path / "whole").mkdir()
    request = Request(ROWS, (3, 1, 1), {"seed": 0})
    writer = ARRAYS.get(Path(name).suffix, PngFolder)(tmp_path / "whole" / name, request)
    assert drawing.draw_missing(drawn, writer, 4, tmp_path)
    assert together(tmp_path / name, processes) == ([], list(drawing.batches(ROWS, 4)))
    assert content(tmp_path / name) == content(tmp_path / "whole" / name)
    lost = tmp_path / "lost"
    lost.mkdir()
    if processes < 8:  # 23 images are 6 batches
        errors, _ = together(lost / name, processes, lost=(processes - 1, 2))
        assert "The disk is full." in errors
        assert len(errors) == processes
    assert together(lost / name, 4)[0] == []
    assert content(lost / name) == content(tmp_path / "whole" / name)


def test_machines_that_do_not_share_the_folder_are_said(tmp_path, monkeypatch):
    """The first process counts the images before it says that they are there."""
    out = tmp_path / "each"
    monkeypatch.setattr(PngFolder, "write", lambda *_: None)
    errors, _ = together(out, 2)
    assert any("23 of 23 images are missing in" in error and "not all machines see it" in error for error in errors)


def test_one_process_draws_a_grid(run_folder, tmp_path, monkeypatch, capsys):
    alone: Any = Together(0, 2, threading.Barrier(1))
    alone.device = torch.device("cpu")
    monkeypatch.setattr(drawing, "connect", lambda _: alone)
    assert "One process draws a grid" in refused(capsys, "sample", run_folder, "--out", tmp_path / "a.png")


@pytest.mark.slow
def test_torchrun(run_folder, tmp_path):
    words = ["--count", "10", "--batch-size", "2", "--out"]
    sample(run_folder, *words, tmp_path / "a.npz")
    command = ["--standalone", "--nproc-per-node", "2", "-m", "ddim", "sample", run_folder, "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *command, "--steps", "1", *words, tmp_path / "b.npz"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"10 images in {tmp_path / 'b.npz'} (torch fp32).\n"
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


PEAK = """
import sys
import torch
import ddim.loading
from ddim import Denoiser, schedule
from ddim.cli import main

class Noise(torch.nn.Module):
    def forward(self, x, t):
        return x

def peak():  # of this program alone: that of `resource` is at least its parent's
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))

ddim.loading.load = lambda *_, **__: Denoiser(Noise(), schedule.linear(), "x0", shape=(3, 64, 64))
for count in (128, 3000):
    out = f"{sys.argv[2]}/{count}.npz"
    main(["sample", sys.argv[1], "--steps", "1", "--device", "cpu", "--count", str(count), "--out", out])
    print(peak())
images = torch.full((3000, 3, 64, 64), 1, dtype=torch.uint8)  # what holding them would cost: the measure is sound
print(peak())
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells the peak memory")
def test_the_memory_does_not_grow_with_the_images(run_folder, tmp_path):
    """3,000 images of 12 kB, 35 MB, need at most 4 MB more than 128 of them."""
    words = [sys.executable, "-c", PEAK, str(run_folder), str(tmp_path)]
    returned = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}  # glibc returns freed tensors at once
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=returned)
    assert done.returncode == 0, done.stderr
    few, many, held = (float(line) for line in done.stdout.splitlines() if line[0].isdigit() and "images" not in line)
    assert many < few + 4
    assert held > many + 10
