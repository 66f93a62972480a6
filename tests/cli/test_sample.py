"""`ddim sample`: what it writes, under which name, and what it refuses before it draws."""

import json
import os
import shutil
from collections import namedtuple

import numpy as np
import pytest
import torch
from PIL import Image
from refusal import refused

import ddim
from ddim import model_io, nets, schedule
from ddim.cli import main
from ddim.cli.sample import Sample
from ddim.data import to_uint8
from ddim.denoiser import Denoiser
from ddim.pictures import read_settings


@pytest.fixture
def by_class(tmp_path):
    """A run folder of a model with four classes whose images show their class."""
    torch.manual_seed(0)
    network = nets.build("plain", 1, "tiny", 4, widths=(8, 16))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model_io.save(Denoiser(network, schedule.linear(), shape=(1, 8, 8), classes=4), tmp_path / "run")
    return tmp_path / "run"


def sample(folder, *words):
    main(["sample", str(folder), "--device", "cpu", *map(str, words)])


def label(path):
    settings = read_settings(path)
    assert settings is not None
    return settings["label"]


def drawn(folder):
    """The images of a folder by name."""
    images = {}
    for path in sorted(folder.iterdir()):
        with Image.open(path) as file:
            images[path.name] = torch.from_numpy(np.array(file))
    return images


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("", "seed0"),
        ("--steps 20 --sampler unipc --spacing log-snr --guidance 1 --count 64 --first 0 --clip", "seed0"),
        ("--seed 3", "seed3"),
        ("--steps 2", "seed0-2steps"),
        ("--eta 1 --steps 2", "seed0-ddim-2steps-eta1"),
        ("--eta 0.25 --steps 2", "seed0-ddim-2steps-eta0.25"),
        ("--sampler ddim --eta 0 --spacing trailing --steps 2", "seed0-ddim-2steps"),
        ("--sampler ddpm --steps 3", "seed0-ddpm-3steps"),
        ("--spacing 900,400,50.5", "seed0-t900-400-50.5"),
        ("--steps 2 --spacing quadratic --no-clip", "seed0-2steps-quadratic-noclip"),
        ("--steps 2 --guidance 2.5 --labels 3,-1,0", "seed0-2steps-guidance2.5-labels3-any-0"),
        ("--steps 2 --labels 3 --count 2 --first 5", "seed0-2steps-labels3-2images-first5"),
    ],
)
def test_a_grid_is_named_after_what_is_not_the_model_s_own(by_class, words, name):
    sample(by_class, *words.split())
    sample(by_class, *words.split())
    assert os.listdir(by_class / "samples") == [f"{name}.png"]


def test_a_long_name_is_short_and_of_these_settings_alone(by_class):
    for last in "01":
        sample(by_class, "--steps", 1, "--labels", ",".join(["0"] * 200 + [last]))
    names = os.listdir(by_class / "samples")
    assert len(names) == 2
    assert all(len(name) == 104 and name.startswith("seed0-1steps-labels0-0-0") for name in names)


def test_a_grid_holds_its_settings(by_class):
    words = ("--steps", 3, "--eta", 0.5, "--labels", "1,2", "--guidance", 2, "--seed", 4, "--first", 6)
    sample(by_class, *words, "--out", by_class / "a.png")
    assert read_settings(by_class / "a.png") == {
        "model": "run",
        "weights": model_io.fingerprint(by_class),
        "checkpoint": None,
        "raw": False,
        "seed": 4,
        "first": 6,
        "count": 2,
        "steps": 3,
        "sampler": "ddim",
        "spacing": "trailing",
        "eta": 0.5,
        "timesteps": [1000.0, 667.0, 333.0, 0.0],
        "batch_size": 64,
        "guidance": 2.0,
        "labels": "1,2",
        "clip": True,
        "backend": "torch fp32",
        "ddim": ddim.__version__,
    }


def test_images_are_those_of_one_call_in_whatever_batches_they_are_written(by_class, tmp_path):
    sample(by_class, "--steps", 2, "--count", 10, "--batch-size", 4, "--first", 3, "--out", tmp_path / "gen")
    whole = to_uint8(ddim.load(by_class).sample(10, steps=2, first=3, batch_size=4, progress=False))
    found = drawn(tmp_path / "gen")
    assert list(found) == [f"{i:06d}.png" for i in range(3, 13)]
    assert torch.equal(torch.stack(list(found.values())), whole[:, 0])
    assert [label(tmp_path / "gen" / name) for name in found] == [i % 4 for i in range(3, 13)]


