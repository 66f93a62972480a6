"""What the scripts share: processes that answer, the machine and its memory, and results in files and in pages."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ddim import environment
from ddim.files import write_text

ROOT = Path(__file__).parent.parent


def variables(**changes: str) -> dict[str, str]:
    """Return the environment of a process that imports this checkout's ddim, with some changes."""
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, **changes}


class Worker:
    """A process that reads questions from its standard input and answers each with a line of JSON.

    Args:
        name: of the worker, for the error message.
        words: the command and its arguments.
        environment: all variables of the process, see `variables`.
    """

    def __init__(self, name: str, words: list[str], environment: dict[str, str]) -> None:
        self.name = name
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open as long as the process is
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.log}
        self.process = subprocess.Popen(words, env=environment, text=True, **pipes)

    def ask(self, question: object) -> Any:
        """Send a question, as a line of JSON, and wait for the answer."""
        self.process.stdin.write(json.dumps(question) + "\n")  # type: ignore[union-attr]
        self.process.stdin.flush()  # type: ignore[union-attr]
        return self.answer()

    def answer(self) -> Any:
        """Read the next line of JSON. Raises `SystemExit` with the log of a process that ended."""
        line = self.process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            self.log.seek(0)
            raise SystemExit(f"{self.name} ended early:\n{self.log.read()[-3000:]}")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.wait(30)
        self.log.close()


def machine() -> dict[str, Any]:
    """Return the versions, the processor and the command line of this benchmark, to be stored with its results."""
    command = " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    return environment.describe() | {"command": command}


def memory(kind: str = "VmHWM") -> float:
    """Return the memory of this process in MiB: its peak so far, or with "VmRSS" what it holds now. Linux only.

    The peak of `resource.getrusage` is at least that of the process that started this one.
    """
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split(f"{kind}:")[1].split()[0]) / 1024


def save(found: dict[str, Any], table: str, path: Path) -> None:
    """Write the results, as JSON and as a table in Markdown beside it, and print the table."""
    write_text(path, json.dumps(found, indent=2) + "\n")
    write_text(path.with_suffix(".md"), table)
    print(table)


def fill(page: str, script: str, text: str) -> None:
    """Replace what a script wrote earlier into a page, between two marks. `page` is a path below the root."""
    path = ROOT / page
    begin, end = f"<!-- benchmarks/{script} writes from here -->", f"<!-- benchmarks/{script}: end -->"
    before, rest = path.read_text(encoding="utf-8").split(begin)
    write_text(path, f"{before}{begin}\n\n{text.strip()}\n\n{end}{rest.split(end)[1]}")
