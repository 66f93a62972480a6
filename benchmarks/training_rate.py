"""Measure images per second in training: ddim, the paper's way, and two libraries on the same network.

    python benchmarks/training_rate.py                       # about eight minutes on two idle cores
    python benchmarks/training_rate.py --repeats 1 --turn 1  # only checks that it works

Each training is a process that pauses except in its turn. The turns alternate (A, B, C, A, B, C, ...), so other
load on the machine affects all of them equally; the result is the median over the rounds. There are three parts:
the rates and the memory, the time from the start of a process to its first update, and two processes against one.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import harness

HERE = Path(__file__).parent
BATCH = 64
PARTS = ("rate", "start", "processes")
CANDIDATES = ("paper", "ours-on-paper", "ours-on-paper-fp32", "ours", "ours-fp32", "diffusers", "ddpm-pytorch")
PEERS = ("diffusers", "ddpm-pytorch")  # their libraries may need another Python
PAIRS = {  # comparison -> (ours, theirs)
    "recipe against the paper's way": ("ours", "paper"),
    "on the paper's network": ("ours-on-paper", "paper"),
    "on the paper's network, both fp32": ("ours-on-paper-fp32", "paper"),
    "on the recipe's network, against diffusers": ("ours", "diffusers"),
    "on the recipe's network, against diffusers, both fp32": ("ours-fp32", "diffusers"),
    "on the recipe's network, against ddpm-pytorch": ("ours", "ddpm-pytorch"),
    "on the recipe's network, against ddpm-pytorch, both fp32": ("ours-fp32", "ddpm-pytorch"),
}
CLI = """
import os, sys, time, psutil
import ddim.train.run as run
whole = run.fit
def fit(*args, **options):
    for now in whole(*args, **options):
        print(time.time() - psutil.Process(os.getpid()).create_time(), flush=True)
        os._exit(0)
run.fit = fit
from ddim.cli import main
main(sys.argv[1:])
"""  # `ddim train` that exits after its first update and prints its time


def environment(threads: int) -> dict[str, str]:
    """Return the environment of a process with this number of threads and this checkout's ddim."""
    return harness.variables(OMP_NUM_THREADS=str(threads), TQDM_DISABLE="1")


class Training(harness.Worker):
    """A training in its own process, see rate_workers.py."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        super().__init__(name, command(name, options), environment(options.threads))
        self.rates: list[float] = []
        self.memory: dict[str, float] = {}
        self.first_step = self.answer()["first_step"]
        self.steps = 1
        began = time.perf_counter()
        self.turn()  # the second update; the first may take longer than all others
        self.steps = max(1, round(options.turn / (time.perf_counter() - began)))
        self.rates.clear()

    def turn(self) -> None:
        """Make the updates of one round."""
        facts = self.ask(self.steps)
        self.rates.append(self.steps * BATCH / facts.pop("seconds"))
        self.memory = facts


def command(name: str, options: argparse.Namespace, threads: int | None = None) -> list[str]:
    """Return the command that starts a worker."""
    words = [str(HERE / "rate_workers.py"), name, "--threads", str(threads or options.threads)]
    python = options.peers_python if name in PEERS else sys.executable
    return [python, *words, "--recipe", options.recipe, "--scratch", str(options.scratch)]


def rates(options: argparse.Namespace) -> dict[str, Any]:
    """Measure images per second and memory of each candidate, and the ratios of ours to theirs."""
    workers = {name: Training(name, options) for name in options.only or CANDIDATES}
    for round_ in range(options.repeats):
        for worker in workers.values():
            worker.turn()
        print(f"round {round_ + 1}/{options.repeats}", file=sys.stderr, flush=True)
    for worker in workers.values():
        worker.close()
    found = {
        name: {
            "images_per_second": round(median(worker.rates), 2),
            "rounds": [round(rate, 2) for rate in worker.rates],
            "updates_a_round": worker.steps,
            **worker.memory,
        }
        for name, worker in workers.items()
    }
    ratios = {
        words: round(median(a / b for a, b in zip(workers[ours].rates, workers[theirs].rates, strict=True)), 3)
        for words, (ours, theirs) in PAIRS.items()
        if ours in workers and theirs in workers
    }
    return {"candidates": found, "ratios": ratios}


def starts(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the seconds from the start of a process to the end of its first update, setup included."""
    seconds: dict[str, list[float]] = {name: [] for name in ("ddim train", "paper", "diffusers", "ddpm-pytorch")}
    for _ in range(options.repeats):
        for name, found in seconds.items():
            if name == "ddim train":
                with tempfile.TemporaryDirectory() as folder:
                    words = [
                        sys.executable,
                        "-c",
                        CLI,
                        "train",
                        options.recipe,
                        "--batch-size",
                        str(BATCH),
                        "--out",
                        f"{folder}/run",
                    ]
                    output = run(words, options.threads)
                found.append(float(output.splitlines()[-1]))
            else:
                found.append(
                    json.loads(run([*command(name, options), "--updates", "1"], options.threads).splitlines()[0])[
                        "first_step"
                    ]
                )
    return {
        name: {"seconds": round(median(all_), 2), "rounds": [round(s, 2) for s in all_]}
        for name, all_ in seconds.items()
    }


