"""`ddim inspect`: what it prints about a folder is true, and it warns of what harms a training."""

import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from refusal import refused

from ddim.cli import main
from ddim.cli.inspect import FEW, describe
from ddim.data import catalogue, decode, open_images
from ddim.data.survey import survey
from ddim.errors import Notice


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("DDIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def picture(path, seed, width=40, height=40):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)).save(path)
    return path


@pytest.fixture
def zoo(tmp_path):
    """30 cats, one of them twice, 5 dogs, and what does not belong there."""
    for i in range(30):
        picture(tmp_path / "zoo" / "cat" / f"{i:02d}.png", i)
    for i in range(5):
        picture(tmp_path / "zoo" / "dog" / f"{i}.png", 100 + i, 200, 300)
    (tmp_path / "zoo" / "cat" / "again.png").write_bytes((tmp_path / "zoo" / "cat" / "07.png").read_bytes())
    for i in range(25):
        (tmp_path / "zoo" / "dog" / f"bad{i:02d}.jpg").write_text("no image")
    (tmp_path / "zoo" / "labels.json").write_text("{}")
    return tmp_path / "zoo"


@pytest.mark.filterwarnings("ignore::ddim.errors.Notice")
def test_a_folder_is_described(zoo, tmp_path, capsys):
    main(["inspect", "zoo"])
    said = capsys.readouterr().out
    held_out = len(open_images(zoo, split="test"))
    for sentence in (
        "zoo: 36 images in 2 classes\n",
        "Sizes: smallest 40 × 40, median 40 × 40, largest 200 × 300\n",
        "Formats: 36 PNG RGB\n",
        "Ignored, not images: 1 (1 .json)\n",
        "Left out: 25 files\n  dog/bad00.jpg holds no image of a known format\n",
        "  dog/bad19.jpg holds no image of a known format\n  and 5 more; --all lists them\n",
        "byte for byte: 1\n  cat/07.png = cat/again.png\n",
        f"Training images: {36 - held_out} of 32 × 32 pixels, colour, mirrored with probability 1/2; ",
        f"; held out: {held_out}\n",
        "With --augment P, each with probability P: flip 1, scale 0.2, ",
        "removes 5% of the area\n",  # a third of five in 36
        "Warning: only 36 images; a network",
        "Warning: classes with fewer than 20 training images are learnt poorly: dog (",
        "zoo-inspect.png shows 36 of the images, as training uses them.\n",
    ):
        assert sentence in said
    assert "enlarging" not in said
    with Image.open(tmp_path / "zoo-inspect.png") as grid:
        assert (grid.mode, grid.size) == ("RGB", ((32 * 6 + 7) * 2,) * 2)


@pytest.mark.filterwarnings("ignore::ddim.errors.Notice")
def test_classes_sum_to_what_training_gets(zoo):
    found = survey(catalogue(zoo))
    train, test = (open_images(zoo, split=split) for split in ("train", "test"))
    expected = zip(
        train.classes, train.labels.bincount().tolist(), test.labels.bincount(minlength=2).tolist(), strict=True
    )
    assert found.counts == list(expected)


def test_all_lists_everything_and_the_picture_goes_where_it_is_wanted(zoo, tmp_path, capsys):
    main(["inspect", "zoo", "--all", "--image-size", "64", "--classes", "dog", "--out", "deep/grid.png"])
    said = capsys.readouterr().out
    assert said.count("holds no image") == 25
    assert "--all" not in said
    assert "64 × 64 pixels" in said
    assert "cropping removes 33% of the area" in said
    with Image.open(tmp_path / "deep" / "grid.png") as file:
        assert file.info["ddim:picture"] == "sheet"


def test_enlarging_and_leaking_are_said(tmp_path, capsys):
    for i in range(3):
        picture(tmp_path / "x" / "train" / f"{i}.png", i, 20, 20)
    picture(tmp_path / "x" / "test" / "a.png", 1, 20, 20)
    main(["inspect", "x", "--size", "32"])
    said = capsys.readouterr().out
    assert "Warning: 4 of 4 images are smaller than 32 pixels" in said
    assert "Warning: 1 held-out image is in the training split too" in said


def test_nothing_is_said_where_nothing_hurts(tmp_path):
    for i in range(FEW):
        picture(tmp_path / "x" / f"{i}.png", i, 8, 8)
    lines = list(describe(survey(catalogue(tmp_path / "x"))))
    assert not [line for line in lines if "Warning" in line or "Left out" in line or "Duplicates" in line]


def test_a_training_after_it_decodes_nothing(zoo, monkeypatch):
    main(["inspect", "zoo"])
    monkeypatch.setattr(decode, "decode", lambda *_: 1 / 0)
    with pytest.warns(UserWarning, match="25 of 61 files"):
        assert open_images("zoo").shape == (3, 32, 32)


def test_a_known_set_is_described_shortly(capsys, tmp_path):
    main(["inspect", "digits", "--classes", "3,8"])
    said = capsys.readouterr().out
    train, test = (open_images("digits", classes="3,8", split=split).labels.bincount() for split in ("train", "test"))
    assert f"digits: {train.sum()} images for training, {test.sum()} for testing\n" in said
    assert f"  3: {train[0]} and {test[0]}\n  8: {train[1]} and {test[1]}\n" in said
    assert "8 × 8 pixels, grey, never mirrored.\n" in said
    assert "With --augment P, each with probability P: scale 0.2, rotate 10, " in said
    assert (tmp_path / "digits-inspect.png").exists()


@pytest.mark.parametrize("what", ["./absent", "absent", "zoo/labels.json"])
def test_what_is_not_there_is_one_sentence(what, zoo, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["inspect", what])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("ddim: ")


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--out", "i.jpg"], "--out is i.jpg; give a name that ends in .png"),
        (["--out", "picture"], "--out is picture; give a name that ends in .png"),
        (["--out", ""], "The path is empty"),
        (["--image-size", "0"], "resized to 0 pixels"),
        (["--data-dir", "/tmp"], "zoo is not one of .*digits.*; leave out --data-dir"),
    ],
)
def test_what_makes_no_sense_is_refused_before_an_image_is_decoded(zoo, capsys, tmp_path, flags, reason, monkeypatch):
    monkeypatch.setattr(decode, "decode", lambda *_: 1 / 0)
    assert re.search(reason, refused(capsys, "inspect", "zoo", *flags))
    assert [path.name for path in tmp_path.iterdir()] == ["zoo"]