def test_one_label_is_for_all_images_and_several_are_repeated(by_class, tmp_path):
    model = ddim.load(by_class)
    for text, count, labels in (("3", 5, [3] * 5), ("2,0", 6, [2, 0] * 3), ("1,2,3", 3, [1, 2, 3])):
        out = tmp_path / f"gen{text}"
        sample(by_class, "--steps", 2, "--count", count, "--labels", text, "--batch-size", 5, "--out", out)
        same = to_uint8(model.sample(count, steps=2, labels=labels, batch_size=5, progress=False))
        assert torch.equal(torch.stack(list(drawn(out).values())), same[:, 0])
        assert [label(out / name) for name in sorted(os.listdir(out))] == labels


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--labels 0,1,2 --count 10", "gives 3 classes and --count asks for 10 images"),
        ("--labels 0,1,2 --count 2", "gives 3 classes and --count asks for 2 images"),
        ("--labels 99999999999999999999", "from 0 to 3, or -1 for any class; got 99999999999999999999"),
        ("--labels=-2", "from 0 to 3, or -1 for any class; got -2"),
        ("--labels 1,4", "got 4"),
        ("--seed -1", "seed must be a whole number from 0 to 2^64 - 1; got -1"),
        ("--seed 99999999999999999999", "seed must be"),
        ("--first -1", "index must be"),
        ("--first 18446744073709551615 --count 2", "index must be"),
        ("--count -3", "at least 1"),
        ("--count 1000000000", "A grid of 1,000,000,000 images of 8 x 8"),
        ("--count 99999999999999999999999 --out gen", "index must be"),
        ("--batch-size 0", "at least 1"),
        ("--steps 99999999999999999999", "from 1 to T = 1000"),
        ("--eta 1e308", "eta must be"),
        ("--eta nan", "eta must be"),
        ("--guidance nan", "guidance must be"),
        ("--guidance inf", "guidance must be"),
        ("--guidance 1e308", "guidance must be a number from -1000 to 1000, 1 for none; got 1e+308"),
        ("--spacing 1e308,5", "descend strictly from at most T = 1000"),
        ("--spacing nan,5", "descend strictly"),
        ("--checkpoint 99999999999999999999", "no checkpoint of step"),
        ("--out=", "The path is empty"),
        ("--out grid.jpg", "written as PNG"),
        ("--count 9999999999999999999 --out gen", "images need about"),
        ("--count 9999999999999999999 --out images.npy", "images need about"),
        ("--out images.npy --count 0", "at least 1"),
        ("--out run/config.json/a.npz", "config.json is a file"),
        ("--out run/config.json/gen", "config.json is a file"),
        ("--out run/config.json/a.png", "config.json is a file"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(by_class, tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert said in refused(capsys, "sample", by_class, *words.split())
    assert sorted(tmp_path.rglob("*")) == before


def test_a_model_of_four_channels_is_drawn_into_an_array_alone(tmp_path, capsys):
    model = Denoiser(nets.build("plain", 4, "tiny", widths=(8, 16)), schedule.linear(), shape=(4, 8, 8))
    model_io.save(model, tmp_path / "run")
    assert "images of 4 channels, and pictures have 1 or 3" in refused(capsys, "sample", tmp_path / "run")
    sample(tmp_path / "run", "--count", 2, "--steps", 1, "--out", tmp_path / "a.npy")
    assert np.load(tmp_path / "a.npy").shape == (2, 8, 8, 4)


def test_a_folder_with_pictures_is_continued_but_never_mixed(by_class, tmp_path, capsys):
    gen, words = tmp_path / "gen", ("--steps", 1, "--count", 3, "--out", tmp_path / "gen")
    sample(by_class, *words)
    assert capsys.readouterr().out == f"3 images in {gen} (torch fp32).\n"
    sample(by_class, *words)
    assert capsys.readouterr().out == f"Nothing is left to do: 3 images in {gen}.\n"
    for other in (("--seed", 1), ("--steps", 2), ("--guidance", 2), ("--labels", 2), ("--no-clip",)):
        assert "with other settings" in refused(capsys, "sample", by_class, *words, "--first", 3, *other)
    sample(by_class, *words, "--first", 3)
    assert torch.equal(
        torch.stack(list(drawn(gen).values())),
        to_uint8(ddim.load(by_class).sample(6, steps=1, batch_size=3, progress=False))[:, 0],
    )
    (gen / "holiday.jpg").write_bytes(b"precious")
    assert "holds 7 pictures already" in refused(capsys, "sample", by_class, *words, "--first", 6)
    assert len(os.listdir(gen)) == 7
    assert (gen / "holiday.jpg").read_bytes() == b"precious"


def test_drafts_of_a_killed_command_are_removed_and_other_files_stay(by_class, tmp_path):
    gen = tmp_path / "gen"
    gen.mkdir()
    for name in (".000001.ddim-0123abcd.png", ".000009.ddim-0123abcd.png", "notes.txt", ".hidden.png"):
        (gen / name).write_text("")
    sample(by_class, "--steps", 1, "--count", 2, "--out", gen)
    kept = {".000009.ddim-0123abcd.png", ".hidden.png", "000000.png", "000001.png", "notes.txt"}
    assert set(os.listdir(gen)) == kept


def test_an_existing_folder_may_have_any_name(by_class, tmp_path):
    for name in ("gen.v2", "gen.png"):
        (tmp_path / name).mkdir()
        sample(by_class, "--steps", 1, "--count", 1, "--out", tmp_path / name)
        assert os.listdir(tmp_path / name) == ["000000.png"]


@pytest.mark.parametrize("free", [4096 * 9, 0])
def test_a_disk_without_room_is_said_with_both_numbers(by_class, tmp_path, monkeypatch, capsys, free):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - free, free))
    said = refused(capsys, "sample", by_class, "--steps", 1, "--count", 10, "--out", tmp_path / "gen")
    assert f"10 images need about 41.0 kB on the disk, and {tmp_path} has {free / 1000:.1f} kB free" in said
    assert not (tmp_path / "gen").exists()


