"""How close samples are to real images: features, metrics with intervals and floors, copies, likelihood.

Submodules are imported when their names are first used, so that `import ddim.evaluate` itself takes no time.
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddim.evaluate.copying import copies as copies
    from ddim.evaluate.evaluation import Evaluation as Evaluation
    from ddim.evaluate.evaluation import Metric as Metric
    from ddim.evaluate.extractors import Classifier as Classifier
    from ddim.evaluate.extractors import Extractor as Extractor
    from ddim.evaluate.extractors import choose as choose
    from ddim.evaluate.extractors import get as get
    from ddim.evaluate.extractors import names as names
    from ddim.evaluate.extractors import register as register
    from ddim.evaluate.memorisation import Memorisation as Memorisation
    from ddim.evaluate.scoring import measure as measure
    from ddim.evaluate.scoring import score as score

_MODULES = {
    "Classifier": "extractors",
    "Evaluation": "evaluation",
    "Extractor": "extractors",
    "Memorisation": "memorisation",
    "Metric": "evaluation",
    "choose": "extractors",
    "copies": "copying",
    "get": "extractors",
    "measure": "scoring",
    "names": "extractors",
    "register": "extractors",
    "score": "scoring",
}
__all__ = [*_MODULES]


def __getattr__(name: str) -> Any:
    if name == "Figure":
        warnings.warn("ddim.evaluate.Figure is now ddim.evaluate.Metric.", DeprecationWarning, stacklevel=2)
        name = "Metric"
    if name in _MODULES:
        return getattr(import_module(f"ddim.evaluate.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'ddim.evaluate' has no attribute {name!r}")
