import torch

from ddim import schedule
from ddim.guidance import classifier_free, clip_x0
from ddim.predict import from_eps

AT = schedule.linear()(700)
X = torch.randn(4, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3


def model(k):
    return lambda x, at: from_eps(x, at, torch.tanh(k * x))


def consistent(prediction):
    torch.testing.assert_close(AT.alpha * prediction.x0 + AT.sigma * prediction.eps, X, rtol=0, atol=1e-12)


def test_clipping_keeps_image_and_noise_consistent():
    free, clipped = model(0.2)(X, AT), clip_x0(model(0.2))(X, AT)
    assert free.x0.abs().max() > 1.5  # there is something to clip
    assert torch.equal(clipped.x0, free.x0.clamp(-1, 1))
    consistent(clipped)
    assert not torch.equal(clipped.eps, free.eps)


def test_guidance_is_linear_in_its_weight():
    conditional, unconditional = model(1.0), model(0.5)
    for weight in (0.0, 1.0, 3.5):
        prediction = classifier_free(conditional, unconditional, weight)(X, AT)
        c, u = conditional(X, AT), unconditional(X, AT)
        torch.testing.assert_close(prediction.eps, (1 - weight) * u.eps + weight * c.eps, rtol=0, atol=1e-12)
        consistent(prediction)
