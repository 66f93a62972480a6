"""Which backend serves `sample`: the fastest that is correct, one sentence if there is none, and never old weights."""

import copy
import json
import pickle
import time
import warnings

import pytest
import torch
from small import Plain, plain
from torch import nn

import ddim
from ddim import backends, schedule
from ddim.backends import calibrate, serving
from ddim.backends.torch import Torch
from ddim.denoiser import Denoiser
from ddim.errors import Notice, UserError


class Timed(Torch):
    """The network, slower by some milliseconds a call."""

    precisions = ("fp32",)
    pause, calls = 0.0, []

    def __call__(self, *inputs):
        time.sleep(self.pause)
        self.calls.append(len(inputs[0]))
        return super().__call__(*inputs)


@pytest.fixture
def timed(monkeypatch):
    """Replace the backends: "fast" is the fastest, "wrong" faster still but wrong, "needy" lacks a package."""

    class Fast(Timed):
        pause, calls = 0.001, []

    class Slow(Timed):
        pause, calls = 0.03, []

    class Wrong(Timed):
        def __call__(self, *inputs):
            return 0 * inputs[0]

    class Needy(Timed):
        needs = ("no_such_package",)

    table = {"torch": Slow, "fast": Fast, "wrong": Wrong, "needy": Needy, "openvino": Needy}
    for name in list(backends.backends):
        monkeypatch.delitem(backends.backends, name)
    for name, cls in table.items():
        monkeypatch.setitem(backends.backends, name, cls)
    return table


def test_auto_is_the_fastest_of_the_correct(timed):
    model = backends.serve(plain(), precision="fp32")
    assert model.backend == "torch fp32"
    with pytest.warns(Notice, match=r"Some backends cannot compute this network \(wrong fp32: .* differs .*\)"):
        images = model.sample(3, steps=2, progress=False)
    assert model.backend == "fast fp32"
    assert torch.equal(images, plain().sample(3, steps=2, progress=False))
    assert timed["torch"].calls
    assert not timed["needy"].calls


def test_the_measurement_is_kept(timed, cache):
    with pytest.warns(Notice):
        backends.serve(plain(), precision="fp32").sample(3, steps=2, progress=False)
    (file,) = cache.glob("calibrations/*.json")
    found = json.loads(file.read_text())
    assert (set(found["seconds"]), set(found["unfit"]), found["part"]) == (
        {"torch fp32", "fast fp32"},
        {"wrong fp32"},
        16,
    )
    timed["torch"].calls.clear()
    model = backends.serve(plain(), precision="fp32")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.sample(3, steps=2, progress=False)
    assert model.backend == "fast fp32"
    assert not timed["torch"].calls
    for damage in ("", "{}", "[]", '{"seconds": {"torch fp32": "x"}, "unfit": {}, "part": 3}', file.read_text()[:-20]):
        file.write_text(damage)
        with pytest.warns(Notice):
            backends.serve(plain(), precision="fp32").sample(3, steps=2, progress=False)
        assert json.loads(file.read_text())["unfit"] == found["unfit"]


def test_bf16_must_be_worth_its_rounding():
    found = calibrate.Calibration({"a fp32": 1.0, "b bf16": 0.95, "c bf16": 0.8}, {}, 16)
    assert found.ranked == ["c bf16", "a fp32", "b bf16"]


def test_large_batches_are_computed_in_equal_parts(timed, monkeypatch):
    monkeypatch.setattr(serving, "MANY", 8)
    model = backends.serve(plain(), "fast")
    timed["fast"].calls.clear()
    images = model.sample(20, steps=1, sampler="ddim", batch_size=20, progress=False)
    assert timed["fast"].calls[1:] == [7, 7, 7]  # the first is the comparison with the network
    assert torch.equal(images, plain().sample(20, steps=1, sampler="ddim", batch_size=20, progress=False))


def test_new_weights_are_prepared_again():
    """However they come: an update in place, other tensors, another dtype."""
    model = backends.serve(plain(), "channels-last")
    for change in (
        lambda: next(model.network.parameters()).data.mul_(2),
        lambda: model.network.load_state_dict({name: 2 * one for name, one in model.network.state_dict().items()}),
        lambda: setattr(model.network.layer, "weight", nn.Parameter(torch.ones(1, 1, 3, 3))),
        lambda: model.double(),
    ):
        model.sample(2, steps=2, progress=False)
        with torch.no_grad():
            change()
        expected = model.with_network(model.network).sample(2, steps=2, progress=False)
        torch.testing.assert_close(model.sample(2, steps=2, progress=False), expected, atol=1e-5, rtol=0)
    assert model.backend == "torch fp64"


