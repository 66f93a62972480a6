"""Each backend computes what the network computes, for any batch, and what it keeps is made again if it is wrong."""

import contextlib
import copy
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from small import Plain, plain, source

import ddim
from ddim import backends
from ddim.backends import kept
from ddim.backends.base import Source, in_parts
from ddim.backends.prepare import TOLERANCE, Unfit, error, prepare
from ddim.backends.torch import Torch

QUICK = [name for name in backends.names() if name not in ("compiled", "onnx")]


@pytest.mark.parametrize("name", QUICK)
def test_a_backend_computes_the_network(by_class, name):
    backend = prepare(name, "fp32", source(by_class), 4)
    for batch in (1, 4, 9):
        assert error(backend, source(by_class), batch) < 1e-5


@pytest.mark.parametrize("name", ["compiled", "onnx"])
@pytest.mark.slow
def test_a_backend_that_exports_for_seconds_computes_the_network(name):
    backend = prepare(name, "fp32", source(plain()), 4)
    for batch in (1, 4, 9):
        assert error(backend, source(plain()), batch) < 1e-5


@pytest.mark.parametrize(("name", "size"), [("unet", "folded"), ("unet2d", "tiny"), ("lucidrains", "tiny")])
def test_openvino_compiles_a_network(name, size):
    """OpenVINO 2026.4 ends the process with a segmentation fault for a split of (B, 2 C, 1, 1) with B > 1."""
    code = (
        "from ddim import Denoiser, nets, schedule\nfrom ddim.backends import serve\n"
        f"model = Denoiser(nets.build({name!r}, 1, {size!r}, 10), schedule.linear(), 'v', (1, 28, 28), 10)\n"
        "serve(model, 'openvino', 'fp32')\nmodel.sample(16, steps=1, progress=False)\nprint(model.backend)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "openvino fp32\n", done.stderr


def test_openvino_computes_a_part_of_the_batch_in_each_thread(by_class, monkeypatch):
    monkeypatch.setattr("ddim.backends.openvino.threads", lambda: 4)
    backend = prepare("openvino", "fp32", source(by_class), 4)
    for batch in (1, 2, 3, 5, 9, 8):
        assert error(backend, source(by_class), batch) < 1e-5
    inputs = source(by_class).inputs(9)
    expected = backend(*inputs).clone()
    first = backend(*[one[:5] for one in inputs])
    torch.testing.assert_close(first, expected[:5], rtol=0, atol=1e-6)
    torch.testing.assert_close(backend(*inputs), expected, rtol=0, atol=0)
    torch.testing.assert_close(first, expected[:5], rtol=0, atol=1e-6)  # later calls do not write into it


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="Linux says which cores a thread may use")
def test_openvino_leaves_its_threads_free_to_move(by_class):
    """Pinned threads of two processes take the same core, while another one is idle."""
    backend, inputs = prepare("openvino", "fp32", source(by_class), 64), source(by_class).inputs(64)
    calls = threading.Thread(target=lambda: [backend(*inputs) for _ in range(20)])
    calls.start()
    allowed = set()
    while calls.is_alive():
        for path in Path("/proc/self/task").iterdir():
            with contextlib.suppress(ProcessLookupError):  # it has ended
                allowed.add(frozenset(os.sched_getaffinity(int(path.name))))
    assert allowed == {frozenset(os.sched_getaffinity(0))}


@pytest.mark.parametrize("name", ["torch", "channels-last", "openvino"])
def test_bf16_rounds_and_no_more(by_class, name):
    """8 bits of the mantissa: errors of some tenths of a percent, but not of 0 where it is computed in bf16."""
    relative = error(prepare(name, "bf16", source(by_class), 4), source(by_class), 4)
    assert relative < TOLERANCE["bf16"]
    if name != "openvino" or ddim.device.choose_precision("auto", torch.device("cpu")) == "bf16":
        assert relative > 1e-4


def test_images_are_those_of_the_network(by_class):
    expected = by_class.sample(5, steps=4, guidance=2.0, progress=False)
    assert by_class.backend == "torch fp32"
    for name in QUICK:
        backends.serve(by_class, name, "fp32")
        torch.testing.assert_close(
            by_class.sample(5, steps=4, guidance=2.0, progress=False), expected, atol=1e-4, rtol=0
        )
        assert by_class.backend == f"{name} fp32"


