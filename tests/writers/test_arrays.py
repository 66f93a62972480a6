"""One array that grows on the disk: what NumPy reads, what a kill leaves, and what is refused."""

import errno
import json
import os
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from ddim.errors import UserError
from ddim.values import Values
from ddim.writers import ARRAYS, Request, arrays

REQUEST = Request(range(5, 12), (3, 2, 4), {"seed": 1, "spacing": [3.0, 1.5], "backend": "a"}, [2, 0, 1])
IMAGES = torch.arange(7 * 24).view(7, 3, 2, 4).to(torch.uint8)
SUFFIXES = pytest.mark.parametrize("suffix", ARRAYS)


def write(path, request=REQUEST, only=range(5, 12), finish=True):
    """Write those of the images that are missing, two at a time."""
    writer = ARRAYS[path.suffix](path, request)
    with writer.locked():
        writer.begin()
        todo = [i for i, done in zip(request.rows, writer.done(), strict=True) if not done and i in only]
        for k in range(0, len(todo), 2):
            writer.write(todo[k : k + 2], IMAGES[[i - 5 for i in todo[k : k + 2]]])
        if finish:
            writer.finish()
        else:
            writer.discard()
    return todo


@SUFFIXES
def test_numpy_reads_the_images_the_classes_and_the_settings(tmp_path, suffix):
    write(tmp_path / f"a{suffix}")
    found = np.load(tmp_path / f"a{suffix}")
    if suffix == ".npz":
        assert found.files == ["arr_0", "arr_1", "settings"]
        assert found["arr_1"].tolist() == [2, 0, 1, 2, 0, 1, 2]
        assert found["arr_1"].dtype == np.int64
        settings, images = json.loads(str(found["settings"])), found["arr_0"]
        found.close()
        with zipfile.ZipFile(tmp_path / "a.npz") as archive:
            assert archive.testzip() is None
    else:
        settings, images = json.loads((tmp_path / "a.npy.json").read_text()), found
    assert images.dtype == np.uint8
    assert np.array_equal(images, IMAGES.permute(0, 2, 3, 1).numpy())
    assert settings == {**REQUEST.settings, "first": 5, "count": 7, "row_labels": [2, 0, 1]}
    assert not any(name.startswith(".") for name in os.listdir(tmp_path))


@SUFFIXES
@pytest.mark.parametrize(("dtype", "layout", "shape"), [("uint16", "CHW", (3, 2, 4)), ("float64", "HWC", (2, 4, 3))])
def test_the_images_of_a_model_of_arrays_have_their_range_type_and_layout(tmp_path, suffix, dtype, layout, shape):
    values = Values((10, 265), dtype, layout)
    writer = ARRAYS[suffix](tmp_path / f"a{suffix}", replace(REQUEST, values=values))
    with writer.locked():
        writer.begin()
        writer.write(list(range(5, 12)), IMAGES / 127.5 - 1)
        writer.finish()
    assert writer.size(1) == 24 * values.itemsize
    found = np.load(tmp_path / f"a{suffix}")
    images = found if suffix == ".npy" else found["arr_0"]
    assert (images.shape, images.dtype) == ((7, *shape), np.dtype(dtype))
    order = IMAGES if layout == "CHW" else IMAGES.permute(0, 2, 3, 1)
    np.testing.assert_allclose(images, order.numpy() + 10.0, atol=1e-4)
    if suffix == ".npz":
        found.close()


@SUFFIXES
def test_a_model_without_classes_has_images_alone(tmp_path, suffix):
    write(tmp_path / f"a{suffix}", replace(REQUEST, labels=None))
    if suffix == ".npz":
        with np.load(tmp_path / "a.npz") as found:
            assert found.files == ["arr_0", "settings"]
    else:
        assert json.loads((tmp_path / "a.npy.json").read_text())["row_labels"] is None


