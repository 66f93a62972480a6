"""What is trained on and what is held out: folders of splits, the rule of the hold-out, and pictures of ddim's own."""

import hashlib
import random
import warnings

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from ddim.cli import main
from ddim.data import catalogue, open_images
from ddim.data.build import held_out
from ddim.data.folder import TEST_NAMES, TRAIN_NAMES, scan
from ddim.data.survey import survey
from ddim.errors import Notice, UserError
from ddim.train.recipe import Recipe
from ddim.train.run import build


def picture(path, seed, sheet=False):
    """Write a small image, a different one for each seed; with the mark of a sheet if asked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    marks = PngImagePlugin.PngInfo()
    marks.add_text("Software", "ddim 0.1.0")
    if sheet:
        marks.add_text("ddim:picture", "sheet")
    image = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8))
    image.save(path, pnginfo=marks)
    return path


def levels(path):
    return torch.from_numpy(np.asarray(Image.open(path)).transpose(2, 0, 1).copy())


def counts(root):
    """(class, training images, held-out images) of a folder."""
    return survey(catalogue(root)).counts


@pytest.fixture(autouse=True)
def _no_notice():
    """Make a test fail on a notice that it does not expect."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Notice)
        yield


@pytest.mark.parametrize("training", [*TRAIN_NAMES, "Train"])
@pytest.mark.parametrize("other", [*TEST_NAMES, "Validation"])
def test_folders_named_after_the_splits_are_the_splits(tmp_path, training, other):
    a, b = picture(tmp_path / "x" / training / "cat" / "1.png", 1), picture(tmp_path / "x" / other / "dog" / "1.png", 2)
    picture(tmp_path / "x" / "elsewhere" / "1.png", 3)
    picture(tmp_path / "x" / "loose.png", 4)
    train, test = (open_images(tmp_path / "x", split=split) for split in ("train", "test"))
    assert train.classes == test.classes == ("cat", "dog")
    assert torch.equal(train.pixels, levels(a)[None])
    assert torch.equal(test.pixels, levels(b)[None])
    assert (train.labels.tolist(), test.labels.tolist()) == ([0], [1])
    assert scan(tmp_path / "x").splits == (
        f"{training}/ is for training, {other}/ is held out; not used: elsewhere/, loose.png"
    )


def test_of_several_test_folders_the_first_that_holds_images_counts(tmp_path):
    for i, name in enumerate(("train", "val", "eval")):
        picture(tmp_path / name / "cat" / "1.png", i)
    (tmp_path / "test").mkdir()
    assert scan(tmp_path).splits == "train/ is for training, val/ is held out; not used: eval/"
    picture(tmp_path / "test" / "cat" / "1.png", 9)
    assert scan(tmp_path).splits == "train/ is for training, test/ is held out; not used: eval/, val/"


@pytest.mark.parametrize("training", TRAIN_NAMES)
def test_a_training_folder_alone_holds_the_classes_and_one_in_20_is_held_out(tmp_path, training):
    for i in range(40):
        picture(tmp_path / training / ("cat" if i % 2 else "dog") / f"{i}.png", i)
    for beside in ("__MACOSX/train/._0.png", ".thumbs/0.png", "runs/x/a.png"):
        picture(tmp_path / beside, 99)
    picture(tmp_path / "verify" / "orders.png", 99, sheet=True)
    (tmp_path / "test").mkdir()
    for name in ("config.json", "metrics.jsonl"):
        (tmp_path / "runs" / "x" / name).write_text("{}")
    train, test = (open_images(tmp_path, split=split) for split in ("train", "test"))
    assert (train.classes, len(train), len(test)) == (("cat", "dog"), 38, 2)
    assert scan(tmp_path).splits == f"{training}/ is for training, one file in 20 is held out"


def test_a_flat_training_folder_is_one_class_named_after_the_root(tmp_path):
    for i in range(3):
        picture(tmp_path / "leaves" / "train" / f"{i}.png", i)
    assert counts(tmp_path / "leaves") == [("leaves", 2, 1)]


