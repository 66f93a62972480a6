"""The benchmarks compare equal things, and find their places in the pages."""

import re
from pathlib import Path

import pytest
import torch

import ddim

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.parametrize("classes", [None, 3])
def test_diffusers_network_with_our_weights_is_our_network(classes, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from peers import converted

    torch.manual_seed(0)
    network = ddim.nets.build(
        "unet", 3, "tiny", classes=classes, width=16, multipliers=(1, 2, 3), blocks=2, attention=(1,)
    )
    for weight in network.parameters():  # the last layers of each block start at zero
        weight.data += 0.1 * torch.randn_like(weight)
    model = ddim.Denoiser(network, ddim.schedule.cosine(), "v", (3, 8, 8), classes).eval()
    theirs = converted.to_unet2d(model)
    x, t = torch.randn(4, 3, 8, 8), torch.tensor([1.0, 10.0, 500.0, 1000.0])
    label = None if classes is None else torch.tensor([-1, 0, 1, 2])
    theirs.labels = label
    with torch.no_grad():
        expected = network(x, t, label)
        output = theirs(x, t - 1).sample
    assert expected.std() > 0.1
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)


def test_the_pages_have_the_places_that_the_benchmarks_fill():
    code = "".join(path.read_text(encoding="utf-8") for path in BENCHMARKS.glob("*.py"))
    places = re.findall(r'harness\.fill\("([^"]+)", "([^"]+)"', code)
    assert places
    for page, script in places:
        text = (BENCHMARKS.parent / page).read_text(encoding="utf-8")
        begin, end = f"<!-- benchmarks/{script} writes from here -->", f"<!-- benchmarks/{script}: end -->"
        assert (text.count(begin), text.count(end)) == (1, 1), (page, script)
        assert text.index(begin) < text.index(end)
