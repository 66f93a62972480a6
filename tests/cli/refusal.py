"""The error message of a command that is refused."""

import pytest

from ddim.cli import main


def refused(capsys, *arguments):
    """Return the sentence that a refused command prints."""
    with pytest.raises(SystemExit) as stop:
        main([str(one) for one in arguments])
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert "Traceback" not in said
    return said
