"""Batches ahead of time: threads draw the next ones, and copy them to the GPU, while it works on this one."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from ddim.train.draws import Batch

AHEAD = 4  # updates, each by a thread of its own: one alone may draw fewer images a second than a GPU learns from


class Ahead:
    """The same batches as `draw` gives, sooner: asked for those of one update, it begins those of the next ones.

    Args:
        draw: gives the batch of (step, positions), which depends on these two alone.
        device: where images and noise go.
    """

    def __init__(self, draw: Callable[[int, range], Batch], device: torch.device) -> None:
        self._draw, self._device = draw, device
        self._threads = ThreadPoolExecutor(AHEAD)
        self._begun: dict[tuple[int, range], Future[Batch]] = {}
        # Its own, so that copies go beside the arithmetic.
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def __call__(self, step: int, positions: range) -> Batch:
        """The batch of update `step` at those positions."""
        for later in range(step, step + AHEAD):
            if (later, positions) not in self._begun:
                self._begun[later, positions] = self._threads.submit(self._fetch, later, positions)
        batch = self._begun.pop((step, positions)).result()
        self._begun = {key: one for key, one in self._begun.items() if step <= key[0] < step + AHEAD}
        if self._stream is not None:  # its memory is not free before the arithmetic that uses it is done
            for tensor in (batch.x0, batch.noise):
                tensor.record_stream(torch.cuda.current_stream(self._device))
        return batch

    def _fetch(self, step: int, positions: range) -> Batch:
        with torch.cuda.stream(self._stream):
            batch = self._draw(step, positions)
            if self._stream is not None:
                x0, noise = (one.to(self._device) for one in (batch.x0, batch.noise))
                batch = batch._replace(x0=x0, noise=noise)
                self._stream.synchronize()
        return batch