def test_a_served_model_is_copied_and_pickled():
    model = backends.serve(plain(), "openvino")
    images = model.sample(2, steps=2, progress=False)
    for one in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(one.sample(2, steps=2, progress=False), images)
        assert one.backend == "openvino fp32"
    assert model.with_network(model.network).backend == "torch fp32"


def test_all_but_sample_calls_the_network():
    model = backends.serve(plain(), "openvino")
    x = torch.randn(2, 1, 6, 6, requires_grad=True)
    model(x, model.schedule(torch.tensor(500.0))).x0.sum().backward()
    assert x.grad is not None
    model.decode(model.encode(torch.zeros(1, 1, 6, 6), steps=2), steps=2)
    assert model.backend == "torch fp32"  # nothing was prepared


def test_a_network_that_cannot_be_exported_is_computed_by_torch():
    class Odd(nn.Module):
        def forward(self, x, t):
            return torch.from_numpy(x.numpy() + 0)  # a trace takes this for a constant

    model = backends.serve(Denoiser(Odd(), schedule.linear(), shape=(1, 6, 6)), "openvino")
    with pytest.warns(Notice, match=r"The backend openvino cannot compute this network \(.+\); torch computes it\."):
        images = model.sample(2, steps=2, progress=False)
    assert model.backend == "torch fp32"
    assert torch.equal(images, model.with_network(model.network).sample(2, steps=2, progress=False))


def assert_equal_to_the_network(model, count):
    images = model.sample(count, steps=3, progress=False)
    expected = model.with_network(model.network).sample(count, steps=3, progress=False)
    torch.testing.assert_close(images, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("fault", ["raises", "another shape", "another size"])
def test_a_backend_that_fails_later_gives_way_to_the_network(timed, fault):
    """Also one that computes some batch sizes wrongly: each new size is compared with the network."""

    class Failing(Timed):
        calls = []

        def __call__(self, *inputs):
            output = super().__call__(*inputs)
            if fault == "raises" and len(self.calls) > 4:
                raise RuntimeError("no such operation\nat line 1")
            if fault == "raises" or len(inputs[0]) != 5:
                return output
            return output[:1] if fault == "another shape" else 3 * output

    backends.register("failing one")(Failing)
    model = backends.serve(plain(), "failing one")
    reason = {
        "raises": "no such operation",
        "another shape": r"its output has the shape \(1, 1, 6, 6\), not \(5, 1, 6, 6\)",
        "another size": "its output differs from the network's by 2 of its size",
    }[fault]
    model.prepare(4)
    with pytest.warns(Notice, match=f"The backend failing one fp32 failed .{reason}.; torch computes from here on"):
        assert_equal_to_the_network(model, 5)
    assert model.backend == "torch fp32"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_equal_to_the_network(model, 5)


def test_a_backend_that_fails_while_it_is_measured_is_unfit(timed):
    class Failing(Timed):
        calls = []

        def __call__(self, *inputs):
            if len(self.calls) == 4:
                raise RuntimeError("out of order")
            return super().__call__(*inputs)

    backends.register("failing")(Failing)
    with pytest.warns(Notice, match="failing fp32: out of order"):
        assert backends.serve(plain(), precision="fp32").prepare(2) == "fast fp32"


def test_weights_that_are_broken_condemn_no_others(timed):
    broken = plain()
    with torch.no_grad():
        broken.network.layer.weight.fill_(float("nan"))
    assert backends.serve(broken, precision="fp32").prepare(2) == "torch fp32"
    with pytest.warns(Notice, match="wrong fp32"):
        assert backends.serve(plain(), precision="fp32").prepare(2) == "fast fp32"


def test_other_attributes_are_prepared_again():
    model = backends.serve(plain(), "openvino")
    for scale in (1.0, 3.0, 2.0):
        model.network.scale = scale  # type: ignore[assignment]
        assert_equal_to_the_network(model, 2)
        assert model.backend == "openvino fp32"


def test_hooks_see_the_calls_of_the_network():
    model, calls = backends.serve(plain(), "openvino"), []
    model.prepare(2)
    hook = model.network.layer.register_forward_hook(lambda module, inputs, output: calls.append(len(output)))
    model.sample(2, steps=3, sampler="ddim", progress=False)
    assert (calls, model.backend) == ([2, 2, 2], "torch fp32")
    hook.remove()
    assert model.prepare(2) == "openvino fp32"


def test_a_network_that_counts_its_calls_is_prepared_once(timed):
    class Counts(Plain):  # type: ignore[misc]
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x, t):
            self.calls += 1
            return super().forward(x, t)

    class Apart(Timed):
        calls = []

        def __init__(self, source, *options):
            super().__init__(source, *options)
            self.network = copy.deepcopy(source.network)

    backends.register("apart")(Apart)
    model = backends.serve(plain(network=Counts()), "apart")
    assert_equal_to_the_network(model, 2)
    model.prepare(2)  # the network itself was called: again
    Apart.calls.clear()
    for _ in range(2):
        model.sample(2, steps=1, sampler="ddim", progress=False)
    assert Apart.calls == [2, 2]


