"""Proofs, on data with closed-form solutions, that each sampler does what it states."""

import warnings
from typing import Any

from ddim.verify.checks import judge, prove_identities, solvers, verify
from ddim.verify.verdict import Curve, Proof, Verdict, table_lines

__all__ = ["Curve", "Proof", "Verdict", "judge", "prove_identities", "solvers", "table_lines", "verify"]


def __getattr__(name: str) -> Any:
    if name == "contestants":
        warnings.warn("ddim.verify.contestants is now ddim.verify.solvers.", DeprecationWarning, stacklevel=2)
        return solvers
    raise AttributeError(f"module 'ddim.verify' has no attribute {name!r}")
