"""A folder as a data set: classes, splits, sizes, channels, and the decoded copy in the cache."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from ddim.data import build, cache, decode, open_images, to_uint8
from ddim.data.folder import scan
from ddim.errors import Notice, UserError


def picture(path, seed=None, size=(8, 8), mode="RGB"):
    """Write a small image; each seed gives another one, None a new one each time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
    Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(path)
    return path


def levels(path):
    """The pixels of a file, (C, H, W)."""
    pixels = np.asarray(Image.open(path))
    return torch.from_numpy(pixels[None].copy() if pixels.ndim == 2 else pixels.transpose(2, 0, 1).copy())


def counted_decoding(monkeypatch):
    """Return the list to which the name of every file is added that is decoded from now on."""
    names, real = [], decode.decode

    def decoding(file, *how):
        names.append(file.name)
        return real(file, *how)

    monkeypatch.setattr(decode, "decode", decoding)
    return names


@pytest.fixture
def zoo(tmp_path):
    """30 cats and 12 dogs."""
    for i in range(30):
        picture(tmp_path / "zoo" / "cat" / f"{i:02d}.png", i)
    for i in range(12):
        picture(tmp_path / "zoo" / "dog" / "deeper" / f"{i:02d}.png", 100 + i)
    return tmp_path / "zoo"


def cached():
    return sorted(Path(os.environ["DDIM_CACHE"], "images").glob("*.safetensors"))


def test_sub_folders_are_classes_and_pixels_are_those_of_the_files(zoo):
    train, test = (open_images(zoo, split=split) for split in ("train", "test"))
    assert train.classes == test.classes == ("cat", "dog")
    assert (train.name, train.shape, train.grey_levels, train.mirror) == ("zoo", (3, 8, 8), 256, True)
    assert (len(train), len(test)) == (40, 2)
    rows = {name: (split, label) for name, label, split, *_ in build.stored(scan(zoo), None).files()}
    assert {name: label for name, (_, label) in rows.items()} == {
        path.relative_to(zoo).as_posix(): int("dog" in path.parts) for path in zoo.rglob("*.png")
    }
    for images in (train, test):
        mine = [name for name, (split, _) in rows.items() if split == images.split]
        for i, name in enumerate(mine):
            assert torch.equal(images.pixels[i], levels(zoo / name)), name
            assert images.labels[i] == rows[name][1]
    assert torch.equal(to_uint8(train.batch(torch.tensor([3]))[0][0]), train.pixels[3])


def test_a_flat_folder_is_one_class_of_its_name(tmp_path, monkeypatch):
    picture(tmp_path / "leaves" / "a.png")
    picture(tmp_path / "leaves" / "b.png")
    monkeypatch.chdir(tmp_path / "leaves")
    for path in ("../leaves", ".", tmp_path / "leaves", "~"):
        monkeypatch.setenv("HOME", str(tmp_path / "leaves"))
        images = open_images(path)
        assert (images.classes, images.name, len(images)) == (("leaves",), "leaves", 1)
    assert len(cached()) == 1


def test_numbers_as_classes_are_in_their_order(tmp_path):
    for name in ("10", "9", "1"):
        picture(tmp_path / name / "a.png")
    assert scan(tmp_path).classes == ("1", "9", "10")


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [([(8, 8)] * 3, 8), ([(64, 64)], 64), ([(65, 65)] * 2, 32), ([(8, 8), (9, 9)], 32), ([(8, 9)] * 2, 32)],
)
def test_small_squares_of_one_size_keep_it(tmp_path, sizes, expected):
    for i, size in enumerate(sizes):
        picture(tmp_path / "x" / f"{i}.png", size=size)
    assert open_images(tmp_path / "x").shape == (3, expected, expected)
    assert open_images(tmp_path / "x", size=5).shape == (3, 5, 5)


