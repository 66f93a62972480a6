"""Deprecated: this module is now `ddim.model_io`."""

import warnings

from ddim.config import FORMAT, read_config
from ddim.model_io import describe, fingerprint, load, restore, save

__all__ = ["FORMAT", "describe", "fingerprint", "load", "read_config", "restore", "save"]

warnings.warn(
    "ddim.checkpoint is now ddim.model_io; the old name goes with ddim 0.2.", DeprecationWarning, stacklevel=2
)
