"""How good images are: what is seen in them, and how far that is from what is seen in real ones."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddim.evaluate.copying import copies as copies
    from ddim.evaluate.evaluation import Evaluation as Evaluation
    from ddim.evaluate.extractor import Extractor as Extractor
    from ddim.evaluate.extractor import choose as choose
    from ddim.evaluate.extractor import get as get
    from ddim.evaluate.extractor import names as names
    from ddim.evaluate.intervals import Figure as Figure
    from ddim.evaluate.memorisation import Memorisation as Memorisation
    from ddim.evaluate.scoring import measure as measure
    from ddim.evaluate.scoring import score as score

_HOMES = {
    "Evaluation": "evaluation",
    "Extractor": "extractor",
    "Figure": "intervals",
    "Memorisation": "memorisation",
    "choose": "extractor",
    "copies": "copying",
    "get": "extractor",
    "measure": "scoring",
    "names": "extractor",
    "score": "scoring",
}
__all__ = [
    "Evaluation",
    "Extractor",
    "Figure",
    "Memorisation",
    "choose",
    "copies",
    "get",
    "measure",
    "names",
    "score",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"ddim.evaluate.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'ddim.evaluate' has no attribute {name!r}")
