"""A short round of the fuzzer. A long one: python tests/fuzz.py --seconds 600."""

import subprocess
import sys
from pathlib import Path

import pytest

READERS = [
    "idx",
    "idx-gzip",
    "cifar",
    "archive",
    "copy",
    "image",
    "config",
    "weights",
    "checkpoint",
    "recipe",
    "result",
    "metrics",
]


@pytest.mark.slow
def test_no_damaged_file_and_no_odd_command_line_is_a_fault(tmp_path):
    words = [sys.executable, Path(__file__).with_name("fuzz.py"), "--failures", tmp_path / "failures"]
    for rounds, names in ((80, READERS), (12, ["command"])):
        done = subprocess.run([*words, "--rounds", str(rounds), *names], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"{rounds * len(names)} inputs, 0 faults" in done.stdout
    assert not (tmp_path / "failures").exists()
