import pytest
import torch

from ddim import schedule
from ddim.forward import q_sample
from ddim.level import Level
from ddim.predict import predictions, target

LEVELS = [schedule.linear()(t) for t in (1, 10, 500, 1000)]
OFF_CIRCLE = Level(*(torch.tensor(v, dtype=torch.float64) for v in (5.0, 1.0, 20.0)))  # alpha = 1, as in EDM


@pytest.mark.parametrize("predicts", ["eps", "x0", "v"])
@pytest.mark.parametrize("at", [*LEVELS, OFF_CIRCLE])
def test_every_parameterisation_gives_back_image_and_noise(predicts, at):
    rng = torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(4, 3, 8, 8, dtype=torch.float64, generator=rng) for _ in range(2))
    prediction = predictions[predicts](q_sample(x0, at, eps), at, target(predicts, x0, at, eps))
    torch.testing.assert_close(prediction.x0, x0, rtol=0, atol=1e-10)
    torch.testing.assert_close(prediction.eps, eps, rtol=0, atol=1e-10)


@pytest.mark.parametrize("predicts", ["eps", "x0", "v"])
def test_one_level_per_image_is_each_image_at_its_level(predicts):
    t = torch.tensor([3.0, 400.0, 999.0])
    s = schedule.cosine()
    x, output = torch.randn(2, 3, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    together = predictions[predicts](x, s(t), output)
    for i in range(3):
        alone = predictions[predicts](x[i : i + 1], s(t[i]), output[i : i + 1])
        assert torch.equal(together.x0[i : i + 1], alone.x0)
        assert torch.equal(together.eps[i : i + 1], alone.eps)
