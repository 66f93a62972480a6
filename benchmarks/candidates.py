"""The candidates of networks.py: networks and sizes beyond those that ddim names, and changes of the recipe's plan."""

from typing import Any

import other_networks  # noqa: F401 - registers its networks

from ddim import nets

FOLDED: dict[str, Any] = {"width": 64, "multipliers": (1, 2), "blocks": 1, "attention": (), "dropout": 0.0, "fold": 2}
SIZES: dict[str, dict[str, Any]] = {
    "micro": nets.sizes("unet")["micro"],
    "fold": FOLDED,  # one change after the other
    "fold, attention": {**FOLDED, "attention": (1,)},
    "fold, one group": {**FOLDED, "groups": 1},
    "fold, one group, 48": {**FOLDED, "groups": 1, "width": 48},
    "fold, one group, 96 96": {**FOLDED, "groups": 1, "width": 96, "multipliers": (1, 1)},
    "fold, one group, scale and shift": nets.sizes("unet")["folded"],
}
PLANS: dict[str, dict[str, Any]] = {
    "batch of 32": {"batch_size": 32},
    "learning rate 2e-3": {"learning_rate": 2e-3},
    "batch of 32, learning rate 2e-3": {"batch_size": 32, "learning_rate": 2e-3},
    "cooldown 0.6": {"cooldown": 0.6},
    "Muon": {"optimizer": "muon"},
}
CANDIDATES: dict[str, tuple[str, str, dict[str, Any]]] = {name: ("unet", name, {}) for name in SIZES}
"""name -> the network, its size, and the changes of the plan."""
CANDIDATES |= {f"fold, one group; {name}": ("unet", "fold, one group", plan) for name, plan in PLANS.items()}
RECIPE = {"optimizer": "muon", "weighting": "clipped", "label_dropout": 0.05}
CANDIDATES["fold, one group, scale and shift; Muon"] = ("unet", "fold, one group, scale and shift", PLANS["Muon"])
CANDIDATES["the recipe"] = ("unet", "fold, one group, scale and shift", RECIPE)
CANDIDATES["the recipe; log-normal times"] = (
    "unet",
    "fold, one group, scale and shift",
    {**RECIPE, "times": "lognormal", "weighting": "edm"},
)
CANDIDATES |= {name: (kind, name, {}) for kind in ("transformer", "magnitude-preserving") for name in nets.sizes(kind)}
CANDIDATES["EDM2 blocks; learning rate 1e-2"] = ("magnitude-preserving", "EDM2 blocks", {"learning_rate": 1e-2})
nets.UNet.sizes.update(SIZES)


def describe(name: str) -> str:
    """Return the options of a candidate as text."""
    kind, size, plan = CANDIDATES[name]
    return ", ".join([f"{key} {value}" for key, value in {**nets.sizes(kind)[size], **plan}.items()])