@SUFFIXES
def test_what_is_missing_is_written_and_the_file_is_that_of_one_command(tmp_path, suffix):
    """In any order; there is no file until all is there, and one that is there is left alone."""
    whole, path = tmp_path / f"whole{suffix}", tmp_path / f"a{suffix}"
    write(whole)
    (tmp_path / f".a{suffix}.ddim-0123abcd.json").write_text("")  # of a killed command
    for only in ([6, 9], [5], []):
        assert write(path, only=only, finish=False) == list(only)
        assert os.listdir(tmp_path / f".a{suffix}.ddim")
        assert not path.exists()
    other = {**REQUEST.settings, "backend": "b"}
    assert write(path, replace(REQUEST, settings=other), finish=False) == [7, 8, 10, 11]
    write(path)
    assert path.read_bytes() == whole.read_bytes()
    before = path.stat().st_mtime_ns
    assert write(path) == []
    assert path.stat().st_mtime_ns == before
    assert not any(name.startswith(".a") for name in os.listdir(tmp_path))


@SUFFIXES
def test_other_settings_are_refused_and_nothing_is_lost(tmp_path, suffix):
    path, draft = tmp_path / f"a{suffix}", tmp_path / f".a{suffix}.ddim"
    write(path, only=[5], finish=False)
    other = replace(REQUEST, settings={**REQUEST.settings, "seed": 2})
    with pytest.raises(UserError, match=r"holds a part of a.* seed = 1, not 2; repeat that command, .* delete that"):
        write(path, other)
    assert write(path) == [6, 7, 8, 9, 10, 11]
    content = path.read_bytes()
    for request, said in ((other, "seed = 1, not 2"), (replace(REQUEST, rows=range(5, 11)), "count = 7, not 6")):
        with pytest.raises(UserError, match=f"exists already, drawn with {said}; choose another --out"):
            write(path, request)
    path.write_bytes(b"precious")
    (tmp_path / "a.npy.json").unlink(missing_ok=True)
    with pytest.raises(UserError, match="exists already, not drawn by this command"):
        write(path)
    assert (path.read_bytes(), len(content) > 168, draft.exists()) == (b"precious", True, False)


@SUFFIXES
def test_nothing_is_left_of_what_holds_no_image(tmp_path, suffix):
    write(tmp_path / f"a{suffix}", only=[], finish=False)
    assert os.listdir(tmp_path) == []


@SUFFIXES
def test_a_draft_whose_images_were_taken_away_begins_anew(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write(path, only=[5], finish=False)
    (tmp_path / f".a{suffix}.ddim" / "rows").unlink()
    assert write(path, replace(REQUEST, settings={})) == list(REQUEST.rows)


@SUFFIXES
@pytest.mark.parametrize("file", ["rows", "done"])
def test_a_draft_that_was_cut_begins_anew(tmp_path, suffix, file):
    """Its images are fewer than it counts."""
    path = tmp_path / f"a{suffix}"
    write(tmp_path / f"whole{suffix}")
    write(path, only=[5, 11], finish=False)
    cut = tmp_path / f".a{suffix}.ddim" / file
    os.truncate(cut, cut.stat().st_size - 1)
    assert write(path) == list(REQUEST.rows)
    assert path.read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
@pytest.mark.parametrize("at", range(1, 30, 2))
def test_an_interrupt_while_an_archive_is_completed_harms_no_image(tmp_path, monkeypatch, error, at):
    """`zipfile` completes what it has written so far, over the images: those are skipped."""
    monkeypatch.setattr("ddim.writers.arrays.PART", 10)
    path, calls = tmp_path / "a.npz", []
    write(tmp_path / "whole.npz")

    class Failing(arrays._Around):
        def write(self, data):
            calls.append(len(data))
            if len(calls) == at:
                raise error
            return super().write(data)

    with monkeypatch.context() as patched:
        patched.setattr("ddim.writers.arrays._Around", Failing)
        try:
            write(path)
        except (KeyboardInterrupt, UserError):
            assert len(calls) >= at
            assert not path.exists()
    write(path)
    assert path.read_bytes() == (tmp_path / "whole.npz").read_bytes()


@SUFFIXES
def test_a_process_that_does_not_see_the_draft_says_so(tmp_path, suffix):
    writer = ARRAYS[suffix](tmp_path / f"a{suffix}", REQUEST)
    with pytest.raises(UserError, match="is missing for one of the processes; put --out where all machines see it"):
        writer.done()
