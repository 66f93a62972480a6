import pytest

import madeup
from ddim import experiments, model_io
from madeup import only_known, trained  # noqa: F401 - fixtures

LOOK = ("gallery", "strips", "timing")


@pytest.fixture
def complete(trained):  # noqa: F811
    """A folder with the results of what `ddim report` computes too."""
    folder = trained()
    assert tuple(experiments.run(experiments.Setup(folder, model_io.load(folder)), names=LOOK)) == LOOK
    return folder


@pytest.fixture
def reproduced(complete):
    """A folder with all that the report can show; what takes long to compute is made up."""
    madeup.leave_all(complete)
    return complete
