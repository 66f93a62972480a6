"""`ddim evaluate` and `ddim compare` as a user meets them."""

import json
import os
import shutil
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from refusal import refused

import ddim
from ddim import experiments, model_io, nets, report, schedule
from ddim.cli import main
from ddim.data import to_uint8
from ddim.denoiser import Denoiser
from ddim.errors import Notice
from ddim.evaluate import Evaluation
from ddim.experiments import compare
from ddim.files import write_text
from ddim.pictures import write_each
from ddim.run_folder import read
from ddim.sampling import Sampling
from ddim.train import recipe as recipes


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path):
    monkeypatch.setenv("DDIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that was hardly trained, on digits with classes, and draws in two steps."""
    torch.manual_seed(0)
    recipe = replace(recipes.shipped("digits"), conditional=True)
    model = Denoiser(
        nets.build("unet", 1, "tiny", 10), schedule.linear(), "eps", (1, 8, 8), 10, sampling=Sampling(steps=2)
    )
    folder = tmp_path_factory.mktemp("runs") / "mine"
    model_io.save(model, folder, recipe=asdict(recipe))
    return folder


def digits(folder, rows, change=lambda x: x):
    """A folder of some of the digits to train on."""
    images = ddim.open_images("digits").batch(torch.tensor(rows))[0]
    write_each(to_uint8(change(images)), folder)
    return str(folder)


def test_a_run(run, capsys):
    main(["evaluate", str(run), "--count", "40", "--device", "cpu"])
    said = capsys.readouterr().out
    facts = json.loads((run / "evaluate" / "evaluation.json").read_text())
    assert facts["weights"] == model_io.fingerprint(run)
    assert facts["sampling"] == "unipc, log-snr, 2 steps"
    assert facts["reference"] == {"name": "digits", "split": "test", "images": 297, "shape": [1, 8, 8]}
    found = Evaluation.from_dict(facts)
    assert (found.extractor, found.count, found.reference_count) == ("digits", 40, 297)
    assert found.metrics["frechet"].value > found.metrics["frechet"].floor_high
    assert found.metrics["accuracy"].value < found.metrics["accuracy"].floor_low
    assert "40 samples against 297 real images, extractor digits" in said
    copied = json.loads((run / "evaluate" / "memorisation.json").read_text())
    assert (copied["count"], copied["train_count"], copied["held_out_count"]) == (40, 1500, 297)
    with Image.open(run / "evaluate" / "memorisation.png") as picture:
        assert picture.height > 2 * picture.width
    assert str(run / "evaluate" / "evaluation.json") in said


@pytest.mark.parametrize("words", [[], ["--out", "copy"]])
def test_what_a_reproduction_found_stays(run, words, capsys):
    """It is of other samples, under the same names."""
    folder = Path(shutil.copytree(run, "copy"))
    kept = [folder / f"results/{name}.json" for name in ("evaluation", "memorisation")]
    for path in kept:
        write_text(path, "of a reproduction")
    main(["evaluate", "./copy", "--count", "40", "--device", "cpu", *words])
    assert [path.read_text() for path in kept] == ["of a reproduction"] * 2


def test_how_samples_are_drawn_reaches_the_model(run, capsys):
    words = ["--count", "40", "--steps", "3", "--eta", "0.5", "--spacing", "linear", "--guidance", "2"]
    main(["evaluate", str(run), *words, "--split", "train", "--out", "elsewhere"])
    facts = json.loads(Path("elsewhere/evaluation.json").read_text())
    assert facts["sampling"] == "ddim, linear, 3 steps, eta = 0.5, guidance 2"
    assert facts["reference"]["split"] == "train"
    main(["evaluate", str(run), *words, "--split", "train", "--out", "again"])
    assert json.loads(Path("again/evaluation.json").read_text()) == facts


def uneven(folder):
    """A folder of 130 zeros and 13 ones."""
    digit = ddim.open_images("digits")
    for k, count in ((0, 130), (1, 13)):
        digits(folder / str(k), (digit.labels == k).nonzero().flatten()[:count].tolist())
    return folder


def labels_asked(monkeypatch):
    """The labels of each call of `Denoiser.sample` from now on."""
    asked, sample = [], Denoiser.sample

    def record(*arguments, labels, **options):
        asked.append(labels)
        return sample(*arguments, labels=labels, **options)

    monkeypatch.setattr(Denoiser, "sample", record)
    return asked


def test_classes_are_drawn_as_often_as_in_the_reference(tmp_path, monkeypatch, capsys):
    """If the classes came in turn, rare ones would have too many samples, far from the real images."""
    model = Denoiser(
        nets.build("plain", 1, "tiny", 2), schedule.linear(), "eps", (1, 8, 8), 2, sampling=Sampling(steps=2)
    )
    data = {"classes": ["0", "1"]}
    model_io.save(model, tmp_path / "mine", recipe={"data": str(uneven(tmp_path / "pets"))}, data=data)
    asked = labels_asked(monkeypatch)
    for words in (["evaluate", "./mine"], ["evaluate", "./mine", "--against", str(tmp_path / "pets")]):
        main([*words, "--count", "66", "--device", "cpu"])
        assert asked.pop().bincount().tolist() == [60, 6]
        said = "Classes are drawn as often as in the reference."
        assert said in capsys.readouterr().out
    assert json.loads(Path("mine/evaluate/evaluation.json").read_text())["classes"] == "as often as in the reference"
    other = digits(tmp_path / "other", range(200))  # without these classes
    main(["evaluate", "./mine", "--against", other, "--count", "66", "--device", "cpu"])
    assert asked.pop().bincount().tolist() == [60, 6]
    assert "Classes are drawn as often as in the training images." in capsys.readouterr().out
    shutil.rmtree(tmp_path / "pets")
    main(["evaluate", "./mine", "--against", other, "--count", "66", "--device", "cpu"])
    assert asked.pop() is None
    assert "Classes are drawn all in turn." in capsys.readouterr().out


def test_a_comparison_draws_classes_as_often_too(tmp_path, monkeypatch, capsys):
    model = Denoiser(nets.build("plain", 1, "tiny", 2), schedule.linear(), "eps", (1, 8, 8), 2)
    data = {"data": str(uneven(tmp_path / "pets"))}
    model_io.save(model, tmp_path / "mine", recipe=data, data={"classes": ["0", "1"]})
    asked = labels_asked(monkeypatch)
    main(["compare", "./mine", "--count", "66", "--steps", "1", "--device", "cpu"])
    assert asked.pop().bincount().tolist() == [60, 6]
    assert "Classes of ./mine are drawn as often as in the reference." in capsys.readouterr().out
    facts = json.loads(Path("compare/compare.json").read_text())["subjects"]["./mine"]
    assert facts["classes"] == "as often as in the reference"


def colours(folder, *sizes):
    """A folder of pictures of random colours, by their widths and heights."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    for i, (width, height) in enumerate(sizes):
        pixels = torch.randint(256, (height, width, 3), generator=generator).to(torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / f"{i:03}.png")
    return str(folder)


def test_a_folder_of_another_size_is_refused(tmp_path, capsys):
    """Cropping and resizing its images to the size of the real ones would change what is measured."""
    real = colours(tmp_path / "real", *[(16, 16)] * 60)
    for size, said in (
        ((48, 16), "are 3 × 16 × 48, the real ones 3 × 16 × 16; bring them to that size first"),
        ((32, 32), "are 3 × 32 × 32, the real ones 3 × 16 × 16; bring them to that size first"),
    ):
        made = colours(tmp_path / "made", *[size] * 60)
        assert f"The images in {made} {said}" in refused(capsys, "evaluate", made, "--against", real)
        shutil.rmtree(made)
    mixed = colours(tmp_path / "mixed", *[(16, 16), (16, 48)] * 30)
    said = refused(capsys, "evaluate", mixed, "--against", real)
    assert "have 2 sizes, from 16 × 16 to 48 × 16 pixels; bring them to one size first" in said


def test_photographs_are_brought_to_the_size_of_generated_images(tmp_path, capsys):
    """The generated images keep their pixels, and a notice names the size."""
    photos = colours(tmp_path / "photos", *[(20, 30), (50, 40)] * 30)
    for name, width, height in (("made", 16, 16), ("wide", 24, 16)):
        made = colours(tmp_path / name, *[(width, height)] * 60)
        with pytest.warns(Notice, match=f"The images in {photos} are brought to {height} × {width} pixels"):
            main(["evaluate", made, "--against", photos])
        shape = json.loads(Path(f"evaluate/{name}/evaluation.json").read_text())["reference"]["shape"]
        assert shape == [3, height, width]
    other = colours(tmp_path / "other", *[(24, 16)] * 70)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*are brought to")
        main(["evaluate", made, "--against", other])


def test_a_small_data_set_is_evaluated_and_its_report_shows_the_result(tmp_path, capsys):
    """6 of 120 photographs are held out, fewer than the features. The training images replace them, with a notice."""
    colours(tmp_path / "photos", *[(16, 16)] * 120)
    network = nets.build("plain", 3, "tiny", widths=(8, 16))
    model = Denoiser(network, schedule.linear(T=20), shape=(3, 16, 16), sampling=Sampling(steps=2))
    model_io.save(model, tmp_path / "mine", recipe={"data": str(tmp_path / "photos")})
    assert "6 real images to compare with are too few" in refused(capsys, "evaluate", "./mine", "--split", "test")
    assert not Path("mine/evaluate").exists()
    with pytest.warns(Notice, match="6 held-out images, too few for the 120 features of scattering"):
        main(["evaluate", "./mine", "--device", "cpu"])
    assert "`ddim report ./mine` shows them" in capsys.readouterr().out
    facts = json.loads(Path("mine/evaluate/evaluation.json").read_text())
    assert (facts["count"], facts["reference"]["split"], facts["extractor"]) == (57, "train", "scattering-small")
    record = read(Path("mine"))
    assert record.evaluated == {"evaluation", "memorisation"} == record.results.keys()
    shown = record.samples("memorisation")
    assert shown is not None
    assert shown["neighbours"].shape == (12, 3, 3, 16, 16)
    (table,) = experiments.experiments["evaluation"].tables(record.results["evaluation"])
    assert "57 samples (unipc, log-snr, 2 steps) against 114 training images" in table.note
    assert "6 held-out images, too few" in table.note
    page = report.write("mine").read_text()
    assert "ddim evaluate RUN" in page
    main(["evaluate", "./mine", "--against", str(tmp_path / "photos"), "--count", "60", "--device", "cpu"])
    assert read(Path("mine")).evaluated == {"memorisation"}  # of the model's own data, as before


def test_two_folders_of_one_name_have_two_results(tmp_path, capsys):
    for place in ("a", "b", "../" + tmp_path.name + "-else"):
        digits(tmp_path / place / "made", range(100))
        main(["evaluate", str(Path(place) / "made"), "--against", "digits"])
    found = sorted(str(path.parent.relative_to("evaluate")) for path in Path("evaluate").rglob("evaluation.json"))
    assert found[:2] == ["a/made", "b/made"]
    assert len(found) == 3
    assert found[2].startswith("made-")
    shutil.rmtree(tmp_path.parent / f"{tmp_path.name}-else")


def test_the_home_folder_in_paths(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    digits(tmp_path / "home/made", range(200))
    digits(tmp_path / "home/real", range(500, 800))
    main(["evaluate", "~/made", "--against", "~/real", "--out", "~/out"])
    assert os.listdir(tmp_path / "home/out") == ["evaluation.json"]
    main(["compare", "~/made", "--against", "~/real", "--out", "~/both"])
    assert "compare.json" in os.listdir(tmp_path / "home/both")
    assert not Path("~").exists()


def test_a_folder_of_images(tmp_path, capsys):
    folder = digits(tmp_path / "made", range(400))
    main(["evaluate", folder, "--against", "digits"])
    facts = json.loads((tmp_path / "evaluate" / "made" / "evaluation.json").read_text())
    assert facts["count"] == 400
    assert facts["metrics"]["frechet"]["value"] < 2 * facts["metrics"]["frechet"]["floor"]
    assert "weights" not in facts
    copied = json.loads((tmp_path / "evaluate" / "made" / "memorisation.json").read_text())
    assert copied["flagged"] == 400  # they are training images
    assert sorted(os.listdir(folder)) == [f"{i:06d}.png" for i in range(400)]


def test_a_folder_against_a_folder(tmp_path, capsys):
    made, real = digits(tmp_path / "made", range(200)), digits(tmp_path / "real", range(500, 1000))
    main(["evaluate", made, "--against", real, "--out", "out"])
    facts = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert (facts["count"], facts["reference_count"], facts["extractor"]) == (200, 500, "scattering")
    assert facts["floor"].startswith("20 splits of the reference, 200 against 300")
    assert os.listdir(tmp_path / "out") == ["evaluation.json"]


def test_comparing(run, tmp_path, capsys):
    real = digits(tmp_path / "real", range(300))
    grey = digits(tmp_path / "grey", range(300), lambda x: 0.7 * (x + 1) - 1)
    main(["compare", str(run), grey, real, "--count", "40", "--against", "digits", "--device", "cpu"])
    said = capsys.readouterr().out.splitlines()
    starts = [line.split("  ")[0] for line in said]
    assert starts[1:6] == ["real images", "real images", real, grey, str(run)]
    facts = json.loads((tmp_path / "compare" / "compare.json").read_text())
    assert list(facts["subjects"]) == [real, grey, str(run)]
    assert facts["subjects"][str(run)]["weights"] == model_io.fingerprint(run)
    distances = [one["metrics"]["frechet"] for one in facts["subjects"].values()]
    above = [one["value"] - one["floor"] for one in distances]
    assert above == sorted(above)
    with Image.open(tmp_path / "compare" / "compare.png") as picture:
        assert picture.size == (10 * 72 + 8, 6 * 72 + 8)


def test_a_comparison_in_a_report(run, tmp_path, capsys):
    mine = Path(shutil.copytree(run, "mine"))
    write_text(mine / "metrics.jsonl", json.dumps({"step": 30, "epoch": 1.3, "loss": 1, "held_out": 1}) + "\n")
    real = digits(tmp_path / "real", range(300))
    words = ["--count", "40", "--against", "digits", "--device", "cpu", "--report"]
    main(["compare", "./mine", real, *words])
    assert "ddim report ./mine" in capsys.readouterr().out
    record = read(mine)
    result, samples = record.results["compare"], record.samples("compare")
    assert isinstance(result, compare.Result)
    first, second = result.rows
    assert (first.name, second.name) == ("real", "./mine")  # no folders of this machine
    assert second.parameters == sum(p.numel() for p in record.model.network.parameters())
    assert first.parameters is None  # a folder of images
    assert second.images_seen == 30 * record.plan["batch_size"]
    assert samples is not None
    assert samples["images"].shape == (2, 20, 1, 8, 8)
    (table,) = experiments.experiments["compare"].tables(result)
    assert [row[0].text for row in table.rows] == ["real images", "real images", "real", "./mine"]
    assert [row[1].text for row in table.rows] == ["300", "40", "300", "40"]
    assert "frechet_low" in (mine / "results/compare.csv").read_text()
    said = refused(capsys, "compare", real, "./mine", "--against", "digits", "--report")
    assert "is not one of your runs" in said


def test_a_comparison_that_is_stopped_leaves_no_images_under_other_names(run, tmp_path, monkeypatch):
    mine = shutil.copytree(run, "mine", ignore=shutil.ignore_patterns("evaluate"))
    real = digits(tmp_path / "real", range(300))
    words = ["--count", "40", "--against", "digits", "--device", "cpu", "--report"]
    main(["compare", mine, real, *words])
    assert read(Path(mine)).results.keys() == {"compare"}

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(experiments.results, "keep", stop)
    with pytest.raises(SystemExit):
        main(["compare", mine, real, *words])
    assert read(Path(mine)).results == {}


@pytest.mark.slow
def test_few_good_images_rank_before_many_bad_ones(tmp_path, capsys):
    """Though their distance is the larger one, as that of few real images is too."""
    few = digits(tmp_path / "few", range(0, 1500, 15))
    many = digits(tmp_path / "many", range(500, 1500), lambda x: 0.93 * (x + 1) - 1)
    main(["compare", many, few, "--against", "digits"])
    found = json.loads((tmp_path / "compare" / "compare.json").read_text())["subjects"]
    assert list(found) == [few, many]
    distance = {name: one["metrics"]["frechet"]["value"] for name, one in found.items()}
    assert distance[few] > distance[many]
    said = capsys.readouterr().out
    assert "Ranked by frechet minus its floor, which is the distance of equally many real images." in said
    assert "too few real images" not in said


@pytest.mark.slow
def test_a_rank_that_is_too_good_is_told(tmp_path, capsys):
    """1,500 digits to train on make floors of 1,000 at most."""
    some, most = digits(tmp_path / "some", range(200)), digits(tmp_path / "most", range(1001))
    main(["compare", some, most, "--against", "digits"])
    assert f"too few real images for {most}: the floor is too high" in capsys.readouterr().out


def test_a_model_with_more_classes_than_its_images_is_not_sampled(tmp_path, monkeypatch, capsys):
    """Of ten digits two: what it draws for the other labels nobody can name, and nobody gave a label."""
    model = Denoiser(nets.build("plain", 1, "tiny", 10), schedule.linear(), shape=(1, 8, 8), classes=10)
    model_io.save(model, tmp_path / "mine", recipe={"data": "digits", "classes": "3,8"})
    monkeypatch.setattr(Denoiser, "sample", None)
    said = refused(capsys, "evaluate", "./mine")
    assert "./mine has 10 classes, but its training data, digits, has 2" in said
    assert "label" not in said


def test_an_extractor_that_knows_other_classes_tells_no_accuracy(tmp_path, capsys):
    for name in ("cat", "dog"):
        digits(tmp_path / "pets" / name, range(60))
    model = Denoiser(
        nets.build("plain", 1, "tiny", 2), schedule.linear(), "eps", (1, 8, 8), 2, sampling=Sampling(steps=2)
    )
    model_io.save(model, tmp_path / "mine", recipe={"data": str(tmp_path / "pets")})
    main(["evaluate", "./mine", "--split", "train", "--extractor", "digits", "--count", "40", "--device", "cpu"])
    assert "accuracy" not in json.loads((tmp_path / "mine/evaluate/evaluation.json").read_text())["metrics"]


def test_requests_that_cannot_be(run, tmp_path, capsys):
    folder = digits(tmp_path / "made", range(40))
    bare = tmp_path / "bare"
    model_io.save(ddim.load(run), bare)
    small = tmp_path / "small"
    write_each(torch.zeros(40, 1, 9, 9, dtype=torch.uint8), small)
    large = tmp_path / "large"
    model_io.save(Denoiser(nets.build("plain", 3, "tiny"), schedule.linear(), shape=(3, 8, 8)), large)
    for words, said in (
        (["evaluate", folder], "name the real images"),
        (["evaluate", "nowhere"], "no run at nowhere"),
        (["evaluate", folder, "--against", "digits", "--steps", "3"], "--steps is for samples of a model"),
        (["evaluate", folder, "--against", "nothing"], "no data set called 'nothing'"),
        (["evaluate", bare], "does not say what it was trained on"),
        (["evaluate", run, "--count", "30"], "30 samples are too few for the 32 features of digits"),
        (["evaluate", run, "--count", "0"], "0 samples are too few"),
        (["evaluate", run, "--count", "1000000000"], "at most 1,000,000 samples, got 1,000,000,000"),
        (["evaluate", run, "--extractor", "eye"], "no extractor called 'eye'"),
        (["evaluate", run, "--extractor", "mnist"], "1 × 28 × 28"),
        (
            ["evaluate", small, "--against", "digits"],
            f"in {small} are 1 × 9 × 9, the real ones 1 × 8 × 8; bring",
        ),
        (["evaluate", large, "--against", "digits"], "images of 3 × 8 × 8, and the real images are 1 × 8 × 8"),
        (["compare", run, large, "--against", "digits"], "draws images of 3 × 8 × 8"),
        (["evaluate", run, "--count", str(10**9)], "at most 1,000,000 samples"),
        (["evaluate", run, "--out", ""], "The path is empty"),
        (["compare", run, "--out", ""], "The path is empty"),
        (["evaluate", run, "--out", small / "000000.png" / "x"], "000000.png is a file; choose another folder"),
        (["evaluate", folder, "--against", small, "--split", "train"], "used whole: leave out --split"),
        (["compare", run, run], "each once"),
        (["compare", folder, f"{folder}/"], "each once"),
        (["compare"], "each once"),
    ):
        assert said in refused(capsys, *words), words
    assert not (tmp_path / "evaluate").exists()
    assert not (tmp_path / "compare").exists()
