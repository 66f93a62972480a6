"""Measure the time from the shell to the first image, and what of it PyTorch itself takes.

    python benchmarks/start_time.py              # under a minute, on an idle machine
    python benchmarks/start_time.py --repeats 1  # only checks that it works

Each command is a process. The commands alternate; the result is the median over the rounds, after one that warms up.
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

from ddim import environment
from ddim.files import write_text

HERE = Path(__file__).parent
COMMANDS = {  # name -> what Python is given
    "python -c 'import torch'": ["-c", "import torch"],
    "ddim sample --help": ["-m", "ddim", "sample", "--help"],
    "ddim sample mnist --count 1": ["-m", "ddim", "sample", "mnist", "--count", "1", "--out", "one.png"],
}


def seconds(words: list[str], folder: str) -> tuple[float, float]:
    """Run Python in a folder; return the seconds that it took, and those of the processor, of user and system."""
    path = os.pathsep.join(filter(None, [str(HERE.parent / "src"), os.environ.get("PYTHONPATH")]))
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *words], cwd=folder, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    taken = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"python {' '.join(words)} failed; see its error above")
    return taken, usage.ru_utime + usage.ru_stime


def table(found: dict[str, Any]) -> str:
    """Return the result in Markdown."""
    lines = ["| command | seconds | of user and system |", "|---|--:|--:|"]
    lines += [f"| `{name}` | {facts['wall']:.2f} | {facts['cpu']:.2f} |" for name, facts in found["seconds"].items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, write the results and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "start-time.json")
    options = parser.parse_args()
    load_before = os.getloadavg()[0]
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        for round_ in range(options.repeats + 1):  # the first round warms up
            for name, words in COMMANDS.items():
                measured = seconds(words, folder)
                if round_:
                    rounds[name].append(measured)
    machine = environment.describe()
    del machine["command"]
    medians = {name: [round(median(each), 3) for each in zip(*times, strict=True)] for name, times in rounds.items()}
    found = {
        "seconds": {name: {"wall": wall, "cpu": cpu} for name, (wall, cpu) in medians.items()},
        "about": {"machine": machine, "repeats": options.repeats, "load_before": round(load_before, 2)},
    }
    write_text(options.out, json.dumps(found, indent=2) + "\n")
    write_text(options.out.with_suffix(".md"), table(found))
    print(table(found))


if __name__ == "__main__":
    main()
