"""The place of a process among others, the device and the precision."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from ddim.device import autocast, choose_device, choose_precision
from ddim.errors import UserError
from ddim.train.distributed import Distributed


@pytest.mark.parametrize(("batch_size", "processes"), [(64, 1), (64, 2), (13, 3), (4, 4)])
def test_the_shares_of_a_batch_are_all_of_it(batch_size, processes):
    distributed, shares = Distributed("cpu"), []
    distributed.processes = processes
    for distributed.rank in range(processes):
        shares += distributed.share(batch_size)
    assert shares == list(range(batch_size))


def test_processes_that_do_not_find_each_other_are_said(monkeypatch):
    """As when a launcher other than torchrun starts several, and each believes that it is alone."""
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setattr(
        "ddim.train.distributed.Accelerator", lambda **_: SimpleNamespace(process_index=0, num_processes=1)
    )
    with pytest.raises(UserError, match=r"3 processes were started, but only 1.*torchrun"):
        Distributed("cpu")


@pytest.mark.parametrize("name", ["WORLD_SIZE", "LOCAL_RANK", "RANK"])
def test_a_variable_that_is_not_a_number_is_said(monkeypatch, name):
    monkeypatch.setenv(name, "x")
    with pytest.raises(UserError, match=f"variable {name} is 'x', not a whole number"):
        Distributed("cpu")


def test_a_rank_that_there_is_not_is_said(monkeypatch):
    """Without this error the process waits for the others for half an hour and ignores signals."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(UserError, match="RANK is 2, but must be below WORLD_SIZE, 2"):
        Distributed("cpu")


STRANGER = """
from accelerate import Accelerator
from ddim.errors import UserError
from ddim.train.distributed import Distributed

assert Distributed("cpu").sum(3.0) == [3.0]
Accelerator(mixed_precision="bf16", cpu=True)  # ours has left no settings behind
assert Distributed("cpu").processes == 1
try:
    Distributed("cpu", ["tensorboard"], "tracked")
except UserError as error:
    print(error)
"""


def test_accelerators_of_other_code_and_ours_leave_each_other_alone():
    """Accelerate's settings hold for a whole process; a training alone in it has none, one with trackers says so."""
    pytest.importorskip("tensorboard")
    done = subprocess.run([sys.executable, "-c", STRANGER], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Accelerate cannot start: ")
    assert "start the training in a new Python process" in done.stdout
    assert done.stdout.count("\n") == 1


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr("ddim.train.distributed.choose_device", lambda name: "cuda")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(UserError, match=r"fewer GPUs \(1\) than processes.*--device cpu"):
        Distributed("cuda")


def test_a_tracker_whose_package_is_missing_is_said(monkeypatch):
    monkeypatch.setattr("accelerate.tracking.is_wandb_available", lambda: False)
    with pytest.raises(UserError, match=r"wandb.*ddim\[wandb\]"):
        Distributed("cpu", ["wandb"])


def test_a_device_that_is_not_there():
    with pytest.raises(UserError, match="no device 'abacus'"):
        choose_device("abacus")
    assert choose_device("cpu") == "cpu"


def test_precision_that_is_asked_for_is_taken_and_auto_is_what_the_processor_is_made_for(monkeypatch):
    cpu = torch.device("cpu")
    for precision in ("fp32", "bf16", "fp16"):
        assert choose_precision(precision, cpu) == precision
    for capable in (True, False):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": capable}, raising=False)  # noqa: B023
        assert choose_precision("auto", cpu) == ("bf16" if capable else "fp32")


def test_autocast_reaches_the_network_and_leaves_the_arithmetic_of_the_schedule():
    layer, x = torch.nn.Linear(4, 4), torch.randn(2, 4)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with autocast(precision, torch.device("cpu")):
            assert layer(x).dtype == dtype
            assert (0.5 * x + 0.5 * x).dtype == torch.float32
