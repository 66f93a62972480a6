"""What a command says that is refused."""

import pytest

from ddim.cli import main


def refused(capsys, *arguments):
    """The one sentence that a refused command prints."""
    with pytest.raises(SystemExit) as stop:
        main([str(one) for one in arguments])
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert "Traceback" not in said
    return said
