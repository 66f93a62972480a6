import pytest
import torch

from ddim import schedule
from ddim.denoiser import NULL, Denoiser
from ddim.guidance import classifier_free, classifier_free_in_one_call, clip_x0
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


@pytest.mark.parametrize("labels", [torch.tensor([2, 0, 1, NULL]), None])
@pytest.mark.parametrize("at", [AT, schedule.linear()(torch.tensor([900.0, 500.0, 20.0, 1.0]))])
def test_one_call_of_twice_the_batch_is_the_two_calls(labels, at):
    batches = []

    def predict(x, at, label):
        batches.append(len(x))
        scale = (label + 2).to(x.dtype).view(-1, 1, 1, 1)
        assert at.alpha.ndim == 0 or len(at.alpha) == len(x)
        return from_eps(x, at, torch.tanh(scale * x))

    any_class = torch.full((4,), NULL)
    given = any_class if labels is None else labels
    two = classifier_free(lambda x, at: predict(x, at, given), lambda x, at: predict(x, at, any_class), 2.5)(X, at)
    batches.clear()
    one = classifier_free_in_one_call(predict, labels, NULL, 2.5)(X, at)
    assert batches == [8]
    for a, b in zip(one, two, strict=True):
        assert torch.equal(a, b)


def test_a_guided_step_calls_the_network_once():
    calls = []

    class Counting(torch.nn.Module):
        def forward(self, x, t, label):
            calls.append((len(x), label.tolist()))
            return torch.zeros_like(x)

    model = Denoiser(Counting(), schedule.linear(), shape=(1, 4, 4), classes=3)
    model.sample(2, steps=4, sampler="ddim", labels=[2, 1], guidance=3.0, progress=False)
    assert calls == [(4, [2, 1, NULL, NULL])] * 4
    calls.clear()
    model.sample(2, steps=4, sampler="ddim", labels=[2, 1], progress=False)
    assert calls == [(2, [2, 1])] * 4
