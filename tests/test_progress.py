"""What shows progress: a bar in a terminal and in a notebook, lines in a log."""

import contextlib
import io
import os
import struct
import sys
from types import SimpleNamespace

import pytest
from tqdm import tqdm

from ddim import progress
from ddim.progress import bar, hidden


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def at_once(monkeypatch):
    """No time passes before a line is due."""
    monkeypatch.setattr(progress, "FIRST", 0.0)
    monkeypatch.setattr(progress, "LAST", 0.0)
    init = tqdm.__init__

    def eager(self, *args, **options):
        init(self, *args, **(options | {"mininterval": 0.0}))

    monkeypatch.setattr(tqdm, "__init__", eager)


def test_without_a_terminal_a_line_every_now_and_then(at_once, capsys):
    with bar(total=4, desc="sampling 4", unit="step") as shown:
        for i in range(3):
            shown.set_postfix_str(f"loss {i}", refresh=False)
            shown.update()
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert [line.split(",")[0] for line in lines] == [f"sampling 4: {n}/4 step" for n in (0, 1, 2, 3, 3)]
    assert all("so far" in line and "\r" not in line for line in lines)
    assert ["left" in line for line in lines] == [False, True, True, True, True]  # at first the rate is unknown
    assert not any("?" in line for line in lines)
    assert lines[3].endswith("loss 2")


def test_the_lines_of_a_task_of_unknown_length_promise_no_end(at_once, capsys):
    assert list(bar(iter("abc"), desc="reading", unit="letter")) == ["a", "b", "c"]
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("reading: 3 letter, 00:00 so far, ")
    assert not any("left" in line or "?" in line.split(",")[0] for line in lines)


def test_a_short_task_leaves_no_line_in_a_log(capsys):
    with bar(total=2) as shown:
        shown.update()
        shown.set_postfix_str("done")
        shown.write("a sentence", file=sys.stderr)
        shown.update()
    list(bar(range(3)))
    assert capsys.readouterr().err == "a sentence\n"


def test_lines_become_rarer(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr(tqdm, "_time", lambda self: clock[0], raising=False)
    with bar(total=100_000, desc="long", unit="step") as shown:
        shown._time, shown.start_t, shown.last_print_t = lambda: clock[0], 0.0, 0.0
        for clock[0] in range(10, 86_400, 10):
            shown.update(10)
        count = len(capsys.readouterr().err.splitlines())
    assert 250 < count < 350  # of a day: about one every five minutes


def test_a_bar_fits_the_terminal(monkeypatch):
    fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with os.fdopen(terminal, "w") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        with bar(total=117_200, desc="training on a data set of a long name", unit="step") as shown:
            shown.set_postfix_str("loss 0.0234, 1313 images/s", refresh=False)
            shown.update(100_000)
            shown.refresh()
    drawn = b""
    with contextlib.suppress(OSError):  # at its end, as the other side is closed
        while chunk := os.read(screen, 10_000):
            drawn += chunk
    os.close(screen)
    parts = drawn.decode().replace("\n", "\r").split("\r")
    assert any(" 85%" in part for part in parts)
    assert max(map(len, parts)) <= 80


def test_a_notebook_shows_bars_without_a_terminal(monkeypatch, capsys):
    shell = SimpleNamespace(kernel=object(), config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert progress.in_notebook()
    with bar(total=3, desc="sampling 3") as shown:
        shown.update(3)
    assert not isinstance(shown, progress._Lines)
    assert not shown.gui or "100%" in capsys.readouterr().err
    shell.kernel = None  # IPython in a terminal
    assert not progress.in_notebook()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_hidden_bar_shows_nothing(monkeypatch, at_once, terminal):
    screen = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    with hidden(), hidden(False):
        assert list(bar(range(3))) == [0, 1, 2]
    list(bar(range(3), disable=True))
    assert screen.getvalue() == ""
    with hidden(False):
        list(bar(range(3)))
    assert screen.getvalue() != ""
