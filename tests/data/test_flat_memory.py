"""A folder larger than memory: neither making its copy nor reading from it holds more than a little of it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

LIMIT = 30  # MB of anonymous memory, above what the program itself needs
SIZE, COUNT = 256, 1600  # 300 MB decoded

CODE = """
import sys, threading, time, warnings
import torch
import ddim

def anonymous():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))

small, large, size = sys.argv[1:]
ddim.open_images(small, size=8).batch(torch.tensor([0]))  # what is loaded on first use counts as the program's
most, stop = [anonymous()], threading.Event()
def watch():
    while not stop.wait(0.003):
        most.append(anonymous())
watcher = threading.Thread(target=watch)
watcher.start()
images = ddim.open_images(large, size=int(size))
built = max(most) - most[0]
for at in range(0, len(images), 2):
    images.batch(torch.arange(at, min(at + 2, len(images))))
stop.set()
watcher.join()
print(len(images), len(most), built, max(most) - most[0])
kept = images.pixels.clone()  # what reading it all would cost: the measure itself is sound
print(anonymous() - most[0])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells how much memory is anonymous")
def test_ten_times_the_limit_in_images_fits_within_it(tmp_path):
    y, x = np.mgrid[:SIZE, :SIZE]
    for folder, count in (("small", 2), ("large", COUNT)):
        (tmp_path / folder).mkdir()
        for i in range(count):
            path = tmp_path / folder / f"{i:04d}.jpg"
            if i < 4:
                waves = [(127 + 120 * np.sin((x + k * y) / (20 + i))).astype(np.uint8) for k in range(3)]
                Image.fromarray(np.stack(waves, -1)).save(path)
            else:
                os.link(tmp_path / folder / f"{i % 4:04d}.jpg", path)
    run = subprocess.run(
        [sys.executable, "-c", CODE, tmp_path / "small", tmp_path / "large", str(SIZE)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    first, second = run.stdout.splitlines()
    images, samples, built, most = map(float, first.split())
    assert COUNT * SIZE * SIZE * 3 / 2**20 >= 10 * LIMIT
    assert images == COUNT * 3 / 4  # of four different images, one is held out
    assert samples > 50
    assert built < LIMIT
    assert most < LIMIT
    assert float(second) > 7 * LIMIT
