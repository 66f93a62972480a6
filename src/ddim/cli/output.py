"""The flags --quiet and --json of every command: what it shows while it runs, and what a script reads at its end."""

import json
import os
import warnings
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any

from ddim.errors import Notice

HELP = """
  --plugin FILE  first import your own Python file or module (repeatable), so that a sampler, schedule, network or data
                 set that it registers can be named; the variable DDIM_PLUGINS does the same for a comma-separated list
  --quiet        show no progress and no notes: only the results and the error, if there is one
  --json         print the results as one JSON object, and nothing else to stdout""".lstrip("\n")
"""The flags that every command takes."""


@dataclass(frozen=True)
class Output:
    """What a command may show."""

    quiet: bool = False
    json: bool = False

    def run(self, name: str, command: Any) -> None:
        """Run a command, and print the results that it returns, if JSON is asked for.

        For a command that returns none, they are the lines that it prints. The exit code is 1 if the results say that
        it has not `passed`. Of several processes under `torchrun`, the first one prints.
        """
        from ddim.files import json_values
        from ddim.progress import hidden

        printed = StringIO()
        with ExitStack() as contexts:
            if self.quiet:
                contexts.enter_context(hidden())
                contexts.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore", Notice)
            if self.json:
                contexts.enter_context(redirect_stdout(printed))
            results: dict[str, Any] | None = command.run()
        if self.json and os.environ.get("RANK", "0") == "0":
            shown = {"printed": printed.getvalue().splitlines()} if results is None else results
            print(json.dumps(json_values({"command": name, **shown})))
        if results is not None and results.get("passed") is False:
            raise SystemExit(1)


def split(arguments: Sequence[str]) -> tuple[list[str], Output]:
    """Return the arguments without --quiet and --json, which may stand anywhere, and what these two ask for."""
    flags = {"--quiet", "--json"}
    given = flags & set(arguments)
    return [one for one in arguments if one not in flags], Output("--quiet" in given, "--json" in given)
