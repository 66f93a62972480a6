"""Resumed = uninterrupted, to the last bit: whatever ended the training, wherever, and however often."""

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from ddim import nets, schedule
from ddim.cli import main
from ddim.data.images import Images
from ddim.denoiser import Denoiser
from ddim.errors import UserError
from ddim.train import Plan, Recipe, fit, history
from ddim.train.run import train
from ddim.train.state import State
from ddim.train.validation import losses_by_level


class Killed(BaseException):
    """Stands for SIGKILL: nothing that the run would still do is done."""


def random_images(count=40, size=8):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 1, size, size), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 3, (count,), generator=generator)
    return Images(pixels, labels, ("a", "b", "c"), "random", mirror=True)


# -- fit, State and history ------------------------------------------------------------------------------------------

ALL = Plan(  # 3.08 updates to an epoch, and as much as possible of what depends on the step
    steps=8,
    batch_size=13,
    accumulate=2,
    times="stratified",
    weighting="min-snr",
    label_dropout=0.3,
    warmup=5,
    ema=(0.1, 0.05, 0.0),
    precision="fp32",
)
CASES = {
    "unet with dropout": ("unet", {"width": 8, "dropout": 0.3}, {}, torch.float32),
    "plain": ("plain", {"widths": (8, 16)}, {"times": "uniform", "weighting": "simple"}, torch.float32),
    "bf16": ("unet", {"width": 8, "dropout": 0.3}, {"precision": "bf16"}, torch.float32),
    "fp16": ("plain", {"widths": (8, 16)}, {"precision": "fp16", "learning_rate": 1e-3}, torch.float32),
    "channels last": ("unet", {"width": 8, "dropout": 0.3}, {"channels_last": True}, torch.float32),
    "float64": ("plain", {"widths": (8, 16)}, {}, torch.float64),
}


def in_legs(case, folder, stops, **changes):
    """Train, saving after each step in `stops` and then going on from the file, with everything else forgotten.

    Returns the last state and the loss of each step.
    """
    kind, options, plan, dtype = CASES[case]
    plan = replace(ALL, **{**plan, **changes})
    losses = {}
    for leg, stop in enumerate([*stops, None]):
        torch.manual_seed(leg)  # the first weights of a later leg are others, and must not matter
        network = nets.build(kind, 1, "tiny", classes=3, **options)
        for parameter in network.parameters() if leg == 0 else ():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)  # no gradient is zero from the first step on
        model = Denoiser(network.to(dtype), schedule.linear(), shape=(1, 8, 8), classes=3)
        state = State(model.network, plan)
        if plan.precision == "fp16" and leg == 0:  # so much that updates are skipped, and soon more again
            state.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**34, growth_interval=2)
        assert (history.resume(state, folder) is None) == (leg == 0)
        for now in fit(model, random_images(), plan, state=state):
            losses[now.step] = now.loss
            if now.step == stop:
                history.save(state, folder)
                break
    return state, losses


def same(one, other):
    """Whether two states are equal: every tensor by name, and every number but the seconds."""
    ours, theirs = one.tensors(), other.tensors()
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    assert one.numbers() | {"seconds": 0} == other.numbers() | {"seconds": 0}
    assert [average.updates for average in one.averages] == [average.updates for average in other.averages]


@pytest.mark.parametrize("stops", [[3], [4, 7], [1, 2, 3, 4, 5, 6, 7]], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_a_training_that_goes_on_is_the_uninterrupted_one(tmp_path, case, stops):
    """After 3 updates the first epoch has an image left; every 4th batch takes images of two epochs."""
    whole, losses = in_legs(case, tmp_path / "whole", [])
    resumed, again = in_legs(case, tmp_path / "legs", stops)
    same(resumed, whole)
    assert again == losses
    assert whole.step == 8
    if case == "fp16":
        assert 0 < whole.numbers()["updates"] < 8  # some were skipped, as the scaler said
        assert whole.numbers()["scaler"]["scale"] != 2.0**34


def test_a_batch_stays_in_the_parts_that_memory_allowed(tmp_path, monkeypatch):
    """Memory that is short once halves the parts for good, also for a later leg, which has plenty of it."""
    loss = Denoiser.loss

    def short(self, x0, *rest):
        if len(x0) > 4:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return loss(self, x0, *rest)

    monkeypatch.setattr(Denoiser, "loss", short)
    whole, losses = in_legs("unet with dropout", tmp_path / "whole", [])
    assert whole.parts == 4
    in_legs("unet with dropout", tmp_path / "legs", [], steps=3)
    first, _ = in_legs("unet with dropout", tmp_path / "first", [3], steps=3)
    monkeypatch.undo()
    resumed, again = in_legs("unet with dropout", tmp_path / "legs2", [])
    assert resumed.parts == 2
    assert again != losses  # dropout knows the parts
    assert first.parts == 4