def test_a_weak_model_and_the_steps_outside_an_interval_are_served_too(by_class):
    """Such a step has half the batch of the others; the weak model is another network."""
    weak = copy.deepcopy(by_class)
    with torch.no_grad():
        next(weak.network.parameters()).mul_(0.5)
    ways: list[dict[str, Any]] = [{}, {"weak": weak}]
    options: dict[str, Any] = {"steps": 4, "guidance": 2.0, "guidance_interval": (0.5, 30.0), "progress": False}
    expected = [by_class.sample(5, **options, **way) for way in ways]
    assert not torch.allclose(expected[0], expected[1], atol=1e-2)
    for name in QUICK:
        for one in (by_class, weak):
            backends.serve(one, name, "fp32")
        for images, way in zip(expected, ways, strict=True):
            torch.testing.assert_close(by_class.sample(5, **options, **way), images, atol=1e-4, rtol=0)
        assert by_class.backend == weak.backend == f"{name} fp32"


def test_what_is_kept_is_used_again(by_class, monkeypatch, cache):
    prepare("openvino", "fp32", source(by_class), 2)
    (place,) = cache.glob("openvino-*")
    made = []
    monkeypatch.setattr(backends.backends["openvino"], "make", lambda *arguments: made.append(arguments))
    prepare("openvino", "fp32", source(by_class), 3)
    assert not made
    with torch.no_grad():  # other weights are another network
        next(by_class.network.parameters()).add_(1)
    with pytest.raises(Unfit):
        prepare("openvino", "fp32", source(by_class), 2)
    assert made
    assert place.is_dir()


@pytest.mark.parametrize("damage", ["file", "link", "link to a folder"])
def test_an_entry_that_is_no_folder_of_ours_is_made_again(cache, tmp_path, damage):
    one = source(plain())
    prepare("openvino", "fp32", one, 2)
    (place,) = cache.glob("openvino-*")
    shutil.rmtree(place)
    if damage == "file":
        place.write_text("")
    else:
        place.symlink_to(tmp_path if damage == "link to a folder" else tmp_path / "nowhere")
    assert error(prepare("openvino", "fp32", one, 2), one, 2) < 1e-5
    assert place.is_dir()
    assert not place.is_symlink()


@pytest.mark.parametrize("damage", ["cut", "empty", "absent", "other"])
def test_what_is_damaged_is_made_again(by_class, cache, damage):
    prepare("openvino", "fp32", source(by_class), 2)
    (place,) = cache.glob("openvino-*")
    file = place / "network.bin"
    whole = file.read_bytes()
    if damage == "absent":
        file.unlink()
    else:
        file.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "other": bytes(len(whole))}[damage])
    assert error(prepare("openvino", "fp32", source(by_class), 2), source(by_class), 2) < 1e-5
    assert file.read_bytes() == whole


def test_what_is_stale_is_made_again(cache):
    """The same weights in other code: the file's name cannot tell, the comparison with the network does."""
    prepare("openvino", "fp32", source(plain(scale=1.0)), 2)
    again = source(plain(scale=2.0))
    assert error(prepare("openvino", "fp32", again, 2), again, 2) < 1e-5
    assert len(list(cache.glob("openvino-*"))) == 1


def test_the_cache_holds_so_many_and_no_drafts(cache, monkeypatch):
    monkeypatch.setattr(kept, "ENTRIES", 3)

    def write(folder):
        (folder / "file").write_text("x")

    def fail(folder):
        raise ZeroDivisionError

    (cache / ".abandoned").mkdir(parents=True)
    monkeypatch.setattr(kept, "ABANDONED", -1)
    for i in range(5):
        kept.keep("one", f"{i}", write)
    assert sorted(path.name for path in cache.iterdir()) == ["one-2", "one-3", "one-4"]
    with pytest.raises(ZeroDivisionError):
        kept.keep("one", "5", fail)
    assert len(list(cache.iterdir())) == 3


