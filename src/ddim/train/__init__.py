"""Training: the recipe, the loop, and the run folder that they fill."""

from typing import TYPE_CHECKING, Any

from ddim.train.recipe import Plan, Recipe

if TYPE_CHECKING:
    from ddim.train.loop import Progress as Progress
    from ddim.train.loop import fit as fit
    from ddim.train.run import train as train

__all__ = ["Plan", "Progress", "Recipe", "fit", "train"]


def __getattr__(name: str) -> Any:
    # The plan and the recipe are plain data that the command line reads; torch is imported with the loop.
    if name in ("Progress", "fit"):
        from ddim.train import loop

        return getattr(loop, name)
    if name == "train":
        from ddim.train.run import train

        return train
    raise AttributeError(f"module 'ddim.train' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
