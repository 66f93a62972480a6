"""The commands that edit images, and `ddim replay`: images in, images out, and what is refused."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from refusal import refused

from ddim import model_io, nets, schedule
from ddim.cli import main
from ddim.cli.replay import frames
from ddim.denoiser import Denoiser
from ddim.pictures import SETTINGS, png_info, read_settings, write_each


def save(folder, channels=1, classes=4):
    """A run folder of a model whose images show their class."""
    torch.manual_seed(0)
    network = nets.build("plain", channels, "tiny", classes, widths=(8, 16))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    model_io.save(Denoiser(network, schedule.linear(), shape=(channels, 8, 8), classes=classes), folder)
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the run `run`, grey images `0.png` and `1.png`, and a colour image `colour.png`."""
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "run")
    pixels = torch.randint(0, 256, (3, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    write_each(pixels[:2, :1], "grey")
    write_each(pixels[2:], "colour")
    for old, new in (("grey/000000", "0"), ("grey/000001", "1"), ("colour/000000", "colour")):
        (tmp_path / f"{old}.png").rename(f"{new}.png")
    return tmp_path


def ddim(*words):
    name, *rest = words
    device = () if name == "replay" else ("--device", "cpu")
    main([name, *map(str, rest), *device])


def array(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def settings_of(path):
    settings = read_settings(path)
    assert settings is not None
    return settings


def cell(path, column, row=0, side=8, scale=8, gap=1):
    """One image of a sheet, (8, 8)."""
    left, top = column * (side + gap) + gap, row * (side + gap) + gap
    return array(path)[::scale, ::scale][top : top + side, left : left + side]


def test_a_box_is_filled_and_the_known_pixels_stay(here, capsys):
    ddim("restore", "run", "0.png", "--box", 2, 2, 4, 4, "--steps", 2, "--count", 3)
    known = np.ones((8, 8), bool)
    known[2:6, 2:6] = False
    for column in (1, 2, 3):
        assert (cell("0-restored.png", column)[known] == array("0.png")[known]).all()
    assert (cell("0-restored.png", 0)[~known] == 128).all()  # the measurement: mid-grey where nothing is known
    settings = settings_of("0-restored.png")
    assert settings["command"]["box"] == [2, 2, 4, 4]
    assert settings["eta"] == 1.0
    assert len(settings["timesteps"]) == 3
    assert "0-restored.png shows the measurement and 3 samples" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "columns"),
    [
        ("--super-resolution 2 --simulate", 4),
        ("--blur 0.8 --noise 0.1 --simulate --method diffpir", 4),
        ("--noise 0.3 --labels 2", 3),
        ("--box 0 0 2 2 --method ddnm --resample 2 --sampler ddim", 3),
    ],
)
def test_every_kind_of_damage(here, words, columns):
    ddim("restore", "run", "0.png", *words.split(), "--steps", 2, "--count", 2, "--out", "sheet.png")
    assert array("sheet.png").shape == (8 * 10, 8 * (9 * columns + 1))


def test_a_mask_and_a_smaller_image_from_files(here):
    Image.fromarray((np.arange(64).reshape(8, 8) % 2 * 255).astype(np.uint8)).save("mask.png")
    ddim("restore", "run", "0.png", "--mask", "mask.png", "--steps", 1, "--count", 1, "--out", "a.png")
    assert (cell("a.png", 1)[:, 1::2] == array("0.png")[:, 1::2]).all()
    Image.open("0.png").resize((4, 4), Image.Resampling.BOX).save("small.png")
    ddim("restore", "run", "small.png", "--super-resolution", 2, "--steps", 1, "--count", 1, "--out", "b.png")
    assert (cell("b.png", 0)[::2, ::2] == array("small.png")).all()


def test_colour_from_grey(here):
    save(here / "colours", channels=3, classes=None)
    ddim("restore", "colours", "0.png", "--grey", "--steps", 1, "--count", 1, "--out", "a.png")
    assert array("a.png").shape[2] == 3


@pytest.mark.parametrize("exact", [True, False])
def test_codes_come_back(here, exact):
    """Exactly; or by DDIM's own steps with their error."""
    ddim("encode", "run", "0.png", "1.png", "--labels", "1,3", "--steps", 10, *["--exact"] * exact)
    ddim("decode", "run", "codes.npz", "--out", "decoded")
    off = [abs(array(f"{i}.png").astype(int) - array(f"decoded/00000{i}.png")).max() for i in (0, 1)]
    assert (max(off) == 0) == exact
    assert settings_of("decoded/000001.png")["labels"] == [1, 3]


def test_another_label_makes_another_image(here):
    ddim("encode", "run", "0.png", "--labels", 1, "--steps", 5)
    ddim("decode", "run", "codes.npz", "--labels", 2, "--out", "other.png")
    ddim("decode", "run", "codes.npz", "--out", "same.png")
    assert (array("other.png") != array("same.png")).any()


def test_lines_and_grids(here):
    ddim("interpolate", "run", "--seeds", "0,1", "--columns", 5, "--labels", 2, "--steps", 2)
    assert array("interpolation.png").shape == (8 * 10, 8 * 46)
    ddim("interpolate", "run", "--seeds", "0,1,2,3", "--columns", 3, "--rows", 2, "--steps", 2, "--out", "four.png")
    assert array("four.png").shape == (8 * 19, 8 * 28)
    ddim("interpolate", "run", "0.png", "1.png", "--columns", 4, "--steps", 2, "--out", "a.gif")
    with Image.open("a.gif") as moving:
        assert len(list(ImageSequence.Iterator(moving))) == 6  # there and back, without the ends twice
    ddim("interpolate", "run", "--seeds", "0,1,2", "--columns", 4, "--steps", 2, "--out", "tour.webp")
    with Image.open("tour.webp") as moving:
        assert len(list(ImageSequence.Iterator(moving))) == 12  # four from each of three ends to the next


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of the reader
def test_a_film_goes_there_and_back(here):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    ddim("interpolate", "run", "--seeds", "0,1", "--columns", 4, "--steps", 2, "--out", "a.png")
    ddim("interpolate", "run", "--seeds", "0,1", "--columns", 4, "--steps", 2, "--out", "a.mp4")
    about, *film = imageio_ffmpeg.read_frames("a.mp4")
    assert about["size"] == (64, 64)
    frames = [np.frombuffer(frame, np.uint8).reshape(64, 64, 3)[4::8, 4::8, 0].astype(float) for frame in film]
    images = [cell("a.png", column) for column in (0, 1, 2, 3, 2, 1)]
    assert len(frames) == len(images)
    for frame, image in zip(frames, images, strict=True):
        assert abs(frame - image).mean() < 12  # lossy


def test_a_film_needs_a_package(here, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    words = ("interpolate", "run", "--seeds", "0,1", "--columns", 2, "--steps", 1, "--out", "a.mp4", "--device", "cpu")
    assert 'pip install "ddim[video]"' in refused(capsys, *map(str, words))
    assert not (here / "a.mp4").exists()


def test_a_blend_starts_from_the_mixture(here):
    ddim("blend", "run", "0.png", "1.png", "--weight", 0.25, "--strength", 0.1, "--steps", 10, "--count", 2)
    first, second = (array(f"{i}.png").astype(float) for i in (0, 1))
    assert (cell("0-1.png", 0) == first).all()
    assert (cell("0-1.png", 1) == second).all()
    assert abs(cell("0-1.png", 2) - (0.75 * first + 0.25 * second)).max() <= 0.5
    assert (cell("0-1.png", 3) != cell("0-1.png", 4)).any()


def test_a_collage_shows_each_image_on_its_side(here):
    half = np.zeros((8, 8), np.uint8)
    half[:, 4:] = 255
    Image.fromarray(half).save("half.png")
    ddim("blend", "run", "0.png", "1.png", "--mask", "half.png", "--steps", 2, "--count", 1, "--out", "a.png")
    assert (cell("a.png", 2)[:, :4] == array("0.png")[:, :4]).all()
    assert (cell("a.png", 2)[:, 4:] == array("1.png")[:, 4:]).all()


def test_variations_start_from_the_image(here):
    ddim("vary", "run", "0.png", "--strength", 0.1, "--steps", 10, "--count", 2, "--seed", 3)
    assert (cell("0-varied.png", 0) == array("0.png")).all()
    assert (cell("0-varied.png", 1) != cell("0-varied.png", 2)).any()


GIVEN = {
    "grid": ("sample", "run", "--count", 6, "--out", "old.png"),
    "grid of labels": (
        "sample",
        "run",
        "--labels",
        "1,3",
        "--count",
        6,
        "--eta",
        0.5,
        "--steps",
        3,
        "--out",
        "old.png",
    ),
    "guided": ("sample", "run", "--count", 5, "--guidance", 2, "--guidance-interval", 0.1, "inf", "--out", "old.png"),
    "restored": ("restore", "run", "0.png", "--box", 1, 1, 3, 3, "--steps", 2, "--out", "old.png"),
    "varied": ("vary", "run", "0.png", "--steps", 4, "--count", 2, "--out", "old.png"),
    "interpolated": ("interpolate", "run", "0.png", "1.png", "--steps", 3, "--out", "old.png"),
    "blended": ("blend", "run", "0.png", "1.png", "--weight", 0.3, "--steps", 3, "--count", 1, "--out", "old.png"),
    "GIF": ("interpolate", "run", "--seeds", "0,1", "--columns", 3, "--steps", 2, "--out", "old.gif"),
    "WebP": ("interpolate", "run", "--seeds", "0,1", "--columns", 3, "--steps", 2, "--out", "old.webp"),
}


@pytest.mark.parametrize("words", GIVEN.values(), ids=list(GIVEN))
def test_a_picture_is_made_again_bit_for_bit(here, capsys, words):
    ddim(*words)
    old = words[-1]
    new = old.replace("old", "new")
    ddim("replay", old, "--model", "run", "--out", new)
    assert (frames(new) == frames(old)).all()
    assert len(frames(old)) == (1 if old.endswith(".png") else 4)
    assert "bit for bit" in capsys.readouterr().out
    assert {**settings_of(new), "command": 0} == {**settings_of(old), "command": 0}


def test_one_of_many_images_is_made_again_in_its_batch(here, capsys):
    ddim("sample", "run", "--count", 7, "--batch-size", 3, "--labels", "1,2,3,0,1,2,3", "--first", 5, "--out", "many")
    ddim("replay", "many/000009.png", "--model", "run", "--out", "new.png")
    assert (array("new.png") == array("many/000009.png")).all()
    settings = settings_of("new.png")
    assert settings["batch"] == {"first": 8, "count": 3, "labels": [0, 1, 2]}
    ddim("encode", "run", "0.png", "1.png", "--exact", "--steps", 4)
    ddim("decode", "run", "codes.npz", "--out", "decoded")
    ddim("replay", "decoded/000001.png", "--model", "run", "--out", "again.png")
    assert (array("again.png") == array("1.png")).all()


def test_the_run_is_found_by_its_name(here):
    (here / "runs").mkdir()
    (here / "run").rename(here / "runs/run")
    ddim("sample", "runs/run", "--count", 1, "--steps", 1, "--out", "old.png")
    ddim("replay", "old.png")
    assert (array("old-replayed.png") == array("old.png")).all()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("restore run 0.png", "Say how the image is damaged"),
        ("restore run 0.png --blur 1 --super-resolution 2", "--super-resolution and --blur each describe the damage"),
        ("restore run missing.png --blur 1", "Could not read missing.png"),
        ("restore run run/config.json --blur 1", "holds no image that can be read"),
        ("restore run large.png --blur 1", "The measurement has 8 × 8 pixels, and large.png has 9 × 8"),
        ("restore run colour.png --blur 1", "is grey, and colour.png is in colour"),
        ("restore run 0.png --super-resolution 2", "The measurement has 4 × 4 pixels"),
        ("restore run 0.png --super-resolution 3", "sides that 3 divides"),
        ("restore run 0.png --mask large.png", "The mask large.png has 9 × 8 pixels"),
        ("restore run 0.png --mask 1.png", "has grey pixels"),
        ("restore run 0.png --grey", "3 channels"),
        ("restore run 0.png --box 2 2 7 1", "The height of a box"),
        ("restore run 0.png --blur 1 --labels 4", "classes from 0 to 3"),
        ("restore run 0.png --blur 1 --labels 1,2", "one class, or one for each of the 1 images"),
        ("restore run 0.png --blur 1 --method pigmd", "did you mean 'pigdm'"),
        ("restore run 0.png --blur 1 --resample 3", "for a mask"),
        ("restore run 0.png --blur 1 --out a.jpg", "ends in .png"),
        ("restore run 0.png --blur 1 --noise -1", "--noise"),
        ("encode run", "at least one image"),
        ("encode run 0.png --eta 0.5", "injects noise and cannot be inverted"),
        ("encode run 0.png --sampler ddpm", "cannot be inverted"),
        ("encode run 0.png --exact --refine 2", "give one"),
        ("encode run 0.png --exact --sampler unipc", "no other sampler"),
        ("encode run 0.png --labels 7", "classes from 0 to 3"),
        ("encode run 0.png --out codes.png", ".npz"),
        ("decode run 0.png", "holds no codes"),
        ("decode run missing.npz", "Could not read missing.npz"),
        ("decode run missing.npz --steps 3", "is that of the encoding"),
        ("interpolate run 0.png", "a moving picture between two or more; got 1"),
        ("interpolate run --seeds 0,1,2", "two ends or four corners"),
        ("interpolate run", "two or more images"),
        ("interpolate run 0.png 1.png --seeds 1,2", "one of the two"),
        ("interpolate run --seeds 0,1 --rows 3", "--rows is for a grid"),
        ("interpolate run --seeds 0,1,2,3 --rows 3 --out a.gif", "--rows is for a grid"),
        ("interpolate run --seeds 0,1 --eta 1", "neighbours differ at random"),
        ("interpolate run --seeds 0,a", "whole numbers"),
        ("vary run 0.png --strength 0", "changes nothing"),
        ("vary run 0.png --strength 1.5", "at most 1"),
        ("vary run large.png", "large.png has 9 × 8"),
        ("vary run 0.png --labels 4", "classes from 0 to 3"),
        ("blend run 0.png large.png", "large.png has 9 × 8"),
        ("blend run 0.png colour.png", "is grey, and colour.png is in colour"),
        ("blend run 0.png 1.png --weight 1.5", "The weight of a blend"),
        ("blend run 0.png 1.png --weight 0.2 --mask large.png", "give one of them"),
        ("blend run 0.png 1.png --mask large.png", "The mask large.png has 9 × 8 pixels"),
        ("interpolate run --seeds 0,1 --out a.avi", ".gif, .webp or .mp4 file"),
        ("replay missing.png", "There is no file missing.png"),
        ("replay 0.png", "does not say how it was made"),
        ("replay 0.gif", "does not say how it was made"),
        ("replay 0.gif --out a.png", "is a .gif file"),
        ("replay 0.mp4", "loses detail"),
    ],
)
def test_bad_input_is_met_with_a_sentence(here, capsys, words, said):
    Image.new("L", (8, 9)).save("large.png")
    Image.new("L", (8, 8)).save("0.gif")
    before = sorted(path.name for path in here.iterdir())
    assert said in refused(capsys, *words.split(), *([] if words.startswith("replay") else ["--device", "cpu"]))
    assert sorted(path.name for path in here.iterdir()) == before


