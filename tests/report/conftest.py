import json

import madeup
import pytest
import torch
from safetensors.torch import save as to_bytes

from ddim import model_io, nets, schedule
from ddim.denoiser import Denoiser
from ddim.files import write_bytes, write_text

PIECES = ("gallery", "strips", "timing")


@pytest.fixture
def trained(tmp_path):
    """A folder as `ddim train` leaves it, by what is special about it."""

    def make(lines=3, data="digits", classes=None, old=False, plan=None):
        torch.manual_seed(0)
        network = nets.build("plain", 1, "tiny", widths=(8, 16))
        recipe = {"data": data, "classes": classes, "plan": {"batch_size": 64, **(plan or {})}}
        model_io.save(Denoiser(network, schedule.linear(T=20), shape=(1, 8, 8)), tmp_path, recipe=recipe)
        images = torch.randint(0, 256, (100, 1, 8, 8), dtype=torch.uint8)
        write_bytes(tmp_path / "samples/data.safetensors", to_bytes({"images": images}))
        metrics = [
            {"step": 9 * i, "epoch": float(i), "loss": 1 / i, "held_out": 0.9 / i, "seconds": 100.0 * i}
            for i in range(1, lines + 1)
        ]
        if not old:  # a run of before these were written
            for line in metrics:
                held_out, train = (
                    [share * (1 + b % 2 / 10) / line["epoch"] for b in range(10)] for share in (0.9, 0.8)
                )
                line |= {"train": 0.8 / line["epoch"], "held_out_by_level": held_out, "train_by_level": train}
                drawn = {name: images[i : i + 16].clone() for i, name in enumerate(("averaged", "latest"))}
                write_bytes(tmp_path / f"samples/step-{line['step']:08d}.safetensors", to_bytes(drawn))
        write_text(tmp_path / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in metrics))
        write_text(tmp_path / "environment.json", json.dumps({"versions": {"ddim": "1"}, "device": "cpu"}))
        return tmp_path

    return make


@pytest.fixture
def complete(trained):
    """A folder with the results of what `ddim report` computes too."""
    from ddim import experiments

    folder = trained()
    assert tuple(experiments.run(experiments.Setup(folder, model_io.load(folder)), pieces=PIECES)) == PIECES
    return folder


@pytest.fixture
def reproduced(complete):
    """A folder with all that the report can show; what takes long to compute is made up."""
    madeup.leave_all(complete)
    return complete
