"""MNIST's files: where they are found, how they must agree, and the download."""

import gzip
import hashlib
import struct

import numpy as np
import pytest

from ddim.data import mnist
from ddim.errors import UserError

PIXELS = np.arange(3 * 28 * 28, dtype=np.uint32).reshape(3, 28, 28).astype(np.uint8)
IMAGES = struct.pack(">HBB3I", 0, 8, 3, 3, 28, 28) + PIXELS.tobytes()
LABELS = struct.pack(">HBBI", 0, 8, 1, 3) + bytes([5, 0, 9])


def put(folder, images, labels):
    """Write files: name -> content, gzipped if the name says so."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in ((images, IMAGES), (labels, LABELS)):
        (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)


@pytest.mark.parametrize("place", [".", "MNIST/raw", "mnist"])
@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
        ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte.gz"),
        ("t10k-images.idx3-ubyte", "t10k-labels.idx1-ubyte"),
    ],
)
def test_files_are_found_where_people_have_them(tmp_path, place, images, labels):
    put(tmp_path / place, images, labels)
    digits = mnist.load("test", tmp_path)
    np.testing.assert_array_equal(digits.pixels.numpy(), PIXELS[:, None])
    assert digits.labels.tolist() == [5, 0, 9]
    assert (digits.shape, digits.grey_levels, digits.mirror) == ((1, 28, 28), 256, False)
    with pytest.raises(UserError, match="train-images-idx3-ubyte"):
        mnist.load("train", tmp_path)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (struct.pack(">HBBI", 0, 8, 1, 2) + bytes([5, 0]), "3 images but .*labels.* holds 2 labels"),
        (LABELS[:-1] + bytes([10]), "labels-idx1-ubyte holds the label 10"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path, labels, reason):
    put(tmp_path, "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(labels)
    with pytest.raises(UserError, match=reason):
        mnist.load("test", tmp_path)


def test_the_download_appends_the_file_names_and_needs_the_official_checksum(tmp_path, monkeypatch, serve):
    official = gzip.compress(LABELS)  # one server, one content: the images' file is in the cache already
    cache = tmp_path / "cache" / "mnist"
    put(cache, "t10k-images-idx3-ubyte.gz", "leave-labels")
    url = serve(official).url("some/folder")
    with pytest.raises(
        UserError, match=r"some/folder/t10k-labels-idx1-ubyte\.gz: the file has 31 bytes there instead of 4,542"
    ):
        mnist.load("test", url=url)
    monkeypatch.setitem(mnist.SIZES, "t10k-labels-idx1-ubyte", len(official))
    monkeypatch.setitem(mnist.SHA256, "t10k-labels-idx1-ubyte", hashlib.sha256(official).hexdigest())
    assert mnist.load("test", url=url).labels.tolist() == [5, 0, 9]
    assert (cache / "t10k-labels-idx1-ubyte.gz").read_bytes() == official