def processes(options: argparse.Namespace) -> dict[str, Any]:
    """Measure images per second of one process with two threads, and of two processes with one thread each."""
    updates = str(options.updates)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    ways = {
        "one process, two threads": ([*command("ours", options, 2), "--updates", updates], 2),
        "two processes, one thread each": ([*launch, *command("ours", options, 1)[1:], "--updates", updates], 1),
    }
    found: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(options.repeats):
        for way, (words, threads) in ways.items():
            answer = json.loads(run(words, threads).splitlines()[-1])
            found[way].append(options.updates * BATCH / answer["seconds"])
    one, two = found.values()
    result: dict[str, Any] = {
        way: {"images_per_second": round(median(all_), 2), "rounds": [round(rate, 2) for rate in all_]}
        for way, all_ in found.items()
    }
    return {**result, "ratio": round(median(b / a for a, b in zip(one, two, strict=True)), 3)}


def run(words: list[str], threads: int) -> str:
    """Return the output of a command."""
    done = subprocess.run(words, env=environment(threads), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words[:6])} failed:\n{done.stderr[-3000:]}")
    return done.stdout


def table(found: dict[str, Any]) -> str:
    """Return the result in Markdown."""
    lines = []
    if "rate" in found:
        lines += ["| training | images/s | peak memory, MiB | data workers, MiB |", "|---|--:|--:|--:|"]
        for name, facts in found["rate"]["candidates"].items():
            lines.append(
                f"| {name} | {facts['images_per_second']} | {facts['peak_mib']} | {facts['data_workers_mib']} |"
            )
        lines += ["", "| ours against theirs | times as fast |", "|---|--:|"]
        lines += [f"| {words} | {ratio} |" for words, ratio in found["rate"]["ratios"].items()] + [""]
    if "start" in found:
        lines += ["| start | seconds to the first update |", "|---|--:|"]
        starts_ = {name: facts for name, facts in found["start"].items() if name != "about"}
        lines += [f"| {name} | {facts['seconds']} |" for name, facts in starts_.items()] + [""]
    if "processes" in found:
        lines += ["| ours | images/s |", "|---|--:|"]
        ways = {way: facts for way, facts in found["processes"].items() if way not in ("ratio", "about")}
        lines += [f"| {way} | {facts['images_per_second']} |" for way, facts in ways.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, write the results and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--turn", type=float, default=5.0, help="approximate seconds per turn; at least one update")
    parser.add_argument("--updates", type=int, default=20, help="updates of each run in the part `processes`")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--recipe", default="mnist", help="recipe whose network and plan ddim uses")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--peers-python", default=sys.executable, help="Python that has the two libraries")
    parser.add_argument("--only", nargs="+", choices=CANDIDATES, help="only these candidates")
    parser.add_argument("--scratch", type=Path, default=Path("runs/benchmarks"), help="folder for PNG files")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "training-rate.json")
    options = parser.parse_args()
    measures = {"rate": rates, "start": starts, "processes": processes}
    found: dict[str, Any] = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
    for part in options.parts:  # the other parts keep their stored results
        began, load = time.time(), os.getloadavg()[0]
        found[part] = measures[part](options)
        found[part]["about"] = {
            "threads": options.threads,
            "batch_size": BATCH,
            "recipe": options.recipe,
            "repeats": options.repeats,
            "load_before": round(load, 2),
            "minutes": round((time.time() - began) / 60, 1),
        }
    harness.save(found, table(found), options.out)


if __name__ == "__main__":
    main()