@pytest.mark.parametrize("kind", ["lazy", "sparse", "autocast"])
def test_what_cannot_be_prepared_is_computed_by_the_network(kind):
    model = backends.serve(plain(), "openvino")
    if kind == "lazy":
        model.network.layer = nn.LazyConv2d(1, 3, padding=1)
    if kind == "sparse":
        model.network.register_buffer("matrix", torch.eye(3).to_sparse())
    with torch.autocast("cpu", torch.bfloat16, enabled=kind == "autocast"):
        images = model.sample(2, steps=2, progress=False)
        assert model.backend == "torch fp32"
        assert torch.equal(images, model.with_network(model.network).sample(2, steps=2, progress=False))
    assert model.prepare(2) == ("torch fp32" if kind == "sparse" else "openvino fp32")


def test_requests_that_cannot_be_met(timed, monkeypatch):
    for words, text in (
        (("needy",), r'needs no_such_package, which is not installed; run pip install "ddim\[fast\]"'),
        (("turbo",), "There is no backend called 'turbo'"),
        ((None,), "There is no backend called 'None'"),
        ((["fast"],), "There is no backend called"),
        (("fast", "bf16"), "The backend fast computes in fp32 only"),
        (("torch", "fp8"), "There is no precision 'fp8'; choose one of auto, fp32, bf16"),
    ):
        with pytest.raises(UserError, match=text):
            backends.serve(plain(), *words)
    monkeypatch.setattr(Timed, "precisions", ("fp32", "bf16"))
    monkeypatch.setattr(serving, "choose_precision", lambda asked, device: "fp32")
    for name in ("auto", "torch", "fast"):
        with pytest.raises(UserError, match="This processor has no bf16 arithmetic; leave out the precision"):
            backends.serve(plain(), name, "bf16")


def test_the_environment_says_what_auto_means(run_folder, monkeypatch):
    monkeypatch.setenv("DDIM_BACKEND", "channels-last")
    model = ddim.load(run_folder)
    model.sample(1, steps=1, progress=False)
    assert model.backend == "channels-last fp32"
    assert ddim.load(run_folder, backend="torch").server is None
    monkeypatch.setenv("DDIM_BACKEND", "turbo")
    with pytest.raises(UserError, match=r"DDIM_BACKEND names no backend\. There is no backend called 'turbo'"):
        ddim.load(run_folder)


def test_a_short_job_is_not_worth_the_preparation(timed):
    model = backends.serve(plain(), precision="fp32", spare=60.0)
    model.sample(2, steps=2, progress=False)
    assert model.backend == "torch fp32"
    assert not timed["fast"].calls
    for words in (("auto", "fp32", 1e-9), ("fast", "fp32", 60.0)):  # a name that was asked for serves in any case
        model = backends.serve(plain(), *words)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Notice)
            model.sample(2, steps=2, progress=False)
        assert model.backend == "fast fp32"


def test_weights_in_half_precision_are_served_as_they_are(timed):
    model = backends.serve(plain().bfloat16())
    model.sample(2, steps=2, progress=False)
    assert model.backend == "torch bf16"


def test_threads_share_a_model():
    from concurrent.futures import ThreadPoolExecutor

    model = backends.serve(plain(), "openvino")
    with ThreadPoolExecutor(4) as pool:
        images = list(pool.map(lambda seed: model.sample(2, steps=5, seed=seed, progress=False), [0, 1] * 6))
    assert all(torch.equal(one, images[i % 2]) for i, one in enumerate(images))
    assert not torch.equal(images[0], images[1])


def test_prepare_names_what_will_serve(timed):
    assert backends.serve(plain(), precision="fp32", spare=60.0).prepare(4, calls=3) == "torch fp32"
    model = backends.serve(plain(), precision="fp32", spare=60.0)
    with pytest.warns(Notice):
        assert model.prepare(4) == "fast fp32"
    timed["fast"].calls.clear()
    model.sample(4, steps=3, sampler="ddim", progress=False)  # a short job, but it is prepared already
    assert timed["fast"].calls == [4, 4, 4]
    assert plain().prepare() == "torch fp32"
    with pytest.raises(UserError, match="batch_size"):
        plain().prepare(0)


def test_one_image_several_and_many_are_prepared_apart(timed, cache):
    model = backends.serve(plain(), precision="fp32")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        for batch in (1, 2, 3, 64, 100):
            model.prepare(batch)
    found = [json.loads(file.read_text()) for file in cache.glob("calibrations/*.json")]
    assert len(found) == 3
    assert {one["part"] for one in found} in ({1, 16}, {1, 16, 64})
