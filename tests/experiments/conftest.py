import pytest
import torch

from ddim import model_io, nets, schedule
from ddim.denoiser import Denoiser
from madeup import only_known, trained  # noqa: F401 - fixtures


@pytest.fixture
def save_model(tmp_path):
    """Save a small random model, by its T and its classes, into `tmp_path`, and return it."""

    def save(T=20, classes=None):
        torch.manual_seed(0)
        network = nets.build("plain", 1, "tiny", classes=classes, widths=(8, 16))
        torch.nn.init.normal_(network.get_parameter("head.weight"))  # it starts at zero, and zero hides mistakes
        model_io.save(Denoiser(network, schedule.linear(T=T), shape=(1, 8, 8), classes=classes), tmp_path)
        return model_io.load(tmp_path)

    return save


@pytest.fixture
def model(save_model):
    return save_model()
