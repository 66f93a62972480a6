"""NumPy arrays, tensors, and data sets and loaders of PyTorch, as they are."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset, WeightedRandomSampler

import ddim
from ddim import Denoiser, model_io, nets, open_images, schedule
from ddim.errors import UserError
from ddim.train import Plan, fit


class Pictures(Dataset):
    """Ten pictures of two classes, as a set of torchvision gives them; it counts how often an item is read."""

    classes = ("cat", "dog")

    def __init__(self):
        self.read = []

    def __len__(self):
        return 10

    def __getitem__(self, i):
        self.read.append(i)
        return Image.fromarray(np.full((6, 8, 3), 20 * i, np.uint8)), i % 2


@pytest.mark.parametrize("of", [lambda x: x, torch.from_numpy, lambda x: torch.from_numpy(x).requires_grad_()])
def test_an_array_and_a_tensor_are_used_whole_and_without_a_copy(of):
    array = np.random.default_rng(0).normal(size=(7, 4, 6, 5)).astype(np.float32)
    images = open_images(of(array))
    assert (len(images), images.shape) == (7, (4, 6, 5))
    assert images.pixels.data_ptr() == array.ctypes.data
    x0, labels = images.batch(torch.arange(7))
    assert (x0.min().item(), x0.max().item()) == (-1, 1)
    assert labels.tolist() == [0] * 7


def test_what_pytorch_cannot_share_is_copied():
    array = np.random.default_rng(0).integers(0, 4000, (3, 6, 5), dtype=np.uint16)
    for other in (array[:, ::-1], array.astype(">u2"), np.broadcast_to(array[:1], array.shape)):
        assert np.array_equal(open_images(other).pixels[:, 0].numpy(), other)


def test_a_data_set_is_read_when_a_batch_needs_it():
    pictures = Pictures()
    images = open_images(pictures)
    assert (images.shape, images.classes, images.labels.tolist()) == ((3, 6, 8), ("cat", "dog"), [0, 1] * 5)
    pictures.read.clear()
    x0, _ = images.batch(torch.tensor([9, 2]))
    assert pictures.read == [9, 2]
    torch.testing.assert_close(x0[:, 0, 0, 0], torch.tensor([180.0, 40.0]) / 127.5 - 1)
    assert torch.equal(images[2][0], x0[1])
    assert images.select("dog").pixels[:, 0, 0, 0].tolist() == [20, 60, 100, 140, 180]


@pytest.mark.parametrize(
    "wrap", [lambda x: x, lambda x: DataLoader(x, 4, shuffle=True), lambda x: Subset(x, range(40))]
)
def test_training_on_a_data_set_equals_training_on_its_array(wrap):
    array = np.random.default_rng(0).uniform(size=(40, 2, 6, 5)).astype(np.float32)
    weights = []
    for source in (array, wrap(TensorDataset(torch.from_numpy(array), torch.arange(40) % 3))):
        torch.manual_seed(0)
        model = Denoiser(nets.build("plain", 2, "tiny"), schedule.linear(), shape=(2, 6, 5))
        *_, last = fit(model, source, Plan(steps=2, batch_size=4, precision="fp32"))
        weights.append(torch.cat([weight.flatten() for weight in last.average.network.parameters()]))
    assert torch.equal(*weights)


def test_a_model_keeps_the_range_of_its_images(tmp_path):
    array = np.random.default_rng(0).normal(size=(9, 4, 8, 8)).astype(np.float32)  # as latents are
    model = Denoiser(nets.build("plain", 4, "tiny"), schedule.linear(), shape=(4, 8, 8))
    next(fit(model, array, Plan(steps=1, batch_size=2, precision="fp32")))
    model_io.save(model, tmp_path / "run")
    loaded = ddim.load(tmp_path / "run", backend="torch")
    assert loaded.values is not None
    assert loaded.values.range == (float(array.min()), float(array.max()))
    drawn = loaded.values.restore(loaded.sample(2, steps=1, progress=False))
    assert drawn.shape == (2, 4, 8, 8)
    assert drawn.dtype == np.float32
    assert array.min() <= drawn.min() <= drawn.max() <= array.max()


class Stream(IterableDataset):
    def __iter__(self):
        return iter([torch.zeros(1, 8, 8)])


def items(*given):
    return list(given)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (np.zeros((4, 8)), r"The ndarray has the shape \(4, 8\)"),
        (np.full((4, 1, 8, 8), np.inf), "Image 0 of the ndarray holds numbers that are NaN or infinite"),
        (np.ones((4, 1, 8, 8)), "All numbers of the ndarray are 1, a range of zero"),
        (np.zeros((4, 1, 8, 8), bool), "The ndarray holds numbers of the type bool"),
        (Stream(), "got Stream: .* list the items of a stream"),
        (DataLoader(Stream()), "list the items of a stream"),
        (
            DataLoader(TensorDataset(torch.zeros(4, 1, 8, 8)), sampler=WeightedRandomSampler([1.0] * 4, 4)),
            "a sampler or a collate_fn of its own",
        ),
        (items(), "The data set list holds no item"),
        (items("a"), "Item 0 of the data set is an object of type str"),
        (
            items(torch.zeros(1, 8, 8), torch.zeros(1, 8, 9)),
            r"Item 1 .* shape \(1, 8, 9\), and item 0 is torch.float32",
        ),
        (
            items(torch.zeros(1, 8, 8), torch.full((1, 8, 8), torch.nan)),
            "Item 1 of the data set holds numbers that are NaN",
        ),
        (items((torch.zeros(1, 8, 8), "cat")), "The label of item 0 of list must be a whole number; got 'cat'"),
        (items((torch.zeros(1, 8, 8), torch.tensor(0.5))), "The label of item 0 of list must be a whole number"),
    ],
)
def test_an_object_that_is_no_set_of_images_is_refused_in_one_sentence(source, reason):
    with pytest.raises(UserError, match=reason):
        open_images(source)


def test_an_object_is_one_split():
    with pytest.raises(UserError, match="A ndarray is one split, all of whose images are used; leave out split"):
        open_images(np.zeros((4, 8, 8)), split="test")
