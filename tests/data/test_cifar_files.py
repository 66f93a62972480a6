"""Both layouts of a CIFAR batch give the same images; what is not such a batch is refused."""

import pickle
import random

import numpy as np
import pytest

from ddim.data.cifar import read_binary, read_python
from ddim.errors import UserError

PIXELS = random.Random(0).randbytes(3 * 3072)
LABELS = [9, 0, 4]
ROWS = np.frombuffer(PIXELS, np.uint8).reshape(3, 3072)
BINARY = b"".join(bytes([label]) + row.tobytes() for label, row in zip(LABELS, ROWS, strict=True))


def test_the_authors_layouts_agree_and_hold_red_green_blue_planes_row_by_row(python2_batch):
    data = python2_batch(PIXELS, LABELS)
    assert pickle.loads(data, encoding="bytes")[b"labels"] == LABELS  # the test's own writer is right
    for batch in (read_python(data, "file"), read_binary(BINARY, "file")):
        assert batch.labels.tolist() == LABELS
        assert batch.pixels.shape == (3, 3, 32, 32)
        assert batch.pixels[1, 2, 5, 7] == PIXELS[1 * 3072 + 2 * 1024 + 5 * 32 + 7]
        assert batch.pixels.tobytes() == PIXELS


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("key", [str, str.encode])
@pytest.mark.parametrize("home", [b"numpy._core", b"numpy.core"])
def test_a_batch_that_python_3_wrote_again_is_read_alike(protocol, key, home):
    data = pickle.dumps({key("data"): ROWS.copy(), key("labels"): LABELS, key("filenames"): [b"x"]}, protocol)
    if protocol < 4:  # as an older or newer NumPy spells it; protocol 4 counts its bytes
        data = data.replace(b"cnumpy._core.", b"c" + home + b".").replace(b"cnumpy.core.", b"c" + home + b".")
    batch = read_python(data, "file")
    assert batch.pixels.tobytes() == PIXELS
    assert batch.labels.tolist() == LABELS


@pytest.mark.parametrize(
    ("data", "labels", "reason"),
    [
        (ROWS, LABELS[:2], "3 images but 2 labels"),
        (ROWS, [0, 1, 10], "from 0 to 9"),
        (ROWS, [0, -1, 1], "from 0 to 9"),
        (ROWS, [0, 1, "2"], "from 0 to 9"),
        (ROWS, None, "list of labels"),
        (ROWS[:, :3071].copy(), LABELS, "rows of 3072"),
        (ROWS.flatten(), LABELS, "rows of 3072"),
        (np.asfortranarray(ROWS), LABELS, "rows of 3072"),
        (ROWS.astype(np.int8), LABELS, "rows of 3072"),
        (ROWS.astype(np.uint16), LABELS, "rows of 3072"),
        (PIXELS, LABELS, "rows of 3072"),
    ],
)
def test_anything_but_such_a_batch_is_refused(data, labels, reason):
    with pytest.raises(UserError, match=f"bad-file.*{reason}"):
        read_python(pickle.dumps({b"data": data, b"labels": labels}, 2), "bad-file")


def test_a_shape_that_disagrees_with_the_bytes_is_refused(python2_batch):
    whole = python2_batch(PIXELS, LABELS)
    three_rows = b"M\x03\x00M\x00\x0c"
    assert three_rows in whole
    with pytest.raises(UserError, match="rows of 3072"):
        read_python(whole.replace(three_rows, b"M\x04\x00M\x00\x0c"), "file")


def test_a_pickle_of_something_else_is_refused():
    with pytest.raises(UserError, match="bad-file does not hold"):
        read_python(pickle.dumps([1, 2], 2), "bad-file")


@pytest.mark.parametrize(
    ("data", "reason"), [(BINARY[:-1], "not a multiple of 3073"), (b"\x0a" + BINARY[1:], "from 0 to 9")]
)
def test_a_broken_binary_batch_is_refused(data, reason):
    with pytest.raises(UserError, match=f"bad-file.*{reason}"):
        read_binary(data, "bad-file")
