"""Proofs that the samplers do what is said of them, and how far each is from the end of many small steps."""

from ddim.verify.prove import contestants, judge
from ddim.verify.verdict import Curve, Proof, Verdict

__all__ = ["Curve", "Proof", "Verdict", "contestants", "judge"]
