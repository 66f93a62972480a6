"""The figure of `ddim verify`: error against steps in closed form, next to the stated order of convergence."""

import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from ddim.plots.canvas import BLUE, FAINT, INK, ORANGE, Panels, describe, log_scales
from ddim.verify.verdict import Verdict

PROBLEMS = {"Gaussian": BLUE, "mixture": ORANGE}


def orders(verdicts: Sequence[Verdict]) -> Figure:
    """Return the figure: a panel for each solver with its errors and the slope of its stated order."""
    errors = [e for one in verdicts for curve in one.curves for e in curve.errors if 1e-13 < e < math.inf]
    panels = Panels(len(verdicts))
    low, high = min(errors, default=1e-6) / 4, max(errors, default=1.0) * 4
    for one, axes in zip(verdicts, panels.axes, strict=True):
        calls = "1 call a step" if one.calls == 1 else f"{one.calls:.3g} calls a step"
        describe(axes, one.solver, f"order {one.order}, {calls}", None if one.passed else "a proof fails")
        for curve in one.curves:
            style = "o-" if curve.spacing == "stretched" else "s:"
            axes.plot(curve.steps, curve.errors, style, color=PROBLEMS[curve.problem], ms=4, lw=1.6)
        first = max(curve.errors[0] for curve in one.curves)
        steps = one.curves[0].steps
        guide = [2.5 * first * (steps[0] / S) ** one.order for S in steps]
        axes.plot(steps, guide, color=FAINT, lw=1.2, ls=(0, (4, 2)))
        log_scales(axes, steps, (low, high))
    panels.label("steps", "error at the end")
    keys = [(BLUE, "o-", "Gaussian"), (ORANGE, "o-", "mixture of two"), (INK, "o-", "steps stretched in log-SNR")]
    keys += [(INK, "s:", "steps even in √t"), (FAINT, "--", "slope of the stated order")]
    panels.legend("Error against steps, beside the stated order", keys)
    return panels.canvas.figure