def test_a_cache_that_cannot_be_written_is_done_without(by_class, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DDIM_CACHE", str(tmp_path / "file"))
    assert error(prepare("openvino", "fp32", source(by_class), 2), source(by_class), 2) < 1e-5


def test_a_network_that_cannot_be_prepared_is_unfit(by_class):
    class Broken(backends.Backend):
        def __init__(self, *arguments):
            raise OSError("no such chip")

        def __call__(self, *inputs):
            raise NotImplementedError

    class Wrong(Torch):
        def __call__(self, *inputs):
            return 1.1 * super().__call__(*inputs)

    class NaN(Torch):
        def __call__(self, *inputs):
            return float("nan") * inputs[0]

    for cls, reason in ((Broken, "no such chip"), (Wrong, "differs from the network's by 0.1 of"), (NaN, "by nan of")):
        backends.register("bad")(cls)
        with pytest.raises(Unfit, match=reason):
            prepare("bad", "fp32", source(by_class), 2)
    del backends.backends["bad"]


@pytest.mark.parametrize("time", [5.0, 500.0, 995.0])
def test_a_network_that_branches_at_some_time_is_not_traced(time):
    """A trace holds one of the two ways, and noise at random times may go through that one alone."""

    class Branching(Plain):  # type: ignore[misc]
        def forward(self, x, t):
            return super().forward(x, t) * (3 if t[0] > time else 1)

    with pytest.raises(Unfit, match="its output differs"):
        prepare("openvino", "fp32", source(plain(network=Branching())), 2)


def test_what_changes_its_input_is_not_prepared(monkeypatch):
    class InPlace(Plain):  # type: ignore[misc]
        def forward(self, x, t):
            return super().forward(x.relu_(), t)

    class Erases(Torch):
        def __call__(self, *inputs):
            output = super().__call__(*inputs)
            inputs[0].zero_()
            return output

    monkeypatch.setitem(backends.backends, "erases", Erases)
    for name, one in (("openvino", source(plain(network=InPlace()))), ("erases", source(plain()))):
        with pytest.raises(Unfit, match="it, or the network, changes its input in place"):
            prepare(name, "fp32", one, 2)


def test_a_module_may_have_extra_state_of_any_kind():
    class Extra(Plain):  # type: ignore[misc]
        def get_extra_state(self):
            return {"version": 1}

    one = source(plain(network=Extra()))
    assert error(prepare("openvino", "fp32", one, 2), one, 2) < 1e-5


def test_inputs_are_float32_whatever_the_default(by_class):
    expected = source(by_class).inputs(2)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            found = source(by_class).inputs(2)
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(map(torch.equal, found, expected))


def test_a_package_whose_import_is_forbidden_is_missing(monkeypatch):
    class Forbids:
        def find_spec(self, name, path=None, target=None):
            if name == "openvino":
                raise ModuleNotFoundError(name)

    monkeypatch.setattr(sys, "meta_path", [Forbids(), *sys.meta_path])
    for name in [name for name in sys.modules if name.split(".")[0] == "openvino"]:
        monkeypatch.delitem(sys.modules, name)
    assert backends.backends["openvino"].missing() == ["openvino"]


def test_nothing_is_sent_and_nothing_is_printed(run_folder, tmp_path):
    """OpenVINO's telemetry is left out, as importing it sends an event, and absl, which takes over logging."""
    code = (
        "import sys, ddim\n"
        f"model = ddim.load({str(run_folder)!r}, backend='openvino')\n"
        "model.sample(2, steps=2, progress=False)\n"
        "assert model.backend == 'openvino fp32'\n"
        "assert 'openvino' in sys.modules and not {'openvino_telemetry', 'absl'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_parts_hold_each_image_once():
    x, t = torch.arange(7)[:, None], torch.arange(7)
    parts = in_parts((x, t), 3)
    assert [one[1].tolist() for one in parts] == [[0, 1, 2], [3, 4, 5], [6, 6, 6]]
    assert all(one[0].shape == (3, 1) for one in parts)


def test_a_key_knows_weights_and_architecture(by_class):
    one = source(by_class)
    assert one.key == Source(by_class.network, (1, 7, 5), 3, 1000).key
    assert one.architecture != Source(by_class.network, (1, 8, 8), 3, 1000).architecture
    with torch.no_grad():
        next(by_class.network.parameters()).view(-1)[0] += 1
    changed = source(by_class)
    assert (changed.architecture, changed.key == one.key) == (one.architecture, False)


def test_all_models_share_one_core(by_class):
    """Freed, a core would take the stack of the signal handlers with it: Ctrl-C in tests/train crashed after this."""
    one, other = (vars(prepare("openvino", "fp32", model, 2)) for model in (source(by_class), source(plain())))
    assert one["_core"] is other["_core"]
