"""`ddim verify`: the samplers against closed-form solutions, or compared with each other on a trained model."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from ddim.cli.options import Device, names, numbers, refuse

OF_A_RUN = ("spacings", "calls", "count", "seed", "device")  # flags that need a run


@dataclass(frozen=True)
class Verify:
    """Test the samplers against closed-form solutions, or compare them on a run.

    Without a run: test convergence orders, marginals, exactness, network calls and repeatability, in under two
    minutes. The exit code is 1 if a test fails. With a run: measure the distance of each deterministic sampler's
    images from those of DDIM with 1,000 steps, at equal numbers of network calls, and print the best choice.

    For example:
      ddim verify
      ddim verify --solvers ddim,ddpm --out proofs
      ddim verify runs/mnist
      ddim verify runs/mnist --calls 6,12 --spacings trailing,log-snr --count 64
    """

    run_folder: Annotated[Positional[str | None], arg(metavar="[MODEL]")] = None
    """A run, or a model that comes with ddim, on which to compare the samplers. If not given, run the tests."""
    solvers: str | None = None
    """Only these samplers, e.g. ddim,ddpm; `ddim list samplers` shows all."""
    spacings: str | None = None
    """With a run: only these spacings, e.g. trailing,log-snr; `ddim list spacings` shows all."""
    calls: str = "5,8,10,20,50"
    """With a run: numbers of network calls per image, at least 1 each."""
    count: int = 16
    """With a run: number of images, at least 1."""
    seed: int = 0
    """With a run: seed of the noise that all samplers start from."""
    out: Path | None = None
    """Folder for the figure and, without a run, the numbers; verify/ or RUN/figures if not given."""
    device: Device = None

    def run(self) -> dict[str, Any]:
        if self.run_folder is None:
            refuse(self, OF_A_RUN, "is for comparing samplers on a run; name the run too.")
            return prove(self.out or Path("verify"), names(self.solvers))
        return self._compare(self.run_folder)

    def _compare(self, name: str) -> dict[str, Any]:
        from ddim.device import choose_device
        from ddim.experiments import experiments, results, solvers
        from ddim.experiments.cost import forward_seconds
        from ddim.loading import comes_with_ddim, find, load
        from ddim.model_io import fingerprint
        from ddim.plots import canvas
        from ddim.progress import bar, note

        budgets = numbers("calls", self.calls, int)
        folder = find(name)
        model = load(folder, backend="torch").to(choose_device(self.device))
        todo = solvers.trials(model, budgets, names(self.solvers), names(self.spacings))
        weights = fingerprint(folder)
        if comes_with_ddim(folder):
            folder = Path("verify") / name  # nothing is written into the package
        start = solvers.Start(model, self.count, self.seed)
        reference = solvers.load_reference(folder, weights, start)
        total = solvers.network_calls(model, todo, reference is None)
        minutes = total * forward_seconds(model, self.count, repeats=3) / 60
        note(f"{total:,} network calls for {self.count} images: about {minutes:.1f} minutes.")
        with bar(total=total, desc="comparing", unit="call") as progress:
            start.tick = progress.update
            reference = reference or solvers.keep_reference(folder, weights, start)
            result = solvers.measure(start, todo, reference)
        path = results.keep(folder, experiments["solvers"], weights, result, {})
        stem = (self.out or folder / "figures") / "solvers"
        with canvas.styled():
            canvas.save(solvers.draw(result), stem)
        print("\n".join(result.lines()))
        print(f"The figure is {stem}.png, the numbers are in {path} and {path.with_suffix('.csv').name}.")
        return {**asdict(result), "files": [f"{stem}.png", str(path), str(path.with_suffix(".csv"))]}


def prove(out: Path, only: list[str] | None = None) -> dict[str, Any]:
    """Test all samplers, or only the named ones; write the results into `out` and return them."""
    from ddim.files import write_text
    from ddim.plots import canvas
    from ddim.progress import bar
    from ddim.verify import figure, judge, prove_identities, table_lines
    from ddim.verify import solvers as provable

    makers = provable(only)
    verdicts = []
    with bar(makers.items(), desc="testing", unit="sampler") as progress:
        for name, make in progress:
            progress.set_postfix_str(name)
            verdicts.append(judge(name, make))
    family = list(prove_identities())
    failed = [one.solver for one in verdicts if not one.passed] + [one.claim for one in family if not one.passed]
    print("\n".join(table_lines(verdicts, family)))
    facts = {
        "passed": not failed,
        "solvers": [one.to_dict() for one in verdicts],
        "identities": [one.to_dict() for one in family],
    }
    write_text(out / "solvers.json", json.dumps(facts, indent=2) + "\n")
    with canvas.styled():
        canvas.save(figure.orders(verdicts), out / "solvers")
    print(f"The figure is {out / 'solvers.png'}, the numbers are in {out / 'solvers.json'}.")
    print(f"FAILED: {', '.join(failed)}" if failed else f"Samplers that pass: {len(verdicts)} of {len(verdicts)}.")
    return {**facts, "files": [str(out / "solvers.png"), str(out / "solvers.json")]}
