"""The door: names, splits, folders, and what is said when there is nothing behind it."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from ddim.data import mnist, open_images
from ddim.data.images import loaders
from ddim.errors import UserError

REAL = os.environ.get("DDIM_DATA")
needs_real_data = pytest.mark.skipif(not REAL, reason="set DDIM_DATA to a folder with MNIST and CIFAR-10")


def test_classes_and_size_are_applied():
    images = open_images("digits", classes="8,3", size=16, split="test")
    assert images.classes == ("8", "3")
    assert images.shape == (1, 16, 16)
    assert 50 < len(images) < 70


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"name_or_path": "imagenet"}, "no data set called 'imagenet'.*choose one of .*digits"),
        ({"name_or_path": "./photos"}, "photos does not exist; give the path of a folder"),
        ({"name_or_path": "digits", "split": "valid"}, "no split 'valid'"),
        ({"name_or_path": "digits", "classes": ["3", "ten"]}, "no class 'ten'.*0, 1, 2"),
        ({"name_or_path": "digits", "classes": []}, "No class"),
        ({"name_or_path": "digits", "size": (32, 48, 3)}, r"one whole number .* a width, .* got \(32, 48, 3\)"),
        ({"name_or_path": "./photos", "size": "32x"}, "one whole number of pixels .* got '32x'"),
        ({"name_or_path": "./photos", "size": "-1x8"}, "one whole number of pixels .* got '-1x8'"),
        ({"name_or_path": "./photos", "size": 32.0}, "one whole number of pixels .* got 32.0"),
        ({"name_or_path": "digits", "size": True}, "one whole number of pixels .* got True"),
        ({"name_or_path": "digits", "size": (32, 2000)}, "resized to 2000 pixels"),
        ({"name_or_path": "digits", "crop": "center"}, r"no crop 'center' \(did you mean 'centre'\?\)"),
        ({"name_or_path": "digits", "range": (0, 16)}, "digits are pictures, whose grey levels are known"),
        ({"name_or_path": "./photos", "size": 0}, "resized to 0 pixels"),
        ({"name_or_path": ""}, "The path is empty"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(request_, reason):
    with pytest.raises(UserError, match=reason):
        open_images(**request_)


@pytest.mark.parametrize(
    ("size", "shape"),
    [(np.int64(16), (1, 16, 16)), ("16", (1, 16, 16)), ("12x10", (1, 12, 10)), ((12, 10), (1, 12, 10))],
)
def test_a_size_may_be_an_integer_of_numpy_or_a_height_and_a_width(size, shape):
    assert open_images("digits", size=size).shape == shape


def test_a_loader_that_returns_no_images_is_told(monkeypatch):
    monkeypatch.setitem(loaders, "mine", lambda split, data_dir, url: torch.zeros(3, 1, 8, 8))
    with pytest.raises(UserError, match=r"must be a ddim.data.Images, .* got Tensor"):
        open_images("mine")


@pytest.mark.parametrize("name", ["mnist", "cifar10", "airplanes"])
def test_nothing_is_downloaded_behind_a_data_dir(name, tmp_path, serve):
    server = serve(b"")
    for folder, problem in ((tmp_path, "does not hold"), (tmp_path / "absent", "is not a folder")):
        with pytest.raises(UserError, match=f"{folder} {problem}.*looked there for .*(t10k|test_batch)"):
            open_images(name, split="test", data_dir=folder, url=server.url())
    assert server.asked == []


def test_a_ddim_data_without_the_set_does_not_stop_the_download(tmp_path, monkeypatch, serve):
    monkeypatch.setenv("DDIM_DATA", str(tmp_path))
    server = serve(b"")
    with pytest.raises(UserError, match="Could not download"):
        open_images("mnist", url=server.url())
    assert server.asked == [None]


@pytest.mark.parametrize("given", ["file", "absent"])
def test_a_ddim_data_that_is_no_folder_is_said_before_anything_is_downloaded(tmp_path, monkeypatch, serve, given):
    (tmp_path / "file").touch()
    monkeypatch.setenv("DDIM_DATA", str(tmp_path / given))
    server = serve(b"")
    for name in ("mnist", "cifar10"):
        with pytest.raises(UserError, match=f"DDIM_DATA names .*{given}, which is not a folder; correct it, or unset"):
            open_images(name, url=server.url())
    assert server.asked == []


@pytest.mark.parametrize(
    ("what", "sentence"), [("data", "Could not read .*data.*allow"), ("cache", "Could not write .*DDIM_CACHE")]
)
def test_a_folder_that_may_not_be_looked_into_is_named(tmp_path, monkeypatch, serve, what, sentence):
    real = Path.stat
    monkeypatch.setenv("DDIM_CACHE", str(tmp_path / "cache"))
    if what == "data":
        monkeypatch.setenv("DDIM_DATA", str(tmp_path / "data"))

    def refuse(path, **options):
        if what in path.parts:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    server = serve(b"")
    with pytest.raises(UserError, match=f"{sentence}"):
        open_images("mnist", url=server.url())
    assert server.asked == []


def test_ddim_data_may_be_relative_or_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "test_batch.bin").write_bytes(bytes(3073))
    for given in ("data", "~/data"):
        monkeypatch.setenv("DDIM_DATA", given)
        assert len(open_images("cifar10", split="test")) == 1


def test_a_data_dir_goes_before_ddim_data(tmp_path, monkeypatch):
    monkeypatch.setenv("DDIM_DATA", str(tmp_path))
    for name in mnist.FILES["test"]:
        (tmp_path / name).write_bytes(b"broken")
    with pytest.raises(UserError, match="does not start as"):
        open_images("mnist", split="test")
    with pytest.raises(UserError, match="is not a folder"):
        open_images("mnist", split="test", data_dir=tmp_path / "absent")


@needs_real_data
@pytest.mark.parametrize(("split", "count"), [("train", 60_000), ("test", 10_000)])
def test_the_real_mnist(split, count):
    images = open_images("mnist", split=split, data_dir=REAL)
    assert len(images) == count
    assert images.shape == (1, 28, 28)
    assert images.labels.unique().tolist() == list(range(10))
    ink = (images.pixels > 127).float().mean()
    assert 0.05 < ink < 0.2  # white on black, not the other way round


@needs_real_data
@pytest.mark.parametrize(("split", "count"), [("train", 5000), ("test", 1000)])
def test_the_real_aeroplanes(split, count):
    images = open_images("airplanes", split=split, data_dir=REAL)
    assert len(images) == count
    assert images.shape == (3, 32, 32)
    assert images.classes == ("airplane",)
    assert images.labels.unique().tolist() == [0]
    red, _, blue = images.pixels.float().mean(dim=(0, 2, 3))
    assert blue > red  # the sky: the planes are in the order red, green, blue
    across = (images.pixels[..., 1:].float() - images.pixels[..., :-1].float()).abs().mean()
    assert across < 20  # neighbours are alike only if the rows have their true length
    assert not torch.equal(images.pixels[0], images.pixels[1])