def test_images_larger_than_a_block_need_their_own_size(tmp_path, monkeypatch, capsys):
    """Noise of 64 x 64 does not compress: each file takes two blocks, and one for each is free."""

    class Noise(torch.nn.Module):
        def forward(self, x, t):
            return x

    model_io.save(Denoiser(nets.build("plain", 3, "tiny"), schedule.linear(), shape=(3, 64, 64)), tmp_path / "run")
    model = Denoiser(Noise(), schedule.linear(), "x0", shape=(3, 64, 64))
    monkeypatch.setattr("ddim.loading.load", lambda *_, **__: model)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 0, 4 * 4096))
    words = ("--steps", 1, "--count", 3, "--no-clip", "--out", tmp_path / "gen")
    assert "3 images need about" in refused(capsys, "sample", tmp_path / "run", *words)
    assert not (tmp_path / "gen").exists()


def test_what_takes_long_says_how_long_and_how_large(by_class, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("ddim.cli.drawing.SLOW", 0)
    sample(by_class, "--steps", 1, "--count", 4, "--batch-size", 2, "--out", tmp_path / "gen")
    assert "4 images take about 0 seconds, and their files about 16.4 kB.\n" in capsys.readouterr().err
    sample(by_class, "--steps", 1, "--count", 4, "--batch-size", 2)
    assert "4 images take about 0 seconds.\n" in capsys.readouterr().err
    monkeypatch.setattr("ddim.cli.drawing.SLOW", 60)
    sample(by_class, "--steps", 1, "--count", 4, "--batch-size", 2, "--out", tmp_path / "other")
    assert "take about" not in capsys.readouterr().err


def test_the_home_folder(by_class, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    sample("~/run", "--steps", 1, "--count", 1, "--out=~/a.png")
    assert (tmp_path / "a.png").is_file()


def test_the_settings_of_a_file_are_plain_json(by_class, tmp_path):
    sample(by_class, "--spacing", "900,400", "--count", 1, "--out", tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as file:
        assert json.loads(file.info["ddim:settings"])["spacing"] == [900.0, 400.0]


def test_the_count_is_one_for_each_label(by_class, capsys):
    Sample(str(by_class), labels="1", device="cpu").run()
    assert capsys.readouterr().out.startswith("1 image in ")
