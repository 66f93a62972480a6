"""The shipped models draw the images that they drew before: every solver on every spacing, bit for bit.

`fingerprints.json` holds for each way of sampling, the SHA-256 of the float32 images and some pixels. It was
written at commit 17cc915 by `python tests/test_fingerprints.py`. Bits depend on the processor and on the version of
PyTorch. On another machine the test compares the pixels, to the rounding of the network.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

import ddim
from ddim import environment, samplers

FILE = Path(__file__).with_name("fingerprints.json")
SPACINGS = ("trailing", "leading", "linear", "quadratic", "log-snr")
SHOWN = 8  # pixels of the middle row
CLOSE = 2e-3  # of pixels in [-1, 1]: what other kernels may change over ten calls


def machine() -> str:
    """What the bits of a convolution depend on."""
    processor = environment.describe()["processor"]
    return f"torch {torch.__version__.split('+')[0]}, {torch.backends.cpu.get_cpu_capability()}, {processor}"


def images(name: str) -> Iterator[tuple[str, Tensor]]:
    """(way of sampling, images) for each way, from one model."""
    model = ddim.load(name)
    model.presets = ()  # they came later, and take the place of the defaults
    for sampler in samplers.names():
        for spacing in SPACINGS:
            yield f"{sampler} {spacing}", model.sample(1, steps=5, sampler=sampler, spacing=spacing, seed=1)
    yield "defaults", model.sample(2, seed=2)
    yield "defaults, S = 8", model.sample(1, steps=8, seed=2)
    for eta in (0.0, 0.5, 1.0, "hat"):
        yield f"eta {eta}", model.sample(2, steps=8, eta=eta, seed=2)
    yield "list of times", model.sample(1, spacing=[1000, 700, 333.3, 10], seed=3, first=5)
    yield "unclipped", model.sample(1, steps=6, clip=False, seed=3).clamp(-1, 1)
    if model.classes is not None:
        yield "guided", model.sample(2, steps=6, labels=[3, 7], guidance=3.0, seed=4)
    x0 = model.sample(1, steps=8, seed=5)
    labels = None if model.classes is None else [0]
    xT = model.encode(x0, labels=labels, steps=6)
    yield "encoded", xT
    yield "decoded", model.decode(xT, labels=labels, steps=6, sampler="dpmpp-2m")


def fingerprint(x: Tensor) -> dict[str, object]:
    """The digest of all bits, and some pixels."""
    row = x[0, 0, x.shape[2] // 2]
    shown = row[torch.linspace(0, len(row) - 1, SHOWN).round().long()]
    digest = hashlib.sha256(x.float().contiguous().numpy().tobytes()).hexdigest()
    return {"sha256": digest, "pixels": [round(p, 5) for p in shown.tolist()]}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist", "airplanes"])
def test_the_same_seeds_give_the_same_images_as_before(name):
    known = json.loads(FILE.read_text(encoding="utf-8"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = {way: fingerprint(x) for way, x in images(name)}
    finally:
        torch.set_num_threads(threads)
    assert found.keys() >= known[name].keys()
    if known["machine"] == machine():
        assert {way: found[way]["sha256"] for way in known[name]} == {w: f["sha256"] for w, f in known[name].items()}
    for way, before in known[name].items():
        assert found[way]["pixels"] == pytest.approx(before["pixels"], abs=CLOSE), way


if __name__ == "__main__":
    torch.set_num_threads(1)
    lines = [f'"machine": {json.dumps(machine())}']
    for name in ("mnist", "airplanes"):
        ways = (f"  {json.dumps(way)}: {json.dumps(fingerprint(x))}" for way, x in images(name))
        lines.append(f"{json.dumps(name)}: {{\n" + ",\n".join(ways) + "\n }")
    FILE.write_text("{\n " + ",\n ".join(lines) + "\n}\n", encoding="utf-8")
