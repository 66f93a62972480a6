"""Where training runs: one process, or many under `torchrun`, on which device, in which precision.

Accelerate does the work: it reads what torchrun says, joins the processes and wraps the network.
"""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, tracking
from torch import Tensor, nn

from ddim.device import choose_device
from ddim.errors import UserError

_PRESENT = {
    "tensorboard": lambda: tracking.is_tensorboard_available(),
    "wandb": lambda: tracking.is_wandb_available(),
}
_kept: list[object] = []  # process groups that failed: PyTorch deadlocks if it lets one go while that works


class Engine:
    """This process's place among those that train together.

    Args:
        device: "cpu", "cuda" or "mps"; None takes the best there is. Each of many processes has its own GPU.
        trackers: "tensorboard" or "wandb", whose own packages must be there.
        folder: where trackers write.

    Attributes:
        rank, processes: which of how many this is.
        device: where its model belongs.

    Raises:
        UserError: a device or tracker that is not there, or processes that do not find each other.
    """

    def __init__(
        self, device: str | None = None, trackers: Sequence[str] = (), folder: str | Path | None = None
    ) -> None:
        self.device = torch.device(choose_device(device))
        for tracker in trackers:
            if tracker not in _PRESENT:
                raise UserError(f"There is no tracker {tracker!r}; choose one of {', '.join(_PRESENT)}.")
            if not _PRESENT[tracker]():
                raise UserError(f"{tracker} is not installed; install it with: pip install 'ddim[{tracker}]'.")
        asked, place = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
        if asked > 1 and self.device.type == "cuda" and place >= torch.cuda.device_count():
            raise UserError(
                f"This machine has fewer GPUs ({torch.cuda.device_count()}) than processes were started on it; "
                "start one for each GPU with torchrun --nproc-per-node, or use --device cpu."
            )
        try:
            with meeting():
                self._accelerator = Accelerator(
                    device_placement=False,  # a lone process trains where its model is
                    mixed_precision="no",  # see `autocast`: the environment must not choose
                    cpu=asked > 1 and self.device.type == "cpu",
                    log_with=list(trackers) or None,
                    project_dir=folder,
                )
        except ValueError as error:
            raise UserError(f"Accelerate refused: {error}; start each training in a process of its own.") from error
        self.rank, self.processes = self._accelerator.process_index, self._accelerator.num_processes
        if self.processes != asked:
            raise UserError(
                f"{asked} processes were started, but only {self.processes} found each other; start them with "
                "torchrun --nproc-per-node N -m ddim train ..."
            )
        if self.processes > 1 and self.device.type == "cuda":
            self.device = self._accelerator.device  # one GPU for each process

    @property
    def main(self) -> bool:
        """Whether this is the process that writes, prints and evaluates."""
        return bool(self.rank == 0)

    def share(self, batch_size: int) -> range:
        """The positions of a batch that are this process's."""
        return range(batch_size * self.rank // self.processes, batch_size * (self.rank + 1) // self.processes)

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network whose gradients are averaged over the processes; the same one for a lone process."""
        if self.processes == 1:
            return network
        # A 1x1 convolution's gradient may come in either order: PyTorch says it is slower, and it hardly is.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        return self._accelerator.prepare_model(network)  # type: ignore[no-any-return]

    def no_sync(self, network: nn.Module) -> AbstractContextManager[None]:
        """Within, gradients stay in their process."""
        return self._accelerator.no_sync(network) if self.processes > 1 else nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of `loss`. Raises `UserError` if another process has ended, as all that wait do."""
        with meeting():
            loss.backward()  # type: ignore[no-untyped-call]  # Accelerate's own divides by what its environment says

    def sum(self, *numbers: float) -> list[float]:
        """Each number summed over the processes."""
        if self.processes == 1:
            return list(numbers)
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        with meeting():
            total = self._accelerator.reduce(torch.tensor(numbers, dtype=dtype, device=self.device), "sum")
            return total.tolist()  # type: ignore[no-any-return]

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Within, the first process goes ahead of the others: what it downloads and caches, they find."""
        # Not Accelerate's own: its barrier wants a GPU for each process of a machine that has any, also on the CPU.
        if not self.main:
            self.sum(0.0)
        yield
        if self.main:
            self.sum(0.0)

    def track(self, name: str, config: dict[str, Any]) -> None:
        """Start the trackers, which are told of every later `log`."""
        self._accelerator.init_trackers(name, config)

    def log(self, values: dict[str, float], step: int) -> None:
        """Tell the trackers."""
        self._accelerator.log(values, step=step)

    def close(self) -> None:
        """Let the trackers finish, and the processes part."""
        self._accelerator.end_training()


@contextmanager
def meeting() -> Iterator[None]:
    """Within, processes may wait for each other. Raises `UserError` if one that is waited for has ended."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.distributed.DistError) and "gloo" not in str(error):
            raise
        _kept.append(torch.distributed.group.WORLD)
        raise UserError(
            "Another process of this training has ended, so this one ends too; see what it said."
        ) from error
