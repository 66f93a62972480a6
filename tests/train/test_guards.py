"""What stops a training, what does not, and what is said."""

import pytest
import torch

from ddim.errors import UserError
from ddim.train.guards import Breakdown, Guard, is_out_of_memory, out_of_memory


def test_a_loss_that_falls_or_wavers_is_let_be():
    guard = Guard()
    noise = torch.rand(2000, generator=torch.Generator().manual_seed(0))
    for step in range(1, 2001):
        guard.check(step, 1 / (1 + step / 20) + 0.1 * noise[step - 1].item(), 1e3, 1e-3)  # a large gradient is cut


def test_one_bad_batch_is_not_an_explosion():
    guard = Guard()
    for step in range(1, 300):
        guard.check(step, 3.0 if step == 200 else 0.05, 1.0, 1e-3)


def test_an_exploding_loss_is_stopped_within_a_few_updates_and_named():
    guard = Guard()
    for step in range(1, 300):
        guard.check(step, 0.05, 1.0, 1e-3)
    with pytest.raises(UserError, match=r"step 3\d\d: the loss rose from 0\.05 to .*below 0\.001"):
        for step in range(300, 350):
            guard.check(step, 30.0, 1.0, 1e-3)


def test_a_network_that_has_lost_everything_is_noticed():
    """As once seen on MNIST: from 0.025 to 0.94, below the loss of 1 with which an untrained network begins."""
    guard = Guard()
    guard.check(1, 1.0, 1.0, 2e-3)
    for step in range(2, 3000):
        guard.check(step, 0.025, 1.0, 2e-3)
    with pytest.raises(Breakdown) as breakdown:
        for step in range(3000, 3100):
            guard.check(step, 0.94, 1.0, 2e-3)
    assert 3000 <= breakdown.value.step < 3030


@pytest.mark.parametrize(("loss", "norm"), [(float("nan"), 1.0), (0.1, float("inf"))])
def test_what_is_no_number_is_stopped_at_once(loss, norm):
    with pytest.raises(UserError, match="broke down at step 7: the loss is"):
        Guard().check(7, loss, norm, 1e-3)


def test_how_the_processor_says_that_memory_did_not_suffice():
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**60)
    assert is_out_of_memory(error.value)
    with pytest.raises(RuntimeError) as error:
        torch.zeros(2) @ torch.zeros(3)
    assert not is_out_of_memory(error.value)


def test_the_remedy_for_too_little_memory_names_what_would_fit():
    assert "64 images at a time do not fit into memory, 32 might" in str(out_of_memory(64, 1))
    assert "--accumulate 4" in str(out_of_memory(64, 2))


def test_the_remedy_for_a_breakdown_names_what_was_asked_for():
    said = {precision: str(Breakdown(3, "the loss is nan", 1e-3, precision)) for precision in ("fp32", "bf16", "fp16")}
    assert said["fp32"].endswith("begin again with a learning rate below 0.001.")
    for low in ("bf16", "fp16"):
        assert said[low].endswith(f"with --precision fp32 instead of {low}, or with a learning rate below 0.001.")
