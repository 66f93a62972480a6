"""`ddim list`: the registered names, each with one sentence."""

import functools
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module, resources
from typing import Annotated, Any

from tyro.conf import Positional, arg

from ddim.registry import Registry

KINDS: Registry[tuple[str, str]] = Registry("kind of names", extensible=False)
"""kind -> (module with a registry, the registry's name there); "" for the two that are files."""
KINDS |= {
    "samplers": ("ddim.samplers", "samplers"),
    "spacings": ("ddim.timesteps", "spacings"),
    "schedules": ("ddim.schedule", "schedules"),
    "networks": ("ddim.nets", "networks"),
    "predictions": ("ddim.predict", "predictions"),
    "methods": ("ddim.edit", "methods"),
    "backends": ("ddim.backends", "backends"),
    "weightings": ("ddim.train.loss", "weightings"),
    "data": ("ddim.data.images", "loaders"),
    "extractors": ("ddim.evaluate.extractors", "extractors"),
    "experiments": ("ddim.experiments", "experiments"),
    "recipes": ("ddim.train.recipe", ""),
    "models": ("ddim.loading", ""),
}


@dataclass(frozen=True)
class Names:
    """List the registered names of one kind, or of all kinds: samplers, schedules, networks, data sets and others.

    For example:
      ddim list
      ddim list samplers
      ddim list samplers --plugin mine.py
    """

    kind: Annotated[Positional[str | None], arg(metavar="[KIND]")] = None
    """What to list, e.g. samplers or data; everything if not given."""

    def run(self) -> dict[str, Any]:
        listed = {}
        for kind in KINDS if self.kind is None else [self.kind]:
            rows = list(described(kind))
            listed[kind] = dict(rows)
            width = max((len(name) for name, _ in rows), default=0)
            print(f"{kind}:")
            for name, sentence in rows:
                print(f"  {name.ljust(width)}  {sentence}".rstrip())
        return listed


def described(kind: str) -> Iterator[tuple[str, str]]:
    """Yield each name of a kind with one sentence. Raises `UserError` for an unknown kind."""
    module, registry = KINDS[kind]
    if not registry:
        yield from _recipes() if kind == "recipes" else _models()
        return
    home = import_module(module)
    registered = getattr(home, registry)
    names = home.names() if hasattr(home, "names") else registered  # those that work without options
    yield from ((name, first_sentence(registered[name])) for name in names)


def first_sentence(registered: Any) -> str:
    """Return the first sentence of the docstring of a class, a function, or an instance's class."""
    if isinstance(registered, functools.partial):
        registered = registered.func
    if not inspect.isroutine(registered) and not inspect.isclass(registered):
        registered = type(registered)
    text = inspect.cleandoc(registered.__doc__ or "")
    if text.startswith(f"{registered.__name__}("):  # the docstring that `dataclass` writes
        return ""
    return _first(text)


def _first(text: str) -> str:
    paragraph = " ".join(text.split("\n\n")[0].split())
    return re.split(r"(?<=\.)\s+(?=[A-Z])", paragraph)[0].removesuffix(":")


def _recipes() -> Iterator[tuple[str, str]]:
    """Yield the shipped recipes with the first sentence of the comment at the top of each file."""
    from ddim.train import recipe

    for name in recipe.names():
        lines = resources.files("ddim.train").joinpath("recipes", f"{name}.toml").read_text("utf-8").splitlines()
        comment = [line.removeprefix("#") for line in lines if line.startswith("#")]
        yield name, _first("\n".join(comment))


def _models() -> Iterator[tuple[str, str]]:
    """Yield the models that come with ddim with the facts of their config."""
    from ddim.config import read_config
    from ddim.loading import SHIPPED

    for path in sorted(SHIPPED.glob("*/config.json")):
        config = read_config(path.parent)
        channels, height, width = config["shape"]
        classes = f", {config['classes']} classes" if config["classes"] else ""
        colour, data = "RGB" if channels == 3 else "grey", config["recipe"]["data"]
        yield path.parent.name, f"{height} × {width} pixels, {colour}{classes}, trained on {data}."
