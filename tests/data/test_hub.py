"""Data sets of the hub, here from local files in its formats, which `datasets` itself has written."""

import builtins
import io

import numpy as np
import pytest
import torch
from PIL import Image

from ddim.data import decode, hub, open_images
from ddim.errors import Notice, UserError

datasets = pytest.importorskip("datasets")
pyarrow = pytest.importorskip("pyarrow")


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    """What `datasets` keeps goes where the test's files are, and it draws no bars."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.setattr(datasets.config, "HF_CACHE_HOME", str(tmp_path / "hf"))
    datasets.disable_progress_bars()


def noise(seed, size=(8, 8)):
    return np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def write(folder, count, label, values, *, first=0, split="train", column="image", images=None):
    """A parquet file as the hub holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = {column: images or [png(noise(first + i)) for i in range(count)]}
    features = {column: datasets.Image(decode=False)}
    if label is not None:
        columns["label"], features["label"] = values, label
    datasets.Dataset.from_dict(columns, datasets.Features(features)).cast_column(column, datasets.Image()).to_parquet(
        folder / f"{split}-00000-of-00001.parquet"
    )


def test_parquet_with_named_classes_and_splits(tmp_path):
    label = datasets.ClassLabel(names=["zebra", "ant", "nobody"])
    write(tmp_path / "set", 6, label, [0, 1, 1, 0, 1, 1])
    write(tmp_path / "set", 2, label, [1, 0], first=50, split="test")
    train, test = (open_images(f"hf:{tmp_path}/set", split=split) for split in ("train", "test"))
    assert train.classes == test.classes == ("zebra", "ant")  # in the set's own order, those that have images
    assert (train.name, train.shape, train.mirror) == ("set", (3, 8, 8), True)
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 1, 1, 0, 1, 1], [1, 0])
    for i in range(6):
        assert torch.equal(train.pixels[i], torch.from_numpy(noise(i).transpose(2, 0, 1).copy()))
    assert torch.equal(test.pixels[1], torch.from_numpy(noise(51).transpose(2, 0, 1).copy()))
    ants = open_images(f"hf:{tmp_path}/set", classes="ant", size=4)
    assert (ants.classes, len(ants), ants.shape) == (("ant",), 4, (3, 4, 4))


def test_the_second_opening_decodes_nothing_and_a_changed_set_is_decoded(tmp_path, monkeypatch):
    write(tmp_path / "set", 6, None, None)
    first = open_images(f"hf:{tmp_path}/set").pixels.clone()
    with monkeypatch.context() as patch:
        patch.setattr(decode, "decode", lambda *_: 1 / 0)
        assert torch.equal(open_images(f"hf:{tmp_path}/set").pixels, first)
    write(tmp_path / "set", 6, None, None, first=70)
    assert not torch.equal(open_images(f"hf:{tmp_path}/set").pixels, first)


def test_without_a_test_split_some_are_held_out(tmp_path):
    write(tmp_path / "set", 40, datasets.Value("string"), ["b", "a"] * 20, column="img")
    train, test = (open_images(f"hf:{tmp_path}/set", split=split) for split in ("train", "test"))
    assert (len(train), len(test), train.classes) == (38, 2, ("a", "b"))


def test_an_image_folder_is_read_through_datasets_too(tmp_path):
    for name in ("cat", "dog"):
        for i in range(3):
            path = tmp_path / "set" / "train" / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise(i + 10 * (name == "dog"))).save(path)
    images = open_images(f"hf:{tmp_path}/set", split="train")
    assert images.classes == ("cat", "dog")
    assert len(images) + len(open_images(f"hf:{tmp_path}/set", split="test")) == 6


