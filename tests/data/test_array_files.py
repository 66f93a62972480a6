"""Arrays from the disk: every number, the splits, the classes, and one sentence for what is no image."""

import os
import pickle

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from ddim import open_images
from ddim.data import arrays
from ddim.errors import Notice, UserError

DTYPES = ["uint8", "int8", "uint16", "int16", "float16", "float32", "float64"]


def fields(count=40, shape=(12, 6, 5), dtype="float32", seed=0):
    return np.abs(np.random.default_rng(seed).normal(size=(count, *shape)) * 20 + 60).astype(dtype)


def folder(root, images, write=np.save, suffix=".npy"):
    root.mkdir(parents=True)
    for i, image in enumerate(images):
        write(root / f"{i:03d}{suffix}", image)
    return root


def rows(images):
    """The images as bytes, in an order of their own."""
    return sorted(image.numpy().tobytes() for image in images.pixels)


@pytest.mark.parametrize("kind", ["npy", "npz", "folder"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_both_splits_hold_every_number_once(tmp_path, kind, dtype):
    given = fields(dtype=dtype)
    path = tmp_path / f"x.{kind}" if kind != "folder" else folder(tmp_path / "x", given)
    if kind == "npy":
        np.save(path, given)
    if kind == "npz":
        np.savez_compressed(path, images=given)
    train, test = (open_images(path, split=split) for split in ("train", "test"))
    assert (len(train), len(test)) == (38, 2)
    assert train.shape == (12, 6, 5)
    assert sorted(rows(train) + rows(test)) == sorted(image.tobytes() for image in given)
    assert train.values == test.values
    assert train.values is not None
    assert train.values.dtype == dtype
    assert not train.mirror
    x0, _ = train.batch(torch.arange(len(train)))
    assert x0.abs().max() <= 1
    assert np.allclose(
        train.values.restore(x0), train.pixels.numpy(), rtol=0, atol=1e-3 if dtype == "float16" else 1e-4
    )


@pytest.mark.parametrize(
    ("shape", "found", "layout"),
    [((8, 6), (1, 8, 6), "HW"), ((8, 6, 3), (3, 8, 6), "HWC"), ((4, 32, 32), (4, 32, 32), "CHW")],
)
def test_the_axes_may_be_in_three_orders(tmp_path, shape, found, layout):
    given = fields(3, shape)
    np.save(tmp_path / "x.npy", given)
    images = open_images(tmp_path / "x.npy")
    assert (images.shape, images.values.layout) == (found, layout)
    back = images.values.restore(images.batch(torch.arange(2))[0])
    assert all(any(np.allclose(one, other, atol=1e-4) for other in given) for one in back)


def test_big_endian_and_fortran_ordered_arrays_hold_the_same_numbers(tmp_path):
    given = fields(4)
    for name, other in (("a", given), ("b", given.astype(">f4")), ("c", np.asfortranarray(given))):
        np.save(tmp_path / f"{name}.npy", other)
    both = ("train", "test")
    first, *others = (
        sorted(image for split in both for image in rows(open_images(tmp_path / f"{name}.npy", split=split)))
        for name in "abc"
    )
    assert others == [first, first]


def test_labels_and_their_names_make_classes(tmp_path):
    given, labels = fields(60, (2, 5, 5)), np.arange(60) % 3
    np.savez(tmp_path / "x.npz", arr_0=given, arr_1=10 * labels)
    images = open_images(tmp_path / "x.npz", classes="20,0")
    assert images.classes == ("20", "0")
    chosen = {image.tobytes(): int(label) for image, label in zip(given, labels, strict=True)}
    assert [chosen[image.numpy().tobytes()] for image in images.pixels] == [2 - 2 * label for label in images.labels]
    np.savez(tmp_path / "named.npz", images=given, labels=labels, classes=["cat", "dog", "emu"])
    assert open_images(tmp_path / "named.npz").classes == ("cat", "dog", "emu")


def test_the_folders_of_a_folder_are_classes_and_splits_as_of_pictures(tmp_path):
    for split in ("train", "test"):
        for name in ("calm", "storm"):
            folder(tmp_path / "sea" / split / name, fields(3, seed=len(split + name)))
    train, test = (open_images(tmp_path / "sea", split=split) for split in ("train", "test"))
    assert (len(train), len(test), train.classes) == (6, 6, ("calm", "storm"))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_the_pages_of_a_tiff_are_channels(tmp_path, dtype):
    given = fields(4, (5, 8, 7), dtype)
    root = folder(
        tmp_path / "x", given, lambda path, image: tifffile.imwrite(path, image, photometric="minisblack"), ".tif"
    )
    images = open_images(root)
    assert images.shape == (5, 8, 7)
    assert images.pixels.dtype == getattr(torch, dtype)
    assert set(rows(images)) < {image.tobytes() for image in given}


def test_tiffs_of_16_bits_keep_them_and_those_of_8_are_pictures(tmp_path):
    for dtype, kind in (("uint16", True), ("uint8", False)):
        root = folder(
            tmp_path / dtype, fields(3, (8, 8), dtype), lambda path, image: Image.fromarray(image).save(path), ".tif"
        )
        assert (open_images(root).values is not None) == kind


def test_arrays_beside_pictures_are_ignored(tmp_path):
    root = folder(
        tmp_path / "x", fields(3, (8, 8), "uint8"), lambda path, image: Image.fromarray(image).save(path), ".png"
    )
    np.save(root / "embedding.npy", np.zeros(3))
    assert open_images(root).values is None


def test_a_size_resizes_arrays_in_their_type_and_within_their_numbers(tmp_path):
    given = fields(6, (2, 9, 12), "uint16")
    np.save(tmp_path / "x.npy", given)
    images = open_images(tmp_path / "x.npy", size="6x8")
    assert images.shape == (2, 6, 8)
    assert images.pixels.dtype == torch.uint16
    assert given.min() <= images.pixels.int().min() <= images.pixels.int().max() <= given.max()


def test_a_range_may_be_given_and_must_hold_all_numbers(tmp_path):
    np.save(tmp_path / "x.npy", fields(6, dtype="uint16"))
    assert open_images(tmp_path / "x.npy", range=(0, 4095)).values.range == (0, 4095)
    with pytest.raises(UserError, match="not all in the range from 0 to 10; choose a range that holds them"):
        open_images(tmp_path / "x.npy", range=(0, 10))


def nan(images):
    images[3, 0, 2, 1] = np.nan
    return images


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (nan(fields()), r"x.npy\[3\] holds numbers that are NaN or infinite"),
        (np.full((9, 1, 4, 4), 2.5), "All numbers of .*x.npy are 2.5, a range of zero"),
        (np.zeros((4, 5)), r"has the shape \(4, 5\); images are an array \(N, C, H, W\)"),
        (np.zeros((2, 3, 4, 5, 6)), r"has the shape \(2, 3, 4, 5, 6\)"),
        (np.zeros((0, 1, 4, 4)), r"has the shape \(0, 1, 4, 4\)"),
        (np.zeros((2, 65, 8, 8)), "read as 65 channels"),
        (np.zeros((2, 1, 8, 8), complex), "type complex128, and these are read: uint8, "),
        (np.zeros((2, 1, 8, 8), np.int64), "type int64"),
        (np.array([{}]), "x.npy is not a file of arrays that NumPy reads .* without objects"),
    ],
)
def test_an_array_that_is_no_set_of_images_is_refused_in_one_sentence(tmp_path, given, reason):
    np.save(tmp_path / "x.npy", given, allow_pickle=True)
    with pytest.raises(UserError, match=reason) as refusal:
        open_images(tmp_path / "x.npy")
    assert "\n" not in str(refusal.value)


