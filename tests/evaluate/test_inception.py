"""Inception-v3 is pytorch-fid's, number for number, and its weights are fetched, verified, and only ever read."""

import hashlib
import io
import os
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
import torch
from torch import Tensor

from ddim.errors import UserError
from ddim.evaluate import Classifier, extractors
from ddim.evaluate.extractors import inception
from ddim.evaluate.extractors.inception import network

# Of pytorch-fid 0.3.0 and torchvision 0.29.1, from the weights below: the SHA-256 of the names and shapes in the
# state_dict of fid_inception_v3(), and some of what InceptionV3() makes of the images below.
NAMES_AND_SHAPES = "5c5cb906421dd92101f74d73352774dd0c7312df1c7e1eab4f2698dfca34cd92"
SOME = [0, 320, 704, 1088, 1472, 1856, 1950, 2047]  # the first of each branch of the last block, more of the pooled
PEERS = {  # channels of the images -> (2, 8)
    1: [
        [17.357248, 1.2660397, 11.020296, 0.3101774, 0.3542163, 5.917265, 6.6872606, 19.499037],
        [17.607334, 1.0485044, 10.972681, 0.2848448, 0.2775835, 6.1052237, 7.421153, 18.730633],
    ],
    3: [
        [17.190098, 1.1364552, 10.708859, 0.2965459, 0.3259403, 5.89217, 7.18659, 19.45274],
        [17.037075, 1.1976718, 11.059917, 0.3044317, 0.2578179, 6.2452936, 6.804269, 19.488705],
    ],
}


