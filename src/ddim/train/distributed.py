"""The processes that train together: one, or many under `torchrun`, and the device of each.

Accelerate does the work: it reads torchrun's environment, connects the processes and wraps the network.
"""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, InitProcessGroupKwargs, tracking
from torch import Tensor, nn

from ddim.device import choose_device
from ddim.errors import UserError
from ddim.text import first_line, printable

TRACKERS = ("tensorboard", "wandb")
_failed_groups: list[object] = []  # kept alive: PyTorch deadlocks if it frees a process group that is still in use


class Distributed:
    """This process's place among those that train, or draw images, together.

    A lone process without trackers does without Accelerate, whose settings hold for all code of a Python process.

    Args:
        device: "cpu", "cuda" or "mps"; None is the first available of cuda, mps and cpu. Each of many processes
            has its own GPU. Attribute `device` is the one that this process's model belongs on.
        trackers: "tensorboard" or "wandb", whose packages must be installed.
        folder: where trackers write.
        patience: how long a process waits for another; None is PyTorch's own limit, 10 to 30 minutes.

    Raises:
        UserError: a device or tracker is not available, or the processes do not find each other.
    """

    def __init__(
        self,
        device: str | None = None,
        trackers: Sequence[str] = (),
        folder: str | Path | None = None,
        patience: timedelta | None = None,
    ) -> None:
        self.device = torch.device(choose_device(device))
        for tracker in trackers:
            if tracker not in TRACKERS:
                raise UserError(f"There is no tracker {tracker!r}; choose one of {', '.join(TRACKERS)}.")
            if not getattr(tracking, f"is_{tracker}_available")():
                raise UserError(f"{tracker} is not installed; install it with: pip install 'ddim[{tracker}]'.")
        self.rank, self.processes = 0, 1
        self._accelerator: Any = None
        self._trackers = tuple(trackers)
        started, local_rank = _variable("WORLD_SIZE", 1), _variable("LOCAL_RANK", 0)
        if (rank := _variable("RANK", 0)) >= max(1, started):
            raise UserError(f"RANK is {rank}, but must be below WORLD_SIZE, {started}; start with torchrun.")
        if started == 1 and not trackers:
            return
        if started > 1 and self.device.type == "cuda" and local_rank >= torch.cuda.device_count():
            raise UserError(
                f"This machine has fewer GPUs ({torch.cuda.device_count()}) than processes were started on it; "
                "start one for each GPU with torchrun --nproc-per-node, or use --device cpu."
            )
        try:
            with report_lost_process():
                self._accelerator = Accelerator(
                    device_placement=False,  # a lone process trains where its model is
                    mixed_precision="no",  # see `autocast`: the environment must not choose
                    cpu=started > 1 and self.device.type == "cpu",
                    log_with=list(trackers) or None,
                    project_dir=folder,
                    kwargs_handlers=None if patience is None else [InitProcessGroupKwargs(timeout=patience)],
                )
        except (ValueError, ImportError, LookupError) as error:
            raise UserError(
                f"Accelerate cannot start: {first_line(error)}; start the training in a new Python process, many of "
                "them with torchrun, and without variables called ACCELERATE_..."
            ) from error
        self.rank, self.processes = self._accelerator.process_index, self._accelerator.num_processes
        if self.processes != started:
            raise UserError(
                f"{started} processes were started, but only {self.processes} found each other; start them with "
                "torchrun --nproc-per-node N -m ddim train ..."
            )
        if self.processes > 1 and self.device.type == "cuda":
            self.device = self._accelerator.device  # one GPU for each process

    @property
    def main(self) -> bool:
        """Whether this is the process that writes, prints and evaluates."""
        return bool(self.rank == 0)

    def share(self, batch_size: int) -> range:
        """Return the positions of a batch that belong to this process."""
        return range(batch_size * self.rank // self.processes, batch_size * (self.rank + 1) // self.processes)

    def wrap(self, network: nn.Module) -> nn.Module:
        """Return the network with gradients averaged over the processes; the same network for a lone process."""
        if self.processes == 1:
            return network
        # The gradient of a 1x1 convolution may come in either memory layout; the warning overstates its cost.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        return self._accelerator.prepare_model(network)  # type: ignore[no-any-return]

    def no_sync(self, network: nn.Module) -> AbstractContextManager[None]:
        """Return a context in which gradients are not averaged over the processes."""
        return self._accelerator.no_sync(network) if self.processes > 1 else nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of `loss`. Raises `UserError` if another process has ended."""
        with report_lost_process():
            loss.backward()  # type: ignore[no-untyped-call]  # Accelerate's own divides by what its environment says

    def sum(self, *numbers: float) -> list[float]:
        """Return each number summed over the processes. Raises `UserError` if another process has ended."""
        if self.processes == 1:
            return list(numbers)
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        with report_lost_process():
            total = self._accelerator.reduce(torch.tensor(numbers, dtype=dtype, device=self.device), "sum")
            return total.tolist()  # type: ignore[no-any-return]

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Within this context, the main process runs before the others, which find what it downloads and caches."""
        # Not Accelerate's own: its barrier wants a GPU for each process of a machine that has any, also on the CPU.
        if not self.main:
            self.sum(0.0)
        yield
        if self.main:
            self.sum(0.0)

    def start_trackers(self, name: str, config: dict[str, Any]) -> None:
        """Start the trackers, which receive every later `log`.

        Raises:
            UserError: a tracker does not start, for instance because it has no key.
        """
        if self._accelerator is None:
            return
        try:
            fields = {key: printable(value) if isinstance(value, str) else value for key, value in config.items()}
            self._accelerator.init_trackers(name, fields)
        except Exception as error:  # each tracker has errors of its own
            login = "run `wandb login`, set WANDB_MODE=offline, or " if "wandb" in self._trackers else ""
            trackers = " and ".join(self._trackers)
            raise UserError(f"{trackers} could not start: {first_line(error)}; {login}leave out --track.") from error

    def log(self, values: dict[str, float], step: int) -> None:
        """Send values to the trackers."""
        if self._accelerator is not None:
            self._accelerator.log(values, step=step)

    def close(self) -> None:
        """Let the trackers finish, and disconnect the processes."""
        if self._accelerator is not None:
            self._accelerator.end_training()


def _variable(name: str, default: int) -> int:
    """Return the number in an environment variable. Raises `UserError` if it is not one."""
    text = os.environ.get(name, "")
    if text and not text.isdecimal():
        raise UserError(f"The variable {name} is {text!r}, not a whole number; unset it, or start with torchrun.")
    return int(text or default)


@contextmanager
def report_lost_process() -> Iterator[None]:
    """Within this context, processes may wait for each other; if one has ended, raise `UserError`."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.distributed.DistError) and "gloo" not in str(error):
            raise
        _failed_groups.append(torch.distributed.group.WORLD)
        raise UserError(
            "Another process of this command has ended, so this one ends too; see that process's messages."
        ) from error
