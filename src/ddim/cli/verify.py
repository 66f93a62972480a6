"""`ddim verify`: what is claimed of the solvers, proven; and how they do on a model of one's own."""

import json
import sys
from dataclasses import dataclass, fields
from pathlib import Path

from tyro.conf import Positional

from ddim.errors import UserError

OF_A_RUN = ("spacings", "calls", "count", "seed", "device")  # flags that mean nothing without one


@dataclass(frozen=True)
class Verify:
    """Prove the solvers on data whose perfect network is a formula, or compare them on a run.

    Without a run: convergence orders, marginals, exactness, network calls and repeatability, in under two minutes.
    The exit code is 1 if a proof fails. With a run: how far each deterministic solver ends from the end of 1,000
    steps of DDIM, for so many network calls, and what to choose.

    For example:
      ddim verify
      ddim verify --solvers ddim,ddpm --out proofs
      ddim verify runs/mnist
      ddim verify runs/mnist --calls 6,12 --spacings trailing,log-snr --count 64
    """

    run_folder: Positional[str | None] = None
    """The run whose solvers to compare, or a model that comes with ddim; none: the proofs."""

    solvers: str | None = None
    """These alone, e.g. ddim,ddpm."""

    spacings: str | None = None
    """With a run: these ladders alone, e.g. trailing,log-snr."""

    calls: str = "5,8,10,20,50"
    """With a run: the numbers of network calls."""

    count: int = 16
    """With a run: how many images."""

    seed: int = 0
    """With a run: of the noise that all solvers start from."""

    out: Path | None = None
    """Folder for the figure and, without a run, the numbers; verify/ or RUN/figures if not given."""

    device: str | None = None
    """With a run: cpu, cuda or mps; the best there is if not given."""

    def run(self) -> None:
        if self.run_folder is None:
            for one in fields(self):
                if one.name in OF_A_RUN and getattr(self, one.name) != one.default:
                    raise UserError(f"--{one.name} is for comparing solvers on a run; name the run too.")
            if not prove(self.out or Path("verify"), _names(self.solvers)):
                raise SystemExit(1)
        else:
            self._compare(self.run_folder)

    def _compare(self, name: str) -> None:
        from ddim import progress
        from ddim.device import choose_device
        from ddim.experiments import experiments, results, solvers
        from ddim.experiments.cost import forward_seconds
        from ddim.loading import comes_with_ddim, find, load
        from ddim.model_io import fingerprint
        from ddim.plots import canvas

        try:
            budgets = [int(one) for one in self.calls.split(",")]
        except ValueError:
            raise UserError(f"--calls takes whole numbers, as in 5,10,20; got {self.calls!r}.") from None
        folder = find(name)
        model = load(folder).to(choose_device(self.device))
        todo = solvers.trials(model, budgets, _names(self.solvers), _names(self.spacings))
        weights = fingerprint(folder)
        if comes_with_ddim(folder):
            folder = Path("verify") / name  # not into the package
        start = solvers.Start(model, self.count, self.seed)
        reference = solvers.load_reference(folder, weights, start)
        total = solvers.network_calls(model, todo, reference is None)
        minutes = total * forward_seconds(model, self.count, repeats=3) / 60
        print(f"{total:,} network calls for {self.count} images: about {minutes:.1f} minutes.", file=sys.stderr)
        with progress.bar(total=total, desc=f"{len(todo)} trials", unit="call") as bar:
            start.tick = bar.update
            reference = reference or solvers.keep_reference(folder, weights, start)
            result = solvers.measure(start, todo, reference)
        path = results.keep(folder, experiments["solvers"], weights, result, {})
        stem = (self.out or folder / "figures") / "solvers"
        with canvas.styled():
            canvas.save(solvers.draw(result), stem)
        print("\n".join(result.lines()))
        print(f"The figure is {stem}.png, the numbers are in {path} and {path.with_suffix('.csv').name}.")


def prove(out: Path, only: list[str] | None = None) -> bool:
    """Prove what there is to prove, show it, and write solvers.json and the figure.

    Args:
        out: the folder to write into.
        only: names of the solvers; None is all.

    Returns:
        Whether every proof holds.
    """
    from ddim import progress
    from ddim.files import write_text
    from ddim.plots import canvas
    from ddim.verify import contestants, figure, identities, judge, table

    makers = contestants(only)
    verdicts = []
    with progress.bar(makers.items(), desc="proving", unit="solver") as bar:
        for name, make in bar:
            bar.set_postfix_str(name)
            verdicts.append(judge(name, make))
    family = list(identities.prove())
    failed = [one.solver for one in verdicts if not one.passed] + [one.claim for one in family if not one.passed]
    print("\n".join(table.lines(verdicts, family)))
    facts = {
        "passed": not failed,
        "solvers": [one.facts() for one in verdicts],
        "identities": [one.facts() for one in family],
    }
    write_text(out / "solvers.json", json.dumps(facts, indent=2) + "\n")
    with canvas.styled():
        canvas.save(figure.orders(verdicts), out / "solvers")
    print(f"The figure is {out / 'solvers.png'}, the numbers are in {out / 'solvers.json'}.")
    print(f"NOT PROVEN: {', '.join(failed)}" if failed else f"All {len(verdicts)} solvers are proven.")
    return not failed


def _names(text: str | None) -> list[str] | None:
    return None if text is None else text.split(",")
