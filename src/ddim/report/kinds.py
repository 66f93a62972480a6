"""What the page reads of each results/<name>.json and samples/<name>.safetensors: of what kind it has to be."""

from typing import Any

from ddim.report.reading import SIGNED, Maybe

ETAS = ("0", "0.2", "0.5", "1", "hat")
SPACINGS = ("linear", "quadratic")

_GALLERY = {"eta": float, "steps": int, "count": int, "seconds": float}
_TIME = {
    "steps": int,
    "seconds": float,
    "seconds_per_image": float,
    "forward_seconds": float,
    "ratio_to_forwards": float,
}
_INTERVAL = {"value": float, "low": float, "high": float}
_QUALITY = {
    "spacing": SPACINGS,
    "steps": int,
    "eta": ETAS,
    "count": int,
    **dict.fromkeys(("frechet", "low", "high", "few", "few_low", "few_high"), float),
    **dict.fromkeys(("excess", "excess_low", "excess_high"), SIGNED),
}
_BITS = {"bits": SIGNED, "low": SIGNED, "high": SIGNED}
_SUBJECT = {
    "name": str,
    "count": float,
    "floor_count": float,
    "parameters": Maybe(int),  # neither of a folder of images
    "images_seen": Maybe(int),
    "frechet": float,
    **dict.fromkeys(("frechet_low", "frechet_high"), SIGNED),
    **dict.fromkeys(("frechet_floor", "frechet_floor_low", "frechet_floor_high"), SIGNED),
}
_WALK = {"solver": str, "spacing": str, "budget": int, "calls": int, "steps": int, "distance": ...}

RESULTS: dict[str, dict[str, Any]] = {
    "gallery": {"ddim": _GALLERY, "ddpm": _GALLERY},
    "strips": {},
    "timing": {"rows": [_TIME], "batch": int, "threads": int, "device": str, "machine": {"processor": str}},
    "table1": {
        "about": str,
        "count": int,
        "few": int,
        "reference_count": int,
        "floor": _INTERVAL,
        "few_floor": _INTERVAL,
        "rows": [_QUALITY],
    },
    "consistency": {"between": float, "rows": [{"steps": int, "rms": float}]},
    "interpolation": {"steps": int},
    "reconstruction": {"count": int, "rows": [{"steps": int, "error": float, "low": float, "high": float}]},
    "likelihood": {
        "count": int,
        "grey_levels": int,
        "bound": {**_BITS, "prior": float, "decoder": SIGNED, "rows": [{"t": int, "bits": float}]},
        "flow": Maybe({**_BITS, "steps": int, "coarse": SIGNED}),  # there is none where alpha_T = 0
    },
    "solvers": {
        "usual": [str],
        "floor": float,
        "reference_steps": int,
        "count": int,
        "rows": [_WALK],
    },
    "evaluation": {
        "about": str,
        "count": int,
        "reference_count": int,
        "sampling": str,
        "floor": str,
        "figures": {str: ...},
    },
    "compare": {"about": str, "reference_count": int, "rows": [_SUBJECT]},
    "memorisation": {
        "count": int,
        "train_count": int,
        "held_out_count": int,
        **dict.fromkeys(("flagged", "expected", "p_value", "nearer", "nearer_low", "nearer_high"), float),
    },
}
SAMPLES: dict[str, int | dict[str, int]] = {  # dimensions of the images, of all tensors or of those of these names
    "data": 4,
    "ddim": 4,
    "ddpm": 4,
    "strips": 5,
    "consistency": {"images": 5},
    "interpolation": {"images": 5},
    "reconstruction": {"images": 5},
    "compare": {"images": 5},
    "memorisation": {"samples": 4, "neighbours": 5},
}