def test_rows_that_cannot_be_used_are_left_out_with_a_reason(tmp_path):
    label = datasets.ClassLabel(names=["a", "b"])
    files = [png(noise(0)), {"bytes": b"broken", "path": None}, png(noise(2)), None, png(noise(4))]
    write(tmp_path / "set", 5, label, [0, 0, -1, 1, 1], images=files)
    reasons = r"train/1 holds no image of a known format; train/2 has no label; train/3 holds no image\."
    with pytest.warns(Notice, match=f"3 of 5 files in .* are left out: {reasons}"):
        images = open_images(f"hf:{tmp_path}/set")
    assert images.classes == ("a", "b")


def test_a_label_beyond_the_names_is_no_label(tmp_path):
    """As parquet files of strangers have them: `datasets` itself writes none."""
    write(tmp_path / "set", 4, datasets.ClassLabel(names=["a", "b", "c"]), [0, 1, 2, 1])
    [file] = (tmp_path / "set").iterdir()
    table = pyarrow.parquet.read_table(file)
    fewer = table.schema.metadata[b"huggingface"].replace(b'["a", "b", "c"]', b'["a", "b"]')
    assert fewer != table.schema.metadata[b"huggingface"]
    pyarrow.parquet.write_table(table.replace_schema_metadata({b"huggingface": fewer}), file)
    with pytest.warns(Notice, match="1 of 4 files in .* is left out: train/2 has no label"):
        assert open_images(f"hf:{tmp_path}/set").classes == ("a", "b")


def test_an_image_that_is_a_device_is_left_out(tmp_path):
    """It would be read without an end."""
    images = [png(noise(0)), {"bytes": None, "path": "/dev/zero"}, png(noise(2))]
    write(tmp_path / "set", 3, None, None, images=images)
    with pytest.warns(Notice, match=r"train/1 is at /dev/zero, which is not a file"):
        assert len(open_images(f"hf:{tmp_path}/set")) == 1


def test_a_set_without_images_is_refused(tmp_path):
    (tmp_path / "set").mkdir()
    datasets.Dataset.from_dict({"text": ["x"], "label": [0]}).to_parquet(tmp_path / "set" / "train.parquet")
    with pytest.raises(UserError, match=r"no column of images \(it has text, label\)"):
        open_images(f"hf:{tmp_path}/set")


def test_a_program_is_never_run(tmp_path):
    (tmp_path / "set").mkdir()
    proof = tmp_path / "it-ran"
    (tmp_path / "set" / "set.py").write_text(f"open({str(proof)!r}, 'w')\n")
    with pytest.raises(UserError, match="cannot be loaded"):
        open_images(f"hf:{tmp_path}/set")
    with pytest.raises(UserError, match="cannot be loaded"):
        open_images(f"hf:{tmp_path}/set/set.py")
    assert not proof.exists()


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("user/name", ("user/name", None)),
        ("user/name#small", ("user/name", "small")),
        ("hf:user/name", ("user/name", None)),
        ("hf:mnist", ("mnist", None)),
    ],
)
def test_an_id_goes_to_the_hub(name, asked, monkeypatch):
    def load_dataset(*arguments, **options):
        assert not options.get("trust_remote_code")
        raise ConnectionError(f"asked for {arguments}")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(UserError) as refusal:
        open_images(name)
    assert f"ConnectionError: asked for {asked}" in str(refusal.value)


@pytest.mark.parametrize(
    "path", ["./user/name", "/user/name", "a/b/c", "../name", "~/photos", "user/", "a b/c", "-x/y"]
)
def test_what_is_no_id_is_taken_for_a_path(path, monkeypatch):
    assert not hub.plausible(path)
    with pytest.raises(UserError, match="does not exist; give the path of a folder"):
        open_images(path)


def test_an_existing_folder_goes_before_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "user" / "name").mkdir(parents=True)
    for i in range(2):
        Image.fromarray(noise(i)).save(tmp_path / "user" / "name" / f"{i}.png")
    assert len(open_images("user/name")) == 1


def test_without_the_extra_the_remedy_is_named(monkeypatch):
    real = builtins.__import__

    def refuse(name, *arguments):
        if name == "datasets":
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UserError, match=r'pip install "ddim\[hub\]"'):
        open_images("user/name")
