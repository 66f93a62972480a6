"""A network taken apart: its stages, what comes out of each, and where its parameters are."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ddim.denoiser import Denoiser


@dataclass(frozen=True)
class Stage:
    """A part of a network.

    Attributes:
        name: of the attribute that holds it, e.g. "down".
        index: its place in a list of such parts, or None.
        shape: of one image's activation there, (C, H, W); None if it was not called or is no image.
        parameters: numbers in its weights; those shared with an earlier stage count there.
    """

    name: str
    index: int | None
    shape: tuple[int, ...] | None
    parameters: int


def stages(model: Denoiser) -> list[Stage]:
    """The parts of a model's network in the order in which it holds them, measured with one call.

    Lists of modules, such as `down` and `up`, are opened; what no part owns comes last, as "other".
    """
    network = model.network
    parts = list(_parts(network))
    widest = [_widest(module) for _, _, module in parts]
    shapes: dict[nn.Module, tuple[int, ...]] = {}

    def note(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            shapes[module] = tuple(output.shape[1:])

    hooks = [module.register_forward_hook(note) for module in widest]
    try:
        with torch.no_grad():
            x = torch.zeros(1, *model.shape, device=model.device, dtype=model.dtype)
            model(x, model.schedule(1), torch.zeros(1, dtype=torch.long))
    finally:
        for hook in hooks:
            hook.remove()

    seen: set[Tensor] = set()
    found = [
        Stage(name, index, shapes.get(inner), _count(module, seen))
        for (name, index, module), inner in zip(parts, widest, strict=True)
    ]
    rest = _count(network, seen)
    return [*found, Stage("other", None, None, rest)] if rest else found


def _parts(network: nn.Module) -> Iterator[tuple[str, int | None, nn.Module]]:
    for name, child in network.named_children():
        if isinstance(child, nn.ModuleList):
            for index, one in enumerate(child):
                yield name, index, one
        else:
            yield name, None, child


def _widest(stage: nn.Module) -> nn.Module:
    """The largest module that a stage calls: a stage may also shrink or grow, but this is where it works."""
    called: list[nn.Module] = []
    for child in stage.children():
        called += child if isinstance(child, nn.ModuleList) else [child]
    return max(called, key=lambda module: sum(p.numel() for p in module.parameters()), default=stage)


def _count(module: nn.Module, seen: set[Tensor]) -> int:
    fresh = [p for p in module.parameters() if p not in seen]
    seen.update(fresh)
    return sum(p.numel() for p in fresh)