@pytest.mark.filterwarnings("ignore::ddim.errors.Notice")
def test_the_old_name_of_the_image_size_and_the_home_folder_are_understood(zoo, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    main(["inspect", "zoo", "--size", "16", "--out", "~/I.PNG"])
    assert "16 × 16 pixels" in capsys.readouterr().out
    with Image.open(tmp_path / "home" / "I.PNG") as grid:
        assert grid.format == "PNG"


def test_one_image_alone_is_described(tmp_path, capsys):
    picture(tmp_path / "x" / "a.png", 0)
    main(["inspect", "x"])
    said = capsys.readouterr().out
    for sentence in (
        "x: 1 image in 1 class\n  x: 1 for training, 0 held out\n",
        "Warning: only 1 image; ",
        "Warning: no image can be held out; training needs two that differ.\n",
    ):
        assert sentence in said


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "x holds nothing, no image"),
        ({"a.txt": b"x"}, "x holds only 1 other file, no image"),
        ({"a.png": b""}, r"No image in x can be read \(a.png is empty\)"),
        ({"a.png": b"x", "b.heic": b"x"}, r"\(b.heic is HEIC, .*; a.png holds no image of a known format\)"),
    ],
)
def test_a_folder_without_an_image_is_one_sentence(tmp_path, capsys, files, reason):
    (tmp_path / "x").mkdir()
    for name, data in files.items():
        (tmp_path / "x" / name).write_bytes(data)
    assert re.search(reason, refused(capsys, "inspect", "x"))


def test_names_of_files_do_not_control_the_terminal(tmp_path, capsys):
    name = "a\x1b[31m"
    for i in range(2):
        picture(tmp_path / name / f"{name}{i}.png", 0)
    (tmp_path / name / f"{name}.png").write_text("x")
    main(["inspect", name])
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert said.count(r"a\x1b[31m") == 6
    assert r"a\x1b[31m/x does not exist" in refused(capsys, "inspect", f"{name}/x")
    with pytest.warns(Notice, match=r"a\\x1b\[31m"):
        open_images(name)


def test_help_imports_no_torch():
    code = (
        "import sys\nfrom ddim.cli import main\n"
        "try: main(['inspect', '--help'])\nfinally: assert not {'torch', 'PIL'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "ddim inspect photos/ --image-size 64" in done.stdout


@pytest.mark.slow
def test_a_notice_is_one_line_on_the_command_line(zoo):
    code = (
        "from ddim.cli import main\nimport ddim.cli.inspect as command\n"
        "command.Inspect.run = lambda self: print(__import__('ddim').open_images('zoo'))\nmain(['inspect', 'zoo'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [line] = [line for line in done.stderr.splitlines() if "left out" in line]
    assert line.startswith("ddim: 25 of 61 files in zoo are left out: dog/bad00.jpg holds no image")
    assert "; and 20 more. See them all: ddim inspect zoo --all" in line