@pytest.mark.parametrize(
    ("folders", "classes", "named"),
    [
        (("train", "boat"), ("boat", "train"), "train"),  # vehicles
        (("test", "val"), ("test", "val"), "test, val"),
        (("cat/training", "cat/testing"), ("cat",), "testing, training"),
    ],
)
def test_a_folder_with_the_name_of_a_split_that_is_none_is_told(tmp_path, folders, classes, named, capsys, monkeypatch):
    for i, folder in enumerate(folders):
        for j in range(2):
            picture(tmp_path / "x" / folder / f"{j}.png", 2 * i + j)
    told = f"x holds folders named {named}, read as classes or parts of them, not as splits; for splits, put train/ and"
    with pytest.warns(Notice, match=told):
        assert open_images(tmp_path / "x").classes == classes
    monkeypatch.chdir(tmp_path)
    main(["inspect", "x"])
    assert f"Warning: {told}" in capsys.readouterr().out
    assert open_images(tmp_path / "x", classes=classes).classes == classes  # the user named them


def old_rule(digests):
    distinct = sorted(set(digests))
    return set(distinct[: min(max(round(len(distinct) / 20), 1), 1000, max(len(distinct) - 1, 0))])


def test_the_rule_of_the_held_out_images():
    digests = [hashlib.sha256(bytes([i % 256, i // 256])).hexdigest()[:16] for i in range(1000)]
    assert len(held_out(digests)) == 50
    assert len(held_out(digests * 3)) == 50
    assert [len(held_out(digests[:count])) for count in (0, 1, 2, 3, 29, 31)] == [0, 0, 1, 1, 1, 2]
    assert len(held_out(f"{i:05x}" for i in range(30_000))) == 1000
    for count in range(2, 200):  # a file more moves one other at most
        before, after = held_out(digests[:count]), held_out(digests[: count + 1])
        assert len((before ^ after) - {digests[count]}) <= 1


def test_each_class_keeps_a_training_image_and_nothing_else_changes():
    chance = random.Random(0)
    emptied = 0
    for _ in range(2000):
        files = [(f"{chance.randrange(400):03}", min(chance.randrange(8), chance.randrange(8))) for _ in range(60)]
        digests, labels = zip(*files, strict=True)
        tested = held_out(digests, labels)
        trained = {label for digest, label in files if digest not in tested}
        assert trained == set(labels)
        assert len(tested) == len(old_rule(digests))
        if {label for digest, label in files if digest not in old_rule(digests)} == set(labels):
            assert tested == old_rule(digests)  # also the split of every folder in the caches and runs of before
        else:
            emptied += 1
        more, label = f"{chance.randrange(400):03}", chance.randrange(8)
        moved = (tested ^ held_out([*digests, more], [*labels, label])) - {more}
        frees = max((digest for digest, other in files if other == label), default=more) < more
        assert len(moved) <= 1 + frees
    assert emptied > 50
    assert held_out(["a", "b", "c"], [0, 1, 2]) == {"a"}  # no class has an image to spare: as without classes


def rare(root):
    """Write 19 common images and a rare one with the smallest digest, which alone would be held out by its digest."""
    paths = [picture(root / "common" / f"{i}.png", i) for i in range(20)]
    least = min(paths, key=lambda path: hashlib.blake2b(path.read_bytes()).hexdigest())
    (root / "rare").mkdir()
    least.rename(root / "rare" / least.name)


def test_the_only_image_of_a_class_is_trained_on(tmp_path):
    rare(tmp_path)
    assert counts(tmp_path) == [("common", 18, 1), ("rare", 1, 0)]
    assert build(Recipe(size="tiny", conditional=True), open_images(tmp_path)).classes == 2


def test_a_class_without_a_training_image_is_told_and_refused_to_a_model_with_classes(tmp_path, capsys, monkeypatch):
    for i, folder in enumerate(("train/cat", "test/cat", "test/dog")):
        picture(tmp_path / "pets" / folder / "a.png", i)
    pets = open_images(tmp_path / "pets")
    with pytest.raises(UserError, match="train split of pets holds no image of 'dog', which a model with classes"):
        build(Recipe(size="tiny", conditional=True), pets)
    assert build(Recipe(size="tiny"), pets).classes is None
    assert open_images(tmp_path / "pets", split="test").trainable_classes() == 2
    monkeypatch.chdir(tmp_path)
    main(["inspect", "pets"])
    assert "Warning: classes without a training image cannot be learnt: dog.\n" in capsys.readouterr().out


def test_sheets_that_ddim_drew_are_left_out_and_single_images_are_not(tmp_path):
    for i in range(6):
        picture(tmp_path / ("cat" if i < 3 else "dog") / f"{i}.png", i)
    for sheet in ("x-inspect.png", "samples/seed0.png", "evaluate/a/features.png", "cat/grid.png"):
        picture(tmp_path / sheet, 1, sheet=True)
    picture(tmp_path / "drawn" / "000000.png", 9)
    with pytest.warns(Notice, match=r"4 of 11 files in .*: cat/grid.png is a sheet of images or a figure that ddim"):
        found = open_images(tmp_path)
    assert found.classes == ("cat", "dog", "drawn")
    assert found.shape == (3, 8, 8)
    with pytest.raises(UserError, match="is a sheet of images"):
        open_images(tmp_path, classes="samples")


def test_a_run_is_no_folder_of_images(tmp_path):
    picture(tmp_path / "run" / "samples" / "1.png", 1)
    for name in ("config.json", "metrics.jsonl"):
        (tmp_path / "run" / name).write_text("{}")
    with pytest.raises(UserError, match="run holds a run of ddim, whose pictures are not data"):
        open_images(tmp_path / "run")


def test_what_is_left_out_is_named_once_and_counted_after_that(tmp_path):
    for i in range(3):
        picture(tmp_path / "my pets" / f"{i}.png", i)
    (tmp_path / "my pets" / "a.png").write_text("x")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for split in ("train", "test", "train", "test"):
            open_images(tmp_path / "my pets", split=split)
    share, see = f"1 of 4 files in {tmp_path}/my pets is left out", f"ddim inspect '{tmp_path}/my pets' --all"
    assert [str(notice.message) for notice in caught] == [
        f"{share}: a.png holds no image of a known format. See them all: {see}",
        f"{share}; see {see}",
    ]


def shaded(root, low, high, dtype=np.uint8):
    for i in range(3):
        root.mkdir(exist_ok=True)
        pixels = np.random.default_rng(i).integers(low, high, (8, 8), dtype, endpoint=True)
        pixels[0, :2] = low, high
        Image.fromarray(pixels).save(root / f"{i}.png")
    return root


@pytest.mark.parametrize(
    ("low", "high", "dtype", "told"),
    [
        (0, 4095, np.uint16, "no pixel is above 16 of 255; if the files hold 12 bits in 16, multiply them by 16 first"),
        (0, 9, np.uint8, "no pixel is above 9 of 255"),  # numbers of classes, not levels of grey
        (200, 255, np.uint8, "all pixels lie between 200 and 255 of 255"),
        (255, 255, np.uint8, "all pixels lie between 255 and 255 of 255"),
        (0, 65535, np.uint16, None),
        (10, 80, np.uint8, None),
    ],
)
def test_images_without_contrast_are_told(tmp_path, low, high, dtype, told, capsys, monkeypatch):
    shaded(tmp_path / "scans", low, high, dtype)
    monkeypatch.chdir(tmp_path)
    main(["inspect", "scans"])
    said = capsys.readouterr().out
    assert ("Warning: 3 of 3 images have only one colour" in said) == (low == high)
    if told is None:
        assert "of 255" not in said
        open_images("scans")
    else:
        assert f"Warning: {told}" in said
        with pytest.warns(Notice, match=f"scans: {told}"):
            open_images("scans")


def test_a_colour_of_its_own_in_each_image_is_contrast_enough(tmp_path):
    for i, colour in enumerate(("red", "green", "blue")):
        (tmp_path / "x").mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), colour).save(tmp_path / "x" / f"{i}.png")
    found = survey(catalogue(tmp_path / "x"))
    assert (found.warnings, found.flat) == ([], 3)
