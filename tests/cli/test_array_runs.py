"""A folder of arrays of many channels, from `ddim inspect` to an array of samples, and what it cannot be."""

import json

import numpy as np
import pytest
from refusal import refused

from ddim.cli import main

TRAIN = ["--network", "plain", "--size", "tiny", "--steps", "2", "--batch-size", "2", "--precision", "fp32"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a run that was trained on 5 x 12 x 8 fields, and one on 16-bit grey images of 2 classes."""
    place = tmp_path_factory.mktemp("arrays")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("DDIM_CACHE", str(place / "cache"))
        rng = np.random.default_rng(0)
        (place / "fields").mkdir()
        for i in range(24):
            np.save(place / "fields" / f"{i}.npy", rng.uniform(100, 500, (5, 12, 8)).astype(np.float32))
        images = rng.integers(0, 4096, (30, 8, 8), dtype=np.uint16)
        np.savez(place / "scans.npz", images=images, labels=np.arange(30) % 2)
        main(["train", "fields", *TRAIN])
        main(["train", "scans.npz", "--conditional", "--range", "0", "4095", *TRAIN])
        yield place


def test_inspect_tells_what_training_uses(place, capsys):
    main(["inspect", "fields"])
    said = capsys.readouterr().out
    assert "Training images: 23 of 12 × 8 pixels, 5 channels, never mirrored; held out: 1" in said
    assert "float32 in the order CHW: 100.0" in said
    assert "cropped" not in said


@pytest.mark.parametrize(
    ("run", "image", "dtype", "bounds"),
    [("fields", (5, 12, 8), np.float32, (100, 500)), ("scans", (8, 8), np.uint16, (0, 4095))],
)
def test_samples_are_written_as_the_arrays_were(place, run, image, dtype, bounds):
    main(["sample", f"runs/{run}", "--count", "3", "--steps", "1", "--out", f"{run}-drawn.npz"])
    with np.load(place / f"{run}-drawn.npz") as file:
        samples, settings = file["arr_0"], json.loads(str(file["settings"]))
    assert (samples.shape, samples.dtype) == ((3, *image), dtype)
    assert bounds[0] <= samples.min() < samples.max() <= bounds[1]
    config = json.loads((place / "runs" / run / "config.json").read_text())
    assert config["values"] == settings["values"]
    assert config["values"]["range"] == pytest.approx(bounds, abs=2)
    assert config["data"]["place"] == str(place / ("fields" if run == "fields" else "scans.npz"))


def test_samples_of_grey_scans_are_pictures_too_and_can_be_learned_from(place):
    main(["sample", "runs/scans", "--count", "4", "--steps", "1", "--out", "grid.png"])
    main(["sample", "runs/scans", "--count", "8", "--steps", "1", "--out", "drawn.npz"])
    main(["inspect", "drawn.npz"])
    assert (place / "grid.png").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["sample", "runs/fields"], "draws images of 5 channels, and pictures have 1 or 3; name a .npy or .npz file"),
        (["sample", "runs/fields", "--out", "folder"], "draws images of 5 channels, and pictures have 1 or 3"),
        (["evaluate", "runs/fields"], "not of 5 × 12 × 8; no metric here compares images of so many channels"),
        (
            ["train", "fields", "--image-size", "8x"],
            "image_size must be from 1 to 1024 pixels, or a height and a width",
        ),
        (["train", "fields", "--out", "new", "--range", "0", "1"], "not all in the range from 0 to 1"),
        (["train", "absent.npz"], "no data set called 'absent.npz'"),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(place, capsys, words, sentence):
    assert sentence in refused(capsys, *words)
    assert not (place / "new").exists()


def test_a_run_of_arrays_is_resumed_and_reported(place, capsys):
    main(["train", "runs/fields", "--resume", "--steps", "3"])
    main(["report", "runs/fields", "--minutes", "0.01"])
    assert (place / "runs" / "fields" / "report.html").exists()


def test_a_folder_of_pictures_trains_at_a_height_and_a_width(place):
    from PIL import Image

    (place / "photos").mkdir()
    for i in range(6):
        Image.fromarray(np.full((20, 30, 3), (40 * i, 0, 90), np.uint8)).save(place / "photos" / f"{i}.png")
    main(["train", "photos", "--image-size", "8x12", "--crop", "fit", *TRAIN])
    config = json.loads((place / "runs" / "photos" / "config.json").read_text())
    assert config["shape"] == [3, 8, 12]
    assert config["recipe"]["image_size"] == "8x12"
    assert "values" not in config
