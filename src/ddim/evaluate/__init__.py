"""How close samples are to real images: features, metrics with intervals and floors, copies, likelihood."""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ddim.evaluate.evaluation import Evaluation, Metric
from ddim.evaluate.extractors import Classifier, Extractor, choose, get, names, register

if TYPE_CHECKING:
    from ddim.evaluate.copying import Memorisation, copies
    from ddim.evaluate.real import labels_like
    from ddim.evaluate.scoring import measure, score

__all__ = ["Classifier", "Evaluation", "Extractor", "Metric", "choose", "get", "names", "register"]
__all__ += ["Memorisation", "copies", "labels_like", "measure", "score"]  # imported when first used: scipy takes time
_LAZY = {"Memorisation": "copying", "copies": "copying", "labels_like": "real"}
_LAZY |= {"measure": "scoring", "score": "scoring"}


def __getattr__(name: str) -> Any:
    if name == "Figure":
        warnings.warn("ddim.evaluate.Figure is now ddim.evaluate.Metric.", DeprecationWarning, stacklevel=2)
        return Metric
    if name in _LAZY:
        return getattr(import_module(f"ddim.evaluate.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'ddim.evaluate' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