def test_files_of_several_shapes_or_types_are_refused_by_their_names(tmp_path):
    root = folder(tmp_path / "x", [*fields(2), fields(1, (12, 6, 6))[0]])
    with pytest.raises(
        UserError, match=r"000.npy is float32 of 12 × 6 × 5, and 002.npy is float32 of 12 × 6 × 6; .*--image"
    ):
        open_images(root)
    assert open_images(root, size=4).shape == (12, 4, 4)
    np.save(root / "002.npy", fields(1, dtype="float64")[0])
    with pytest.raises(UserError, match=r"and 002\.npy is float64 of"):
        open_images(root)


def test_a_broken_file_of_a_folder_is_left_out_and_named(tmp_path):
    root = folder(tmp_path / "x", fields(5))
    (root / "004.npy").write_bytes((root / "004.npy").read_bytes()[:100])
    with pytest.warns(Notice, match=r"1 of 5 files in .* 004.npy cannot be read as an array"):
        assert len(open_images(root)) == 3


class Touch:
    """What a pickle would execute."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_nothing_in_a_file_is_executed(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    if suffix == ".npy":
        np.save(path, np.array([Touch(tmp_path / "pwned")] * 2, dtype=object), allow_pickle=True)
    else:
        path.write_bytes(pickle.dumps(Touch(tmp_path / "pwned")))
    with pytest.raises(UserError, match="is not a file of arrays"):
        open_images(path)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        (
            {"a": np.zeros((2, 8, 8)), "b": np.zeros((2, 8, 8))},
            "holds a, b, and the images are looked for as images or arr_0",
        ),
        ({"a": np.zeros(3)}, "holds a, and the images are looked for"),
        (
            {"images": fields(3), "labels": np.zeros(2, int)},
            r"3 integers, one for each image; got int64 of shape \(2,\)",
        ),
        ({"images": fields(3), "labels": np.zeros(3)}, "3 integers, .* got float64"),
        (
            {"images": fields(3), "labels": np.array([0, 1, 2]), "classes": ["a", "b"]},
            "indices into its 2 classes; got labels from 0 to 2",
        ),
    ],
)
def test_an_archive_without_images_or_labels_to_match_is_refused(tmp_path, members, reason):
    np.savez(tmp_path / "x.npz", **members)
    with pytest.raises(UserError, match=reason):
        open_images(tmp_path / "x.npz")


def test_stacks_without_the_library_for_them_name_it(tmp_path, monkeypatch):
    root = folder(tmp_path / "x", fields(2, (5, 8, 7)), lambda path, image: tifffile.imwrite(path, image), ".tif")
    monkeypatch.setitem(__import__("sys").modules, "tifffile", None)
    arrays._tifffile.cache_clear()
    with pytest.raises(UserError, match=r'pip install "ddim\[tiff\]"'):
        open_images(root)
    arrays._tifffile.cache_clear()
