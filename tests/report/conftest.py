import shutil

import pytest

import madeup
from ddim import experiments, model_io
from madeup import only_known, trained  # noqa: F401 - fixtures

LOOK = ("gallery", "strips", "timing")


@pytest.fixture(scope="session")
def computed(tmp_path_factory):
    """A folder with the results of what `ddim report` computes too, once for all tests."""
    folder = madeup.leave_run(tmp_path_factory.mktemp("complete"))
    assert tuple(experiments.run(experiments.Setup(folder, model_io.load(folder)), names=LOOK)) == LOOK
    return folder


@pytest.fixture
def complete(computed, tmp_path):
    """A copy of that folder."""
    return shutil.copytree(computed, tmp_path, dirs_exist_ok=True)


@pytest.fixture
def reproduced(complete):
    """A folder with all that the report can show; what takes long to compute is made up."""
    madeup.leave_all(complete)
    return complete
