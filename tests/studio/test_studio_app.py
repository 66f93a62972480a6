"""The command `ddim studio`: what it refuses, and what the page holds."""

import socket

import pytest

pytest.importorskip("gradio", reason="needs ddim[studio]")

from ddim.cli import main
from ddim.errors import UserError
from ddim.studio.app import build, launch
from ddim.studio.models import Models
from ddim.studio.train import Trainings


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(["studio", *map(str, arguments)])
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_a_port_in_use_is_a_sentence(run_folder):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"Nothing can be served at 127.0.0.1:{port}, it may be in use; choose"):
            launch([str(run_folder)], "127.0.0.1", port)


def test_a_run_that_is_missing_or_a_port_out_of_range_is_refused(capsys, tmp_path):
    assert "There is no run at" in refused(capsys, tmp_path / "none")
    assert "--port must be" in refused(capsys, "--port", 99999)


def test_without_gradio_a_sentence_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setattr("ddim.cli.studio.find_spec", lambda name: None)
    assert 'pip install "ddim[studio]"' in refused(capsys)


def test_every_control_of_the_page_says_what_it_does(run_folder):
    page = build(Models([str(run_folder)]), Trainings())
    widgets = [one for one in page.blocks.values() if type(one).__name__ in ("Slider", "Dropdown", "Number", "Textbox")]
    assert len(widgets) > 30
    for widget in widgets:
        assert widget.label, widget
        assert widget.info, widget.label
    assert not page.analytics_enabled