def standing_for(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Random weights of the right names and shapes, in a small file: all are views of two arrays."""
    random = np.random.RandomState(0)  # the generator whose numbers never change
    normal = torch.from_numpy(random.standard_normal(1 << 21).astype(np.float32))
    about_one = torch.from_numpy(random.uniform(0.5, 1.5, 2048).astype(np.float32))
    made = {}
    for i, (name, tensor) in enumerate(sorted(state.items())):
        if name.endswith("running_var"):  # so that numbers keep their size from layer to layer
            fan_in = state[name.replace("bn.running_var", "conv.weight")][0].numel()
            made[name] = torch.tensor(fan_in / 2).expand(tensor.shape)
        elif name.endswith("bn.weight"):
            made[name] = about_one[: len(tensor)]
        elif tensor.dim() == 0:
            made[name] = tensor
        else:
            at = 7919 * i % (len(normal) - tensor.numel() + 1)
            made[name] = normal[at : at + tensor.numel()].view(tensor.shape)
    return made


@pytest.fixture(scope="module")
def content() -> bytes:
    """A file in the format of the published one, the last layer included."""
    last = {"fc.weight": torch.zeros(1).expand(1008, 2048), "fc.bias": torch.zeros(1008)}
    file = io.BytesIO()
    torch.save(standing_for(network().state_dict()) | last, file)
    return file.getvalue()


@pytest.fixture
def published(monkeypatch, content, serve):
    """A server with that file, as if it were the published one."""
    server = serve(content)
    monkeypatch.setattr(inception, "URLS", (server.url(inception.FILE),))
    monkeypatch.setattr(inception, "SIZE", len(content))
    monkeypatch.setattr(inception, "SHA256", hashlib.sha256(content).hexdigest())
    return server


def images(channels: int) -> Tensor:
    random = np.random.RandomState(channels)
    return torch.from_numpy(random.randint(0, 256, (2, channels, 8, 8)).astype(np.uint8))


def test_names_and_shapes_are_those_of_the_published_weights():
    lines = sorted(f"{name} {tuple(tensor.shape)}" for name, tensor in network().state_dict().items())
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == NAMES_AND_SHAPES


@pytest.mark.parametrize("channels", [1, 3])
def test_features_are_those_of_pytorch_fid(published, channels):
    found = extractors.get("inception", (channels, 8, 8))(images(channels))
    assert found.shape == (2, 2048)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found[:, SOME], PEERS[channels], rtol=1e-4, atol=1e-4)


def test_the_weights_are_downloaded_once(published, tmp_path, content):
    for _ in range(2):
        made = extractors.get("inception", (1, 8, 8))
        assert (made.dim, made.shape) == (2048, (1, 8, 8))
        assert not isinstance(made, Classifier)
        assert "published FIDs (pytorch-fid)" in made.about
    assert len(published.asked) == 1
    assert (tmp_path / "cache/inception" / inception.FILE).read_bytes() == content


def test_other_bytes_are_not_taken(published, tmp_path, content):
    published.content = content[:-1] + bytes([content[-1] ^ 1])
    with pytest.raises(UserError, match=r"pt_inception.*127\.0\.0\.1.*has sha256.*DDIM_INCEPTION"):
        extractors.get("inception", (1, 8, 8))
    assert [file.suffix for file in (tmp_path / "cache/inception").iterdir()] == [".lock"]


def test_without_a_network_the_file_its_address_and_its_place_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(inception, "URLS", ("http://127.0.0.1:9/weights",))
    with pytest.raises(UserError) as told:
        extractors.get("inception", (3, 32, 32))
    for word in (inception.FILE, "http://127.0.0.1:9/weights", str(tmp_path / "cache/inception"), "DDIM_INCEPTION"):
        assert word in str(told.value)
    assert str(told.value).count(". ") == 0


def test_weights_of_ones_own_are_read_and_said_to_be_so(monkeypatch, tmp_path, content):
    path = tmp_path / "own.pth"
    path.write_bytes(content)
    monkeypatch.setenv("DDIM_INCEPTION", str(path))
    made = extractors.get("inception", (1, 8, 8))
    assert "own.pth, which are not those of the published FIDs" in made.about
    assert hashlib.sha256(content).hexdigest() in made.fingerprint


class Harm:
    """Makes a folder when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("harm",)


def test_a_file_that_is_no_weights_is_refused_and_never_run(monkeypatch, tmp_path, content):
    monkeypatch.chdir(tmp_path)
    harmful = io.BytesIO()
    torch.save({"Conv2d_1a_3x3.conv.weight": Harm()}, harmful)
    for number, data in enumerate([harmful.getvalue(), b"", b"<html>", content[:1000], content[:-1000]]):
        path = tmp_path / f"{number}.pth"
        path.write_bytes(data)
        monkeypatch.setenv("DDIM_INCEPTION", str(path))
        with pytest.raises(UserError, match=f"{number}.pth holds no weights; replace it by {inception.FILE}"):
            extractors.get("inception", (1, 8, 8))
    assert not (tmp_path / "harm").exists()
    monkeypatch.setenv("DDIM_INCEPTION", str(tmp_path / "nowhere.pth"))
    with pytest.raises(UserError, match=r"nowhere\.pth, which is not a file"):
        extractors.get("inception", (1, 8, 8))


def test_weights_of_another_network_are_refused(monkeypatch, tmp_path, content):
    state = torch.load(io.BytesIO(content), weights_only=True)
    short = {name: tensor for name, tensor in state.items() if name != "Mixed_7c.branch_pool.bn.bias"}
    wide = state | {"Mixed_7c.branch_pool.bn.bias": torch.zeros(193)}
    name = "Conv2d_1a_3x3.bn.running_mean"
    infinite = state | {name: torch.full((32,), torch.inf)}
    other = state | {name: torch.zeros(32, dtype=torch.complex64)}
    nowhere = state | {name: torch.zeros(32, device="meta")}
    for number, wrong in enumerate([short, wide, [1, 2], {"state_dict": state}, infinite, other, nowhere]):
        path = tmp_path / f"{number}.pth"
        torch.save(wrong, path)
        monkeypatch.setenv("DDIM_INCEPTION", str(path))
        with pytest.raises(UserError, match=r"holds other weights.*of shape \(\d+.*finite"):
            extractors.get("inception", (1, 8, 8))


def test_a_file_of_more_bytes_than_any_weights_is_refused_before_it_is_read_or_unpacked(monkeypatch, tmp_path):
    path = tmp_path / "bomb.pth"
    monkeypatch.setenv("DDIM_INCEPTION", str(path))
    monkeypatch.setattr(inception, "MAX_BYTES", 10 << 20)
    with ZipFile(path, "w", ZIP_DEFLATED) as packed:
        packed.writestr("archive/data/0", bytes(11 << 20))
    assert path.stat().st_size < 1 << 20
    for _ in range(2):
        with pytest.raises(UserError, match=r"bomb\.pth holds more than 10,485,760 bytes.*replace it by pt_inception"):
            extractors.get("inception", (1, 8, 8))
        with path.open("wb") as file:
            file.truncate(1 << 40)  # a hole of 1 TB


@pytest.mark.slow
def test_weights_of_older_pytorch_fit_too(monkeypatch, tmp_path, content):
    """They lack the number of batches that each normalisation has seen."""
    state = torch.load(io.BytesIO(content), weights_only=True)
    older = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    assert len(older) < len(state)
    torch.save(older, tmp_path / "older.pth", _use_new_zipfile_serialization=False)
    monkeypatch.setenv("DDIM_INCEPTION", str(tmp_path / "older.pth"))
    assert torch.equal(extractors.get("inception", (1, 8, 8))(images(1)), _features(monkeypatch, tmp_path, content))


def _features(monkeypatch, tmp_path, content):
    (tmp_path / "newer.pth").write_bytes(content)
    monkeypatch.setenv("DDIM_INCEPTION", str(tmp_path / "newer.pth"))
    return extractors.get("inception", (1, 8, 8))(images(1))
