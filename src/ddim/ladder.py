"""Deprecated: this module is now `ddim.timesteps`, and `ladder.ladder` is `timesteps.timesteps`."""

import warnings

from ddim.timesteps import levels, names, spacings
from ddim.timesteps import timesteps as ladder

__all__ = ["ladder", "levels", "names", "spacings"]

warnings.warn(
    "ddim.ladder is now ddim.timesteps, and ladder.ladder is timesteps.timesteps; the old names go with ddim 0.2.",
    DeprecationWarning,
    stacklevel=2,
)