def test_codes_of_another_model_are_refused(here, capsys):
    ddim("encode", "run", "0.png", "--steps", 2)
    save(here / "other", classes=3)
    assert "encoded by another model than other" in refused(capsys, "decode", "other", "codes.npz")


def test_what_cannot_be_replayed_is_refused(here, capsys):
    ddim("sample", "run", "--count", 2, "--steps", 1, "--out", "old.png")
    assert "a model 'run', which is not here" in refused(capsys, "replay", "old.png")
    save(here / "other", classes=3)
    assert "made by other weights than those in other" in refused(capsys, "replay", "old.png", "--model", "other")
    settings = settings_of("old.png")
    with Image.open("old.png") as picture:
        picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(
            "edited.png", pnginfo=png_info({SETTINGS: json.dumps(settings)})
        )
        settings.pop("batch_size")
        picture.save("older.png", pnginfo=png_info({SETTINGS: json.dumps(settings)}))
    assert "differs from edited.png" in refused(capsys, "replay", "edited.png", "--model", "run")
    assert "are not complete" in refused(capsys, "replay", "older.png", "--model", "run")
    ddim("vary", "run", "0.png", "--steps", 2, "--count", 1, "--out", "varied.png")
    (here / "1.png").replace("0.png")
    assert "0.png, which has changed" in refused(capsys, "replay", "varied.png", "--model", "run")
    (here / "0.png").unlink()
    assert "0.png, which is not there" in refused(capsys, "replay", "varied.png", "--model", "run")
