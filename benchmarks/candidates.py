"""The candidates of networks.py: sizes of ddim's U-Net beyond those it names, and changes of the recipe's plan."""

from typing import Any

from ddim import nets

FOLDED: dict[str, Any] = {"width": 64, "multipliers": (1, 2), "blocks": 1, "attention": (), "dropout": 0.0, "fold": 2}
FAST: dict[str, Any] = {**FOLDED, "groups": 1, "skips": "add"}
SIZES: dict[str, dict[str, Any]] = {
    "micro": nets.sizes("unet")["micro"],
    "fold": FOLDED,  # one change after the other
    "fold, attention": {**FOLDED, "attention": (1,)},
    "fold, one group": {**FOLDED, "groups": 1},
    "fold, one group, added skips": FAST,
    "fast, 48": {**FAST, "width": 48},
    "fast, 96 96": {**FAST, "width": 96, "multipliers": (1, 1)},
    "fast, 96": {**FAST, "width": 96},
    "fast, fold 4": {**FAST, "fold": 4, "width": 128, "multipliers": (1,), "blocks": 3},
}
BEST = "fold, one group, added skips"
PLANS: dict[str, dict[str, Any]] = {
    "batch of 32": {"batch_size": 32},
    "batch of 16": {"batch_size": 16},
    "learning rate 2e-3": {"learning_rate": 2e-3},
    "batch of 32, learning rate 2e-3": {"batch_size": 32, "learning_rate": 2e-3},
    "cooldown 0.6": {"cooldown": 0.6},
    "simple": {"weighting": "simple"},
}
CANDIDATES: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in SIZES}  # size, changes of the plan
CANDIDATES |= {f"{BEST}; {name}": (BEST, plan) for name, plan in PLANS.items()}
CANDIDATES |= {
    f"fold, one group; {name}": ("fold, one group", PLANS[name])
    for name in ("batch of 32", "batch of 32, learning rate 2e-3")
}
nets.UNet.sizes.update(SIZES)


def describe(name: str) -> str:
    """Return the options of a candidate as text."""
    size, plan = CANDIDATES[name]
    return ", ".join(f"{key} {value}" for key, value in {**SIZES[size], **plan}.items())
