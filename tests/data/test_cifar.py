"""CIFAR-10's files: where they are found, folders and archives alike, and the download."""

import hashlib
import io
import tarfile

import numpy as np
import pytest

from ddim.data import cifar
from ddim.errors import UserError

PIXELS = bytes(range(256)) * 12 * 4  # four images
LABELS = [0, 3, 0, 9]


@pytest.fixture
def files(python2_batch):
    """Name -> content: two training batches of two images each and a test batch, in both layouts."""
    batches = {"data_batch_2": slice(0, 2), "data_batch_5": slice(2, 4), "test_batch": slice(1, 4)}
    files = {"batches.meta": b"not read"}
    for name, part in batches.items():
        rows = np.frombuffer(PIXELS, np.uint8).reshape(4, 3072)[part]
        labels = LABELS[part]
        files[name] = python2_batch(rows.tobytes(), labels)
        files[f"{name}.bin"] = b"".join(bytes([y]) + x.tobytes() for x, y in zip(rows, labels, strict=True))
    return files


def put_python(folder, files):
    put(folder / "cifar-10-batches-py", {name: data for name, data in files.items() if ".bin" not in name})


def put_binary(folder, files):
    put(folder / "cifar-10-batches-bin", {name: data for name, data in files.items() if ".bin" in name})


def put(folder, files):
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)


def put_archive(folder, files, binary=False):
    """Members in reverse: the order in the official archive is not that of the batches either."""
    with tarfile.open(folder / f"cifar-10-{'binary' if binary else 'python'}.tar.gz", "w:gz") as tar:
        for name in reversed(files):
            member = tarfile.TarInfo(f"cifar-10-batches/{name}")
            member.size = len(files[name])
            tar.addfile(member, io.BytesIO(files[name]))


def put_binary_archive(folder, files):
    put_archive(folder, files, binary=True)


@pytest.mark.parametrize("place", [put_python, put_binary, put, put_archive, put_binary_archive])
def test_whichever_files_are_there_give_the_same_images_in_order(tmp_path, files, place):
    place(tmp_path, files)
    train, test = cifar.load("train", tmp_path), cifar.load("test", tmp_path)
    assert train.pixels.numpy().tobytes() == PIXELS
    assert train.labels.tolist() == LABELS
    assert test.labels.tolist() == LABELS[1:]
    assert (train.shape, train.classes, train.mirror) == ((3, 32, 32), cifar.CLASSES, True)
    planes = cifar.load_airplanes("train", tmp_path)
    assert (planes.name, planes.classes, planes.labels.tolist()) == ("airplanes", ("airplane",), [0, 0])


def test_a_damaged_member_is_named_with_its_archive(tmp_path, files):
    put_archive(tmp_path, files | {"data_batch_5": b"cos\nsystem\n."})
    with pytest.raises(UserError, match=r"python\.tar\.gz:data_batch_5 was refused.*os\.system"):
        cifar.load("train", tmp_path)


def test_an_archive_or_a_batch_without_images_is_refused(tmp_path, files):
    put_archive(tmp_path, {"batches.meta": b""})
    with pytest.raises(UserError, match=r"python\.tar\.gz holds none of test_batch"):
        cifar.load("test", tmp_path)
    put(tmp_path, {"test_batch.bin": b""})
    with pytest.raises(UserError, match="hold no image"):
        cifar.load("test", tmp_path)


def test_a_batch_larger_than_any_is_refused_before_it_is_read_whole(tmp_path):
    with (tmp_path / "test_batch").open("wb") as file:
        file.truncate(1 << 40)  # a hole of 1 TB
    with pytest.raises(UserError, match=r"test_batch has more than 67108864 bytes.*remove it and download it again"):
        cifar.load("test", tmp_path)


@pytest.mark.parametrize("layout", [cifar.PYTHON, cifar.BINARY])
def test_the_address_of_either_archive_can_be_given(tmp_path, monkeypatch, serve, files, layout):
    put_archive(tmp_path, files, binary=layout is cifar.BINARY)
    content = (tmp_path / layout.archive).read_bytes()
    server = serve(content)
    with pytest.raises(UserError, match=f"has {len(content):,} bytes there instead of {layout.size:,}"):
        cifar.load("train", url=server.url(layout.archive))
    official = layout._replace(size=len(content), sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(cifar, "BINARY" if layout is cifar.BINARY else "PYTHON", official)
    assert cifar.load("train", url=server.url(layout.archive)).labels.tolist() == LABELS
