"""A short round of the fuzzer. A long one: python tests/fuzz.py --seconds 600."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_no_damaged_file_and_no_odd_command_line_is_a_fault(tmp_path):
    words = [sys.executable, Path(__file__).with_name("fuzz.py"), "--rounds", "25", "--failures", tmp_path]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "325 inputs, 0 faults, seed 0" in done.stdout
    assert not list(tmp_path.iterdir())