def test_a_broken_file_of_another_size_does_not_change_the_size(tmp_path):
    for i in range(3):
        picture(tmp_path / "x" / f"{i}.png", size=(16, 16))
    whole = picture(tmp_path / "x" / "a.png", size=(40, 30)).read_bytes()
    (tmp_path / "x" / "a.png").write_bytes(whole[: len(whole) // 2])
    with pytest.warns(Notice, match=r"1 of 4 files in .*x is left out: a\.png cannot be decoded: .*--all"):
        assert open_images(tmp_path / "x").shape == (3, 16, 16)


def test_one_channel_unless_an_image_has_colour(tmp_path):
    grey = picture(tmp_path / "x" / "grey.png", mode="L")
    Image.open(grey).convert("RGB").save(tmp_path / "x" / "grey-as-rgb.png")
    picture(tmp_path / "x" / "more.png", mode="L")
    images = open_images(tmp_path / "x")
    assert images.shape == (1, 8, 8)
    picture(tmp_path / "x" / "colour.png")
    assert open_images(tmp_path / "x").shape == (3, 8, 8)


def test_copies_never_straddle_the_splits(tmp_path):
    for i in range(20):
        for copy in range(3):
            picture(tmp_path / "x" / f"class{copy}" / f"{i}.png", i)
    train, test = (open_images(tmp_path / "x", split=split) for split in ("train", "test"))
    contents = [{image.numpy().tobytes() for image in images.pixels} for images in (train, test)]
    assert (len(train), len(test)) == (57, 3)
    assert not contents[0] & contents[1]


def test_one_image_alone_cannot_be_tested_on(tmp_path):
    picture(tmp_path / "x" / "a.png", 1)
    picture(tmp_path / "x" / "b.png", 1)
    assert len(open_images(tmp_path / "x")) == 2
    with pytest.raises(UserError, match="holds no image for the split 'test'"):
        open_images(tmp_path / "x", split="test")


def test_chosen_classes_alone_are_decoded_in_the_order_asked(zoo, monkeypatch):
    picture(zoo / "emu" / "a.png")
    (zoo / "cat" / "broken.png").write_bytes(b"broken")
    with pytest.warns(Notice, match="cat/broken.png"):
        both = open_images(zoo, classes="DOG, cat")
    assert both.classes == ("dog", "cat")
    assert both.labels.bincount().sum() == len(both) == 40
    opened = counted_decoding(monkeypatch)
    dogs = open_images(zoo, classes=["dog"])
    assert len(opened) == 12
    assert all("dog" in name for name in opened)
    assert (dogs.classes, set(dogs.labels.tolist())) == (("dog",), {0})


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"classes": "cow"}, "no class 'cow'; zoo has cat, dog"),
        ({"classes": "dog,dog"}, "'dog' was given twice"),
        ({"classes": []}, "No class was given"),
        ({"size": 0}, "resized to 0"),
        ({"size": 1025}, "resized to 1025"),
        ({"split": "val"}, "no split 'val'"),
        ({"data_dir": "/tmp"}, "leave out data_dir and url"),
    ],
)
def test_what_makes_no_sense_is_refused(zoo, options, reason):
    with pytest.raises(UserError, match=reason):
        open_images(zoo, **options)


def test_a_folder_without_a_readable_image_is_refused(tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="none holds nothing, no image; name a folder"):
        open_images(tmp_path / "none")
    (tmp_path / "none" / "a.txt").write_text("x")
    with pytest.raises(UserError, match="none holds only 1 other file, no image"):
        open_images(tmp_path / "none")
    (tmp_path / "none" / "a.png").write_text("x")
    (tmp_path / "none" / "b.png").touch()
    with pytest.raises(UserError, match=r"No image in none can be read \(b.png is empty; a.png holds no image"):
        open_images(tmp_path / "none")
    with pytest.raises(UserError, match=r"a\.png is a file, not a folder"):
        open_images(tmp_path / "none" / "a.png")
    with pytest.raises(UserError, match="absent does not exist; give the path"):
        open_images(tmp_path / "absent")


def test_a_class_of_broken_files_is_no_class_unless_it_is_asked_for(zoo):
    (zoo / "bee").mkdir()
    (zoo / "bee" / "a.png").write_bytes(b"broken")
    with pytest.warns(Notice, match="bee/a.png"):
        images = open_images(zoo)
    assert images.classes == ("cat", "dog")
    assert set(images.labels.tolist()) == {0, 1}
    with pytest.raises(UserError, match="No image of class 'bee' in zoo can be read"):
        open_images(zoo, classes="bee,dog")


# The cached copy


@pytest.fixture
def no_decoder(monkeypatch):
    """From the call of what this gives on, nothing may be decoded."""

    def forbid():
        def refuse(*_):
            raise AssertionError("decoded again")

        monkeypatch.setattr(decode, "decode", refuse)
        monkeypatch.setattr(build, "_sizes", refuse)  # not even the headers are read

    return forbid


def test_the_second_opening_decodes_nothing(zoo, no_decoder):
    first = open_images(zoo)
    no_decoder()
    again, test = open_images(zoo), open_images(zoo, split="test")
    assert torch.equal(first.pixels, again.pixels)
    assert (again.labels.tolist(), again.classes) == (first.labels.tolist(), first.classes)
    assert again.pixels.data_ptr() != first.pixels.data_ptr()
    assert len(test) == 2
    with pytest.raises(AssertionError, match="decoded again"):
        open_images(zoo, size=4)


def change(zoo):
    picture(zoo / "cat" / "00.png", 999, size=(8, 8))


def touch(zoo):
    os.utime(zoo / "cat" / "00.png", ns=(0, 1))


def add(zoo):
    picture(zoo / "cat" / "new.png", 999)


def remove(zoo):
    (zoo / "dog" / "deeper" / "00.png").unlink()


def replace(zoo):
    """Replace an image by another of the same size and time, as unpacking an archive can."""
    path = zoo / "cat" / "00.png"
    data, times = path.read_bytes(), path.stat()
    path.unlink()
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (times.st_size, times.st_mtime_ns)


def rename(zoo):
    (zoo / "dog").rename(zoo / "wolf")


def add_broken(zoo):
    (zoo / "cat" / "empty.png").touch()


