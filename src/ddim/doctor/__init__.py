"""What the folder of a run says about its training, as findings: each says what the numbers show and what to do.

A finding is one function, registered by `@register(name, subject)`. `examine` calls all of them.
"""

from ddim.doctor import images, losses, training  # noqa: F401 - they register their findings
from ddim.doctor.base import MARKS, Diagnosis, Finding, by_verdict, examine, findings, register
from ddim.doctor.machine import rate

__all__ = ["MARKS", "Diagnosis", "Finding", "by_verdict", "examine", "findings", "rate", "register"]
