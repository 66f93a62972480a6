"""A cached copy: damaged in any byte it is made anew or holds the same, and what kills left does not stay."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from damage import damaged, each_byte
from ddim.data import build, cache, open_images
from ddim.data.cache import Fact
from ddim.data.catalogue import Skipped
from ddim.data.folder import scan
from ddim.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (42, 3, 8, 8), np.uint8)
FACTS = [Fact(f"cat/é{i}.png", i % 2, "train", f"{i:032x}", 8, 8, "RGB", "PNG", True, 0, 255, False) for i in range(42)]
ABOUT = {"classes": ["cat", "dog"], "train": 40, "levels": [0, 255], "skipped": [["x.png", "is empty"]]}


@pytest.fixture
def path(tmp_path):
    cache.write(tmp_path / "copy.safetensors", [PIXELS], PIXELS.shape, FACTS, ABOUT)
    return tmp_path / "copy.safetensors"


def same(stored):
    assert torch.equal(stored.pixels, torch.from_numpy(PIXELS))
    assert stored.labels.tolist() == [fact.label for fact in FACTS]
    assert (stored.classes, stored.train, stored.skipped) == (("cat", "dog"), 40, (Skipped("x.png", "is empty"),))
    assert stored.files() == FACTS


def test_a_flip_anywhere_is_noticed_or_changes_nothing(path):
    whole = path.read_bytes()
    same(cache.read(path))
    head = whole.rindex(b"}", 0, 4096) + 3
    for part in (range(head), range(head, 4096, 800), range(4096, len(whole), 101)):
        for at, data in each_byte(whole, part):
            path.write_bytes(data)
            stored = cache.read(path)
            if stored is not None:
                assert part.start < 4096, at  # only of the header is there a byte without a meaning
                same(stored)


def test_any_other_damage_is_noticed_or_changes_nothing(path):
    for data in damaged(path.read_bytes(), 300):
        path.write_bytes(data)
        if stored := cache.read(path):
            same(stored)


def test_a_header_with_numbers_that_fit_each_other_and_not_the_data_is_noticed(path):
    """In this file, `files` begins inside the pixels, which must not be read as text."""
    whole = path.read_bytes()
    text = whole[8:4096]
    table = json.loads(text)
    first, last = table["labels"]["data_offsets"][0], table["files"]["data_offsets"][0]
    moved = first - (table["files"]["data_offsets"][1] - last)
    forged = text.replace(f"[{last}, ".encode(), f"[{moved}, ".encode())
    assert moved > 0
    assert forged != text
    path.write_bytes(whole[:8] + forged.rstrip().ljust(4088) + whole[4096:])
    assert cache.read(path) is None


def test_a_copy_that_an_older_version_wrote_is_made_anew(path):
    """Older versions wrote no checksum of the header."""
    whole = path.read_bytes()
    table = json.loads(whole[8:4096])
    del table["__metadata__"]["head"]
    path.write_bytes(whole[:8] + json.dumps(table).encode().ljust(4088) + whole[4096:])
    assert cache.read(path) is None


@pytest.mark.parametrize("change", [bytes.upper, lambda data: data[:-1], None], ids=["damaged", "cut", "removed"])
def test_files_that_changed_after_the_opening_are_not_taken(path, change):
    stored, data = cache.read(path), path.read_bytes()
    path.unlink()
    if change:
        path.write_bytes(data[:-5000] + change(data[-5000:]))
    with pytest.raises(UserError, match=r"copy\.safetensors was replaced or damaged after it was opened"):
        stored.files()


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "photos").mkdir()
    for i in range(4):
        Image.new("RGB", (8, 8), (40 * i, 0, 0)).save(tmp_path / "photos" / f"{i}.png")
    return tmp_path / "photos"


def test_what_a_kill_left_of_the_same_images_is_swept_by_the_next_opening(photos):
    open_images(photos)
    [copy] = Path(os.environ["DDIM_CACHE"], "images").glob("*.safetensors")
    copy.with_name(f".{copy.stem}.ddim-0123abcd.safetensors").touch()
    copy.with_name(f".{copy.stem}.0123abcd.safetensors").touch()  # as drafts were named before
    other = copy.with_name(".other-0123.ddim-0123abcd.safetensors")  # another process may be writing it
    other.touch()
    open_images(photos)
    copy.unlink()
    open_images(photos)
    assert sorted(copy.parent.glob(".*")) == [other]


@pytest.mark.parametrize("where", ["spool", "copy"])
@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.ENOSPC, "free some space"), (errno.EROFS, "check its permissions")]
)
def test_a_cache_that_is_full_or_read_only_names_the_variable_that_moves_it(photos, monkeypatch, where, number, remedy):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(*{"spool": ("tempfile.TemporaryFile", refuse), "copy": ("os.fsync", refuse)}[where])
    with pytest.raises(UserError, match=f"{os.strerror(number)}; {remedy} or set DDIM_CACHE to another folder"):
        build.stored(scan(photos), None)