@pytest.mark.parametrize("how", [change, touch, add, remove, replace, rename, add_broken])
@pytest.mark.filterwarnings("ignore::ddim.errors.Notice")
def test_a_changed_folder_is_decoded_again_and_the_old_copy_removed(zoo, how, no_decoder):
    open_images(zoo, size=4)
    open_images(zoo)
    before = cached()
    how(zoo)
    open_images(zoo)
    assert len(set(cached()) - set(before)) == 1
    assert len(set(before) - set(cached())) == 1  # the one of size 4 stays
    no_decoder()
    open_images(zoo)


def flip(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


DAMAGE = {
    "empty": lambda data: b"",
    "cut in the head": lambda data: data[:100],
    "cut in the pixels": lambda data: data[:5000],
    "cut at the end": lambda data: data[:-1],
    "longer": lambda data: data + b"x",
    "a bit of a pixel": lambda data: flip(data, 4096 + 3 * 64),
    "a bit of the labels": lambda data: flip(data, 4096 + 42 * 3 * 64 + 8),
    "a bit of the end": lambda data: flip(data, len(data) - 3),
    "a bit of the length": lambda data: flip(data, 1),
    "zeros": lambda data: bytes(len(data)),
    "a shape": lambda data: data.replace(b"[42, 3, 8, 8]", b"[42, 3, 8, 9]"),
    "fewer rows": lambda data: data.replace(b"[42, 3, 8, 8]", b"[41, 3, 8, 8]"),
    "no JSON": lambda data: data[:8] + b"[" + data[9:],
    "other JSON": lambda data: data[:8] + b"[1]".ljust(4088) + data[4096:],
    "infinity": lambda data: data.replace(b"[42, 3, 8, 8]", b"[1e999,3,8,8]"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_copy_is_made_anew(zoo, damage):
    whole = open_images(zoo)
    pixels, labels = whole.pixels.clone(), whole.labels
    [copy] = cached()
    data = copy.read_bytes()
    assert damage(data) != data
    copy.unlink()  # a new file: the old one is mapped
    copy.write_bytes(damage(data))
    again = open_images(zoo)
    assert torch.equal(again.pixels, pixels)
    assert torch.equal(again.labels, labels)
    assert copy.read_bytes() == data


def test_the_copy_is_a_safetensors_file(zoo):
    images, test = open_images(zoo), open_images(zoo, split="test")
    tensors = load_file(cached()[0])
    assert torch.equal(tensors["pixels"], torch.cat([images.pixels, test.pixels]))
    assert torch.equal(tensors["labels"], torch.cat([images.labels, test.labels]))


def test_the_pixels_are_a_view_that_never_changes_the_file(zoo):
    images, test = open_images(zoo), open_images(zoo, split="test")
    data = cached()[0].read_bytes()
    images.pixels.zero_()
    assert cached()[0].read_bytes() == data
    assert test.pixels.any()
    assert open_images(zoo).pixels.any()


def test_an_interrupt_or_a_full_disk_leaves_no_half_copy(zoo, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(decode, "decode", interrupt)
        with pytest.raises(KeyboardInterrupt):
            open_images(zoo)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(cache, "write", full)
        with pytest.raises(UserError, match=r"Could not write .*No space left on device; free some space"):
            open_images(zoo)
    assert [path.suffix for path in Path(os.environ["DDIM_CACHE"], "images").iterdir()] == [".lock"]
    assert len(open_images(zoo)) == 40


def test_a_cache_that_cannot_be_written_is_a_sentence(zoo, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("DDIM_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"Could not write .*file/images"):
        open_images(zoo)


def test_of_several_at_once_one_decodes_and_all_are_right(zoo, monkeypatch):
    decoded = counted_decoding(monkeypatch)
    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(lambda _: open_images(zoo), range(4))
    assert all(torch.equal(first.pixels, other.pixels) for other in others)
    assert len(decoded) == 42


@pytest.mark.slow
def test_processes_at_once_without_a_lock_all_end_up_right(zoo):
    code = (
        "import sys, ddim\nfrom ddim import files\n\n"
        "def refuse(path):\n    raise OSError('no locks on this file system')\n\nfiles.FileLock = refuse\n"
        "images = ddim.open_images(sys.argv[1])\nprint(len(images), int(images.pixels.long().sum()))"
    )
    runs = [subprocess.Popen([sys.executable, "-c", code, zoo], stdout=subprocess.PIPE, text=True) for _ in "ab"]
    said = {run.communicate()[0] for run in runs}
    images = open_images(zoo)
    assert said == {f"{len(images)} {int(images.pixels.long().sum())}\n"}
    assert len(cached()) == 1


def test_a_run_in_the_folder_is_not_learnt_from(zoo):
    """As after `ddim train .`, whose run lies in runs/ here."""
    before = scan(zoo).state
    run = zoo / "runs" / "zoo"
    picture(run / "samples" / "step-00000001.png")
    for name in ("config.json", "metrics.jsonl"):
        (run / name).write_text("{}")
    assert scan(zoo).state == before
    (run / "metrics.jsonl").unlink()
    assert scan(zoo).state != before
