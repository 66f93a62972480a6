"""From outside the package: one file of the user adds a solver, a spacing, a schedule, a network and a data set."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.slow  # each command is a process of its own, which imports torch

PAGE = Path(__file__).parent.parent / "docs/extending.md"

MINE = '''
import math

import torch
from torch import nn

import ddim
from ddim.data import Images
from ddim.samplers import Sampler


@ddim.samplers.register("mysolver")
class MySolver(Sampler):
    """Move along the line to the predicted image. It is DDIM with eta = 0."""

    def step(self, denoise, x, at, to, state, noise):
        x0, eps = denoise(x, at)
        return to.alpha * x0 + to.sigma * eps, state


@ddim.timesteps.register("myspacing")
def myspacing(schedule, S):
    """Make the steps smaller towards t = 0."""
    return [schedule.T * (1 - i / S) ** 2 for i in range(S)]


@ddim.schedule.register("myschedule")
def myschedule(T: int = 1000, shift: float = 0.0):
    """Return a schedule by a formula for the log-SNR."""
    return ddim.schedule.from_log_snr(lambda t: shift - 2 * (0.99 * math.pi / 2 * t / T).tan().log(), T)


@ddim.nets.register("mynet")
class MyNet(nn.Module):
    """One convolution of the image and the time."""

    def __init__(self, channels, *, classes=None):
        super().__init__()
        self.convolution = nn.Conv2d(channels + 1, channels, 3, padding=1)

    def forward(self, x, t, label=None):
        time = (t / 1000).to(x).view(-1, 1, 1, 1).expand_as(x[:, :1])
        return self.convolution(torch.cat([x, time], dim=1))


@ddim.data.register("mydata")
def mydata(split, data_dir=None, url=None):
    """Return black images with one white pixel each."""
    pixels = 255 * torch.eye(64, dtype=torch.uint8).view(64, 1, 8, 8)
    return Images(pixels, torch.zeros(64, dtype=torch.int64), ("dot",), "mydata", split)
'''

RECIPE = """
data = "mydata"
network = "mynet"
schedule = "myschedule"

[plan]
steps = 3
batch_size = 8
"""

MAIN = """
import sys
from ddim.cli import main
for command in sys.argv[1:]:
    main([*command.split(), "--plugin", "page.py"])
    print(chr(12))
"""

PLUGIN = ("--plugin", "mine.py")
CPU = ("--device", "cpu")  # where equal runs have equal weights
TRAIN = ("--network", "mynet", "--size", "small", "--schedule", "myschedule", "--steps", "3", "--batch-size", "8")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A user's folder with the file mine.py, and a run that was trained with all that it registers."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "mine.py").write_text(MINE, encoding="utf-8")
    succeed(folder, "train", "mydata", *TRAIN, *PLUGIN, *CPU, "--out", "run")
    return folder


def python(folder, *words):
    """Run Python in a folder, as a user does, and return the finished process."""
    environment = {**os.environ, "DDIM_CACHE": str(folder / "cache")}
    environment.pop("DDIM_PLUGINS", None)
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def succeed(folder, *words):
    done = python(folder, "-m", "ddim", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(folder, *words):
    """Return the sentence with which a command is refused."""
    done = python(folder, "-m", "ddim", *words)
    assert done.returncode == 2
    assert re.fullmatch(r"ddim: [^\n]+\n", done.stderr), done.stderr
    return done.stderr


def test_the_names_are_listed(home):
    listed = succeed(home, "list", *PLUGIN)
    for line in (
        r"  mysolver +Move along the line to the predicted image\.",
        r"  myspacing +Make the steps smaller towards t = 0\.",
        r"  myschedule +Return a schedule by a formula for the log-SNR\.",
        r"  mynet +One convolution of the image and the time\.",
        r"  mydata +Return black images with one white pixel each\.",
    ):
        assert len(re.findall(f"^{line}$", listed, re.M)) == 1, line
    assert "mysolver" not in succeed(home, "list", "samplers")


def test_a_run_and_its_samples(home):
    config = json.loads((home / "run/config.json").read_text(encoding="utf-8"))
    assert config["network"] == {"name": "mynet", "channels": 1, "classes": None}
    assert config["schedule"] == {"name": "myschedule", "T": 1000, "shift": 0.0}
    assert config["recipe"]["data"] == "mydata"
    how = ("--steps", "3", "--count", "2", *PLUGIN)
    succeed(home, "sample", "run", "--sampler", "mysolver", "--spacing", "myspacing", *how, "--out", "mine.png")
    succeed(home, "sample", "run", "--sampler", "ddim", "--spacing", "1000,444.4444444,111.1111111", *how)
    (same,) = (home / "run/samples").glob("seed0-*.png")
    assert same.name == "seed0-ddim-t1000-444.4444444-111.1111111-2images.png"
    with Image.open(home / "mine.png") as mine, Image.open(same) as other:
        assert mine.tobytes() == other.tobytes()
        assert json.loads(mine.info["ddim:settings"])["sampler"] == "mysolver"


def test_a_recipe_names_them(home):
    (home / "mine.toml").write_text(RECIPE, encoding="utf-8")
    succeed(home, "train", "mine.toml", *PLUGIN, *CPU, "--out", "by_recipe")
    first, second = ((home / name / "model.safetensors").read_bytes() for name in ("run", "by_recipe"))
    assert first == second
    assert "mynet" in refused(home, "train", "mine.toml", "--out", "without")
    assert not (home / "without").exists()


def test_without_the_file_a_run_names_the_network_and_the_remedy(home):
    sentence = refused(home, "sample", "run", "--count", "1")
    assert "The network 'mynet' is not registered" in sentence
    assert "--plugin FILE" in sentence


def test_the_code_of_the_page_is_one_plugin(home):
    """The blocks of docs/extending.md, in one file, do what the page says."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    names = re.findall(r'^@ddim\.\w+\.register\("(.+)"\)$', "\n".join(blocks), re.M)
    assert len(names) == sum(".register(" in block for block in blocks)
    (home / "page.py").write_text("\n\n".join(blocks), encoding="utf-8")
    listed, verified, *_ = one_process(
        home,
        "list",
        "verify --solvers ab2",
        "train dots --network convolutions --schedule squared --steps 1 --batch-size 8 --out squared",
        "train dots --network convolutions --schedule shifted-cosine --steps 1 --batch-size 8 --out cosine",
        "sample squared --sampler ab2 --spacing cubic --steps 4 --count 2",
        "sample cosine --sampler ab2 --spacing cubic --steps 4 --count 2",
        "sample mnist --steps 1 --count 1 --backend double --out double.png",
        "train dots --network page.py:Convolutions --schedule squared --steps 1 --batch-size 8 --out by_class",
        "sample by_class --steps 4 --count 2",
    )
    for name in names:
        assert re.search(rf"^  {name}  ", listed, re.M), name
    with Image.open(home / "double.png") as picture:
        assert json.loads(picture.info["ddim:settings"])["backend"] == "double fp32"
    assert "Samplers that pass: 1 of 1." in verified
    config = json.loads((home / "by_class/config.json").read_text(encoding="utf-8"))
    assert config["network"] == {"name": "page:Convolutions", "channels": 1, "width": 32, "classes": None}


def one_process(folder, *commands):
    """Run commands one after the other with the plugin page.py, and return what each prints."""
    done = python(folder, "-c", MAIN, *commands)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\f")
